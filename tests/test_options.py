"""The table of options: what a value may be, the variables, tini's and dumb-init's spellings, --help and README."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from conftest import StartTinyinit
from tinyinit import __version__
from tinyinit.explain import help_text, usage
from tinyinit.init import Options
from tinyinit.options import (
    FOREIGN_VARIABLES,
    OPTIONS,
    Option,
    parse_command_line,
    parse_duration,
    parse_environment,
    parse_limit,
    parse_rewrites,
    parse_signal,
    signal_name,
)

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 10), ("10s", 10), ("1.5m", 90), ("2h", 7200), ("1d", 86400), ("500ms", 0.5), ("0", 0), (".5", 0.5), ("inf", float("inf"))],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "1 s", "+1", "-1", "1e3", "nan", "infinity", "1.2.3", "1sm", "1m30s", "\u0661", "1_0", ".", "0x1"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration; write one as"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10", 10), ("0", float("inf")), ("0ms", float("inf")), ("inf", float("inf"))]
)
def test_a_limit_of_zero_is_none(text: str, seconds: float) -> None:
    assert parse_limit(text) == seconds


@pytest.mark.parametrize("number", [n for n in range(1, 65) if n not in (32, 33)])
def test_every_signal_by_number_and_by_its_name(number: int) -> None:
    assert parse_signal(str(number)) == number
    name = signal_name(number)
    assert parse_signal(name) == parse_signal(name[3:]) == parse_signal(name.lower()) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("RTMIN", signal.SIGRTMIN), ("RTMIN+3", signal.SIGRTMIN + 3), ("SIGRTMAX-1", signal.SIGRTMAX - 1), ("RTMAX", signal.SIGRTMAX),
     ("CLD", signal.SIGCHLD), ("IOT", signal.SIGABRT), ("POLL", signal.SIGIO), ("STKFLT", 16)],
)  # fmt: skip
def test_signals_by_other_names(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text", ["", "SIG", "0", "-1", "32", "33", "65", "TERM+1", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMAX-31", "SIG15", " 15", "15 ", "_DFL", "\u0661", "\u017figterm"]
)  # fmt: skip
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(ValueError, match="is no signal; write one as"):
        parse_signal(text)


def test_rewrites_add_up() -> None:
    assert parse_rewrites("TERM:QUIT,HUP:0", {10: 12, 15: 2}) == {10: 12, 15: 3, 1: 0}


@pytest.mark.parametrize(
    ("words", "values", "command"),
    [
        (["x"], {}, ["x"]),
        (["--", "-x", "--"], {}, ["-x", "--"]),
        (["-", "y"], {}, ["-", "y"]),
        (["x", "-v", "--"], {}, ["x", "-v", "--"]),
        (["-gvs", "x"], {"single_child": False, "verbosity": 2, "subreaper": True}, ["x"]),
        (["-ve143", "x"], {"verbosity": 2, "remap_exit": frozenset({143})}, ["x"]),
        (["-e", "1", "-e", "2,3", "x"], {"remap_exit": frozenset({1, 2, 3})}, ["x"]),
        (["--grace=1m", "x"], {"grace": 60.0}, ["x"]),
        (["--grace", "1m", "x"], {"grace": 60.0}, ["x"]),
        (["-c", "-g", "x"], {"single_child": False}, ["x"]),
        (["-q", "-v", "x"], {"verbosity": 2}, ["x"]),
        (["-pKILL", "x"], {"parent_death_signal": 9}, ["x"]),
        (["--timeout=1m", "--kill-after", "2", "x"], {"timeout": 60.0, "kill_after": 2.0}, ["x"]),
        (["--timeout", "0", "--kill-after=0", "x"], {"timeout": float("inf"), "kill_after": float("inf")}, ["x"]),
        (
            ["--on-timeout-signal=quit", "--die-with-parent", "x"],
            {"on_timeout_signal": 3, "die_with_parent": True},
            ["x"],
        ),
        (["--leftovers", "wait", "x"], {"leftovers": "wait"}, ["x"]),
    ],
)
def test_the_command_line(words: list[str], values: dict[str, object], command: list[str]) -> None:
    assert parse_command_line(words) == (values, command)


TINI = ["-s", "-g", "-w", "-v", "-vvv", "-l", "-h", "-p SIGTERM", "-e 143", "--version"]
DUMB_INIT = ["-c", "-r TERM:QUIT", "-v", "-h", "-V", "--single-child", "--rewrite TERM:QUIT", "--verbose", "--help", "--version"]  # fmt: skip


@pytest.mark.parametrize("spelling", TINI + DUMB_INIT)
def test_spellings_of_tini_and_dumb_init(spelling: str) -> None:
    values, command = parse_command_line([*spelling.split(" "), "x"])
    assert values
    assert command == ["x"]


@pytest.mark.parametrize(
    ("environ", "values"),
    [
        ({"TINI_SUBREAPER": ""}, {"subreaper": True}),
        ({"TINI_KILL_PROCESS_GROUP": "1"}, {"single_child": False}),
        ({"TINI_VERBOSITY": "0"}, {"verbosity": 0}),
        ({"TINI_VERBOSITY": "1"}, {}),
        ({"TINI_VERBOSITY": "3"}, {"verbosity": 2}),
        ({"DUMB_INIT_DEBUG": "1"}, {"verbosity": 2}),
        ({"DUMB_INIT_DEBUG": "0"}, {}),
        ({"DUMB_INIT_SETSID": "0"}, {"single_child": True}),
        ({"DUMB_INIT_SETSID": "1"}, {}),
        ({"DUMB_INIT_SETSID": "0", "TINYINIT_KILL_PROCESS_GROUP": "1"}, {"single_child": False}),
        ({"TINYINIT_VERBOSE": "no", "TINYINIT_QUIET": "yes"}, {"verbosity": 0}),
        ({"TINYINIT_REWRITE": "TERM:QUIT,HUP:0"}, {"rewrite": {15: 3, 1: 0}}),
        ({"TINYINIT_GRACE": "2s", "TINYINIT_LEFTOVERS": "leave"}, {"grace": 2.0, "leftovers": "leave"}),
        ({"TINYINIT_TIMEOUT": "30m", "TINYINIT_KILL_AFTER": "10"}, {"timeout": 1800.0, "kill_after": 10.0}),
        (
            {"TINYINIT_ON_TIMEOUT_SIGNAL": "QUIT", "TINYINIT_DIE_WITH_PARENT": "1"},
            {"on_timeout_signal": 3, "die_with_parent": True},
        ),
        ({"TINYINIT_HELP": "1", "TINYINIT_": "1"}, {}),
    ],
)
def test_variables(environ: dict[str, str], values: dict[str, object]) -> None:
    assert parse_environment({os.fsencode(k): os.fsencode(v) for k, v in environ.items()}) == values


def test_every_long_option_has_a_variable() -> None:
    for option in OPTIONS:
        expected = "" if option.key == "show" else "TINYINIT_" + option.long.upper().replace("-", "_")
        assert option.variable == expected


def test_the_command_line_wins_over_the_environment(start: StartTinyinit) -> None:
    environ = {**os.environ, "TINYINIT_REMAP_EXIT": "3"}
    assert start("sh", "-c", "exit 3", env=environ).end()[0] == 0
    assert start("-e", "4", "sh", "-c", "exit 3", env=environ).end()[0] == 3


def test_the_variables_of_limits_do_what_the_options_do(start: StartTinyinit) -> None:
    environ = {**os.environ, "TINYINIT_TIMEOUT": "200ms", "TINYINIT_QUIET": "1"}
    assert start("sleep", "60", env=environ).end() == (124, "", "")
    assert start("--timeout", "inf", "sh", "-c", "sleep 0.4; exit 3", env=environ).end() == (3, "", "")


def test_a_variable_that_is_like_ours_is_told_once_and_let_be(start: StartTinyinit) -> None:
    environ = {**os.environ, "TINYINIT_GRAZE": "1"}
    warning = "tinyinit: warning: variable TINYINIT_GRAZE is not known; see 'tinyinit --help'\n"
    assert start("echo", "x", env=environ).end() == (0, "x\n", warning)
    assert start("-q", "echo", "x", env=environ).end() == (0, "x\n", "")


def test_a_variable_whose_name_is_no_text_is_told_in_one_line(start: StartTinyinit) -> None:
    warning = "tinyinit: warning: variable TINYINIT_\\n\\x1b[31m is not known; see 'tinyinit --help'\n"
    assert start("true", env={**os.environ, "TINYINIT_\n\x1b[31m": "1"}).end() == (0, "", warning)


def test_quiet_says_nothing_but_fatal_errors(start: StartTinyinit) -> None:
    assert start("-q", "sh", "-c", "exit 2").end() == (2, "", "")
    status, out, err = start("-q", "/no/such").end()
    assert (status, out) == (127, "")
    assert err.startswith("tinyinit: cannot find COMMAND '/no/such'")


def test_verbose_tells_every_event(start: StartTinyinit) -> None:
    running = start("-v", "sh", "-c", "trap 'exit 7' TERM; echo 'ready (pid: 1)'; while :; do sleep 0.01; done")
    running.wait_ready()
    running.send(signal.SIGTERM)
    status, _, err = running.end()
    assert status == 7
    patterns = [
        r"tinyinit: started COMMAND \(pid \d+\) in a process group of its own",
        r"tinyinit: SIGTERM came from pid \d+, uid 0",
        r"tinyinit: sent SIGTERM to COMMAND",
        r"tinyinit: COMMAND \(pid \d+\) exited with status 7",
    ]
    lines = iter(err.splitlines())
    for pattern in patterns:
        assert any(re.fullmatch(pattern, line) for line in lines), f"{pattern} is not in, or not in its place:\n{err}"


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_comes_from_the_table(start_subreaper: StartTinyinit, option: str) -> None:
    status, out, err = start_subreaper(option, "ignored").end()
    assert (status, err) == (0, "")
    assert out == help_text()
    for row in OPTIONS:
        assert re.search(rf"^  {re.escape(usage(row))} +{re.escape(row.help)}$", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(start_subreaper: StartTinyinit, option: str) -> None:
    assert start_subreaper(option).end() == (0, f"tinyinit {__version__}\n", "")


@pytest.mark.parametrize("option", ["-l", "--license"])
def test_the_license_is_the_one_in_the_repository(start_subreaper: StartTinyinit, option: str) -> None:
    assert start_subreaper(option).end() == (0, (ROOT / "LICENSE").read_text(), "")


def test_options_are_immutable() -> None:
    options = Options({"grace": 1.0})
    assert options.grace == 1.0
    with pytest.raises(AttributeError, match="immutable"):
        options.grace = 2.0


def row_of(option: Option) -> str:
    cells = (f"`{usage(option).strip()}`", f"`{option.variable}`" if option.variable else "", option.help)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def test_readme_has_the_table(readme: str) -> None:
    assert "\n".join(row_of(option) for option in OPTIONS) in readme


def test_readme_names_every_foreign_variable(readme: str) -> None:
    for name, _ in FOREIGN_VARIABLES:
        assert f"`{name}`" in readme


@pytest.fixture
def readme() -> str:
    return (ROOT / "README.md").read_text()
