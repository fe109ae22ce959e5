"""Time limits: --timeout, --on-timeout-signal and --kill-after; and the end of it all that --die-with-parent asks for.
What COMMAND says of them, and --watchdog, is in notify.py.

init.py asks for this when there is one of these options. That is on the way to COMMAND, so only built-in modules are
imported here.
"""

import _signal
import posix

from tinyinit.ending import has_room
from tinyinit.init import ALL_SIGNALS, JOB_CONTROL_STOPS, TERMINATION_SIGNALS, Init, Start, write_line
from tinyinit.leftovers import FLAGS, LAST_GRACE, NUM_THREADS, PF_EXITING, read_file, stat_fields

EXIT_TIMED_OUT = 124  # as with timeout(1)
EVIDENCE_TIME = 1.0  # seconds that COMMAND has for what --on-timeout-signal makes it write
MOST_ROWS = 100  # of the process tree on a timeout
SIGWAIT = ([b"128"], [b"137"])  # rt_sigtimedwait(2) on x86_64 and aarch64, as /proc/PID/syscall has it
DEADLY = {_signal.SIGKILL} | ALL_SIGNALS - {  # by default, but for these: signal(7)
    _signal.SIGCHLD, _signal.SIGCONT, _signal.SIGURG, _signal.SIGWINCH, *JOB_CONTROL_STOPS,
}  # fmt: skip


class Limits:
    """Ends COMMAND when its time is over: by deadlines of the init, set by what it tells."""

    def __init__(self, init: Init) -> None:
        self.init = init
        self.kill_after = init.options.kill_after
        self.is_past = False  # COMMAND has got a signal because its time was over
        self.would_have_died = False  # of that signal, so that if it exits, it did so just before
        self.is_extended = False  # COMMAND has asked for more time, and got it
        self.command_status = b""  # what it says of itself
        init.judge = self.judge
        init.listeners.append(self.listen)
        init.tells_all = True

    def listen(self, event: str, facts: "dict[str, int]") -> None:
        """Set the deadlines: --timeout from COMMAND's start on, --kill-after from the first termination signal on."""
        if event == "started":
            self.init.set_deadline("timeout", self.init.options.timeout, self.pass_timeout)
        elif event == "sent" and facts["signal"] in TERMINATION_SIGNALS:
            self.kill_later()

    def kill_later(self) -> None:
        """Set the deadline of --kill-after, if it is not set yet."""
        if self.kill_after is not None and "kill after" not in self.init.deadlines:
            self.init.set_deadline("kill after", self.kill_after, self.kill)

    # -- the timeout

    def pass_timeout(self) -> None:
        """COMMAND's time is over. Evidence first: the process tree as it is, and what --on-timeout-signal brings."""
        number = self.init.options.on_timeout_signal
        self.init.emit("timeout")
        if self.init.options.verbosity > 0:
            self.show_tree()
        if number and self.is_running_past(number):
            before = self.init.deadlines.get("kill after")
            self.init.send(number)
            if before is None:
                self.init.deadlines.pop("kill after", None)  # which QUIT has set
            self.init.set_deadline("evidence", EVIDENCE_TIME, self.time_out)
        else:
            self.time_out()

    def time_out(self) -> None:
        """TERM to COMMAND, unless it has ended by itself just now: then its own status counts."""
        self.is_running_past(_signal.SIGTERM)
        self.terminate()

    def show_tree(self) -> None:
        """Write what runs, a line for each process."""
        more = " and the time that it has asked for" if self.is_extended else ""
        limit = f"{self.init.options.timeout:g} s, which is its --timeout{more}"
        write_line(f"COMMAND has run for {limit}{self.status_line()}; what runs now:")
        if not has_room():
            return self.init.warn("the process tree cannot be shown: no memory is left")
        try:
            from tinyinit.processes import own_table
            from tinyinit.why import Folded

            with Folded(self.init.options.annotations, "what ran at the timeout"):
                for row in own_table(self.init.main, MOST_ROWS):
                    write_line(row)
        except Exception as error:
            self.init.warn(f"the process tree cannot be shown: {error}")

    def status_line(self) -> str:
        """` (STATUS=...)`, as COMMAND has said last; empty if it has not, or it cannot be shown."""
        if not self.command_status or not has_room():
            return ""
        try:
            from tinyinit.processes import LONGEST_COMMAND, printable
        except Exception:
            return ""  # there is no memory, or COMMAND has deleted what we are installed in
        return f" (STATUS={printable(self.command_status)[:LONGEST_COMMAND]})"

    def is_running_past(self, number: int) -> bool:
        """Whether COMMAND still runs, now that its time is over, and is about to get this signal.

        It may just be exiting, and then its own status counts: where the kernel says so already; and later on where it
        has exited although the signal would have killed it.
        """
        self.init.actions[_signal.SIGCHLD](None)
        if self.init.status is None and not self.is_past:
            self.is_past = True
            self.would_have_died = number in DEADLY and is_default(self.init.main, number)
            stat = stat_fields(self.init.main)
            if len(stat) > NUM_THREADS and int(stat[FLAGS]) & PF_EXITING and stat[NUM_THREADS] == b"1":
                self.would_have_died = True
        return self.init.status is None

    def judge(self, wait_status: int) -> int:
        """124 if it was its timeout that ended COMMAND; else its own status."""
        if self.is_past and not (self.would_have_died and posix.WIFEXITED(wait_status)):
            return EXIT_TIMED_OUT
        return self.init.own_status(wait_status)

    # -- the end

    def outlive_parent(self) -> None:
        """Our parent has died, so COMMAND's time is over."""
        self.init.emit("parent died")
        self.terminate()

    def terminate(self) -> None:
        """TERM to COMMAND, KILL after --kill-after or else the grace; and then what it leaves behind is ended too."""
        init, init.must_end = self.init, True
        if init.status is not None:
            return init.end_leftovers() if init.options.leftovers == "wait" else None
        if self.kill_after is None:
            self.kill_after = init.options.grace
        init.send(_signal.SIGTERM)
        init.send(_signal.SIGCONT)  # or a stopped one in the group would not see the first

    def kill(self) -> None:
        """KILL to the main group, if the main child still lives; it is not waited for for ever."""
        if self.init.status is None:
            self.init.emit("kill after")
            self.init.send(_signal.SIGKILL)
            self.init.set_deadline("not killed", max(self.init.options.grace, LAST_GRACE), self.give_up)

    def give_up(self) -> None:
        """KILL has not ended the main child, which is in state D: go on as if it had."""
        if self.init.status is None:
            self.init.warn(f"COMMAND (pid {self.init.main}) is not ended by KILL; look at what it waits for")
            self.init.status = self.judge(_signal.SIGKILL)  # which is also what waitpid(2) would say
            self.init.is_ending = True
            self.init.end_leftovers()


def is_default(pid: int, number: int) -> bool:
    """Whether a process takes a signal as its default says: it neither catches, ignores nor blocks it (proc(5)).

    In sigwaitinfo(2) the kernel shows what it waits for as not blocked, so who is in there does not.
    """
    if b"sigtimedwait" in read_file(f"/proc/{pid}/wchan") or read_file(f"/proc/{pid}/syscall").split()[:1] in SIGWAIT:
        return False
    fields = dict(line.split(b":\t", 1) for line in read_file(f"/proc/{pid}/status").split(b"\n") if b":\t" in line)
    masks = [fields.get(name, b"0") for name in (b"SigBlk", b"SigIgn", b"SigCgt")]
    return bool(fields) and not any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def limit(init: Init, start: Start) -> None:
    """Have the limits join the init, hear what COMMAND says, and end all with our parent, if that was asked for."""
    limits, options = Limits(init), init.options
    if options.die_with_parent:
        from tinyinit.parent import follow_parent

        follow_parent(init, start, limits.outlive_parent)
    if options.notify or min(options.timeout, options.watchdog) != float("inf"):
        from tinyinit.notify import hear_command

        hear_command(init, start, limits)
