"""Contract, section 9: whichever system call of tinyinit's own fails, COMMAND's status comes back, and nothing is left.

Or, before COMMAND was started, one line says why it was not, and the status is 125 to 127. In the table are the errors that the call's man page names, and those
of seccomp(2) and gVisor. Each is injected at the first, the second and at every occurrence, unless the row says why not.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.faults import BOUND, ENDS, Outcome, Place, attach, make_gate, run, words
from helpers.running import Running, is_pending, program, wait_until

pytestmark = [pytest.mark.heavy, pytest.mark.form("installed")]

START, START_1 = Place("start", "plain", False), Place("start", "plain", True)
RUNS, RUNS_1 = Place("running", "plain", False), Place("running", "plain", True)
FORK = Place("start", "fork", False)
EVERY, EVERY_1 = Place("start", "every", False), Place("start", "every", True)
ALWAYS = ("1", "2", "1+")
UNFORESEEN = "warning: unexpected error, going on: "
REPORT = "warning: cannot write the (report|termination log)"


class Row(NamedTuple):
    """A system call, or what it is called on other machines; its errors; and what is expected."""

    calls: str
    errors: str
    places: tuple[Place, ...]
    says: str = ""  # what one of the lines is to say; "?" before it: or not
    when: tuple[str, ...] = ALWAYS
    is_refused: bool = False  # before COMMAND runs; or its status is what counts
    leaves: bool = False  # some of what COMMAND left behind may live on
    follows: bool = False  # the call is one of the child's, before it becomes COMMAND
    may_be_missed: bool = False  # it is not made in every run
    since: tuple[int, int] = (3, 9)  # the first CPython that makes it


CANNOT_START = "cannot (start|run) "
TABLE = [
    # what may be refused to who is to become subreaper, or to block signals
    Row("prctl", "EINVAL EPERM ENOSYS", (START,), "cannot become a child subreaper", ("1",), leaves=True),
    Row("prctl", "EINVAL EPERM ENOSYS", (START_1,), when=("1",)),
    Row("prctl", "EINVAL EPERM", (EVERY, EVERY_1), "cannot set a parent-death signal", ("1",), is_refused=True),
    Row("rt_sigprocmask", "EINVAL EPERM ENOSYS", (START, START_1), "internal error", ("1", "1+"), is_refused=True),
    Row("rt_sigaction", "EINVAL EPERM ENOSYS", (START, START_1), "internal error", ("1", "1+"), is_refused=True),
    # COMMAND's start
    Row("access,faccessat", "EACCES ENOENT ENOMEM EIO ELOOP ENOTDIR ENOSYS EPERM", (START,), when=("1", "1+")),
    Row("clone,clone3", "EAGAIN ENOMEM EPERM", (START,), CANNOT_START, ("1", "1+"), is_refused=True),
    Row("clone,clone3", "ENOSYS", (START, START_1), CANNOT_START, ("1+",), is_refused=True),
    Row("clone3", "EPERM EAGAIN ENOMEM ENOSYS", (START, START_1), when=("1", "1+")),
    Row("setpgid", "EACCES EPERM ESRCH EINVAL ENOSYS", (START,), "cannot start COMMAND", ("1", "1+"), True, follows=True),
    Row("execve", "EACCES EPERM ENOENT ENOTDIR ELOOP ENOMEM EAGAIN E2BIG ETXTBSY EMFILE ENFILE EIO EINVAL ENOSYS",
        (START,), CANNOT_START, ("1", "1+"), True, follows=True),
    Row("execve", "ENOEXEC", (START, START_1), CANNOT_START, ("1+",), True, follows=True),
    Row("pipe2", "EMFILE ENFILE ENOMEM", (FORK,), "internal error|cannot start", ("1",), is_refused=True),
    Row("chdir", "EACCES EIO ENOMEM ENOSYS", (START, START_1), when=("1",)),
    Row("close_range", "EINVAL ENOSYS EPERM", (START, START_1), when=("1", "1+"), since=(3, 10)),
    # the loop
    # EINTR of rt_sigtimedwait comes from real stops, in test_signal_forwarding.py: some calls do not sleep, and never have it
    Row("rt_sigtimedwait", "EINVAL ENOSYS EPERM", (RUNS, RUNS_1, EVERY), UNFORESEEN + "|a signal may come twice"),
    Row("rt_sigtimedwait", "EAGAIN", (RUNS, RUNS_1, EVERY_1), "?" + UNFORESEEN),
    # it marks the stack before a sleep with a deadline, and at any time there may be signals enough to need no sleep
    Row("tgkill", "EPERM ENOSYS EAGAIN", (EVERY, EVERY_1), "?a signal may come twice", ("1", "1+"), may_be_missed=True),
    Row("wait4", "EINTR", (START, RUNS_1), when=("1", "2", "1..9")),  # always: CPython calls again (PEP 475)
    Row("wait4", "EINVAL ENOSYS EPERM ENOMEM", (START, RUNS_1, RUNS), UNFORESEEN, ("1", "2", "1..9")),
    Row("wait4", "ECHILD", (RUNS, RUNS_1), UNFORESEEN, ("1",)),  # of all children it is never a lie
    Row("kill", "ESRCH", (START, RUNS_1), "?KILL", ("1", "2", "1+"), leaves=True),
    Row("kill", "EPERM", (START, RUNS_1, RUNS), "may not s|KILL", ALWAYS, leaves=True),
    Row("kill", "EINVAL ENOSYS", (START, RUNS_1), "unexpected error|cannot signal", ALWAYS, leaves=True),
    Row("getpgid", "EPERM ESRCH ENOSYS", (START, RUNS, RUNS_1), "?" + UNFORESEEN, ("1", "1+")),
    Row("rt_sigpending", "EFAULT ENOSYS EPERM", (START, RUNS_1), UNFORESEEN, ("1",)),
    # what is left behind
    Row("pidfd_open", "EMFILE ENFILE ENODEV ENOMEM ESRCH EINVAL ENOSYS EPERM", (START, RUNS)),
    Row("pidfd_send_signal", "EPERM", (START,), "may not signal", ALWAYS),
    Row("pidfd_send_signal", "ESRCH", (START,), "?KILL"),
    Row("pidfd_send_signal", "EINVAL ENOSYS EBADF", (START,), "cannot signal"),
    Row("readlink,readlinkat", "EACCES ENOTDIR EIO ENOMEM ENOSYS", (START, RUNS), "?without /proc|KILL",
        ("1", "2")),
    Row("openat", "EMFILE ENFILE ENOMEM EACCES ENOENT EIO EINTR EPERM", (START, RUNS), "?.", ("1", "2")),
    Row("openat", "EMFILE ENFILE ENOMEM EACCES ENOENT EIO", (RUNS, RUNS_1), "?.", ("1+",), leaves=True),
    Row("read", "EIO ENOMEM EINTR ESRCH EACCES", (START, RUNS), "?.", ("1", "2", "3")),
    Row("read", "EIO ENOMEM", (RUNS, RUNS_1), "?.", ("1+",), leaves=True),
    Row("getdents64", "EIO ENOENT ENOTDIR ENOMEM ENOSYS", (START,), "?.", ("1", "2")),
    Row("getdents64", "EIO ENOMEM ENOSYS", (START,), "unexpected error", ("1+",), leaves=True),  # no module is found
    Row("newfstatat,fstat,statx", "EACCES ENOMEM EIO ENOSYS", (RUNS,), "?.", ("1", "2")),
    # standard error, the socket, the report
    Row("pwritev2", "EAGAIN EOPNOTSUPP ENOSPC EIO EPIPE EDQUOT EFBIG ENOSYS", (EVERY,)),
    Row("pwritev2", "EINTR", (EVERY,), when=("1", "2", "1..9")),  # always: CPython calls again (PEP 475)
    Row("write", "EIO ENOSPC EDQUOT EFBIG", (EVERY,), REPORT, ("1", "2", "1+")),
    Row("renameat,renameat2", "EACCES EROFS EIO ENOSPC EBUSY", (EVERY,), "?" + REPORT),
    Row("fchmod", "EPERM EROFS EIO", (EVERY,), "?" + REPORT),
    Row("fcntl", "EINVAL EPERM EMFILE", (EVERY, EVERY_1), "cannot open a socket", ("1", "2", "1+"), is_refused=True),
    Row("socket,bind,setsockopt", "EACCES EMFILE ENOBUFS ENOMEM EAFNOSUPPORT ENOSYS", (EVERY,), "cannot open a socket",
        ("1",), is_refused=True),
    Row("recvmsg", "EAGAIN EINTR ENOMEM ENOBUFS EIO", (EVERY, EVERY_1), "?.", ("1", "2")),
    Row("getcwd", "ENOENT EACCES ENOMEM", (EVERY,), "?.", ("1",)),
    Row("getsid", "ESRCH EPERM ENOSYS", (EVERY,), "?.", ("1",)),
    Row("getrandom", "ENOSYS EINTR", (EVERY,), "?.", ("1",)),
    Row("getrandom", "EAGAIN", (EVERY,), "cannot open a socket", ("1",), is_refused=True),
    Row("ioctl", "EIO ENOTTY EBADF", (START, EVERY), "?.", ("1", "2")),
]  # fmt: skip
LEFT_OUT = {
    "exit_group": "returns to nobody",
    "mmap munmap brk mremap mprotect": "the interpreter's memory, for want of which CPython itself may crash",
    "restart_syscall": "the kernel's own",
    "readv": "the gate's",
    "close": "the descriptor is free whatever it returns (close(2))",
    "lseek getpid gettid getppid getpgrp getuid geteuid getgid getegid getsockname": "no error, but for a bad address or descriptor",
    "futex madvise prlimit64 sysinfo uname": "the C library's, which goes on without",
}
CASES = [pytest.param(row, error, id=f"{row.calls}-{error}-{number}")
         for number, row in enumerate(TABLE) if row.since <= sys.version_info for error in row.errors.split()]  # fmt: skip


@pytest.fixture(scope="session")
def tracing() -> None:
    """Skip where nothing can be traced; in CI that is a failure."""
    words = ["strace", "-qq", "-o", "/dev/null", "true"]
    if shutil.which("strace") and subprocess.run(words, check=False, capture_output=True).returncode == 0:
        return
    assert not os.environ.get("CI"), "nothing can be traced"
    pytest.skip("nothing can be traced: needs strace and ptrace(2)")


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_gate(tmp_path_factory.mktemp("gate"))


@pytest.fixture
def trace(tracing: None, namespaces: None, gate: str, tmp_path: Path, started: list[Running]) -> Callable[..., Outcome]:
    """Run tinyinit from a place on under a strace with these options."""
    numbers = count()

    def run_traced(place: Place, options: list[str], may_leave: bool = False) -> Outcome:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        arguments, command = words(place, folder, gate)
        running = Running(arguments, as_pid_1=place.as_pid_1, command=command, stdin=subprocess.PIPE)
        started.append(running)
        return run(running, place, options, folder / "strace", may_leave)

    return run_traced


def problems(row: Row, outcome: Outcome) -> list[str]:
    """What is not as it is to be."""
    lines, ran = outcome.err.splitlines(), "ready (pid: " in outcome.out
    said = [line for line in lines if re.search(row.says.lstrip("?") or UNFORESEEN, line)]
    return [
        *([] if "(INJECTED)" in outcome.log or row.may_be_missed else ["the call was not made"]),
        *([] if ran != row.is_refused else ["COMMAND was refused" if row.is_refused is False else "COMMAND ran"]),
        *([] if outcome.status in ((125, 126, 127) if row.is_refused else (ENDS,)) else [f"status {outcome.status}"]),
        *([] if all(line.startswith("tinyinit: ") for line in lines) else ["a line of somebody else"]),
        *(["it is not said"] if row.says and not row.says.startswith("?") and not said else []),
        *(["an error that was not foreseen"] if said and not row.says else []),
        *(["more than one line"] if row.is_refused and len(lines) != 1 else []),
        *(["somebody is left"] if outcome.leaves and not row.leaves else []),
        *(["orphans were not reaped"] if outcome.zombies else []),
    ]


@pytest.mark.parametrize(("row", "error"), CASES)
def test_the_status_comes_back_whatever_fails(row: Row, error: str, trace: Callable[..., Outcome]) -> None:
    calls = ",".join(f"?{name}" for name in row.calls.split(","))
    cases = [(place, when) for place in row.places for when in row.when]

    def fail(case: tuple[Place, str]) -> Outcome:
        place, when = case
        inject = f"inject={calls}:error={error}:when={when}"
        options = [*(["-f"] if row.follows else []), "-e", f"trace={calls}", "-e", inject]
        return trace(place, options, row.leaves)

    with ThreadPoolExecutor(4) as pool:
        outcomes = dict(zip(cases, pool.map(fail, cases)))
    bad = {f"{place} {when}": (problems(row, each), each[:3]) for (place, when), each in outcomes.items()}
    assert not any(found for found, _ in bad.values()), {case: each for case, each in bad.items() if each[0]}


@pytest.mark.parametrize("place", [START, START_1, EVERY, EVERY_1, FORK], ids=str)
def test_every_call_is_in_the_table(place: Place, trace: Callable[..., Outcome]) -> None:
    outcome = trace(place, [])
    assert outcome.status == ENDS
    made = set(re.findall(r"^(\w+)\(", outcome.log, re.MULTILINE))
    assert {"rt_sigprocmask", "wait4", "exit_group"} <= made
    assert made - {name for row in TABLE for name in row.calls.split(",")} - set(" ".join(LEFT_OUT).split()) == set()


@pytest.mark.parametrize("as_pid_1", [False, True], ids=["subreaper", "pid1"])
def test_what_was_said_before_the_first_look_is_heard(
    as_pid_1: bool, tracing: None, namespaces: None, gate: str, tmp_path: Path, started: list[Running]
) -> None:
    """A signal takes tinyinit so long that COMMAND has ended when the first look is due, for which no SIGCHLD is needed."""
    job = program("say", "print:ready", "read:", "READY=1", "STATUS=done")
    running = Running(["-v", "--notify", "--", *job], as_pid_1=as_pid_1, command=[gate], stdin=subprocess.PIPE)
    started.append(running)
    running.read_until("gate\n")
    pid = running.pid
    delays = ("-e", "inject=chdir:delay_exit=500000", "-e", "inject=kill:delay_exit=1000000")
    with attach(pid, "-o", str(tmp_path / "strace"), "-e", "trace=chdir,kill", *delays):
        running.go_on()
        running.read_until("ready\n")
        running.send(signal.SIGCONT)
        wait_until(lambda: not is_pending(pid, signal.SIGCONT), "tinyinit to forward it")
        running.go_on()
        assert running.process.wait(BOUND) == 3
    assert re.findall("COMMAND says (.*)", running.end()[2]) == ["READY=1", "STATUS=done"]
