"""--zombies: a parent that does not reap is named, sent SIGCHLD, or ended."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import StartTinyinit
from helpers.running import PYTHON, Running, children, is_alive, program, state, status_field, wait_until

TTL = ("--zombie-ttl", "100ms")
LONGER_TTL = ("--zombie-ttl", "500ms")  # where a parent is to have the processor in that time, on a busy machine too
MORE_THAN_TWO_LONGER_TTL = 1.3  # seconds
LONGEST_TTL = ("--zombie-ttl", "2s")  # where it is to have the processor each time of several
MORE_THAN_TWO_TTL = 0.4  # seconds: within it each zombie is seen to, and seen to again
FORGOTTEN = "import subprocess, time; each = subprocess.Popen(['true']); time.sleep(60)"
NODE = "setInterval(() => {}, 1000)"

CULPRITS = {
    "sleep": ["sh", "-c", "sleep 0.1 & exec sleep 60"],  # a shell that execs
    Path(PYTHON[0]).name: [*PYTHON, "-c", FORGOTTEN],
    "node": ["sh", "-c", f"sleep 0.1 & exec node -e {shlex.quote(NODE)}"],  # libuv asks only for what it has started
}


@pytest.fixture
def culprits() -> dict[str, list[str]]:
    """Real programs that do not reap, by their names. Without Node where that is missing; in CI that is a failure."""
    is_there = bool(shutil.which("node"))
    assert is_there or not os.environ.get("CI"), "node is missing"
    return {name: words for name, words in CULPRITS.items() if is_there or name != "node"}


def start_below(
    start: StartTinyinit, *options: str, culprits: Iterable[list[str]], ttl: tuple[str, str] = TTL, **popen: Any
) -> Running:
    """COMMAND is a shell that runs these as its children, and ends with 3 at a line."""
    script = "".join(f"{shlex.join(words)} < /dev/null & " for words in culprits) + "read line; exit 3"
    return start(*options, *ttl, "--", "sh", "-c", script, stdin=subprocess.PIPE, **popen)


def end_command(running: Running) -> tuple[int, str]:
    """Have COMMAND end; tinyinit's status, and what it has said."""
    assert running.process.stdin
    running.process.stdin.write(b"\n")
    running.process.stdin.flush()
    status, _, err = running.end()
    return status, err


def zombies(pid: int) -> list[int]:
    """The zombies among the children of a process."""
    return [child for child in children(pid) if state(child) == "Z"]


def culprits_of(running: Running, count: int) -> list[int]:
    """The PIDs of so many children of COMMAND once each has had zombies: the first may be ended before the last has some."""
    main, found = running.main, set[int]()

    def look() -> bool:
        found.update(pid for pid in children(main) if zombies(pid))
        return len(found) == count

    wait_until(look, "zombies")
    return sorted(found)


def culprit_of(running: Running) -> int:
    """The only one."""
    return culprits_of(running, 1)[0]


def test_warn_names_each_parent_that_does_not_reap(
    start: StartTinyinit, tmp_path: Path, culprits: dict[str, list[str]]
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        running = start_below(start, "--zombies", "warn", culprits=culprits.values(), stderr=file)
    wait_until(lambda: log.read_text().count("\n") == len(culprits), "the warnings")
    assert len(culprits_of(running, len(culprits))) == len(culprits)
    assert end_command(running)[0] == 3
    pattern = r"tinyinit: warning: 1 zombie is not reaped by '(.*)' \(pid \d+\) for 0\.1 s: let it wait .*"
    assert sorted(re.findall(pattern, log.read_text())) == sorted(culprits)


def test_stop_ends_each_after_sigchld_did_not_help(start: StartTinyinit, culprits: dict[str, list[str]]) -> None:
    running = start_below(start, "-v", "--zombies", "stop", culprits=culprits.values())
    pids = culprits_of(running, len(culprits))
    left = [zombie for pid in pids for zombie in zombies(pid)]
    wait_until(lambda: not any(map(state, left)), "all zombies to be reaped")
    assert {state(pid) for pid in pids} <= {"", "Z"}
    status, err = end_command(running)
    assert status == 3
    pattern = r"not reaped by '(\S+)' \(pid (\d+)\) for 0.1 s: it is sent SIGCHLD, and ended if that does not help"
    named = re.findall(pattern, err)
    assert sorted(name for name, _ in named) == sorted(culprits)
    for name, pid in named:
        is_ended = f"SIGCHLD did not help, '{name}' (pid {pid}) is ended, so that its zombies come to tinyinit"
        sent = re.findall(rf"sent (SIG\w+) to pid {pid}\n", err)
        assert list(dict.fromkeys(sent)) == ["SIGCHLD", "SIGTERM", "SIGCONT"]
        assert sent[-2:] == ["SIGTERM", "SIGCONT"]
        assert err.index(f"sent SIGCHLD to pid {pid}") < err.index(is_ended) < err.index(f"sent SIGTERM to pid {pid}")


def test_nudge_helps_one_that_reaps_one_child_for_each_signal(start: StartTinyinit) -> None:
    running = start_below(start, "--zombies", "nudge", culprits=[program("tree", "hasty", 3)])
    pid = culprit_of(running)
    wait_until(lambda: not zombies(pid), "all zombies to be reaped")
    assert is_alive(pid)
    status, err = end_command(running)
    assert status == 3
    assert " not reaped by" in err
    assert "it is sent SIGCHLD; let it wait" in err


def test_stop_lets_one_live_that_sigchld_helps(start_subreaper: StartTinyinit) -> None:
    """Longer than another TTL, but each time there are fewer zombies: one is reaped at once, four at looks half a TTL apart."""
    running = start_below(start_subreaper, "--zombies", "stop", culprits=[program("tree", "hasty", 5)], ttl=LONGEST_TTL)
    pid = culprit_of(running)
    wait_until(lambda: not zombies(pid), "all zombies to be reaped")
    assert is_alive(pid)
    status, err = end_command(running)
    assert (status, "is ended, so that" in err) == (3, False)


def test_one_that_ignores_term_is_killed_after_the_grace(start_subreaper: StartTinyinit) -> None:
    culprit = ["sh", "-c", "trap '' TERM; sleep 0.1 & exec sleep 60"]
    running = start_below(start_subreaper, "-q", "--grace", "100ms", "--zombies", "stop", culprits=[culprit])
    pid = culprit_of(running)
    zombie = zombies(pid)[0]
    wait_until(lambda: state(pid) in ("", "Z") and not state(zombie), "the culprit to be killed, the zombie reaped")
    assert end_command(running) == (3, "")


def test_the_command_itself_is_never_ended(start: StartTinyinit) -> None:
    running = start("-v", "--zombies", "stop", *TTL, "--", "sh", "-c", "sleep 0.1 & exec sleep 60")
    main = running.main
    wait_until(lambda: zombies(main), "a zombie")
    time.sleep(MORE_THAN_TWO_TTL)
    assert is_alive(main)
    running.send(signal.SIGTERM)
    status, _, err = running.end()
    assert status == 128 + signal.SIGTERM
    assert "COMMAND itself is never ended" in err
    assert err.count("sent SIGCHLD to pid") >= 1


def test_one_with_tinyinit_spare_is_only_nudged(start_subreaper: StartTinyinit) -> None:
    culprit = ["sh", "-c", "sleep 0.1 & TINYINIT_SPARE=1 exec sleep 60 > /dev/null 2>&1"]
    running = start_below(start_subreaper, "--zombies", "stop", culprits=[culprit])
    pid = culprit_of(running)
    time.sleep(MORE_THAN_TWO_TTL)
    assert is_alive(pid)
    status, err = end_command(running)
    assert (status, err.count("\n")) == (3, 1)


def test_it_is_named_again_only_when_it_has_become_a_lot_worse(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper("--zombies", "warn", *TTL, "--", *program("tree", "growing", 2), stdin=subprocess.PIPE)
    main = running.wait_ready()
    assert running.process.stdin
    for _ in range(2):
        time.sleep(0.25)
        running.process.stdin.write(b"\n")
        running.process.stdin.flush()
    wait_until(lambda: len(zombies(main)) == 6, "more zombies")
    time.sleep(0.25)
    running.send(signal.SIGTERM)
    err = running.end()[2]
    named = [int(count) for count in re.findall(r"warning: (\d+) zombies? (?:is|are) not reaped by", err)]
    assert named[0] <= 2
    assert named[-1] >= 4
    assert all(later >= 2 * earlier for earlier, later in zip(named, named[1:]))
    assert err.count("\n") == len(named)


def test_ignore_is_the_default_and_says_nothing(start_subreaper: StartTinyinit) -> None:
    running = start_below(start_subreaper, culprits=[["sh", "-c", "sleep 0.1 & exec sleep 60"]])
    culprit_of(running)
    time.sleep(0.3)
    assert end_command(running) == (3, "")


def test_a_parent_that_is_stopped_is_not_blamed(start_subreaper: StartTinyinit) -> None:
    script = "sleep 0.1 & echo 'ready (pid: 1)'; kill -STOP $$; wait"
    running = start_below(start_subreaper, "--zombies", "stop", culprits=[["sh", "-c", script]], ttl=LONGER_TTL)
    pid = culprit_of(running)
    time.sleep(MORE_THAN_TWO_LONGER_TTL)
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: state(pid) in ("", "Z"), "it to reap, and end")
    assert end_command(running) == (3, "")


def test_a_first_thread_that_has_ended_is_no_zombie(start_subreaper: StartTinyinit) -> None:
    running = start_below(start_subreaper, "--zombies", "stop", culprits=[program("tree", "threads")])
    running.wait_ready()
    main = running.main
    wait_until(lambda: zombies(main), "the first thread to end")
    time.sleep(MORE_THAN_TWO_TTL)
    assert zombies(main)
    assert end_command(running) == (3, "")


@pytest.mark.heavy
def test_5000_processes_are_looked_at_once_per_half_a_ttl(start_subreaper: StartTinyinit, tmp_path: Path) -> None:
    """README has what a look costs, on an idle machine; one whose cost is not linear would take seconds here."""
    options = ("--orphans", "warn", "--orphan-ttl", "600ms", "--zombies", "warn", "--zombie-ttl", "600ms")
    crowd = (
        "mkfifo $0; i=0; while [ $i -lt 5000 ]; do (read line < $0) & i=$((i + 1)); done; echo 'ready (pid: 1)'; wait"
    )
    running = start_subreaper(*options, "--", "sh", "-c", crowd, tmp_path / "fifo")
    running.wait_ready()
    begin, first, spent = time.monotonic(), sleeps(running.pid), []
    for look in (1, 2):
        before = processor_time(running.pid)
        wait_until(partial(has_slept, running.pid, first + look), "a look")
        spent.append(processor_time(running.pid) - before)
    assert min(spent) < 0.5
    assert time.monotonic() - begin >= 0.3
    wait_until(lambda: state(running.pid) == "S", "it to sleep")


def processor_time(pid: int) -> float:
    """The seconds that a process has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def has_slept(pid: int, times: int) -> bool:
    return sleeps(pid) >= times


def sleeps(pid: int) -> int:
    """How often a process went to sleep."""
    return int(status_field(pid, "voluntary_ctxt_switches"))
