"""Contract, section 6: nothing is left, whatever COMMAND has started. TORTURE=100 runs the first test so many times."""

from __future__ import annotations

import os
import time

import pytest

from conftest import StartTinyinit
from helpers.running import TINYINIT, UNSHARE, Running, descendants, program, split_line, state, with_variable

GRACE = 1.0  # seconds
AFTER_GRACE = 4.0  # seconds for all that is done before and after it, on a busy machine too
RUNS = int(os.environ.get("TORTURE") or 5)
MARK = "TORTURE_RUN"
# what holds the pipe holds cat; the status is told apart, for a pipeline's is that of cat
PIPELINE = '{ "$@"; echo "status $?" >&2; } | cat'


def start_pipeline(start_subreaper: StartTinyinit, as_pid_1: bool, mark: str) -> Running:
    """`tinyinit --grace 1 -- torture | cat`, with a variable by which its processes are known."""
    tinyinit = [*(UNSHARE if as_pid_1 else ()), TINYINIT, "--grace", f"{GRACE}", "--"]
    command = ["sh", "-c", PIPELINE, "sh", *tinyinit, *program("torture", 5)]
    return start_subreaper(command=command, env={**os.environ, MARK: mark})


@pytest.mark.parametrize("run", range(RUNS))
def test_nothing_is_left_of_250_that_do_not_want_to_end(
    run: int, as_pid_1: bool, start_subreaper: StartTinyinit
) -> None:
    """This process is a subreaper: what tinyinit leaves behind, be it a zombie, is a descendant of it from then on."""
    before, mark = descendants(os.getpid()), f"{os.getpid()}-{run}"
    running = start_pipeline(start_subreaper, as_pid_1, mark)
    running.wait_ready()
    begin = time.monotonic()
    assert running.read_rest(GRACE + AFTER_GRACE), f"cat still waits, for {len(with_variable(MARK, mark))} processes"
    status, _, err = running.end()
    assert (status, split_line(err)[0]) == (0, "status 5\n")
    assert time.monotonic() - begin <= GRACE + AFTER_GRACE
    left = set(descendants(os.getpid())) - set(before)
    assert {pid: state(pid) for pid in left} == {}
    assert with_variable(MARK, mark) == []


def test_what_does_nothing_but_fork_is_killed(start: StartTinyinit) -> None:
    before = descendants(os.getpid())
    running = start("-q", "--grace", "200ms", "--", *program("fork_chain", 10))
    running.wait_ready()
    begin = time.monotonic()
    assert running.end()[::2] == (5, "")
    assert time.monotonic() - begin < 5
    assert set(descendants(os.getpid())) <= set(before)
