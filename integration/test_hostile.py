"""Contract, section 9, under what real engines forbid: system calls by seccomp profiles, and memory that is used up."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine import AT_ONCE

from conftest import StartContainer
from helpers.running import split_line

NEW = ["pidfd_open", "pidfd_send_signal", "waitid", "close_range", "pwritev2", "clone3", "statx", "openat2"]
EPERM, EACCES, ENOSYS = 1, 13, 38
PR_SET_CHILD_SUBREAPER = 36
NO_SUBREAPER: dict[str, Any] = {"args": [{"index": 0, "value": PR_SET_CHILD_SUBREAPER, "op": "SCMP_CMP_EQ"}]}
APP = """
trap 'echo got USR1' USR1; trap 'exit 7' TERM
sleep 60 & setsid sh -c 'sleep 60 & setsid sleep 60 & wait' &
(sleep 0.01 &)
echo "ready (pid: $$)"
while :; do wait; done
"""
# tinyinit below a shell that is PID 1, and says who is left when it has ended
AS_SUBREAPER = """\
tinyinit "$@"; status=$?
! ps -e -o stat=,comm= | grep sleep
exit $status"""


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., list[str]]:
    """The options for a container in which some system calls fail with an errno."""

    def write(names: list[str], errno: int, **rule: Any) -> list[str]:
        path = tmp_path / "seccomp.json"
        forbidden = {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno, **rule}
        path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [forbidden]}))
        return [f"--security-opt=seccomp={path}"]

    return write


@pytest.mark.parametrize("errno", [ENOSYS, EPERM, EACCES], ids=["ENOSYS", "EPERM", "EACCES"])
def test_without_the_newer_calls_all_is_as_with_them(
    start: StartContainer, profile: Callable[..., list[str]], errno: int
) -> None:
    running = start("sh", "-c", APP, options=profile(NEW, errno))
    running.wait_ready()
    running.kill("USR1")
    running.read_until("got USR1\n")
    assert all(each.state != "Z" for each in running.processes().values())
    assert running.stop() < AT_ONCE
    assert running.end()[::2] == (7, "")


def test_without_them_a_subreaper_finds_all_that_is_left(
    start: StartContainer, profile: Callable[..., list[str]]
) -> None:
    words = ["-c", AS_SUBREAPER, "sh", "--", "sh", "-c", "sleep 60 & setsid sh -c 'sleep 60 & wait' & exit 4"]
    assert start(*words, options=[*profile(NEW, ENOSYS), "--entrypoint=sh"]).end() == (4, "", "")


def test_without_the_right_to_be_a_subreaper(start: StartContainer, profile: Callable[..., list[str]]) -> None:
    """PID 1 gets the orphans anyway, and says nothing."""
    options = profile(["prctl"], EPERM, **NO_SUBREAPER)
    assert start("sh", "-c", "(sleep 60 &); exit 4", options=options).end() == (4, "", "")
    status, _, err = start("-c", "tinyinit sh -c 'exit 4'; exit $?", options=[*options, "--entrypoint=sh"]).end()
    assert (status, err.count("\n")) == (4, 1)
    assert err.startswith("tinyinit: warning: cannot become a child subreaper (")


def test_without_kill_the_status_is_returned_and_why_nobody_is_ended_is_said(
    start: StartContainer, profile: Callable[..., list[str]]
) -> None:
    options = [*profile(["kill", "pidfd_send_signal"], EPERM), "--env=TINYINIT_GRACE=0.1"]
    status, _, err = start("sh", "-c", "sleep 60 & exit 4", options=options).end()
    assert status == 4
    assert err.startswith("tinyinit: warning: may not signal what COMMAND left behind")


HOGS = """
for number in 1 2 3 4 5 6; do
    python3 -c 'import time; taken = bytearray(24 << 20); time.sleep(60)' &
done
wait -n
kill $(jobs -p) 2> /dev/null
wait
exit 4
"""


@pytest.mark.parametrize("adjustment", ["0", "500"])
def test_many_that_use_up_the_memory_do_not_end_it(start: StartContainer, adjustment: str) -> None:
    """The kernel kills who has most, and tinyinit has least, whatever oom_score_adj they share (proc(5))."""
    options = ["--memory=64m", "--memory-swap=64m", f"--oom-score-adj={adjustment}"]
    running = start("bash", "-c", HOGS, options=options)
    status, _, err = running.end(60)
    assert status == 4
    assert "killed for want of memory while COMMAND went on" in split_line(err)[1]


def test_if_it_is_killed_itself_the_engine_knows_why(start: StartContainer) -> None:
    """Where somebody has made it the one to be killed first (oom_score_adj 1000), it ends by KILL, and all with it."""
    script = "echo 1000 > /proc/1/oom_score_adj; exec python3 -c 'taken = bytearray(200 << 20)'"
    running = start("sh", "-c", script, options=["--memory=64m", "--memory-swap=64m"])
    assert running.end(60)[0] == 128 + signal.SIGKILL
    assert running.inspect(".State.OOMKilled") == "true"
