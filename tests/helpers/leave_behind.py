"""Leaves processes behind in every way there is, says `ready (pid: N)`, and ends, or sleeps with argv[1] `sleep`.

One in the group, one in a session of its own, one double-forked, one under nohup; with argv[2] `stubborn` they, and
this one, ignore TERM. All hold standard output open, and sleep for 60 seconds.
"""

import os
import signal
import sys
import time

if "stubborn" in sys.argv[2:]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def sleep() -> None:
    try:
        os.write(report, b".")
        time.sleep(60)
    finally:
        os._exit(0)


reader, report = os.pipe()
if os.fork() == 0:
    sleep()
if os.fork() == 0:
    os.setsid()
    sleep()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        sleep()
    os._exit(0)
if os.fork() == 0:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sleep()
count = 0
while count < 4:
    count += len(os.read(reader, 4))
os.write(1, f"ready (pid: {os.getpid()})\n".encode())
if sys.argv[1:2] == ["sleep"]:
    time.sleep(60)
