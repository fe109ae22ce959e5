"""--orphans and --zombies in a container, whose COMMAND runs on."""

from __future__ import annotations

import subprocess

from engine import AT_ONCE, Attached

from conftest import StartContainer
from helpers.running import wait_until

TTLS = ["--env=TINYINIT_ORPHAN_TTL=500ms", "--env=TINYINIT_ZOMBIE_TTL=500ms"]
STOP = ["--env=TINYINIT_ORPHANS=stop", "--env=TINYINIT_ZOMBIES=stop", *TTLS, "--interactive"]
# below COMMAND a shell becomes a program that knows nothing of the child it has got
NEVER_REAPS = "sh -c 'sleep 0.1 & exec sleep 60' &"


def test_orphans_and_who_does_not_reap_are_ended_while_the_command_runs_on(start: StartContainer) -> None:
    script = f'{NEVER_REAPS} (sleep 61 &); echo "ready (pid: $$)"; read line; exit 3'
    running = start("sh", "-c", script, options=STOP, stdin=subprocess.PIPE)
    main = running.wait_ready()
    running.execute("sh", "-c", "sleep 62 > /dev/null 2>&1 &")
    wait_until(lambda: set(running.processes()) <= {1, main} | zombies_of(running, main), "all but COMMAND to end")
    running.write("\n")
    status, _, err = running.end()
    assert status == 3
    assert "1 zombie is not reaped by 'sleep' (pid " in err
    assert "SIGCHLD did not help, 'sleep' (pid " in err
    assert err.count("an orphan for 0.5 s") + 2 * err.count("orphans for 0.5 s") == 2


def zombies_of(running: Attached, parent: int) -> set[int]:
    """COMMAND, which waits for a line, has not reaped what was ended."""
    return {each.pid for each in running.processes().values() if (each.parent, each.state) == (parent, "Z")}


def test_what_docker_exec_runs_is_no_orphan(start: StartContainer) -> None:
    running = start("sh", "-c", 'echo "ready (pid: $$)"; read line; exit 3', options=STOP, stdin=subprocess.PIPE)
    running.wait_ready()
    done = running.engine.run("exec", running.name, "sh", "-c", "sleep 1.5; echo lived; exit 9")
    assert (done.returncode, done.stdout) == (9, "lived\n")
    assert running.stop() < AT_ONCE
    assert running.end()[2] == ""
