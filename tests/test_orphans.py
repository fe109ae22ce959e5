"""--orphans: what was adopted while COMMAND runs, and stays, is named or ended."""

from __future__ import annotations

import os
import posix
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tinyinit.watch
from conftest import StartTinyinit
from helpers.running import INSTALLED, TINYINIT, Running, children, is_alive, program, state, status_field, wait_until
from tinyinit import leftovers
from tinyinit.init import Init, Options, Start
from tinyinit.leftovers import start_of
from tinyinit.watch import Watch

STOP = ("--orphans", "stop", "--orphan-ttl", "100ms")
WARN = ("--orphans", "warn", "--orphan-ttl", "100ms")
MORE_THAN_TTL = 0.35  # seconds: within it each orphan is seen to


def orphan_of(running: Running) -> int:
    """The PID of the one orphan, in the namespace of the test, once it is adopted."""
    main = running.main
    found: list[int] = wait_until(lambda: [pid for pid in children(running.pid) if pid != main], "an orphan")
    return found[0]


def end_command(running: Running) -> tuple[int, str]:
    """Have COMMAND end; tinyinit's status, and what it has said."""
    assert running.process.stdin
    running.process.stdin.write(b"\n")
    running.process.stdin.flush()
    status, _, err = running.end()
    return status, err


def start_orphan(start: StartTinyinit, *options: str, orphan: str = "sleep 60") -> Running:
    """COMMAND is a shell that has started an orphan, and goes on when it gets a line."""
    return start(*options, "--", "sh", "-c", f"({orphan} &); read line; exit 3", stdin=subprocess.PIPE)


def test_stop_ends_an_orphan_while_the_command_runs_on(start: StartTinyinit) -> None:
    running = start_orphan(start, *STOP)
    orphan = orphan_of(running)
    wait_until(lambda: not state(orphan), "the orphan to be ended and reaped")
    status, err = end_command(running)
    assert status == 3
    assert re.fullmatch(
        r"tinyinit: warning: 'sleep' \(pid \d+\) has been an orphan for 0\.1 s: ended now, .*TINYINIT_SPARE=1.*\n",
        err,
    )


def test_warn_names_an_orphan_once_and_lets_it_run(start: StartTinyinit) -> None:
    running = start_orphan(start, *WARN)
    orphan = orphan_of(running)
    time.sleep(MORE_THAN_TTL)
    assert is_alive(orphan)
    status, err = end_command(running)
    assert (status, err.count("'sleep' (pid "), err.count("\n")) == (3, 1, 1)
    assert "see --orphans stop" in err


def test_keep_is_the_default_and_says_nothing(start_subreaper: StartTinyinit) -> None:
    running = start_orphan(start_subreaper, "--orphan-ttl", "50ms")
    orphan = orphan_of(running)
    time.sleep(0.3)
    assert is_alive(orphan)
    assert end_command(running) == (3, "")


def test_quiet_ends_and_says_nothing(start_subreaper: StartTinyinit) -> None:
    running = start_orphan(start_subreaper, "-q", *STOP)
    orphan = orphan_of(running)
    wait_until(lambda: not state(orphan), "the orphan to be ended")
    assert end_command(running) == (3, "")


def test_an_orphan_that_ends_in_time_is_not_named(start_subreaper: StartTinyinit) -> None:
    running = start_orphan(start_subreaper, "--orphans", "stop", "--orphan-ttl", "1s", orphan="sleep 0.3")
    orphan = orphan_of(running)
    wait_until(lambda: not state(orphan), "the orphan to end")
    assert end_command(running) == (3, "")


def test_an_orphan_that_ignores_term_is_killed_after_the_grace(start_subreaper: StartTinyinit) -> None:
    running = start_orphan(
        start_subreaper, "-v", "--grace", "100ms", *STOP, orphan="sh -c \"trap '' TERM; sleep 60; :\""
    )
    orphan = orphan_of(running)
    wait_until(lambda: not state(orphan), "the orphan to be killed")
    status, err = end_command(running)
    assert status == 3
    sent = re.findall(r"sent (SIG\w+) to pid", err)
    assert sent[:2] == ["SIGTERM", "SIGCONT"]
    assert "SIGKILL" in sent


def test_a_stopped_orphan_sees_term(start_subreaper: StartTinyinit) -> None:
    trap = 'trap "echo obeyed; exit" TERM; kill -STOP $$; sleep 60'
    running = start_orphan(start_subreaper, "--grace", "inf", *STOP, orphan=f"sh -c '{trap}'")
    running.read_until("obeyed\n")
    assert end_command(running)[0] == 3


def test_what_is_below_an_orphan_is_ended_with_it(start: StartTinyinit) -> None:
    running = start_orphan(start, *STOP, orphan="sh -c \"setsid sh -c 'sleep 60; :'; :\"")
    orphan = orphan_of(running)
    middle = wait_until(lambda: children(orphan), "its child")[0]
    lowest = wait_until(lambda: children(middle), "its grandchild")[0]
    wait_until(lambda: not any(map(state, (orphan, middle, lowest))), "all three to be ended")
    status, err = end_command(running)
    assert (status, err.count("\n")) == (3, 1)


def test_an_orphan_with_tinyinit_spare_is_left_alone(start: StartTinyinit) -> None:
    running = start_orphan(start, "-v", *STOP, orphan="TINYINIT_SPARE=1 sleep 60 > /dev/null 2>&1")
    orphan = orphan_of(running)
    time.sleep(3 * MORE_THAN_TTL)
    assert is_alive(orphan)
    status, err = end_command(running)
    assert (status, "warning" in err, err.count("alone, and what is below it")) == (
        3,
        False,
        1 + (not running.as_pid_1),
    )


def test_what_is_spared_below_an_orphan_is_left_alone(start: StartTinyinit) -> None:
    running = start_orphan(start, *STOP, orphan="sh -c 'TINYINIT_SPARE=1 sleep 60 > /dev/null 2>&1; :'")
    orphan = orphan_of(running)
    spared = wait_until(lambda: children(orphan), "its child")[0]
    wait_until(lambda: not state(orphan), "the orphan to be ended")
    time.sleep(MORE_THAN_TTL)
    assert is_alive(spared)
    assert end_command(running)[0] == 3


def test_a_child_from_before_tinyinit_is_left_alone(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper(*STOP, "--", "sleep", "60", command=["sh", "-c", 'sleep 61 & exec "$0" "$@"', TINYINIT])
    wait_until(lambda: len(children(running.pid)) == 2, "both children")
    before = children(running.pid)
    time.sleep(MORE_THAN_TTL)
    assert children(running.pid) == before
    running.send(signal.SIGTERM)
    os.kill(before[0], signal.SIGKILL)
    assert running.end()[::2] == (128 + signal.SIGTERM, "")


def test_orphans_are_named_in_one_line(start: StartTinyinit) -> None:
    running = start(*STOP, "--", *program("orphans", 50, "wait"), stdin=subprocess.PIPE)
    running.wait_ready()
    wait_until(lambda: len(children(running.pid)) == 51, "50 orphans to be adopted")
    main = running.main
    wait_until(lambda: children(running.pid) == [main], "all to be ended")
    running.send(signal.SIGTERM)
    status, _, err = running.end()
    assert status == 128 + signal.SIGTERM
    lines = err.splitlines()
    assert 1 <= len(lines) <= 2
    named = [line.count("(pid ") + int((re.findall(r" and (\d+) more have", line) or ["0"])[0]) for line in lines]
    assert sum(named) == 50
    assert err.count("(pid ") <= 20


def test_time_in_which_tinyinit_was_stopped_does_not_count(start_subreaper: StartTinyinit) -> None:
    running = start_orphan(start_subreaper, "--orphans", "stop", "--orphan-ttl", "500ms")
    orphan = orphan_of(running)
    running.send(signal.SIGSTOP)
    time.sleep(0.6)
    running.send(signal.SIGCONT)
    time.sleep(0.2)
    assert is_alive(orphan)
    wait_until(lambda: not state(orphan), "the orphan to be ended")


def test_another_orphan_that_got_the_pid_has_its_full_time(start_pid_1: StartTinyinit) -> None:
    if not Path("/proc/sys/kernel/ns_last_pid").exists():
        pytest.skip("this kernel does not let a test choose a PID (CONFIG_CHECKPOINT_RESTORE)")
    running = start_pid_1("-q", "--orphans", "stop", "--orphan-ttl", "400ms", "--", *program("same_pid", 0.3))
    status, out, err = running.end()
    assert (status, err) == (0, "")
    lived = float(re.findall(r"lived (\S+)", out)[0])
    assert 0.38 <= lived < 5


@pytest.mark.parametrize(("share", "lists_all"), [(1, False), (1 << 30, True)], ids=["walked", "listed"])
def test_a_tree_is_walked_or_where_it_is_large_all_are_listed(
    share: int, lists_all: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tinyinit.watch, "WALK_SHARE", share)
    init, child = Init(Options({}), Start(["true"], ()), 0), subprocess.Popen(["sleep", "60"])
    try:
        found = tinyinit.watch.all_to_look_at(init, leftovers.children_of)
    finally:
        child.kill()
        child.wait()
    assert child.pid in found
    assert (os.getpid() in found) == lists_all


def test_a_process_that_got_the_pid_is_not_signalled(started: list[Running]) -> None:
    child = subprocess.Popen(["sleep", "60"])
    watch = Watch(Init(Options({"orphans": "stop"}), Start(["true"], ()), 0))
    start = start_of(child.pid)
    watch.send((child.pid, start - 1), signal.SIGKILL)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.1)
    watch.send((child.pid, start), signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("error", "said"), [(PermissionError, "may not signal 'python"), (ProcessLookupError, "")], ids=["theirs", "gone"]
)
def test_who_cannot_be_signalled(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: type[OSError], said: str
) -> None:
    def refuse(pid: int, number: int) -> None:
        raise error

    watch = Watch(Init(Options({"orphans": "stop"}), Start(["true"], ()), 0))
    monkeypatch.setattr(tinyinit.watch, "hold", lambda pid: -1)  # as before Linux 5.3
    monkeypatch.setattr(posix, "kill", refuse)
    watch.send((os.getpid(), start_of(os.getpid())), signal.SIGTERM)
    err = capfd.readouterr().err
    assert err.startswith(f"tinyinit: warning: {said}") if said else err == ""


def test_without_proc_it_says_so_and_looks_again_later(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    init = Init(Options({"orphans": "stop"}), Start(["true"], ()), 0)
    watch = Watch(init)
    monkeypatch.setattr(tinyinit.watch, "look_up", lambda: None)
    watch.look()
    assert capfd.readouterr().err == "tinyinit: warning: without /proc orphans and zombies are not seen: mount it\n"
    assert init.deadlines.pop("watch")
    init.status = 0
    watch.look()
    assert not init.deadlines


def test_it_sleeps_between_two_looks(start_subreaper: StartTinyinit) -> None:
    running = start_orphan(
        start_subreaper, "--orphans", "warn", "--orphan-ttl", "400ms", "--zombies", "warn", "--zombie-ttl", "4s"
    )
    orphan_of(running)
    before = int(status_field(running.pid, "voluntary_ctxt_switches"))
    time.sleep(0.7)
    assert 2 <= int(status_field(running.pid, "voluntary_ctxt_switches")) - before <= 5


@pytest.mark.form("installed")
@pytest.mark.parametrize(("words", "is_imported"), [(["-v", "--orphan-ttl", "1s"], False), (list(WARN), True)])
def test_it_is_imported_only_when_it_is_asked_for(words: list[str], is_imported: bool) -> None:
    command = [sys.executable, "-IS", "-X", "importtime", INSTALLED + "-python", *words, "--", "true"]
    err = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert bool(re.search(r"\| *tinyinit\.watch$", err, re.MULTILINE)) == is_imported
    assert not re.search(r"\| *(os|collections|typing)$", err, re.MULTILINE) or words[0] == "-v"
