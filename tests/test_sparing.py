"""TINYINIT_SPARE=1 in a process's environment: as subreaper it is left alone, and what is below it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess

import pytest

from conftest import StartTinyinit
from helpers.running import Running, is_alive, program

SOON = 3.0  # seconds; the default grace is 5
# a daemon that is spared, and a process below it that is not marked: it says which signals it gets
SPARED = 'TINYINIT_SPARE=1 sh -c \'"$@" & wait $!\' sh env -u TINYINIT_SPARE "$@" & '


def start_spared(start: StartTinyinit, *options: str, then: str = "exit 3", soon: float = SOON) -> tuple[Running, int]:
    """Start a COMMAND that leaves SPARED behind, and wait for its end; the PID of the process below."""
    script = f"{SPARED} read x; {then}"
    words = ["sh", "-c", script, "sh", *program("log_signals", "got", signal.SIGUSR1)]
    running = start("--grace", "200ms", *options, "--", *words, stdin=subprocess.PIPE)
    below = running.wait_ready()
    running.go_on()
    assert running.process.wait(soon) == 3
    return running, below


def test_a_spared_process_gets_no_signal_nor_does_what_is_below_it(start_subreaper: StartTinyinit) -> None:
    running, below = start_spared(start_subreaper, then='setsid sleep 60 & (trap "" TERM; sleep 60) & exit 3')
    assert is_alive(below)
    os.kill(below, signal.SIGUSR1)
    _, out, err = running.end()
    assert out == running.output.decode() + "got 10\n"
    assert "warning" not in err


def test_it_is_found_among_thousands(start_subreaper: StartTinyinit) -> None:
    many = shlex.join(program("orphans", 1500, "exit"))
    running, below = start_spared(start_subreaper, then=f"{many} > /dev/null; exit 3", soon=60)
    os.kill(below, signal.SIGUSR1)
    _, out, err = running.end()
    assert out == running.output.decode() + "got 10\n"
    assert "warning" not in err


def test_a_spared_process_is_named_with_verbose(start_subreaper: StartTinyinit) -> None:
    running, below = start_spared(start_subreaper, "-v", "--grace", "inf")
    os.kill(below, signal.SIGUSR1)
    err = running.end()[2]
    assert len(re.findall(r"^tinyinit: left pid \d+ alone, and what is below it$", err, re.MULTILINE)) == 1


def test_spared_processes_are_not_waited_for(start_subreaper: StartTinyinit) -> None:
    running, below = start_spared(start_subreaper, "--leftovers", "wait", then="(sleep 0.2; echo late) & exit 3")
    running.read_until("late\n")
    assert is_alive(below)


def test_one_that_is_started_later_is_not_waited_for_either(start_subreaper: StartTinyinit) -> None:
    script = "(sleep 0.2; TINYINIT_SPARE=1 setsid sleep 60 & echo late) & exit 3"
    running = start_subreaper("--leftovers", "wait", "--", "sh", "-c", script)
    assert running.process.wait(SOON) == 3
    running.read_until("late\n")


def test_one_that_loses_its_parent_to_term_is_spared(start_subreaper: StartTinyinit) -> None:
    script = 'sh -c \'TINYINIT_SPARE=1 "$@" & wait\' sh "$@" & read x; exit 3'
    words = ["sh", "-c", script, "sh", *program("log_signals", "got", signal.SIGUSR1)]
    running = start_subreaper("--", *words, stdin=subprocess.PIPE)
    spared = running.wait_ready()
    running.go_on()
    assert running.process.wait(SOON) == 3
    os.kill(spared, signal.SIGUSR1)
    assert running.end()[1].splitlines()[1:] == ["got 10"]


def test_pid_1_spares_nobody(start_pid_1: StartTinyinit) -> None:
    words = ["env", "TINYINIT_SPARE=1", *program("behind", 5, "setsid")]
    assert start_pid_1("--", *words).end()[1].splitlines()[1:] == ["setsid"]


@pytest.mark.parametrize("value", ["0", "", "yes", "11"])
def test_no_other_value_spares(start_subreaper: StartTinyinit, value: str) -> None:
    words = ["env", f"TINYINIT_SPARE={value}", *program("behind", 5, "setsid")]
    assert start_subreaper("--", *words).end()[1].splitlines()[1:] == ["setsid"]


def test_the_variable_is_known_and_not_passed_on(start: StartTinyinit) -> None:
    words = ["sh", "-c", 'echo "${TINYINIT_SPARE-unset}"']
    assert start("--", *words, env={**os.environ, "TINYINIT_SPARE": "1"}).end() == (0, "unset\n", "")


def test_it_is_over_when_the_last_one_that_is_not_spared_ends(start_subreaper: StartTinyinit) -> None:
    """waitid(2) does not say so, for there are children yet."""
    words = ["sh", "-c", f'{SPARED} "$@" & read x; exit 3', "sh", *program("log_signals", "got", signal.SIGUSR1)]
    running = start_subreaper("--grace", "inf", "--", *words, stdin=subprocess.PIPE)
    running.read_until(")\n", times=2)
    running.go_on()
    running.read_until("got 15\ngot 18\n")
    assert running.process.poll() is None
    running.send(signal.SIGUSR1)
    assert running.process.wait(SOON) == 3
    running.read_until("got 10\n")
    assert running.output.count(b"got") == 3
