"""Contract, section 3: which signals go to whom."""

from __future__ import annotations

import _signal
import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from conftest import StartTinyinit
from helpers.running import (
    TINYINIT,
    UNPRIVILEGED,
    Running,
    children,
    program,
    split_line,
    state,
    status_field,
    wait_until,
)
from tinyinit.init import Init, Options, Start

FORWARDED = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD})


def log_of(running: Running, name: str, number: int) -> str:
    return running.read_until(f"{name} {number}\n")


def test_every_signal_reaches_the_whole_main_group(start: StartTinyinit) -> None:
    running = start("--", *program("log_signals", "tree"))
    running.read_until("child is ready\n")
    running.wait_ready()
    for number in FORWARDED:
        running.send(number)
        for name in ("parent", "child"):
            log_of(running, name, number)
    assert len(FORWARDED) == 64 - len(("KILL", "STOP", "CHLD")) - len(("32", "33"))  # nptl(7) keeps the last two
    lines = running.output.decode().split("\n")
    for number in FORWARDED:
        for name in ("parent", "child"):
            assert lines.count(f"{name} {number}") == 1


@pytest.mark.parametrize("option", ["-c", "--single-child"])
def test_single_child_spares_the_rest_of_the_group(start: StartTinyinit, option: str) -> None:
    running = start(option, "--", *program("log_signals", "tree"))
    running.read_until("child is ready\n")
    running.wait_ready()
    for number in FORWARDED:
        running.send(number)
        log_of(running, "parent", number)
    os.kill(children(running.main)[0], signal.SIGUSR2)  # a mark: what tinyinit had sent would stand before it
    assert [line for line in log_of(running, "child", signal.SIGUSR2).splitlines() if "child" in line] == [
        "child is ready",
        f"child {signal.SIGUSR2:d}",
    ]


def test_rewrite_sends_another_signal_and_zero_drops_it(start: StartTinyinit) -> None:
    running = start(
        "-r", "TERM:QUIT", "--rewrite", "10:0,SIGHUP:rtmin+2", *program("log_signals", "got", signal.SIGQUIT)
    )
    running.wait_ready()
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM):
        running.send(number)
        if number != signal.SIGUSR1:
            expected = {signal.SIGHUP: signal.SIGRTMIN + 2, signal.SIGTERM: signal.SIGQUIT}.get(number, number)
            log_of(running, "got", expected)
    status, out, _ = running.end()
    assert (status, f"got {signal.SIGUSR1:d}\n" in out) == (0, False)


def blocks_signals(pid: int) -> bool:
    """Whether tinyinit's mask is set; TERM's own bit is no sign, since unshare blocks it around its fork.

    While it sleeps in sigwaitinfo(2) the kernel shows what it waits for as not blocked; but then it has a child.
    """
    return bool(int(status_field(pid, "SigBlk") or "0", 16) & 1 << (signal.SIGUSR2 - 1) or children(pid))


def test_a_signal_sent_before_the_command_runs_is_delivered(start: StartTinyinit) -> None:
    """TERM at every moment of the first 50 ms, from the moment the mask is set."""
    for step in range(0, 100):
        running = start("--", "sleep", "30")
        pid = running.pid
        wait_until(partial(blocks_signals, pid), "the mask")
        time.sleep(step / 2000)
        os.kill(pid, signal.SIGTERM)
        assert running.end()[0] == 128 + signal.SIGTERM, f"TERM was lost {step / 2} ms after the mask was set"


def test_a_termination_signal_reaches_a_stopped_child(start: StartTinyinit) -> None:
    running = start("--", *program("log_signals", "got", signal.SIGTERM))
    running.wait_ready()
    os.kill(running.main, signal.SIGSTOP)
    main = running.main
    wait_until(lambda: state(main) == "T", "the child to stop")
    running.send(signal.SIGUSR1)
    wait_until(lambda: not int(status_field(running.pid, "ShdPnd"), 16), "tinyinit to take the signal")
    assert state(main) == "T"
    running.send(signal.SIGTERM)
    status, out, _ = running.end()
    assert (status, out.splitlines()[1:]) == (0, ["got 10", "got 15"])


@pytest.mark.parametrize(
    "options", [[], ["--orphans", "warn"], ["--kill-after", "1"]], ids=lambda words: " ".join(words)
)
def test_where_no_shell_could_continue_it_it_goes_on(start: StartTinyinit, options: list[str]) -> None:
    """Stopped as by Ctrl-Z, but without a terminal; be it in its first moment, when tinyinit has other things to do."""
    for before in ("", "sleep 0.1; "):
        assert start(*options, "--", "sh", "-c", f"{before}kill -TSTP $$; exit 3").end()[0] == 3


def test_a_child_that_is_not_stopped_gets_no_continue(start: StartTinyinit) -> None:
    running = start("--", *program("log_signals", "got", signal.SIGTERM))
    running.wait_ready()
    running.send(signal.SIGTERM)
    assert running.end()[1].splitlines()[1:] == ["got 15"]


def test_a_child_that_left_its_group_still_gets_signals(start: StartTinyinit) -> None:
    running = start("--", *program("leave_group"))
    running.wait_ready()
    running.send(signal.SIGUSR1)
    running.send(signal.SIGTERM)
    status, out, _ = running.end()
    assert status == 0
    assert out.splitlines()[1:] == ["got 10", "got 15"]


def test_signals_reach_a_child_that_called_setsid_in_a_fork(start: StartTinyinit) -> None:
    """`setsid COMMAND` forks when it leads a group; with --wait its parent stays and dies of the signal."""
    running = start("--", "setsid", "--wait", "sleep", "60", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: children(running.main), "setsid to fork")
    running.send(signal.SIGTERM)
    assert running.end()[0] == 128 + signal.SIGTERM


def test_a_child_of_another_user_costs_one_warning(start: StartTinyinit, become_root: Path) -> None:
    """What an unprivileged tinyinit may not signal it still waits for."""
    running = start("--", become_root, "--reuid=0", "sleep", "60", command=[*UNPRIVILEGED, TINYINIT])
    main = running.main
    wait_until(lambda: status_field(main, "Uid").split() == ["0"] * 4, "the child to become root")
    for _ in range(3):
        running.send(signal.SIGTERM)
    wait_until(lambda: not int(status_field(running.pid, "ShdPnd"), 16), "tinyinit to take the signals")
    wait_until(lambda: state(running.pid) == "S", "tinyinit to sleep")
    os.kill(main, signal.SIGINT)
    status, _, err = running.end()
    assert status == 128 + signal.SIGINT
    assert split_line(err)[
        0
    ] == "tinyinit: warning: may not send signal 15 to COMMAND (pid %s), which runs as another user\n" % (
        "2" if running.as_pid_1 else main
    )


def test_a_broken_standard_error_does_not_signal_the_child(start: StartTinyinit) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    running = start("-v", "--", *program("log_signals", "got", signal.SIGTERM), stderr=writer)
    os.close(writer)
    running.wait_ready()
    running.send(signal.SIGUSR1)
    log_of(running, "got", signal.SIGUSR1)
    running.send(signal.SIGTERM)
    assert running.end()[1].splitlines()[1:] == ["got 10", "got 15"]


def test_signals_go_on_while_the_standard_error_is_full(start: StartTinyinit) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    running = start("-v", "--", *program("log_signals", "got", signal.SIGTERM), stderr=writer)
    os.close(writer)
    running.wait_ready()
    running.send(signal.SIGTERM)
    assert running.end()[0] == 0
    os.close(reader)


@pytest.mark.parametrize(
    ("options", "thousands"),
    [([], 1), pytest.param(["--orphans", "warn", "--orphan-ttl", "20ms"], 20, marks=pytest.mark.heavy)],
)
def test_thousands_of_queued_signals_all_arrive(start: StartTinyinit, options: list[str], thousands: int) -> None:
    """Real-time signals queue: each one that was sent arrives, though they are all alike, and deadlines pass."""
    running = start(*options, "--", *program("log_signals", "got", signal.SIGTERM))
    running.wait_ready()
    number = signal.SIGRTMIN + 3
    for thousand in range(1, thousands + 1):
        for _ in range(1000):
            running.send(number)
        wait_until(lambda: count(running, f"got {number:d}\n") == 1000 * thousand, f"{thousand}000 signals")  # noqa: B023
    running.send(signal.SIGTERM)
    assert running.end()[0] == 0


def count(running: Running, line: str) -> int:
    running.read_until(line)
    assert running.process.stdout is not None
    os.set_blocking(running.process.stdout.fileno(), False)
    try:
        running.output += os.read(running.process.stdout.fileno(), 1 << 20)
    except BlockingIOError:
        pass
    finally:
        os.set_blocking(running.process.stdout.fileno(), True)
    return running.output.decode().count(line)


def test_a_tinyinit_that_was_stopped_past_a_deadline_sends_what_came_and_nothing_else(start: StartTinyinit) -> None:
    """CPython's sigtimedwait returns what lay on its stack then: it is not to be what came last."""
    running = start(
        "--timeout", "60", "--watchdog", "20s", "--kill-after", "300ms", "--", *program("log_signals", "got")
    )
    running.wait_ready()
    wait_until(lambda: state(running.pid) == "S", "tinyinit to sleep")
    running.send(signal.SIGUSR1)
    running.read_until("got 10\n")
    running.send(signal.SIGTERM)
    running.read_until("got 15\n")
    os.kill(running.pid, signal.SIGSTOP)
    wait_until(lambda: state(running.pid) == "T", "tinyinit to stop")
    time.sleep(0.5)
    os.kill(running.pid, signal.SIGCONT)
    status, out, err = running.end()
    got = [line for line in out.splitlines() if line.startswith("got ")]
    assert (status, got[:2], set(got[2:]) <= {"got 18"}) == (137, ["got 10", "got 15"], True)
    assert "unexpected" not in err


def test_a_child_that_stops_itself_again_and_again_is_continued_at_once_each_time(start: StartTinyinit) -> None:
    script = "for i in $(seq 40); do kill -TSTP $$; done; exit 3"
    assert start("--", "sh", "-c", script).end() == (3, "", "")


def test_a_cont_that_comes_with_the_news_that_the_command_was_stopped_is_sent(start: StartTinyinit) -> None:
    """SIGTSTP, by which tinyinit stops as well, takes a SIGCONT that has yet to be handled from the queue: signal(7)."""
    running = start("--", *program("log_signals", "got", signal.SIGCONT))
    main = running.main
    running.wait_ready()
    for pid in (running.pid, main):
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: state(pid) == "T", "both to stop")  # noqa: B023
    running.send(signal.SIGCONT)
    assert running.end()[0] == 0


@pytest.mark.parametrize(
    ("event", "is_heard"),
    [
        pytest.param((15, 0, 0, 77), True, id="from a process"),
        pytest.param((15, 128, 0, 0), True, id="from the kernel"),
        pytest.param((0, 0, 0, 77), False, id="none"),
        pytest.param((1685671712, 0, 0, 77), False, id="anything"),
        pytest.param((1, -839028440, 0, 77), False, id="a code that there is not"),
        pytest.param((1, 0, 32706, 77), False, id="an errno"),
        pytest.param((1, 0, 0, os.getpid()), False, id="what is left of our own"),
    ],
)
def test_what_sigtimedwait_returns_after_an_interruption_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, event: tuple[int, ...], is_heard: bool
) -> None:
    init = Init(Options({}), Start(["true"], ()), 0)
    init.set_deadline("test", 0.0, lambda: None)
    monkeypatch.setattr(_signal, "raise_signal", lambda _: None)
    found = [None, None, signal.struct_siginfo((*event, 0, 0, 0))]  # nothing has come, our own, and then that
    monkeypatch.setattr(_signal, "sigtimedwait", lambda *_: found.pop(0))
    assert (init.sleep() is not None) == is_heard
