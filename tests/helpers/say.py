"""Says its arguments, one after the other, to NOTIFY_SOCKET, each as a message; and ends with 3.

`sleep:0.2` sleeps, `print:TEXT` prints a line, `read:` waits for one, `count:N` says N times what follows,
`child:TEXT` says TEXT from a child that has ended, and was waited for, when the next is begun; `zombie:TEXT` from one
that was not waited for; `fds:N` gives N descriptors to each message from there on, and prints at the end whether the
last of them was closed by all others.
"""

import array
import os
import select
import socket
import sys
import time

name = os.environb[b"NOTIFY_SOCKET"]
address = b"\0" + name[1:] if name.startswith(b"@") else name
to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
count, reader, writer, descriptors = 1, -1, -1, 0

for word in sys.argv[1:]:
    verb, colon, text = word.partition(":")
    if verb == "sleep":
        time.sleep(float(text))
    elif verb == "print":
        print(text, flush=True)
    elif verb == "read":
        sys.stdin.readline()
    elif verb == "count":
        count = int(text)
    elif verb == "fds":
        reader, writer = os.pipe()
        descriptors = int(text)
    elif verb in ("child", "zombie"):
        pid = os.fork()
        if pid == 0:
            to.sendto(os.fsencode(text), address)
            os._exit(0)
        flags = os.WNOWAIT if verb == "zombie" else 0
        os.waitid(os.P_PID, pid, os.WEXITED | flags)
    else:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [writer] * descriptors))]
        for _ in range(count):
            to.sendmsg([os.fsencode(word)], rights if descriptors else [], 0, address)
        count = 1
if descriptors:
    os.close(writer)
    watched = select.poll()
    watched.register(reader, 0)
    print("closed" if watched.poll(5000) else "open", flush=True)
sys.exit(3)
