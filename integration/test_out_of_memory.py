"""Issue: it says why it ended. Out of memory in a real container with a limit, proven by the kernel's own counters."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine import Attached

from conftest import StartContainer

TAKE = 'python3 -c "x = bytearray(200 << 20)"'  # MiB
LIMIT = ("--memory=64m", "--memory-swap=64m")
OUTPUT = ("--report", "/out/report.json", "--termination-log=/out/log")
Outcome = tuple[int, str, "dict[str, Any]", str]  # status, standard error, report, termination log


@pytest.fixture
def run(start: StartContainer, tmp_path: Path) -> Callable[..., Outcome]:
    """Runs a script in a container; its end, its report and its termination log."""

    def run_script(script: str, *options: str, limit: tuple[str, ...] = LIMIT) -> Outcome:
        log = tmp_path / "log"
        log.touch()
        container = start(
            *OUTPUT,
            *options,
            "--",
            "sh",
            "-c",
            script,
            options=[*limit, "--entrypoint=tinyinit", f"--volume={tmp_path}:/out"],
        )
        status, _, err = container.end(60)
        return status, err, json.loads((tmp_path / "report.json").read_text()), log.read_text()

    return run_script


def test_an_app_that_takes_too_much_is_told_of_everywhere(run: Callable[..., Outcome]) -> None:
    status, err, report, log = run(f"exec {TAKE}")
    assert status == report["status"] == 137
    pattern = r"main child 'sh' \(pid \d+\) was killed by SIGKILL after \d+\.\d s: out of memory, the cgroup's limit is 64 MiB "
    assert re.search(
        "^tinyinit: " + pattern + r"and its peak was (6[34]|6[34]\.\d) MiB; raise the limit or use less$", err, re.M
    )
    assert report["reason"]["kind"] == "out of memory"
    assert report["memory"]["limit_bytes"] == 64 << 20
    assert report["memory"]["oom_kills"] >= 1
    assert re.match(pattern, log)
    assert json.loads(log.splitlines()[1])["reason"]["kind"] == "out of memory"


def test_a_child_that_takes_too_much_is_counted_though_the_app_ends_well(run: Callable[..., Outcome]) -> None:
    status, err, report, log = run(f"{TAKE}; exit 0")
    assert (status, log) == (0, ""), "a success"
    what = "tinyinit: 1 process of the cgroup was killed for want of memory while COMMAND went on: out of memory, "
    assert what in err
    assert "or have it fail by --oom-is-failure" in err
    assert (report["reason"]["kind"], report["memory"]["oom_kills"]) == ("exited", 1)


def test_oom_is_failure_makes_that_137(run: Callable[..., Outcome]) -> None:
    status, err, report, log = run(f"{TAKE}; exit 0", "--oom-is-failure")
    assert status == report["status"] == 137
    assert "1 process of the cgroup was killed for want of memory" in log
    assert "--oom-is-failure" not in err


def test_oom_is_failure_is_nothing_where_there_is_no_kill(run: Callable[..., Outcome]) -> None:
    assert run("exit 0", "--oom-is-failure")[0] == 0
    assert run("exit 3", "--oom-is-failure")[0] == 3


@pytest.fixture
def sleeping(start: StartContainer, tmp_path: Path) -> tuple[Attached, int]:
    """A container with a limit, in which COMMAND sleeps, and COMMAND's PID."""
    script = 'echo "ready (pid: $$)"; exec sleep 60'
    container = start(
        *OUTPUT, "--", "sh", "-c", script, options=[*LIMIT, "--entrypoint=tinyinit", f"--volume={tmp_path}:/out"]
    )
    return container, container.wait_ready()


def test_docker_kill_is_told_as_that(sleeping: tuple[Attached, int], tmp_path: Path) -> None:
    container, _ = sleeping
    container.kill("TERM")
    status, _, err = container.end()
    assert (status, err) == (128 + signal.SIGTERM, "")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["reason"]["kind"] == "signal forwarded"
    assert report["reason"]["signal"]["name"] == "SIGTERM"
    assert report["reason"]["sender"] == {"pid": 0, "uid": 0}
    assert report["memory"]["oom_kills"] == 0
    assert "memory" not in (tmp_path / "log").read_text().splitlines()[0]


def test_a_kill_within_the_container_is_not_out_of_memory(sleeping: tuple[Attached, int], tmp_path: Path) -> None:
    container, main = sleeping
    container.execute("sh", "-c", f"kill -KILL {main}")
    status, _, err = container.end()
    assert status == 137
    assert "which tinyinit has not sent: the kernel has counted no kill for want of memory" in err
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["reason"]["kind"], report["memory"]["oom_kills"]) == ("signal from elsewhere", 0)


def test_docker_kill_without_a_signal_ends_the_init_itself_which_says_nothing(
    sleeping: tuple[Attached, int], tmp_path: Path
) -> None:
    container, _ = sleeping
    container.kill("KILL")
    assert container.end()[::2] == (137, "")
    assert not (tmp_path / "report.json").exists()
    assert not (tmp_path / "log").exists()
    assert container.inspect(".State.OOMKilled") == "false"


def test_limits_of_processes_and_of_cpu_time_are_counted(run: Callable[..., Outcome]) -> None:
    spin = 'python3 -c "import time; end = time.time() + 1\nwhile time.time() < end: pass"'
    forks = "for i in $(seq 20); do sleep 0.1 & done; wait"
    limits = (*LIMIT, "--pids-limit=8", "--cpus=0.2")
    report = run(f"sh -c '{forks}' 2> /dev/null; {spin}; exit 0", limit=limits)[2]
    assert report["pids"]["limit"] == 8
    assert report["pids"]["hits"] >= 1
    assert report["cpu"]["throttled_periods"] >= 1
    assert report["cpu"]["throttled_seconds"] > 0
