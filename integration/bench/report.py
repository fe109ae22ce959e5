"""The figures as tables, and held against the targets."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from contenders import ASLEEP, DOCKER_INIT, FLOOR, FORWARDING, GROUPS, KILL_ALL, OURS, PYZ, SPAWNING_FLOOR, WAITING
from measures import Figure

CODE = (FLOOR, SPAWNING_FLOOR, PYZ, ASLEEP, DOCKER_INIT)  # names that are words for a shell


class Target(NamedTuple):
    """A promise about one of our figures: at most so much; or so many times a reference's, or so much more than that."""

    figure: str
    limit: float
    reference: str = ""
    is_more: bool = False
    subject: str = OURS
    least: str = ""  # what does nothing but this, in the same interpreter: the least that it takes


STORMS = ("storm_1000", "storm_10000", "storm_30000")
TARGETS = (
    Target("start", 1.10, SPAWNING_FLOOR),
    Target("start", 1.2, OURS, subject=PYZ),
    Target("first", 0.125, "the fastest Python peer"),
    Target("docker", 1.04, DOCKER_INIT),
    Target("private", 1.15, ASLEEP),
    Target("idle_wakeups", 0),
    Target("signal_median", 1.05, "dumb-init", least=FORWARDING),
    Target("signal_p99", 1.05, "dumb-init", least=FORWARDING),
    *(Target(storm, 1.05, "the best init in C") for storm in STORMS),
    *(Target(f"{storm}_cpu", 1.5, "the best init in C") for storm in STORMS),
    Target("end_pid1", 1.3, "dumb-init", least=WAITING),
    Target("end_subreaper", 1.3, "dumb-init", least=WAITING),
    Target("window", 1.0, "tini", is_more=True),
    Target("teardown", 2, KILL_ALL),
    Target("teardown_growth", 1.5, KILL_ALL),  # the kernel itself takes longer for each of many
)


class Verdict(NamedTuple):
    """A target, what was found, and whether that meets it; None where it could not be judged."""

    text: str
    found: str
    met: bool | None


def number(value: float) -> str:
    """Three digits, as far as there are so many."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def median_and_spread(values: list[float], form: str = "") -> str:
    """The median, and the middle half of the values in brackets."""
    write = (lambda value: format(value, form)) if form else number
    middle = write(statistics.median(values))
    if len(values) < 2:
        return middle
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle} ({write(low)} to {write(high)})"


def rows(figures: Iterable[Figure]) -> Iterator[list[str]]:
    """A table, its head first: a row for each contender, a column for each figure."""
    shown = list(figures)
    names = list(dict.fromkeys(name for figure in shown for name in figure.values))
    yield ["", *(f"{figure.title}, {figure.unit}" if figure.unit else figure.title for figure in shown)]
    for name in names:
        cells = (median_and_spread(figure.values[name]) if figure.values.get(name) else "" for figure in shown)
        yield [f"`{name}`" if name in CODE else f"**{name}**" if name == OURS else name, *cells]


def markdown(table: Iterable[list[str]]) -> str:
    """A table in Markdown; all but the first column to the right."""
    head, *body = table
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def resolve(reference: str, figure: Figure) -> str:
    """Who a reference is: for one such as the best init in C, the one with the lowest median in this run."""
    here = [name for name in GROUPS.get(reference, ()) if figure.values.get(name)]
    return min(here, key=lambda name: statistics.median(figure.values[name]), default=reference)


def wording(target: Target, who: str) -> str:
    """A target for people."""
    subject = "" if target.subject == OURS else f" of {target.subject}"
    if not target.reference:
        return f"{target.figure}{subject}: at most {target.limit:g}"
    named = who if who == target.reference else f"{target.reference}, {who}"
    limit = f"at most {target.limit:g} more than" if target.is_more else f"at most {target.limit:g} times"
    return f"{target.figure}{subject}: {limit} {named}"


def judge(target: Target, figure: Figure | None) -> Verdict:
    """Hold a figure against its target: as the median of what is found in each round, where there is a reference."""
    who = resolve(target.reference, figure) if figure else target.reference
    text = wording(target, who)
    ours = figure.values.get(target.subject) if figure else None
    if not figure or not ours:
        return Verdict(text, "not measured", None)
    if not target.reference:
        return Verdict(text, median_and_spread(ours), statistics.median(ours) <= target.limit)
    theirs = figure.values.get(who)
    if not theirs:
        return Verdict(text, f"{who} is not installed", None)
    pairs = list(zip(ours, theirs))
    found = [mine - its for mine, its in pairs] if target.is_more else [mine / its for mine, its in pairs if its]
    if not found:
        return Verdict(text, "nothing to be compared with", None)
    least = figure.values.get(target.least)
    added = f"; {target.least}: {statistics.median(map(operator.truediv, least, theirs)):.2f}" if least else ""
    return Verdict(text, median_and_spread(found, ".2f") + added, statistics.median(found) <= target.limit)


def judge_all(figures: Iterable[Figure]) -> list[Verdict]:
    """What became of each target."""
    by_key = {figure.key: figure for figure in figures}
    return [judge(target, by_key.get(target.figure)) for target in TARGETS]


def verdict_rows(verdicts: Iterable[Verdict]) -> Iterator[list[str]]:
    """The targets as a table, its head first."""
    answers = {True: "yes", False: "**no**", None: "not judged"}
    yield ["target", "found", "met"]
    for verdict in verdicts:
        yield [verdict.text, verdict.found, answers[verdict.met]]
