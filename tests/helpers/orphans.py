"""Leaves argv[1] orphans, and exits with 5.

argv[2]: `wait` to end them all at once when there is something on standard input, and then be ended by a signal;
`exit` to leave them sleeping.
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
            if then == "wait":
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
