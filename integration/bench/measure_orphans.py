"""Orphans: many that die at once, many every second, and many that are to be ended."""

from __future__ import annotations

import time

from contained import Contained, Failure, processor_time
from contenders import KILL_ALL, KILL_GROUP, OURS, Contender
from machine import room_for
from measure_rest import descendants, memory_of
from measures import Bench, Figure

ROLES = {KILL_ALL: "end", KILL_GROUP: "group"}  # of the helper `namespace`


def weather_storm(bench: Bench, contender: Contender, orphans: int) -> tuple[float, float, float]:
    """An init, and so many orphans that die at once: ms until all are reaped, ms that it ran for it, KiB it has grown."""
    with Contained([*contender.words, bench.helper("storm"), str(orphans)]) as running:
        running.read_line()
        time.sleep(bench.size.settling / 2)
        before, size = processor_time(running.pid), memory_of([running.pid])["private"]
        running.write_line()
        wall = int(running.read_line()) / 1e6
        used = (processor_time(running.pid) - before) * 1e3
        grown = memory_of([running.pid])["private"] - size
    return wall, used, grown


def measure_storm(bench: Bench) -> list[Figure]:
    """From the moment that releases all orphans to the one in which the last has been reaped."""
    names = {each.name: each for each in bench.as_pid_1()}
    figures = []
    for wanted, rounds in bench.size.storms:
        orphans, limit = room_for(wanted)
        lower = f" (not {wanted:,}: {limit})" if limit else ""
        results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
        for name in bench.turns(names, rounds, f"storm of {orphans:,}"):
            results[name].append(weather_storm(bench, names[name], orphans))
        title = f"storm of {orphans:,} orphans{lower}, {rounds} times: "
        parts = (
            ("", "until the last is reaped", "ms"),
            ("_cpu", "CPU time", "ms"),
            ("_growth", "memory grown by", "KiB"),
        )
        for number, (suffix, text, unit) in enumerate(parts):
            values = {name: [result[number] for result in rows] for name, rows in results.items()}
            figures.append(Figure(f"storm_{wanted}{suffix}", title + text, unit, values))
    return figures


def measure_steady(bench: Bench) -> list[Figure]:
    """So many orphans every second: what an init uses for them, and whether it keeps up."""
    rate, seconds = bench.size.steady
    used: dict[str, list[float]] = {}
    grown: dict[str, list[float]] = {}
    for contender in bench.as_pid_1():
        bench.say(f"{rate:,} orphans a second for {seconds} s: {contender.name}")
        with Contained([*contender.words, bench.helper("steady"), str(rate), str(seconds)]) as running:
            running.read_line()
            time.sleep(bench.size.settling / 2)
            before, size = processor_time(running.pid), memory_of([running.pid])["private"]
            made = int(running.read_line())
            used[contender.name] = [(processor_time(running.pid) - before) / (seconds - bench.size.settling / 2) * 1e3]
            grown[contender.name] = [memory_of([running.pid])["private"] - size]
            time.sleep(bench.size.settling)
            left = descendants(running.pid)[1:]
            if left or made < rate * seconds:
                raise running.failed(f"has left {len(left)} of {made} orphans")
    title = f"{rate:,} orphans a second for {seconds} s: "
    return [
        Figure("steady_cpu", f"{title}CPU time", "ms/s", used),
        Figure("steady_growth", f"{title}memory grown by", "KiB", grown),
    ]


def tear_down(bench: Bench, name: str, words: list[str], descendants: int) -> float:
    """Milliseconds from the end of COMMAND until its descendants have been ended and reaped."""
    role = ROLES.get(name, "wait")
    with Contained([bench.helper("namespace"), role, *words, bench.helper("tree"), str(descendants)]) as running:
        running.read_line()
        time.sleep(bench.size.settling / 2)
        running.write_line()
        begin = int(running.read_line())
        end, others = map(int, running.read_line().split())
        if role == "wait" and others:
            raise running.failed("ended while its descendants were alive")
    return (end - begin) / 1e6


def measure_teardown(bench: Bench) -> list[Figure]:
    """Descendants in three levels, ended by tinyinit as subreaper, beside kill(-1), and a group's, by a PID 1 in C."""
    few, _, many = counts = bench.size.teardown_counts
    room, limit = room_for(many)
    if limit:
        raise Failure(f"{many:,} processes are to be started, and there is room for {room:,}: {limit}")
    commands: dict[str, list[str]] = {each.name: each.words for each in bench.inits if each.name == OURS}
    commands.update({KILL_ALL: [], KILL_GROUP: []})
    taken: dict[int, dict[str, list[float]]] = {count: {name: [] for name in commands} for count in counts}
    jobs = {f"{name} of {count}": (name, count) for name in commands for count in counts}
    for job in bench.turns(jobs, bench.size.teardown_rounds, "teardown"):
        name, count = jobs[job]
        taken[count][name].append(tear_down(bench, name, commands[name], count))
    growth = {
        name: [(of_many / many) / (of_few / few) for of_few, of_many in zip(taken[few][name], taken[many][name])]
        for name in commands
    }
    rounds = f"{bench.size.teardown_rounds} times"
    return [
        *(
            Figure(key, f"{count:,} descendants in three levels, {rounds}", "ms", taken[count])
            for key, count in zip(("teardown_few", "teardown", "teardown_many"), counts)
        ),
        Figure("teardown_growth", f"time for each of {many:,}, beside each of {few:,}", "", growth),
    ]
