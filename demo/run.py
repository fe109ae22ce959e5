"""The article's scenario for real: `make demo`, or this file run by a Python that tinyinit is installed in.

start.sh runs sub.sh, and kill -9 hits start.sh: first without an init, then with tinyinit. Each half has a PID
namespace of its own. What is said is checked, on the very table that is shown. Nothing is left running.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

TINYINIT = str(Path(sysconfig.get_path("scripts")) / "tinyinit")
LAUNCHED = re.compile(r"/.*/tinyinit-python")  # what the launcher becomes: an interpreter, and its options
APP = "./start.sh & exec sleep infinity"  # an app that knows nothing of other processes, as most do
PATIENT_APP = "trap : TERM; ./start.sh; sleep infinity; sleep 4"  # one that lives on for a while after TERM
TIMEOUT = 10.0  # seconds, for what takes milliseconds
TIME_TO_REACT = 0.5  # seconds, where nothing is to happen

# ---- what ps shows --------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A process."""

    pid: str
    ppid: str
    pgid: str
    sid: str
    stat: str
    cmd: str


class Table(dict[str, Row]):
    """Processes by PID."""

    def __str__(self) -> str:
        rows = [[name.upper() for name in Row._fields], *self.values()]
        return "\n".join("{:>7} {:>6} {:>6} {:>6} {:<4} {}".format(*row) for row in rows)

    def pid_of(self, script: str) -> str:
        """The PID of the shell that runs a script; empty if there is none."""
        return "".join(row.pid for row in self.values() if row.cmd == f"/bin/sh ./{script}")

    def parent_of(self, pid: str) -> str:
        """The PID of a process's parent; empty if there is no such process."""
        return self[pid].ppid if pid in self else ""

    def zombies(self) -> set[str]:
        """The PIDs of those that are dead and not waited for."""
        return {row.pid for row in self.values() if row.stat.startswith("Z")}


# ---- where it runs --------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """The words before a command that make a PID namespace for it, and those that enter the one that was made."""

    make: tuple[str, ...]
    enter: tuple[str, ...]


NAMESPACE = ("--pid", "--fork", "--mount-proc", "--kill-child")
AS_ROOT = Place(("unshare", *NAMESPACE), ("nsenter",))
AS_USER = Place(("unshare", "--user", "--map-root-user", *NAMESPACE), ("nsenter", "--user", "--preserve-credentials"))
HERE = Place((), ())


def choose_place() -> Place:
    """A PID namespace if one can be made."""
    for place in (AS_ROOT, AS_USER):
        if subprocess.run([*place.make, "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0:
            return place
    print("No PID namespace can be made here (that takes root, or user namespaces). So PIDs are this machine's, the")
    print("app is an ordinary process, and tinyinit is a subreaper.\n")
    return HERE


class Scenario:
    """What a command starts: it is PID 1 of a namespace or, where there is none, leader of a session."""

    def __init__(self, place: Place, log: IO[bytes], command: tuple[str, ...]) -> None:
        self.log = Path(log.name)
        words, folder = [*place.make, "setsid", *command], Path(__file__).parent
        self.process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
        pid = self.process.pid
        whose = (f"--target={pid}", "--mount", f"--pid=/proc/{pid}/ns/pid_for_children")
        self.enter = (*place.enter, *whose) if place.enter else ()
        self.first = "1" if place.make else str(pid)

    def find_scripts(self) -> None:
        """Wait until both run; `start` and `sub` are their PIDs."""
        end = time.monotonic() + TIMEOUT
        while "sub.sh: ready" not in self.said() and time.monotonic() < end:
            time.sleep(0.05)
        table = self.table()
        self.start, self.sub = table.pid_of("start.sh"), table.pid_of("sub.sh")

    def inside(self, *words: str) -> str:
        """What a command prints that runs where the scenario does."""
        return subprocess.run([*self.enter, *words], check=False, stdout=subprocess.PIPE, text=True).stdout

    def table(self) -> Table:
        """The processes of now."""
        shown = self.inside("ps", "--sid", self.first, "--format", ",".join(Row._fields))
        rows = [Row(*LAUNCHED.sub("tinyinit", line).split(None, 5)) for line in shown.splitlines()[1:]]
        return Table({row.pid: row for row in rows})

    def said(self) -> str:
        """What the processes have written so far."""
        return self.log.read_text()

    def kill(self, name: str, pid: str) -> None:
        """Send a signal to a process."""
        self.inside("kill", f"-{name}", pid)

    def await_table(self, claim: str, is_so: Callable[[Table], bool]) -> Table:
        """The first table of which the claim is true; SystemExit if there is none in time."""
        end = time.monotonic() + TIMEOUT
        while True:
            table = self.table()
            if is_so(table):
                return table
            if time.monotonic() > end:
                raise SystemExit(f"The demo failed, for this is not so: {claim}\n{table}\n{self.said()}")
            time.sleep(0.05)

    def show(self, claim: str, is_so: Callable[[Table], bool]) -> None:
        """Say something of the processes, and show them, as soon as it is so."""
        print(f"{claim}\n{self.await_table(claim, is_so)}\n", flush=True)

    def clean_up(self) -> None:
        """End all that is still there: with unshare its namespace, or else the session."""
        if not self.enter:
            subprocess.run(["pkill", "--signal", "KILL", "--session", self.first], check=False)
        self.process.kill()
        self.process.wait()


@contextmanager
def started(place: Place, *command: str) -> Iterator[Scenario]:
    """Start the scenario, and end it whatever happens."""
    with tempfile.NamedTemporaryFile() as log:
        scenario = Scenario(place, log, command)
        try:
            scenario.find_scripts()
            yield scenario
        finally:
            scenario.clean_up()


# ---- the scenario ---------------------------------------------------------------------------------------------


def without_tinyinit(place: Place) -> None:
    """An app has started start.sh."""
    with started(place, "sh", "-c", APP) as it:
        print("WITHOUT TINYINIT\n")
        it.show(
            f"PID {it.first} is an app (here: sleep), which has started start.sh, which runs sub.sh:",
            lambda table: table.parent_of(it.sub) == it.start and table.parent_of(it.start) == it.first,
        )
        it.kill("KILL", it.start)
        it.show(
            "kill -9 start.sh: it is a zombie (Z) that nobody reaps, and sub.sh an orphan that nobody manages:",
            lambda table: table.zombies() == {it.start} and table.parent_of(it.sub) not in ("", it.start),
        )
        it.kill("TERM", it.first)
        time.sleep(TIME_TO_REACT)
        it.await_table("nobody tells sub.sh", lambda table: it.sub in table and "TERM" not in it.said())
        print(
            f"kill -TERM {it.first}, as `docker stop` does: nobody tells sub.sh. It will be killed where it stands.\n\n"
        )


def with_tinyinit(place: Place) -> None:
    """Have tinyinit start start.sh; where it is a subreaper an app does that, for it ends with its main child."""
    command, status = (["./start.sh"], 137) if place.make else (["sh", "-c", PATIENT_APP], 0)
    with started(place, TINYINIT, "-v", "--", *command) as it:
        print("WITH TINYINIT\n")
        it.show(
            f"PID {it.first} is tinyinit, which has started start.sh, which runs sub.sh:",
            lambda table: table.parent_of(it.sub) == it.start,
        )
        it.kill("KILL", it.start)
        if not place.make:
            it.await_table("sub.sh is adopted", lambda table: table.parent_of(it.sub) == it.first)
            it.kill("TERM", it.first)
        it.show(
            "kill -9 start.sh: it was reaped, no zombie is left. tinyinit has adopted sub.sh, and sent it TERM:",
            lambda table: (
                it.start not in table
                and not table.zombies()
                and table.parent_of(it.sub) == it.first
                and "sub.sh: got TERM" in it.said()
            ),
        )
        ended, said = it.process.wait(TIMEOUT), it.said()
        if ended != status or f"reaped orphan {it.sub}" not in said or "sub.sh: tidied up" not in said:
            raise SystemExit(f"The demo failed: sub.sh was not reaped, or tinyinit's status is {ended}\n{said}")
        print(f"sub.sh has ended in its own time, and was reaped. tinyinit ended with {ended}. In their own words:")
        print(textwrap.indent(said, "    "))


def main() -> int:
    """Both halves; SystemExit with what is not so, or so that all is ended if it is we who are signalled."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    place = choose_place()
    without_tinyinit(place)
    with_tinyinit(place)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
