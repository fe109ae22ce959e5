"""What an init costs, side by side: `make bench`, or `python integration/bench/run.py [OPTION]... [MEASURE]...`.

Every contender is measured in the same run, in turns, and speed is judged as a ratio of values of one round. So other
work on the machine slows all of them, and no figure depends on which machine it is. BENCH=quick takes two minutes.
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

import charts
import machine
import report
from contained import Failure
from contenders import OURS, PYZ, installed, installed_supervisors, interpreter_of, missing, version_of
from measure_docker import measure_docker
from measure_orphans import measure_steady, measure_storm, measure_teardown
from measure_rest import measure_idle, measure_memory
from measure_signal import measure_end, measure_signal
from measure_start import measure_first, measure_start, measure_window
from measures import SIZES, Bench, Figure
from program import end_as_on_ctrl_c, put_into_readme

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SOURCES = sorted(Path(__file__).resolve().parent.glob("*.c"))
BETWEEN_LINES = 5.0  # seconds, where progress is not on a terminal
BEGIN, END = "<!-- bench: make bench README=1 writes what follows -->\n", "<!-- bench: up to here -->"

MEASURES: dict[str, tuple[str, Callable[[Bench], list[Figure]]]] = {
    "start": ("Start", measure_start),
    "first": ("Start", measure_first),
    "window": ("Start", measure_window),
    "docker": ("Start", measure_docker),
    "memory": ("At rest", measure_memory),
    "idle": ("At rest", measure_idle),
    "signal": ("Signals", measure_signal),
    "end": ("End", measure_end),
    "storm": ("Orphans", measure_storm),
    "steady": ("Orphans", measure_steady),
    "teardown": ("Teardown, as subreaper", measure_teardown),
}


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


def compile_helpers(folder: Path, interpreter: str) -> None:
    """Build the C programs, and tinyinit.pyz for the same interpreter."""
    compiler = shutil.which("cc")
    if not compiler:
        raise Failure("there is no C compiler: `cc` must be installed")
    for source in SOURCES:
        subprocess.run([compiler, "-O2", "-Wall", "-o", str(folder / source.stem), str(source)], check=True)
    words = [sys.executable, str(REPOSITORY / "tools" / "pyz.py"), "--interpreter", interpreter, str(folder / PYZ)]
    subprocess.run([*words, interpreter], check=True)


def prepare(helpers: Path, size: str, say: Callable[[str], None]) -> Bench:
    """Find out who is here. Failure if we are not."""
    inits = list(installed())
    for name in missing():
        note(f"{name} is not installed: left out")
    ours = next((each for each in inits if each.name == OURS), None)
    if not ours:
        raise Failure("without tinyinit there is nothing to compare: `pip install .` first")
    interpreter = interpreter_of(ours.words[0])
    compile_helpers(helpers, interpreter)
    return Bench(SIZES[size], inits, list(installed_supervisors()), interpreter, helpers, say)


def facts(bench: Bench) -> dict[str, str]:
    """The machine and the versions."""
    return {
        "machine": machine.describe(),
        "load before": f"{machine.load():.2f}",
        "interpreter": version_of(bench.interpreter),
        **{each.name: each.version for each in (*bench.inits, *bench.supervisors)},
    }


def measure(bench: Bench, names: list[str]) -> tuple[dict[str, list[Figure]], list[str]]:
    """The figures, by the table that they stand in, and what went wrong."""
    figures: dict[str, list[Figure]] = {}
    failures: list[str] = []
    for name in names:
        table, take = MEASURES[name]
        try:
            figures.setdefault(table, []).extend(take(bench))
        except (Failure, OSError, subprocess.TimeoutExpired) as failure:
            failures.append(f"{name} could not be measured: {failure}")
            note(failures[-1])
        else:
            note(f"{name}: done")
    return figures, failures


def as_json(known: dict[str, str], figures: list[Figure], verdicts: list[report.Verdict]) -> str:
    """All raw figures."""
    rows = {
        figure.key: {
            "title": figure.title,
            "unit": figure.unit,
            "values": {name: [round(value, 4) for value in values] for name, values in figure.values.items()},
        }
        for figure in figures
    }
    content = {"facts": known, "figures": rows, "targets": [verdict._asdict() for verdict in verdicts]}
    return json.dumps(content, ensure_ascii=False) + "\n"


def as_text(known: dict[str, str], figures: dict[str, list[Figure]], verdicts: list[report.Verdict]) -> str:
    """All of it in Markdown, with a table for each figure of many contenders, or for each few."""
    parts = ["\n".join(f"- {name}: {value}" for name, value in known.items())]
    parts.append("Medians; in brackets the middle half of the rounds.")
    for table, shown in figures.items():
        parts.append(f"**{table}**")
        parts += [report.markdown(report.rows(same)) for same in with_same_names(shown)]
    parts.append(report.markdown(report.verdict_rows(verdicts)))
    return "\n\n".join(parts) + "\n"


def with_same_names(figures: list[Figure]) -> list[list[Figure]]:
    """The figures that stand in one table: at most four, of the same contenders."""
    tables: list[list[Figure]] = []
    for figure in figures:
        if tables and set(tables[-1][0].values) == set(figure.values) and len(tables[-1]) < 4:
            tables[-1].append(figure)
        else:
            tables.append([figure])
    return tables


def parse(names: list[str] | None = None) -> tuple[argparse.Namespace, str]:
    """The command line, and the size that the environment asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"{', '.join(MEASURES)} (default: all)")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="where to write figures.json, the tables and charts")
    parser.add_argument("--readme", action="store_true", help="put tables and charts into README.md and docs/")
    arguments = parser.parse_args(names)
    size = os.environ.get("BENCH") or "full"
    if size not in SIZES:
        parser.error(f"BENCH is {size!r}; it can be {' or '.join(SIZES)}")
    if not set(arguments.measures) <= set(MEASURES):
        parser.error(f"no such measure; there are {', '.join(MEASURES)}")
    if not arguments.measures:
        arguments.measures = [name for name in MEASURES if name != "docker" or SIZES[size].docker_rounds]
    return arguments, size


def publish(arguments: argparse.Namespace, text: str, content: str, figures: list[Figure]) -> None:
    """Write the files that were asked for."""
    if arguments.out:
        charts.draw_all(figures, arguments.out)
        arguments.out.joinpath("figures.json").write_text(content)
        arguments.out.joinpath("tables.md").write_text(text)
    if arguments.readme:
        charts.draw_all(figures, REPOSITORY / "docs")
        put_into_readme(BEGIN, text, END)


def main() -> int:
    """Run the benchmark. Returns 0 whether or not the targets are met, 1 if something could not be measured."""
    arguments, size = parse()
    end_as_on_ctrl_c()
    try:
        with tempfile.TemporaryDirectory(prefix="tinyinit-bench-") as folder:
            Path(folder).chmod(0o755)
            bench = prepare(Path(folder), size, progress())
            known = facts(bench)
            figures, failures = measure(bench, arguments.measures)
        every = [figure for shown in figures.values() for figure in shown]
        verdicts = report.judge_all(every)
        text = as_text(known, figures, verdicts)
        print(text)
        print(*failures, sep="\n")
        publish(arguments, text, as_json(known, every, verdicts), every)
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 1 if failures else 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        raise SystemExit(main())
