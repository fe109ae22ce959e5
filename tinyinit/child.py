"""COMMAND started by fork(2) and execve(2): where posix_spawn(3) cannot set what it is to have, or has failed.

init.py imports this where COMMAND is to have the terminal, LISTEN_PID is to name it, or SIGCHLD is to be ignored, and
to find out why it cannot be run. That is on the way to COMMAND, so only built-in modules are imported here.
"""

import _signal
import posix

from tinyinit.init import (
    EXIT_CANNOT,
    IGNORED_BY_CPYTHON,
    LONGEST_LINE,
    Refusal,
    Start,
    on_terminal,
    take_terminal_back,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

ENOENT, ENOEXEC = 2, 8  # errno(3); the module of that name makes a table of all


def fork(start: Start, execute: "Callable[[Start], NoReturn]") -> int:
    """Start COMMAND as leader of a new process group, and return its PID. Refusal if it does not run.

    A pipe that exec closes says that it runs, or carries the reason why it does not.
    """
    reader, writer = posix.pipe()
    try:
        pid = posix.fork()
    except OSError as failure:
        from tinyinit.explain import cannot_run

        raise cannot_run(start.command[0], b"", failure) from None
    if pid == 0:
        become_command(start, execute, writer)
    posix.close(writer)
    report = posix.read(reader, LONGEST_LINE)
    posix.close(reader)
    if report:
        posix.waitpid(pid, 0)
        take_terminal_back(pid)
        status, errno, reason = report.decode("utf-8", "surrogateescape").split(" ", 2)
        raise Refusal(reason, int(status), int(errno))
    return pid


def become_command(start: Start, execute: "Callable[[Start], NoReturn]", report: int) -> "NoReturn":
    """In the forked child: set what COMMAND is to have, and what tinyinit has changed for itself, and exec."""
    try:
        posix.setpgid(0, 0)
        if start.has_terminal:
            on_terminal(posix.tcsetpgrp, posix.getpid())  # SIGTTOU is blocked: allowed from the background
        if start.listens:
            start.environ[b"LISTEN_PID"] = str(posix.getpid()).encode()
            start.environ.pop(b"LISTEN_PIDFDID", None)  # tinyinit's too, and not ours to work out
        for number in IGNORED_BY_CPYTHON:
            _signal.signal(number, _signal.SIG_DFL)
        if start.ignores_sigchld:
            _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, start.mask)
        execute(start)
    except BaseException as error:  # whatever it is: there must not be a second tinyinit
        refusal = error if isinstance(error, Refusal) else Refusal(f"cannot start COMMAND: {error!r}")
        text = f"{refusal.status} {refusal.errno} {refusal}".encode("utf-8", "surrogateescape")
        posix.write(report, text[:LONGEST_LINE])
    finally:
        posix._exit(EXIT_CANNOT)


def execute(start: Start) -> "NoReturn":
    """Become COMMAND, found and if need be given to sh as execvp(3) does. Refusal if that cannot be."""
    found = (b"", OSError(ENOENT, posix.strerror(ENOENT)))
    for path in start.paths():
        try:
            try:
                posix.execve(path, start.command, start.environ)
            except OSError as failure:
                if failure.errno != ENOEXEC:
                    raise
                posix.execve(b"/bin/sh", [b"/bin/sh", path, *start.command[1:]], start.environ)
        except OSError as failure:
            if not found[0] or not isinstance(failure, (FileNotFoundError, NotADirectoryError)):
                found = (path, failure)
    from tinyinit.explain import cannot_run

    raise cannot_run(start.command[0], found[0], found[1])
