"""Contract, section 3: a signal that the engine sends to PID 1 reaches COMMAND."""

from __future__ import annotations

import signal

import pytest
from engine import AT_ONCE

from conftest import StartContainer

LOG_UNTIL_TERM = ("python3", "/programs/log_signals.py", "got", str(int(signal.SIGTERM)))
NUMBERS = {
    **{name: int(signal.Signals[f"SIG{name}"]) for name in ("HUP", "INT", "QUIT", "USR1", "USR2", "PIPE", "ALRM")},
    **{name: int(signal.Signals[f"SIG{name}"]) for name in ("CONT", "TSTP", "WINCH")},
    "RTMIN+3": signal.SIGRTMIN + 3,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_docker_kill_reaches_the_command(start: StartContainer, name: str) -> None:
    running = start(*LOG_UNTIL_TERM)
    running.wait_ready()
    running.kill(name)
    running.read_until(f"got {NUMBERS[name]}\n")
    running.kill("TERM")
    status, out, err = running.end()
    assert (status, out.splitlines()[1:], err) == (0, [f"got {NUMBERS[name]}", f"got {signal.SIGTERM:d}"], "")


def test_the_whole_group_gets_it(start: StartContainer) -> None:
    running = start("python3", "/programs/log_signals.py", "tree")
    running.wait_ready()
    running.read_until("child is ready\n")
    running.kill("USR1")
    running.read_until(f"child {signal.SIGUSR1:d}\n")
    running.read_until(f"parent {signal.SIGUSR1:d}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2])
def test_a_signal_to_docker_run_reaches_the_command(start: StartContainer, number: signal.Signals) -> None:
    """As when a CI job is cancelled: `docker run` passes on what it gets."""
    running = start(*LOG_UNTIL_TERM)
    running.wait_ready()
    running.send(number)
    running.read_until(f"got {number:d}\n")


def test_a_signal_from_inside_the_container_reaches_the_command(start: StartContainer) -> None:
    """The kernel drops what a PID 1 neither handles nor blocks, when it comes from its own namespace."""
    running = start(*LOG_UNTIL_TERM)
    running.wait_ready()
    running.execute("sh", "-c", "kill -USR1 1")
    running.read_until(f"got {signal.SIGUSR1:d}\n")


def test_a_stopped_command_sees_term(start: StartContainer) -> None:
    running = start(*LOG_UNTIL_TERM)
    pid = running.wait_ready()
    running.execute("sh", "-c", f"kill -STOP {pid}; until grep -q '^State:.T' /proc/{pid}/status; do sleep 0.01; done")
    assert running.stop() < AT_ONCE
    status, out, _ = running.end()
    assert (status, f"got {signal.SIGTERM:d}\n" in out) == (0, True)
