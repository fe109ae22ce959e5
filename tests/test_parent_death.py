"""Contract, sections 3 and 6: -p, the parent-death signal, and --die-with-parent."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from conftest import StartTinyinit
from helpers.running import PYTHON, TINYINIT, Running, children, descendants, program, state, status_field, wait_until

GETPPID = ("110", "173")  # the call's number on x86_64 and on AArch64
MIDDLE = [*PYTHON, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]
# dies, and its child waits for that before it becomes tinyinit
DIES_FIRST = [*PYTHON, "-c", """
import os, sys
parent = os.getpid()
if os.fork() == 0:
    while os.getppid() == parent:
        continue
    os.execv(sys.argv[1], sys.argv[1:])
"""]  # fmt: skip
# a thread that starts it, and ends at a line of standard input
THREAD = [*PYTHON, "-c", """
import signal, subprocess, sys, threading
def start():
    subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    sys.stdin.read(1)
threading.Thread(target=start).start()
signal.pause()
"""]  # fmt: skip
RTMAX = int(signal.SIGRTMAX)


def is_gone(pid: int) -> bool:
    return state(pid) in ("", "Z")


def wait_for_signals(pid: int) -> None:
    """Wait until it has taken what it was sent."""
    wait_until(lambda: not int(status_field(pid, "ShdPnd"), 16) and state(pid) == "S", "tinyinit to sleep")


# ---- -p -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [["-p", "USR1"], ["--parent-death-signal=SIGUSR1"], ["-p", "USR1", "--timeout", "60"]], ids=" ".join
)
def test_the_death_of_the_parent_is_a_signal(start_subreaper: StartTinyinit, options: list[str]) -> None:
    running = start_subreaper(*options, "--", *program("log_signals", "got", 10), command=[*MIDDLE, TINYINIT])
    running.wait_ready()
    os.kill(running.pid, signal.SIGKILL)
    running.read_until("got 10\n")


@pytest.mark.parametrize("options", [["-p", "USR1"], ["--die-with-parent"]], ids=" ".join)
def test_a_parent_that_died_before_the_option_took_effect(start_subreaper: StartTinyinit, options: list[str]) -> None:
    """tinyinit is held at its first look at its parent, which is killed before prctl(2)."""
    if not Path("/usr/bin/strace").exists():
        assert not os.environ.get("CI"), "strace is missing"
        pytest.skip("needs strace")
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=getppid:delay_exit=1000000:when=1"]
    middle = ["sh", "-c", '"$@"; exit $?', "sh"]
    running = start_subreaper(*options, "--", "sleep", "60", command=[*strace, *middle, TINYINIT])
    # strace has a child for a moment to try ptrace(2) with
    shell, tinyinit = wait_until(
        lambda: [(parent, pid) for parent in children(running.pid) for pid in children(parent)], "tinyinit"
    )[0]
    wait_until(lambda: Path(f"/proc/{tinyinit}/syscall").read_text().split()[0] in GETPPID, "getppid(2)")
    os.kill(shell, signal.SIGKILL)
    wait_until(lambda: is_gone(tinyinit), "the signal to end COMMAND, and tinyinit with it")


@pytest.mark.parametrize("options", [["-p", "KILL"], ["--die-with-parent"]], ids=" ".join)
def test_the_parent_lives_and_nothing_happens(start: StartTinyinit, options: list[str]) -> None:
    assert start(*options, "--", "sh", "-c", "sleep 0.1; exit 3").end() == (3, "", "")
    assert subprocess.run([TINYINIT, *options, "true"], check=False).returncode == 0


# ---- --die-with-parent ----------------------------------------------------------------------------------------


def test_all_is_ended_with_the_parent(start_subreaper: StartTinyinit) -> None:
    kinds = ["group", "setsid", "double_fork", "nohup", "deaf"]
    running = start_subreaper(
        *("--die-with-parent", "--grace", "300ms", "--", *program("behind", "wait", *kinds)),
        command=[*MIDDLE, TINYINIT],
        stdin=subprocess.PIPE,
    )
    running.wait_ready()
    tree = descendants(running.pid)
    assert len(tree) == 2 + len(kinds)
    os.kill(running.pid, signal.SIGKILL)
    assert running.read_rest(5)
    assert sorted(running.output.decode().split(")\n", 1)[1].split()) == sorted(set(kinds) - {"deaf"})
    wait_until(lambda: all(map(is_gone, tree)), "all to end")


@pytest.mark.parametrize("options", [["--leftovers", "wait"], ["--kill-after", "100ms"]], ids=" ".join)
def test_a_command_that_ignores_term_is_killed(start_subreaper: StartTinyinit, options: list[str]) -> None:
    words = ["--die-with-parent", "--grace", "200ms", *options, "--", *program("log_signals", "tree")]
    running = start_subreaper(*words, command=[*MIDDLE, TINYINIT])
    running.read_until("child is ready\n")
    running.wait_ready()
    os.kill(running.pid, signal.SIGKILL)
    assert running.read_rest(5)
    assert running.output.decode().count(" 15\n") >= 2


def test_it_ends_what_is_waited_for_too(start_subreaper: StartTinyinit) -> None:
    """COMMAND has ended before."""
    options = ("--die-with-parent", "--grace", "200ms", "--leftovers", "wait")
    words = ["sh", "-c", 'setsid "$@" & exit 3', "sh", *program("log_signals", "got")]
    running = start_subreaper(*options, "--", *words, command=[*MIDDLE, TINYINIT])
    running.wait_ready()
    tinyinit = children(running.pid)[0]
    wait_until(lambda: len(children(tinyinit)) == 1, "COMMAND to be reaped")
    os.kill(running.pid, signal.SIGKILL)
    assert running.read_rest(5)
    assert running.output.decode().splitlines()[1:] == ["got 15", "got 18"]


@pytest.mark.parametrize("options", [["--die-with-parent"], ["-p", "TERM"]], ids=" ".join)
def test_a_parent_that_died_before_tinyinit_was_executed(start_subreaper: StartTinyinit, options: list[str]) -> None:
    """Its session gives it away: it is neither its own nor that of who has adopted it."""
    running = start_subreaper(*options, "--", "sleep", "60", command=[*DIES_FIRST, TINYINIT])
    assert running.read_rest(5)


@pytest.mark.parametrize("prefix", [[], ["setsid", "--wait"]], ids=["in its session", "in a session of its own"])
def test_pid_1_may_be_the_parent(start_subreaper: StartTinyinit, namespaces: None, prefix: list[str]) -> None:
    """PID 1 is not only who adopts, and nothing happens while it lives."""
    script = f'"$@" {TINYINIT} --die-with-parent -- sh -c "sleep 0.2; exit 3"; echo "status $?"'
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--", "sh", "-c", script, "sh"]
    assert start_subreaper(command=[*namespace, *prefix]).end() == (0, "status 3\n", "")


def test_a_parent_outside_of_the_namespace(start_subreaper: StartTinyinit, namespaces: None) -> None:
    """getppid(2) says 0 before and after its death; as with docker exec."""
    namespace = ["unshare", "--pid", "--fork", "--mount-proc", "--"]
    words = ["--die-with-parent", "--grace", "200ms", "--", *program("log_signals", "got")]
    running = start_subreaper(*words, command=[*namespace, TINYINIT])
    running.wait_ready()
    os.kill(running.pid, signal.SIGKILL)
    assert running.read_rest(5)
    assert running.output.decode().splitlines()[1:2] == ["got 15"]


def start_in_a_thread(start_subreaper: StartTinyinit) -> tuple[Running, int]:
    """A tinyinit whose parent lives, but for the thread that has started it; its PID."""
    words = ["--die-with-parent", "--grace", "200ms", "--", *program("log_signals", "got", signal.SIGUSR1)]
    running = start_subreaper(*words, command=[*THREAD, TINYINIT], stdin=subprocess.PIPE)
    running.wait_ready()
    running.go_on()
    wait_until(lambda: status_field(running.pid, "Threads") == "1", "the thread to end")
    return running, children(running.pid)[0]


def test_a_thread_of_the_parent_that_ends_is_not_its_death(start_subreaper: StartTinyinit) -> None:
    """The kernel sends the signal for that too, and it must not reach COMMAND, which it would kill."""
    running, tinyinit = start_in_a_thread(start_subreaper)
    wait_for_signals(tinyinit)
    os.kill(tinyinit, signal.SIGUSR1)
    running.read_until("got 10\n")
    assert running.output.decode().splitlines()[1:] == ["got 10"]


def test_the_death_of_a_parent_that_has_lost_a_thread_counts(start_subreaper: StartTinyinit) -> None:
    running, _ = start_in_a_thread(start_subreaper)
    os.kill(running.pid, signal.SIGKILL)
    assert running.read_rest(5)
    assert running.output.decode().splitlines()[1:2] == ["got 15"]


def test_the_signal_is_forwarded_as_always_where_another_sends_it(start_subreaper: StartTinyinit) -> None:
    words = ["--die-with-parent", "--", *program("log_signals", "got", RTMAX)]
    running = start_subreaper(*words, command=[*MIDDLE, TINYINIT])
    running.wait_ready()
    os.kill(children(running.pid)[0], RTMAX)
    running.read_until(f"got {RTMAX}\n")


def test_a_signal_from_within_says_nothing_of_a_parent_outside(start_pid_1: StartTinyinit) -> None:
    script = f"trap 'exit 3' {RTMAX}; kill -{RTMAX} 1; while :; do sleep 0.01; done"
    assert start_pid_1("--die-with-parent", "--", "sh", "-c", script).end()[0] == 3


def test_together_with_a_signal_the_command_gets_that_first(start_subreaper: StartTinyinit) -> None:
    words = ["--die-with-parent", "-p", "USR1", "--", *program("log_signals", "got", signal.SIGTERM)]
    running = start_subreaper(*words, command=[*MIDDLE, TINYINIT])
    running.wait_ready()
    os.kill(running.pid, signal.SIGKILL)
    assert running.read_rest(5)
    assert running.output.decode().splitlines()[1:] == ["got 10", "got 15"]
