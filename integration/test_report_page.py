"""The page that tinyinit.report writes, in a real browser: what it lays out, what it asks for, and what it says."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import screenshot
from engine import skip_without

from helpers import reports
from helpers.reports import adopted, end, event, listed, made
from tinyinit.report import ticks

WIDTHS = (400, 1200)
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3
HOSTILE = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
TIMED = made(
    elapsed_seconds=200.0,
    status=124,
    end=end(150.0, killed_by="SIGKILL"),
    processes={
        "adopted": 3,
        "reaped": 2,
        **listed(
            adopted(11, "one", 20.0, 50.0, 170.0), adopted(12, "two", 0.0, 100.0, 100.0), adopted(13, "three", -5.0, 120.0, None)
        ),
    },
    events=listed(*(event(at, "signal came", "SIGTERM") for at in (0.0, 30.0, 140.0)), event(144.0, "timeout")),
)  # fmt: skip
EXTREMES = {
    "zero": made(elapsed_seconds=0, end=end(0, code=0), events=listed(event(0, "main child ended"))),
    "three days": made(elapsed_seconds=259200.0, end=end(259100.0, code=3), status=3),
    "long names": made(
        command={"words": ["x" * 4000], "is_complete": True, "pid": 1},
        message="y" * 4000,
        warnings=["z" * 4000],
        memory={**reports.memory(5), "cgroup": "/" + "c" * 4000},
        processes={"adopted": 1, "reaped": 1, **listed(adopted(2**22, "a" * 4000, 0.0, 0.001, 0.002, "h" * 4000))},
        leftovers={"count": 1, **listed({"pid": 2**22, "command": "b" * 4000, "how": "KILL"})},
    ),
}
PAGES = {
    "timed": [TIMED],
    "plausible": [make() for make in reports.PLAUSIBLE.values()],
    "crowded": [reports.crowded(), reports.crowded(elapsed=0.01)],
    "extremes": list(EXTREMES.values()),
}

# All text that is seen in an element: what of it is not clipped, and what it says.
TEXTS = """(root) => {
  const found = [], walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node; node = walker.nextNode();) {
    if (!node.data.trim() || !node.parentElement.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) {
      const box = {left: rect.left, right: rect.right, top: rect.top, bottom: rect.bottom, text: node.data.trim()};
      for (let parent = node.parentElement; parent; parent = parent.parentElement) {
        if (getComputedStyle(parent).overflowX !== "hidden") continue;
        const edge = parent.getBoundingClientRect();
        box.left = Math.max(box.left, edge.left);
        box.right = Math.min(box.right, edge.right);
      }
      const last = found[found.length - 1];
      if (last && last.node === node && last.top === box.top) last.right = Math.max(last.right, box.right); // an ellipsis
      else if (box.right - box.left > 0.5) found.push({node, ...box});
    }
  }
  return found.map(({node, ...box}) => box);
}"""
BOXES = """(selector) => [...document.querySelectorAll(selector)].map(each => {
  const {left, right, top, bottom} = each.getBoundingClientRect();
  return {left, right, top, bottom, text: each.textContent.trim(), pid: each.closest("[data-pid]")?.dataset.pid ?? ""};
})"""
# For each colour of text on each ground: the contrast (WCAG 2.2), and an example.
CONTRASTS = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => channels(colour).slice(0, 3).map(each => each / 255)
    .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
    .reduce((sum, each, place) => sum + each * [0.2126, 0.7152, 0.0722][place], 0);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if ((channels(colour)[3] ?? 1) === 1) return colour;
    }
  };
  const found = {};
  for (const each of document.querySelectorAll("body *")) {
    if (![...each.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const [one, other] = [light(getComputedStyle(each).color), light(ground(each))].sort((a, b) => b - a);
    found[each.textContent.trim().slice(0, 40)] = (one + 0.05) / (other + 0.05);
  }
  return found;
}"""


class Box(dict[str, Any]):
    """Where something is in the window."""

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def overlaps(self, other: Box, slack: float = 0.5) -> bool:
        is_beside = self.left >= other.right - slack or other.left >= self.right - slack
        return not is_beside and bool(self.top < other.bottom - slack and other.top < self.bottom - slack)


@pytest.fixture(scope="module")
def browser() -> Iterator[screenshot.Browser]:
    """A browser that runs for all tests here."""
    if not shutil.which(screenshot.CHROMIUM):
        skip_without("the page is looked at in chromium, which is missing")
    with screenshot.browser() as found:
        yield found


@pytest.fixture(scope="module")
def write_page(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write the page of some reports."""

    def write(*found: dict[str, Any]) -> Path:
        folder = tmp_path_factory.mktemp("page")
        for number, report in enumerate(found):
            folder.joinpath(f"{number}.json").write_text(json.dumps(report))
        files = sorted(str(path) for path in folder.iterdir())
        out = folder / "page.html"
        subprocess.run(
            [sys.executable, "-I", "-m", "tinyinit.report", *files, "--html", str(out)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return out

    return write


@pytest.fixture(scope="module")
def pages(write_page: Callable[..., Path]) -> dict[str, Path]:
    """The page of each set of reports."""
    return {name: write_page(*found) for name, found in PAGES.items()}


def boxes(browser: screenshot.Browser, selector: str) -> list[Box]:
    """The boxes of all that a selector finds."""
    return [Box(each) for each in browser.evaluate(f"({BOXES})({json.dumps(selector)})")]


def open_all(browser: screenshot.Browser) -> None:
    """Open all that can be opened."""
    browser.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")


# ---- the timeline ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_bars_and_marks_are_where_the_axis_has_their_times(
    browser: screenshot.Browser, pages: dict[str, Path], width: int
) -> None:
    browser.show(pages["timed"], width=width)
    (axis,) = boxes(browser, ".axis .track")
    assert axis.right - axis.left > width / 3

    def at(seconds: float) -> Any:
        return pytest.approx(axis.left + (axis.right - axis.left) * seconds / 200.0, abs=1)

    labels = boxes(browser, ".axis span")
    assert [label.text for label in labels] == ["0 s", "50 s", "100 s", "150 s", "200 s"]
    assert labels[0].left == at(0)
    assert [(label.left + label.right) / 2 for label in labels[1:4]] == [at(50), at(100), at(150)]
    assert labels[4].right == at(200)
    assert all(track.left == axis.left and track.right == axis.right for track in boxes(browser, ".track"))

    (main,) = boxes(browser, ".row .bar.main")
    assert (main.pid, main.left, main.right) == ("4101", at(0), at(150))
    before, own = ({box.pid: box for box in boxes(browser, f".bar.{kind}") if box.pid} for kind in ("before", "own"))
    assert (before["11"].left, before["11"].right, own["11"].left, own["11"].right) == (at(20), at(50), at(50), at(170))
    assert (before["12"].left, before["12"].right, own["12"].left) == (at(0), at(100), at(100))
    assert own["12"].right - own["12"].left == pytest.approx(3, abs=0.5), "what took no time is seen all the same"
    assert (before["13"].left, before["13"].right, own["13"].right) == (at(0), at(120), at(200))
    marks = [(mark.left + mark.right) / 2 for mark in boxes(browser, ".mark")]
    assert marks == [at(0), at(30), at(140), at(144), at(150), at(200)]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_bars_are_one_in_a_row_and_marks_do_not_touch(
    browser: screenshot.Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    browser.show(pages[name], width=width)
    processes = sum(1 + len(report["processes"]["listed"]) for report in PAGES[name])
    assert len(boxes(browser, ".row[data-pid]")) == processes
    for kind in (".row", ".row .bar.main, .row .bar.own", ".mark"):
        found = boxes(browser, kind)
        assert found
        assert [(one, other) for place, one in enumerate(found) for other in found[:place] if one.overlaps(other)] == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_no_text_lies_on_another(browser: screenshot.Browser, pages: dict[str, Path], name: str, width: int) -> None:
    browser.show(pages[name], width=width)
    open_all(browser)
    for number in range(1, len(PAGES[name]) + 1):
        found = [Box(each) for each in browser.evaluate(f"({TEXTS})(document.querySelector('#job-{number}'))")]
        assert len(found) > 20
        found.sort(key=lambda box: box.top)
        for place, one in enumerate(found):
            near = (other for other in found[place + 1 : place + 40] if other.top < one.bottom)
            assert [(one, other) for other in near if one.overlaps(other, 1)] == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_window(
    browser: screenshot.Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    browser.show(pages[name], width=width)
    open_all(browser)
    assert browser.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
    assert [
        box for box in map(Box, browser.evaluate(f"({TEXTS})(document.body)")) if box.left < 0 or box.right > width
    ] == []
    cards = boxes(browser, ".card")
    assert all(box.right <= cards[0].right for box in boxes(browser, "table, dl, details, .bar, .mark"))


@pytest.mark.parametrize("exponent", range(-3, 9))
@pytest.mark.parametrize("factor", [1, 1.99, 4.99, 9.99])
def test_labels_of_the_axis_are_apart_on_a_phone(
    browser: screenshot.Browser, write_page: Callable[..., Path], exponent: int, factor: float
) -> None:
    span = factor * 10.0**exponent
    browser.show(write_page(made(elapsed_seconds=span, end=end(span, code=0))), width=400)
    found = boxes(browser, ".axis span")
    assert [label.text for label in found] == [label for _, label in ticks(span)]
    assert [(one, other) for one, other in zip(found, found[1:]) if one.right + 3 > other.left] == []


# ---- what it asks for, and what it says -----------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_it_asks_for_nothing_and_has_nothing_to_complain_of(
    browser: screenshot.Browser, pages: dict[str, Path], name: str
) -> None:
    browser.show(pages[name], width=1200)
    open_all(browser)
    browser.screenshot(pages[name].with_suffix(".png"))  # all has been laid out and drawn now
    asked = [
        message["params"]["request"]["url"]
        for message in browser.events
        if message.get("method") == "Network.requestWillBeSent"
    ]
    assert asked == [pages[name].as_uri()]
    complaints = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Network.loadingFailed")
    assert [message for message in browser.events if message.get("method") in complaints] == []


def test_a_script_in_a_report_is_text(browser: screenshot.Browser, write_page: Callable[..., Path]) -> None:
    page = write_page(
        made(
            command={"words": ["sh", "-c", HOSTILE], "is_complete": True, "pid": 1},
            message=HOSTILE,
            warnings=[HOSTILE],
            processes={"adopted": 1, "reaped": 1, **listed(adopted(7, HOSTILE, 0.0, 0.001, 0.002, HOSTILE))},
            leftovers={"count": 1, **listed({"pid": 7, "command": HOSTILE, "how": "KILL"})},
        )
    )
    loose = page.with_name("loose.html")  # without its policy all that is a script would run
    text = page.read_text()
    loose.write_text(text.replace("Content-Security-Policy", "X-None"))
    assert loose.read_text() != text
    for path in (page, loose):
        browser.show(path, width=1200)
        open_all(browser)
        assert browser.evaluate("[document.title, document.scripts.length, document.images.length]") == [
            "The job ended well - tinyinit",
            0,
            0,
        ]
        assert browser.evaluate("document.body.innerText").count(HOSTILE) >= 5
        assert HOSTILE in browser.evaluate("document.querySelector('.bar.own').title")


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["plausible", "crowded"])
def test_text_is_easy_to_read(browser: screenshot.Browser, pages: dict[str, Path], name: str, is_dark: bool) -> None:
    browser.show(pages[name], width=1200, is_dark=is_dark)
    open_all(browser)
    found = browser.evaluate(f"({CONTRASTS})()")
    assert len(found) > 60
    assert {text: contrast for text, contrast in found.items() if contrast < LEAST_CONTRAST} == {}
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(14, 18, 23)" if is_dark else "rgb(245, 246, 248)"
    )
    smallest = (
        "Math.min(...[...document.querySelectorAll('body *')].map(each => parseFloat(getComputedStyle(each).fontSize)))"
    )
    assert browser.evaluate(smallest) >= 12


def test_who_does_not_see_the_bars_is_told_of_them(browser: screenshot.Browser, pages: dict[str, Path]) -> None:
    browser.show(pages["timed"], width=1200)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    images = [
        node["name"]["value"]
        for node in nodes
        if node.get("role", {}).get("value") in ("image", "img") and not node["ignored"]
    ]
    assert len(images) == len(boxes(browser, ".row .bar, .mark"))
    assert "COMMAND, pid 4101: was killed by SIGKILL after 2 min 30 s" in images
    assert "pid 11: started at 20.0 s, adopted at 50.0 s, exited with status 0 at 2 min 50 s" in images
    assert "pid 13: started at -5.00 s, adopted at 2 min 00 s, was not reaped" in images
    assert "30.0 s: SIGTERM came" in images


def test_on_paper_all_lists_are_open(browser: screenshot.Browser, pages: dict[str, Path]) -> None:
    closed = "[...document.querySelectorAll('details:not([open]) table')].map(each => each.checkVisibility() && each.getBoundingClientRect().height > 20)"
    browser.show(pages["plausible"], width=700)
    assert not any(browser.evaluate(closed))
    browser.show(pages["plausible"], width=700, media="print")
    shown = browser.evaluate(closed)
    assert shown
    assert all(shown)


# ---- the screenshot in README ---------------------------------------------------------------------------------


def test_the_screenshot_is_of_the_whole_page_or_of_its_head(
    browser: screenshot.Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    report = pages["timed"].with_name("0.json")
    browser.show(pages["timed"], width=900)
    height = browser.evaluate("document.documentElement.scrollHeight")
    pictures = {}
    for name, options in {"whole": [], "dark": ["--dark"], "head": ["--height", "300"]}.items():
        out = tmp_path / f"{name}.png"
        subprocess.run(
            [sys.executable, screenshot.__file__, "--width", "900", *options, str(report), str(out)], check=True
        )
        pictures[name] = out.read_bytes()
    sizes = {name: struct.unpack(">II", picture[16:24]) for name, picture in pictures.items()}
    assert sizes == {"whole": (900, height), "dark": (900, height), "head": (900, 300)}
    assert len(set(pictures.values())) == 3
