"""Contract, section 6: --timeout and --on-timeout-signal. RACES=1000 lets COMMAND end at that very moment so often."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from conftest import StartTinyinit
from helpers.running import TINYINIT, Running, program, split_line

TIMED_OUT = 124
RACES = int(os.environ.get("RACES") or 40)
DEAF = program("log_signals", "got")  # blocks all signals
QUIET = ("-q", "--grace", "200ms")


# ---- the status -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("exec sleep 60", id="obeys"),
        pytest.param("trap 'exit 0' TERM; while :; do sleep 0.01; done", id="exits with 0 on TERM"),
        pytest.param("trap '' TERM; while :; do sleep 0.01; done", id="ignores TERM"),
        pytest.param("kill -STOP $$", id="is stopped"),
        pytest.param("trap '' TERM; kill -STOP $$; sleep 60", id="is stopped and ignores TERM"),
    ],
)
def test_it_is_124_whatever_the_command_makes_of_term(start: StartTinyinit, script: str) -> None:
    begin = time.monotonic()
    status, out, err = start(*QUIET, "--timeout", "300ms", "--", "sh", "-c", script).end()
    assert (status, out) == (TIMED_OUT, "")
    assert "tinyinit" not in err
    assert 0.3 <= time.monotonic() - begin <= 3


def test_kill_comes_after_kill_after_where_that_is_given(start: StartTinyinit) -> None:
    begin = time.monotonic()
    options = ("-q", "--timeout", "200ms", "--kill-after", "300ms", "--grace", "60")
    assert start(*options, "--", *DEAF).end()[::2] == (TIMED_OUT, "")
    assert 0.5 <= time.monotonic() - begin <= 3


def test_the_status_of_one_that_ends_in_time_is_its_own(start: StartTinyinit) -> None:
    assert start("--timeout", "60", "--", "sh", "-c", "exit 7").end() == (7, "", "")
    assert start("-q", "--timeout", "60", "--", "sh", "-c", "kill -KILL $$").end() == (137, "", "")


@pytest.mark.parametrize("duration", ["0", "inf", "1000000000000d"])
def test_zero_and_infinite_are_never(start_subreaper: StartTinyinit, duration: str) -> None:
    assert start_subreaper("--timeout", duration, "--", "sh", "-c", "sleep 0.2; exit 7").end() == (7, "", "")


def test_what_is_left_after_a_timeout_is_ended_too(start: StartTinyinit) -> None:
    """Even where it would be waited for."""
    options = (*QUIET, "--timeout", "500ms", "--leftovers", "wait")
    words = ["sh", "-c", 'setsid "$@" & exec sleep 60', "sh", *DEAF]
    begin = time.monotonic()
    status, out, err = start(*options, "--", *words).end()
    assert (status, out.splitlines()[1:], err) == (TIMED_OUT, ["got 15", "got 18"], "")
    assert time.monotonic() - begin <= 3


def test_a_limit_goes_on_while_the_command_is_stopped(start_subreaper: StartTinyinit) -> None:
    """There is a shell that watches, so tinyinit could stop as well; but nobody has typed Ctrl-Z."""
    shell = ["bash", "-c", 'set -m; "$@" & wait $!', "bash", TINYINIT]
    words = ("-q", "--timeout", "300ms", "--", "sh", "-c", "kill -STOP $$; sleep 60")
    assert start_subreaper(*words, command=shell).end()[0] == TIMED_OUT


def test_a_command_that_waits_for_signals_has_timed_out_too(start: StartTinyinit) -> None:
    """As a tinyinit does: in sigwaitinfo(2) the kernel shows TERM as not blocked, but it does not kill."""
    inner = [TINYINIT, "--", *program("log_signals", "got", signal.SIGTERM)]
    status, out, err = start(*QUIET, "--timeout", "700ms", "--", *inner).end()
    assert (status, out.splitlines()[1:], err) == (TIMED_OUT, ["got 15"], "")


# ---- evidence -------------------------------------------------------------------------------------------------


def test_the_process_tree_is_shown(start: StartTinyinit) -> None:
    """`exec sleep` does not reap the child that its shell had, which has ended."""
    script = "(setsid sleep 61 &); exec sh -c ': & exec sleep 62'"
    status, out, err = start("--timeout", "500ms", "--", "sh", "-c", script).end()
    assert (status, out) == (TIMED_OUT, "")
    lines = split_line(err)[0].splitlines()
    assert all(line.startswith("tinyinit: ") for line in lines)
    assert lines[0] == "tinyinit: COMMAND has run for 0.5 s, which is its --timeout; what runs now:"
    assert lines[1].split()[1:] == ["PID", "PPID", "PGID", "SID", "STAT", "ELAPSED", "TIME", "WCHAN", "COMMAND"]
    pids = r"^tinyinit: +\d+ +\d+ +\d+ +\d+ "
    assert re.search(pids + r"S.*  sleep 61 <adopted>$", err, re.MULTILINE)
    assert re.search(pids + r"S.*  sleep 62$", err, re.MULTILINE)
    assert re.search(pids + r"Z.* \[sh\] <zombie, not reaped by 'sleep' \(pid \d+\)>$", err, re.MULTILINE)
    assert re.fullmatch(r"tinyinit: 1 zombie is not reaped by 'sleep' \(pid \d+\)", lines[-1])


def test_quiet_shows_no_tree(start: StartTinyinit) -> None:
    assert start("-q", "--timeout", "100ms", "--", "sleep", "60").end() == (TIMED_OUT, "", "")


def test_a_large_tree_is_bounded(start_subreaper: StartTinyinit) -> None:
    script = "i=0; while [ $i -lt 150 ]; do sleep 60 & i=$((i+1)); done; wait"
    err = start_subreaper("--timeout", "1500ms", "--", "sh", "-c", script).end()[2]
    lines = split_line(err)[0].splitlines()
    assert lines[-1] == "tinyinit: ... and 52 more: 100 of 152 processes are shown"
    assert len(lines) == 1 + 1 + 100 + 1


def test_without_proc_there_is_no_tree_and_it_is_ended_all_the_same(
    start_subreaper: StartTinyinit, without_proc: list[str]
) -> None:
    status, _, err = start_subreaper("--timeout", "200ms", "--", "sleep", "60", command=[*without_proc, TINYINIT]).end()
    assert status == TIMED_OUT
    assert "tinyinit: warning: the process tree cannot be shown: " in err


def test_the_signal_for_evidence_comes_a_second_before_term(start_subreaper: StartTinyinit) -> None:
    begin = time.monotonic()
    options = (*QUIET, "--timeout", "200ms", "--on-timeout-signal", "QUIT", "--kill-after", "60")
    running = start_subreaper(*options, "--", *program("log_signals", "got", signal.SIGTERM))
    assert running.end()[1].splitlines()[1:] == ["got 3", "got 15"]
    assert running.process.returncode == TIMED_OUT
    assert time.monotonic() - begin >= 1.2


@pytest.mark.parametrize("last", [signal.SIGQUIT, 0], ids=["by itself", "by the signal"])
def test_a_command_that_ends_of_the_signal_for_evidence(start_subreaper: StartTinyinit, last: int) -> None:
    begin = time.monotonic()
    words = program("log_signals", "got", last) if last else ["sleep", "60"]
    running = start_subreaper(*QUIET, "--timeout", "300ms", "--on-timeout-signal", "QUIT", "--", *words)
    assert running.end()[::2] == (TIMED_OUT, "")
    assert time.monotonic() - begin <= 1.2


def test_the_signal_for_evidence_does_not_put_off_a_kill(start_subreaper: StartTinyinit) -> None:
    """TERM came before the time was over, and --kill-after counts from it."""
    options = ("-q", "--timeout", "1s", "--on-timeout-signal", "QUIT", "--kill-after", "1s")
    running = start_subreaper(*options, "--", *DEAF)
    running.wait_ready()
    running.send(signal.SIGTERM)
    begin = time.monotonic()
    assert running.end()[0] == TIMED_OUT
    assert time.monotonic() - begin <= 1.5


# ---- the race -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_term", ["", "trap 'exit 9' TERM; "], ids=["default", "catches"])
def test_a_command_that_ends_just_then(start: StartTinyinit, on_term: str) -> None:
    """The delay is led by what happened to where both happen: what has ended by itself keeps its status.

    With one that catches TERM it may be sent when COMMAND is about to exit, but still lives: then it counts.
    """
    delay, step, ended, late = 0.08, 0.008, 0, 0
    for _ in range(RACES // 4):
        script = f"{on_term}sleep {max(delay, 0.0):.6f}; exit 7"
        running = start("-v", "--timeout", "100ms", "--grace", "1", "--", "sh", "-c", script)
        status, _, err = running.end()
        running.close()
        sent, _, _ = err.partition("tinyinit: sent SIGTERM to COMMAND\n")
        exited = " exited with status 7" in err
        if status == 7:
            assert exited, err
        else:
            assert status == TIMED_OUT, err
            assert sent != err, err
            assert " exited with status 7" not in (sent if on_term else err), err
            late += exited
        ended += exited
        step = max(step * 0.9, 0.0005)
        delay += step if exited else -step
    print(f"{ended} of {RACES // 4} ended by themselves, {late} of them were sent TERM just before")


def test_the_status_is_that_of_the_command_where_it_is_a_zombie_already(start_subreaper: StartTinyinit) -> None:
    """While tinyinit is stopped, COMMAND ends and its time passes."""
    running: Running = start_subreaper("-q", "--timeout", "500ms", "--", "sh", "-c", "sleep 0.2; exit 7")
    main = running.main
    running.send(signal.SIGSTOP)
    time.sleep(0.7)
    assert main
    running.send(signal.SIGCONT)
    assert running.end()[::2] == (7, "")
