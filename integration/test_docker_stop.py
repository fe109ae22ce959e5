"""`docker stop` reaches COMMAND, and ends at once, or at the latest with the grace."""

from __future__ import annotations

import signal
import subprocess

import pytest
from engine import AT_ONCE

from conftest import StartContainer

APP = "trap 'echo app got TERM; exit 7' TERM; echo \"ready (pid: $$)\"; sleep 60 & wait"
# what a shell before the app does with TERM is the shell's own business: it dies of it, or waits for the app
BEHIND = [
    pytest.param([APP], 7, id="no shell before it"),
    pytest.param(["exec sh -c \"$0\"", APP], 7, id="a shell that becomes it"),
    pytest.param(["trap : TERM; sh -c \"$0\"; exit $?", APP], 7, id="a shell that waits for it"),
    pytest.param(["sh -c \"$0\"; exit $?", APP], 128 + signal.SIGTERM, id="a shell that dies"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "expected"), BEHIND)
def test_it_reaches_an_app_behind_a_shell(start: StartContainer, script: list[str], expected: int) -> None:
    running = start("sh", "-c", *script)
    running.wait_ready()
    assert running.stop() < AT_ONCE
    status, out, err = running.end()
    # once as a member of the group, and where the shell has died of it once more as a leftover
    assert (status, set(out.splitlines()[1:]), err) == (expected, {"app got TERM"}, "")
    assert running.inspect(".State.ExitCode") == str(expected)


def test_it_ends_what_does_not_handle_term(start: StartContainer) -> None:
    running = start("sh", "-c", "echo 'ready (pid: 1)'; exec sleep 60")
    running.wait_ready()
    assert running.stop() < AT_ONCE
    assert running.end()[0] == 128 + signal.SIGTERM


def test_without_tinyinit_the_same_command_has_to_be_killed(start: StartContainer) -> None:
    """What the test above is about: PID 1 has no default actions (pid_namespaces(7))."""
    running = start("-c", "echo 'ready (pid: 1)'; exec sleep 60", options=["--entrypoint", "sh"])
    running.wait_ready()
    assert running.stop("-t", "2") >= 2
    assert running.end()[0] == 128 + signal.SIGKILL


IGNORES_TERM = "trap '' TERM; echo 'ready (pid: 1)'; exec sleep 60"
LEAVES_IT = f"trap 'exit 6' TERM; (setsid sh -c \"{IGNORES_TERM}\" &); sleep 60 & wait"


@pytest.mark.parametrize(
    ("options", "words", "least"),
    [
        pytest.param(["--env", "TINYINIT_GRACE=1"], [], 1.0, id="grace 1 by variable"),
        pytest.param(["--entrypoint", "tinyinit"], ["--grace", "1", "--"], 1.0, id="grace 1 by option"),
        pytest.param(["--env", "TINYINIT_GRACE=0"], [], 0.0, id="no grace"),
        pytest.param([], [], 5.0, id="default"),
    ],
)
def test_a_leftover_that_ignores_term_does_not_hold_it_longer_than_the_grace(
    start: StartContainer, options: list[str], words: list[str], least: float
) -> None:
    running = start(*words, "sh", "-c", LEAVES_IT, options=options)
    running.wait_ready()
    assert least <= running.stop("-t", "30") < least + AT_ONCE
    assert running.end()[0] == 6


def test_leftovers_get_term_when_the_command_ends_by_itself(start: StartContainer) -> None:
    obeys = "trap 'echo obeyed; exit' TERM; echo up; sleep 60 & wait"
    running = start("sh", "-c", f'(setsid sh -c "{obeys}" &); read line; exit 4', options=["-i"], stdin=subprocess.PIPE)
    running.read_until("up\n")
    running.write("\n")
    assert running.end()[:2] == (4, "up\nobeyed\n")
