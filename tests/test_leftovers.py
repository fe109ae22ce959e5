"""Contract, section 6: what is left when COMMAND has ended, as PID 1."""

from __future__ import annotations

import signal
import time

import pytest

from conftest import StartTinyinit
from helpers.running import program

IGNORES_TERM = "trap '' TERM; echo 'ready (pid: 1)'; sleep 60"


def test_leftovers_get_term_and_are_waited_for(start_pid_1: StartTinyinit) -> None:
    script = (
        "sh -c 'trap \"sleep 0.2; echo obeyed; exit\" TERM; echo up; while :; do sleep 0.01; done' & sleep 0.3; exit 4"
    )
    assert start_pid_1("--", "sh", "-c", script).end()[:2] == (4, "up\nobeyed\n")


def test_leftovers_outside_the_group_get_term_too(start_pid_1: StartTinyinit) -> None:
    script = "setsid sh -c 'trap \"echo obeyed; exit\" TERM; while :; do sleep 0.01; done' & sleep 0.3; exit 4"
    assert start_pid_1("--", "sh", "-c", script).end()[:2] == (4, "obeyed\n")


def test_a_stopped_leftover_sees_term(start_pid_1: StartTinyinit) -> None:
    script = "sh -c 'trap \"echo obeyed; exit\" TERM; kill -STOP $$; sleep 60' & sleep 0.3; exit 4"
    assert start_pid_1("--", "sh", "-c", script).end()[:2] == (4, "obeyed\n")


@pytest.mark.parametrize(("grace", "least", "most"), [("1", 1.0, 3.0), ("0", 0.0, 1.0), ("300ms", 0.3, 2.0)])
def test_a_leftover_that_ignores_term_is_killed_after_the_grace(
    start_pid_1: StartTinyinit, grace: str, least: float, most: float
) -> None:
    running = start_pid_1("--grace", grace, "--", "sh", "-c", f"({IGNORES_TERM}) & sleep 0.2; exit 6")
    running.wait_ready()
    begin = time.monotonic() + 0.2
    assert running.end()[0] == 6
    assert least - 0.2 <= time.monotonic() - begin <= most


def test_it_ends_as_soon_as_none_is_left(start_pid_1: StartTinyinit) -> None:
    begin = time.monotonic()
    assert start_pid_1("--grace", "inf", "--", "sh", "-c", "sleep 60 & exit 3").end()[0] == 3
    assert time.monotonic() - begin < 5


def test_leave_ends_at_once(start_pid_1: StartTinyinit) -> None:
    begin = time.monotonic()
    running = start_pid_1("--leftovers", "leave", "--", "sh", "-c", f"({IGNORES_TERM}) & sleep 0.2; exit 3")
    assert running.end()[0] == 3
    assert time.monotonic() - begin < 4


def test_a_signal_during_the_grace_reaches_the_leftovers(start_pid_1: StartTinyinit) -> None:
    """COMMAND has ended, but what it left behind has not."""
    script = 'sh -c \'trap "" TERM; trap "echo came; exit" USR1; while :; do sleep 0.01; done\' & sleep 0.2; echo over; exit 3'
    running = start_pid_1("--grace", "inf", "--", "sh", "-c", script)
    running.read_until("over\n")
    time.sleep(0.2)
    running.send(signal.SIGUSR1)
    assert running.end()[1].endswith("came\n")


def test_a_thousand_leftovers_are_ended(start_pid_1: StartTinyinit) -> None:
    assert start_pid_1("--", *program("orphans", 1000, "exit")).end()[0] == 5
