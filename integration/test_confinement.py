"""Contract, section 9: what a container may be forbidden does not end tinyinit, nor change what it does."""

from __future__ import annotations

import signal

import pytest
from engine import AT_ONCE, Attached

from conftest import StartContainer
from helpers.running import split_line, wait_until

RESTRICTIONS = (
    "--user=65534",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=32",
    "--network=none",
)
EACH_AND_ALL = [pytest.param([option], id=option) for option in RESTRICTIONS] + [
    pytest.param(RESTRICTIONS, id="all of them")
]
APP = (
    "trap 'echo got USR1' USR1; trap 'exit 7' TERM; (setsid sleep 61 &); sleep 60 & "
    'echo "ready (pid: $$)"; while :; do wait; done'
)


def adopted(running: Attached, command: str) -> list[int]:
    """The PIDs of PID 1's children that run this command."""
    return [each.pid for each in running.processes().values() if (each.parent, each.command) == (1, command)]


@pytest.mark.parametrize("options", EACH_AND_ALL)
def test_signals_orphans_and_the_status_are_as_without_it(start: StartContainer, options: list[str]) -> None:
    running = start("sh", "-c", APP, options=options)
    running.wait_ready()
    running.kill("USR1")
    running.read_until("got USR1\n")
    orphan = wait_until(lambda: adopted(running, "sleep 61"), "the orphan to be adopted")[0]
    running.execute("sh", "-c", f"kill -TERM {orphan}")
    wait_until(lambda: orphan not in running.processes(), "the orphan to be reaped")
    assert running.stop() < AT_ONCE
    status, _, err = running.end()
    assert (status, err) == (7, "")


@pytest.mark.parametrize("options", EACH_AND_ALL)
@pytest.mark.parametrize(("command", "expected"), [("/no/such", 127), ("/etc", 126)])
def test_what_cannot_be_run_is_said(start: StartContainer, options: list[str], command: str, expected: int) -> None:
    status, _, err = start(command, options=options).end()
    assert (status, err.count("\n"), err.startswith("tinyinit: cannot ")) == (expected, 1, True)


def fill(limit: int, free: int) -> list[str]:
    """`sh -c` that leaves so many processes free in the container, and becomes tinyinit.

    The engine's own runtime needs more of them than tinyinit before it starts anything.
    """
    script = 'n=$0; while [ "$n" -gt 0 ]; do sleep 60 & n=$((n - 1)); done; exec tinyinit -- sh -c "exit 4"'
    return ["-c", script, str(limit - 1 - free)]


def test_one_free_process_is_enough(start: StartContainer) -> None:
    options = ["--pids-limit=32", "--entrypoint=sh"]
    assert start(*fill(32, 1), options=options).end() == (4, "", "")


def test_no_free_process_is_said(start: StartContainer) -> None:
    options = ["--pids-limit=32", "--entrypoint=sh"]
    status, out, err = start(*fill(32, 0), options=options).end()
    assert (status, out, err.count("\n")) == (125, "", 1)
    assert err.startswith("tinyinit: cannot start a process: Resource temporarily unavailable; ")
    assert "--pids-limit" in err


def test_a_command_of_another_user_still_gets_signals(start: StartContainer) -> None:
    """As entrypoints do that start as root: PID 1 stays root, COMMAND becomes nobody."""
    switch = "import os, sys; os.setgid(65534); os.setuid(65534); os.execvp(sys.argv[1], sys.argv[1:])"
    running = start("python3", "-c", switch, "python3", "/programs/log_signals.py", "got", str(int(signal.SIGTERM)))
    running.wait_ready()
    assert running.stop() < AT_ONCE
    assert running.end()[0] == 0


def test_a_command_that_may_not_be_signalled_is_one_warning(start: StartContainer) -> None:
    switch = "import os, sys; os.setgid(65534); os.setuid(65534); os.execvp(sys.argv[1], sys.argv[1:])"
    app = ("python3", "/programs/log_signals.py", "got", str(int(signal.SIGTERM)))
    options = ["--cap-drop=ALL", "--cap-add=SETUID", "--cap-add=SETGID"]
    running = start("python3", "-c", switch, *app, options=options)
    pid = running.wait_ready()
    running.kill("USR1")
    running.kill("TERM")
    running.engine.docker("exec", "--user=65534", running.name, "sh", "-c", f"kill -TERM {pid}")
    status, _, err = running.end()
    assert (status, err.count("\n")) == (0, 2)
    assert all("which runs as another user" in line for line in err.splitlines())


@pytest.mark.parametrize("options", [pytest.param([each], id=each) for each in RESTRICTIONS[:3]] + EACH_AND_ALL[-1:])
def test_a_timeout_shows_the_tree_and_ends_it(start: StartContainer, options: list[str]) -> None:
    """No privilege is needed for either."""
    words = ("sh", "-c", "(setsid sleep 61 &); exec sleep 60")
    status, out, err = start(*words, options=[*options, "--env=TINYINIT_TIMEOUT=1"]).end()
    assert (status, out) == (124, "")
    rows = split_line(err)[0].splitlines()[3:]
    assert [row.split(None, 9)[9] for row in rows] == ["sleep 60", "sleep 61 <adopted>"]
