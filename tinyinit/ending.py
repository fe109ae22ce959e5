"""What is remembered for the end: whether it went other than COMMAND meant it, which why.py puts into words.

init.py loads this a moment after COMMAND's start, or when that has ended already: so a COMMAND that ends at once costs
nothing. It is small, and only built-in modules are imported here.
"""

import _signal
import posix

from tinyinit.cgroup import Memory, own_cgroups, read_file
from tinyinit.init import EXIT_SIGNAL_BASE, TERMINATION_SIGNALS, Init, Start, on_terminal, write_line

MOST_NAMES = 10  # processes that are named in the line
MOMENTS = ("timeout", "watchdog", "kill after", "parent died")  # events: why COMMAND is ended by us
FROM_TERMINAL = (_signal.SIGINT, _signal.SIGQUIT, _signal.SIGHUP)  # who typed that, or hung up, knows
ROOM = 33 << 20  # bytes: more than modules take, and so much that malloc maps it each time anew (M_MMAP_THRESHOLD)
EXIT_OUT_OF_MEMORY = EXIT_SIGNAL_BASE + _signal.SIGKILL


def name_of(pid: int) -> str:
    """`'node' (pid 12)`."""
    return f"{read_file(f'/proc/{pid}/comm').decode('utf-8', 'replace').rstrip()!r} (pid {pid})"


def has_room() -> bool:
    """Whether there is memory to import modules: for want of it in the middle of that CPython spins, or crashes.

    The answer takes none: what is never written to is only address space.
    """
    try:
        return bool(bytes(ROOM))
    except MemoryError:
        return False


class Ending:
    """Listens to the init; when all is over it says what there is to say, and sees to --oom-is-failure."""

    def __init__(self, init: Init, cgroups: "tuple[bytes, bytes] | None" = None) -> None:
        self.init = init
        self.causes: "set[str]" = set()  # those of MOMENTS that have come
        self.was_in_foreground = False
        self.left: "dict[int, str]" = {}  # what it has left behind, the first of them by name
        self.deaf: "tuple[list[str], int] | None" = None  # those that needed KILL: the first by name, and how many
        self.memory = Memory(*(cgroups or own_cgroups()))
        if init.status is not None:
            self.memory.before = b""  # too late: who was killed before it started is not told from who was later
            self.look_at_terminal(init.wait_status)
        init.listeners.append(self.listen)

    def listen(self, event: str, facts: "dict[str, int]") -> None:
        """Remember what may have to be told."""
        if event == "ended":
            self.look_at_terminal(facts["wait_status"])
        elif event == "over":
            self.init.sent |= _signal.sigpending()  # sent to all of a job at once, it may have come to COMMAND first
            self.tell()
        elif event == "left":
            pid = facts["pid"]
            self.left[pid] = name_of(pid) if len(self.left) < MOST_NAMES else ""
        elif event == "leftovers" and facts["signal"] == _signal.SIGKILL and self.init.options.grace > 0 and has_room():
            from tinyinit.why import name_leftovers

            self.deaf = name_leftovers(self.init)
        elif event in MOMENTS and not self.init.ended:
            self.causes.add(event)

    def look_at_terminal(self, wait_status: int) -> None:
        """Whether COMMAND had the terminal, now that it was killed, but before we take it back."""
        if posix.WIFSIGNALED(wait_status):
            self.was_in_foreground = on_terminal(posix.tcgetpgrp) == self.init.main

    @property
    def killer(self) -> int:
        """The signal that killed the main child; 0 if it exited."""
        status = self.init.wait_status
        return posix.WTERMSIG(status) if posix.WIFSIGNALED(status) else 0

    def was_killed_by_another(self) -> bool:
        """Whether a signal killed the main child that was neither ours nor typed, nor that of a closed pipe."""
        is_theirs = self.killer not in self.init.sent
        return self.killer not in (0, _signal.SIGPIPE) and is_theirs and not self.was_typed()

    def was_typed(self) -> bool:
        """Whether the main child was killed by what is typed at its terminal, or by that hanging up."""
        return self.was_in_foreground and self.killer in FROM_TERMINAL and self.killer not in self.init.sent

    def has_leaked(self) -> bool:
        """Whether COMMAND was content, unasked, and yet had left something behind that had to be ended."""
        init, was_asked = self.init, not self.init.sent.isdisjoint(TERMINATION_SIGNALS)
        is_content = init.wait_status == 0 and init.status == 0 and not was_asked
        return bool(self.left) and is_content and init.options.leftovers == "stop"

    def tell(self) -> None:
        """Say what there is to say, and see to --oom-is-failure."""
        kills = self.memory.kills()
        if kills and self.init.options.oom_is_failure and self.causes.isdisjoint(("timeout", "watchdog")):
            self.init.status = EXIT_OUT_OF_MEMORY
        is_odd = self.causes or kills or self.deaf or self.was_killed_by_another() or self.has_leaked()
        self.finish(kills, self.explain(kills) if is_odd else "")

    def finish(self, kills: int, text: str) -> None:
        """What else was asked for, once the line for people is known."""

    def explain(self, kills: int) -> str:
        """The line for people: written, and returned. Empty if there is none after all."""
        if not has_room():
            self.init.warn("no memory is left to say why COMMAND has ended")
            return ""
        from tinyinit.why import annotate, line

        text = line(self, kills)
        if text and self.init.options.verbosity > 0:
            write_line(text)
            annotate(self, text)
        return text


def remember(init: Init, start: Start) -> None:
    """Join the init before COMMAND runs, for --oom-is-failure."""
    init.ending = Ending(init)
