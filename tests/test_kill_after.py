"""Contract, section 6: --kill-after."""

from __future__ import annotations

import signal
import time

import pytest

from conftest import StartTinyinit
from helpers.running import Running, program, split_line, state, wait_until

KILLED = 128 + signal.SIGKILL
DEAF = program("log_signals", "got")  # blocks all signals
UNTIL_USR2 = program("log_signals", "got", signal.SIGUSR2)


def seconds_to_end(running: Running, begin: float) -> float:
    status, _, err = running.end()
    assert (status, split_line(err)[0]) == (KILLED, "")
    return time.monotonic() - begin


def lives_on(running: Running, seconds: float) -> None:
    """It is not killed in that time: USR2 ends it then."""
    time.sleep(seconds)
    running.send(signal.SIGUSR2)
    assert running.end()[::2] == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_kill_follows_a_termination_signal(start: StartTinyinit, number: int) -> None:
    running = start("--kill-after", "200ms", "--", *DEAF)
    running.wait_ready()
    begin = time.monotonic()
    running.send(number)
    assert 0.2 <= seconds_to_end(running, begin) <= 2


def test_kill_does_not_follow_another_signal(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper("--kill-after", "100ms", "--", *UNTIL_USR2)
    running.wait_ready()
    running.send(signal.SIGUSR1)
    running.read_until("got 10\n")
    lives_on(running, 0.3)


def test_it_counts_from_the_first(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper("--kill-after", "1s", "--", *DEAF)
    running.wait_ready()
    begin = time.monotonic()
    running.send(signal.SIGTERM)
    time.sleep(0.7)
    running.send(signal.SIGTERM)
    assert 1.0 <= seconds_to_end(running, begin) <= 1.6


def test_the_whole_main_group_is_killed(start_subreaper: StartTinyinit) -> None:
    """What was in it would be waited for, but is not there any more."""
    running = start_subreaper("--leftovers", "wait", "--kill-after", "200ms", "--", *program("log_signals", "tree"))
    running.read_until("child is ready\n")
    running.wait_ready()
    begin = time.monotonic()
    running.send(signal.SIGTERM)
    assert seconds_to_end(running, begin) <= 2


@pytest.mark.parametrize("duration", ["0", "inf"])
def test_zero_and_infinite_are_never(start_subreaper: StartTinyinit, duration: str) -> None:
    running = start_subreaper("--kill-after", duration, "--", *UNTIL_USR2)
    running.wait_ready()
    running.send(signal.SIGTERM)
    running.read_until("got 15\n")
    lives_on(running, 0.3)


def test_a_command_that_obeys_in_time_has_its_own_status(start: StartTinyinit) -> None:
    running = start("--kill-after", "60", "--", *program("log_signals", "got", signal.SIGTERM))
    running.wait_ready()
    running.send(signal.SIGTERM)
    assert running.end()[::2] == (0, "")


def test_leftovers_have_the_whole_grace(start: StartTinyinit) -> None:
    """KILL is for a main child that still lives; this one has ended at once."""
    words = ["sh", "-c", '"$@" & wait', "sh", *DEAF]
    running = start("-q", "--kill-after", "100ms", "--grace", "600ms", "--", *words)
    running.wait_ready()
    begin = time.monotonic()
    running.send(signal.SIGTERM)
    assert running.end()[::2] == (128 + signal.SIGTERM, "")
    assert time.monotonic() - begin >= 0.6


def test_it_is_the_signal_that_is_sent_that_counts(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper("--kill-after", "100ms", "-r", "TERM:USR1", "-r", "USR1:TERM", "--", *UNTIL_USR2)
    running.wait_ready()
    running.send(signal.SIGTERM)
    running.read_until("got 10\n")
    time.sleep(0.3)
    begin = time.monotonic()
    running.send(signal.SIGUSR1)
    assert seconds_to_end(running, begin) <= 2


def test_a_stopped_command_is_killed_too(start: StartTinyinit) -> None:
    running = start("--kill-after", "200ms", "--", "sh", "-c", 'trap "" TERM; kill -STOP $$; sleep 60')
    main = running.main
    wait_until(lambda: state(main) == "T", "it to stop")
    running.send(signal.SIGTERM)
    assert running.end()[0] == KILLED
