"""Contract, section 6: the status of `docker run` is what happened to COMMAND."""

from __future__ import annotations

import signal

import pytest

from conftest import StartContainer
from tinyinit.options import signal_name

FATAL = ("HUP", "INT", "QUIT", "ILL", "ABRT", "KILL", "USR1", "SEGV", "PIPE", "ALRM", "TERM", "RTMIN")


@pytest.mark.parametrize("code", [0, 1, 2, 7, 100, 124, 125, 126, 127, 128, 143, 200, 255])
def test_it_is_the_exit_code_of_the_command(start: StartContainer, code: int) -> None:
    assert start("sh", "-c", f"exit {code}").end() == (code, "", "")


@pytest.mark.parametrize("name", FATAL)
def test_it_is_128_and_the_signal_that_killed_the_command(start: StartContainer, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    status, out, err = start("python3", "/programs/die_by.py", str(int(number))).end()
    assert (status, out) == (128 + number, "")
    assert (f" was killed by {signal_name(number)} after " in err) == (name != "PIPE")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-program", "cannot find COMMAND 'no-such-program' in PATH: No such file or directory; "),
        ("/no/such", "cannot find COMMAND '/no/such': No such file or directory; "),
    ],
)
def test_it_is_127_when_the_command_is_not_there(start: StartContainer, command: str, message: str) -> None:
    status, out, err = start(command).end()
    assert (status, out, err.count("\n")) == (127, "", 1)
    assert err.startswith(f"tinyinit: {message}")


@pytest.mark.parametrize("command", ["/etc", "/etc/passwd"], ids=["a folder", "not executable"])
def test_it_is_126_when_the_command_cannot_be_run(start: StartContainer, command: str) -> None:
    status, out, err = start(command).end()
    assert (status, out, err.count("\n")) == (126, "", 1)
    assert err.startswith(f"tinyinit: cannot run COMMAND '{command}': Permission denied; ")


def test_it_is_137_when_the_engine_kills(start: StartContainer) -> None:
    running = start("sh", "-c", "echo 'ready (pid: 1)'; sleep 60")
    running.wait_ready()
    running.kill("KILL")
    assert running.end()[0] == 128 + signal.SIGKILL


def test_options_come_from_the_environment_too(start: StartContainer) -> None:
    running = start("sh", "-c", "env | grep TINYINIT_; exit 3", options=["--env=TINYINIT_REMAP_EXIT=3"])
    assert running.end() == (0, "", "")
