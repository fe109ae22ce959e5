"""The start: until COMMAND runs, until it has ended, and while a signal to PID 1 can be lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from contenders import BLOCKING, FLOOR, NONE, OURS, PYZ, SPAWNING_FLOOR, Contender
from measures import Bench, Figure, folder_for_one


def forms(bench: Bench) -> dict[str, list[str]]:
    """The inits, and tinyinit.pyz beside them: the words before COMMAND."""
    own = {each.name: each.words for each in bench.inits}
    return {OURS: own[OURS], PYZ: [bench.helper(PYZ), "--"], **own}


def measure_start(bench: Bench) -> list[Figure]:
    """Wall time of `INIT -- true`, beside the interpreter that does nothing and `true` alone."""
    true = shutil.which("true") or "/bin/true"
    jobs: dict[str, Callable[[], float]] = {
        name: lambda words=words: bench.ask("start", *words, true)  # type: ignore[misc]
        for name, words in forms(bench).items()
    }
    jobs[FLOOR] = lambda: bench.ask("start", bench.interpreter, "-I", "-S", "-c", "pass")
    jobs[NONE] = lambda: bench.ask("start", true)
    for each in bench.supervisors:
        if each.ends:
            jobs[each.name] = lambda each=each: start_by(bench, each, [true])  # type: ignore[misc]
    for job in jobs.values():
        job()  # the first reads files from disk, and may compile them
    values: dict[str, list[float]] = {name: [] for name in jobs}
    for name in bench.turns(jobs, bench.size.start_rounds, "start"):
        values[name].append(jobs[name]())
    values[SPAWNING_FLOOR] = [floor + none for floor, none in zip(values[FLOOR], values[NONE])]
    return [Figure("start", f"`INIT -- true`, {bench.size.start_rounds} times", "ms", values)]


def start_by(bench: Bench, contender: Contender, command: list[str]) -> float:
    """Milliseconds from the start of one that ends with COMMAND to its end."""
    with folder_for_one() as folder:
        return bench.ask("start", *contender.command(command, folder))


def reach(bench: Bench, contender: Contender) -> float:
    """Milliseconds from the start of an init or a supervisor to COMMAND's first instructions."""
    with folder_for_one() as folder:
        os.mkfifo(folder / "fifo")
        command = [bench.helper("first"), str(folder / "fifo")]
        how = "-u" if contender.ends else "-k"
        return bench.ask("start", how, str(folder / "fifo"), *contender.command(command, folder))


def measure_first(bench: Bench) -> list[Figure]:
    """Until COMMAND's first instructions, by inits and by supervisors."""
    extra = [Contender(PYZ, [bench.helper(PYZ), "--"], ""), Contender(NONE, [], "")]
    contenders = {each.name: each for each in (*bench.inits, *extra, *bench.supervisors)}
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for each in contenders.values():
        reach(bench, each)
    for name in bench.turns(contenders, bench.size.first_rounds, "first instruction"):
        values[name].append(reach(bench, contenders[name]))
    return [Figure("first", f"until COMMAND's first instruction, {bench.size.first_rounds} times", "ms", values)]


def measure_window(bench: Bench) -> list[Figure]:
    """Until TERM is not lost any more, as PID 1."""
    command = [shutil.which("sleep") or "/bin/sleep", "1"]
    words = {
        **forms(bench),
        BLOCKING: [shutil.which("env") or "/usr/bin/env", "--block-signal", bench.helper(PYZ), "--"],
    }
    words.pop("timeout", None)  # as PID 1 it is no use
    values: dict[str, list[float]] = {name: [] for name in words}
    for name in words:
        bench.ask("window", *words[name], *command)
    for name in bench.turns(words, bench.size.start_rounds, "window"):
        values[name].append(bench.ask("window", *words[name], *command))
    return [Figure("window", f"as PID 1, a signal is lost until, {bench.size.start_rounds} times", "ms", values)]
