"""The tinyinit that tinyinit.run() starts: by a socket it is told what to run, and tells what becomes of it.

It tells a line each: `refused STATUS ERRNO REASON`, or `started` and later on `ended WAIT_STATUS HAD_TERMINAL`. It is
over when the socket is closed. Nothing runs before the request is whole: so a caller that is interrupted while it
starts us, in whatever line of it, leaves nothing behind.

This is on the way to COMMAND, so only built-in modules are imported here.
"""

import _signal
import marshal
import posix
import sys

from tinyinit.init import (
    EXIT_CANNOT,
    EXIT_NOT_RUNNABLE,
    Init,
    Options,
    Refusal,
    Start,
    block_signals,
    run,
)
from tinyinit.leftovers import LAST_GRACE
from tinyinit.limits import limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

KILL_ALL = _signal.SIGRTMAX - 2  # from run(): no more grace; those above are parent.py's and notify.py's
EACCES, ENOENT, ENOTDIR = 13, 2, 20  # errno(3)


class Program(Start):
    """COMMAND as subprocess has it: the paths to be tried are given, and a file without `#!` is not for sh."""

    def __init__(self, words: "list[bytes]", paths: "list[bytes]", mask: "Iterable[int]") -> None:
        super().__init__([], mask)
        self.command, self.candidates = words, paths
        ours = {name: value for name, value in posix.environ.items() if name.startswith(b"TINYINIT_")}
        self.environ.update(ours)  # they are the caller's options for somebody else

    def paths(self) -> "list[bytes]":
        """Where COMMAND may be: the caller has said it."""
        return self.candidates

    def fork(self) -> int:
        """By fork(2) and execve(2), without sh."""
        from tinyinit.child import fork

        return fork(self, self.execute)

    def execute(self, start: Start) -> "NoReturn":
        """Become COMMAND. Refusal if that cannot be, with the first errno that is not about a missing file."""
        errno = 0
        for path in self.candidates:
            try:
                if not self.command[0]:  # which CPython refuses as argv[0]
                    raise OSError(EACCES, "")
                posix.execve(path, self.command, self.environ)
            except OSError as failure:
                if errno in (0, ENOENT, ENOTDIR):
                    errno = failure.errno or 0
        raise Refusal("cannot run COMMAND", EXIT_NOT_RUNNABLE, errno or ENOENT)


class Report:
    """Tells the caller. When COMMAND runs, the socket takes the place of standard input, which is only COMMAND's."""

    def __init__(self, channel: int, start: Start) -> None:
        self.channel, self.start = channel, start

    def join(self, init: Init, start: Start) -> None:
        """Have the report join the init."""
        init.listeners.append(self.listen)
        init.actions[KILL_ALL] = lambda event: kill_all(init)

    def listen(self, event: str, facts: "dict[str, int]") -> None:
        """Tell that COMMAND runs, and how it ended."""
        if event == "started":
            self.tell("started")
            posix.dup2(self.channel, 0, inheritable=False)
            self.channel = 0  # the other one is closed with all that are above 2
        elif event == "ended":
            self.tell(f"ended {facts['wait_status']} {int(self.start.has_terminal)}")

    def tell(self, line: str) -> None:
        """Write a line, if the caller is still there."""
        try:
            posix.write(self.channel, line.encode("utf-8", "surrogateescape") + b"\n")
        except OSError:
            return  # EPIPE: it has died, which follow_parent() knows


def kill_all(init: Init) -> None:
    """KILL to COMMAND and all below it, and again until nobody is left."""
    if "give up" not in init.deadlines:
        init.set_deadline("give up", max(init.options.grace, LAST_GRACE), init.give_up)
    init.kill_leftovers()


def read_request(channel: int) -> "tuple[list[bytes], list[bytes], float, float | None]":
    """COMMAND, the paths to try, grace and kill_after in seconds. EOFError if the caller did not send it whole."""
    content = b""
    while chunk := posix.read(channel, 65536):
        content += chunk
    request: "tuple[list[bytes], list[bytes], float, float | None]" = marshal.loads(content)  # ours  # nosec B302
    return request


def main() -> "NoReturn":
    """Run what the request says. Never returns."""
    mask, parent = block_signals(), posix.getppid()  # which is alive at that moment, if a request comes after it
    channel, status = int(sys.argv[1]), EXIT_CANNOT
    posix.set_inheritable(channel, False)
    try:
        words, paths, grace, kill_after = read_request(channel)
    except (EOFError, OSError):
        posix._exit(status)
    start = Program(words, paths, mask)
    report = Report(channel, start)
    values = {"verbosity": 0, "grace": grace, "kill_after": kill_after, "die_with_parent": True}
    try:
        status = run(Options({**values, "siblings": (report.join, limit)}), start, parent)
    except Refusal as refusal:
        report.tell(f"refused {refusal.status} {refusal.errno} {refusal}")
    except BaseException as error:
        report.tell(f"refused {EXIT_CANNOT} 0 {error!r}")
    posix._exit(status)
