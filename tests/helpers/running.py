"""A tinyinit that a test has started, and what /proc says of processes."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

INSTALLED = str(Path(sysconfig.get_path("scripts")) / "tinyinit")
# a link, see conftest.form; what is left of a killed run has another name, though in a PID namespace PIDs come again
TINYINIT = str(Path(tempfile.gettempdir()) / f"tinyinit-tests-{os.getpid()}-{os.urandom(4).hex()}" / "tinyinit")
PYTHON = (sys.executable, "-I", "-S")
PROGRAMS = Path(__file__).parent
UNSHARE = (shutil.which("unshare") or "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--")
TIMEOUT = float(os.environ.get("TESTS_TIMEOUT", "30"))  # seconds; tools/mutate.py waits for less


def as_user(number: int) -> tuple[str, ...]:
    """Who is not root, with the one capability that lets it read an interpreter in root's home.

    Where it is about a user's limit of processes each test takes another number: others run beside it.
    """
    return (
        *("setpriv", f"--reuid={number}", "--regid=65534", "--clear-groups"),
        *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
    )


UNPRIVILEGED = as_user(65534)  # nobody


def program(name: str, *arguments: object) -> list[str]:
    """The words that run a helper program of this folder."""
    words = [str(int(each) if isinstance(each, signal.Signals) else each) for each in arguments]
    return [*PYTHON, str(PROGRAMS / f"{name}.py"), *words]


def wait_until(condition: Callable[[], Any], what: str, timeout: float = TIMEOUT, pause: float = 0.005) -> Any:
    """The first true value of `condition()`; AssertionError if there is none in time."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {timeout} s for {what}"
        time.sleep(pause)


def status_field(pid: int | str, field: str) -> str:
    """A line of /proc/PID/status; empty if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
    match = re.search(rf"^{field}:\s*(.*)$", text, re.MULTILINE)
    return match[1] if match else ""


def state(pid: int) -> str:
    """`S`, `T`, `Z`...; empty if there is no such process."""
    return status_field(pid, "State")[:1]


def is_alive(pid: int) -> bool:
    """Whether it runs, sleeps or is stopped."""
    return state(pid) not in ("", "Z", "X")


def is_pending(pid: int, number: int) -> bool:
    """Whether a signal waits to be taken, by the process or its first thread."""
    masks = [int(status_field(pid, field) or "0", 16) for field in ("SigPnd", "ShdPnd")]
    return any(mask >> (number - 1) & 1 for mask in masks)


def is_settled(pid: int) -> bool:
    """Whether a tinyinit sleeps without a limit: in rt_sigtimedwait(2) with no timeout, its third argument."""
    try:
        words = Path(f"/proc/{pid}/syscall").read_text().split()
    except OSError:
        return False
    return words[:1] in (["128"], ["137"]) and words[3] == "0x0"  # the call's number on x86_64 and on AArch64


def private_memory(pid: int) -> int:
    """KiB that belong to this process alone."""
    return sum(
        map(int, re.findall(r"^Private_\w+:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    )


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        return found  # it has just ended
    return found


def descendants(pid: int) -> list[int]:
    """All processes below a process, zombies too."""
    found = [pid]
    for each in found:
        found += children(each)
    return found[1:]


def with_variable(name: str, value: str) -> list[int]:
    """All processes of the machine that have this variable; zombies have none."""
    entry, found = f"{name}={value}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if entry in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue  # it has just ended
    return found


def end_descendants(spared: Iterable[int] = ()) -> None:
    """Kill and reap all that this process has started, and what became its child since: it is a subreaper."""
    spared = set(spared)
    while True:
        left = [pid for pid in descendants(os.getpid()) if pid not in spared]
        if not left:
            return
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pid in set(left) & set(children(os.getpid())):
            try:
                os.waitpid(pid, os.WNOHANG)  # one may wait for another that is yet to be reaped: pid_namespaces(7)
            except ChildProcessError:
                continue
        time.sleep(0.001)


def split_line(err: str) -> tuple[str, str]:
    """Standard error without the line for people, and that line, of which there is to be one."""
    lines = err.splitlines(keepends=True)
    found = [line for line in lines if re.match(r"tinyinit: (main child '|\d+ process(es)? (that|of) )", line)]
    assert len(found) == 1, err
    return "".join(line for line in lines if line not in found), found[0]


class Running:
    """A started tinyinit: as PID 1 of a namespace of its own, or as subreaper."""

    def __init__(self, words: list[str], *, as_pid_1: bool, command: list[str] | None = None, **popen: Any) -> None:
        popen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | popen
        popen.setdefault("start_new_session", True)
        self.as_pid_1 = as_pid_1
        words = [*(UNSHARE if as_pid_1 else ()), *(command or [TINYINIT]), *words]
        self.process = cast("subprocess.Popen[bytes]", subprocess.Popen(words, **popen))
        self.output = b""

    @property
    def pid(self) -> int:
        """tinyinit's PID in the namespace of the test."""
        if not self.as_pid_1:
            return self.process.pid
        found: int = wait_until(lambda: children(self.process.pid), "unshare to fork")[0]
        return found

    @property
    def main(self) -> int:
        """The main child's PID in the namespace of the test."""
        found: int = wait_until(lambda: children(self.pid), "a main child")[0]
        return found

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def go_on(self) -> None:
        """Give a COMMAND that reads standard input, a pipe, the line that it waits for."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def read_until(self, text: str, timeout: float = TIMEOUT, times: int = 1) -> str:
        """All of standard output so far, once `text` is in it, so many times."""
        assert self.process.stdout is not None
        end = time.monotonic() + timeout
        while self.output.count(text.encode()) < times:
            ready = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]
            chunk = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert chunk, f"{text!r} did not come; standard output: {self.output!r}"
            self.output += chunk
        return self.output.decode()

    def read_rest(self, timeout: float = TIMEOUT) -> bool:
        """Read standard output to its end, which comes when nobody holds it any more; whether it came in time."""
        assert self.process.stdout is not None
        end = time.monotonic() + timeout
        while select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                return True
            self.output += chunk
        return False

    def wait_ready(self) -> int:
        """Wait for the program's `ready (pid: N)`; N."""
        match = re.search(r"ready \(pid: (\d+)\)", self.read_until(")\n"))
        assert match
        return int(match[1])

    def end(self, timeout: float = TIMEOUT) -> tuple[int, str, str]:
        """Wait for the end: exit status, the rest of standard output, standard error."""
        out, err = self.process.communicate(timeout=timeout)
        status = self.process.returncode
        return status if status >= 0 else 128 - status, (self.output + (out or b"")).decode(), (err or b"").decode()

    def close(self) -> None:
        """Give the pipes back; the processes have been ended."""
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()
        self.process.poll()
