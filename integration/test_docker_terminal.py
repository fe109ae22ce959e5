"""Contract, section 4: `docker run -it` on a real terminal."""

from __future__ import annotations

from conftest import OpenTerminal


def test_ctrl_c_reaches_the_command(open_terminal: OpenTerminal) -> None:
    terminal = open_terminal("sh", "-c", "echo ready; exec sleep 60")
    terminal.read_until("ready\n")
    terminal.type("\x03")
    assert terminal.wait() == 130


def test_the_command_can_handle_ctrl_c(open_terminal: OpenTerminal) -> None:
    terminal = open_terminal("sh", "-c", "trap 'echo handled; exit 5' INT; echo ready; sleep 60 & wait")
    terminal.read_until("ready\n")
    terminal.type("\x03")
    terminal.read_until("handled\n")
    assert terminal.wait() == 5


def test_the_command_is_told_of_another_window_size(open_terminal: OpenTerminal) -> None:
    terminal = open_terminal("sh", "-c", "trap 'stty size' WINCH; echo ready; sleep 60 & while :; do wait; done")
    terminal.read_until("ready\n")
    for rows, columns in ((31, 117), (50, 80)):
        terminal.resize(rows, columns)
        terminal.read_until(f"{rows} {columns}\n")


def test_the_command_reads_and_writes_the_terminal(open_terminal: OpenTerminal) -> None:
    terminal = open_terminal("sh", "-c", 'echo ready; read line < /dev/tty; echo "got $line" > /dev/tty; exit 3')
    terminal.read_until("ready\n")
    terminal.type("some words\n")
    terminal.read_until("got some words\n")
    assert terminal.wait() == 3


def test_ctrl_z_does_not_stop_it_for_ever(open_terminal: OpenTerminal) -> None:
    """There is no shell that could ever continue it."""
    terminal = open_terminal("sh", "-c", "echo ready; exec cat")
    terminal.read_until("ready\n")
    terminal.type("\x1a")
    terminal.type("a line\n")
    terminal.read_until("a line\n")  # the terminal's echo
    terminal.read_until("a line\n")
    terminal.type("\x04")
    assert terminal.wait() == 0


def test_a_shell_has_job_control(open_terminal: OpenTerminal) -> None:
    terminal = open_terminal("bash", "--norc", "--noprofile", "--noediting", "-i")
    assert "job control" not in terminal.read_until("# ")
    terminal.type("cat\n")
    terminal.read_until("cat\n")
    terminal.type("line\n")
    terminal.read_until("line\nline\n")
    terminal.type("\x1a")
    terminal.read_until("Stopped")
    terminal.read_until("# ")  # what is typed before that is echoed before it
    terminal.type("fg\n")
    terminal.read_until("fg\ncat\n")
    terminal.type("again\n")
    terminal.read_until("again\nagain\n")
    terminal.type("\x03")
    terminal.read_until("# ")
    terminal.type("exit 4\n")
    assert terminal.wait() == 4
