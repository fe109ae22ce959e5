"""--watchdog: COMMAND is ended when it is silent, with what it needs to show where it hung."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import time

import pytest

from conftest import StartTinyinit
from helpers.running import PYTHON, TINYINIT, program, split_line
from helpers.terminal import Terminal

LIBSYSTEMD = "import ctypes; c = ctypes.CDLL('libsystemd.so.0'); u = ctypes.c_uint64(); print(c.sd_watchdog_enabled(0, ctypes.byref(u)), u.value)"


def test_a_silent_job_shows_where_it_hangs_and_is_ended(start: StartTinyinit) -> None:
    code = "import time\ndef hang():\n    time.sleep(60)\nhang()\n"
    begin = time.monotonic()
    status, _, err = start("--watchdog", "500ms", "--", sys.executable, "-X", "faulthandler", "-c", code).end()
    assert 0.5 < time.monotonic() - begin < 5
    assert status == 124
    assert "in hang" in err
    said = [line for line in split_line(err)[0].splitlines() if line.startswith("tinyinit")]
    assert said == [
        "tinyinit: COMMAND has sent no WATCHDOG=1 in time; its --watchdog is 0.5 s: it gets ABRT, and is ended"
    ]


def test_a_job_that_shows_signs_of_life_runs_on(start_subreaper: StartTinyinit) -> None:
    job = program("say", *["WATCHDOG=1", "sleep:0.2"] * 5)
    assert start_subreaper("--watchdog", "0.6", "--", *job).end() == (3, "", "")


def test_a_job_that_ignores_abrt_gets_term_a_second_later_and_then_kill(start_subreaper: StartTinyinit) -> None:
    begin = time.monotonic()
    running = start_subreaper("--watchdog", "0.5", "--grace", "0.1", "--", *program("log_signals", "got"))
    status, out, _ = running.end()
    assert out.splitlines()[1:] == [f"got {int(number)}" for number in (signal.SIGABRT, signal.SIGTERM, signal.SIGCONT)]
    assert status == 124
    assert 1.6 < time.monotonic() - begin < 6


def test_the_last_status_is_told(start_subreaper: StartTinyinit) -> None:
    err = start_subreaper("--watchdog", "0.5", "--", *program("say", "STATUS=step 3", "sleep:60")).end()[2]
    assert "its --watchdog is 0.5 s (STATUS=step 3): it gets ABRT" in err


CASES = {
    "shorter": ("60", ["WATCHDOG_USEC=300000", "sleep:60"], 124),
    "longer": ("0.5", ["WATCHDOG_USEC=60000000", "sleep:0.8"], 3),
    "none": ("0.5", ["WATCHDOG_USEC=0", "sleep:0.8"], 3),
    "no number": ("0.5", ["WATCHDOG_USEC=x", "sleep:60"], 124),
    "put off": ("0.5", ["EXTEND_TIMEOUT_USEC=60000000", "sleep:0.8"], 3),
    "stopping": ("0.5", ["STOPPING=1", "sleep:0.8"], 3),
    "trigger": ("60", ["WATCHDOG=trigger", "sleep:60"], 124),
    "no watchdog": ("0", ["WATCHDOG=trigger", "WATCHDOG_USEC=1", "sleep:0.2"], 3),
}


def test_what_a_job_may_say_of_its_watchdog(start_subreaper: StartTinyinit) -> None:
    running = {
        name: start_subreaper("-q", "--notify", "--watchdog", watchdog, "--", *program("say", *said))
        for name, (watchdog, said, _) in CASES.items()
    }
    ends = {name: each.end() for name, each in running.items()}
    assert ends == {name: (status, "", "") for name, (_, _, status) in CASES.items()}


def test_a_job_that_is_to_end_needs_no_sign_of_life(start_subreaper: StartTinyinit) -> None:
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: time.sleep(0.8) or sys.exit(4))"
    code += "; print('ready (pid: 0)', flush=True); time.sleep(60)"
    running = start_subreaper("--watchdog", "0.6", "--", *PYTHON, "-c", code)
    running.wait_ready()
    running.send(signal.SIGTERM)
    assert running.end()[::2] == (4, "")


def test_the_time_after_ctrl_z_does_not_count() -> None:
    job = program("say", "print:ready", "sleep:0.3", "print:said", "sleep:0.1")
    shell = Terminal(["bash", "--norc", "--noprofile", "--noediting", "-i"])
    try:
        shell.read_until("prompt$ ")
        shell.type(shlex.join([TINYINIT, "--watchdog", "0.6", "--", *job]) + "\n")
        shell.read_until("\nready\n")
        shell.type("\x1a")
        shell.read_until("Stopped")
        time.sleep(0.7)
        shell.type("fg; echo status=$?\n")
        shell.read_until("\nsaid\nstatus=3\n")
    finally:
        shell.close()


def test_command_finds_its_watchdog_as_sd_watchdog_enabled_wants(start: StartTinyinit) -> None:
    env = {**os.environ, "WATCHDOG_PID": "1"}
    script = 'echo $WATCHDOG_USEC ${WATCHDOG_PID-none}; exec "$0" "$@"'
    running = start("--watchdog", "20s", "--", "sh", "-c", script, sys.executable, "-c", LIBSYSTEMD, env=env)
    status, out, err = running.end()
    assert out.splitlines()[0] == "20000000 none"
    assert "OSError" in err or (status, out.splitlines()[1]) == (0, "1 20000000")


@pytest.mark.parametrize(
    ("options", "seconds"), [(["--notify"], 9), (["--watchdog", "20"], 9), (["--watchdog", "5"], 5)]
)
def test_the_watchdog_of_who_started_tinyinit_is_kept(
    start_subreaper: StartTinyinit, options: list[str], seconds: int
) -> None:
    """As systemd does: WATCHDOG_PID names tinyinit."""
    script = 'WATCHDOG_PID=$$ WATCHDOG_USEC=9000000 exec "$@"'
    command = ["sh", "-c", script, "sh", TINYINIT]
    out = start_subreaper(
        *options, "--", "sh", "-c", "echo $WATCHDOG_USEC ${WATCHDOG_PID-none}", command=command
    ).end()[1]
    assert out == f"{seconds}000000 none\n"


def test_a_silent_job_under_a_timeout_too(start_subreaper: StartTinyinit) -> None:
    status, _, err = start_subreaper(
        "--timeout", "0.7", "--watchdog", "0.4", "--", *PYTHON, "-c", "import time; time.sleep(60)"
    ).end()
    assert status == 124
    assert len(re.findall("^tinyinit", split_line(err)[0], re.MULTILINE)) == 1


def test_both_limits_at_once(start_subreaper: StartTinyinit) -> None:
    """What one of them does may put off or drop the other."""
    status, _, err = start_subreaper("--timeout", "0.5", "--watchdog", "0.5", "--", "sleep", "60").end()
    assert status == 124
    assert "unexpected" not in err
