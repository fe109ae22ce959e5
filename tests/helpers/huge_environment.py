"""Say to the kernel that the environment is as large as argv[1], in bytes, print `ready (pid: N)`, and sleep.

PR_SET_MM_MAP needs no privilege (PR_SET_MM(2const)). That memory takes none: it is read as zeros. Where the kernel was
built without it, `refused` is printed.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys

PROT_READ, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE = 0x1, 0x2, 0x20, 0x4000  # mmap(2)
PR_SET_MM, PR_SET_MM_MAP = 35, 14
NO_FILE = 2**32 - 1  # exe_fd

size = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
begin = libc.mmap(None, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
with open("/proc/self/stat") as file:
    stat = [0, 0, 0, *(int(field) for field in file.read().rpartition(")")[2].split()[1:])]  # as proc(5) numbers them
code, data, heap, stack, arguments = stat[25:27], stat[44:46], stat[46:47], stat[27:28], stat[47:49]
places = [*code, *data, *heap, *heap, *stack, *arguments, begin, begin + size]
layout = struct.pack("12QII", *places, 0, 0, NO_FILE)
if libc.prctl(PR_SET_MM, PR_SET_MM_MAP, layout, len(layout), 0) != 0:
    sys.exit(print("refused"))
print(f"ready (pid: {os.getpid()})", flush=True)
signal.pause()
