"""`docker run --pid`: in a namespace that has a PID 1 already, tinyinit is a subreaper."""

from __future__ import annotations

import signal
import subprocess

import pytest
from engine import AT_ONCE

from conftest import StartContainer
from helpers.running import wait_until

# the orphan is adopted as soon as the shell that started it, and says so, has ended
APP = (
    'sh -c "sleep 61 > /dev/null & echo orphan \\$!"; trap "exit 7" TERM; '
    'echo "init $PPID"; echo "ready (pid: $$)"; sleep 60 & wait'
)


@pytest.fixture(params=["host", "container"])
def pid_option(request: pytest.FixtureRequest, start: StartContainer) -> str:
    """Whose PID namespace it is: the machine's, or that of another container, which has tinyinit as well."""
    if request.param == "host":
        return "--pid=host"
    other = start("sh", "-c", "echo 'ready (pid: 1)'; exec sleep 60")
    other.wait_ready()
    return f"--pid=container:{other.name}"


def test_its_orphans_are_adopted_and_reaped(start: StartContainer, pid_option: str) -> None:
    running = start("sh", "-c", APP, options=[pid_option])
    main = running.wait_ready()
    facts = dict(line.split() for line in running.output.decode().splitlines()[:2])
    init, orphan = int(facts["init"]), int(facts["orphan"])
    assert init != 1
    processes = running.processes()
    assert "tinyinit-python" in processes[init].command
    assert (processes[main].parent, processes[orphan].parent) == (init, init)
    running.execute("sh", "-c", f"kill -TERM {orphan}")
    wait_until(lambda: orphan not in running.processes(), "the orphan to be reaped")
    assert running.stop() < AT_ONCE
    assert running.end()[0::2] == (7, "")


def test_a_burst_of_orphans_leaves_no_zombie(start: StartContainer, pid_option: str) -> None:
    options = [pid_option, "--interactive"]
    running = start("python3", "/programs/orphans.py", "200", "wait", options=options, stdin=subprocess.PIPE)
    main = running.wait_ready()
    init = running.processes()[main].parent

    def children() -> set[int]:
        return {each.pid for each in running.processes().values() if each.parent == init}

    wait_until(lambda: len(children()) == 201, "200 orphans to be adopted")
    running.write("\n")
    wait_until(lambda: children() == {main}, "all orphans to be reaped")


def test_signals_and_the_status_are_those_of_pid_1(start: StartContainer, pid_option: str) -> None:
    term = str(int(signal.SIGTERM))
    running = start("python3", "/programs/log_signals.py", "got", term, options=[pid_option])
    running.wait_ready()
    for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM):
        running.kill(number.name)
        running.read_until(f"got {number:d}\n")
    assert running.end()[0::2] == (0, "")


@pytest.mark.parametrize("command", ["exit 5", "kill -KILL $$"])
def test_the_end_is_the_commands(start: StartContainer, pid_option: str, command: str) -> None:
    expected = 5 if "exit" in command else 128 + signal.SIGKILL
    status, out, err = start("sh", "-c", command, options=[pid_option]).end()
    assert (status, out) == (expected, "")
    assert ("which tinyinit has not sent" in err) == ("kill" in command)


@pytest.mark.parametrize("pid_option", ["host"], indirect=True)
def test_the_pid_of_the_host_is_its_own(start: StartContainer, pid_option: str) -> None:
    running = start("sh", "-c", APP, options=[pid_option])
    running.wait_ready()
    assert f"init {running.inspect('.State.Pid')}\n" in running.output.decode()
