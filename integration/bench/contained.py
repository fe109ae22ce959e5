"""An init as PID 1 of a namespace of its own, and what /proc says of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, cast

from contenders import environment

PATIENCE = 30.0  # seconds, for what takes milliseconds
NEEDED = ("setpriv", "unshare")  # util-linux

# When we die, unshare is killed, then the init, and with it its namespace. Without privileges, a namespace of users.
IN_A_NAMESPACE = [
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"),
    *(() if os.geteuid() == 0 else ("--user", "--map-root-user")),
    "--",
]


class Failure(Exception):
    """A measure cannot be taken: the reason, for people."""


class Contained:
    """A started init with its COMMAND, whose standard input and output are pipes. Ended on leaving the context."""

    def __init__(self, words: list[str]) -> None:
        missing = [name for name in NEEDED if not shutil.which(name)]
        if missing:
            raise Failure(f"{' and '.join(missing)} of util-linux must be installed")
        self.words = words
        self.files = contextlib.ExitStack()
        self.errors = self.files.enter_context(tempfile.TemporaryFile())
        self.process = subprocess.Popen(
            [*IN_A_NAMESPACE, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment(),
            bufsize=0,
            start_new_session=True,  # Ctrl-C is ours: it is we who end it
        )
        self.input = self.files.enter_context(cast("IO[bytes]", self.process.stdin))
        self.output = self.files.enter_context(cast("IO[bytes]", self.process.stdout))

    def __enter__(self) -> Contained:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for pid in self.children():
                os.kill(pid, signal.SIGKILL)
            self.process.wait(PATIENCE)  # first the namespace, so that nothing of it outlives us
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        finally:
            self.files.close()

    def children(self) -> list[int]:
        """The init, once there is one, as unshare's only child."""
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    @property
    def pid(self) -> int:
        """The init's PID, as seen from here. Valid once COMMAND has said something."""
        try:
            return self.children()[0]
        except (OSError, IndexError):
            raise self.failed("has ended") from None

    def read(self, size: int) -> bytes:
        """So many bytes of COMMAND's standard output."""
        text = b""
        while len(text) < size:
            chunk = self.output.read(size - len(text))
            if not chunk:
                raise self.failed("said too little")
            text += chunk
        return text

    def read_line(self) -> str:
        """A line of COMMAND's standard output."""
        line = self.output.readline()
        if not line.endswith(b"\n"):
            raise self.failed("said too little")
        return line.decode().strip()

    def write_line(self) -> None:
        """An empty line to COMMAND, which waits for one."""
        self.input.write(b"\n")

    def failed(self, what: str) -> Failure:
        """The Failure that names this init and its COMMAND, with what they wrote to standard error."""
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip()
        return Failure(f"`{' '.join(self.words)}` {what}{f': {said}' if said else ''}")


def voluntary_switches(pid: int) -> int:
    """How often a process has gone to sleep, which is one wake-up each (proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "voluntary_ctxt_switches":
            return int(value)
    raise Failure("this kernel does not count context switches in /proc/PID/status")


def processor_time(pid: int) -> float:
    """Seconds that a process has run: exact where the kernel says so, else in ticks (proc(5))."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except OSError:
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
