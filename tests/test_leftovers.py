"""Contract, section 6: what is left when COMMAND has ended, as PID 1 and as subreaper."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import tinyinit as package
from conftest import StartTinyinit
from helpers.running import (
    PROGRAMS,
    TINYINIT,
    UNPRIVILEGED,
    UNSHARE,
    Running,
    children,
    descendants,
    is_alive,
    is_settled,
    program,
    split_line,
    state,
    status_field,
    wait_until,
)
from tinyinit import leftovers
from tinyinit.init import Init, Options, Start

pytestmark = pytest.mark.usefixtures("nothing_is_left")

OBEYING = ["group", "setsid", "double_fork", "nohup", "stopped", "thread"]
SOON = 5.0  # seconds, the default grace: what ends in less has not waited for it
DEEP = 'if [ $1 = 0 ]; then echo "ready (pid: $$)"; exec sleep 60; fi; sh -c "$0" "$0" $(($1 - 1)); exit'


def end_within(running: Running, seconds: float = SOON) -> tuple[int, str, str]:
    """Its end, which is to come in time; of standard output what came after `ready`, sorted."""
    begin = time.monotonic()
    running.wait_ready()
    ready = time.monotonic()
    status, out, err = running.end()
    assert time.monotonic() - ready < seconds, f"took {time.monotonic() - begin} s"
    return status, " ".join(sorted(out.split(")\n", 1)[1].split())), err


def said(running: Running) -> str:
    """What an ended tinyinit has written to standard error, which others may hold open."""
    assert running.process.stderr
    os.set_blocking(running.process.stderr.fileno(), False)
    return (running.process.stderr.read() or b"").decode()


# ---- stop -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OBEYING)
def test_each_gets_term_wherever_it_hides(start: StartTinyinit, kind: str) -> None:
    assert end_within(start("--", *program("behind", 5, kind))) == (5, kind, "")


def test_term_and_time_for_all_of_them_together(start: StartTinyinit) -> None:
    running = start("--", *program("behind", 5, *OBEYING, *OBEYING))
    assert end_within(running) == (5, " ".join(sorted([*OBEYING, *OBEYING])), "")


def test_the_child_of_a_thread_gets_it_from_us(start_subreaper: StartTinyinit) -> None:
    """And not because it is an orphan by then: its parent lives until KILL comes."""
    running = start_subreaper("-q", "--grace", "1", "--", *program("behind", 5, "deaf_thread"))
    assert end_within(running) == (5, "deaf_thread", "")


@pytest.mark.parametrize(("grace", "least", "most"), [("1", 1.0, 3.0), ("0", 0.0, 1.0), ("300ms", 0.3, 2.0)])
def test_a_leftover_that_ignores_term_is_killed_after_the_grace(
    start: StartTinyinit, grace: str, least: float, most: float
) -> None:
    running = start("--grace", grace, "--", *program("behind", "wait", "deaf"), stdin=subprocess.PIPE)
    running.wait_ready()
    begin = time.monotonic()
    running.go_on()
    status, _, err = running.end()
    assert (status, err if grace == "0" else split_line(err)[0]) == (5, "")
    assert least <= time.monotonic() - begin <= most


def test_without_a_grace_there_is_no_term(start: StartTinyinit) -> None:
    assert end_within(start("--grace", "0", "--", *program("behind", 5, "group", "setsid"))) == (5, "", "")


def test_it_ends_as_soon_as_none_is_left(start: StartTinyinit) -> None:
    assert end_within(start("--grace", "inf", "--", *program("behind", 5, "group", "setsid"))) == (
        5,
        "group setsid",
        "",
    )


def test_what_is_forked_on_term_is_killed_too(start: StartTinyinit) -> None:
    running = start("-q", "--grace", "300ms", "--", *program("behind", 5, "forking", "forking"))
    assert end_within(running) == (5, "forking forking", "")


def test_what_a_leftover_starts_to_clean_up_is_not_ended_by_the_same_term(start: StartTinyinit) -> None:
    clean_up = "if sleep 0.3; then echo cleaned; else echo cut; fi; exit"
    script = f"trap '{clean_up}' TERM; echo up; while :; do sleep 0.01; done"
    words = ["sh", "-c", 'for i in 1 2 3 4 5 6 7 8; do sh -c "$0" & done; read x; exit 5', script]
    running = start("--", *words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    running.read_until("up\n", times=8)
    running.go_on()
    assert running.end()[:2] == (5, 8 * "up\n" + 8 * "cleaned\n")


@pytest.mark.heavy
def test_a_chain_of_500(start: StartTinyinit) -> None:
    chain = ["sh", "-c", 'sh -c "$0" "$0" "$1" & read x; exit 5', DEEP, "500"]
    running = start("--", *chain, stdin=subprocess.PIPE)
    running.read_until("ready", timeout=60)
    running.go_on()
    assert end_within(running) == (5, "", "")


@pytest.mark.heavy
def test_thousands_of_leftovers_are_ended(start: StartTinyinit) -> None:
    assert start("--", *program("orphans", 2000, "exit")).end(60)[0] == 5


def test_a_signal_during_the_grace_reaches_the_leftovers(start: StartTinyinit) -> None:
    """COMMAND has ended, but what it left behind has not."""
    running = start("--grace", "inf", "--", "sh", "-c", '"$@" & read x; exit 3', "sh", *program("log_signals", "got", 10), stdin=subprocess.PIPE)  # fmt: skip
    running.wait_ready()
    running.go_on()
    running.read_until("got 15\ngot 18\n")
    running.send(signal.SIGUSR1)
    status, out, err = running.end()
    assert (status, out.splitlines()[1:], err) == (3, ["got 15", "got 18", "got 10"], "")


def test_term_during_the_grace_reaches_a_leftover_that_has_stopped_since(start: StartTinyinit) -> None:
    running = start("--grace", "inf", "--", "sh", "-c", '"$@" & read x; exit 3', "sh", *program("log_signals", "got", 10), stdin=subprocess.PIPE)  # fmt: skip
    leftover = running.wait_ready()
    running.go_on()
    running.read_until("got 15\ngot 18\n")
    if running.as_pid_1:
        leftover = children(running.pid)[0]
    os.kill(leftover, signal.SIGSTOP)
    wait_until(lambda: state(leftover) == "T", "it to stop")
    running.send(signal.SIGTERM)
    running.read_until("got 15\ngot 18\ngot 15\ngot 18\n")
    running.send(signal.SIGUSR1)
    assert running.end()[0] == 3


# ---- leave, wait ----------------------------------------------------------------------------------------------


def test_leave_ends_at_once(start_pid_1: StartTinyinit) -> None:
    assert end_within(start_pid_1("--leftovers", "leave", "--", *program("behind", 5, "deaf")))[0] == 5


@pytest.mark.leaves
def test_leave_leaves_them_alive_as_subreaper(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper("--leftovers", "leave", "--", *program("behind", 5, "setsid"))
    leftover = running.wait_ready()
    assert running.process.wait(SOON) == 5
    assert is_alive(leftover)
    os.kill(leftover, signal.SIGTERM)  # the first that it gets
    running.read_until("setsid\n")


def test_wait_lets_them_end_by_themselves_and_forwards_signals(start: StartTinyinit) -> None:
    running = start("--leftovers", "wait", "--", "sh", "-c", '"$@" & exec "$0" -c "exit 3"', "sh", *program("log_signals", "got", 12))  # fmt: skip
    running.wait_ready()
    wait_until(lambda: [status_field(pid, "Name") for pid in children(running.pid)][1:] == [], "COMMAND to be reaped")
    running.send(signal.SIGUSR1)
    running.read_until("got 10\n")
    running.send(signal.SIGUSR2)
    status, out, err = running.end()
    assert (status, out.splitlines()[1:], err) == (3, ["got 10", "got 12"], "")


def test_wait_sleeps_for_as_long_as_they_need(start: StartTinyinit) -> None:
    begin = time.monotonic()
    assert start("--leftovers", "wait", "--", "sh", "-c", "(sleep 0.3; echo late) & exit 3").end() == (3, "late\n", "")
    assert time.monotonic() - begin >= 0.3


def test_a_timeout_ends_waiting_and_the_status_of_the_command_stays(start: StartTinyinit) -> None:
    options = ("--leftovers", "wait", "--timeout", "700ms", "--grace", "200ms", "-q")
    running = start(*options, "--", *program("behind", 5, "setsid", "deaf"))
    assert end_within(running) == (5, "setsid", "")


def test_an_environment_without_end_is_read_to_where_one_may_end(start_subreaper: StartTinyinit) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (500 << 20, resource.getrlimit(resource.RLIMIT_AS)[1]))

    words = ["sh", "-c", '"$@" & read line; exit 4', "sh", *program("huge_environment", 1 << 30)]
    running = start_subreaper("--grace", "60", "--", *words, preexec_fn=limit, stdin=subprocess.PIPE)
    if running.read_until("\n") == "refused\n":
        pytest.skip("this kernel has no PR_SET_MM_MAP for everybody")
    running.go_on()
    assert running.end()[::2] == (4, "")


# ---- nobody else is ever signalled ----------------------------------------------------------------------------


@pytest.mark.leaves
def test_nothing_but_our_own_tree_is_ever_signalled(start_subreaper: StartTinyinit, tmp_path: Path) -> None:
    """A canary in the session and the group of tinyinit, a child of the same shell."""
    log = tmp_path / "log"
    job = f'{TINYINIT} --grace 200ms -- $BEHIND; echo "status $?"'
    script = f'"$@" >"$LOG" & until [ -s "$LOG" ]; do sleep 0.01; done; {job}; wait'
    behind = program("behind", 5, *OBEYING, "deaf", "forking")
    env = {**os.environ, "LOG": str(log), "BEHIND": " ".join(behind)}
    shell = start_subreaper(command=["sh", "-c", script, "sh", *program("log_signals", "canary", 10)], env=env)
    shell.read_until("status 5\n")
    assert len(children(shell.pid)) == 1
    os.kill(children(shell.pid)[0], signal.SIGUSR1)
    assert shell.end()[0] == 0
    assert log.read_text().splitlines()[1:] == ["canary 10"]


def test_a_tinyinit_under_tinyinit(start: StartTinyinit) -> None:
    inner = [TINYINIT, "-q", "--grace", "100ms", "--", *program("behind", 5, "setsid", "deaf")]
    assert end_within(start("--", *inner)) == (5, "setsid", "")


def test_a_tinyinit_that_is_left_behind(start: StartTinyinit) -> None:
    script = '"$@" & read x; exit 3'
    inner = [TINYINIT, "-q", "--grace", "100ms", "--", *program("behind", "wait", "setsid", "deaf")]
    running = start("--grace", "1", "--", "sh", "-c", script, "sh", *inner, stdin=subprocess.PIPE)
    running.wait_ready()
    running.go_on()
    status, out, err = running.end()
    assert (status, out.splitlines()[1:], err) == (3, ["setsid"], "")


@pytest.mark.leaves
def test_a_child_from_before_the_command_is_left_alone(start_subreaper: StartTinyinit) -> None:
    """What bash does for `> >(tee log)` is to see the end of the output, and is not waited for."""
    script = 'exec > >(read x; sleep 0.2; echo "$x, whole" >&2); exec "$0" "$@"'
    behind = ["sh", "-c", "sleep 60 & echo hi; exit 3"]
    running = start_subreaper("--", *behind, command=["bash", "-c", script, TINYINIT])
    assert running.process.wait(SOON) == 3
    assert running.end()[2] == "hi, whole\n"


@pytest.mark.leaves
def test_a_reused_pid_of_a_child_from_before_is_not_left_alone(
    start_subreaper: StartTinyinit, namespaces: None
) -> None:
    """ns_last_pid (proc(5)) has the kernel give the PID to a leftover."""
    # the PID is free a moment after it is not found any more
    reaped = "while kill -0 $1; do sleep 0.05; done 2> /dev/null; sleep 0.1"
    leftover = "echo $(($1 - 1)) > /proc/sys/kernel/ns_last_pid; setsid sleep 60 & [ $! = $1 ] && echo reused; exit 3"
    script = f"sleep 0.1 & exec {TINYINIT} --grace 2s -- sh -c '{reaped}; {leftover}' sh $!"
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--", "sh", "-c"]
    # the last line of the namespace's PID 1 is what is left in it
    words = [*namespace, '(sh -c "$0"); echo "status $?"; ls /proc | grep -cx "[0-9]*"', script]
    assert start_subreaper(command=words).end() == (0, "reused\nstatus 3\n3\n", "")


# ---- what gets in the way -------------------------------------------------------------------------------------


@pytest.mark.leaves
def test_a_leftover_of_another_user_is_told_and_does_not_hold_it(start: StartTinyinit, become_root: Path) -> None:
    script = '"$0" --reuid=0 sh -c \'echo "ready (pid: $$)"; exec sleep 60\' & read x; exit 3'
    running = start(
        *("--grace", "200ms", "--", "sh", "-c", script, become_root),
        command=[*UNPRIVILEGED, TINYINIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    leftover = running.wait_ready()
    wait_until(lambda: "sleep" in [status_field(pid, "Name") for pid in descendants(running.pid)], "sleep")
    running.go_on()
    begin = time.monotonic()
    assert running.process.wait(SOON) == 3
    assert time.monotonic() - begin >= 0.4
    lines = said(running).splitlines()
    assert f"did not end on TERM in 0.2 s, and got KILL: 'sleep' (pid {leftover})" in lines.pop()
    assert lines[-1] == (
        f"tinyinit: warning: KILL does not end 'sleep' (pid {leftover}, state S); look at what they wait for, and "
        "whose they are"
    )
    # as PID 1 there is no such error: kill(2) with -1 says nothing of those that it may not signal
    may_not = "tinyinit: warning: may not signal all that COMMAND left behind, some of which runs as another user"
    assert lines[:-1] == ([] if running.as_pid_1 else [may_not])


def test_what_is_in_exit_is_waited_for_longer(start_subreaper: StartTinyinit, namespaces: None) -> None:
    """The first process of a PID namespace sleeps in exit(2) until the others are reaped (pid_namespaces(7))."""
    script = 'unshare --pid --fork sh -c "echo up; exec sleep 60" & read x; exit 3'
    running = start_subreaper("-q", "--grace", "100ms", "--", "sh", "-c", script, stdin=subprocess.PIPE)
    running.read_until("up\n")
    first = children(children(running.main)[0])[0]
    other = subprocess.Popen(["nsenter", f"--pid=/proc/{first}/ns/pid", "sleep", "60"])
    try:
        wait_until(lambda: children(other.pid), "another process of the namespace")
        os.kill(other.pid, signal.SIGSTOP)  # so it does not reap that one
        running.go_on()
        wait_until(lambda: [state(pid) for pid in children(other.pid)] == ["Z"], "that one to be killed")
        time.sleep(0.5)
        assert running.process.poll() is None
    finally:
        for pid in children(other.pid):
            os.kill(pid, signal.SIGKILL)
        os.kill(other.pid, signal.SIGCONT)
        other.wait()
    assert running.end() == (3, "up\n", "")


@pytest.mark.leaves
def test_what_kill_does_not_end_is_named_and_not_waited_for(
    start_subreaper: StartTinyinit, freeze: Callable[[int], None]
) -> None:
    """As PID 1 the kernel itself would wait for it."""
    running = start_subreaper("--grace", "300ms", "--", *program("behind", "wait", "group", "setsid"), stdin=subprocess.PIPE)  # fmt: skip
    frozen = running.wait_ready()
    freeze(frozen)
    name = status_field(frozen, "Name")
    running.go_on()
    begin = time.monotonic()
    assert running.process.wait(SOON) == 5
    assert 0.6 <= time.monotonic() - begin <= 0.6 + 1.5
    running.read_until("group\n")
    assert split_line(said(running))[0] == (
        f"tinyinit: warning: KILL does not end '{name}' (pid {frozen}, state D); look at what they wait for, and "
        "whose they are\n"
    )


@pytest.mark.leaves
def test_without_proc_those_of_the_main_group_are_ended(
    start_subreaper: StartTinyinit, without_proc: list[str]
) -> None:
    running = start_subreaper("--", *program("behind", 5, "group", "stopped"), command=[*without_proc, TINYINIT])
    assert end_within(running) == (
        5,
        "group stopped",
        "tinyinit: warning: without /proc only those of COMMAND's process group are ended: mount it\n",
    )


@pytest.mark.leaves
def test_the_proc_of_another_namespace_leads_to_nobody(
    start_subreaper: StartTinyinit, namespaces: None, tmp_path: Path
) -> None:
    """There our PIDs are others': only the main group is ended, and a canary in the same group is not signalled."""
    script = (
        '"$@" > "$LOG" & until grep -qs ready "$LOG"; do sleep 0.01; done; '
        f'{TINYINIT} -- $BEHIND; echo "status $?"; kill -USR1 $!; wait $!; status=$?; cat "$LOG"; exit $status'
    )
    env = {**os.environ, "BEHIND": " ".join(program("behind", 5, "group")), "LOG": str(tmp_path / "log")}
    namespace = ["unshare", "--pid", "--fork", "--kill-child", "--", "sh", "-c", script, "sh"]
    running = start_subreaper(command=[*namespace, *program("log_signals", "canary", 10)], env=env)
    status, out, err = running.end()
    lines = [line for line in out.splitlines() if not line.startswith("ready")]
    assert (status, lines) == (0, ["group", "status 5", "canary 10"])
    assert err == "tinyinit: warning: without /proc only those of COMMAND's process group are ended: mount it\n"


@pytest.mark.parametrize("lack", ["children", "pidfd"])
def test_kernels_that_lack_what_helps(start_subreaper: StartTinyinit, lack: str) -> None:
    driver = [sys.executable, "-I", str(PROGRAMS / "old_kernel.py"), lack]
    running = start_subreaper("-q", "--grace", "300ms", "--", *program("behind", 5, *OBEYING, "deaf", "forking"), command=driver)  # fmt: skip
    assert end_within(running) == (5, " ".join(sorted([*OBEYING, "forking"])), "")


@pytest.mark.form("installed")
@pytest.mark.parametrize(("what", "out"), [("forks", ""), ("dies", ""), ("cleans", "cleaned")])
def test_what_happens_while_they_are_searched_for(start_subreaper: StartTinyinit, what: str, out: str) -> None:
    """Who is forked then gets TERM too; but not who cleans up, nor what that has forked."""
    driver = [sys.executable, "-I", str(PROGRAMS / "meanwhile.py"), what]
    words = ["sh", "-c", 'setsid "$@" & read line; exit 4', "sh", *driver]
    running = start_subreaper("--", *words, command=driver, stdin=subprocess.PIPE)
    running.wait_ready()
    running.go_on()
    assert end_within(running) == (4, out, "")


def test_what_is_spared_is_no_survivor_but_to_pid_1_which_takes_it_with_it() -> None:
    words = ["sleep", "60"]
    spared, other = subprocess.Popen(words, env={**os.environ, "TINYINIT_SPARE": "1"}), subprocess.Popen(words)
    try:
        names = {with_spared: str(leftovers.survivors(with_spared)[0]) for with_spared in (False, True)}
    finally:
        for each in (spared, other):
            each.kill()
            each.wait()
    assert all(f"'sleep' (pid {other.pid}, state " in each for each in names.values())
    assert [f"(pid {spared.pid}, " in names[with_spared] for with_spared in (False, True)] == [False, True]


def test_it_goes_on_killing_while_others_are_left_than_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What forks faster than it is killed on a busy machine is not what KILL does not end."""
    init = Init(Options({"grace": 0.0, "verbosity": 0}), Start(["true"], ()), 0)
    left = iter([["'a' (pid 10, state S)"], ["'a' (pid 11, state S)"], ["'a' (pid 11, state S)"]])
    monkeypatch.setattr(leftovers, "survivors", lambda with_spared: (next(left), False))
    leftovers.look_at_survivors(init)
    for is_over in (False, True):
        assert not init.is_over
        init.deadlines.pop("give up")[1]()
        assert init.is_over == is_over


def test_a_job_that_deletes_tinyinit_is_cleaned_up_after(start: StartTinyinit, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    shutil.copytree(Path(package.__file__).parent, folder / "tinyinit")
    code = f"import sys; sys.path[:0] = [{str(folder)!r}]; import tinyinit.init as i; i.main()"
    words = ["sh", "-c", 'echo up; read x; rm -r "$0"; exec "$@"', str(folder), *program("behind", 5, *OBEYING, "deaf")]
    command = [sys.executable, "-B", "-I", "-c", code]
    running = start("--grace", "300ms", "--", *words, command=command, stdin=subprocess.PIPE)
    running.read_until("up\n")
    wait_until(lambda: is_settled(running.pid), "tinyinit to have all that it needs")
    running.go_on()
    status, ended, err = end_within(running)
    assert (status, ended) == (5, " ".join(sorted(OBEYING)))
    assert re.fullmatch(r"tinyinit: warning: .*No module named 'tinyinit.why'.*\n", err), (
        "it cannot say what needed KILL"
    )
    assert not folder.exists()


@pytest.mark.parametrize(
    ("state", "flags", "alive"),
    [
        (b"S", 0x400000, True),
        (b"D", 0, True),
        (b"T", 0, True),
        (b"Z", 0, False),
        (b"X", 0, False),
        (b"R", 0x400004, False),
    ],
)
def test_who_has_ended_or_is_in_exit_is_not_alive(state: bytes, flags: int, alive: bool) -> None:
    assert leftovers.is_alive([state, b"1", b"1", b"1", b"0", b"-1", b"%d" % flags]) == alive
    assert not leftovers.is_alive([])


def test_what_was_started_in_the_same_clock_tick_is_ended_though_its_pid_is_a_lower_one(
    start_subreaper: StartTinyinit, namespaces: None
) -> None:
    """PIDs begin again at 300 after pid_max (proc(5)). Ten times, for a tick is 10 ms, and may end meanwhile."""
    script = """
        last=$(($(cat /proc/sys/kernel/pid_max) - 4))
        for turn in 0 1 2 3 4 5 6 7 8 9; do
            echo $last > /proc/sys/kernel/ns_last_pid
            "$0" -q -- sh -c '(sleep 60 > /dev/null 2>&1 &); exit 0'
            ! kill -0 300 || exit 1
        done
    """
    assert start_subreaper(command=[*UNSHARE, "sh", "-c", script, TINYINIT]).end()[0] == 0
