"""A tinyinit whose own system calls strace(1) makes fail: none of the interpreter's start, and none of COMMAND's."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

from helpers.running import INSTALLED, Running, children, program, state, wait_until

BOUND = 60.0  # seconds: what takes longer hangs
GATE = 'import posix; posix.write(1, b"gate\\n"); posix.readv(0, [bytearray(1)])\nmain()'
# orphans that end; then, once all are in place, what is left behind: in a session of its own, below that, in the group
COMMAND = """echo "ready (pid: $$)"; read line; (true & true &); "$@"
x=$(setsid sh -c 'sleep 60 >&2 & sleep 60 >&2 & echo up; exec >&2; wait' &)
sleep 60 & echo "all there"; read line; exit 7"""
ENDS = 7
LOADED = 0.02  # seconds: four times LOADING_TIME of init.py
LISTENING = ["sh", "-c", 'export LISTEN_PID=$$; exec "$0" "$@"']  # has COMMAND started by fork(2), not posix_spawn(3)


class Place(NamedTuple):
    """Of which tinyinit the calls fail, and from when on."""

    moment: str  # "start": from main() on; "running": when COMMAND runs, and tinyinit sleeps
    options: str  # "plain"; "every" option; or "fork"
    as_pid_1: bool

    def __str__(self) -> str:
        return f"{self.moment}-{self.options}-{'pid1' if self.as_pid_1 else 'subreaper'}"


class Outcome(NamedTuple):
    status: int
    out: str
    err: str
    log: str  # strace's
    leaves: bool  # whether somebody still holds standard output
    zombies: bool  # whether orphans that had ended were not reaped


def make_gate(folder: Path) -> str:
    """A tinyinit which, when it is about to call main(), says so, and waits for a byte."""
    script = Path(INSTALLED + "-python").read_text()
    for old, new in (("__file__[:-20]", repr(str(Path(INSTALLED).parent.parent))), ("\nmain()\n", f"\n{GATE}\n")):
        assert script.count(old) == 1
        script = script.replace(old, new)
    shutil.copy(INSTALLED, folder / "tinyinit")
    (folder / "tinyinit-python").write_text(script)
    return str(folder / "tinyinit")


def every_option(folder: Path) -> list[str]:
    """All that makes tinyinit do more."""
    for name in ("report", "log"):
        (folder / name).touch()
    return [
        *("-v", "--summary", "--report", str(folder / "report"), f"--termination-log={folder / 'log'}"),
        *("--notify", "--timeout", "600", "--watchdog", "600", "--kill-after", "5", "--die-with-parent"),
        *("--orphans", "warn", "--orphan-ttl", "0.4", "--zombies", "warn", "--zombie-ttl", "0.4", "--oom-is-failure"),
    ]


def is_asleep(pid: int) -> bool:
    """Whether a tinyinit sleeps in rt_sigtimedwait(2), and for longer than until it loads what its end needs."""
    try:
        words = Path(f"/proc/{pid}/syscall").read_text().split()
        if words[:1] not in (["128"], ["137"]):
            return False
        if words[3] == "0x0":
            return True
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            seconds, nanoseconds = struct.unpack("qq", os.pread(memory.fileno(), 16, int(words[3], 16)))
    except OSError:
        return False
    return bool(seconds + nanoseconds / 1e9 > LOADED)


def attach(pid: int, *options: str) -> subprocess.Popen[bytes]:
    """A strace of this process, once it is in place; not of its children, without -f."""
    strace = subprocess.Popen(["strace", *options, "-p", str(pid)], stderr=subprocess.PIPE)
    assert strace.stderr
    line = strace.stderr.readline()
    assert line.endswith(b" attached\n"), line
    return strace


def has_zombies(pid: int) -> bool:
    return any(state(child) == "Z" for child in children(pid))


def run(running: Running, place: Place, options: list[str], log: Path, may_leave: bool) -> Outcome:
    """From the gate, or COMMAND's ready line, to the end under strace."""
    zombies = False
    if place.moment == "start":
        running.read_until("gate\n", BOUND)
    else:
        running.read_until(")\n", BOUND)
        wait_until(lambda: is_asleep(running.pid), "tinyinit to sleep", BOUND)
    pid = running.pid
    strace = attach(pid, "-o", str(log), *options)
    try:
        if place.moment == "start":
            running.go_on()
            running.read_until(")\n", BOUND)
        for number in (signal.SIGURG, signal.SIGWINCH, signal.SIGCONT):
            running.send(number)
        running.go_on()
        running.read_until("all there\n", BOUND)
        if place.moment == "running":
            wait_until(lambda: not has_zombies(pid), "orphans to be reaped", BOUND / 4)
        running.go_on()
    except (AssertionError, BrokenPipeError, ProcessLookupError):
        zombies = place.moment == "running" and has_zombies(pid)  # else it was refused
    try:
        status = running.process.wait(BOUND)
    finally:
        strace.kill() if strace.poll() is None and running.process.poll() is None else strace.wait(BOUND)
        strace.wait()
        if strace.stderr:
            strace.stderr.close()
    leaves = not running.read_rest(0.0 if may_leave else BOUND / 4)
    assert running.process.stderr
    os.set_blocking(running.process.stderr.fileno(), False)
    err = (running.process.stderr.read() or b"").decode()
    return Outcome(status, running.output.decode(), err, log.read_text(), leaves, zombies)


def words(place: Place, folder: Path, gate: str) -> tuple[list[str], list[str]]:
    """The options and COMMAND, and the tinyinit that is given them."""
    says = program("say", "READY=1", "STATUS=up") if place.options == "every" else ["true"]
    options = ["--grace", "300ms", *(every_option(folder) if place.options == "every" else [])]
    tinyinit = gate if place.moment == "start" else INSTALLED
    return (
        [*options, "--", "/bin/sh", "-c", COMMAND, "sh", *says],
        [*LISTENING, tinyinit] if place.options == "fork" else [tinyinit],
    )
