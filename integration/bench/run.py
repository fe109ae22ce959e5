"""What an init costs, side by side: `make bench`, or `python integration/bench/run.py [--json FILE] [MEASURE]...`.

Every contender is measured in the same run, in turns, and speed is judged as a ratio of values of one round. So other
work on the machine slows all of them, and no figure depends on which machine it is. BENCH=quick takes a minute or so.
Needed: a C compiler, and setpriv and unshare of util-linux, for namespaces in which each init is PID 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import machine
import report
from contained import Failure
from contenders import INITS, OURS, installed, interpreter_of, version_of
from measures import MEASURES, SIZES, Bench, Figure

SOURCES = sorted(Path(__file__).resolve().parent.glob("*.c"))
BETWEEN_LINES = 5.0  # seconds, where progress is not on a terminal


def progress() -> Callable[[str], None]:
    """Says on standard error how far it is: on a terminal in one line, elsewhere in a line now and then."""
    last = 0.0

    def say(text: str) -> None:
        nonlocal last
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - last >= BETWEEN_LINES:
            last = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    return say


def note(text: str) -> None:
    """A line on standard error that stays."""
    print(f"{chr(13)}\033[K{text}" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def compile_helpers(folder: Path) -> None:
    """Build the C programs."""
    compiler = shutil.which("cc")
    if not compiler:
        raise Failure("there is no C compiler: `cc` must be installed")
    for source in SOURCES:
        subprocess.run([compiler, "-O2", "-Wall", "-o", str(folder / source.stem), str(source)], check=True)


def prepare(helpers: Path, size: str, say: Callable[[str], None]) -> Bench:
    """Find out who is here. Failure if we are not."""
    contenders = list(installed())
    here = {contender.name: contender for contender in contenders}
    for name, _ in INITS:
        if name not in here:
            note(f"{name} is not installed: left out")
    if OURS not in here:
        raise Failure("without tinyinit there is nothing to compare: `pip install .` first")
    compile_helpers(helpers)
    return Bench(SIZES[size], contenders, interpreter_of(here[OURS].words[0]), helpers, say)


def facts(bench: Bench) -> dict[str, str]:
    """The machine and the versions."""
    return {
        "machine": machine.describe(),
        "load before": f"{machine.load():.2f}",
        "interpreter": version_of(bench.interpreter),
        **{contender.name: contender.version for contender in bench.contenders},
    }


def measure(bench: Bench, names: list[str]) -> tuple[list[Figure], list[str]]:
    """The figures of these measures, and what went wrong."""
    figures: list[Figure] = []
    failures: list[str] = []
    for name in names:
        try:
            figures += MEASURES[name](bench)
        except (Failure, OSError, subprocess.TimeoutExpired) as failure:
            failures.append(f"{name} could not be measured: {failure}")
            note(failures[-1])
        else:
            note(f"{name}: done")
    return figures, failures


def as_json(known: dict[str, str], figures: list[Figure], verdicts: list[report.Verdict]) -> str:
    """All raw figures."""
    return json.dumps(
        {
            "facts": known,
            "figures": {
                figure.key: {"title": figure.title, "unit": figure.unit, "values": figure.values} for figure in figures
            },
            "targets": [verdict._asdict() for verdict in verdicts],
        },
        indent=1,
        ensure_ascii=False,
    )


def terminated(number: int, frame: object) -> NoReturn:
    """On a termination signal, end as on Ctrl-C, so that everything that was started is ended."""
    raise SystemExit(128 + number)


def main() -> int:
    """Run the benchmark. Returns 0 whether or not the targets are met, 1 if something could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"{', '.join(MEASURES)} (default: all)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="where to write the raw figures")
    arguments = parser.parse_args()
    names: list[str] = arguments.measures or list(MEASURES)
    size = os.environ.get("BENCH") or "full"
    if size not in SIZES:
        parser.error(f"BENCH is {size!r}; it can be {' or '.join(SIZES)}")
    if not set(names) <= set(MEASURES):
        parser.error(f"no such measure; there are {', '.join(MEASURES)}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, terminated)

    try:
        with tempfile.TemporaryDirectory(prefix="tinyinit-bench-") as folder:
            bench = prepare(Path(folder), size, progress())
            known = facts(bench)
            figures, failures = measure(bench, names)
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT

    known["load after"] = f"{machine.load():.2f}"
    verdicts = report.judge_all(figures)
    print("\n".join(f"- {name}: {value}" for name, value in known.items()))
    print("\nMedians; in brackets the middle half of the rounds.\n")
    print(report.markdown(report.rows(figures)), "\n")
    print(report.markdown(report.verdict_rows(verdicts)))
    print(*failures, sep="\n")
    if arguments.json:
        arguments.json.write_text(as_json(known, figures, verdicts))
    return 1 if failures else 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        raise SystemExit(main())
