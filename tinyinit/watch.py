"""Orphans and zombies while COMMAND runs: --orphans and --zombies.

The kernel tells nobody that a process was adopted, or that another one does not reap. So the tree is looked at, twice
in the shorter TTL, and for both at once. Ages are counted in looks, not in seconds: the time for which we were stopped
with COMMAND, as by Ctrl-Z or `docker pause`, and in which nobody could reap, makes no process older.

* An orphan is a child of ours that is not COMMAND and was not there before it. One list tells them all.
* A zombie is found without reading what each process is: from the moment it ends it has no root directory any more, so
  one readlink(2) for each, instead of three calls, says that it is none.

A process is known by its PID and its start. A child of ours keeps its PID until we reap it, of which we are told; any
other may end at any moment, so it is held by a pidfd, and must then still be who it was, before it is signalled.

init.py asks for this when there is one of these options. That is on the way to COMMAND, so only built-in modules are
imported here.
"""

import _signal
import posix
import time

from tinyinit.ending import name_of
from tinyinit.init import Init, Start, write_line
from tinyinit.leftovers import (
    MOST_NAMES,
    NUM_THREADS,
    PPID,
    STARTTIME,
    STATE,
    children_of,
    hold,
    is_spared,
    look_up,
    parent_of,
    start_of,
    stat_fields,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Children = Callable[[int], list[int]]
    Who = tuple[int, int]  # the PID of a process, and its start as start_of() has it

LEAST_PAUSE = 0.02  # seconds between two looks, however short a TTL is
IDLE_SHARE = 20  # so many times as long as a look has taken is the pause after it, at least
WALK_SHARE = 8  # a tree is walked while it is smaller than one in so many of all processes, or else all are listed
STOPPED = (b"T", b"t")  # states of a process that cannot reap: proc(5)

# ---- what /proc says ------------------------------------------------------------------------------------------


def is_zombie(stat: "list[bytes]") -> bool:
    """Whether it waits to be reaped: not where its first thread has ended alone, which nobody can wait for."""
    return bool(stat) and stat[STATE] == b"Z" and int(stat[NUM_THREADS]) <= 1


def with_all_below(roots: "Iterable[Who]") -> "list[Who]":
    """These processes and all below them, parents first; without who is gone or spared, and what is below that."""
    children, roots = look_up() or children_of, set(roots)
    waiting, found = [(pid, 0) for pid, _ in roots], {}
    for pid, parent in waiting:  # which grows meanwhile
        stat = stat_fields(pid)
        who = (pid, int(stat[STARTTIME])) if stat else (0, 0)
        is_theirs = int(stat[PPID]) == parent if stat and parent else who in roots
        if is_theirs and who not in found and not is_spared(pid):
            found[who] = True
            waiting += [(child, pid) for child in children(pid)]
    return list(found)


def all_to_look_at(init: Init, children: "Children") -> "list[int]":
    """The PIDs of all below us: the tree walked, or where that is a good part of all, all that /proc lists.

    A process costs three times as much to walk to as to list, so either way the cost is linear in the tree's size.
    """
    if not init.is_pid_1 and children is children_of:
        most = posix.stat("/proc").st_nlink // WALK_SHARE  # of which each process is one
        found = children(posix.getpid())
        for pid in found:  # which grows meanwhile
            if len(found) > most:
                break
            found += children(pid)
        else:
            return found
    return [int(name) for name in posix.listdir("/proc") if name.isdigit()]


def find_zombies(pids: "Iterable[int]") -> "list[tuple[Who, int]]":
    """The zombies among these processes, each with the PID of its parent."""
    found = []
    for pid in pids:
        try:
            posix.readlink(f"/proc/{pid}/root")
        except OSError:  # it has ended, or is of another user
            stat = stat_fields(pid)
            if is_zombie(stat):
                found.append(((pid, int(stat[STARTTIME])), int(stat[PPID])))
    return found


# ---- the looks, and the means ---------------------------------------------------------------------------------


class Watch:
    """Looks at the tree from time to time, by a deadline of the init, and signals whom the looks have found."""

    def __init__(self, init: Init) -> None:
        self.init, self.own = init, posix.getpid()
        self.count = 0  # of the looks so far, by which ages are counted
        self.main_start = 0
        children = look_up()
        self.were_here = set(children(self.own)) if children else set()  # and belong to who was here before us
        options = init.options
        ttls = [options.orphan_ttl] * (options.orphans != "keep") + [options.zombie_ttl] * (options.zombies != "ignore")
        self.pause = max(min(ttls) / 2, LEAST_PAUSE)
        self.orphans = Orphans(self) if options.orphans != "keep" else None
        self.zombies = Zombies(self) if options.zombies != "ignore" else None
        init.listeners.append(self.listen)
        init.tells_all = True

    def looks_in(self, ttl: float) -> float:
        """How many looks later so many seconds have passed; not a number, and so never, if they are infinite."""
        return -(-ttl // self.pause)

    def listen(self, event: str, facts: "dict[str, int]") -> None:
        """Begin with COMMAND, and forget whom we have reaped: another one may get that PID."""
        if event == "started":
            self.main_start = start_of(facts["pid"])
            self.init.set_deadline("watch", self.pause, self.look)
        elif event == "reaped":
            self.were_here.discard(facts["pid"])
            if self.orphans:
                self.orphans.forget(facts["pid"])
        elif event == "ended":
            self.init.deadlines.pop("watch", None)  # what is left is ended now, or waited for

    def look(self) -> None:
        """Look at the tree once, and again after the pause, whatever came of it."""
        if self.init.status is not None:
            return
        begin = time.monotonic()
        self.count += 1
        try:
            children = look_up()
            if children is None:
                self.init.warn("without /proc orphans and zombies are not seen: mount it")
                return
            if self.orphans:
                self.orphans.look(children)
            if self.zombies:
                self.zombies.look(children)
        finally:
            pause = max(self.pause, IDLE_SHARE * (time.monotonic() - begin))
            self.init.set_deadline("watch", pause, self.look)

    def say(self, text: str) -> None:
        """Tell what was found; not by warn(), which remembers for ever what it has said."""
        if self.init.options.verbosity > 0:
            write_line("warning: " + text)

    def end(self, what: object, look: "Callable[[], Iterable[Who]]") -> None:
        """TERM and CONT to those that `look` finds; after the grace KILL to those that it finds then."""

        def send_all(*numbers: int) -> None:
            for who in look():
                self.send(who, *numbers)

        if self.init.options.grace > 0:
            send_all(_signal.SIGTERM, _signal.SIGCONT)  # a stopped one would not see TERM alone
        self.init.set_deadline(f"end {what}", self.init.options.grace, lambda: send_all(_signal.SIGKILL))

    def send(self, who: "Who", *numbers: int) -> None:
        """Send these signals to a process, if it is still there, and to no other that has got its PID."""
        pid, start = who
        held = hold(pid)
        try:
            if start_of(pid) == start:
                for number in numbers:
                    _signal.pidfd_send_signal(held, number) if held >= 0 else posix.kill(pid, number)
                    self.init.emit("signalled", pid=pid, signal=number)
        except ProcessLookupError:
            return  # it has ended by itself
        except PermissionError:
            self.init.warn(f"may not signal {name_of(pid)}, which runs as another user")
        finally:
            if held >= 0:
                posix.close(held)


# ---- orphans --------------------------------------------------------------------------------------------------

ORPHAN_REMEDIES = {
    "warn": "let who starts a process wait for it, or see --orphans stop",
    "stop": "ended now, with all below; TINYINIT_SPARE=1 in the environment of a process spares it",
}


class Orphans:
    """--orphans: children of ours that have come to us since COMMAND runs, and stay."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.options = watch, watch.init.options
        self.ttl = watch.looks_in(self.options.orphan_ttl)
        self.waiting: "dict[int, tuple[int, int]]" = {}  # PID: its start, and the look that saw it first
        self.settled: "set[int]" = set()  # PIDs of those that were named, ended, or are left alone

    def forget(self, pid: int) -> None:
        """We have reaped this child."""
        self.waiting.pop(pid, None)
        self.settled.discard(pid)

    def look(self, children: "Children") -> None:
        """Take in new children of ours, and see to those whose time is over."""
        watch = self.watch
        for pid in children(watch.own):
            if pid not in self.waiting and pid not in self.settled and pid != watch.init.main:
                self.take_in(pid)
        due = [(pid, start) for pid, (start, first) in self.waiting.items() if watch.count - first >= self.ttl]
        orphans = [who for who in due if self.is_abandoned(who)]
        if orphans:
            self.tell([pid for pid, _ in orphans])
        if orphans and self.options.orphans == "stop":
            self.end(dict.fromkeys(orphans))
        # a table that has grown stays as large as it was, but a copy has the size of what is in it
        self.waiting, self.settled = dict(self.waiting), set(self.settled)

    def end(self, found: "dict[Who, None]") -> None:
        """End these orphans, and all that is found below them by then."""

        def look() -> "Iterable[Who]":
            found.update(dict.fromkeys(with_all_below(found)))
            return found

        self.watch.end(f"orphans {self.watch.count}", look)

    def take_in(self, pid: int) -> None:
        """Remember a child that is new. What is older than COMMAND cannot come from it."""
        start = start_of(pid)
        if pid in self.watch.were_here or start < self.watch.main_start:
            self.settled.add(pid)
        else:
            self.waiting[pid] = (start, self.watch.count)

    def is_abandoned(self, who: "Who") -> bool:
        """Whether the time of an orphan is over; that is asked once, unless it cannot be answered yet."""
        pid, start = who
        stat = stat_fields(pid)
        if not stat or int(stat[STARTTIME]) != start or stat[STATE] == b"D" or is_zombie(stat):
            # in state D it may hold the lock of the memory in which its environment is to be read (proc(5))
            return False
        del self.waiting[pid]
        self.settled.add(pid)
        if is_spared(pid):
            self.watch.init.emit("spared", pid=pid)
            return False
        return True

    def tell(self, pids: "list[int]") -> None:
        """Name these orphans, in one line."""
        names = ", ".join(name_of(pid) for pid in pids[:MOST_NAMES])
        more = f" and {len(pids) - MOST_NAMES} more" if len(pids) > MOST_NAMES else ""
        what = "has been an orphan" if len(pids) == 1 else "have been orphans"
        ttl, remedy = self.options.orphan_ttl, ORPHAN_REMEDIES[self.options.orphans]
        self.watch.say(f"{names}{more} {what} for {ttl:g} s: {remedy}")


# ---- zombies --------------------------------------------------------------------------------------------------

ZOMBIE_REMEDIES = {
    "warn": "let it wait for its children, also for those that it has not started itself, or see --zombies nudge",
    "nudge": "it is sent SIGCHLD; let it wait for its children, also for those that it has not started itself",
    "stop": "it is sent SIGCHLD, and ended if that does not help",
}


class Culprit:
    """A parent that does not reap."""

    def __init__(self, may_be_ended: bool) -> None:
        self.may_be_ended = may_be_ended
        self.is_ending = False
        self.told = 0  # how many zombies it was named for
        self.count = 0  # how many of its zombies had been there too long, at the last look
        self.since = 0  # the look at which SIGCHLD was sent first, or had last helped
        self.nudged = 0  # the look at which it was sent last


class Zombies:
    """--zombies: those that another process of the tree, which is their parent, does not reap."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.options = watch, watch.init.options
        self.ttl = watch.looks_in(self.options.zombie_ttl)
        self.since: "dict[Who, int]" = {}  # for each zombie the look that saw it first
        self.culprits: "dict[Who, Culprit]" = {}

    def look(self, children: "Children") -> None:
        """Find all zombies that are not ours to reap, and see to the parents of those whose time is over."""
        count, by_parent = self.watch.count, self.by_parent(children)
        self.since = {who: self.since.get(who, count) for zombies in by_parent.values() for who in zombies}
        overdue = {
            parent: [count - self.since[who] for who in zombies if count - self.since[who] >= self.ttl]
            for parent, zombies in by_parent.items()
        }
        for parent in [each for each in self.culprits if not overdue.get(each)]:
            self.culprits[parent].count = 0
            if start_of(parent[0]) != parent[1]:
                del self.culprits[parent]
        for parent, ages in overdue.items():
            culprit = self.culprit(parent) if ages else None
            if culprit:
                self.see_to(parent, culprit, ages)

    def by_parent(self, children: "Children") -> "dict[Who, list[Who]]":
        """The zombies of each parent that could reap them: not of us, who do, nor of one that is stopped."""
        found: "dict[int, list[Who]]" = {}
        for who, ppid in find_zombies(all_to_look_at(self.watch.init, children)):
            if ppid != self.watch.own:
                found.setdefault(ppid, []).append(who)
        parents = {}
        for ppid, zombies in found.items():
            stat = stat_fields(ppid)
            # if they still are its children it was there all the time, and what was read is its own
            if stat and stat[STATE] not in STOPPED and parent_of(zombies[0][0]) == ppid:
                parents[ppid, int(stat[STARTTIME])] = zombies
        return parents

    def culprit(self, parent: "Who") -> "Culprit | None":
        """What is known of a parent; None if it does not descend from COMMAND."""
        if parent not in self.culprits:
            pid, above = parent[0], parent_of(parent[0])
            while above > 0 and above != self.watch.own:
                pid, above = above, parent_of(above)
            if above != self.watch.own or pid in self.watch.were_here or parent[1] < self.watch.main_start:
                return None
            self.culprits[parent] = Culprit(parent[0] != self.watch.init.main and not is_spared(parent[0]))
        return self.culprits[parent]

    def see_to(self, parent: "Who", culprit: Culprit, ages: "list[int]") -> None:
        """Name, nudge, end a parent, whose zombies have been there for so many looks."""
        if culprit.is_ending:
            return
        if len(ages) >= 2 * culprit.told:  # the first time, and then only if it has become a lot worse
            culprit.told = len(ages)
            self.tell(parent, culprit)
        if self.options.zombies == "warn":
            return
        if not culprit.count or len(ages) < culprit.count:
            culprit.since = self.watch.count
        is_over = self.watch.count - culprit.since >= self.ttl and max(ages) >= 2 * self.ttl
        if is_over and self.options.zombies == "stop" and culprit.may_be_ended:
            culprit.is_ending = True
            self.watch.say(f"SIGCHLD did not help, {name_of(parent[0])} is ended, so that its zombies come to tinyinit")
            self.watch.end(parent, lambda: [parent])
        # again after a TTL, for it may have come together with another one, and then it is only one
        elif len(ages) != culprit.count or self.watch.count - culprit.nudged >= self.ttl:
            culprit.count, culprit.nudged = len(ages), self.watch.count
            self.watch.send(parent, _signal.SIGCHLD)

    def tell(self, parent: "Who", culprit: Culprit) -> None:
        """Name a parent, in one line."""
        what = "1 zombie is" if culprit.told == 1 else f"{culprit.told} zombies are"
        remedy = ZOMBIE_REMEDIES[self.options.zombies]
        if self.options.zombies == "stop" and not culprit.may_be_ended:
            is_main = parent[0] == self.watch.init.main
            remedy = ZOMBIE_REMEDIES["nudge"] + ("; COMMAND itself is never ended for them" if is_main else "")
        who, ttl = name_of(parent[0]), self.options.zombie_ttl
        self.watch.say(f"{what} not reaped by {who} for {ttl:g} s: {remedy}")


def keep_watch(init: Init, start: Start) -> None:
    """Have the watch join the init."""
    Watch(init)
