"""A process of a tree that does what it is told by a socket, as does each that it forks, over a socket of its own.

argv: the socket's abstract name; the folder of python-prctl's C module; `first` to begin with all signals blocked.

To a command, a datagram, comes an answer: a number, and then the signals that have come since the last one. As all are
blocked, none of them is lost, and the real-time ones are queued. Only what is built in is imported, to start fast.
"""

import _signal
import _socket
import posix
import resource
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

name, folder = sys.argv[1:3]
ALL = _signal.valid_signals() - {_signal.SIGKILL, _signal.SIGSTOP}
PR_SET_CHILD_SUBREAPER = 36
HANDLERS = {"ignore": _signal.SIG_IGN, "default": _signal.SIG_DFL, "catch": _signal.SIG_DFL}
EXECUTED = {"puppet": [sys.executable, "-I", "-S", __file__, name, folder], "sleep": ["/bin/sleep", "3600"]}


def connect() -> _socket.socket:
    """A connection, whose other end knows from the kernel who we are (unix(7), SO_PEERCRED)."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    connection.connect(b"\0" + name.encode())
    connection.send(b"%d" % posix.getpid())
    return connection


def fork() -> int:
    global connection
    pid = posix.fork()
    if pid == 0:
        connection.close()
        connection = connect()
        obey()
    return pid


def fork_twice(code: str) -> int:
    """The grandchild is an orphan when this returns."""
    middle = posix.fork()
    if middle == 0:
        posix._exit(int(code) if fork() else 0)
    return posix.waitpid(middle, 0)[0]


def fork_storm(count: str) -> int:
    """So many become orphans, and end, at once."""
    reader, writer = posix.pipe()
    middle = posix.fork()
    if middle == 0:
        for _ in range(int(count)):
            if posix.fork() == 0:
                posix.close(writer)
                posix.read(reader, 1)
                posix._exit(0)
        posix._exit(0)
    posix.close(reader)
    posix.close(writer)
    return posix.waitpid(middle, 0)[0]


def reap() -> int:
    count = 0
    try:
        while posix.waitpid(-1, posix.WNOHANG)[0]:
            count += 1
    except ChildProcessError:
        pass  # there is none any more
    return count


def treat(how: str, number: str) -> None:
    _signal.signal(int(number), HANDLERS[how])
    _signal.pthread_sigmask(_signal.SIG_BLOCK if how == "catch" else _signal.SIG_UNBLOCK, [int(number)])


def die(number: str) -> None:
    if int(number) != _signal.SIGKILL:
        treat("default", number)
    posix.kill(posix.getpid(), int(number))


def stop_as_by_terminal() -> None:
    die(str(int(_signal.SIGTSTP)))
    treat("catch", str(int(_signal.SIGTSTP)))


def become_subreaper() -> None:
    sys.path.append(folder)
    from _prctl import prctl

    prctl(PR_SET_CHILD_SUBREAPER, 1)


def close_all() -> None:
    if connection.fileno():  # CPython's closerange(0, 0) closes all
        posix.closerange(0, connection.fileno())
    posix.closerange(connection.fileno() + 1, 1 << 16)


COMMANDS: "dict[str, Callable[..., int | None]]" = {
    "fork": fork, "twice": fork_twice, "storm": fork_storm, "reap": reap, "treat": treat, "die": die,
    "tstp": stop_as_by_terminal, "subreaper": become_subreaper, "close": close_all, "hello": lambda: 0,
    "setsid": posix.setsid, "setpgid": lambda group: posix.setpgid(0, int(group)),
    "exit": lambda code: posix._exit(int(code)),
    "exec": lambda what: posix.execv(EXECUTED[what][0], EXECUTED[what]),
}  # fmt: skip


def obey() -> None:
    """Until the connection's other end is closed."""
    while words := connection.recv(4096).decode().split():
        came = []
        while event := _signal.sigtimedwait(ALL, 0):
            came.append(event.si_signo)
        answer = COMMANDS[words[0]](*words[1:])
        connection.send(" ".join(str(int(number)) for number in [answer or 0, *came]).encode())
    posix._exit(0)


if "first" in sys.argv:
    _signal.pthread_sigmask(_signal.SIG_BLOCK, ALL)
if _signal.getsignal(_signal.SIGINT) != _signal.SIG_IGN:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # instead of CPython's KeyboardInterrupt
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
connection = connect()
obey()
