"""Contract, section 4: the terminal and job control, on a real pty, under a real bash."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from helpers.running import TINYINIT, UNSHARE, children, program, state, status_field, wait_until
from helpers.terminal import Terminal

BASH = ("bash", "--norc", "--noprofile", "--noediting", "-i")
OpenTerminal = Callable[[Sequence[str]], Terminal]
LOG = " ".join(program("log_signals", "got"))


@pytest.fixture
def terminal() -> Iterator[OpenTerminal]:
    opened: list[Terminal] = []

    def open_terminal(words: Sequence[str]) -> Terminal:
        opened.append(Terminal(words))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


@pytest.fixture
def bash(terminal: OpenTerminal) -> Terminal:
    shell = terminal(BASH)
    shell.read_until("prompt$ ")
    return shell


def type_command(shell: Terminal, line: str) -> None:
    """Type a line, and wait for its echo."""
    shell.type(line + "\n")
    shell.read_until(line + "\n")


def test_the_command_has_the_terminal_from_its_first_instruction(terminal: OpenTerminal, as_pid_1: bool) -> None:
    prefix = UNSHARE if as_pid_1 else ()
    for _ in range(10):
        screen = terminal([*prefix, TINYINIT, "sh", "-c", "ps -o tpgid=,pgid= -p $$"])
        foreground, group = screen.read_until("\n").split()
        assert foreground == group


def test_the_terminal_is_given_back(terminal: OpenTerminal) -> None:
    screen = terminal(["sh", "-c", f"{TINYINIT} true; echo now; read x; echo got $x"])
    screen.read_until("now\n")
    screen.type("line\n")
    screen.read_until("got line\n")
    assert screen.wait() == 0


@pytest.mark.parametrize("command", ["no-such-command", "/tmp"])
def test_the_terminal_is_given_back_when_nothing_was_run(terminal: OpenTerminal, command: str) -> None:
    screen = terminal(["sh", "-c", f"{TINYINIT} {command}; echo status $?; read x; echo got $x"])
    screen.read_until("status 12")
    screen.type("line\n")
    screen.read_until("got line\n")


def test_the_terminal_is_given_back_from_a_group_that_has_ended(terminal: OpenTerminal) -> None:
    """A shell as COMMAND gives the terminal to its own job, and both are killed."""
    screen = terminal(["sh", "-c", f"{TINYINIT} bash --norc -i; echo now; read x; echo got $x"])
    screen.read_until("prompt$ ")
    screen.type("bash -c 'kill -9 $PPID; kill -9 $$'\n")
    screen.read_until("now\n")
    screen.type("line\n")
    screen.read_until("got line\n")


def test_ctrl_c_reaches_the_command_once(bash: Terminal) -> None:
    type_command(bash, f"{TINYINIT} {LOG} {signal.SIGQUIT:d}; echo status $?")
    bash.read_until(")\n")
    bash.type("\x03")
    bash.read_until("got 2\n")
    bash.type("\x1c")
    assert bash.read_until("status 0\n").count("got 2") == 0


def test_ctrl_c_ends_a_command_with_130(bash: Terminal) -> None:
    type_command(bash, f"{TINYINIT} sh -c 'echo started; exec sleep 60'; echo status $?")
    bash.read_until("started\n")
    bash.type("\x03")
    bash.read_until("status 130\n")


def test_ctrl_z_gives_the_prompt_and_fg_goes_on(bash: Terminal) -> None:
    for _ in range(3):
        type_command(bash, f"{TINYINIT} sh -c 'echo started; read x; echo got $x'")
        bash.read_until("started\n")
        bash.type("\x1a")
        bash.read_until("Stopped")
        bash.read_until("prompt$ ")
        type_command(bash, "fg")
        bash.type("line\n")
        bash.read_until("got line\n")
        bash.read_until("prompt$ ")


def test_bg_goes_on_in_the_background_and_fg_brings_it_back(bash: Terminal, tmp_path: Path) -> None:
    go = tmp_path / "go"  # by `[`: a shell whose vforked child is stopped before its exec is not stopped itself
    script = f"echo started; until [ -e {go} ]; do :; done; echo went on; read x; echo got $x"
    type_command(bash, f"{TINYINIT} sh -c '{script}'")
    bash.read_until("started\n")
    bash.type("\x1a")
    bash.read_until("Stopped")
    bash.read_until("prompt$ ")
    type_command(bash, f"touch {go}; bg; wait; echo waited")
    bash.read_until("went on\n")
    bash.read_until("Stopped")  # it reads from the terminal, which a background job may not: SIGTTIN
    bash.read_until("prompt$ ")
    type_command(bash, "fg")
    bash.type("line\n")
    bash.read_until("got line\n")


def test_a_job_started_in_the_background_never_takes_the_terminal(bash: Terminal) -> None:
    type_command(bash, f"{TINYINIT} sh -c 'echo started; sleep 0.3; echo done' &")
    bash.read_until("started\n")
    type_command(bash, "read x; echo got $x")
    bash.type("line\n")
    bash.read_until("got line\n")


def test_fg_of_a_job_started_in_the_background(bash: Terminal, tmp_path: Path) -> None:
    """bash sends no SIGCONT to a job that was not stopped: the terminal is handed over when COMMAND asks for it."""
    go = tmp_path / "go"
    script = f"echo started; until [ -e {go} ]; do :; done; read x; echo got $x"
    type_command(bash, f"{TINYINIT} sh -c '{script}' &")
    bash.read_until("started\n")
    type_command(bash, "fg")
    wait_until(lambda: bash.foreground() != bash.pid, "the job to have the terminal")
    go.touch()
    bash.type("line\n")
    bash.read_until("got line\n")


def test_ctrl_z_in_a_script_stops_the_whole_job(bash: Terminal, tmp_path: Path) -> None:
    """The shell's job is the script, which waits for tinyinit: it has to stop as well, or no prompt comes."""
    script = tmp_path / "script"
    script.write_text(f"{TINYINIT} sh -c 'echo started; read x; echo got $x'\necho script went on\n")
    type_command(bash, f"sh {script}")
    bash.read_until("started\n")
    bash.type("\x1a")
    bash.read_until("Stopped")
    bash.read_until("prompt$ ")
    type_command(bash, "fg")
    bash.type("line\n")
    bash.read_until("got line\n")
    bash.read_until("script went on\n")


def test_ctrl_z_where_no_shell_watches_does_not_hang(terminal: OpenTerminal) -> None:
    """As after `ssh -t host tinyinit ...`: without tinyinit the kernel drops the signal, so COMMAND goes on."""
    screen = terminal([TINYINIT, "sh", "-c", "echo started; read x; echo got $x"])
    screen.read_until("started\n")
    screen.type("\x1a")
    screen.type("line\n")
    screen.read_until("got line\n")


def test_standard_input_from_dev_null_while_the_command_reads_the_terminal(bash: Terminal) -> None:
    type_command(bash, f"{TINYINIT} sh -c 'echo started; read x </dev/tty; echo got $x' </dev/null")
    bash.read_until("started\n")
    bash.type("secret\n")
    bash.read_until("got secret\n")


def test_ctrl_c_ends_a_pipeline(bash: Terminal) -> None:
    """Which group has the terminal depends on whether bash or tinyinit came last; both ways it reaches COMMAND."""
    for _ in range(5):
        type_command(bash, f"{TINYINIT} sh -c 'echo started >&2; exec sleep 60' | cat")
        bash.read_until("started\n")
        bash.type("\x03")
        bash.read_until("prompt$ ")


def test_a_pipeline_can_read_from_the_terminal(bash: Terminal) -> None:
    for _ in range(5):
        type_command(bash, f"{TINYINIT} sh -c 'echo started >&2; read x; echo got $x' | cat")
        bash.read_until("started\n")
        bash.type("line\n")
        bash.read_until("got line\n")
        bash.read_until("prompt$ ")


@pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU], ids=lambda n: n.name)
def test_a_stop_signal_sent_to_tinyinit_stops_both(bash: Terminal, number: signal.Signals) -> None:
    # by exec: a shell whose vforked child is stopped before its exec is not stopped itself, but in state D
    type_command(bash, f"{TINYINIT} sh -c 'echo started; exec sleep 60' & echo pid $!")
    pid = int(bash.read_until("\n").split()[-1])
    bash.read_until("started\n")
    main = children(pid)[0]
    os.kill(pid, number)
    wait_until(lambda: state(main) == "T", "COMMAND to stop")
    wait_until(lambda: state(pid) == "T", "tinyinit to stop")
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: state(main) == "S", "COMMAND to go on")
    wait_until(lambda: state(pid) == "S", "tinyinit to go on")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not status_field(pid, "State"), "tinyinit to end")


def test_a_window_size_change_reaches_the_command(bash: Terminal) -> None:
    import fcntl
    import struct
    import termios

    type_command(bash, f"{TINYINIT} {LOG} {signal.SIGQUIT:d}")
    bash.read_until(")\n")
    fcntl.ioctl(bash.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    bash.read_until(f"got {signal.SIGWINCH:d}\n")


def test_a_hangup_reaches_the_command(terminal: OpenTerminal, tmp_path: Path) -> None:
    log = tmp_path / "log"
    screen = terminal(
        [TINYINIT, "sh", "-c", f"trap 'echo hangup >{log}; exit' HUP; echo started; while :; do sleep 0.01; done"]
    )
    screen.read_until("started\n")
    screen.close()
    wait_until(lambda: log.exists() and log.read_text() == "hangup\n", "SIGHUP")
    screen.fd = os.open("/dev/null", os.O_RDONLY)


def test_pid_1_continues_a_stopped_command(terminal: OpenTerminal, namespaces: None) -> None:
    """Ctrl-Z in a container: no shell is there that could ever continue it."""
    screen = terminal([*UNSHARE, TINYINIT, "sh", "-c", "echo started; read x; echo got $x"])
    screen.read_until("started\n")
    screen.type("\x1a")
    screen.type("line\n")
    screen.read_until("got line\n")
