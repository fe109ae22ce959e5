"""A COMMAND that waits for its signals in sigwaitinfo(2), as tinyinit itself does: it is not one that they would kill."""

from __future__ import annotations

import signal

import pytest

from conftest import StartTinyinit
from helpers.running import program


@pytest.mark.parametrize("options", [[], ["--on-timeout-signal", "QUIT"]], ids=["TERM", "QUIT"])
def test_its_timeout_is_124_though_it_exits_with_0(start: StartTinyinit, options: list[str]) -> None:
    running = start("--timeout", "500ms", *options, "--", *program("log_signals", "got", signal.SIGTERM))
    status, out, _ = running.end()
    assert (status, out.splitlines()[-1]) == (124, f"got {signal.SIGTERM:d}")
