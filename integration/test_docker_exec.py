"""`docker exec` puts processes into the container that are nobody's children there."""

from __future__ import annotations

import subprocess

import pytest
from engine import AT_ONCE, Attached

from conftest import StartContainer
from helpers.running import wait_until


@pytest.fixture
def running(start: StartContainer) -> Attached:
    """A container whose COMMAND waits for TERM."""
    container = start("sh", "-c", "trap 'exit 7' TERM; sleep 60 & echo \"ready (pid: $$)\"; wait")
    container.wait_ready()
    return container


def test_it_runs_and_has_its_own_status(running: Attached) -> None:
    done = running.engine.run("exec", running.name, "sh", "-c", "echo here; exit 9")
    assert (done.returncode, done.stdout, done.stderr) == (9, "here\n", "")


def test_its_end_does_not_end_the_container(running: Attached) -> None:
    before = set(running.processes())
    for status in (0, 9):
        assert running.engine.run("exec", running.name, "sh", "-c", f"exit {status}").returncode == status
    assert running.engine.run("exec", running.name, "sh", "-c", "kill -KILL $$").returncode == 137
    assert set(running.processes()) == before
    assert running.stop() < AT_ONCE
    assert running.end()[0] == 7


def test_its_orphans_are_adopted_and_reaped(running: Attached) -> None:
    orphan = int(running.execute("sh", "-c", "sleep 60 > /dev/null 2>&1 & echo $!"))
    assert running.processes()[orphan].parent == 1
    running.execute("sh", "-c", f"kill -TERM {orphan}")
    wait_until(lambda: orphan not in running.processes(), "the orphan to be reaped")


def test_100_orphans_of_it_leave_no_zombie(running: Attached) -> None:
    before = set(running.processes())
    running.execute("sh", "-c", "i=0; while [ $i -lt 100 ]; do (sleep 0.1 > /dev/null 2>&1 &); i=$((i + 1)); done")
    wait_until(lambda: set(running.processes()) == before, "all to be reaped")


def test_it_does_not_hold_docker_stop(running: Attached) -> None:
    words = ["docker", "exec", running.name, "sh", "-c", "trap '' TERM; echo ready; exec sleep 60"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=running.engine.environ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        assert running.stop() < AT_ONCE
        assert client.wait(10) == 137
    assert running.end()[0] == 7
