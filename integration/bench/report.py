"""The figures as a table, held against the targets, and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from contenders import FLOOR, KILL_ALL, OURS
from measures import Figure


class Target(NamedTuple):
    """A promise about one of our figures: at most so much, or at most so many times a reference's."""

    figure: str
    limit: float
    reference: str = ""


TARGETS = (
    Target("start", 1.25, FLOOR),
    Target("idle_wakeups", 0),
    Target("signal_median", 1.2, "dumb-init"),
    Target("storm", 1.2, "dumb-init"),
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
    if value == int(value) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def median_and_spread(values: list[float], form: str = "") -> str:
    """The median, and the middle half of the values in brackets."""
    write = (lambda value: format(value, form)) if form else number
    middle = write(statistics.median(values))
    if len(values) < 2:
        return middle
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle} ({write(low)} to {write(high)})"


def rows(figures: Iterable[Figure]) -> Iterator[list[str]]:
    """The table, its head first: a row for each figure, a column for each contender."""
    shown = [figure for figure in figures if figure.title]
    names = list(dict.fromkeys(name for figure in shown for name in figure.values))
    yield ["measure", *(f"`{name}`" if name == FLOOR else name for name in names)]
    for figure in shown:
        title = f"{figure.title}, {figure.unit}" if figure.unit else figure.title
        yield [title, *(median_and_spread(figure.values[name]) if name in figure.values else "" for name in names)]


def markdown(table: Iterable[list[str]]) -> str:
    """A table in Markdown; all but the first column to the right."""
    head, *body = table
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def judge(target: Target, figure: Figure | None) -> Verdict:
    """Hold a figure against its target: as the median of the ratios of each round, where there is a reference."""
    text = f"{target.figure}: at most {target.limit:g}{f' times {target.reference}' if target.reference else ''}"
    ours = figure.values.get(OURS) if figure else None
    if not figure or not ours:
        return Verdict(text, "not measured", None)
    if not target.reference:
        return Verdict(text, median_and_spread(ours), statistics.median(ours) <= target.limit)
    theirs = figure.values.get(target.reference)
    if not theirs:
        return Verdict(text, f"{target.reference} is not installed", None)
    ratios = [mine / its for mine, its in zip(ours, theirs)]
    return Verdict(text, median_and_spread(ratios, ".2f"), statistics.median(ratios) <= target.limit)


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
