"""What every measure is made of: sizes, figures, and turns, in which each is measured beside the others.

A figure's values stand in the order of its rounds, so that values of one round can be held against each other.
"""

from __future__ import annotations

import math
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from contained import Failure
from contenders import Contender, environment

PATIENCE = 90.0  # seconds, for a helper, which gives up sooner


class Size(NamedTuple):
    """How much of each is measured."""

    settling: float  # seconds that an init may take to come to rest
    start_rounds: int
    first_rounds: int  # supervisors need a second each
    docker_rounds: int  # none: it takes minutes to make the image
    memory_rounds: int
    memory_seconds: float  # of sleep, before it is read
    crowd: int  # inits at the same time
    idle_seconds: int
    signal_blocks: int
    signal_block: int  # round trips
    busy_blocks: int
    end_rounds: int
    storms: tuple[tuple[int, int], ...]  # orphans, and how many times
    steady: tuple[int, int]  # orphans a second, and seconds
    teardown_rounds: int
    teardown_counts: tuple[int, int, int]  # few, those that the target is about, many


SIZES = {
    "full": Size(
        settling=1, start_rounds=100, first_rounds=40, docker_rounds=40,
        memory_rounds=5, memory_seconds=10, crowd=50, idle_seconds=60,
        signal_blocks=40, signal_block=500, busy_blocks=40, end_rounds=60,
        storms=((1_000, 11), (10_000, 9), (30_000, 5)), steady=(2_000, 30),
        teardown_rounds=9, teardown_counts=(1_000, 10_000, 20_000),
    ),
    "quick": Size(
        settling=1, start_rounds=20, first_rounds=4, docker_rounds=0,
        memory_rounds=1, memory_seconds=1, crowd=5, idle_seconds=5,
        signal_blocks=8, signal_block=250, busy_blocks=8, end_rounds=10,
        storms=((1_000, 3),), steady=(1_000, 3),
        teardown_rounds=3, teardown_counts=(500, 1_000, 2_000),
    ),
    "smoke": Size(  # that it runs at all
        settling=0.1, start_rounds=1, first_rounds=1, docker_rounds=0,
        memory_rounds=1, memory_seconds=0.1, crowd=2, idle_seconds=1,
        signal_blocks=1, signal_block=50, busy_blocks=1, end_rounds=1,
        storms=((100, 1),), steady=(500, 1),
        teardown_rounds=1, teardown_counts=(20, 40, 80),
    ),
}  # fmt: skip


class Figure(NamedTuple):
    """A row of a table: for each contender a value of every round."""

    key: str
    title: str
    unit: str
    values: dict[str, list[float]]


class Bench(NamedTuple):
    """What every measure needs."""

    size: Size
    inits: list[Contender]
    supervisors: list[Contender]
    interpreter: str
    helpers: Path  # the folder of the compiled C programs, and of tinyinit.pyz
    say: Callable[[str], None]  # progress

    def helper(self, name: str) -> str:
        """The path of a compiled C program."""
        return str(self.helpers / name)

    def as_pid_1(self) -> list[Contender]:
        """The inits, without timeout, which reaps no orphans."""
        return [each for each in self.inits if each.name != "timeout"]

    def turns(self, names: Iterable[str], rounds: int, what: str) -> Iterator[str]:
        """Every name once in each round, in an order of its own, so that nobody always comes after the same one."""
        order = list(names)
        for number in range(1, rounds + 1):
            self.say(f"{what}: round {number} of {rounds}")
            random.shuffle(order)
            yield from order

    def ask(self, helper: str, *words: str) -> float:
        """The number of nanoseconds that a helper program prints, in milliseconds."""
        ended = subprocess.run(
            [self.helper(helper), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,  # some warn that they are not PID 1
            env=environment(),
            timeout=PATIENCE,
        )
        if ended.returncode != 0:
            said = ended.stderr.decode(errors="replace").strip()
            raise Failure(f"`{helper} {' '.join(words)}` ended with {ended.returncode}: {said}")
        return float(ended.stdout.splitlines()[-1]) / 1e6  # supervisors say something before


@contextmanager
def folder_for_one() -> Iterator[Path]:
    """A folder for a supervisor's configuration, and what it writes there."""
    folder = Path(tempfile.mkdtemp(prefix="tinyinit-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # one that was killed may still write there


def percentile(values: list[float], share: float) -> float:
    """The smallest value that is not exceeded by this share of them."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
