"""Leaves argv[1] orphans that end at once, and says so; at each further line on standard input more, up to argv[2]."""

import os
import sys

AT_ONCE = 50


def leave(count: int) -> None:
    for _ in range(0, count, AT_ONCE):
        middle = os.fork()
        if middle == 0:
            for _ in range(AT_ONCE):
                if os.fork() == 0:
                    os._exit(0)
            os._exit(0)
        os.waitpid(middle, 0)


first, total = int(sys.argv[1]), int(sys.argv[2])
leave(first)
print(first, flush=True)
sys.stdin.readline()
leave(total - first)
print(total, flush=True)
sys.stdin.readline()
os._exit(5)
