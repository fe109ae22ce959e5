"""The account of a job: what --report, --summary and --termination-log are made of.

init.py asks for this when there is one of these options. It listens while COMMAND runs, in bounded memory, and imports
what is heavy only when all is over. What the report looks like says report.schema.json.
"""

import _signal
import posix
import time

try:
    import resource  # wait4(2) imports it only after it has reaped: then, a status would be lost with what it needs
except ImportError:  # a Python without it: what is used is not told
    resource = None  # type: ignore[assignment]

from tinyinit.cgroup import Counters, own_cgroups
from tinyinit.ending import MOMENTS, Ending, has_room
from tinyinit.init import Init, Start
from tinyinit.leftovers import MANY, alive, look_up, start_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_LISTED = 50  # processes, of those that were adopted, and of those that were left behind
MOST_EVENTS, MOST_SIGNALS = 100, 80  # signals leave room for what decides
TOLD = {"came": "signal came", "sent": "signal sent", "signalled": "process signalled", "ended": "main child ended",
        "leftovers": "leftovers signalled", "stopped": "stopped", "spared": "spared",
        **{moment: moment for moment in MOMENTS}}  # fmt: skip
USAGE = ("user_seconds", "system_seconds", "peak_memory_bytes", "minor_page_faults", "major_page_faults",
         "voluntary_context_switches", "involuntary_context_switches")  # fmt: skip
RUSAGE = ("ru_utime", "ru_stime", "ru_maxrss", "ru_minflt", "ru_majflt", "ru_nvcsw", "ru_nivcsw")  # getrusage(2)


class Usage:
    """What processes have used, added up; the largest of them for memory."""

    def __init__(self) -> None:
        self.values: "list[float]" = [0.0, 0.0, 0, 0, 0, 0, 0]

    def add(self, usage: object) -> None:
        """Add what wait4(2) has said of one, whose memory is in KiB; nothing where it is not asked."""
        if usage is None:
            return
        new = [getattr(usage, name) for name in RUSAGE]
        largest = max(self.values[2], new[2] * 1024)
        self.values = [old + value for old, value in zip(self.values, new)]
        self.values[2] = largest

    def facts(self) -> "dict[str, float]":
        """As the report has them."""
        return {name: round(value, 6) for name, value in zip(USAGE, self.values)}


class Account(Ending):
    """Remembers what the init tells, the first of each kind whole and the others as a number."""

    def __init__(self, init: Init, were_here: "set[int]", log: "tuple[int, ...]", folder: str) -> None:
        cgroups = own_cgroups()
        super().__init__(init, cgroups)
        self.were_here, self.log, self.folder = were_here, log, folder
        self.pids = Counters("pids", ("pids.events", "pids.events"), *cgroups)
        self.cpu = Counters("cpu", ("cpu.stat", "cpu.stat"), *cgroups)
        self.started_at = time.time()
        self.usage: object = None
        self.main_usage, self.other_usage = Usage(), Usage()
        self.events: "list[dict[str, object]]" = []
        self.more_events = False
        self.came: "tuple[int, float, dict[str, int]]" = (0, 0.0, {})  # the signal that is being handled, and by whom
        self.last: "dict[int, tuple[float, dict[str, int]]]" = {}  # when each was sent to COMMAND last, and for whom
        self.forwarded: "dict[int, int]" = {}
        self.reaped = self.orphans = 0
        self.adopted: "dict[int, dict[str, object]]" = {}  # by PID, while they live
        self.listed: "list[dict[str, object]]" = []
        self.left_behind: "dict[int, dict[str, object]]" = {}
        self.count_left = 0
        self.sent_to_leftovers: "set[int]" = set()
        init.tells_all = True
        if resource:
            init.wait = self.wait

    def now(self) -> float:
        """Seconds since COMMAND was started."""
        return round(time.clock_gettime(time.CLOCK_BOOTTIME) - self.init.began, 3)

    def wait(self, pid: int, flags: int) -> "tuple[int, int]":
        """waitpid(2), for the init; what that process has used is kept until it is told of."""
        found, wait_status, self.usage = posix.wait4(pid, flags)
        return found, wait_status

    # -- what happens

    def listen(self, event: str, facts: "dict[str, int]") -> None:
        """Remember it."""
        super().listen(event, facts)
        if event == "reaped":
            return self.note_reaped(facts["pid"], facts["wait_status"])
        if event == "came" and facts["signal"] == _signal.SIGCHLD:
            return self.look_for_adopted()
        if event == "came":
            if facts["code"] > 0 and facts["signal"] >= _signal.SIGRTMIN:
                return  # the kernel's own, for what has come to NOTIFY_SOCKET
            self.came = facts["signal"], self.now(), sender_of(facts)
        elif event == "sent":
            self.note_sent(facts["signal"])
        elif event == "leftovers":
            self.note_sent(facts["signal"])
            self.sent_to_leftovers.add(facts["signal"])
        if event in TOLD:
            self.note_event(event, facts)
        if event == "ended":
            self.main_usage.add(self.usage)
            self.look_for_adopted()
            self.note_leftovers()

    def note_event(self, event: str, facts: "dict[str, int]") -> None:
        """Put it on the timeline, while there is room."""
        if len(self.events) >= (MOST_SIGNALS if event in ("came", "sent", "signalled") else MOST_EVENTS):
            self.more_events = True
            return
        told: "dict[str, object]" = {"at": self.now(), "what": TOLD[event]}
        if "signal" in facts:
            told["signal"] = facts["signal"]  # becomes name and number later on
        if event == "came":
            told["sender"] = sender_of(facts)
        elif "pid" in facts:
            told["pid"] = facts["pid"]
        self.events.append(told)

    def note_sent(self, number: int) -> None:
        """A signal went to COMMAND, or what it has left: on behalf of another, or from ourselves."""
        source, at, sender = self.came
        is_forwarded = source and self.init.options.rewrite.get(source, source) == number
        if is_forwarded:
            self.forwarded[number] = self.forwarded.get(number, 0) + 1
            was_killed = self.init.ended and posix.WIFSIGNALED(self.init.wait_status)
            if not self.init.ended or (was_killed and number not in self.last):
                self.last[number] = at, sender  # or it came too late to be why COMMAND has ended
            self.came = 0, 0.0, {}

    def note_reaped(self, pid: int, wait_status: int) -> None:
        """A child beside the main child was waited for."""
        self.reaped += 1
        self.other_usage.add(self.usage)
        if pid in self.were_here:
            self.were_here.discard(pid)
        else:
            self.orphans += 1
        known = self.adopted.pop(pid, None)
        if known is not None:
            known["ended"], known["how"] = self.now(), wait_status
        leftover = self.left_behind.get(pid)
        if leftover is not None and leftover["how"] == "":
            is_killed = posix.WIFSIGNALED(wait_status) and posix.WTERMSIG(wait_status) == _signal.SIGKILL
            leftover["how"] = "KILL" if is_killed else self.how_most_ended()

    def how_most_ended(self) -> str:
        """How a leftover has ended that KILL has not."""
        return "TERM" if _signal.SIGTERM in self.sent_to_leftovers else "waited for"

    # -- what is seen

    def own_children(self) -> "list[int]":
        """The PIDs of all that are our children now, but for COMMAND and what was there before it."""
        children = look_up()
        found = children(posix.getpid()) if children else []
        return [pid for pid in found if pid != self.init.main and pid not in self.were_here]

    def look_for_adopted(self) -> None:
        """Something has ended, so its children may have become ours: list them, while there is room."""
        if len(self.listed) >= MOST_LISTED:
            return
        for pid in self.own_children():
            if pid not in self.adopted and len(self.listed) < MOST_LISTED:
                told: "dict[str, object]" = {"pid": pid, "command": command_of(pid), "started": self.started(pid)}
                told.update({"adopted": self.now(), "ended": None, "how": None})
                self.adopted[pid] = told
                self.listed.append(told)

    def started(self, pid: int) -> float:
        """When a process was forked, in seconds since COMMAND was started."""
        return max(round(start_of(pid) / posix.sysconf("SC_CLK_TCK") - self.init.began, 3), 0.0)  # a tick is 10 ms

    def note_leftovers(self) -> None:
        """The main child has ended: list what is still alive, and count it."""
        for pid, is_spared in self.below():
            self.count_left += 1
            if len(self.left_behind) < MOST_LISTED:
                how = "spared" if is_spared else ""
                self.left_behind[pid] = {"pid": pid, "command": command_of(pid), "how": how}

    def below(self) -> "Iterator[tuple[int, bool]]":
        """What is alive below us, but for a main child that even KILL has not ended; at most MANY."""
        for count, (pid, is_spared) in enumerate(alive(self.init)):
            if count >= MANY:
                return
            if pid != self.init.main:
                yield pid, is_spared

    # -- when all is over

    def finish(self, kills: int, text: str) -> None:
        """Write what was asked for."""
        if not has_room():
            return self.init.warn("no memory is left to write the report, or what else was to be told")
        from tinyinit.tell import tell

        tell(self, kills, text)


def sender_of(facts: "dict[str, int]") -> "dict[str, int]":
    """Who sent a signal, as siginfo has it: with rt_sigqueueinfo(2) it may be anything."""
    return {"pid": max(facts["pid"], 0), "uid": max(facts["uid"], 0)}


def command_of(pid: int) -> str:
    """The command line of a process, cut, and safe to be shown; [comm] where that is not to be had."""
    if not has_room():
        return "[?]"
    from tinyinit.processes import command, parse_stat, read_start

    process = parse_stat(read_start(f"/proc/{pid}/stat"))
    return command(process, 200) if process else "[?]"


def signature(path: str) -> "tuple[int, ...]":
    """By which it is seen whether COMMAND has written to a file; empty if it is not there."""
    try:
        seen = posix.stat(path)
    except OSError:
        return ()
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns


def keep_account(init: Init, start: Start) -> None:
    """Have the account join the init."""
    options, children = init.options, look_up()
    were_here = set(children(posix.getpid())) if children else set()
    if options.report.startswith("fd:"):
        init.kept.add(int(options.report[3:]))
    try:
        folder = posix.getcwd()
    except OSError:
        folder = ""  # it was removed: a relative path leads nowhere
    log = signature(options.termination_log) if options.termination_log else ()
    init.ending = Account(init, were_here, log, folder)
