"""Contract, section 5: no zombie stays, no memory grows, no wake-up while nothing happens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

import pytest

from conftest import StartTinyinit
from helpers.running import TINYINIT, children, is_settled, private_memory, program, state, status_field, wait_until
from tinyinit.init import LONG_LOOK, REST, Init, Options, Start


def test_a_burst_of_orphans_leaves_no_zombie(start: StartTinyinit) -> None:
    running = start("--", *program("orphans", 1000, "wait"), stdin=subprocess.PIPE)
    running.wait_ready()
    wait_until(lambda: len(children(running.pid)) == 1001, "1000 orphans to be adopted")
    assert running.process.stdin
    running.process.stdin.write(b"x")
    running.process.stdin.flush()
    wait_until(lambda: len(children(running.pid)) == 1, "all orphans to be reaped")
    running.send(signal.SIGTERM)
    assert running.end()[0] == 128 + signal.SIGTERM


def test_looks_that_take_long_are_followed_by_rests() -> None:
    """At most two thirds of the time pass without SIGCHLD; when that has another reason all is reaped at once."""
    init, ended, began = Init(Options({}), Start(["true"], ()), 0), list(range(100, 120)), time.monotonic()

    def wait(pid: int, _: int) -> tuple[int, int]:
        if pid > 0:
            return 0, 0  # COMMAND runs on
        time.sleep(2 * LONG_LOOK)
        return (ended.pop(), 0) if ended else (0, 0)

    init.main, init.wait = 2, wait
    init.reap("SIGCHLD")
    assert len(ended) == 19
    assert init.deadlines.pop("reap")[0] >= began + REST
    first_rest = init.next_rest
    init.reap("SIGCHLD")
    assert ("reap" in init.deadlines) == bool(ended)
    assert not ended or time.monotonic() >= first_rest
    ended[:] = range(100, 120)
    time.sleep(max(began + 10 * REST - time.monotonic(), 0.0))
    init.reap("SIGCHLD")
    assert (len(ended), "reap" in init.deadlines) == (19, True)
    init.reap()
    assert not ended


@pytest.mark.heavy
def test_the_last_of_thousands_are_reaped_and_signals_heard_meanwhile(start: StartTinyinit) -> None:
    """To find one of them the kernel passes over all that live, which takes so long that tinyinit rests in between."""
    running = start("--", *program("orphans", 3000, "wait"), stdin=subprocess.PIPE)
    running.wait_ready()
    wait_until(lambda: len(children(running.pid)) == 3001, "3000 orphans to be adopted")
    orphans = [pid for pid in children(running.pid) if pid != running.main]
    for orphan in reversed(orphans[-300:]):
        os.kill(orphan, signal.SIGKILL)
    wait_until(lambda: len(children(running.pid)) == 2701, "the last of them to be reaped")
    for orphan in reversed(orphans[-600:-300]):
        os.kill(orphan, signal.SIGKILL)
    running.send(signal.SIGTERM)
    assert running.end()[0] == 128 + signal.SIGTERM


def test_an_orphan_is_reaped_while_the_command_runs_on(start: StartTinyinit) -> None:
    """The article's scenario: start.sh runs sub.sh and is killed with -9; sub.sh is adopted, and later reaped."""
    running = start("--", "sh", "-c", "sh -c 'sleep 60 & echo ready \"(pid: $!)\"; wait' & wait; sleep 60")
    running.wait_ready()
    middle = children(running.main)[0]
    orphan = children(middle)[0]
    os.kill(middle, signal.SIGKILL)
    wait_until(lambda: status_field(orphan, "PPid") == str(running.pid), "the orphan to be adopted")
    os.kill(orphan, signal.SIGTERM)
    wait_until(lambda: not state(orphan), "the orphan to be reaped")
    wait_until(lambda: not state(middle), "COMMAND to reap its child")


def test_memory_does_not_grow_with_the_number_of_processes_reaped(start: StartTinyinit) -> None:
    script = 'ready() { echo ready "(pid: $1)"; }; n=0; ready 0; read x; while [ $n -lt 2000 ]; do (true & ) ; n=$((n+1)); done; ready 1; read x'
    running = start("--", "sh", "-c", script, stdin=subprocess.PIPE)
    running.wait_ready()
    wait_until(lambda: is_settled(running.pid), "tinyinit to have all that it needs")
    before = private_memory(running.pid)
    assert running.process.stdin
    running.process.stdin.write(b"\n")
    running.process.stdin.flush()
    running.read_until("pid: 1)")
    wait_until(lambda: len(children(running.pid)) == 1 and is_settled(running.pid), "all orphans to be reaped")
    assert private_memory(running.pid) - before <= 64


def test_it_sleeps_while_nothing_happens(start: StartTinyinit) -> None:
    running = start("--", "sh", "-c", "echo 'ready (pid: 1)'; exec sleep 60")
    running.wait_ready()
    pid = running.pid
    wait_until(lambda: is_settled(pid), "tinyinit to sleep")
    before = status_field(pid, "voluntary_ctxt_switches")
    time.sleep(2)
    assert status_field(pid, "voluntary_ctxt_switches") == before


def test_a_child_from_before_tinyinit_is_reaped(start: StartTinyinit) -> None:
    """`sh -c 'job & exec tinyinit ...'`: the job has become a child that tinyinit did not start."""
    running = start("--", "sleep", "60", command=["sh", "-c", 'sleep 61 & exec "$0" "$@"', TINYINIT])
    first, main = wait_until(lambda: children(running.pid) if len(children(running.pid)) == 2 else [], "both children")
    os.kill(first, signal.SIGTERM)
    wait_until(lambda: children(running.pid) == [main], "the first to be reaped")


def test_a_child_that_ended_before_tinyinit_began_is_reaped(start: StartTinyinit) -> None:
    """Its SIGCHLD came when nobody had blocked it yet, and was dropped."""
    words = ["--", "sh", "-c", "echo 'ready (pid: 0)'; exec sleep 60"]
    running = start(*words, command=[*program("bring_zombie"), TINYINIT])
    running.wait_ready()
    wait_until(lambda: [state(pid) for pid in children(running.pid)] == ["S"], "the first to be reaped")


def test_warn_on_reap_tells_each_orphan(start: StartTinyinit) -> None:
    for option in ("-w", "--warn-on-reap"):
        _, _, err = start(option, "--", "sh", "-c", "(sh -c 'exit 3' &); (sh -c 'kill -9 $$' &); sleep 0.3").end()
        assert sorted(re.sub(r"\d+,", "N,", err).splitlines()) == [
            "tinyinit: reaped orphan N, which exited with status 3",
            "tinyinit: reaped orphan N, which was killed by SIGKILL",
        ]
