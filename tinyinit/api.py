"""`tinyinit.run()`: subprocess.run(), but nothing that it has started is alive when it returns.

It starts a tinyinit (called.py), which starts COMMAND, is the subreaper of all below it, and ends last. So there is one
process to wait for, whose end is the end of all: neither a pipe that a grandchild holds, nor a session that it has
left, matters any more. To follow a call, read `run`, `Tree.start`, `Tree.talk`, `Tree.end`. Decided otherwise:

* The time limit is kept here, not by tinyinit's --timeout: so TimeoutExpired can mean nothing else than that COMMAND
  had not ended when its time was over; whether it had, tinyinit tells by the socket.
* COMMAND's wait status comes by that socket, for 137 as exit status of tinyinit may mean two things.
* tinyinit is never sent KILL, or all below it would become children of somebody else.
* subprocess.Popen.communicate() is not used: it waits for the end of the pipes, and polls for that of the process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import importlib.util
import io
import itertools
import marshal
import math
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, Union, overload

from tinyinit.called import KILL_ALL
from tinyinit.init import EXIT_CANNOT

if TYPE_CHECKING:
    from typing_extensions import TypedDict, Unpack

    class Arguments(TypedDict, total=False):
        """What does not decide whether text or bytes are returned."""

        timeout: float | None
        grace: float
        kill_after: float | None
        check: bool
        capture_output: bool
        input: str | Buffer | None
        cwd: Word | None
        env: Mapping[str, Word] | Mapping[bytes, Word] | None
        stdin: int | IO[Any] | None
        stdout: int | IO[Any] | None
        stderr: int | IO[Any] | None
        shell: bool
        executable: Word | None
        bufsize: int
        close_fds: bool
        pass_fds: Iterable[int]
        start_new_session: bool
        process_group: int | None
        user: str | int | None
        group: str | int | None
        extra_groups: Iterable[str | int] | None
        umask: int
        pipesize: int


Word = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Command = Union[Word, Sequence[Word]]
Buffer = Union[bytes, bytearray, memoryview]

SCRIPT = "import sys; sys.path += sys.argv[2:]; from tinyinit.called import main; main()"
SPARE = b"TINYINIT_SPARE"
REFUSED = {  # argument: the value that changes nothing, what to do instead
    "preexec_fn": (None, "run a program that makes the change, and then COMMAND"),
    "restore_signals": (True, "tinyinit gives COMMAND the default for SIGPIPE and SIGXFSZ"),
}
CHUNK = 65536  # bytes read at once
LONGEST_WAIT = 86400.0  # seconds at once, for poll(2) takes an int of milliseconds
AFTER_GRACE = 1.0  # seconds, for what tinyinit does besides waiting


# ---- what is to be run ----------------------------------------------------------------------------------------


class Program(NamedTuple):
    """COMMAND's words, the paths to try for it, and its name as an OSError has it."""

    words: list[bytes]
    paths: list[bytes]
    name: Word


def find_program(args: Command, shell: bool, executable: Word | None, env: Mapping[Any, Any] | None) -> Program:
    """What subprocess.Popen would run for these arguments. TypeError, ValueError as there."""
    if isinstance(args, os.PathLike) and shell:
        raise TypeError("path-like args is not allowed when shell is true")
    words: list[Word] = [args] if isinstance(args, (str, bytes, os.PathLike)) else list(args)
    if shell:
        words = [executable or "/bin/sh", "-c", *words]
    name = words[0] if executable is None else executable
    path, encoded = os.fsencode(name), [os.fsencode(word) for word in words]
    if any(b"\0" in word for word in (path, *encoded)):
        raise ValueError("embedded null byte")
    folders = [""] if os.path.dirname(path) else os.get_exec_path(env)
    return Program(encoded, [os.path.join(os.fsencode(folder), path) for folder in folders], name)


def command_environment(env: Mapping[Any, Any] | None) -> Mapping[Any, Any] | None:
    """COMMAND's environment: the one given, or ours; but that we are spared by somebody is not meant for COMMAND."""
    if env is None and SPARE in os.environb:
        return {name: value for name, value in os.environb.items() if name != SPARE}
    return env


def folders_to_import_from() -> list[str]:
    """Where this package and python-prctl's C module are: an isolated interpreter (-IS) looks at no site-packages."""
    files, prctl = [os.path.dirname(__file__)], importlib.util.find_spec("_prctl")
    if prctl and prctl.origin:
        files.append(prctl.origin)
    return list(dict.fromkeys(os.path.dirname(os.path.abspath(file)) for file in files))


def popen_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of subprocess.Popen that are passed on. ValueError for one that cannot be what it is there."""
    for name, (harmless, advice) in REFUSED.items():
        if arguments.pop(name, harmless) != harmless:
            raise ValueError(f"{name} is not supported: {advice}")
    arguments.pop("bufsize", None)  # nobody sees the file objects
    if not arguments.pop("close_fds", True):
        arguments["pass_fds"] = [*arguments.get("pass_fds", ()), *inheritable_descriptors()]
    return arguments


def inheritable_descriptors() -> Iterable[int]:
    """What close_fds=False hands on. They are listed, for with it Popen would not pass on our socket as well."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                yield int(name)
        except OSError:
            continue  # it was the listing's own, or another thread has closed it


def check_seconds(name: str, seconds: float) -> None:
    """ValueError if it is not a number of seconds, 0 or more."""
    if not seconds >= 0:
        raise ValueError(f"{name} is {seconds!r}; it should be a number of seconds, 0 or more")


def choose_streams(has_input: bool, capture_output: bool, stdin: Any, stdout: Any, stderr: Any) -> dict[str, Any]:
    """The three of subprocess.Popen. ValueError for a conflict."""
    if has_input:
        if stdin is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        stdin = subprocess.PIPE
    if capture_output:
        if stdout is not None or stderr is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        stdout = stderr = subprocess.PIPE
    return {"stdin": stdin, "stdout": stdout, "stderr": stderr}


# ---- text -----------------------------------------------------------------------------------------------------


class Codec:
    """Turns text into bytes and back, as subprocess does in text mode."""

    def __init__(self, encoding: str | None, errors: str | None) -> None:
        wrapper = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)  # which has the defaults
        self.encoding, self.errors = wrapper.encoding, wrapper.errors or "strict"

    def encode(self, text: Any) -> bytes:
        """AttributeError for bytes."""
        encoded: bytes = text.encode(self.encoding, self.errors)
        return encoded

    def decode(self, content: bytes | None) -> str | None:
        """With every line's end as a newline. UnicodeDecodeError."""
        if content is None:
            return None
        return content.decode(self.encoding, self.errors).replace("\r\n", "\n").replace("\r", "\n")


def find_codec(text: bool | None, encoding: str | None, errors: str | None, newlines: bool | None) -> Codec | None:
    """None for bytes. SubprocessError for what contradicts itself, LookupError for an encoding that there is not."""
    if text is not None and newlines is not None and bool(text) != bool(newlines):
        raise subprocess.SubprocessError("text and universal_newlines are both given, but differ; give one")
    return Codec(encoding, errors) if encoding or errors or text or newlines else None


# ---- a tree of processes --------------------------------------------------------------------------------------


class Tree:
    """COMMAND and all below it, under a tinyinit that tells by a socket what becomes of them."""

    process: subprocess.Popen[bytes]  # tinyinit

    def __init__(self, args: Command, program: Program, grace: float, kill_after: float) -> None:
        self.args, self.program, self.grace, self.kill_after = args, program, grace, kill_after
        self.channel, self.theirs = socket.socketpair()
        self.is_started = False  # until then tinyinit has got no request, and ends by itself without one
        self.report = b""  # what it has told
        self.input = memoryview(b"")
        self.output: dict[IO[bytes], list[bytes]] = {}

    # -- its start

    def start(self, input: Any, popen: dict[str, Any]) -> None:
        """Start it. TypeError if the input is not of bytes; OSError as from subprocess.Popen; SubprocessError."""
        self.input = memoryview(b"" if input is None else input).cast("B")
        self.start_tinyinit(popen)
        request = (self.program.words, self.program.paths, float(self.grace), float(self.kill_after))
        try:
            self.channel.sendall(marshal.dumps(request), socket.MSG_NOSIGNAL)
            self.channel.shutdown(socket.SHUT_WR)
        except ConnectionError:
            self.hear()  # it has ended already
        while b"\n" not in self.report and self.hear():
            continue
        if not self.report.startswith(b"started"):
            self.refuse()

    def start_tinyinit(self, popen: dict[str, Any]) -> None:
        """Start a tinyinit that waits for a request, with all signals blocked: so none ends it with a traceback."""
        # above 2, where Popen puts the standard streams of a caller that has closed its own
        theirs = fcntl.fcntl(self.theirs, fcntl.F_DUPFD_CLOEXEC, 3)
        popen["pass_fds"] = (*popen.get("pass_fds", ()), theirs)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        words = [sys.executable, "-IS", "-X", "utf8", "-X", f"tinyinit_mask={sum(1 << (n - 1) for n in mask):x}"]
        try:
            self.process = subprocess.Popen([*words, "-c", SCRIPT, str(theirs), *folders_to_import_from()], **popen)
        except OSError as failure:
            if failure.errno == errno.E2BIG:
                raise OSError(failure.errno, failure.strerror, self.program.name) from None
            raise
        finally:
            os.close(theirs)
            self.theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self.output = {pipe: [] for pipe in (self.process.stdout, self.process.stderr) if pipe}
        self.is_started = True

    def refuse(self) -> NoReturn:
        """Raise what subprocess.Popen raises where COMMAND cannot be run."""
        while self.hear():
            continue
        status = self.process.wait()
        if not self.report.startswith(b"refused"):
            raise subprocess.SubprocessError(f"tinyinit has ended with status {status} before COMMAND could be run")
        exit_status, number, reason = self.report.decode("utf-8", "surrogateescape").split(" ", 3)[1:]
        if not int(number):
            raise subprocess.SubprocessError(reason.rstrip("\n"))
        filename = () if int(exit_status) == EXIT_CANNOT else (self.program.name,)  # fork(2) failed
        raise OSError(int(number), os.strerror(int(number)), *filename)

    # -- what it tells

    def hear(self, flags: int = 0) -> bool:
        """Read what tinyinit tells; False if it has ended."""
        try:
            chunk = self.channel.recv(CHUNK, flags)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        self.report += chunk
        return bool(chunk)

    def end_of_command(self) -> list[int]:
        """COMMAND's wait status, and whether it was handed the terminal; empty as long as it runs."""
        last = (self.report.splitlines() or [b""])[-1].split()
        return [int(word) for word in last[1:]] if last[:1] == [b"ended"] else []

    def returncode(self) -> int:
        """As subprocess has it. Without a report tinyinit itself was killed."""
        end = self.end_of_command()
        return os.waitstatus_to_exitcode(end[0]) if end else self.process.returncode

    # -- its pipes

    def feed(self) -> bool:
        """Write some of the input that is left; False, and the pipe is closed, if there is none, or no reader."""
        stdin = self.process.stdin
        assert stdin  # for mypy  # nosec B101
        try:
            self.input = self.input[os.write(stdin.fileno(), self.input[: select.PIPE_BUF]) :]
        except BrokenPipeError:
            self.input = self.input[:0]
        if not self.input:
            stdin.close()
        return bool(self.input)

    def drain(self, pipe: IO[bytes], size: int = CHUNK) -> bool:
        """Read so many bytes at most; False if nobody will ever write any more."""
        chunk = os.read(pipe.fileno(), size)
        self.output[pipe].append(chunk)
        return bool(chunk)

    def drain_rest(self) -> None:
        """Read what is there, now that all have ended but those who may have been spared: they are not waited for."""
        for pipe in self.output:
            size = int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
            if size:
                self.drain(pipe, size)

    def captured(self, pipe: IO[bytes] | None) -> bytes | None:
        """What came by a pipe; None if there was none."""
        return b"".join(self.output[pipe]) if pipe else None

    # -- until its end

    def talk(self, seconds: float) -> bool:
        """Feed and drain the pipes until tinyinit has ended; False if that takes longer."""
        end, stdin = time.monotonic() + seconds, self.process.stdin
        with selectors.PollSelector() as selector:
            selector.register(self.channel, selectors.EVENT_READ, self.hear)
            for pipe in self.output:
                selector.register(pipe, selectors.EVENT_READ, functools.partial(self.drain, pipe))
            if stdin and not stdin.closed:
                selector.register(stdin, selectors.EVENT_WRITE, self.feed)
            while self.channel in selector.get_map():
                left = end - time.monotonic()
                if left < 0:
                    return False
                for key, _ in selector.select(min(left, LONGEST_WAIT)):
                    if not key.data():
                        selector.unregister(key.fileobj)
        self.process.wait()
        self.drain_rest()
        return True

    def wait(self, timeout: float | None) -> None:
        """Until nothing is alive. TimeoutExpired, with all alive, if COMMAND has not ended in so many seconds."""
        if self.talk(math.inf if timeout is None else timeout):
            return
        self.hear(socket.MSG_DONTWAIT)
        if timeout is not None and not self.end_of_command():
            raise subprocess.TimeoutExpired(self.args, timeout)
        self.talk(math.inf)  # COMMAND was in time: what it has left behind has its grace

    def end(self) -> None:
        """Have tinyinit end all, and return when nothing is alive, whatever comes: TERM, and later on KILL.

        An exception meanwhile, such as another Ctrl-C, only means that KILL comes at once.
        """
        first = (signal.SIGTERM, self.kill_after + self.grace + AFTER_GRACE)
        for number, patience in itertools.chain([first], itertools.repeat((KILL_ALL, AFTER_GRACE))):
            if not self.is_started or self.process.returncode is not None:
                return
            try:
                with contextlib.suppress(OSError):  # ENOTCONN: it has ended
                    self.channel.shutdown(socket.SHUT_WR)  # or it would wait for the rest of a request
                self.process.send_signal(number)
                self.process.send_signal(signal.SIGCONT)  # it stops with a COMMAND that was stopped
                self.talk(patience)
            except BaseException:
                continue

    def result(self, codec: Codec | None, check: bool) -> subprocess.CompletedProcess[Any]:
        """What has become of COMMAND. CalledProcessError if that is to be checked; UnicodeDecodeError.

        If it was killed by SIGINT while it had the terminal, Ctrl-C was meant for us too: shells do so as well.
        """
        if self.end_of_command() == [signal.SIGINT, True]:
            signal.raise_signal(signal.SIGINT)
        out: Any = self.captured(self.process.stdout)
        err: Any = self.captured(self.process.stderr)
        if codec:
            out, err = codec.decode(out), codec.decode(err)
        if check and self.returncode():
            raise subprocess.CalledProcessError(self.returncode(), self.args, output=out, stderr=err)
        return subprocess.CompletedProcess(self.args, self.returncode(), out, err)

    def close(self) -> None:
        """Give the descriptors back; and end all, should an exception have come just before end() was called."""
        self.end()
        self.channel.close()
        self.theirs.close()
        if self.is_started:
            for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
                if pipe:
                    pipe.close()


# ---- run ------------------------------------------------------------------------------------------------------


if TYPE_CHECKING:

    @overload
    def run(
        args: Command,
        *,
        text: Literal[True],
        encoding: str | None = None,
        errors: str | None = None,
        universal_newlines: Literal[True] | None = None,
        **arguments: Unpack[Arguments],
    ) -> subprocess.CompletedProcess[str]: ...

    @overload
    def run(
        args: Command,
        *,
        encoding: str,
        text: bool | None = None,
        errors: str | None = None,
        universal_newlines: bool | None = None,
        **arguments: Unpack[Arguments],
    ) -> subprocess.CompletedProcess[str]: ...

    @overload
    def run(
        args: Command,
        *,
        errors: str,
        text: bool | None = None,
        encoding: str | None = None,
        universal_newlines: bool | None = None,
        **arguments: Unpack[Arguments],
    ) -> subprocess.CompletedProcess[str]: ...

    @overload
    def run(
        args: Command,
        *,
        universal_newlines: Literal[True],
        text: Literal[True] | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        **arguments: Unpack[Arguments],
    ) -> subprocess.CompletedProcess[str]: ...

    @overload
    def run(
        args: Command,
        *,
        text: Literal[False] | None = None,
        encoding: None = None,
        errors: None = None,
        universal_newlines: Literal[False] | None = None,
        **arguments: Unpack[Arguments],
    ) -> subprocess.CompletedProcess[bytes]: ...

    @overload
    def run(
        args: Command,
        *,
        text: bool | None = None,
        encoding: str | None = None,
        errors: str | None = None,
        universal_newlines: bool | None = None,
        **arguments: Unpack[Arguments],
    ) -> subprocess.CompletedProcess[Any]: ...


def run(
    args: Command,
    *,
    timeout: float | None = None,
    grace: float = 5.0,
    kill_after: float | None = None,
    check: bool = False,
    capture_output: bool = False,
    text: bool | None = None,
    input: str | Buffer | None = None,
    cwd: Word | None = None,
    env: Mapping[str, Word] | Mapping[bytes, Word] | None = None,
    stdin: int | IO[Any] | None = None,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    universal_newlines: bool | None = None,
    shell: bool = False,
    executable: Word | None = None,
    **popen: Any,
) -> subprocess.CompletedProcess[Any]:
    """subprocess.run(), but neither COMMAND nor anything that it has started is alive when this returns or raises.

        done = tinyinit.run(["make", "test"], timeout=600, capture_output=True, text=True)

    That holds for what has left COMMAND's group or session too; also after a timeout, Ctrl-C, or any other exception
    in the caller; and if the caller is killed, all is ended by itself. What has TINYINIT_SPARE=1 in its environment is
    left alone, but is not waited for.

    The end: after `timeout` seconds, or an exception, COMMAND gets TERM, and KILL `kill_after` seconds later, by
    default `grace`. When it has ended, in whatever way, what it has left behind gets TERM, and KILL `grace` seconds
    later. Whoever obeys is not waited for any longer; 0 is at once. So this returns at most timeout + kill_after +
    grace + 1 seconds after it was called. One more exception meanwhile, such as a second Ctrl-C, and KILL comes at
    once. `timeout` is for COMMAND alone: if it has ended in time, that is its result.

    Returns, and raises, what subprocess.run() does: CompletedProcess; TimeoutExpired, with all output until the end;
    CalledProcessError; OSError; ValueError, also for a grace or kill_after below 0. Differences: all arguments but the
    first are by keyword; preexec_fn and restore_signals=False are refused; COMMAND's parent is tinyinit, and it leads
    a process group of its own, to which the terminal is handed if it is the caller's: if Ctrl-C kills it, the caller
    gets SIGINT when all is over, as under a shell. It takes some 20 ms more. SubprocessError if tinyinit cannot do its
    part.
    """
    kill_after = grace if kill_after is None else kill_after
    check_seconds("grace", grace)
    check_seconds("kill_after", kill_after)
    streams = choose_streams(input is not None, capture_output, stdin, stdout, stderr)
    codec = find_codec(text, encoding, errors, universal_newlines)
    content = codec.encode(input) if codec and input is not None else input
    program = find_program(args, shell, executable, env)
    popen = {**popen_arguments(popen), **streams, "cwd": cwd, "env": command_environment(env)}
    tree = Tree(args, program, grace, kill_after)
    try:
        tree.start(content, popen)
        tree.wait(timeout)
    except BaseException as error:
        tree.end()
        if isinstance(error, subprocess.TimeoutExpired):
            error.output = tree.captured(tree.process.stdout) or None
            error.stderr = tree.captured(tree.process.stderr) or None
        raise
    finally:
        tree.close()
    return tree.result(codec, check)
