"""The figures as charts: an SVG each, whose text is text, and that suits a light page and a dark one."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, cast

from contained import Failure
from contenders import OURS, PYZ
from measures import Figure


class Chart(NamedTuple):
    """A chart of figures with the same unit, side by side for each contender."""

    name: str
    title: str
    figures: dict[str, str]  # key, and what the legend says
    is_logarithmic: bool = False


CHARTS = (
    Chart("start", "Until COMMAND's first instruction", {"first": "ms"}, True),
    Chart("memory", "Memory of one of 50, and what is private to one", {"crowd": "PSS", "private": "private"}, True),
    Chart("signal", "A signal to PID 1, and COMMAND's answer", {"signal_median": "median", "signal_p99": "p99"}),
    Chart(
        "storm", "Orphans that die at once: until all are reaped", {"storm_10000": "10,000", "storm_30000": "30,000"}
    ),
)
GREY = "#808080"  # to be read on white and on black
OF_OURS, OF_OTHERS = ("#2f9e44", "#8ce99a"), ("#4c6ef5", "#bac8ff")
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tinyinit",
    "font.family": "sans-serif",
    "font.size": 10,
    **{f"{name}.color": GREY for name in ("xtick", "ytick", "text")},
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
}


def draw(chart: Chart, figures: dict[str, Figure], folder: Path) -> Path:
    """Write a chart; the file. Bars are medians, lines the middle half of the rounds."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    shown = [figures[key] for key in chart.figures]
    names = sorted(shown[-1].values, key=lambda name: statistics.median(shown[-1].values[name]), reverse=True)
    with plt.rc_context(cast(Any, SETTINGS)):
        figure, axes = plt.subplots(figsize=(7.2, 0.6 + 0.34 * len(names) * len(shown) ** 0.5))
        height = 0.8 / len(shown)
        for number, each in enumerate(shown):
            draw_bars(axes, each, names, height, number)
        axes.set_yticks([place + height * (len(shown) - 1) / 2 for place in range(len(names))], names)
        axes.set_title(chart.title, fontsize=11, loc="left")
        axes.set_xlabel(shown[0].unit)
        axes.spines[["top", "right"]].set_visible(False)
        if chart.is_logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.margins(x=0.12)
        if len(shown) > 1:
            handles = [Patch(color=color) for color in OF_OTHERS]
            axes.legend(
                handles, list(chart.figures.values()), frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1)
            )
        path = folder / f"bench-{chart.name}.svg"
        figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return path


def draw_bars(axes: Any, figure: Figure, names: list[str], height: float, number: int) -> None:
    """The bars of one figure."""
    for place, name in enumerate(names):
        values = figure.values.get(name)
        if not values:
            continue
        middle = statistics.median(values)
        quarters = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [middle] * 3
        spread = [[middle - quarters[0]], [quarters[2] - middle]]
        color = (OF_OURS if name in (OURS, PYZ) else OF_OTHERS)[number]
        axes.barh(place + number * height, middle, height * 0.9, color=color, xerr=spread, ecolor=GREY)
        text = f" {middle:,.0f}" if middle >= 100 else f" {middle:.3g}"
        axes.text(quarters[2], place + number * height, text, va="center", color=GREY, fontsize=9)


def draw_all(figures: Iterable[Figure], folder: Path) -> list[Path]:
    """Write all charts that there are figures for; the files. Failure without matplotlib."""
    by_key = {figure.key: figure for figure in figures}
    try:
        import matplotlib

        matplotlib.use("svg")
    except ImportError:
        raise Failure("there are no charts without matplotlib: pip install 'tinyinit[bench]'") from None
    folder.mkdir(parents=True, exist_ok=True)
    return [draw(chart, by_key, folder) for chart in CHARTS if set(chart.figures) <= set(by_key)]
