"""Joins the group of its parent's parent's choosing: leaves the group that it leads, then logs signals until TERM."""

import os
import signal

ALL = {signal.SIGUSR1, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
other = os.fork()
if other == 0:
    os.setpgid(0, 0)
    signal.pause()
while os.getpgid(other) != other:
    continue
os.setpgid(0, other)
assert os.getpgrp() == other != os.getpid()
os.write(1, f"ready (pid: {os.getpid()})\n".encode())
while True:
    number = signal.sigwaitinfo(ALL).si_signo
    os.write(1, f"got {number}\n".encode())
    if number == signal.SIGTERM:
        os.kill(other, signal.SIGKILL)
        os._exit(0)
