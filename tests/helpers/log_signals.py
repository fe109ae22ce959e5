"""Prints `ready (pid: N)`, and then the number of every signal that arrives. Ends on the number in argv[2], if any.

argv[1]: a word to print before each number; `tree` starts a child in the same group, which prints as `child`.
"""

import os
import signal
import sys

name = sys.argv[1]
last = int(sys.argv[2]) if len(sys.argv) > 2 else 0
ALL = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
if name == "tree":
    name = "parent"
    if os.fork() == 0:
        name = "child"
        os.write(1, b"child is ready\n")
if name != "child":
    os.write(1, f"ready (pid: {os.getpid()})\n".encode())
while True:
    number = signal.sigwaitinfo(ALL).si_signo
    os.write(1, f"{name} {number}\n".encode())
    if number == last:
        os._exit(0)
