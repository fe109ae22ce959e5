"""A job that is not alone in its PID namespace, where tinyinit is a subreaper: nothing of it stays, all else does.

The engine ends what a container leaves behind with KILL. So who got TERM, and says so, was ended by tinyinit.
"""

from __future__ import annotations

import subprocess
import uuid
from typing import NamedTuple

import pytest
from engine import AT_ONCE, Attached

from conftest import StartContainer
from helpers.running import wait_until, with_variable

MARK = "JOB"
# a shell that says once which way it went (at a time limit its group gets TERM first, then each leftover); the job waits
# until all are there, and ends
SAYS_SO = "trap 'trap : TERM; echo $0 obeyed; exit' TERM; : > $UP/$0; sleep 60 & wait"
ESCAPES = f"""\
export UP=$(mktemp -d) SAYS_SO="{SAYS_SO.replace("$", chr(92) + "$")}"
setsid sh -c "$SAYS_SO" setsid &
(sh -c "$SAYS_SO" orphan &)
(setsid sh -c 'setsid sh -c "$SAYS_SO" daemon &' &)
nohup sh -c "$SAYS_SO" nohup &
until [ "$(ls $UP | wc -l)" = 4 ]; do sleep 0.01; done
exit 5"""
ALL_OBEYED = ["daemon obeyed", "nohup obeyed", "orphan obeyed", "setsid obeyed"]


class Place(NamedTuple):
    """Where a job runs beside another container: what to say to `docker run` for that."""

    option: str
    neighbour: Attached


@pytest.fixture
def neighbour(start: StartContainer) -> Attached:
    """Another container, in which tinyinit is PID 1 and has adopted a process."""
    container = start("sh", "-c", "(setsid sleep 61 > /dev/null &); echo 'ready (pid: 1)'; exec sleep 60")
    container.wait_ready()
    wait_until(lambda: len(container.processes()) == 3, "the orphan")
    return container


@pytest.fixture(params=["host", "container"])
def place(request: pytest.FixtureRequest, neighbour: Attached) -> Place:
    """The PID namespace of the machine, or of the neighbour."""
    return Place("--pid=host" if request.param == "host" else f"--pid=container:{neighbour.name}", neighbour)


def test_what_escaped_is_ended_and_nobody_else(start: StartContainer, place: Place) -> None:
    before, mark = place.neighbour.processes(), uuid.uuid4().hex
    with subprocess.Popen(["sleep", "60"]) as bystander:
        running = start("sh", "-c", ESCAPES, options=[place.option, f"--env={MARK}={mark}"])
        status, out, err = running.end()
        assert (status, sorted(out.splitlines()), err) == (5, ALL_OBEYED, "")
        assert with_variable(MARK, mark) == []
        assert place.neighbour.processes().keys() == before.keys()
        assert bystander.poll() is None
        bystander.kill()


def test_a_timeout_ends_what_escaped_too(start: StartContainer, place: Place) -> None:
    before = place.neighbour.processes()
    script = ESCAPES.replace("exit 5", "sleep 60")
    status, out, err = start("sh", "-c", script, options=[place.option, "--env=TINYINIT_TIMEOUT=2"]).end()
    assert (status, sorted(out.splitlines())) == (124, ALL_OBEYED)
    assert "sleep 61" not in err, "the neighbour's is none of ours"
    assert place.neighbour.processes().keys() == before.keys()


# ---- leftovers that are to stay -------------------------------------------------------------------------------

SLOW = "(setsid sh -c \"trap 'echo got TERM' TERM; sleep 1; echo done\" &); exit 4"
STAYS = "(setsid sh -c \"trap 'echo got TERM; exit' TERM; echo up; sleep 60 & wait\" &); exit 4"


@pytest.fixture(params=["pid1", "subreaper"])
def mode(request: pytest.FixtureRequest) -> list[str]:
    """tinyinit in both modes."""
    return [] if request.param == "pid1" else ["--pid=host"]


def test_leftovers_wait_lets_them_end_by_themselves(start: StartContainer, mode: list[str]) -> None:
    assert start("sh", "-c", SLOW, options=[*mode, "--env=TINYINIT_LEFTOVERS=wait"]).end() == (4, "done\n", "")


def test_docker_stop_reaches_those_that_are_waited_for(start: StartContainer, mode: list[str]) -> None:
    running = start("sh", "-c", STAYS, options=[*mode, "--env=TINYINIT_LEFTOVERS=wait"])
    running.read_until("up\n")
    assert running.stop() < AT_ONCE
    assert running.end() == (4, "up\ngot TERM\n", "")


def spare(script: str) -> str:
    """The script with its orphan spared; it ends when that is up and a line comes."""
    return script.replace("(setsid", "(TINYINIT_SPARE=1 setsid").replace("exit 4", "read line; exit 4")


@pytest.mark.parametrize(
    ("option", "said"), [("--pid=host", ""), ("--tty=false", "got TERM\n")], ids=["subreaper", "pid1"]
)
def test_what_is_to_be_spared_gets_no_term_but_from_pid_1(start: StartContainer, option: str, said: str) -> None:
    options = [option, "--interactive", "--env=TINYINIT_VERBOSE=1"]
    running = start("sh", "-c", spare(STAYS), options=options, stdin=subprocess.PIPE)
    running.read_until("up\n")
    running.write("\n")
    status, out, err = running.end()
    assert (status, out) == (4, f"up\n{said}")
    assert ("tinyinit: left pid " in err) == (not said)


# ---- docker exec ----------------------------------------------------------------------------------------------


def execute(container: Attached, *words: str) -> tuple[int, list[str], str]:
    """`docker exec CONTAINER tinyinit WORDS`: status, lines of standard output, standard error."""
    done = container.engine.run("exec", container.name, "tinyinit", *words)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_a_job_of_docker_exec_leaves_nothing_in_the_container(neighbour: Attached) -> None:
    before = neighbour.processes()
    status, out, err = execute(neighbour, "--", "sh", "-c", ESCAPES)
    assert neighbour.processes().keys() == before.keys()
    assert (status, sorted(out), err) == (5, ALL_OBEYED, "")


def test_without_tinyinit_the_same_job_leaves_four(neighbour: Attached) -> None:
    """What the test above is about."""
    before = neighbour.processes()
    script = f"({ESCAPES}) > /dev/null 2>&1"
    assert neighbour.engine.run("exec", neighbour.name, "sh", "-c", script).returncode == 5
    left = [each for each in neighbour.processes().values() if each.pid not in before and each.parent == 1]
    assert len([each for each in left if "obeyed" in each.command]) == 4


def test_a_timeout_within_docker_exec_ends_the_job_alone(neighbour: Attached) -> None:
    before = neighbour.processes()
    script = ESCAPES.replace("exit 5", "sleep 60")
    status, out, err = execute(neighbour, "--timeout", "2", "--", "sh", "-c", script)
    assert neighbour.processes().keys() == before.keys()
    assert (status, sorted(out)) == (124, ALL_OBEYED)
    assert "sleep 61" not in err, "that is PID 1's"


def test_a_daemon_that_is_spared_outlives_the_job_of_docker_exec(neighbour: Attached) -> None:
    wait_for_exec = "until grep -q sleep /proc/$!/comm; do sleep 0.01; done"  # it has its environment from then on
    script = f"TINYINIT_SPARE=1 setsid sleep 62 > /dev/null 2>&1 & {wait_for_exec}; setsid sleep 63 & exit 4"
    assert execute(neighbour, "--", "sh", "-c", script) == (4, [], "")
    left = [each for each in neighbour.processes().values() if each.command in ("sleep 62", "sleep 63")]
    assert [(each.parent, each.command) for each in left] == [(1, "sleep 62")]


# ---- docker exec CONTAINER tinyinit --ps ----------------------------------------------------------------------


@pytest.fixture
def with_zombies(start: StartContainer) -> tuple[Attached, int]:
    """A container with an orphan and with zombies, and the PID of who does not reap these."""
    script = "(setsid sleep 61 > /dev/null &); exec python3 /programs/tree.py zombie 2"
    container = start("sh", "-c", script)
    return container, container.wait_ready()


def test_ps_shows_the_container_with_zombies_and_adopted(with_zombies: tuple[Attached, int]) -> None:
    container, main = with_zombies
    status, lines, err = execute(container, "--ps")
    assert (status, err) == (0, "")
    commands = {int(line.split()[0]): line.split(None, 8)[8] for line in lines[1:-1]}
    zombies = [
        each for each in commands.values() if each == f"[python3] <zombie, not reaped by 'python3' (pid {main})>"
    ]
    assert len(zombies) == 2
    assert lines[-1] == f"2 zombies are not reaped by 'python3' (pid {main})"
    assert [each for each in commands.values() if "<adopted>" in each] == ["sleep 61 <adopted>"]
    assert commands[main] == "python3 /programs/tree.py zombie 2"
    assert next(iter(commands)) == 1
    assert len(commands) == 6, "PID 1, COMMAND, two zombies, the orphan, and who asks"


def test_ps_of_one_process_shows_its_tree_alone(with_zombies: tuple[Attached, int]) -> None:
    container, main = with_zombies
    assert [len(execute(container, "--ps", str(pid))[1]) for pid in (1, main)] == [7, 5]


@pytest.mark.parametrize("word", ["999999", "x"])
def test_ps_of_no_process_is_said(neighbour: Attached, word: str) -> None:
    status, out, err = execute(neighbour, "--ps", word)
    assert (status, out, err.count("\n")) == (125, [], 1)
    assert err.startswith("tinyinit: option --ps: ")
    assert word in err
