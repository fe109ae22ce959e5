"""tinyinit.report: the order, the table, the page's text, and files that are no reports."""

from __future__ import annotations

import copy
import fcntl
import json
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from helpers import reports
from helpers.reports import adopted, end, event, listed, made, reason, resources
from helpers.running import wait_until
from helpers.terminal import read_all
from tinyinit.report import (
    LONGEST_TEXT,
    Misfit,
    Report,
    as_report,
    badness,
    documents,
    duration,
    load_schema,
    moments,
    parse,
    size,
    table,
    ticks,
    timeline,
)

RUN = (sys.executable, "-I", "-m", "tinyinit.report")
SCHEMA: dict[str, Any] = json.loads(
    Path(sys.modules["tinyinit.report"].__file__ or "").with_name("report.schema.json").read_text()
)
RESOLVED = load_schema()
HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n\u202e<script>alert(1)</script>\ud800\x00"
HEAD = "STATUS REASON ELAPSED CPU PEAK ADOPTED REAPED LEFT OOM FILE COMMAND"


def show(*words: str | Path, **run: Any) -> subprocess.CompletedProcess[str]:
    """Run the reader."""
    return subprocess.run([*RUN, *map(str, words)], check=False, capture_output=True, text=True, **run)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a report, or bytes, to a file in `tmp_path`."""

    def write_file(name: str, content: object) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write_file


def cells(line: str) -> list[str]:
    """The cells of a row, which two spaces separate."""
    return re.split(r" {2,}", line.strip())


# ---- made-up reports ------------------------------------------------------------------------------------------

MADE = {"plain": made(), "crowded": reports.crowded(), **{name: make() for name, make in reports.PLAUSIBLE.items()}}


@pytest.mark.parametrize("report", MADE.values(), ids=list(MADE))
def test_the_made_up_reports_are_valid(report: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(report)


def test_the_helper_writes_the_plausible_ones(tmp_path: Path) -> None:
    subprocess.run([sys.executable, reports.__file__, str(tmp_path)], check=True)
    assert {path.name for path in tmp_path.iterdir()} == set(reports.PLAUSIBLE)
    assert show(*tmp_path.iterdir()).returncode == 0


# ---- the order ------------------------------------------------------------------------------------------------

BY_ORDER = [
    ("a", made(status=1, reason=reason("out of memory"), elapsed_seconds=1)),
    ("b", made(status=255, reason=reason("signal from elsewhere", "SIGKILL"))),
    ("b2", made(status=139, reason=reason("crash", "SIGSEGV"))),
    ("c", made(status=137, reason=reason("watchdog"), elapsed_seconds=3)),
    ("d", made(status=137, reason=reason("kill after"), elapsed_seconds=2)),
    ("e", made(status=124, reason=reason("timeout"), message="x")),
    ("f", made(status=0, reason=reason("parent died"))),
    ("g", made(status=143, reason=reason("signal forwarded", "SIGTERM"))),
    ("g2", made(status=130, reason=reason("terminal", "SIGINT"))),
    ("h", made(status=3)),
    ("i", made(status=2, elapsed_seconds=9)),
    ("j", made(status=2, elapsed_seconds=8)),
    ("k", made(status=0, message="x", elapsed_seconds=2)),
    ("l", made(status=0, message="x", elapsed_seconds=1)),
    ("m", made(status=0, elapsed_seconds=5)),
    ("n", made(status=0, elapsed_seconds=5)),
    ("o", made(status=0, reason=reason("signal forwarded", "SIGTERM"), elapsed_seconds=1)),
]


@pytest.mark.parametrize("seed", range(5))
def test_the_worst_comes_first_whatever_the_order_of_the_files(seed: int) -> None:
    shuffled = [Report(name, 0, data) for name, data in BY_ORDER]
    random.Random(seed).shuffle(shuffled)
    assert "".join(report.name for report in sorted(shuffled, key=badness)) == "abb2cdefgg2hijklmno"


def test_every_reason_of_the_schema_is_in_the_order_tested() -> None:
    kinds = SCHEMA["properties"]["reason"]["properties"]["kind"]["enum"]
    assert {data["reason"]["kind"] for _, data in BY_ORDER} == set(kinds)


def test_lines_of_one_file_are_in_their_own_order_where_all_else_is_equal() -> None:
    found = [Report("x", line, made()) for line in (10, 2)]
    assert [report.name for report in sorted(found, key=badness)] == ["x:2", "x:10"]


def test_the_table_is_in_that_order(write: Callable[..., Path]) -> None:
    files = [write(name, data) for name, data in reversed(BY_ORDER)]
    lines = show(*files).stdout.splitlines()[1 : len(BY_ORDER) + 1]
    assert [Path(cells(line)[-2]).name for line in lines] == [name for name, _ in BY_ORDER]


# ---- the table ------------------------------------------------------------------------------------------------


def test_a_row_has_what_there_is_to_know(write: Callable[..., Path], tmp_path: Path) -> None:
    for name, make in reports.PLAUSIBLE.items():
        write(name, make())
    done = show(*reports.PLAUSIBLE, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = done.stdout.splitlines()
    assert head.split() == HEAD.split()
    assert [cells(line) for line in lines[:5]] == [
        ["137", "out of memory", "2 min 23 s", "4 min 02 s", "1.7 GiB", "4", "9", "3 (1 KILL)", "1", "integration.json", "make integration-test"],
        ["137", "SIGKILL from elsewhere", "37.0 s", "1 min 17 s", "288 MiB", "1", "1", "1", "0", "flaky.json", "python -m pytest -n 8 tests"],
        ["124", "timeout", "30 min 09 s", "7 min 25 s", "612 MiB", "2", "5", "1", "0", "end-to-end.json", "sh -c './start-database & npm run end-to-end'"],
        ["2", "exited", "12.5 s", "21.5 s", "144 MiB", "0", "0", "0", "-", "lint.json", "make lint"],
        ["0", "exited", "1 min 05 s", "2 min 07 s", "203 MiB", "1", "1", "0", "-", "unit.json", "make unit-test"],
    ]  # fmt: skip
    names = ("integration.json", "flaky.json", "end-to-end.json")
    assert lines[5:] == ["", *(f"{name}: {reports.PLAUSIBLE[name]()['message']}" for name in names)]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({}, "exited"),
        ({"reason": reason("signal forwarded", "SIGTERM")}, "SIGTERM forwarded"),
        ({"reason": reason("signal from elsewhere", "SIGKILL")}, "SIGKILL from elsewhere"),
        ({"reason": reason("crash", "SIGSEGV")}, "killed by SIGSEGV"),
        ({"reason": reason("signal from elsewhere")}, "a signal from elsewhere"),
        ({"reason": reason("kill after", "SIGTERM")}, "kill after"),
        ({"reason": reason("timeout"), "end": {**end(1.0), "how": "not ended"}}, "timeout, not ended"),
    ],
)
def test_what_ended_it_is_said_in_words(overrides: dict[str, Any], words: str) -> None:
    assert cells(list(table([Report("x", 0, made(**overrides))]))[1])[1] == words


@pytest.mark.parametrize(
    ("ways", "count", "text"),
    [
        ([], 0, "0"),
        (["TERM", "TERM"], 2, "2"),
        (["KILL", "TERM", "KILL"], 3, "3 (2 KILL)"),
        (["unkillable", "KILL", "spared"], 3, "3 (1 KILL, 1 spared, 1 unkillable)"),
        (["TERM", "KILL"], 60, "60 (1+ KILL)"),
    ],
)
def test_leftovers_are_counted_by_what_ended_them(ways: list[str], count: int, text: str) -> None:
    found = [{"pid": 1, "command": "x", "how": way} for way in ways]
    left = {"count": count, "listed": found, "is_complete": count == len(ways)}
    assert cells(list(table([Report("x", 0, made(leftovers=left))]))[1])[7] == text


def test_cpu_time_is_of_all_and_memory_of_the_largest() -> None:
    both = {"main": resources(1.5, 0.5, 1024**2), "others": resources(2.0, 4.0, 3 * 1024**2)}
    assert cells(list(table([Report("x", 0, made(resources=both))]))[1])[3:5] == ["8.00 s", "3 MiB"]


def test_columns_are_aligned_also_where_characters_are_wide() -> None:
    found = [Report(name, 0, made()) for name in ("日本", "e\u0301", "plain.json")]
    lines = [line.partition(" -  ")[2] for line in table(found)]
    assert lines[1:] == ["日本        true", "e\u0301           true", "plain.json  true"]


def test_a_command_that_is_cut_says_so() -> None:
    words = {"words": ["echo", "a b", "$x"], "is_complete": False, "pid": 1}
    assert cells(list(table([Report("x", 0, made(command=words))]))[1])[-1] == "echo 'a b' '$x' ..."
    words = {"words": ["x" * 500], "is_complete": True, "pid": 1}
    row = list(table([Report("x", 0, made(command=words))]))[1]
    assert cells(row)[-1] == "x" * 197 + "..."
    row = list(table([Report("x", 0, made(command=words))], columns=120))[1]
    assert len(row) == 120


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.0421, "42 ms"), (0.0996, "0.10 s"), (1.254, "1.25 s"), (9.996, "10.0 s"), (12.34, "12.3 s"), (59.96, "1 min 00 s"),
     (245, "4 min 05 s"), (3599.7, "1 h 00 min"), (7380, "2 h 03 min"), (86400, "1 d 00 h"), (273600, "3 d 04 h"), (-90, "-1 min 30 s")],
)  # fmt: skip
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (1048575, "1 MiB"), (2**31, "2 GiB"), (2**60, "1048576 TiB")],
)  # fmt: skip
def test_sizes_are_short(count: int, text: str) -> None:
    assert size(count) == text


# ---- where it is printed --------------------------------------------------------------------------------------


def on_terminal(file: Path, columns: int, **environ: str) -> str:
    """What the reader writes to a terminal."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    subprocess.run([*RUN, str(file)], check=True, stdout=follower, env={**env, "TERM": "xterm", **environ})
    os.close(follower)
    return read_all(leader)


def test_a_closed_standard_error_is_no_error(tmp_path: Path) -> None:
    words = ["sh", "-c", 'exec "$@" 2>&-', "sh", *RUN, str(tmp_path / "gone")]
    done = subprocess.run(words, check=False, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (1, b"")


def test_colours_are_for_a_terminal_that_wants_them(write: Callable[..., Path]) -> None:
    file = write("x", made(status=3))
    assert "\x1b[31m" in on_terminal(file, 120)
    assert "\x1b[31m" in on_terminal(file, 120, NO_COLOR="")
    assert "\x1b" not in on_terminal(file, 120, NO_COLOR="1")
    assert "\x1b" not in on_terminal(file, 120, TERM="dumb")
    assert "\x1b" not in show(file).stdout


@pytest.mark.parametrize(("overrides", "colour"), [({"status": 1}, "31"), ({"message": "x"}, "33"), ({}, "32")])
def test_the_colour_is_that_of_the_class(overrides: dict[str, Any], colour: str) -> None:
    assert f"\x1b[{colour}m" in list(table([Report("x", 0, made(**overrides))], is_coloured=True))[1]


def test_a_row_is_as_wide_as_the_terminal_and_no_wider(write: Callable[..., Path]) -> None:
    file = write("x", made(command={"words": ["x" * 999], "is_complete": True, "pid": 1}))
    columns = len(str(file)) + 120
    rows = on_terminal(file, columns, NO_COLOR="1").splitlines()
    assert len(rows[1]) == columns


def test_a_reader_that_has_gone_is_no_error(write: Callable[..., Path]) -> None:
    file = write("x", b"\n".join([json.dumps(made()).encode()] * 1200))  # more than a pipe holds
    with subprocess.Popen([*RUN, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("redirection", [">&-", "> /dev/full"])
def test_an_output_that_cannot_be_written_is_one_line(write: Callable[..., Path], redirection: str) -> None:
    words = ["sh", "-c", f'"$@" {redirection}', "sh", *RUN, str(write("x", made()))]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"tinyinit\.report: cannot write to standard output: .*\n", done.stderr)


def test_ctrl_c_ends_it_quietly() -> None:
    with subprocess.Popen([*RUN, "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        status = Path(f"/proc/{running.pid}/status")
        wait_until(
            lambda: "SigCgt:\t0000000000000000" in status.read_text() and "(sleeping)" in status.read_text(),
            "it to read",
        )
        running.send_signal(signal.SIGINT)
        assert running.stderr
        assert running.stderr.read() == b""
    assert running.returncode == -signal.SIGINT


# ---- where reports come from ----------------------------------------------------------------------------------


def test_standard_input() -> None:
    done = show("-", input=json.dumps(made(status=7)))
    assert cells(done.stdout.splitlines()[1])[0] == "7"
    assert cells(done.stdout.splitlines()[1])[-2] == "standard input"


def test_a_file_may_hold_one_on_each_line(write: Callable[..., Path], tmp_path: Path) -> None:
    lines = [json.dumps(made(status=status)).encode() for status in (0, 5)]
    write("x", b"\n".join([lines[0], b"", b"no report", b"{cut off", lines[1] + b"\r", b""]))
    done = show("x", cwd=tmp_path)
    assert done.returncode == 1
    assert [cells(line)[-2] for line in done.stdout.splitlines()[1:]] == ["x:5", "x:1"]
    assert [line.split()[1] for line in done.stderr.splitlines()] == ["x:3", "x:4"]


@pytest.mark.parametrize("indent", [None, 0, 1, 4])
def test_a_report_may_be_indented(indent: int | None) -> None:
    text = json.dumps(reports.crowded(), indent=indent).encode()
    assert documents(text) == [(0, text)]


def test_a_first_line_that_was_cut_off_does_not_hide_the_others() -> None:
    assert documents(b'{"a": \n{}\n') == [(1, b'{"a":'), (2, b"{}")]


def spelled(number: str) -> bytes:
    """A report with its elapsed time spelled so."""
    return json.dumps(made()).replace('"elapsed_seconds": 0.004', f'"elapsed_seconds": {number}').encode()


# Pythons that take no such number: 3.10.7, 3.9.14 and later
TOO_MANY_DIGITS = (
    "a number in it has thousands of digits"
    if hasattr(sys, "get_int_max_str_digits")
    else "elapsed_seconds is out of range"
)
DEFECTS = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\n", "is empty"),
    "text": (b"hello", "is no JSON: Expecting value: line 1 column 1 (char 0)"),
    "cut off": (json.dumps(made())[:200].encode(), "is no JSON: "),
    "binary": (b"\xff\xfe\xfd\x00" * 99, "is no JSON: Expecting value: line 1 column 1 (char 0)"),
    "UTF-16": (json.dumps(made()).encode("utf-16"), "is no JSON: Expecting value: line 1 column 1 (char 0)"),
    "NaN": (spelled("NaN"), "is no JSON: NaN is no number"),
    "infinite": (spelled("1e999"), "is no report: elapsed_seconds is out of range"),
    "thousands of digits": (spelled("9" * 4000), "is no report: elapsed_seconds is out of range"),
    "too many digits": (spelled("9" * 5000), "is no report: " + TOO_MANY_DIGITS),
    "list": (b"[]", "is no report: it is a list, not an object"),
    "null": (b"null", "is no report: it is null, not an object"),
    "other object": (b"{}", "is no report: it has no 'schema_version'"),
    "other version": ({"schema_version": 2, "new": True}, "has schema_version 2, and this tinyinit reads 1; use the one that wrote it"),
    "hostile version": ({"schema_version": HOSTILE}, "has schema_version "),
    "true as version": (made(schema_version=True), "is no report: schema_version is true, not 1"),
    "member missing": (made(resources={"main": resources()}), "is no report: resources has no 'others'"),
    "string for a number": (made(status="0"), "is no report: status is a string, not a whole number"),
    "true for a number": (made(status=True), "is no report: status is true or false, not a whole number"),
    "fraction": (made(status=0.5), "is no report: status is a number, not a whole number"),
    "number for a string": (made(message=5), "is no report: message is a whole number, not a string or null"),
    "list for an object": (made(memory=[]), "is no report: memory is a list, not an object"),
    "unknown reason": (made(reason=reason("boredom")), 'is no report: reason.kind is "boredom", not "exited" or '),
    "bad status": (made(status=256), "is no report: status is out of range"),
    "bad time": (made(started_at="yesterday"), 'is no report: started_at is "yesterday", which is not how it is written'),
    "bad signal": (made(end=end(1.0, killed_by="KILL")), 'is no report: end.signal.name is "KILL", which is not how it is written'),
    "no words": (made(command={"words": [], "is_complete": True, "pid": 1}), "is no report: command.words has 0 items"),
    "bad item": (made(warnings=["a", 5]), "is no report: warnings[1] is a whole number, not a string"),
    "too many items": (made(warnings=["a"] * 21), "is no report: warnings has 21 items"),
    "too many words": (made(command={"words": [""] * 100_001, "is_complete": True, "pid": 1}), "is no report: command.words has 100001 items"),
    "bad count": (made(signals={"forwarded": {HOSTILE: "x"}}), "is no report: signals.forwarded."),
    "deep": (b"[" * 1_000_000, "is no report: it is nested too deeply"),
    "deep member": (json.dumps(made()).replace('"exited"', "[" * 800 + "]" * 800, 1).encode(), "is no report: end.how is a list, not "),
    "large": (b" " * 100_000_000, "is larger than 16 MiB; split it"),
    "lines": (b"{\n" * 100_001, "has more than 100,000 lines; split it"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), DEFECTS.values(), ids=list(DEFECTS))
def test_what_is_no_report_is_one_line_and_hides_no_other(
    write: Callable[..., Path], tmp_path: Path, content: object, message: str
) -> None:
    write("good", made(status=9))
    write("bad", content)
    done = show("bad", "good", cwd=tmp_path)
    assert done.returncode == 1
    assert [cells(line)[0] for line in done.stdout.splitlines()[1:]] == ["9"]
    assert done.stderr.startswith(f"tinyinit.report: bad {message}")
    assert done.stderr.endswith("\n")
    assert done.stderr[:-1].isprintable()


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = show("folder", "missing\x1b", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "tinyinit.report: folder is a folder; name the files in it",
        "tinyinit.report: missing\\x1b cannot be read: No such file or directory",
    ]


def test_many_bad_lines_are_not_all_named(write: Callable[..., Path], tmp_path: Path) -> None:
    write("x", b"{}\n" * 50)
    lines = show("x", cwd=tmp_path).stderr.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "tinyinit.report: x has 30 more lines that are no reports"


def test_bad_usage_is_said_with_status_2(tmp_path: Path) -> None:
    for words in ([], ["--wrong", "x"], ["x", "--html"]):
        done = show(*words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1].startswith("python -m tinyinit.report: error: ")


def test_a_new_member_is_no_fault_and_is_dropped() -> None:
    report = made(new=[1], memory={**reports.memory(5), "new": 1})
    found = as_report(report, RESOLVED)
    assert found == made(memory=reports.memory(5))


# ---- the check, beside jsonschema's -----------------------------------------------------------------------------

FULL = reports.out_of_memory()
FULL.update(end=end(1.0, killed_by="SIGKILL"), signals={"forwarded": {"SIGTERM": 1}}, warnings=["x"])
FULL["events"] = listed(event(1.0, "signal came", "SIGTERM", sender={"pid": 0, "uid": 0}, pid=5))
WRONG: tuple[Any, ...] = (None, True, -1, 5, 0.5, "x", "", [], ["x"], {}, {"x": 1})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a report."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


def get(value: Any, path: tuple[Any, ...]) -> Any:
    """What is in a place."""
    for key in path:
        value = value[key]
    return value


def variants(path: tuple[Any, ...]) -> Iterator[dict[str, Any]]:
    """The full report without that place, and with each thing in it that might be wrong there."""
    report = copy.deepcopy(FULL)
    del get(report, path[:-1])[path[-1]]
    yield report
    for wrong in WRONG:
        report = copy.deepcopy(FULL)
        get(report, path[:-1])[path[-1]] = wrong
        yield report


def fits(report: Any) -> bool:
    try:
        as_report(report, RESOLVED)
    except Misfit:
        return False
    return True


@pytest.mark.form("installed")
@pytest.mark.heavy
def test_the_check_is_as_strict_as_jsonschema() -> None:
    """Whatever is put in any place, or left out there: both say the same of it."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    verdicts = {True: 0, False: 0}
    for path in places(FULL):
        for report in variants(path):
            verdicts[fits(report)] += 1
            assert fits(report) == validator.is_valid(report), (path, report)
    assert min(verdicts.values()) > 100


def test_the_check_knows_all_that_the_schema_uses() -> None:
    known = {
        *("type", "const", "enum", "minimum", "maximum", "pattern", "minItems", "maxItems", "items", "required"),
        *("properties", "additionalProperties", "anyOf"),
    }  # fmt: skip
    said = {"$schema", "$id", "$defs", "$ref", "title", "description"}

    def keywords(schema: Any) -> Iterator[str]:
        if not isinstance(schema, dict):
            return
        for name, value in schema.items():
            yield name
            if name in ("properties", "$defs"):
                for part in value.values():
                    yield from keywords(part)
            elif name == "anyOf":
                assert len([part for part in value if part != {"type": "null"}]) == 1
                for part in value:
                    yield from keywords(part)
            else:
                yield from keywords(value)

    assert set(keywords(SCHEMA)) - said <= known


def test_text_is_made_harmless_wherever_it_stands() -> None:
    report = copy.deepcopy(FULL)
    for path in [path for path in places(FULL) if isinstance(get(FULL, path), str)]:
        kept = get(report, path)
        get(report, path[:-1])[path[-1]] = HOSTILE
        if not fits(report):  # where only certain words may stand
            get(report, path[:-1])[path[-1]] = kept
    found = as_report(report, RESOLVED)
    texts = [text for text in (get(found, path) for path in places(found)) if isinstance(text, str)]
    assert sum("<script>" in text for text in texts) >= 10
    assert all(text.isprintable() for text in texts)


def test_bytes_that_are_no_text_are_escaped() -> None:
    text = json.dumps(made(message="a?b")).encode().replace(b"?", b"\xff")
    assert as_report(parse(text), RESOLVED)["message"] == r"a\udcffb"


def test_long_text_is_cut() -> None:
    found = as_report(made(message="x" * 1_000_000), RESOLVED)["message"]
    assert (len(found), found[-4:]) == (LONGEST_TEXT, "x...")


def test_a_terminal_is_not_obeyed(write: Callable[..., Path]) -> None:
    report = made(message=HOSTILE, command={"words": ["echo", HOSTILE], "is_complete": True, "pid": 1})
    done = show(write("x\x1b[31m", report))
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert len(done.stdout.splitlines()) == 4
    assert "\\x1b[2J\\x1b]0;owned\\x07\\r\\n\\u202e<script>alert(1)</script>\\ud800\\x00" in done.stdout


def test_json_of_another_kind_is_refused_by_parse() -> None:
    with pytest.raises(Misfit, match="nested too deeply"):
        parse(b'{"a":' * 100_000)
    assert parse(b"\xef\xbb\xbf{}") == {}  # a byte order mark


# ---- the timeline ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "labels"),
    [
        (0.001, ["0 ms", "0.2 ms", "0.4 ms", "0.6 ms", "0.8 ms", "1 ms"]),
        (0.05, ["0 s", "0.01 s", "0.02 s", "0.03 s", "0.04 s", "0.05 s"]),
        (0.7, ["0 s", "0.2 s", "0.4 s", "0.6 s"]),
        (1.0, ["0 s", "0.2 s", "0.4 s", "0.6 s", "0.8 s", "1 s"]),
        (10, ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s"]),
        (143.4, ["0 s", "50 s", "100 s"]),
        (360, ["0 min", "2 min", "4 min", "6 min"]),
        (3600, ["0 min", "20 min", "40 min", "60 min"]),
        (7300, ["0 min", "30 min", "60 min", "90 min", "120 min"]),
        (86400, ["0 h", "6 h", "12 h", "18 h", "24 h"]),
        (259200, ["0 d", "1 d", "2 d", "3 d"]),
    ],
)
def test_the_axis_has_a_few_round_times(span: float, labels: list[str]) -> None:
    assert [label for _, label in ticks(span)] == labels


@pytest.mark.parametrize("exponent", range(-3, 19))
@pytest.mark.parametrize("factor", [1, 1.3, 2.7, 4.99, 9.99])
def test_the_axis_is_never_empty_nor_crowded(exponent: int, factor: float) -> None:
    found = [at for at, _ in ticks(factor * 10.0**exponent)]
    assert 3 <= len(found) <= 6
    assert found[0] == 0
    assert found[-1] <= factor * 10.0**exponent * (1 + 1e-9)
    assert len({label for _, label in ticks(factor * 10.0**exponent)}) == len(found)


def test_bars_have_the_place_of_their_times() -> None:
    process = adopted(7, "x", 20.0, 50.0, 90.0)
    drawn = timeline(
        made(elapsed_seconds=200.0, end=end(100.0, code=0), processes={"adopted": 1, "reaped": 1, **listed(process)})
    )
    main, *_, last = drawn["rows"]
    assert [(shape.left, shape.width) for shape in main.shapes] == [(0, 50)]
    assert [(shape.kind, shape.left, shape.width) for shape in last.shapes] == [("before", 10, 15), ("own", 25, 20)]
    assert drawn["end"] == 50


def test_what_was_not_reaped_and_what_is_older_than_the_job_ends_at_the_edges() -> None:
    process = adopted(7, "x", -3600.0, 5.0, None)
    drawn = timeline(made(elapsed_seconds=10.0, processes={"adopted": 1, "reaped": 0, **listed(process)}))
    shapes = drawn["rows"][-1].shapes
    assert [(shape.kind, shape.left, shape.width) for shape in shapes] == [("before", 0, 50), ("own open", 50, 50)]
    assert drawn["rows"][-1].note == "was not reaped"


def test_signals_have_a_row_for_each_name_and_direction() -> None:
    names = ("SIGTERM", "SIGINT", "SIGTERM")
    found = [event(at, what, name) for at, name in enumerate(names, 1) for what in ("signal came", "signal sent")]
    rows = timeline(made(elapsed_seconds=10.0, end=end(9.0, code=0), events=listed(*found)))["rows"]
    assert [(row.label, row.detail, row.note) for row in rows[1:]] == [
        ("SIGTERM came", "2 times", "1.00 s to 3.00 s"),
        ("SIGTERM sent", "2 times", "1.00 s to 3.00 s"),
        ("SIGINT came", "", "at 2.00 s"),
        ("SIGINT sent", "", "at 2.00 s"),
        ("main child ended", "", "at 9.00 s"),
        ("all is over", "", "at 10.0 s"),
    ]


def test_marks_that_are_too_close_are_one_that_names_them_all() -> None:
    found = [event(at, "signal came", "SIGTERM", sender={"pid": 1, "uid": 0}) for at in (1.0, 1.1, 1.3, 1.5)]
    rows = timeline(made(elapsed_seconds=10.0, end=end(9.0, code=0), events=listed(*found)))["rows"]
    assert [(shape.left, shape.title.count("SIGTERM came, from pid 1, uid 0")) for shape in rows[1].shapes] == [
        (10, 3),
        (15, 1),
    ]


def test_what_ended_the_job_is_drawn_also_where_the_list_was_cut_before_it() -> None:
    report = made(
        elapsed_seconds=9.0, reason=reason("timeout", "SIGTERM", 5.0), events={"listed": [], "is_complete": False}
    )
    assert [(each["what"], each["at"]) for each in moments(report)] == [
        ("main child ended", 0.003), ("timeout", 5.0), ("all is over", 9.0)
    ]  # fmt: skip


def test_every_event_of_the_schema_can_be_drawn() -> None:
    kinds = SCHEMA["$defs"]["event"]["properties"]["what"]["enum"]
    report = made(elapsed_seconds=20.0, events=listed(*(event(at, kind) for at, kind in enumerate(kinds))))
    assert {row.kind for row in timeline(report)["rows"]} == {*kinds, "main", "all is over"}


# ---- the page -------------------------------------------------------------------------------------------------


@pytest.fixture
def page(write: Callable[..., Path], tmp_path: Path) -> Callable[..., str]:
    """The page of some reports."""

    def write_page(*found: dict[str, Any]) -> str:
        files = [write(f"{number}.json", report) for number, report in enumerate(found)]
        out = tmp_path / "page.html"
        done = show(*files, "--html", out)
        assert (done.returncode, done.stderr) == (0, "")
        return out.read_text()

    return write_page


def test_the_page_needs_nothing_from_anywhere(page: Callable[..., str]) -> None:
    text = page(*MADE.values())
    assert text.startswith("<!doctype html>")
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in text
    assert not re.search(
        r"<(script|link|img|iframe|object|embed|video|audio|base|form)\b|url\(|@import|https?:|//", text
    )
    assert set(re.findall(r'(?:href|src)="([^"]{0,4})', text)) == {"#job"}


def test_the_page_is_in_the_same_order(page: Callable[..., str]) -> None:
    text = page(*(data for _, data in reversed(BY_ORDER)))
    statuses = re.findall(r"<h2 .*?>status (\d+)<", text)
    assert statuses == [str(data["status"]) for _, data in BY_ORDER]


def test_a_hostile_report_is_text_on_the_page(page: Callable[..., str]) -> None:
    report = reports.out_of_memory()
    report.update(message=HOSTILE, warnings=[HOSTILE], command={"words": [HOSTILE], "is_complete": True, "pid": 1})
    report["memory"]["cgroup"] = report["tinyinit"]["version"] = HOSTILE
    report["signals"] = {"forwarded": {HOSTILE: 1}}
    for each in (*report["processes"]["listed"], *report["leftovers"]["listed"]):
        each["command"] = HOSTILE
        each["how"] = HOSTILE if "started" in each else each["how"]
    text = page(report)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 15
    assert all(line.isprintable() for line in text.splitlines())


def test_lists_that_were_cut_say_so(page: Callable[..., str]) -> None:
    text = page(reports.crowded())
    assert "Only 50 of 412 adopted processes are listed." in text
    assert "Only the first 100 events are listed; there were more." in text
    assert "Only 50 of 74 are listed." in text
    assert "Only" not in page(made())


def test_who_sent_a_signal_is_said(page: Callable[..., str]) -> None:
    text = page(made(
        reason=reason("signal from elsewhere", "SIGKILL", 2.0, (12, 1000)),
        events=listed(event(1.0, "signal came", "SIGTERM", sender={"pid": 0, "uid": 0}), event(1.5, "process signalled", "SIGTERM", pid=33)),
    ))  # fmt: skip
    assert "SIGKILL from elsewhere, at 2.00 s, from pid 12, uid 1000" in text
    assert "<td>SIGTERM came, from outside or the kernel, uid 0</td>" in text
    assert "<td>process signalled, SIGTERM, pid 33</td>" in text


def test_a_main_child_that_has_not_ended(write: Callable[..., Path], tmp_path: Path) -> None:
    data = made(status=124, reason=reason("timeout", at=1.0), end={**end(1.0), "how": "not ended"}, events=listed())
    assert show(write("x", data), "--html", tmp_path / "out.html").returncode == 0
    text = (tmp_path / "out.html").read_text()
    assert "has not ended, not even by KILL" in text
    assert "main child ended" not in text


def test_files_that_are_no_reports_are_on_the_page(write: Callable[..., Path], tmp_path: Path) -> None:
    done = show(write("good", made()), write("<b>", b"x"), "--html", tmp_path / "out.html")
    assert done.returncode == 1
    assert "&lt;b&gt;</code> is no JSON: " in (tmp_path / "out.html").read_text()


@pytest.mark.parametrize(
    ("found", "title"),
    [([0], "The job ended well"), ([1], "The job failed"), ([0, 0], "All 2 jobs ended well"), ([0, 1], "1 of 2 jobs failed"), ([], "There is no report")],
)  # fmt: skip
def test_the_headline_says_how_many_failed(
    write: Callable[..., Path], tmp_path: Path, found: list[int], title: str
) -> None:
    files = [write(f"{number}", made(status=status)) for number, status in enumerate(found)] or [write("x", b"")]
    show(*files, "--html", tmp_path / "out.html")
    assert f"<h1>{title}</h1>" in (tmp_path / "out.html").read_text()


def test_a_page_may_be_written_again_but_no_other_file(write: Callable[..., Path], tmp_path: Path) -> None:
    report, out = write("a.json", made()), tmp_path / "out.html"
    for _ in range(2):
        assert show(report, "--html", out).returncode == 0
    before = report.read_bytes()
    done = show(report, "--html", report)
    message = f"tinyinit.report: '{report}' is there, and is no page: it is left as it is; name another OUT\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)
    assert report.read_bytes() == before


def test_a_page_that_cannot_be_written_is_one_line(write: Callable[..., Path], tmp_path: Path) -> None:
    done = show(write("x", made()), "--html", "missing/out.html", cwd=tmp_path)
    message = "tinyinit.report: cannot write 'missing/out.html': No such file or directory\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


def test_without_jinja2_the_page_is_refused_and_the_table_works(write: Callable[..., Path], tmp_path: Path) -> None:
    code = "import runpy, sys; sys.modules['jinja2'] = None; runpy.run_module('tinyinit.report', run_name='__main__', alter_sys=True)"
    words = [sys.executable, "-I", "-c", code, str(write("x", made(status=4)))]
    done = subprocess.run([*words, "--html", str(tmp_path / "out.html")], check=False, capture_output=True, text=True)
    message = "tinyinit.report: option --html needs Jinja2: pip install 'tinyinit[html]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)
    assert not (tmp_path / "out.html").exists()
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert cells(done.stdout.splitlines()[1])[0] == "4"
