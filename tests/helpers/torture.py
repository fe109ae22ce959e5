"""Starts processes that do not want to be ended, says `ready (pid: N)` once all are in place, and ends.

argv[1]: its exit status, or `wait` to wait for a signal that ends it.
argv[2], argv[3]: how many processes, 200 by default, and how many that fork anew whenever TERM reaches them, 50.

All hold standard output open. What else each does stands in the bits of its number, so that every combination occurs:
it has a session of its own (else it ignores HUP, as under nohup), is an orphan of a double fork, ignores TERM, stops
itself, has a name that misleads whoever parses /proc/PID/stat. They form chains of four levels, in which a process that obeys TERM, and runs, stands
above one that ignores it, and is stopped, or the other way round; nobody waits for those that it has started.

One that forks anew ends as the new process lives: each TERM makes a process, and there are always as many.
"""

import os
import signal
import sys
from collections.abc import Callable

SETSID, DOUBLE_FORK, IGNORE_TERM, STOP, RENAME = (1 << bit for bit in range(5))
LEVEL, LEVELS = 32, 4  # numbers of a level: every combination
OPPOSITE = IGNORE_TERM | STOP
NAME = b"x) Z 1 1 1 (y"
PATIENCE = 30  # seconds, then SIGALRM: a process could not do its part

end = sys.argv[1]
count, anew_count = (int(word) for word in (sys.argv[2:] or ("200", "50")))
reports, report = os.pipe()


def spawn(live: Callable[[int], None], number: int) -> None:
    """Fork a process that lives like that. If it is to be one, it is an orphan when this returns."""
    pid = os.fork()
    if pid != 0:
        if number & DOUBLE_FORK:
            os.waitpid(pid, 0)
        return
    try:
        if number & DOUBLE_FORK == 0 or os.fork() == 0:
            live(number)
    finally:
        os._exit(0)


def change(number: int) -> None:
    """Take on another session and name."""
    if number & SETSID:
        os.setsid()
    else:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which the kernel sends when the group is orphaned: setpgid(2)
    if number & RENAME:
        with open("/proc/self/comm", "wb") as file:
            file.write(NAME)


def settle(number: int) -> None:
    """Report that everything is in place, and stop."""
    os.write(report, b"%d %d\n" % (os.getpid(), number & STOP))
    if number & STOP:
        os.kill(os.getpid(), signal.SIGSTOP)


def stay(number: int) -> None:
    change(number)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if number & IGNORE_TERM else signal.SIG_DFL)
    below = (number ^ OPPOSITE) + LEVEL
    if below < count and below // LEVEL % LEVELS != 0:
        spawn(stay, below)
    settle(number)
    while True:
        signal.pause()


def fork_anew(number: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    change(number)
    settle(number)
    while True:
        signal.sigwait({signal.SIGTERM})
        if os.fork() != 0:
            os._exit(0)
        change(number)
        if number & STOP:
            os.kill(os.getpid(), signal.SIGSTOP)


def wait_for_reports() -> None:
    """Until all have reported, and those that stop have stopped."""
    text = b""
    while text.count(b"\n") < count + anew_count:
        text += os.read(reports, 65536)
    for pid, stops in map(bytes.split, text.splitlines()):
        while int(stops) and not is_stopped(int(pid)):
            os.sched_yield()


def is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0] == "T"


signal.alarm(PATIENCE)
for number in range(count):
    if number // LEVEL % LEVELS == 0:
        spawn(stay, number)
for number in range(anew_count):
    spawn(fork_anew, number)
wait_for_reports()
signal.alarm(0)
os.write(1, b"ready (pid: %d)\n" % os.getpid())
if end == "wait":
    signal.pause()
os._exit(int(end))
