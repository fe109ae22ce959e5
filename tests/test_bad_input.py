"""Contract, section 8: one line that says what is wrong and what would be right, and nothing is started."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from conftest import StartTinyinit
from helpers.running import TINYINIT, as_user

USAGE = [
    pytest.param([], "no COMMAND was given; see 'tinyinit --help'", id="nothing"),
    pytest.param(["--"], "no COMMAND was given; see 'tinyinit --help'", id="no command"),
    pytest.param(["-v"], "no COMMAND was given; see 'tinyinit --help'", id="options only"),
    pytest.param(["--nope", "x"], "unknown option '--nope'; see 'tinyinit --help'", id="unknown long option"),
    pytest.param(["-vZ", "x"], "unknown option '-Z'; see 'tinyinit --help'", id="unknown option in a cluster"),
    pytest.param(["--verb", "x"], "unknown option '--verb'; see 'tinyinit --help'", id="abbreviation"),
    pytest.param(["--single-child=1", "x"], "option --single-child takes no value, but was given '1'; see 'tinyinit --help'", id="value of a flag"),
    pytest.param(["-e"], "option -e needs a value: -e CODE; see 'tinyinit --help'", id="no value"),
    pytest.param(["--grace"], "option --grace needs a value: --grace DURATION; see 'tinyinit --help'", id="no long value"),
    pytest.param(["-e", "256", "x"], "option -e: '256' is no exit code; write a number from 0 to 255, such as 143", id="exit code"),
    pytest.param(["-e", "-1", "x"], "option -e: '-1' is no exit code; write a number from 0 to 255, such as 143", id="negative code"),
    pytest.param(["-e1,", "x"], "option -e: '' is no exit code; write a number from 0 to 255, such as 143", id="empty code"),
    pytest.param(["-p", "FOO", "x"], "option -p: 'FOO' is no signal; write one as TERM, SIGTERM, RTMIN+3 or 15", id="signal"),
    pytest.param(["-p", "RTMIN+31", "x"], "option -p: 'RTMIN+31' is no signal; write one as TERM, SIGTERM, RTMIN+3 or 15", id="real-time signal"),
    pytest.param(["-r", "TERM", "x"], "option -r: 'TERM' is no rewrite; write one as TERM:QUIT, or as HUP:0 to drop a signal", id="rewrite"),
    pytest.param(["--rewrite=TERM:65", "x"], "option --rewrite: '65' is no signal; write one as TERM, SIGTERM, RTMIN+3 or 15", id="rewrite's signal"),
    pytest.param(["--grace", "5x", "x"], "option --grace: '5x' is no duration; write one as 10, 10s, 1.5m, 2h, 1d, 500ms or inf", id="duration"),
    pytest.param(["--grace", "-5", "x"], "option --grace: '-5' is no duration; write one as 10, 10s, 1.5m, 2h, 1d, 500ms or inf", id="negative duration"),
    pytest.param(["--leftovers", "eat", "x"], "option --leftovers: 'eat' is not known; write stop, wait or leave", id="choice"),
    pytest.param(["--timeout"], "option --timeout needs a value: --timeout DURATION; see 'tinyinit --help'", id="no timeout"),
    pytest.param(["--timeout", "1m30s", "x"], "option --timeout: '1m30s' is no duration; write one as 10, 10s, 1.5m, 2h, 1d, 500ms or inf", id="timeout"),
    pytest.param(["--kill-after=", "x"], "option --kill-after: '' is no duration; write one as 10, 10s, 1.5m, 2h, 1d, 500ms or inf", id="kill after"),
    pytest.param(["--on-timeout-signal", "STACKS", "x"], "option --on-timeout-signal: 'STACKS' is no signal; write one as TERM, SIGTERM, RTMIN+3 or 15", id="signal on timeout"),
    pytest.param(["--die-with-parent=yes", "x"], "option --die-with-parent takes no value, but was given 'yes'; see 'tinyinit --help'", id="value of die with parent"),
]  # fmt: skip

VARIABLES = [
    pytest.param("TINYINIT_GRACE", "soon", "'soon' is no duration; write one as 10, 10s, 1.5m, 2h, 1d, 500ms or inf", id="duration"),
    pytest.param("TINYINIT_REMAP_EXIT", "a", "'a' is no exit code; write a number from 0 to 255, such as 143", id="code"),
    pytest.param("TINYINIT_VERBOSE", "loud", "'loud' is no switch; write 1 or 0", id="switch"),
    pytest.param("TINYINIT_LEFTOVERS", "", "'' is not known; write stop, wait or leave", id="empty"),
    pytest.param("TINYINIT_TIMEOUT", "30 m", "'30 m' is no duration; write one as 10, 10s, 1.5m, 2h, 1d, 500ms or inf", id="timeout"),
    pytest.param("TINYINIT_KILL_AFTER", "never", "'never' is no duration; write one as 10, 10s, 1.5m, 2h, 1d, 500ms or inf", id="kill after"),
    pytest.param("TINYINIT_ON_TIMEOUT_SIGNAL", "0", "'0' is no signal; write one as TERM, SIGTERM, RTMIN+3 or 15", id="signal"),
    pytest.param("TINYINIT_DIE_WITH_PARENT", "maybe", "'maybe' is no switch; write 1 or 0", id="die with parent"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), USAGE)
def test_bad_usage_is_one_line_and_125(start: StartTinyinit, words: list[str], message: str) -> None:
    assert start(*words).end() == (125, "", f"tinyinit: {message}\n")


@pytest.mark.parametrize(("name", "text", "message"), VARIABLES)
def test_a_bad_variable_is_named(start: StartTinyinit, name: str, text: str, message: str) -> None:
    assert start("true", env={**os.environ, name: text}).end() == (125, "", f"tinyinit: variable {name}: {message}\n")


def make_file(path: Path, mode: int, content: bytes) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def test_a_command_that_is_missing(start: StartTinyinit) -> None:
    assert start("no-such-command-x").end() == (
        127,
        "",
        "tinyinit: cannot find COMMAND 'no-such-command-x' in PATH: No such file or directory; look at its spelling and PATH\n",
    )
    assert start("/no/such/x").end()[::2] == (
        127,
        "tinyinit: cannot find COMMAND '/no/such/x': No such file or directory; look at its path and the working directory\n",
    )
    assert start("").end()[0] == 127


@pytest.mark.parametrize("in_terminal_path", [False, True], ids=["spawned", "forked"])
def test_a_command_that_cannot_be_run(start: StartTinyinit, tmp_path: Path, in_terminal_path: bool) -> None:
    """Both ways to start it: fork is taken where LISTEN_PID names tinyinit."""
    command = ["sh", "-c", 'export LISTEN_PID=$$; exec "$0" "$@"', TINYINIT] if in_terminal_path else None
    plain = make_file(tmp_path / "plain", 0o644, b"#!/bin/sh\n")
    orphaned = make_file(tmp_path / "orphaned", 0o755, b"#!/no/such/interpreter\n")
    foreign = make_file(tmp_path / "foreign", 0o755, b"\x7fELF\2\1\1" + bytes(100))
    for words, status, message in [
        (["/tmp"], 126, "cannot run COMMAND '/tmp': Permission denied; it is a directory, name a program in it"),
        ([plain], 126, f"cannot run COMMAND '{plain}': Permission denied; make it executable (chmod +x), "
                       "and look at noexec among the mount options"),
        ([orphaned], 126, f"cannot run COMMAND '{orphaned}': No such file or directory; it is there, but the "
                          "interpreter in its first line, or the loader that it was linked for, is not"),
        (["/no/such/x"], 127, "cannot find COMMAND '/no/such/x': No such file or directory; look at its path and "
                              "the working directory"),
        ([plain + "/x"], 127, f"cannot find COMMAND '{plain}/x': Not a directory; look at its path and the working "
                              "directory"),
    ]:  # fmt: skip
        assert start("--", *words, command=command).end() == (status, "", f"tinyinit: {message}\n")
    assert start("--", foreign, command=command).end()[0] in (126, 2, 127)  # sh reads what execve(2) does not know


def test_too_many_arguments(start: StartTinyinit) -> None:
    """E2BIG: an argument over 128 KiB that only tinyinit's variables kept short enough."""
    soft = resource.getrlimit(resource.RLIMIT_STACK)

    def small_stack() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, soft[1]))

    words = ["x" * 1000] * 240
    status, _, err = start("sh", "-c", '"$0" true "$@" "$@"', TINYINIT, *words, preexec_fn=small_stack).end()
    assert status == 126
    assert "Argument list too long" in err


def test_a_file_without_a_known_format_runs_through_sh(start: StartTinyinit, tmp_path: Path) -> None:
    script = make_file(tmp_path / "script", 0o755, b'echo "$0 $1 ok"; exit 3\n')
    assert start("--", script, "x").end() == (3, f"{script} x ok\n", "")
    assert start("script", "x", env={**os.environ, "PATH": f"/no/such:{tmp_path}:{os.environ['PATH']}"}).end()[0] == 3


def test_path_is_searched_as_execvp_does(start: StartTinyinit, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    make_file(first / "program", 0o644, b"#!/bin/sh\necho wrong\n")
    make_file(second / "program", 0o755, b"#!/bin/sh\necho right\n")
    assert start("program", env={"PATH": f"{first}:/no/such:{second}"}).end()[1] == "right\n"
    assert start("program", env={"PATH": f"{first}"}).end()[0] == 126
    assert start("./program", cwd=second, env={}).end()[1] == "right\n"
    assert start("program", cwd=second, env={"PATH": "/bin:"}).end()[1] == "right\n"  # empty: where we are
    assert start("true", command=["/usr/bin/env", "-i", TINYINIT]).end()[0] == 0  # unset: execvp(3)'s default


def test_no_process_can_be_started(start_subreaper: StartTinyinit) -> None:
    """RLIMIT_NPROC does not bind root, so this is another user, of whom one process is there already."""

    def no_processes() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))

    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    for command in ([TINYINIT], ["sh", "-c", 'export LISTEN_PID=$$; exec "$0" "$@"', TINYINIT]):
        status, _, err = start_subreaper("true", command=[*as_user(64323), *command], preexec_fn=no_processes).end()
        assert status == 125
        assert err == (
            "tinyinit: cannot start a process: Resource temporarily unavailable; look at the memory limit, and the limit "
            "of processes (docker run --pids-limit, pids.max, ulimit -u)\n"
        )


@pytest.mark.parametrize("option", ["--help", "--version", "--license", "-h", "-V", "-l"])
def test_a_full_standard_output_is_said(start_subreaper: StartTinyinit, option: str) -> None:
    with open("/dev/full", "wb") as full:
        status, _, err = start_subreaper(option, stdout=full).end()
    assert (status, err) == (125, "tinyinit: cannot write to standard output: No space left on device\n")
