"""tinyinit soaked: `make soak`, or `python integration/soak/soak.py [OPTION]...`.

Loads and looks take turns for as long as SOAK says: a number of hours, or 60s, 10m, 2h; ten minutes by default. A load:
each subject gets 500 orphans a second, signals at random, is stopped and continued, and its COMMAND executes itself; the
one in Docker also gets programs by `docker exec`, and children that are killed for want of memory. A look, at rest:
nothing is left unreaped, no signal was lost or doubled, and what a signal's way takes, memory, descriptors.

Needed: a C compiler, unshare of util-linux, root; and for what is in Docker an engine, or dockerd to start one.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("integration", "integration/bench", "tests")]

import images  # noqa: E402
import machine  # noqa: E402
import pytest  # noqa: E402
from engine import Engine, any_engine  # noqa: E402
from program import end_as_on_ctrl_c, put_into_readme  # noqa: E402
from subject import Broken, FirstProcess, InDocker, Subject, is_docker_possible  # noqa: E402

from helpers.running import INSTALLED  # noqa: E402

BEGIN, END = "<!-- soak: make soak README=1 writes what follows -->\n", "<!-- soak: up to here -->"
UNITS = {"": 3600, "s": 1, "m": 60, "h": 3600}
SECONDS = 600.0
LONGEST_TURN = 30.0  # seconds, of which a look takes what it takes
LEAST_TURNS = 4
WARM_UP, LONGEST_WARM_UP = 0.25, 4  # turns, as a share of all: then every path has run, and Python has its arenas
BETWEEN_LINES = 5.0  # seconds
LEAST_JUDGED = 120.0  # seconds: in a shorter run memory and trips are only told
MOST_GROWTH = 64  # KiB
LONGEST_TRIP = 0.1  # seconds
IDLE = 0.5  # of the processors' time others may take, while a signal's way is measured, or it says nothing of us
WATCHFUL = (
    "--orphans",
    "warn",
    "--orphan-ttl",
    "1s",
    "--zombies",
    "nudge",
    "--zombie-ttl",
    "1s",
    "--grace",
    "300ms",
    "-q",
)
QUICK = ("--grace", "300ms", "-q")


class Look:
    """What was seen of a subject at rest."""

    def __init__(self, subject: Subject) -> None:
        begin, busy = time.monotonic(), processor_time()
        self.trips = subject.measure_trips()
        share = (processor_time() - busy) / (time.monotonic() - begin) / os.cpu_count()  # type: ignore[operator]
        self.was_idle = share <= IDLE
        self.resources = subject.resources()


def processor_time() -> float:
    """Seconds that all processors have worked since boot (proc(5))."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def duration(text: str) -> float:
    """Seconds. ValueError if it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise ValueError(f"SOAK is {text!r}; it can be a number of hours, or such as 60s, 10m or 2h")
    return float(match[1]) * UNITS[match[2]]


def compile_load(folder: Path) -> Path:
    """Build load.c, so that it runs in any container."""
    path = folder / "load"
    source = Path(__file__).with_name("load.c")
    subprocess.run(["cc", "-O2", "-Wall", "-static", "-o", str(path), str(source)], check=True)
    return path


@contextmanager
def docker(image: str, is_wanted: bool) -> Iterator[tuple[Engine, str] | None]:
    """An engine and an image with tinyinit; None where there can be none, and it is said why."""
    with ExitStack() as stack:
        try:
            if reason := is_docker_possible() if is_wanted else "as was asked for":
                raise Broken(reason)
            engine = stack.enter_context(any_engine())
            if not image:
                say("docker: building an image")
                image = stack.enter_context(images.for_a_while(engine, f"tinyinit-soak-{os.getpid()}"))
            found = engine, image
        except (Broken, pytest.skip.Exception, pytest.fail.Exception) as reason:
            say(f"docker: left out: {reason}")
            yield None
        else:
            yield found


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Soak:
    """All subjects, and what was seen of them."""

    def __init__(self, subjects: list[Subject], seconds: float) -> None:
        self.subjects, self.seconds = subjects, seconds
        self.begin, self.first = time.monotonic(), 0  # the look after the warm-up
        self.looks: dict[Subject, list[Look]] = {subject: [] for subject in subjects}
        self.last_line = 0.0

    def run(self) -> None:
        """Loads and looks in turns; and then the end."""
        turns = max(LEAST_TURNS, round(self.seconds / LONGEST_TURN))
        self.first = min(int(turns * WARM_UP), LONGEST_WARM_UP) - 1
        for turn in range(1, turns + 1):
            self.load(self.begin + self.seconds * turn / turns - min(2.0, self.seconds / turns / 3))
            for subject in self.alive():
                with noted(subject):
                    subject.rest()
            for subject in self.alive():
                with noted(subject):
                    self.looks[subject].append(Look(subject))
                    if surplus := subject.surplus():
                        raise Broken(f"signals that came more or less often than they were sent: {surplus}")
            self.progress(turn == turns)
        for subject in self.alive():
            with noted(subject):
                subject.end()

    def alive(self) -> list[Subject]:
        return [subject for subject in self.subjects if not subject.failures]

    def load(self, end: float) -> None:
        """Everything at once, until then."""

        def act(subject: Subject) -> None:
            with noted(subject):
                subject.tell(b"+")
                while time.monotonic() < end:
                    subject.act()

        threads = [threading.Thread(target=act, args=[subject], daemon=True) for subject in self.alive()]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)
                self.progress()

    def progress(self, is_last: bool = False) -> None:
        """A line with the figures so far, now and then."""
        if time.monotonic() - self.last_line < BETWEEN_LINES and not is_last:
            return
        self.last_line = time.monotonic()
        orphans = sum(subject.came[200] for subject in self.subjects) * 100
        signals, stops = (sum(subject.counts[name] for subject in self.subjects) for name in ("signals", "stops"))
        trips = [trip for looks in self.looks.values() for look in looks for trip in look.trips]
        growth = max(self.growth(subject)[0] for subject in self.subjects)
        failed = sum(bool(subject.failures) for subject in self.subjects)
        trip = f"{max(trips) * 1e3:.1f} ms" if trips else "-"
        passed = time.monotonic() - self.begin
        say(
            f"{passed:5.0f} of {self.seconds:.0f} s: {orphans:,} orphans, {signals:,} signals, {stops} stops, "
            f"longest trip {trip}, memory {growth:+} KiB, {failed} failed"
        )

    def growth(self, subject: Subject) -> tuple[int, int]:
        """KiB of private memory and descriptors more than after the warm-up, of the tinyinit that has grown most."""
        looks = [look.resources for look in self.looks[subject][self.first :]]
        both = list(zip(*looks[:1], *looks[-1:]))
        memory, descriptors = ([now[kind] - first[kind] for first, now in both] for kind in (0, 1))
        return max(memory, default=0), max(descriptors, default=0)

    def idle_trips(self, subject: Subject) -> list[float]:
        return [trip for look in self.looks[subject] if look.was_idle for trip in look.trips]

    def missed(self) -> list[str]:
        """What was not as it is to be."""
        found = []
        for subject in self.subjects:
            found += [f"{subject.name}: {failure}" for failure in subject.failures]
            growth, descriptors = self.growth(subject)
            is_judged = self.seconds >= LEAST_JUDGED
            if growth > MOST_GROWTH and is_judged:
                found.append(f"{subject.name}: private memory has grown by {growth} KiB")
            if descriptors:
                found.append(f"{subject.name}: {descriptors} descriptors leaked")
            if (trip := max(self.idle_trips(subject), default=0.0)) > LONGEST_TRIP and is_judged:
                found.append(f"{subject.name}: a signal took {trip * 1e3:.0f} ms while the machine was idle")
            if said := subject.said():
                found.append(f"{subject.name}: said {said!r}")
        return found

    def table(self, missed: list[str]) -> str:
        """All of it in Markdown."""
        head = ["", "orphans", "signals", "lost", "stopped", "execs", "out of memory", "memory, KiB", "descriptors", "trip, idle: median, longest", "status"]  # fmt: skip
        rows = [head, ["---", *["---:"] * (len(head) - 1)]]
        for subject in self.subjects:
            counts, trips = subject.counts, self.idle_trips(subject)
            execs = counts["execs"] + counts["docker execs"]
            lost = sum((subject.sent - subject.came).values())
            trip = f"{statistics.median(trips) * 1e3:.2f}, {max(trips) * 1e3:.1f} ms" if trips else "never idle"
            cells = (counts["orphans"], counts["signals"], lost, counts["stops"], execs, counts["killed for memory"])
            growth = [f"{more:+}" for more in self.growth(subject)]
            rows.append([subject.name, *(f"{cell:,}" for cell in cells), *growth, trip, f"{subject.status}"])
        looks = [look for looks in self.looks.values() for look in looks]
        idle = sum(look.was_idle for look in looks)
        lines = [
            f"- machine: {machine.describe()}",
            f"- {self.seconds:,.0f} s; the machine was idle at {idle} of {len(looks)} looks, and only these trips count",
            *(f"- **missed**: {each}" for each in missed),
            *(
                []
                if missed
                else ["- nothing missed: no zombie, no signal lost or doubled, every status as it is to be"]
            ),
        ]
        return "\n".join([*lines, "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


@contextmanager
def noted(subject: Subject) -> Iterator[None]:
    """What goes wrong is that subject's failure, and the others go on."""
    try:
        yield
    except (Broken, AssertionError, OSError) as failure:
        subject.failures.append(f"{type(failure).__name__}: {failure}; {subject.states()}")
        say(f"{subject.name}: {subject.failures[-1]}")


def make_subjects(folder: Path, load: Path, seed: int, found: tuple[Engine, str] | None) -> list[Subject]:
    subreaper = [INSTALLED, *WATCHFUL, "--report", str(folder / "report.json"), "--"]
    nested = [INSTALLED, *QUICK, "--", INSTALLED, *QUICK, "--"]
    subjects: list[Subject] = [
        Subject("as subreaper, watching", subreaper, load, folder / "subreaper", seed),
        FirstProcess("as PID 1", [INSTALLED, *QUICK, "--"], load, folder / "pid1", seed + 1),
        FirstProcess("as PID 1, nested", nested, load, folder / "nested", seed + 2),
    ]
    if found:
        words = [*QUICK, "--", "tinyinit", *WATCHFUL, "--"]
        subjects.append(InDocker(*found, "in Docker, nested", words, load, folder / "docker", seed + 3))
    return subjects


def parse() -> tuple[argparse.Namespace, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="", help="an image with tinyinit in it, so that none is built")
    parser.add_argument("--without-docker", dest="docker", action="store_false", help="leave out what needs an engine")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="for the same things at random once more")
    parser.add_argument("--readme", action="store_true", help="put the figures into README.md")
    arguments = parser.parse_args()
    try:
        return arguments, duration(os.environ["SOAK"]) if os.environ.get("SOAK") else SECONDS
    except ValueError as failure:
        parser.error(str(failure))


def main() -> int:
    """Soak. Returns 1 if something is not as it is to be."""
    arguments, seconds = parse()
    end_as_on_ctrl_c()
    say(f"seed {arguments.seed}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tinyinit-soak-")))
        found = stack.enter_context(docker(arguments.image, arguments.docker))
        subjects = make_subjects(folder, compile_load(folder), arguments.seed, found)
        for subject in subjects:
            stack.callback(subject.close)
        for subject in subjects:
            subject.start()
        soak = Soak(subjects, seconds)
        soak.run()
        missed = soak.missed()
        text = soak.table(missed)
    print(text)
    if arguments.readme:
        put_into_readme(BEGIN, text, END)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
