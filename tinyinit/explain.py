"""Words for people, which init.py imports when they are asked for: help, version, license, why COMMAND cannot run."""

from __future__ import annotations

import errno
import os
import posix

from tinyinit import __version__
from tinyinit.init import EXIT_CANNOT, EXIT_NOT_FOUND, EXIT_NOT_RUNNABLE, Refusal
from tinyinit.options import OPTIONS, Option

HELP = """\
Usage: tinyinit [OPTION]... [--] COMMAND [ARG]...
       tinyinit --ps [PID]...

A tiny init for containers and CI jobs: starts COMMAND, hands it every signal, reaps every orphan, and ends with
COMMAND's status.

{options}

SIGNAL is written as TERM, SIGTERM, RTMIN+3 or 15; DURATION as 10, 10s, 1.5m, 2h, 1d, 500ms or inf.
A long option such as --leftovers can be set by an environment variable such as TINYINIT_LEFTOVERS, a flag with 1.

Exit status: COMMAND's; 128 + N if signal N killed it; 125 if tinyinit cannot do what was asked; 126 if COMMAND cannot
be run; 127 if it is not found.
"""

LICENSE = """\
MIT License

Copyright (c) 2026 the tinyinit developers

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def usage(option: Option) -> str:
    """`-e, --remap-exit CODE`."""
    short = f"-{option.short}, " if option.short else "    "
    return f"{short}--{option.long}" + (
        f"[={option.metavar}]" if option.may_lack_value else f" {option.metavar}".rstrip()
    )


def help_text() -> str:
    """What --help prints: a line for each row of the table."""
    width = max(len(usage(option)) for option in OPTIONS)
    return HELP.format(options="\n".join(f"  {usage(option):{width}}  {option.help}" for option in OPTIONS))


def show(what: str, words: list[str]) -> int:
    """Print help, license, version or processes to standard output; the exit status. `words` are those after --ps.

    Refusal without COMMAND, or if standard output is full.
    """
    if not what:
        raise Refusal("no COMMAND was given; see 'tinyinit --help'")
    if what == "ps":
        from tinyinit.processes import show_processes

        return show_processes(words)
    text = {"help": help_text(), "license": LICENSE, "version": f"tinyinit {__version__}\n"}[what]
    try:
        posix.write(1, text.encode())
    except OSError as failure:
        raise Refusal(f"cannot write to standard output: {failure.strerror}") from None
    return 0


def cannot_run(name: bytes, path: bytes, failure: OSError) -> Refusal:
    """The Refusal for a COMMAND that was not started."""
    return Refusal(*why_not_run(name, path, failure), failure.errno or 0)


def why_not_run(name: bytes, path: bytes, failure: OSError) -> tuple[str, int]:
    """The reason why COMMAND `name`, looked for at `path`, was not run, and the exit status for it.

    Source: the errors of execve(2) and fork(2).
    """
    command, where, cause = os.fsdecode(name), os.fsdecode(path), failure.strerror
    if failure.errno in (errno.EAGAIN, errno.ENOMEM):
        limits = "the memory limit, and the limit of processes (docker run --pids-limit, pids.max, ulimit -u)"
        return f"cannot start a process: {cause}; look at {limits}", EXIT_CANNOT
    is_missing = failure.errno in (errno.ENOENT, errno.ENOTDIR) and not os.path.exists(path)
    if is_missing and b"/" in name:
        return f"cannot find COMMAND {command!r}: {cause}; look at its path and the working directory", EXIT_NOT_FOUND
    if is_missing:
        return f"cannot find COMMAND {command!r} in PATH: {cause}; look at its spelling and PATH", EXIT_NOT_FOUND
    if os.path.isdir(path):
        advice = "it is a directory, name a program in it"
    elif failure.errno == errno.ENOENT:
        advice = "it is there, but the interpreter in its first line, or the loader that it was linked for, is not"
    elif failure.errno == errno.EACCES:
        advice = "make it executable (chmod +x), and look at noexec among the mount options"
    elif failure.errno == errno.E2BIG:
        advice = "give it fewer or shorter arguments and environment variables"
    elif failure.errno == errno.ENOEXEC:
        advice = "it was built for another kind of machine"
    else:
        advice = "see execve(2)"
    return f"cannot run COMMAND {where!r}: {cause}; {advice}", EXIT_NOT_RUNNABLE


def prctl_by_ctypes(option: int, value: int) -> None:
    """prctl(2) without python-prctl. OSError if the kernel refuses, ImportError where there is no ctypes."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
