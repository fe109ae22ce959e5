"""What is measured, each beside the others: in turns, or at the same time.

A figure's values stand in the order of its rounds, so that values of one round can be held against each other.
"""

from __future__ import annotations

import contextlib
import math
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from contained import Contained, Failure, processor_time, voluntary_switches
from contenders import FLOOR, KILL_ALL, NONE, OURS, Contender, environment
from machine import room_for

SETTLING = 1.0  # seconds that an init may take to come to rest
PATIENCE = 90.0  # seconds, for a helper, which gives up sooner


class Size(NamedTuple):
    """How much of each is measured."""

    start_rounds: int
    idle_seconds: int
    signal_blocks: int
    signal_block: int  # round trips
    storm_rounds: int
    storm_orphans: int
    teardown_rounds: int
    teardown_counts: tuple[int, int, int]  # few, those that the target is about, many


SIZES = {
    "full": Size(200, 60, 40, 500, 11, 20_000, 9, (1_000, 10_000, 20_000)),
    "quick": Size(100, 10, 8, 250, 3, 5_000, 3, (500, 1_000, 2_000)),
}


class Figure(NamedTuple):
    """A row of the table: for each contender a value of every round."""

    key: str
    title: str  # empty: raw values, not in the table
    unit: str
    values: dict[str, list[float]]


class Bench(NamedTuple):
    """What every measure needs."""

    size: Size
    contenders: list[Contender]
    interpreter: str
    helpers: Path  # the folder of the compiled C programs
    say: Callable[[str], None]  # progress

    def helper(self, name: str) -> str:
        """The path of a compiled C program."""
        return str(self.helpers / name)

    def turns(self, names: Iterable[str], rounds: int, what: str) -> Iterator[str]:
        """Every name once in each round, in an order of its own, so that nobody always comes after the same one."""
        order = list(names)
        for number in range(1, rounds + 1):
            self.say(f"{what}: round {number} of {rounds}")
            random.shuffle(order)
            yield from order


def milliseconds(nanoseconds: float) -> float:
    return nanoseconds / 1e6


def percentile(values: list[float], share: float) -> float:
    """The smallest value that is not exceeded by this share of them."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


# ---- start ----------------------------------------------------------------------------------------------------


def time_once(helper: str, words: list[str]) -> float:
    """Nanoseconds from starting a command to its end."""
    ended = subprocess.run(
        [helper, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,  # some warn that they are not PID 1
        env=environment(),
        timeout=PATIENCE,
    )
    if ended.returncode != 0:
        raise Failure(ended.stderr.decode(errors="replace").strip())
    return float(ended.stdout)


def measure_start(bench: Bench) -> list[Figure]:
    """Wall time of `INIT -- true`, beside the interpreter that does nothing and `true` alone."""
    true = shutil.which("true") or "/bin/true"
    commands = {contender.name: [*contender.words, true] for contender in bench.contenders}
    commands[FLOOR] = [bench.interpreter, "-I", "-S", "-c", "pass"]
    commands[NONE] = [true]
    for words in commands.values():
        time_once(bench.helper("start"), words)  # the first reads files from disk, and may compile them
    values: dict[str, list[float]] = {name: [] for name in commands}
    for name in bench.turns(commands, bench.size.start_rounds, "start"):
        values[name].append(milliseconds(time_once(bench.helper("start"), commands[name])))
    return [Figure("start", f"start: `INIT -- true`, {bench.size.start_rounds} times", "ms", values)]


# ---- idle -----------------------------------------------------------------------------------------------------


def measure_idle(bench: Bench) -> list[Figure]:
    """What each does while COMMAND sleeps and nothing happens, all at the same time."""
    seconds = bench.size.idle_seconds
    with contextlib.ExitStack() as stack:
        commands = {contender.name: [*contender.words, bench.helper("echo")] for contender in bench.contenders}
        started = {name: stack.enter_context(Contained(words)) for name, words in commands.items()}
        inits = {name: running.pid for name, running in started.items() if running.read(1)}
        time.sleep(SETTLING)
        before = {name: (voluntary_switches(pid), processor_time(pid)) for name, pid in inits.items()}
        for passed in range(seconds):
            bench.say(f"idle: second {passed + 1} of {seconds}")
            time.sleep(1)
        after = {name: (voluntary_switches(pid), processor_time(pid)) for name, pid in inits.items()}
    wakeups: dict[str, list[float]] = {name: [after[name][0] - before[name][0]] for name in inits}
    used = {name: [(after[name][1] - before[name][1]) * 1e3] for name in inits}
    title = f"idle for {seconds} s: "
    return [
        Figure("idle_wakeups", f"{title}wake-ups", "", wakeups),
        Figure("idle_cpu", f"{title}CPU time", "ms", used),
    ]


# ---- signal ---------------------------------------------------------------------------------------------------


def ping(bench: Bench, target: Contained) -> list[float]:
    """Microseconds of each round trip in a block: a signal to the init, COMMAND's answer."""
    ended = subprocess.run(
        [bench.helper("ping"), str(target.pid), str(bench.size.signal_block)],
        stdin=target.output,
        capture_output=True,
        timeout=PATIENCE,
    )
    if ended.returncode != 0:
        raise target.failed(f"did not answer: {ended.stderr.decode(errors='replace').strip() or 'a signal was lost'}")
    return [int(line) / 1e3 for line in ended.stdout.split()]


def measure_signal(bench: Bench) -> list[Figure]:
    """Round trips of a signal that PID 1 forwards, in blocks that take turns; and of one sent to COMMAND itself."""
    blocks, block = bench.size.signal_blocks, bench.size.signal_block
    commands = {contender.name: [*contender.words, bench.helper("echo")] for contender in bench.contenders}
    commands[NONE] = [bench.helper("echo")]
    taken: dict[str, list[list[float]]] = {name: [] for name in commands}
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(Contained(words)) for name, words in commands.items()}
        for target in running.values():
            target.read(1)
        time.sleep(SETTLING)
        for name in bench.turns(commands, blocks, "signal"):
            taken[name].append(ping(bench, running[name]))
    title = f"signal, {blocks * block:,} round trips: "
    every = {name: [trip for trips in parts for trip in trips] for name, parts in taken.items()}
    return [
        Figure("signal", "", "µs", every),
        Figure(
            "signal_median",
            f"{title}median",
            "µs",
            {name: [percentile(trips, 0.5) for trips in parts] for name, parts in taken.items()},
        ),
        Figure("signal_p99", f"{title}p99", "µs", {name: [percentile(trips, 0.99)] for name, trips in every.items()}),
        Figure("signal_max", f"{title}maximum", "µs", {name: [max(trips)] for name, trips in every.items()}),
    ]


# ---- storm ----------------------------------------------------------------------------------------------------


def weather_storm(bench: Bench, contender: Contender, orphans: int) -> tuple[float, float]:
    """Seconds until an init has reaped so many orphans that died at once, and those that it has run for it."""
    with Contained([*contender.words, bench.helper("storm"), str(orphans)]) as running:
        running.read_line()
        time.sleep(SETTLING / 2)
        before = processor_time(running.pid)
        running.write_line()
        wall = int(running.read_line()) / 1e9
        used = processor_time(running.pid) - before
    return wall, used


def measure_storm(bench: Bench) -> list[Figure]:
    """From the moment that releases all orphans to the one in which the last has been reaped."""
    orphans, limit = room_for(bench.size.storm_orphans)
    lower = f" (not {bench.size.storm_orphans:,}: {limit})" if limit else ""
    names = {contender.name: contender for contender in bench.contenders}
    wall: dict[str, list[float]] = {name: [] for name in names}
    used: dict[str, list[float]] = {name: [] for name in names}
    for name in bench.turns(names, bench.size.storm_rounds, "storm"):
        passed, ran = weather_storm(bench, names[name], orphans)
        wall[name].append(passed * 1e3)
        used[name].append(ran * 1e3)
    title = f"storm of {orphans:,} orphans{lower}, {bench.size.storm_rounds} times: "
    return [
        Figure("storm", f"{title}until the last is reaped", "ms", wall),
        Figure("storm_cpu", f"{title}CPU time of the init", "ms", used),
    ]


# ---- teardown -------------------------------------------------------------------------------------------------


def tear_down(bench: Bench, name: str, words: list[str], descendants: int) -> float:
    """Seconds from COMMAND's end to that of its last descendant, which is in the hands of an init, or of PID 1 itself.

    The init is no PID 1 here, but in a namespace all the same, so that nothing outlives a measure that fails.
    """
    role = "end" if name == KILL_ALL else "wait"
    with Contained([bench.helper("namespace"), role, *words, bench.helper("tree"), str(descendants)]) as running:
        running.read_line()
        time.sleep(SETTLING / 2)
        running.write_line()
        begin = int(running.read_line())
        end, others = map(int, running.read_line().split())
        if role == "wait" and others:
            raise running.failed("ended while its descendants were alive")
    return (end - begin) / 1e9


def measure_teardown(bench: Bench) -> list[Figure]:
    """Descendants in three levels, ended by tinyinit as subreaper, beside kill(-1) and reaping by a PID 1 in C."""
    few, _, many = counts = bench.size.teardown_counts
    room, limit = room_for(many)
    if limit:
        raise Failure(f"{many:,} processes are to be started, and there is room for {room:,}: {limit}")
    commands = {each.name: each.words for each in bench.contenders if each.name == OURS} | {KILL_ALL: []}
    taken: dict[int, dict[str, list[float]]] = {count: {name: [] for name in commands} for count in counts}
    jobs = {f"{name} of {count}": (name, count) for name in commands for count in counts}
    for job in bench.turns(jobs, bench.size.teardown_rounds, "teardown"):
        name, count = jobs[job]
        taken[count][name].append(tear_down(bench, name, commands[name], count) * 1e3)
    growth = {
        name: [(of_many / many) / (of_few / few) for of_few, of_many in zip(taken[few][name], taken[many][name])]
        for name in commands
    }
    title = f"teardown as subreaper, {bench.size.teardown_rounds} times: "
    return [
        *(
            Figure(key, f"{title}{count:,} descendants in three levels", "ms", taken[count])
            for key, count in zip(("teardown_few", "teardown", "teardown_many"), counts)
        ),
        Figure("teardown_growth", f"{title}time for each of {many:,}, beside each of {few:,}", "", growth),
    ]


MEASURES: dict[str, Callable[[Bench], list[Figure]]] = {
    "start": measure_start,
    "idle": measure_idle,
    "signal": measure_signal,
    "storm": measure_storm,
    "teardown": measure_teardown,
}
