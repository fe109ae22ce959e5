"""`python -m tinyinit.report FILE...`: reports that --report has written, as a table, and with --html as a page.

This only reads; account.py writes. A file may be anything, and what a report quotes is other people's text. So nothing
is shown before it was held against report.schema.json: what is named there is kept, its text printable, all else is
dropped, and a file that does not fit is one line on standard error.

The order, in the table and on the page, is the worst first: by the class of `RANKS`, then the higher status, the longer
time, the name and the line. No two reports are equal in it, so that it does not depend on the order of the files.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tinyinit.init import Refusal
from tinyinit.processes import printable, write_all

PROGRAM = "python -m tinyinit.report"
FOLDER = Path(__file__).parent
LONGEST_FILE = 16 * 1024 * 1024  # bytes: thousands of reports; what Python makes of them takes twenty times that
LONGEST_TEXT = 4096  # characters of any text in a report
LONGEST_LIST = 100_000  # items, where the schema sets no limit: the words of COMMAND
MOST_LINES = 100_000  # of a file; no report is shorter than a kilobyte
MOST_PROBLEMS = 20  # lines of one file of which it is said what is wrong with them
LONGEST_COMMAND = 200  # characters, in a table that is no terminal's
LEAST_COMMAND = 20  # characters, on a terminal however narrow
LARGEST_NUMBER = 2**63

# What ended the main child, the worst first; then come a status other than 0, a message, and success.
RANKS = (
    ("out of memory",),
    ("crash", "signal from elsewhere"),
    ("watchdog", "timeout", "kill after", "parent died"),
)
FAILED, WITH_MESSAGE, SUCCESS = len(RANKS), len(RANKS) + 1, len(RANKS) + 2

USE = """\
The worst comes first: out of memory; a crash, or a signal from elsewhere; watchdog, timeout, kill after or parent died;
any other status than 0; a message; success. Then the higher status, the longer time, and the name.

CPU is user and system time of all processes; PEAK the resident memory of the largest one; ADOPTED counts orphans,
REAPED children beside COMMAND; LEFT what was alive after COMMAND, and how it ended if not by TERM; OOM what was killed
for want of memory. --html needs Jinja2: pip install 'tinyinit[html]'.

Exit status: 0; 1 if a file is no report, or OUT cannot be written; 2 for bad usage.
"""

# ---- what a report may hold -----------------------------------------------------------------------------------


class Report(NamedTuple):
    """A report that fits the schema, the file that it is from, and its line there; 0: it is the whole file."""

    file: str
    line: int
    data: dict[str, Any]

    @property
    def name(self) -> str:
        """`jobs.jsonl:3`."""
        return f"{self.file}:{self.line}" if self.line else self.file


class Problem(NamedTuple):
    """A file, or a line of one, that is no report, and why."""

    name: str
    text: str


class Misfit(Exception):
    """Why something is no report: what follows the name of its file."""


TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
NOUNS = {
    "object": "an object", "array": "a list", "string": "a string", "integer": "a whole number", "number": "a number",
    "boolean": "true or false", "null": "null",
}  # fmt: skip


def load_schema() -> dict[str, Any]:
    """The schema, with what each `$ref` leads to in its place."""
    schema = json.loads(FOLDER.joinpath("report.schema.json").read_text("utf-8"))

    def resolve(node: Any) -> Any:
        if isinstance(node, list):
            return [resolve(each) for each in node]
        if not isinstance(node, dict):
            return node
        found = {name: resolve(value) for name, value in node.items() if name not in ("$ref", "$defs")}
        target = node.get("$ref", "").rpartition("/")[2]
        return {**resolve(schema["$defs"][target]), **found} if target else found

    resolved: dict[str, Any] = resolve(schema)
    return resolved


def is_a(value: Any, name: str) -> bool:
    """Whether `value` has a type of JSON Schema, for which true is no number."""
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def noun(value: Any) -> str:
    """What `value` is, in words."""
    return next(NOUNS[name] for name in ("integer", *TYPES) if is_a(value, name))


def quoted(value: Any) -> str:
    """A value as JSON has it, if it is a short one."""
    return cut(json.dumps(value), 40) if isinstance(value, (str, int, float)) else noun(value)


def refuse(where: str, what: str) -> Misfit:
    """The error that says of a member what is wrong with it."""
    return Misfit(f"is no report: {where or 'it'} {what}")


def check(value: Any, schema: dict[str, Any], where: str) -> None:
    """Misfit if a value, without what is in it, is not as the schema says."""
    types = schema.get("type", [])
    names = [types] if isinstance(types, str) else types
    if names and not any(is_a(value, name) for name in names):
        raise refuse(where, f"is {noun(value)}, not {' or '.join(NOUNS[name] for name in names)}")
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    if allowed and (isinstance(value, bool) or value not in allowed):
        raise refuse(where, f"is {quoted(value)}, not {' or '.join(map(quoted, allowed))}")
    if isinstance(value, (int, float)):
        least, most = schema.get("minimum", -LARGEST_NUMBER), schema.get("maximum", LARGEST_NUMBER)
        if not least <= value <= most:
            raise refuse(where, "is out of range")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        raise refuse(where, f"is {quoted(value)}, which is not how it is written")
    if isinstance(value, list) and not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", LONGEST_LIST):
        raise refuse(where, f"has {len(value)} items")


def fitted(value: Any, schema: dict[str, Any], where: str = "") -> Any:
    """A copy of `value` with what the schema names, all text printable. Misfit if it does not fit.

    This much of JSON Schema is what report.schema.json uses: its `anyOf` is `null` or one other thing.
    """
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if choices:
        is_null = value is None and len(choices) < len(schema["anyOf"])
        return None if is_null else fitted(value, choices[0], where)
    check(value, schema, where)
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [fitted(each, schema.get("items", {}), f"{where}[{place}]") for place, each in enumerate(value)]
    return fitted_object(value, schema, where) if isinstance(value, dict) else value


def fitted_object(value: dict[str, Any], schema: dict[str, Any], where: str) -> dict[str, Any]:
    """The same for an object: members that the schema does not name are left out, or are as it says of all others."""
    for name in schema.get("required", ()):
        if name not in value:
            raise refuse(where, f"has no {name!r}")
    named, others = schema.get("properties", {}), schema.get("additionalProperties")
    dot = f"{where}." if where else ""
    found = {name: fitted(value[name], part, dot + name) for name, part in named.items() if name in value}
    if isinstance(others, dict):
        rest = (name for name in value if name not in named)
        found.update((clean(name), fitted(value[name], others, dot + clean(name))) for name in rest)
    return found


def as_report(value: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """What a report says. Misfit if it is none, or if it is another version's, whatever else is wrong with it then."""
    ours = schema["properties"]["schema_version"]["const"]
    if isinstance(value, dict) and value.get("schema_version", ours) != ours:
        version = quoted(value["schema_version"])
        raise Misfit(f"has schema_version {version}, and this tinyinit reads {ours}; use the one that wrote it")
    found: dict[str, Any] = fitted(value, schema)
    return found


def clean(text: str) -> str:
    """At most `LONGEST_TEXT` characters, with all escaped that may act on who looks at it."""
    return cut(printable(text[: LONGEST_TEXT + 1].encode("utf-8", "backslashreplace")), LONGEST_TEXT)


def cut(text: str, longest: int) -> str:
    """At most `longest` characters; what is cut ends with `...`."""
    return text if len(text) <= longest else text[: longest - 3] + "..."


# ---- files ----------------------------------------------------------------------------------------------------


def read_file(name: str) -> bytes:
    """What a file holds; `-` is standard input. Misfit if it cannot be read, or is too large."""
    try:
        with open(0 if name == "-" else name, "rb", closefd=name != "-") as file:
            text = file.read(LONGEST_FILE + 1) or b""
    except IsADirectoryError:
        raise Misfit("is a folder; name the files in it") from None
    except OSError as failure:
        raise Misfit(f"cannot be read: {failure.strerror}") from None
    if len(text) > LONGEST_FILE:
        raise Misfit(f"is larger than {size(LONGEST_FILE)}; split it")
    if not text.strip():
        raise Misfit("is empty")
    if text.count(b"\n") > MOST_LINES:
        raise Misfit(f"has more than {MOST_LINES:,} lines; split it")
    return text


def documents(text: bytes) -> list[tuple[int, bytes]]:
    """The reports in a file, unparsed, and their lines; 0: all of it is one."""
    lines = [(number, line) for number, line in enumerate(map(bytes.strip, text.split(b"\n")), 1) if line]
    has_more = len(lines) > 1 and (lines[0][1].endswith(b"}") or lines[1][1].startswith(b"{"))
    return lines if has_more else [(0, text)]


def parse(text: bytes) -> Any:
    """What JSON says. Misfit if it is none."""

    def refuse_constant(name: str) -> None:
        raise Misfit(f"is no JSON: {name} is no number")

    try:
        return json.loads(text.decode("utf-8-sig", "surrogateescape"), parse_constant=refuse_constant)
    except RecursionError:
        raise Misfit("is no report: it is nested too deeply") from None
    except json.JSONDecodeError as failure:
        raise Misfit(f"is no JSON: {failure}") from None
    except ValueError:
        raise Misfit("is no report: a number in it has thousands of digits") from None


def read_one(name: str, schema: dict[str, Any]) -> tuple[list[Report], list[Problem]]:
    """The reports in a file, and what in it is none."""
    shown = "standard input" if name == "-" else cut(printable(os.fsencode(name)), LONGEST_TEXT)
    try:
        found = documents(read_file(name))
    except Misfit as misfit:
        return [], [Problem(shown, str(misfit))]
    reports, problems = [], []
    for line, text in found:
        report = Report(shown, line, {})
        try:
            reports.append(report._replace(data=as_report(parse(text), schema)))
        except Misfit as misfit:
            problems.append(Problem(report.name, clean(str(misfit))))
    if problems[MOST_PROBLEMS:]:
        more = f"has {len(problems) - MOST_PROBLEMS} more lines that are no reports"
        problems[MOST_PROBLEMS:] = [Problem(shown, more)]
    return reports, problems


def read(names: Iterable[str]) -> tuple[list[Report], list[Problem]]:
    """The reports in the files, the worst first, and what is none."""
    schema = load_schema()
    reports: list[Report] = []
    problems: list[Problem] = []
    for name in names:
        found, misfits = read_one(name, schema)
        reports += found
        problems += misfits
    return sorted(reports, key=badness), problems


# ---- the order, and words -------------------------------------------------------------------------------------


def rank(data: dict[str, Any]) -> int:
    """The class of a report, 0 the worst."""
    found = next((place for place, kinds in enumerate(RANKS) if data["reason"]["kind"] in kinds), None)
    if found is not None:
        return found
    return FAILED if data["status"] else WITH_MESSAGE if data["message"] else SUCCESS


def badness(report: Report) -> tuple[int, int, float, str, int]:
    """What reports are sorted by."""
    return rank(report.data), -report.data["status"], -report.data["elapsed_seconds"], report.file, report.line


def reason(data: dict[str, Any]) -> str:
    """What ended the main child, in words: `timeout`, `SIGKILL from elsewhere`, `exited`."""
    kind: str = data["reason"]["kind"]
    name = data["reason"]["signal"]["name"] if data["reason"]["signal"] else "a signal"
    words = {
        "signal forwarded": f"{name} forwarded",
        "crash": f"killed by {name}",
        "signal from elsewhere": f"{name} from elsewhere",
    }.get(kind, kind)
    return f"{words}, not ended" if data["end"]["how"] == "not ended" else words


def ending(end: dict[str, Any]) -> str:
    """How the main child ended: `exited with status 3`, `was killed by SIGKILL`."""
    if end["how"] == "not ended":
        return "has not ended, not even by KILL"
    if end["how"] == "exited":
        return "exited" if end["code"] is None else f"exited with status {end['code']}"
    name = end["signal"]["name"] if end["signal"] else "a signal"
    return f"was killed by {name}, core dumped" if end["core_dumped"] else f"was killed by {name}"


def command(data: dict[str, Any]) -> str:
    """COMMAND as a shell would take it."""
    return shlex.join(data["command"]["words"]) + " ..." * (not data["command"]["is_complete"])


def cpu_seconds(resources: dict[str, dict[str, Any]]) -> float:
    """User and system time of all processes."""
    return float(sum(each["user_seconds"] + each["system_seconds"] for each in resources.values()))


def peak_memory(resources: dict[str, dict[str, Any]]) -> int:
    """The most that one process had, in bytes."""
    return max(int(each["peak_memory_bytes"]) for each in resources.values())


def leftovers(data: dict[str, Any]) -> str:
    """How many were left behind, and how many TERM did not end: `3 (2 KILL)`; `+`: not all are listed."""
    found = data["leftovers"]
    ways = [each["how"] for each in found["listed"] if each["how"] != "TERM"]
    more = "" if found["is_complete"] else "+"
    counts = ", ".join(f"{ways.count(way)}{more} {way}" for way in dict.fromkeys(sorted(ways)))
    return f"{found['count']} ({counts})" if counts else str(found["count"])


def oom_kills(data: dict[str, Any]) -> str:
    """How many were killed for want of memory; `-`: not known."""
    count = (data["memory"] or {"oom_kills": None})["oom_kills"]
    return "-" if count is None else str(count)


def duration(seconds: float) -> str:
    """`42 ms`, `1.25 s`, `12.3 s`, `4 min 05 s`, `2 h 03 min`, `3 d 04 h`."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 59.95:
        return f"{seconds * 1000:.0f} ms" if seconds < 0.0995 else f"{seconds:.{2 if seconds < 9.995 else 1}f} s"
    whole = round(seconds)
    for large, small, names in ((60, 1, ("min", "s")), (3600, 60, ("h", "min"))):
        if whole < large * (60 if large == 60 else 24):
            return f"{whole // large} {names[0]} {whole % large // small:02} {names[1]}"
    return f"{whole // 86400} d {whole % 86400 // 3600:02} h"


def size(count: int) -> str:
    """`640 KiB`, `1.5 GiB`."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1023.5 and len(units) > 1:
        value /= 1024
        del units[0]
    number = f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
    return f"{number[:-2] if number.endswith('.0') else number} {units[0]}"


# ---- the table ------------------------------------------------------------------------------------------------

HEAD = ("STATUS", "REASON", "ELAPSED", "CPU", "PEAK", "ADOPTED", "REAPED", "LEFT", "OOM", "FILE", "COMMAND")
FLUSH_LEFT = ("REASON", "LEFT", "FILE", "COMMAND")
BOLD, RED, YELLOW, GREEN, PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"


def cells(report: Report) -> tuple[str, ...]:
    """A row of the table."""
    data = report.data
    times = duration(data["elapsed_seconds"]), duration(cpu_seconds(data["resources"]))
    counts = str(data["processes"]["adopted"]), str(data["processes"]["reaped"]), leftovers(data), oom_kills(data)
    memory = size(peak_memory(data["resources"]))
    return (str(data["status"]), reason(data), *times, memory, *counts, report.name, command(data))


def width(text: str) -> int:
    """The columns that a terminal needs for it: two for an ideograph, none for an accent."""
    wide = sum(unicodedata.east_asian_width(each) in "WF" for each in text)
    return len(text) + wide - sum(unicodedata.combining(each) > 0 for each in text)


def padded(text: str, columns: int, name: str) -> str:
    """A cell as wide as its column, flush left or right."""
    blanks = " " * (columns - width(text))
    return text + blanks if name in FLUSH_LEFT else blanks + text


def table(reports: list[Report], *, columns: int = 0, is_coloured: bool = False) -> Iterator[str]:
    """The lines of the table, and under it what each report has to say; COMMAND is cut to a terminal of `columns`."""
    rows = [HEAD, *map(cells, reports)]
    widths = [max(map(width, column)) for column in zip(*rows)][:-1]
    room = max(columns - sum(widths) - 2 * len(widths), LEAST_COMMAND) if columns else LONGEST_COMMAND
    colours = [BOLD, *((RED, YELLOW, GREEN)[max(rank(report.data) - FAILED, 0)] for report in reports)]
    for row, colour in zip(rows, colours):
        parts = [padded(cell, columns, name) for cell, columns, name in zip(row, widths, HEAD)]
        if is_coloured:
            last = len(parts) if row is HEAD else 2
            parts = [f"{colour}{part}{PLAIN}" for part in parts[:last]] + parts[last:]
        yield "  ".join([*parts, cut(row[-1], room)])
    said = [report for report in reports if report.data["message"]]
    yield from ["", *(f"{report.name}: {report.data['message']}" for report in said)] if said else []


def terminal() -> tuple[int, bool]:
    """The columns of standard output, 0 if it is no terminal, and whether colours may go there."""
    try:
        columns = os.get_terminal_size(1).columns
    except OSError:
        return 0, False
    return columns, not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


# ---- the timeline ---------------------------------------------------------------------------------------------

SHORTEST_SPAN = 0.001  # seconds: a job that took no time has an axis all the same
MOST_TICKS = 5  # beside 0, or their labels touch on a phone
CLOSEST = 4.0  # percent of the axis: marks that are closer are one, as they are 12 pixels wide on a phone
UNITS = (
    (86400.0, 86400.0, "d"),
    (3600.0, 3600.0, "h"),
    (60.0, 60.0, "min"),
    (0.01, 1.0, "s"),
    (0.0, 0.001, "ms"),
)  # from a step of


class Shape(NamedTuple):
    """A bar, or a mark, which has no width; both in percent of the axis."""

    kind: str
    left: float
    width: float
    title: str


class Row(NamedTuple):
    """A row of the timeline: what it is about, what is drawn, and what is said of it."""

    kind: str
    label: str
    detail: str
    note: str
    shapes: list[Shape]


def percent(at: float, span: float) -> float:
    """Where a time is on the axis."""
    return round(min(max(at / span, 0), 1) * 100, 3)


def ticks(span: float) -> list[tuple[float, str]]:
    """Times on the axis in even steps from 0 on, and their labels in one unit: `0 s`, `20 s`, `40 s`."""
    steps = [each * 10.0**power for power in range(-4, 2) for each in (1, 2, 5)]
    steps += [60.0 * each for each in (1, 2, 5, 10, 20, 30, 60, 120, 180, 360, 720)]
    steps += [86400.0 * each * 10**power for power in range(18) for each in (1, 2, 5)]
    step = next(each for each in steps if span / each <= MOST_TICKS + 1e-9)
    _, unit, name = next(each for each in UNITS if step >= each[0])
    return [(count * step, f"{count * step / unit:g} {name}") for count in range(int(span / step + 1e-9) + 1)]


def bar(kind: str, start: float, end: float, span: float, title: str) -> Shape:
    """A bar from one time to another."""
    left = percent(start, span)
    return Shape(kind, left, round(percent(end, span) - left, 3), title)


def main_row(data: dict[str, Any], span: float) -> Row:
    """The main child, from its start to its end."""
    end, pid = data["end"], f"pid {data['command']['pid']}"
    kind = "main open" if end["how"] == "not ended" else "main"
    title = f"COMMAND, {pid}: {ending(end)} after {duration(end['at'])}"
    return Row("main", command(data), pid, ending(end), [bar(kind, 0, end["at"], span, title)])


def adopted_row(process: dict[str, Any], span: float) -> Row:
    """An adopted process: the time before, in which it was its parent's, and the time in which it was tinyinit's."""
    started, adopted, ended = process["started"], process["adopted"], process["ended"]
    how = process["how"] or "was not reaped"
    times = f"started at {duration(started)}, adopted at {duration(adopted)}"
    title = f"pid {process['pid']}: {times}, {how}" + (f" at {duration(ended)}" if ended is not None else "")
    own = bar("own" if ended is not None else "own open", adopted, span if ended is None else ended, span, title)
    before = bar("before", started, adopted, span, f"pid {process['pid']}: not yet adopted")
    return Row("adopted", process["command"], f"pid {process['pid']}", how, [before, own])


def moments(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The events in their order, with what ended the main child also where the list was cut before that."""
    found: list[dict[str, Any]] = [each for each in data["events"]["listed"] if each["what"] != "main child ended"]
    why = data["reason"]
    if why["at"] is not None and why["kind"] in RANKS[2] and not any(each["what"] == why["kind"] for each in found):
        found.append({"at": why["at"], "what": why["kind"]})
    if data["end"]["how"] != "not ended":
        found.append({"at": data["end"]["at"], "what": "main child ended"})
    found.append({"at": data["elapsed_seconds"], "what": "all is over"})
    return sorted(found, key=lambda each: float(each["at"]))


def sender(event: dict[str, Any]) -> str:
    """Who sent a signal; empty where that is not told."""
    who = event.get("sender")
    if not who:
        return ""
    return f"pid {who['pid']}, uid {who['uid']}" if who["pid"] else f"outside or the kernel, uid {who['uid']}"


def event_words(event: dict[str, Any]) -> str:
    """`SIGTERM came, from pid 1, uid 0`."""
    what, name, pid = event["what"], event.get("signal", {}).get("name", ""), event.get("pid")
    words = what.replace("signal", name, 1) if name and what.startswith("signal ") else what
    words += f", {name}" * bool(name and name not in words) + f", pid {pid}" * (pid is not None)
    return f"{words}, from {sender(event)}" if sender(event) else str(words)


def mark(events: list[dict[str, Any]], span: float) -> Shape:
    """A mark for events that are close together, where the first of them is."""
    title = "; ".join(f"{duration(each['at'])}: {event_words(each)}" for each in events)
    return Shape(events[0]["what"], percent(events[0]["at"], span), 0, cut(title, LONGEST_COMMAND))


def marks_row(label: str, events: list[dict[str, Any]], span: float) -> Row:
    """A row of marks for events of one kind; those that are too close to be told apart are one mark."""
    groups: list[list[dict[str, Any]]] = []
    for event in events:
        if groups and percent(event["at"], span) - percent(groups[-1][0]["at"], span) < CLOSEST:
            groups[-1].append(event)
        else:
            groups.append([event])
    first, last = duration(events[0]["at"]), duration(events[-1]["at"])
    note = f"at {first}" if first == last else f"{first} to {last}"
    detail = f"{len(events)} times" if len(events) > 1 else ""
    return Row(events[0]["what"], label, detail, note, [mark(group, span) for group in groups])


def timeline(data: dict[str, Any]) -> dict[str, Any]:
    """What the template draws for a report."""
    span = max(data["elapsed_seconds"], SHORTEST_SPAN)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for event in moments(data):
        name = event.get("signal", {}).get("name", "") if event["what"].startswith("signal ") else ""
        kinds.setdefault(event["what"].replace("signal", name or "signal", 1), []).append(event)
    rows = [main_row(data, span), *(marks_row(label, events, span) for label, events in kinds.items())]
    rows += [adopted_row(process, span) for process in data["processes"]["listed"]]
    marks = [(percent(at, span), label) for at, label in ticks(span)]
    step = marks[1][0] if len(marks) > 1 else 100
    return {"rows": rows, "ticks": marks, "step": step, "end": percent(data["end"]["at"], span)}


# ---- the page -------------------------------------------------------------------------------------------------

FATES = {
    "TERM": "TERM, in the grace",
    "KILL": "KILL, after the grace",
    "spared": "spared, for TINYINIT_SPARE=1",
    "unkillable": "not even by KILL",
    "waited for": "by itself, which was waited for",
    "left": "left alive, as --leftovers leave says",
}
TONES = {FAILED: "bad", WITH_MESSAGE: "warn", SUCCESS: "good"}
USES = (
    ("user time", "user_seconds", duration),
    ("system time", "system_seconds", duration),
    ("largest process", "peak_memory_bytes", size),
    ("page faults, minor", "minor_page_faults", "{:,}".format),
    ("page faults, major", "major_page_faults", "{:,}".format),
    ("context switches, voluntary", "voluntary_context_switches", "{:,}".format),
    ("context switches, involuntary", "involuntary_context_switches", "{:,}".format),
)


def told(value: float | None, write: Any = "{:,}".format, otherwise: str = "not told") -> str:
    """A value as people read it, or what its absence means."""
    return otherwise if value is None else str(write(value))


def times(count: int) -> str:
    """`never`, `once`, `3 times`."""
    return {0: "never", 1: "once"}.get(count, f"{count:,} times")


def job_facts(data: dict[str, Any]) -> list[tuple[str, str]]:
    """When it ran, and under what."""
    own, why = data["tinyinit"], data["reason"]
    moment = "" if why["at"] is None else f", at {duration(why['at'])}"
    who = f", from {sender(why)}" if why["sender"] else ""
    mode = {"pid1": "as PID 1", "subreaper": f"as subreaper, pid {own['pid']}"}[own["mode"]]
    return [
        ("started", data["started_at"].replace("T", " ")),
        ("ended", data["ended_at"].replace("T", " ")),
        ("elapsed", duration(data["elapsed_seconds"])),
        ("reason", f"{reason(data)}{moment}{who}"),
        ("COMMAND", f"{ending(data['end'])} after {duration(data['end']['at'])}"),
        ("tinyinit", f"{own['version']}, {mode}; {told(own['peak_memory_bytes'], size)} at most"),
    ]


def memory_facts(memory: dict[str, Any] | None) -> list[tuple[str, str]]:
    """What the memory cgroup says."""
    if memory is None:
        return [("cgroup", "not found")]
    return [
        ("cgroup", f"{memory['cgroup']} (version {memory['cgroup_version']})"),
        ("limit", told(memory["limit_bytes"], size, "none")),
        ("peak", told(memory["peak_bytes"], size)),
        ("processes killed for want of it", told(memory["oom_kills"])),
        ("the limit was the cause", told(memory["oom_events"], times)),
        ("all were killed at once", told(memory["oom_group_kills"], times)),
    ]


def limit_facts(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Processes and their limit, CPU throttling, and the signals that were forwarded."""
    pids, cpu, forwarded = data["pids"], data["cpu"], data["signals"]["forwarded"]
    found = [("adopted, reaped", f"{data['processes']['adopted']:,}, {data['processes']['reaped']:,}")]
    found.append(("limit of processes", told(pids["limit"], otherwise="none") if pids else "not found"))
    if pids:
        found.append(("fork failed for it", told(pids["hits"], times)))
    if cpu:
        share = f"{cpu['throttled_periods']:,} of {cpu['periods']:,} periods"
        found.append(("CPU throttled", f"{duration(cpu['throttled_seconds'])}, in {share}"))
    else:
        found.append(("CPU limit", "not found"))
    signals = ", ".join(f"{name} {count:,}\N{MULTIPLICATION SIGN}" for name, count in forwarded.items())
    return [*found, ("signals forwarded", cut(signals, LONGEST_COMMAND) or "none")]


def view(number: int, report: Report) -> dict[str, Any]:
    """What the template shows of a report."""
    data = report.data
    resources = data["resources"]
    uses = [(label, write(resources["main"][key]), write(resources["others"][key])) for label, key, write in USES]
    facts = [
        ("Job", job_facts(data)),
        ("Memory", memory_facts(data["memory"])),
        ("Processes, CPU, signals", limit_facts(data)),
    ]
    return {
        "number": number, "name": report.name, "data": data, "tone": TONES.get(rank(data), "bad"),
        "reason": reason(data), "command": command(data), "elapsed": duration(data["elapsed_seconds"]),
        "cpu": duration(cpu_seconds(resources)), "peak": size(peak_memory(resources)), "left": leftovers(data),
        "timeline": timeline(data), "facts": facts, "uses": uses,
    }  # fmt: skip


def headline(jobs: int, failures: int) -> str:
    """`2 of 5 jobs failed`."""
    if jobs < 2:
        return "The job failed" if failures else "The job ended well" if jobs else "There is no report"
    return f"{failures} of {jobs} jobs failed" if failures else f"All {jobs} jobs ended well"


def load_template() -> Any:
    """The page's template. Refusal without Jinja2."""
    try:
        import jinja2
    except ImportError:
        raise Refusal("option --html needs Jinja2: pip install 'tinyinit[html]'") from None
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters.update(exact="{:,.3f} s".format, fate=FATES.__getitem__, words=event_words)
    return environment.from_string(FOLDER.joinpath("report.html.jinja").read_text("utf-8"))


def page(template: Any, reports: list[Report], problems: list[Problem]) -> str:
    """The page, whole."""
    jobs = [view(number, report) for number, report in enumerate(reports, 1)]
    failures = sum(rank(report.data) <= FAILED for report in reports)
    return str(template.render(jobs=jobs, headline=headline(len(jobs), failures), problems=problems))


# ---- the command ----------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """A line on standard error, if somebody takes it."""
    try:
        os.write(2, f"tinyinit.report: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return  # it is closed or full, and there is nowhere else to say so


def write_page(out: str, text: str) -> None:
    """Write the page. Refusal if it cannot be written, or if something is there that is no page: a report, say."""
    shown = f"'{printable(os.fsencode(out))}'"
    try:
        if os.path.isfile(out) and os.path.getsize(out):
            with open(out, "rb") as file:
                if not file.read(15).lower().startswith(b"<!doctype html>"):
                    raise Refusal(f"{shown} is there, and is no page: it is left as it is; name another OUT")
        with open(out, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as failure:
        raise Refusal(f"cannot write {shown}: {failure.strerror}") from None


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    """The command line; SystemExit with status 2 if it is bad."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Shows reports of tinyinit --report, the worst first.",
        epilog=USE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="a report, or reports as JSON lines; - is standard input"
    )
    parser.add_argument("--html", metavar="OUT", help="write a page, too, with a timeline of each job")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """The exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it also while it waits for standard input, and quietly
    arguments = parse_arguments(words)
    try:
        template = load_template() if arguments.html else None
        reports, problems = read(arguments.files)
        for problem in problems:
            say(f"{problem.name} {problem.text}")
        if template:
            write_page(arguments.html, page(template, reports, problems))
        columns, is_coloured = terminal()
        lines = list(table(reports, columns=columns, is_coloured=is_coloured)) if reports else []
        status = write_all("".join(f"{line}\n" for line in lines).encode())
    except Refusal as refusal:
        say(str(refusal))
        return 1
    return status or bool(problems)


if __name__ == "__main__":
    sys.exit(main())
