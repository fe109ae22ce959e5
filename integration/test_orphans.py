"""Contract, section 5: orphans in a container become children of PID 1, and none stays a zombie."""

from __future__ import annotations

import signal
import subprocess

from engine import AT_ONCE

from conftest import StartContainer
from helpers.running import wait_until


def test_500_orphans_leave_no_zombie(start: StartContainer) -> None:
    running = start("python3", "/programs/orphans.py", "500", "wait", options=["--interactive"], stdin=subprocess.PIPE)
    main = running.wait_ready()

    def children() -> set[int]:
        return {each.pid for each in running.processes().values() if each.parent == 1}

    wait_until(lambda: len(children()) == 501, "500 orphans to be adopted")
    running.write("\n")
    wait_until(lambda: children() == {main}, "all orphans to be reaped")
    assert set(running.processes()) == {1, main}
    assert running.stop() < AT_ONCE
    assert running.end()[0] == 128 + signal.SIGTERM


def test_the_scenario_of_a_killed_parent(start: StartContainer) -> None:
    """start.sh runs sub.sh and is killed with -9: sub.sh is adopted, gets the container's TERM, and is reaped."""
    sub = "trap 'echo sub got TERM; exit' TERM; echo \"ready (pid: $$)\"; sleep 60 & wait"
    running = start(
        "sh", "-c", "sh -c 'sh -c \"$0\" & wait' \"$0\"; trap 'exit 3' TERM; echo killed; sleep 60 & wait", sub
    )
    orphan = running.wait_ready()
    middle = running.processes()[orphan].parent
    running.execute("sh", "-c", f"kill -KILL {middle}")
    running.read_until("killed\n")
    assert running.processes()[orphan].parent == 1
    assert middle not in running.processes()
    assert running.stop() < AT_ONCE
    status, out, _ = running.end()
    assert (status, "sub got TERM\n" in out) == (3, True)


def test_the_container_ends_with_500_orphans_that_sleep(start: StartContainer) -> None:
    assert start("python3", "/programs/orphans.py", "500", "exit").end()[0] == 5
