"""Runs tinyinit, with the options and COMMAND of argv[2:], with things happening at the worst moment of its search.

forks: the moment after the children of a process were listed, it forks another one; three times.
dies: that once; and when its children are to be listed the second time, it dies, after ours were.
cleans: on TERM it forks one to clean up; the moment after the children of that were listed, it forks a helper.

Without argv[2:] this is who forks on USR1, and its children as well. `dies` outlives TERM, unlike its children.
"""

import posix
import signal
import sys
import time
from typing import Any, NoReturn

what, *words = sys.argv[1:]


def serve() -> NoReturn:
    """Fork who does the same on each USR1. A handler runs at the latest when the wait is over."""
    while True:
        if signal.sigtimedwait([signal.SIGUSR1], 0.05):
            fork()


def fork() -> None:
    """The child ends on TERM, or soon if it is to clean up."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [] if what == "forks" else [signal.SIGTERM])
    is_child = posix.fork() == 0
    if is_child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if is_child and what == "cleans":
        time.sleep(0.3)
        posix.write(1, b"cleaned\n")
        posix._exit(0)


def handle(number: int, frame: object) -> None:
    """`dies` goes on; `cleans` forks one that forks another one on USR1, and ends after these."""
    if what == "cleans":
        if posix.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.sigwait([signal.SIGUSR1])
            fork()
        posix.wait()
        posix._exit(0)


if not words:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    if what != "forks":
        signal.signal(signal.SIGTERM, handle)
    posix.write(1, b"ready (pid: %d)\n" % posix.getpid())
    serve()


import tinyinit.init  # noqa: E402
from tinyinit import leftovers  # noqa: E402

real, turns, forks = leftovers.children_of, dict[int, int](), iter(range(3 if what == "forks" else 1))


def children_of(pid: int, *arguments: Any, **keywords: Any) -> list[int]:
    if pid == posix.getpid():
        return real(pid)
    turns[pid] = turns.get(pid, 0) + 1
    if what == "dies" and turns[pid] == 2:
        posix.kill(pid, signal.SIGKILL)
        while leftovers.stat_fields(pid)[leftovers.STATE] != b"Z":
            time.sleep(0.001)
    found = real(pid)
    if what == "cleans" and len(turns) == 1:
        while turns[pid] == 2 and not found:
            found = real(pid)
    elif next(forks, None) is not None:
        posix.kill(pid, signal.SIGUSR1)
        while real(pid) == found:
            time.sleep(0.001)
    return found


leftovers.children_of = children_of
sys.argv[1:] = words
tinyinit.init.main()
