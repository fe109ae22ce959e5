"""Contract, section 6: nothing is left, whatever COMMAND has started; the same in a container as on the machine."""

from __future__ import annotations

import time
import uuid

import pytest

from conftest import StartContainer
from helpers.running import split_line, with_variable

GRACE = 1.0  # seconds
AFTER_GRACE = 1.0  # seconds for all that is done before and after it
ENGINE = 1.0  # seconds that the engine may take to see the end, and to remove what the container was made of
MARK = "TORTURE_RUN"


@pytest.mark.alone
@pytest.mark.parametrize("options", [pytest.param([], id="pid1"), pytest.param(["--pid=host"], id="subreaper")])
def test_nothing_is_left_of_250_that_do_not_want_to_end(start: StartContainer, options: list[str]) -> None:
    """That it takes the grace shows who has ended them: the engine, which looks for the rest, gives none."""
    mark = uuid.uuid4().hex
    variables = [f"--env=TINYINIT_GRACE={GRACE}", f"--env={MARK}={mark}"]
    running = start("python3", "/programs/torture.py", "5", options=[*options, *variables])
    running.wait_ready()
    begin = time.monotonic()
    assert with_variable(MARK, mark), "they cannot be seen from here"
    status, _, err = running.end(GRACE + AFTER_GRACE + ENGINE)
    assert (status, split_line(err)[0]) == (5, "")
    assert time.monotonic() - begin >= GRACE / 2
    assert with_variable(MARK, mark) == []
