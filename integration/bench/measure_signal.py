"""A signal on its way to COMMAND, and the end of COMMAND on its way to whoever waits for the init."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from contained import Contained
from contenders import FORWARDING, NONE, WAITING
from measure_start import forms
from measures import PATIENCE, Bench, Figure, percentile

SPINNING = [sys.executable, "-I", "-S", "-c", "while True: pass"]
LOOP = """
import _signal, posix, sys
_signal.pthread_sigmask(_signal.SIG_BLOCK, every := _signal.valid_signals() - {_signal.SIGKILL, _signal.SIGSTOP})
pid = posix.posix_spawn(sys.argv[1], sys.argv[1:], posix.environ, setpgroup=0, setsigmask=())
while True: posix.kill(-pid, _signal.sigwaitinfo(every).si_signo)
"""
SPAWN_AND_WAIT = """
import posix, sys
pid = posix.posix_spawn(sys.argv[1], sys.argv[1:], posix.environ)
status = posix.waitpid(pid, 0)[1]
posix._exit(status >> 8)
"""


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


@contextlib.contextmanager
def busy_processors() -> Iterator[None]:
    """As many processes as there are processors, none of which ever sleeps."""
    spinning = [subprocess.Popen(SPINNING) for _ in range(len(os.sched_getaffinity(0)))]
    try:
        yield
    finally:
        for each in spinning:
            each.kill()
            each.wait()


def measure_signal(bench: Bench) -> list[Figure]:
    """Round trips of a signal that PID 1 forwards, in blocks that take turns; and of one sent to COMMAND itself."""
    commands = {name: [*words, bench.helper("echo")] for name, words in forms(bench).items() if name != "timeout"}
    commands[FORWARDING] = [bench.interpreter, "-I", "-S", "-c", LOOP, bench.helper("echo")]
    commands[NONE] = [bench.helper("echo")]
    figures: list[Figure] = []
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(Contained(words)) for name, words in commands.items()}
        for target in running.values():
            target.read(1)
        time.sleep(bench.size.settling)
        figures += trips(bench, running, "signal", bench.size.signal_blocks, "signal")
        with busy_processors():
            figures += trips(bench, running, "busy", bench.size.busy_blocks, "all cores busy, signal")
    return figures


def trips(bench: Bench, running: dict[str, Contained], key: str, blocks: int, what: str) -> list[Figure]:
    """Median and p99 of each block, and the maximum of all."""
    taken: dict[str, list[list[float]]] = {name: [] for name in running}
    for name in bench.turns(running, blocks, what):
        taken[name].append(ping(bench, running[name]))
    title = f"{what}, {blocks * bench.size.signal_block:,} round trips: "

    def of_each_block(share: float) -> dict[str, list[float]]:
        return {name: [percentile(trips, share) for trips in parts] for name, parts in taken.items()}

    return [
        Figure(f"{key}_median", f"{title}median", "µs", of_each_block(0.5)),
        Figure(f"{key}_p99", f"{title}p99", "µs", of_each_block(0.99)),
        Figure(f"{key}_max", f"{title}maximum", "µs", {name: [max(map(max, parts))] for name, parts in taken.items()}),
    ]


def measure_end(bench: Bench) -> list[Figure]:
    """From COMMAND's death to the init's, as whoever waits for the init sees it."""
    command = [bench.helper("end"), "die"]
    words = {**forms(bench), WAITING: [bench.interpreter, "-I", "-S", "-c", SPAWN_AND_WAIT]}
    figures = []
    for mode, title in (("pid1", "as PID 1"), ("subreaper", "elsewhere")):
        values: dict[str, list[float]] = {name: [] for name in words}
        for name in bench.turns(words, bench.size.end_rounds, f"end {title}"):
            values[name].append(bench.ask("end", mode, *words[name], *command) * 1e3)
        text = f"from COMMAND's end to the init's, {title}, {bench.size.end_rounds} times"
        figures.append(Figure(f"end_{mode}", text, "µs", values))
    return figures
