"""What each costs while COMMAND sleeps: memory, wake-ups, processor time."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from contained import Contained, Failure, processor_time, voluntary_switches
from contenders import ASLEEP, Contender
from measures import PATIENCE, Bench, Figure, folder_for_one

FIELDS = {"rss": ("Rss",), "pss": ("Pss",), "private": ("Private_Clean", "Private_Dirty")}
TITLES = {"rss": "resident (RSS)", "pss": "its share (PSS)", "private": "private (USS)"}
COMMAND = "echo"


@contextlib.contextmanager
def kept(bench: Bench, contender: Contender) -> Iterator[list[int]]:
    """Start it as PID 1 of a namespace, and wait until COMMAND runs; the processes but for COMMAND."""
    with folder_for_one() as folder, Contained(contender.command([bench.helper(COMMAND)], folder)) as running:
        end = time.monotonic() + PATIENCE
        while True:
            below = descendants(running.process.pid)
            pids = [pid for pid in below if name_of(pid) != COMMAND]
            if len(pids) < len(below) or (contender.name == ASLEEP and pids and name_of(pids[0]).startswith("python")):
                break
            if time.monotonic() > end or running.process.poll() is not None:
                raise running.failed("does not start COMMAND")
            time.sleep(0.01)
        yield pids


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):  # it has just ended
            found += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
    return found[1:]


def name_of(pid: int) -> str:
    """The name of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def memory_of(pids: list[int]) -> dict[str, float]:
    """KiB of these processes together, for each of FIELDS."""
    sums = dict.fromkeys(FIELDS, 0.0)
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        lines = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
        for key, names in FIELDS.items():
            sums[key] += sum(lines[name] for name in names)
    return sums


def everybody(bench: Bench) -> dict[str, Contender]:
    """Inits and supervisors; the interpreter that does nothing but sleep is the one with no COMMAND."""
    asleep = Contender(ASLEEP, [bench.interpreter, "-I", "-S", "-c", "import time; time.sleep(1e6)"], "")
    return {each.name: each for each in (*bench.inits, *bench.supervisors, asleep)}


def measure_memory(bench: Bench) -> list[Figure]:
    """What each has in memory, all at the same time; and of many of one kind at the same time."""
    contenders = everybody(bench)
    figures: dict[str, dict[str, list[float]]] = {key: {name: [] for name in contenders} for key in FIELDS}
    for number in range(1, bench.size.memory_rounds + 1):
        bench.say(f"memory: round {number} of {bench.size.memory_rounds}")
        with contextlib.ExitStack() as stack:
            started = {name: stack.enter_context(kept(bench, each)) for name, each in contenders.items()}
            time.sleep(bench.size.memory_seconds)
            for name, pids in started.items():
                for key, value in memory_of(pids).items():
                    figures[key][name].append(value)
    crowd: dict[str, list[float]] = {}
    for name, contender in contenders.items():
        bench.say(f"memory: {bench.size.crowd} of {name}")
        with contextlib.ExitStack() as stack:
            many = [stack.enter_context(kept(bench, contender)) for _ in range(bench.size.crowd)]
            time.sleep(bench.size.settling)
            crowd[name] = [sum(memory_of(pids)["pss"] for pids in many) / len(many)]
    after = f"memory after {bench.size.memory_seconds:g} s: "
    return [
        *(Figure(key, f"{after}{TITLES[key]}", "KiB", figures[key]) for key in FIELDS),
        Figure("crowd", f"{bench.size.crowd} at the same time: PSS of each", "KiB", crowd),
    ]


def measure_idle(bench: Bench) -> list[Figure]:
    """What each does while nothing happens, all at the same time."""
    seconds = bench.size.idle_seconds
    contenders = {name: each for name, each in everybody(bench).items() if name != ASLEEP}
    with contextlib.ExitStack() as stack:
        started = {name: stack.enter_context(kept(bench, each)) for name, each in contenders.items()}
        time.sleep(bench.size.settling)
        before = {name: used_by(pids) for name, pids in started.items()}
        for passed in range(seconds):
            bench.say(f"idle: second {passed + 1} of {seconds}")
            time.sleep(1)
        after = {name: used_by(pids) for name, pids in started.items()}
    wakeups: dict[str, list[float]] = {name: [after[name][0] - before[name][0]] for name in started}
    used = {name: [(after[name][1] - before[name][1]) * 1e3] for name in started}
    return [
        Figure("idle_wakeups", f"idle for {seconds} s: wake-ups", "", wakeups),
        Figure("idle_cpu", f"idle for {seconds} s: CPU time", "ms", used),
    ]


def used_by(pids: list[int]) -> tuple[int, float]:
    """Wake-ups of these processes, and seconds that they have run."""
    try:
        return sum(map(voluntary_switches, pids)), sum(map(processor_time, pids))
    except OSError as failure:
        raise Failure(f"one of what was to be looked at has ended: {failure}") from None
