"""README's comparison: every cell is what the program does here, tinyinit and its peers alike."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import StartTinyinit
from helpers.running import (
    TINYINIT,
    UNPRIVILEGED,
    Running,
    children,
    descendants,
    program,
    state,
    status_field,
    wait_until,
)
from helpers.terminal import Terminal

pytestmark = [pytest.mark.form("installed"), pytest.mark.peers]

README = Path(__file__).parent.parent / "README.md"
PEERS = ("tinyinit", "tini", "dumb-init", "catatonit")
SHORT = 4.0  # seconds, after which a peer is believed to be hanging


class Peer:
    """An init as its users start it, without options but those of the claim."""

    def __init__(self, name: str, start_pid_1: StartTinyinit, start_subreaper: StartTinyinit) -> None:
        self.path = TINYINIT if name == "tinyinit" else str(shutil.which(name))
        self.start_pid_1, self.start_subreaper = start_pid_1, start_subreaper

    def pid_1(self, *words: str, **popen: Any) -> Running:
        return self.start_pid_1("--", *words, command=[self.path], **popen)

    def subreaper(self, *words: str, **popen: Any) -> Running:
        return self.start_subreaper("--", *words, command=[self.path], **popen)


def holds(condition: Callable[[], Any]) -> bool:
    """Whether the condition comes true in a short time."""
    try:
        return bool(wait_until(condition, "a claim", SHORT))
    except AssertionError:
        return False


def ends(running: Running, status: int | None = None) -> bool:
    """Whether it ends in a short time, with the status that it should have."""
    try:
        ended_with = running.end(SHORT)[0]
    except subprocess.TimeoutExpired:
        return False
    return status is None or ended_with == status


def logs(running: Running, *lines: str) -> bool:
    try:
        return all(running.read_until(line + "\n", SHORT) for line in lines)
    except AssertionError:
        return False


def on_screen(screen: Terminal, text: str) -> bool:
    try:
        return bool(screen.read_until(text, SHORT))
    except AssertionError:
        return False


# ---- the claims: README's words, and what is to be seen ---------------------------------------------------------


def reaps_orphans(peer: Peer) -> bool:
    running = peer.pid_1("sh", "-c", "(sleep 0.1 & sleep 0.1 &); echo 'ready (pid: 1)'; exec sleep 60")
    running.wait_ready()
    wait_until(lambda: len(children(running.pid)) == 3, "two orphans")
    return holds(lambda: len(children(running.pid)) == 1)


def reaps_orphans_outside(peer: Peer) -> bool:
    running = peer.subreaper("sh", "-c", '(sleep 60 & echo "ready (pid: $!)"); exec sleep 60')
    orphan = running.wait_ready()
    return holds(lambda: status_field(orphan, "PPid") == str(running.pid))


def signals_the_group(peer: Peer) -> bool:
    running = peer.pid_1(*program("log_signals", "tree"))
    running.wait_ready()
    running.read_until("child is ready")
    running.send(signal.SIGUSR1)
    return logs(running, "parent 10", "child 10")


def forwards_real_time_signals(peer: Peer) -> bool:
    running = peer.pid_1(*program("log_signals", "got"))
    running.wait_ready()
    running.send(signal.SIGRTMIN + 5)
    return logs(running, f"got {signal.SIGRTMIN + 5}")


def ends_a_stopped_child(peer: Peer) -> bool:
    running = peer.subreaper("sleep", "60")
    main = running.main
    wait_until(lambda: "sleep" in status_field(main, "Name"), "COMMAND to run")
    os.kill(main, signal.SIGSTOP)
    wait_until(lambda: state(main) == "T", "COMMAND to stop")
    running.send(signal.SIGTERM)
    return ends(running, 128 + signal.SIGTERM)


def gives_leftovers_time(peer: Peer) -> bool:
    script = "setsid sh -c 'trap \"sleep 0.1; echo obeyed; exit\" TERM; while :; do sleep 0.01; done' & sleep 0.3"
    return "obeyed" in peer.pid_1("sh", "-c", script).end()[1]


def sleeps_while_idle(peer: Peer) -> bool:
    running = peer.pid_1("sh", "-c", "echo 'ready (pid: 1)'; exec sleep 60")
    running.wait_ready()
    time.sleep(0.2)  # its own start is over
    before = status_field(running.pid, "voluntary_ctxt_switches")
    time.sleep(2.1)  # two periods of one that wakes up every second
    return status_field(running.pid, "voluntary_ctxt_switches") == before


def bears_ignored_sigchld(peer: Peer) -> bool:
    command = ["env", "--ignore-signal=CHLD", peer.path]  # inside the namespace: unshare(1) takes the default
    return ends(peer.start_pid_1("--", "sh", "-c", "exit 7", command=command), 7)


def keeps_the_mask(peer: Peer) -> bool:
    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    out = peer.subreaper("grep", "SigBlk", "/proc/self/status", preexec_fn=block).end()[1]
    return int(out.split()[1], 16) == 1 << signal.SIGUSR1 - 1


def bears_a_child_of_another_user(peer: Peer) -> bool:
    folder = Path("/var/tmp") / f"tinyinit-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        become_root = folder / "become_root"
        shutil.copy(str(shutil.which("setpriv")), become_root)
        become_root.chmod(0o4755)
        words = ("--", str(become_root), "--reuid=0", "sleep", "60")
        running = peer.start_subreaper(*words, command=[*UNPRIVILEGED, peer.path])
        main = running.main
        wait_until(lambda: status_field(main, "Uid").split() == ["0"] * 4, "the child to become root")
        running.send(signal.SIGTERM)
        return not holds(lambda: state(running.pid) in ("", "Z"))
    finally:
        shutil.rmtree(folder)


def gives_the_terminal_back(peer: Peer) -> bool:
    screen = Terminal(["sh", "-c", f"{peer.path} -- true; echo now; read x; echo got $x"])
    try:
        screen.read_until("now\n")
        screen.type("line\n")
        return on_screen(screen, "got line\n")
    finally:
        screen.close()


def stops_with_the_job(peer: Peer) -> bool:
    screen = Terminal(["bash", "--norc", "--noprofile", "--noediting", "-i"])
    try:
        screen.read_until("prompt$ ")
        screen.type(f"{peer.path} -- sh -c 'echo started; read x; echo got $x'\n")
        screen.read_until("started\n")
        screen.type("\x1a")
        if not on_screen(screen, "prompt$ "):
            return False
        screen.type("fg\n")
        screen.read_until("fg\n")
        screen.type("line\n")
        return on_screen(screen, "got line\n")
    finally:
        screen.close()


def has_the_shells_statuses(peer: Peer) -> bool:
    return ends(peer.pid_1("/no/such"), 127) and ends(peer.pid_1("/tmp"), 126)


def lets_go(peer: Peer) -> bool:
    reader, writer = os.pipe()
    try:
        running = peer.subreaper("sh", "-c", "echo 'ready (pid: 1)'; exec sleep 60", cwd="/tmp", pass_fds=(writer,))
        running.wait_ready()
        descriptor = Path(f"/proc/{running.pid}/fd/{writer}")
        return holds(lambda: os.readlink(f"/proc/{running.pid}/cwd") == "/" and not descriptor.is_symlink())
    finally:
        os.close(reader)
        os.close(writer)


def can_rewrite(peer: Peer) -> bool:
    return ends_after("-r", "15:2", peer, 128 + signal.SIGINT)


def can_remap(peer: Peer) -> bool:
    return ends_after("-e", "143", peer, 0)


def ends_after(option: str, value: str, peer: Peer, status: int) -> bool:
    running = peer.start_pid_1(option, value, "--", "sh", "-c", "echo up; exec sleep 60", command=[peer.path])
    if not logs(running, "up"):
        return False
    running.send(signal.SIGTERM)
    return ends(running, status)


def can_follow_its_parent(peer: Peer) -> bool:
    words = (peer.path, "-p", "TERM" if peer.path == TINYINIT else "SIGTERM", "--", "sleep", "60")
    parent = peer.start_subreaper(*words, command=["sh", "-c", '"$@" & echo up; wait', "sh"])
    parent.read_until("up")
    if not holds(lambda: descendants(parent.pid)[1:]):
        return False  # it does not know the option, and has ended
    init = parent.main
    parent.process.kill()
    return holds(lambda: state(init) in ("", "Z"))


CLAIMS: dict[str, Callable[[Peer], bool]] = {
    "reaps orphans as PID 1": reaps_orphans,
    "reaps orphans anywhere else too, with no option": reaps_orphans_outside,
    "signals the whole process group, with no option": signals_the_group,
    "forwards real-time signals": forwards_real_time_signals,
    "TERM ends a stopped COMMAND": ends_a_stopped_child,
    "what COMMAND leaves behind gets TERM and time to end": gives_leftovers_time,
    "sleeps while nothing happens": sleeps_while_idle,
    "lives on when it may not signal COMMAND": bears_a_child_of_another_user,
    "works where SIGCHLD was ignored": bears_ignored_sigchld,
    "COMMAND has the signal mask that was inherited": keeps_the_mask,
    "keeps no folder and no pipe open": lets_go,
    "gives the terminal back at the end": gives_the_terminal_back,
    "Ctrl-Z and `fg` work": stops_with_the_job,
    "126 and 127 as the shell has them": has_the_shells_statuses,
    "can rewrite signals": can_rewrite,
    "can remap exit codes": can_remap,
    "can end with its parent": can_follow_its_parent,
}


def cells() -> dict[str, dict[str, bool]]:
    """README's comparison: claim, peer, whether there is a tick."""
    found = {}
    for line in README.read_text().splitlines():
        row = re.fullmatch(r"\| (.+?)((?: \| [✓✗]){4}) \|", line)
        if row:
            found[row[1]] = dict(zip(PEERS, (cell == "✓" for cell in row[2].split(" | ")[1:])))
    return found


def test_the_comparison_has_a_test_for_every_row() -> None:
    assert list(cells()) == list(CLAIMS)


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("claim", CLAIMS)
def test_the_comparison_is_true(
    claim: str, name: str, start_pid_1: StartTinyinit, start_subreaper: StartTinyinit
) -> None:
    if name != "tinyinit" and not shutil.which(name):
        assert not os.environ.get("CI"), f"{name} is missing"
        pytest.skip(f"{name} is missing")
    expected = cells()[claim][name]
    tries = 3 if expected and name != "tinyinit" else 1  # on a busy machine a peer may lose a race of its own
    assert any(CLAIMS[claim](Peer(name, start_pid_1, start_subreaper)) for _ in range(tries)) is expected
