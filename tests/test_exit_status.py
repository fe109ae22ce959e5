"""Contract, section 6: the table of exit statuses."""

from __future__ import annotations

import signal

import pytest

from conftest import StartTinyinit
from helpers.running import program

FATAL = sorted(
    signal.valid_signals()
    - {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}  # ignored by default: signal(7)
    - {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
)


def test_every_exit_code_is_passed_on(start: StartTinyinit) -> None:
    for codes in (range(begin, begin + 16) for begin in range(0, 256, 16)):
        started = [(code, start("--", "sh", "-c", f"exit {code}")) for code in codes]
        assert [(code, running.end()[0]) for code, running in started] == [(code, code) for code in codes]


def test_death_by_every_fatal_signal_is_128_and_its_number(start: StartTinyinit) -> None:
    for numbers in (FATAL[begin : begin + 16] for begin in range(0, len(FATAL), 16)):
        started = [(number, start("--", *program("die_by", number))) for number in numbers]
        assert [(number, running.end()[0]) for number, running in started] == [(n, 128 + n) for n in numbers]


@pytest.mark.parametrize(
    ("options", "script", "expected"),
    [
        pytest.param(["-e", "3"], "exit 3", 0, id="the given code becomes 0"),
        pytest.param(["-e", "3"], "exit 4", 4, id="another one stays"),
        pytest.param(["-e", "143"], "kill $$", 0, id="death by a signal too"),
        pytest.param(["-e3", "--remap-exit=4", "-e", "5,6"], "exit 6", 0, id="repeated, attached, listed"),
        pytest.param(["-e", "0"], "exit 0", 0, id="0 stays 0"),
        pytest.param(["-e", "255"], "exit 255", 0, id="the largest"),
        pytest.param(["-e", "127"], "exit 127", 0, id="a code of tinyinit's own that is the command's here"),
    ],
)
def test_remap_exit(start: StartTinyinit, options: list[str], script: str, expected: int) -> None:
    assert start(*options, "--", "sh", "-c", script).end()[0] == expected


def test_silent_when_all_went_well(start: StartTinyinit) -> None:
    assert start("sh", "-c", "echo out; echo err >&2; exit 5").end() == (5, "out\n", "err\n")


def test_another_process_that_gets_the_pid_of_the_command_does_not_change_its_status(
    start_pid_1: StartTinyinit,
) -> None:
    """ns_last_pid (proc(5)) has the kernel give it to one that is reaped later."""
    again = "echo $(($1 - 1)) > /proc/sys/kernel/ns_last_pid; (sleep 0.1; exit 9) & [ $! = $1 ] && echo reused"
    leftover = f"while kill -0 $1; do sleep 0.05; done 2> /dev/null; {again}"
    running = start_pid_1("-q", "--", "sh", "-c", "trap '' TERM; setsid sh -c \"$0\" sh $$ & exit 3", leftover)
    assert running.end() == (3, "reused\n", "")
