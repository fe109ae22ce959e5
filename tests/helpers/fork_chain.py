"""Leaves argv[1] processes that ignore TERM and do nothing but fork: each ends at once, as the new one lives.

So a PID that was found is often gone when it is signalled. Exits with 5. After 20 s they end by themselves.
"""

import os
import signal
import sys
import time

end = time.monotonic() + 20
signal.signal(signal.SIGTERM, signal.SIG_IGN)
reader, writer = os.pipe()
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.write(writer, b".")
        os.close(writer)
        while time.monotonic() < end:
            if os.fork() != 0:
                os._exit(0)
        os._exit(0)
os.close(writer)
while os.read(reader, 1):
    continue
os.write(1, f"ready (pid: {os.getpid()})\n".encode())
os._exit(5)
