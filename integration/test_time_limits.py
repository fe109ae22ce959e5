"""Contract, section 6: `--timeout`, `--on-timeout-signal` and `--kill-after`, as an entrypoint has them."""

from __future__ import annotations

import signal

import pytest
from engine import AT_ONCE

from conftest import StartContainer
from helpers.running import split_line

BY_OPTION_AND_VARIABLE = [
    pytest.param(["--entrypoint=tinyinit"], ["--timeout", "1", "--"], id="option"),
    pytest.param(["--env=TINYINIT_TIMEOUT=1"], [], id="variable"),
]
IGNORES_TERM = "trap '' TERM; echo 'ready (pid: 1)'; exec sleep 60"
LOG_UNTIL_TERM = ("python3", "/programs/log_signals.py", "got", str(int(signal.SIGTERM)))


@pytest.mark.parametrize(("options", "words"), BY_OPTION_AND_VARIABLE)
def test_a_timeout_ends_all_with_124_and_shows_what_ran(
    start: StartContainer, options: list[str], words: list[str]
) -> None:
    running = start(*words, "sh", "-c", "(setsid sleep 61 &); exec sleep 60", options=options)
    status, out, err = running.end()
    head, names, *rows = split_line(err)[0].splitlines()
    assert (status, out) == (124, "")
    assert head == "tinyinit: COMMAND has run for 1 s, which is its --timeout; what runs now:"
    assert names.split() == ["tinyinit:", "PID", "PPID", "PGID", "SID", "STAT", "ELAPSED", "TIME", "WCHAN", "COMMAND"]
    assert [row.split()[1:3] for row in rows] == [["1", "0"], [rows[1].split()[1], "1"], [rows[2].split()[1], "1"]]
    assert [row.split(None, 9)[9] for row in rows[1:]] == ["sleep 60", "sleep 61 <adopted>"]


def test_a_command_that_ends_in_time_has_its_own_status(start: StartContainer) -> None:
    assert start("sh", "-c", "exit 3", options=["--env=TINYINIT_TIMEOUT=1m"]).end() == (3, "", "")


def test_the_signal_for_evidence_comes_before_term(start: StartContainer) -> None:
    options = ["--env=TINYINIT_TIMEOUT=1", "--env=TINYINIT_ON_TIMEOUT_SIGNAL=QUIT"]
    running = start(*LOG_UNTIL_TERM, options=options)
    status, out, _ = running.end()
    assert (status, out.splitlines()[1:]) == (124, [f"got {signal.SIGQUIT:d}", f"got {signal.SIGTERM:d}"])


@pytest.mark.parametrize("grace", ["--env=TINYINIT_GRACE=1", "--env=TINYINIT_KILL_AFTER=1"])
def test_a_command_that_ignores_term_is_killed(start: StartContainer, grace: str) -> None:
    running = start("sh", "-c", IGNORES_TERM, options=["--env=TINYINIT_TIMEOUT=500ms", grace])
    assert running.end()[0] == 124


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--entrypoint=tinyinit"], ["--kill-after", "1", "--"], id="option"),
        pytest.param(["--env=TINYINIT_KILL_AFTER=1"], [], id="variable"),
    ],
)
def test_docker_stop_ends_what_ignores_term_after_kill_after(
    start: StartContainer, options: list[str], words: list[str]
) -> None:
    """Without it the engine kills after its own 10 seconds, PID 1 and all."""
    running = start(*words, "sh", "-c", IGNORES_TERM, options=options)
    running.wait_ready()
    assert 1.0 <= running.stop("--time", "10") < 1.0 + AT_ONCE
    assert running.end()[0] == 128 + signal.SIGKILL


def test_docker_stop_before_the_timeout_is_no_timeout(start: StartContainer) -> None:
    running = start("sh", "-c", "echo 'ready (pid: 1)'; exec sleep 60", options=["--env=TINYINIT_TIMEOUT=1m"])
    running.wait_ready()
    assert running.stop() < AT_ONCE
    assert running.end()[::2] == (128 + signal.SIGTERM, "")
