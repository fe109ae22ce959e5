"""Contract, section 3: -p, the parent-death signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import StartTinyinit
from helpers.running import TINYINIT, children, program, state, wait_until

GETPPID = ("110", "173")  # the call's number on x86_64 and on AArch64


@pytest.mark.parametrize("option", [["-p", "USR1"], ["--parent-death-signal=SIGUSR1"]], ids=["short", "long"])
def test_the_death_of_the_parent_is_a_signal(start_subreaper: StartTinyinit, option: list[str]) -> None:
    middle = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]
    running = start_subreaper(*option, "--", *program("log_signals", "got", 10), command=[*middle, TINYINIT])
    running.wait_ready()
    os.kill(running.pid, signal.SIGKILL)
    running.read_until("got 10\n")


def test_a_parent_that_died_before_the_option_took_effect(start_subreaper: StartTinyinit) -> None:
    """tinyinit is held at its first look at its parent, which is killed before prctl(2)."""
    if not Path("/usr/bin/strace").exists():
        assert not os.environ.get("CI"), "strace is missing"
        pytest.skip("needs strace")
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=getppid:delay_exit=1000000:when=1"]
    middle = ["sh", "-c", '"$@"; exit $?', "sh"]
    running = start_subreaper("-p", "USR1", "--", "sleep", "60", command=[*strace, *middle, TINYINIT])
    # strace has a child for a moment to try ptrace(2) with
    shell, tinyinit = wait_until(
        lambda: [(parent, pid) for parent in children(running.pid) for pid in children(parent)], "tinyinit"
    )[0]
    wait_until(lambda: Path(f"/proc/{tinyinit}/syscall").read_text().split()[0] in GETPPID, "getppid(2)")
    os.kill(shell, signal.SIGKILL)
    wait_until(lambda: state(tinyinit) in ("", "Z"), "the signal to end COMMAND, and tinyinit with it")


def test_the_parent_lives_and_nothing_happens(start: StartTinyinit) -> None:
    assert start("-p", "KILL", "--", "sh", "-c", "exit 3").end() == (3, "", "")
    assert subprocess.run([TINYINIT, "-pTERM", "true"], check=False).returncode == 0
