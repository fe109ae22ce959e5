"""README's lines for CI systems: each is run, and cancelled as its system does that, in less time."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from conftest import StartTinyinit
from helpers.running import TINYINIT, Running, descendants, state, wait_until, with_variable
from tinyinit.options import parse_command_line

README = (Path(__file__).parent.parent / "README.md").read_text()
SCALE = 0.35  # of the real times; with less, a busy machine has not enough to spare
SOON = 0.5  # seconds, for what is to be at once
COOKIE = "JENKINS_NODE_COOKIE"
# what every recipe runs in place of make: it ignores INT and TERM, and so does the daemon that it starts, an orphan in
# a session and with an environment of its own, which holds the output open
MAKE = """\
#!/bin/sh
trap '' INT TERM
(setsid env -i sh -c 'echo "ready (pid: $$)"; while :; do sleep 0.1; done' &)
while :; do sleep 0.1; done
"""

# ---- what README says -----------------------------------------------------------------------------------------


def recipes() -> list[tuple[str, str]]:
    """The system and the command line of each recipe, in the order of README."""
    section = README.split("\n## CI jobs\n")[1].split("\n## ")[0]
    found = []
    for part in section.split("\n### ")[1:]:
        for block in re.findall(r"^```\w+\n(.*?)^```$", part, re.MULTILINE | re.DOTALL):
            found += [(part.split("\n")[0], line) for line in re.findall(r"(?:exec )?tinyinit [^'\n]*", block)]
    return found


class Line(NamedTuple):
    """A recipe taken apart."""

    is_exec: bool
    options: list[str]
    command: list[str]


def take_apart(text: str) -> Line:
    """A recipe's words."""
    words = shlex.split(text)
    is_exec = words[0] == "exec"
    options = words[is_exec + 1 : words.index("--")]
    return Line(is_exec, options, words[words.index("--") + 1 :])


# ---- the systems ----------------------------------------------------------------------------------------------


def to_process(running: Running, number: int) -> None:
    """Signal the one process that was started."""
    os.kill(running.process.pid, number)


def to_group(running: Running, number: int) -> None:
    """Signal its process group."""
    os.killpg(running.process.pid, number)


def to_cookie(running: Running, number: int) -> None:
    """Signal every process that has the cookie in its environment."""
    for pid in with_variable(COOKIE, str(os.getpid())):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


class System(NamedTuple):
    """How a system runs a line, and cancels it: with which signals, to whom, and how long it waits after each."""

    run: Callable[[str, Path], list[str]]
    send: Callable[[Running, int], None]
    steps: list[tuple[int, float]]

    @property
    def patience(self) -> float:
        """Seconds from the first signal to the next, or to the end."""
        return self.steps[0][1]


def as_file(line: str, folder: Path) -> list[str]:
    """GitHub's runner writes the lines of `run` to a file."""
    script = folder / "script"
    script.write_text(line + "\n")
    return ["bash", "-e", str(script)]


def with_trap(line: str, folder: Path) -> list[str]:
    """Buildkite's agent has the shell pass the signal to itself, which is of no use while it waits."""
    return ["bash", "-e", "-c", f"trap 'kill -- $$' INT TERM QUIT; {line}"]


def as_input(line: str, folder: Path) -> list[str]:
    """GitLab's runner gives the script to the shell as its input."""
    return ["bash", "-c", f"bash <<< {shlex.quote(line)}; exit $?"]


def through_su(line: str, folder: Path) -> list[str]:
    """The same, when it runs jobs as another user."""
    return ["su", "--shell=/bin/bash", "root", "--command", shlex.join(as_input(line, folder))]


def in_shell(line: str, folder: Path) -> list[str]:
    """Jenkins's sh."""
    return ["sh", "-xe", *as_file(line, folder)[2:]]


INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
SYSTEMS = {
    "GitHub Actions": [System(as_file, to_process, [(INT, 7.5), (TERM, 2.5), (KILL, 0.0)])],
    "GitLab": [
        System(as_input, to_group, [(TERM, 10.0), (KILL, 0.0)]),  # 10 s is the Docker executor's
        System(through_su, to_group, [(TERM, 10.0), (KILL, 0.0)]),
    ],
    "Jenkins": [System(in_shell, to_cookie, [(TERM, 20.0)])],
    "Buildkite": [System(with_trap, to_group, [(TERM, 9.0), (KILL, 0.0)])],
}
CASES = [
    pytest.param(system, line, id=f"{name}, {system.run.__name__}, {take_apart(line).command[0]}")
    for name, line in recipes()
    for system in SYSTEMS[name]
]


def cancel(running: Running, system: System) -> float:
    """Cancel a job as the system does it, which goes on when the process that it has started has ended.

    Until when all is to have ended, by time.monotonic(): to find whom to signal takes time on a busy machine.
    """
    end = float("inf")
    for number, seconds in system.steps:
        system.send(running, number)
        end = min(end, time.monotonic() + sum(patience for _, patience in system.steps) * SCALE)
        try:
            running.process.wait(seconds * SCALE)
            break
        except subprocess.TimeoutExpired:
            continue
    return end


# ---- the tests ------------------------------------------------------------------------------------------------


def scaled(options: list[str]) -> list[str]:
    """Options whose durations, which are in seconds, are scaled."""
    return [re.sub(r"^(\d+)s$", lambda match: f"{int(match[1]) * SCALE * 1000:.0f}ms", word) for word in options]


def start_job(start: StartTinyinit, system: System, words: list[str], folder: Path, is_exec: bool) -> Running:
    """Run the words as a line of the system, and wait until the job's daemon is there."""
    if system.run is through_su and (os.geteuid() != 0 or not shutil.which("su")):
        pytest.skip("su needs root")
    line = "exec " * is_exec + shlex.join(words)
    running = start(command=system.run(line, folder), env={**os.environ, COOKIE: str(os.getpid())})
    running.wait_ready()
    return running


def alive() -> set[int]:
    """All processes that tests have started, but for zombies: those are ours to reap."""
    return {pid for pid in descendants(os.getpid()) if state(pid) not in ("", "Z")}


@pytest.fixture
def make(tmp_path: Path) -> str:
    """What stands for make."""
    path = tmp_path / "make"
    path.write_text(MAKE)
    path.chmod(0o755)
    return str(path)


def test_every_system_has_a_recipe() -> None:
    assert list(dict.fromkeys(name for name, _ in recipes())) == list(SYSTEMS)


@pytest.mark.parametrize(("system", "line"), CASES)
def test_its_options_are_known_and_fit_into_the_systems_patience(system: System, line: str) -> None:
    values, rest = parse_command_line([*take_apart(line).options, "--", "x"])
    assert rest == ["x"]
    assert isinstance(values["kill_after"], float)
    assert isinstance(values["grace"], float)
    assert values["kill_after"] + values["grace"] < system.patience


@pytest.mark.heavy
@pytest.mark.parametrize(("system", "line"), CASES)
def test_a_cancelled_job_leaves_nothing(
    start_subreaper: StartTinyinit, system: System, line: str, make: str, tmp_path: Path
) -> None:
    before, recipe = alive(), take_apart(line)
    words = [TINYINIT, *scaled(recipe.options), "--", make]
    is_exec = recipe.is_exec or "{0}" in recipe.command  # with `shell:` it is what the runner starts
    running = start_job(start_subreaper, system, words, tmp_path, is_exec)
    end = cancel(running, system)
    if not is_exec:  # the shell may end first, and the system then waits for the end of the output
        assert running.read_rest(max(end - time.monotonic(), 0.0) + SOON), "the output is still held"
    wait_until(lambda: not alive() - before, "all to have ended", SOON)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "system", [each for name in SYSTEMS for each in SYSTEMS[name]], ids=lambda each: each.run.__name__
)
def test_without_tinyinit_it_leaves_the_daemon(
    start_subreaper: StartTinyinit, system: System, make: str, tmp_path: Path
) -> None:
    """What the test above is about."""
    running = start_job(start_subreaper, system, [make], tmp_path, False)
    cancel(running, system)
    assert not running.read_rest(0.3), "nobody holds the output"
