"""Build the tree that the first argument names, print `ready (pid: N)`, and sleep until a signal ends it.

zombie N        N children that have ended and are not reaped
named COMM ARG  a comm of one's own, and the argument ARG; both as bytes in hexadecimal
orphan          a grandchild whose parent has ended, in the session of that one; N is its PID
threads         a second thread, and the first has ended
hasty N         N children that have ended at once, and a handler that reaps one each time that SIGCHLD comes
growing N       the same number of zombies as `zombie`, and as many again with each line of standard input
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable


def build_zombies(count: int) -> int:
    pids = [os.fork() or os._exit(0) for _ in range(count)]
    for pid in pids:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return os.getpid()


def take_name(comm: bytes) -> int:
    with open("/proc/self/comm", "wb", buffering=0) as file:
        file.write(comm)
    return os.getpid()


def build_orphan() -> int:
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(writer, str(os.getpid()).encode())
        signal.pause()
    os.waitpid(middle, 0)
    return int(os.read(reader, 16))


def end_first_thread() -> int:
    def tell_and_sleep() -> None:
        print(f"ready (pid: {os.getpid()})", flush=True)
        signal.pause()

    threading.Thread(target=tell_and_sleep).start()
    ctypes.CDLL(None).pthread_exit(None)
    return 0


def reap_one(*_: object) -> None:
    os.waitpid(-1, os.WNOHANG)


def build_hasty(count: int) -> int:
    signal.signal(signal.SIGCHLD, reap_one)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    build_zombies(count)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    return os.getpid()


def grow(count: int) -> int:
    print(f"ready (pid: {build_zombies(count)})", flush=True)
    while sys.stdin.readline():
        build_zombies(count)
    return os.getpid()


def main(what: str, *arguments: str) -> None:
    build: dict[str, Callable[[], int]] = {
        "zombie": lambda: build_zombies(int(arguments[0])),
        "named": lambda: take_name(bytes.fromhex(arguments[0])),
        "orphan": build_orphan,
        "threads": end_first_thread,
        "hasty": lambda: build_hasty(int(arguments[0])),
        "growing": lambda: grow(int(arguments[0])),
    }
    print(f"ready (pid: {build[what]()})", flush=True)
    while True:  # not by pause(2): a signal that came just before it would have its handler called at the next one
        time.sleep(0.05)


main(*sys.argv[1:])
