"""What tinyinit says of cgroup v2's limits: in a machine with a kernel of its own, one boot for all cases."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from qemu import CGROUPS, Case, Result, boot

MIB = 1 << 20
TOO_MUCH = ("python3", "-c", "x = bytearray(200 << 20)")
CHILD_TOO_MUCH = ("sh", "-c", "python3 -c 'x = bytearray(200 << 20)'; exit 0")
KILLED_AT_LIMIT = re.compile(
    r"^tinyinit: main child 'python3' \(pid \d+\) was killed by SIGKILL after [\d.]+ s: out of memory, .*\b64 MiB",
    re.MULTILINE,
)
FORKS_UNTIL_IT_CANNOT = """\
import os, signal
children = []
try:
    while True:
        child = os.fork()
        if not child:
            signal.pause()
        children.append(child)
except BlockingIOError:
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
"""
SPINS = "import time; end = time.monotonic() + 0.5\nwhile time.monotonic() < end: pass"
MEMORY_LIMIT = {"memory.max": "64M", "memory.swap.max": "0"}

# what starts tinyinit
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
MODES: Mapping[str, Sequence[str]] = {"subreaper": (), "pid1": (*NAMESPACE, "--")}
CGROUP_NAMESPACES: Mapping[str, Sequence[str]] = {
    "fresh-mount": (
        *(*NAMESPACE, "--cgroup", "--"),
        *("sh", "-c", f'/mount :{CGROUPS} cgroup2:{CGROUPS} && exec "$@"', "sh"),
    ),
    "outer-mount": (*NAMESPACE, "--cgroup", "--"),  # in mountinfo its root is /..
}
REPORT = "report.json"


def case(
    name: str, command: Sequence[str], *, before: Sequence[str] = (), options: Sequence[str] = (), **more: str
) -> Case:
    """COMMAND under tinyinit with 64 MiB, and more limits, in whose names `_` stands for a full stop."""
    limits = {**MEMORY_LIMIT, **{file.replace("_", "."): value for file, value in more.items()}}
    found = Case(name, (), limits)
    return found._replace(words=[*before, "tinyinit", "--report", found.path(REPORT), *options, "--", *command])


def cases_of(mode: str) -> list[Case]:
    """The cases that are run in every mode."""
    start = MODES[mode]
    unkillable, killable = ("choom", "--adjust=-1000", "--"), ("choom", "--adjust=0", "--")
    group_start = (*unkillable, *start)
    return [
        case(f"main-{mode}", TOO_MUCH, before=start),
        case(f"child-{mode}", CHILD_TOO_MUCH, before=start),
        case(f"failure-{mode}", CHILD_TOO_MUCH, before=start, options=["--oom-is-failure"]),
        case(f"elsewhere-{mode}", ("sh", "-c", "kill -9 $$"), before=start),
        case(f"group-{mode}", (*killable, *TOO_MUCH), before=group_start, memory_oom_group="1"),
        case(f"processes-{mode}", ("python3", "-c", FORKS_UNTIL_IT_CANNOT), before=start, pids_max="12"),
        case(f"cpu-{mode}", ("python3", "-c", SPINS), before=start, cpu_max="50000 100000"),
    ]


CASES = [each for mode in MODES for each in cases_of(mode)]
CASES += [case(name, TOO_MUCH, before=start) for name, start in CGROUP_NAMESPACES.items()]
LAST = Case("machine", ["tinyinit", "--", *TOO_MUCH], MEMORY_LIMIT)
in_every_mode = pytest.mark.parametrize("mode", list(MODES))


@pytest.fixture(scope="module")
def results(initramfs: Path) -> Mapping[str, Result]:
    """What has come of every case."""
    return boot(initramfs, CASES, LAST)


def assert_main_child_ran_out_of_memory(result: Result) -> None:
    """The account that is to be given of that, on standard error and in the report."""
    assert result.status == 137, result.err
    assert KILLED_AT_LIMIT.search(result.err), result.err
    report = result.json(REPORT)
    memory: dict[str, Any] = report["memory"]
    assert (report["status"], report["end"]["how"], report["reason"]["kind"]) == (137, "killed", "out of memory")
    assert (memory["cgroup_version"], memory["limit_bytes"]) == (2, 64 * MIB)
    assert memory["oom_kills"] >= 1
    assert memory["oom_events"] >= 1
    assert memory["peak_bytes"] is None or 60 * MIB <= memory["peak_bytes"] <= 64 * MIB


@pytest.mark.parametrize("name", [*(f"main-{mode}" for mode in MODES), *CGROUP_NAMESPACES])
def test_it_says_that_the_main_child_ran_out_of_memory(results: Mapping[str, Result], name: str) -> None:
    assert_main_child_ran_out_of_memory(results[name])


def test_it_says_so_as_pid_1_of_the_machine(results: Mapping[str, Result]) -> None:
    assert KILLED_AT_LIMIT.search(results["machine"].err), results["machine"].err
    assert results["machine"].status == 137


@in_every_mode
def test_it_says_that_a_process_below_the_command_ran_out_of_memory(results: Mapping[str, Result], mode: str) -> None:
    result = results[f"child-{mode}"]
    assert result.status == 0, result.err
    lines = [line for line in result.err.splitlines() if line.startswith("tinyinit: ")]
    assert len(lines) == 1, result.err
    assert "out of memory" in lines[0]
    assert re.search(r"\b1 process\b", lines[0]), lines
    report = result.json(REPORT)
    assert (report["status"], report["reason"]["kind"], report["memory"]["oom_kills"]) == (0, "exited", 1)


@in_every_mode
def test_that_is_a_failure_where_it_is_asked_to_be(results: Mapping[str, Result], mode: str) -> None:
    result = results[f"failure-{mode}"]
    assert result.status == 137, result.err
    assert "out of memory" in result.err
    report = result.json(REPORT)
    assert (report["status"], report["end"]["code"], report["memory"]["oom_kills"]) == (137, 0, 1)


@in_every_mode
def test_it_does_not_say_so_of_a_kill_that_came_from_elsewhere(results: Mapping[str, Result], mode: str) -> None:
    result = results[f"elsewhere-{mode}"]
    assert result.status == 137, result.err
    assert re.search(r"^tinyinit: main child 'sh' \(pid \d+\) was killed by SIGKILL ", result.err, re.MULTILINE)
    assert "out of memory, the cgroup" not in result.err
    report = result.json(REPORT)
    assert report["reason"]["kind"] == "signal from elsewhere"
    assert (report["memory"]["oom_kills"], report["memory"]["limit_bytes"]) == (0, 64 * MIB)


@in_every_mode
def test_it_tells_of_a_cgroup_that_was_killed_as_a_whole(results: Mapping[str, Result], mode: str) -> None:
    result = results[f"group-{mode}"]  # all but tinyinit, whose oom_score_adj is -1000
    assert result.status == 137, result.err
    report = result.json(REPORT)
    assert report["reason"]["kind"] == "out of memory"
    assert report["memory"]["oom_group_kills"] == 1


@in_every_mode
def test_it_tells_of_the_limit_of_processes(results: Mapping[str, Result], mode: str) -> None:
    result = results[f"processes-{mode}"]
    assert result.status == 0, result.err
    pids = result.json(REPORT)["pids"]
    assert pids["limit"] == 12
    assert pids["hits"] >= 1


@in_every_mode
def test_it_tells_how_the_cpu_limit_has_held_it_back(results: Mapping[str, Result], mode: str) -> None:
    result = results[f"cpu-{mode}"]
    assert result.status == 0, result.err
    cpu = result.json(REPORT)["cpu"]
    assert cpu["periods"] >= cpu["throttled_periods"] >= 1
    assert cpu["throttled_seconds"] > 0
