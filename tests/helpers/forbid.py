"""Becomes argv[3:] under a seccomp(2) filter: the system calls named in argv[2] fail with the errno in argv[1].

Names are separated by commas. `prctl:36` is a call whose first argument is that. After `but` all fail but those.
"""

import ctypes
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2  # prctl(2)
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET
ALLOW, ERRNO = 0x7FFF0000, 0x00050000  # linux/seccomp.h
NUMBER, ARGUMENT = 0, 16  # where struct seccomp_data has the call's number, and half of its first argument
NUMBERS = {  # on x86_64 and on AArch64, which lacks some
    "read": (0, 63), "write": (1, 64), "open": (2, None), "close": (3, 57), "stat": (4, None), "fstat": (5, 80),
    "lstat": (6, None), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215),
    "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "ioctl": (16, 29), "pread64": (17, 67), "access": (21, None), "pipe": (22, None), "dup": (32, 23),
    "dup2": (33, None), "getpid": (39, 172), "clone": (56, 220), "fork": (57, None), "vfork": (58, None),
    "execve": (59, 221), "exit": (60, 93), "wait4": (61, 260), "kill": (62, 129), "uname": (63, 160), "fcntl": (72, 25),
    "getcwd": (79, 17), "chdir": (80, 49), "readlink": (89, None), "getuid": (102, 174), "getgid": (104, 176),
    "geteuid": (107, 175), "getegid": (108, 177), "setpgid": (109, 154), "getppid": (110, 173), "getpgrp": (111, None),
    "setsid": (112, 157), "getpgid": (121, 155), "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132),
    "prctl": (157, 167), "arch_prctl": (158, None), "gettid": (186, 178), "futex": (202, 98), "getdents64": (217, 61),
    "set_tid_address": (218, 96), "clock_gettime": (228, 113), "clock_nanosleep": (230, 115), "exit_group": (231, 94),
    "waitid": (247, 95), "openat": (257, 56), "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48),
    "pselect6": (270, 72), "set_robust_list": (273, 99), "dup3": (292, 24), "pipe2": (293, 59),
    "prlimit64": (302, 261), "getrandom": (318, 278), "pwritev2": (328, 287), "statx": (332, 291), "rseq": (334, 293),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "clone3": (435, 435), "close_range": (436, 436),
    "openat2": (437, 437), "faccessat2": (439, 439),
}  # fmt: skip


def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """An instruction of bpf(4)."""
    return struct.pack("HBBI", code, if_true, if_false, value)


def program(errno: int, names: "list[str]") -> bytes:
    """The filter: for each name, compare, and skip what answers if it is another call."""
    named, others = (ALLOW, ERRNO | errno) if names[0] == "but" else (ERRNO | errno, ALLOW)
    steps = b""
    for name in names[names[0] == "but" :]:
        call, _, argument = name.partition(":")
        number = NUMBERS[call][platform.machine() == "aarch64"]
        if number is not None:
            steps += step(LOAD, NUMBER) + step(JUMP_IF_EQUAL, number, 0, 3 if argument else 1)
            steps += step(LOAD, ARGUMENT) + step(JUMP_IF_EQUAL, int(argument), 0, 1) if argument else b""
            steps += step(RETURN, named)
    return steps + step(RETURN, others)


filter = ctypes.create_string_buffer(program(int(sys.argv[1]), sys.argv[2].split(",")))
fprog = ctypes.create_string_buffer(struct.pack("HP", len(filter) // 8, ctypes.addressof(filter)))
libc = ctypes.CDLL(None, use_errno=True)
if os.geteuid() != 0:
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, fprog, 0, 0) != 0:
    sys.exit(f"no filter: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[3], sys.argv[3:])
