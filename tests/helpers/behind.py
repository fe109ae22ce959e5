"""Leaves processes behind: says `ready (pid: N)` once all of the kinds in argv[2:] are in place, and exits with argv[1].

Each writes its kind when TERM reaches it, and ends. N is the PID of the last one. If argv[1] is `wait`, it reads a line
first, and exits with 5. Kinds:

group, setsid, double_fork, nohup   in the group of this one; in a session of its own; that as an orphan; without HUP
stopped         has stopped itself
thread          its parent is not the first thread of a process, which writes nothing
deaf            ignores TERM, and writes nothing
deaf_thread     the same, and that process ignores TERM
forking         when TERM comes it forks a `deaf` one
"""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable

warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads, which is what is to be had here
PATIENCE = 60  # seconds, then SIGALRM: a test has failed, and nobody is to find this a day later

end, kinds = sys.argv[1], sys.argv[2:]
reports, report = os.pipe()


def fork(live: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(PATIENCE)
            live()
        finally:
            os._exit(0)
    return pid


def settle() -> None:
    os.write(report, b"%d\n" % os.getpid())


def obey(kind: str) -> None:
    settle()
    if kind == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    signal.sigwait({signal.SIGTERM})
    if kind == "forking":
        fork(be_deaf)
    os.write(1, kind.encode() + b"\n")


def be_deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    settle()
    while True:
        signal.pause()


def fork_in_a_thread(kind: str) -> None:
    def fork_and_stay() -> None:
        fork(lambda: obey(kind))
        signal.pause()

    threading.Thread(target=fork_and_stay).start()
    signal.sigwait({signal.SIGTERM} if kind == "thread" else {signal.SIGUSR1})


def live_in_a_session(kind: str) -> None:
    os.setsid()
    if kind == "double_fork":
        fork(lambda: obey(kind))
    else:
        obey(kind)


def leave(kind: str) -> None:
    if kind == "deaf":
        fork(be_deaf)
    elif kind in ("thread", "deaf_thread"):
        fork(lambda: fork_in_a_thread(kind))
    elif kind == "setsid":
        fork(lambda: live_in_a_session(kind))
    elif kind == "double_fork":
        os.waitpid(fork(lambda: live_in_a_session(kind)), 0)
    elif kind == "nohup":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        fork(lambda: obey(kind))
    else:
        pid = fork(lambda: obey(kind))
        if kind == "stopped":
            os.waitpid(pid, os.WUNTRACED)


signal.alarm(PATIENCE)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
settled = b""
for number, kind in enumerate(kinds, 1):
    leave(kind)
    while settled.count(b"\n") < number:
        settled += os.read(reports, 4096)
os.write(1, b"ready (pid: %d)\n" % int(settled.split()[-1]))
if end == "wait":
    os.read(0, 1)
    os._exit(5)
os._exit(int(end))
