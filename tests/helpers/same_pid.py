"""As COMMAND of PID 1: an orphan that ends after argv[1] seconds, and then another one that gets its PID.

Prints `ready (pid: N)` when the second is there; its own namespace's ns_last_pid says which PID comes next (proc(5)).
"""

import os
import signal
import sys
import time


def start_orphan(pid: int = 0) -> int:
    """An orphan that sleeps, with that PID if one is given; its PID."""
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        if pid:
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(pid - 1))
        orphan = os.fork()
        if orphan == 0:
            signal.pause()
        os.write(writer, str(orphan).encode())
        os._exit(0)
    os.waitpid(middle, 0)
    return int(os.read(reader, 16))


first = start_orphan()
time.sleep(float(sys.argv[1]))
os.kill(first, signal.SIGKILL)
while os.path.exists(f"/proc/{first}"):
    time.sleep(0.001)
second = start_orphan(first)
assert second == first
print(f"ready (pid: {second})", flush=True)
begin = time.monotonic()
while os.path.exists(f"/proc/{second}"):
    time.sleep(0.005)
print(f"lived {time.monotonic() - begin}", flush=True)
