"""As PID 1 of a namespace: runs argv[2:] as a job, in a session of its own, and tells what is left after it.

Prints, as JSON, what there is argv[1] seconds after the job's end: `alive` and `zombies`, how many processes each, and
`is_closed`, whether what reads the job's standard output has come to its end. Like any PID 1 it reaps its children, so
the zombies are those of other processes. What is left ends with the namespace.
"""

import json
import os
import signal
import sys
import time

seconds, job = float(sys.argv[1]), sys.argv[2:]
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    os.setsid()
    os.dup2(writer, 1)
    os.execv(job[0], job)
os.close(writer)


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            continue
    except ChildProcessError:
        return


def states() -> list[str]:
    """The state of each other process."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with open(f"/proc/{name}/stat") as file:
                found.append(file.read().rpartition(") ")[2][0])
    return found


def is_closed() -> bool:
    os.set_blocking(reader, False)
    try:
        while os.read(reader, 65536):
            continue
    except BlockingIOError:
        return False
    return True


while os.waitpid(-1, 0)[0] != pid:
    continue
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
end = time.monotonic() + seconds
while time.monotonic() < end:
    reap()
    signal.sigtimedwait({signal.SIGCHLD}, max(0.0, end - time.monotonic()))
reap()
left = states()
zombies = left.count("Z")
json.dump({"alive": len(left) - zombies, "zombies": zombies, "is_closed": is_closed()}, sys.stdout)
