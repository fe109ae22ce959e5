"""Leaves argv[1] orphans that all end at once when the pipe to them is closed, waits for a line, and exits with 5.

argv[2]: `wait` to wait for standard input after they ended, `exit` to end at once and leave them sleeping.
"""

import os
import signal
import sys

count, then = int(sys.argv[1]), sys.argv[2]
reader, writer = os.pipe()
middle = os.fork()
if middle == 0:
    for _ in range(count):
        if os.fork() == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
    os._exit(0)
os.waitpid(middle, 0)
os.write(1, f"ready (pid: {os.getpid()})\n".encode())
if then == "wait":
    os.read(0, 1)
    os.close(writer)
    signal.pause()
os._exit(5)
