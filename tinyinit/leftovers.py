"""What COMMAND has left behind, found by its parents, for a tinyinit that is not PID 1.

A process can leave its group and its session, but not its ancestors: when its parent dies, the kernel makes it a child
of the nearest subreaper, which is us. So all that descends from COMMAND hangs below us in the lists of children that
/proc keeps (proc(5)), and nothing else does.

Nobody else is ever signalled. A child of ours keeps its PID until we reap it. Any deeper process may end while we look,
and its PID be given to another: so it is held by a pidfd (pidfd_open(2)), and must then still have its parent, or us.

init.py imports this as soon as COMMAND runs, so only built-in modules are imported here.
"""

import _signal
import posix
import time

from tinyinit.init import PAUSE_AFTER_KILL, Init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Children = Callable[..., list[int]]

# Fields 3, 4, 9, 20, 22, 28, 32, 34 and 48 to 51 of /proc/PID/stat, as stat_fields() has them.
STATE, PPID, FLAGS, NUM_THREADS, STARTTIME, STARTSTACK, ARGUMENTS_TO_ENVIRONMENT = 0, 1, 6, 17, 19, 25, slice(45, 49)
BLOCKED, CAUGHT, TERM_BIT = 29, 31, 1 << _signal.SIGTERM - 1  # and masks of signals
PF_EXITING = 0x4  # one of the flags: it is in exit(2), where no signal reaches it (linux/sched.h)
PF_KTHREAD = 0x200000  # another: it is a kernel thread
LAST_PID = "/proc/sys/kernel/ns_last_pid"  # what was forked last in our namespace; not in all kernels: proc(5)
SPARE = b"TINYINIT_SPARE=1"
PASSES = 3  # a list of children may lack some that were forked, or whose siblings ended, while it was read: proc(5)
WALKS = 10  # down the tree with TERM, at most, until a walk finds nobody new: who forks all the time waits for KILL
PAUSE_BEFORE_LOOK = 0.1  # seconds in which what was just forked has become what it is to be
PAGE = 4096  # bytes: no more of most files does /proc return at once, and for as many there is memory
LAST_READ = 2048  # bytes: what /proc returns less than that of has been read to its end
SHORT = 479  # bytes: so many have room in what Python keeps for small objects; malloc would keep some of each size
LONGEST_ENVIRONMENT = 6 * 1024 * 1024  # bytes: execve(2) takes no more, but PR_SET_MM_MAP says that all memory is one
SCARCE = (12, 23, 24)  # ENOMEM, ENFILE, EMFILE: it is not the process that has ended
RESERVE = 1 << 14  # bytes that the search may have, when there is no other memory
MANY = 1000  # processes that are ours; the whole machine has hardly many times as many
DYING = "RZX"  # the states of a process that was killed and only needs the processor, or its parent: proc(5)
LAST_GRACE = 5.0  # seconds that KILL may take at least, as long as something is seen to be ending
MOST_NAMES = 10  # in one message

# ---- what /proc says ------------------------------------------------------------------------------------------


def read_file(path: str, most: float = float("inf")) -> bytes:
    """A file of /proc, from so many bytes on cut; empty if it cannot be read: it has ended, or is another user's."""
    try:
        file = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as failure:
        return none_of(failure)
    try:
        content = chunk = posix.read(file, SHORT)
        least = SHORT
        while len(chunk) >= least and len(content) < most:
            chunk = posix.read(file, len(content) + PAGE)
            content += chunk
            least = LAST_READ
        return content
    except OSError as failure:
        return none_of(failure)
    finally:
        posix.close(file)


def none_of(failure: OSError) -> bytes:
    """Nothing, for a process that has ended. The error again, where memory or descriptors have."""
    if failure.errno in SCARCE:
        raise failure
    return b""


def stat_text(pid: int) -> bytes:
    """/proc/PID/stat from the third field on: the name before them may hold anything. Empty if it has ended."""
    return read_file(f"/proc/{pid}/stat").rpartition(b")")[2]


def stat_fields(pid: int) -> "list[bytes]":
    """The fields of stat_text(), for which STATE and the others are the numbers."""
    return stat_text(pid).split()


def parent_of(pid: int) -> int:
    """The PID of a process's parent; -1 if it has ended."""
    return int((stat_fields(pid) or [b"", b"-1"])[PPID])


def start_of(pid: int, stat: "list[bytes] | None" = None) -> int:
    """When a process started, in clock ticks since boot; 0 if it has ended. `stat` may have been read before."""
    stat = stat_fields(pid) if stat is None else stat
    return int(stat[STARTTIME]) if stat else 0


def children_of(pid: int, has_one_thread: bool = False) -> "list[int]":
    """The children of a process, zombies too; none if it has ended. A child belongs to the thread that forked it."""
    tasks = f"/proc/{pid}/task"
    try:  # ourselves have one, and opendir(3) needs 32 KiB that there may not be any more
        threads = [str(pid)] if has_one_thread or pid == posix.getpid() else posix.listdir(tasks)
    except OSError as failure:
        return list(none_of(failure))
    return [int(child) for thread in threads for child in read_file(f"{tasks}/{thread}/children").split()]


def look_at_all() -> "tuple[Children, dict[int, bytes]]":
    """The same from one look at every process of the machine, and the stat_text() of each.

    For kernels without the lists (CONFIG_PROC_CHILDREN); and it takes half as long for each process.
    """
    children: "dict[int, list[int]]" = {}
    texts = {int(name): stat_text(int(name)) for name in posix.listdir("/proc") if name.isdigit()}
    for pid, text in texts.items():
        if text:
            children.setdefault(int(text.split(None, PPID + 1)[PPID]), []).append(pid)
    return lambda pid, has_one_thread=False: children.get(pid, []), texts


def look_up() -> "Children | None":
    """How to find the children of a process; None where /proc is missing, or is that of another PID namespace."""
    own = posix.getpid()
    try:
        if posix.readlink("/proc/self") != str(own):
            return None
        posix.stat(f"/proc/{own}/task/{own}/children")
    except FileNotFoundError:
        return look_at_all()[0] if stat_fields(own) else None
    except OSError:
        return None
    return children_of


def is_alive(stat: "list[bytes]") -> bool:
    """Whether a process has not ended, and is not about to, as in exit(2); and is not one of the kernel's own."""
    return bool(stat) and stat[STATE] not in (b"Z", b"X") and not int(stat[FLAGS]) & (PF_EXITING | PF_KTHREAD)


def image_in(stat: "list[bytes]") -> bytes:
    """Where the stack, arguments and environment lie. execve(2) puts them at random: it is that of who only forked."""
    return b" ".join([*stat[STARTSTACK : STARTSTACK + 1], *stat[ARGUMENTS_TO_ENVIRONMENT]])


def is_spared(pid: int, stat: "list[bytes] | None" = None) -> bool:
    """Whether a process was started with TINYINIT_SPARE=1 in its environment. `stat` may have been read before.

    In state D it may hold the lock of the memory where that lies, and we would wait for it (proc(5)).
    """
    stat = stat_fields(pid) if stat is None else stat
    if stat[:1] in ([], [b"D"], [b"Z"]):
        return False
    return SPARE in read_file(f"/proc/{pid}/environ", LONGEST_ENVIRONMENT).split(b"\0")


def group_of(pid: int) -> int:
    """A process's group; 0 if it has ended."""
    try:
        return posix.getpgid(pid)
    except OSError:
        return 0


def hold(pid: int) -> int:
    """A pidfd; -1 where there are none (Linux before 5.3, seccomp(2)), none is free, or the process has ended."""
    try:
        return posix.pidfd_open(pid)
    except (OSError, AttributeError):
        return -1


def was_before(init: Init, pid: int, start: int) -> bool:
    """Whether a child of ours was there before COMMAND. Of two that started in one clock tick the lower PID is older.

    Unless PIDs have begun again from below meanwhile: then it is lower by nearly all that there are (proc(5), pid_max).
    """
    began = int(init.began * posix.sysconf("SC_CLK_TCK"))
    if start != began:
        return start < began
    return 0 < init.main - pid < int(read_file("/proc/sys/kernel/pid_max") or b"32768") // 2


def alive(init: Init) -> "Iterator[tuple[int, bool]]":
    """The PIDs of all that COMMAND has left alive, and whether each is spared; as PID 1 of all in the namespace."""
    children, own = look_up(), posix.getpid()
    if children and init.is_pid_1:
        found = [int(name) for name in posix.listdir("/proc") if name.isdigit() and name != "1"]
    else:
        found = children(own) if children else []
    for pid in found:  # which grows meanwhile
        stat = stat_fields(pid)
        is_left_alone = False
        if children and not init.is_pid_1:
            if was_before(init, pid, start_of(pid, stat)):
                continue  # it was our child before COMMAND
            is_left_alone = is_spared(pid, stat)
            found += [] if is_left_alone else children(pid)
        if is_alive(stat):
            yield pid, is_left_alone


# ---- what cannot be ended -------------------------------------------------------------------------------------


def look_at_survivors(init: Init, last: float = 0.0, before: "list[str] | None" = None) -> None:
    """One more grace has passed since KILL: name what is left.

    It is not over yet if some are seen to be ending, or are others than `before`: forked since, and yet to be killed.
    """
    names, are_dying = survivors(with_spared=init.is_pid_1)
    last = last or time.monotonic() + LAST_GRACE - init.options.grace
    if names and (are_dying or names != before) and time.monotonic() < last:
        init.is_over = False
        init.set_deadline("give up", PAUSE_AFTER_KILL, lambda: look_at_survivors(init, last, names))
        return
    init.is_over = True
    if names:
        named = ", ".join(names[:MOST_NAMES])
        more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        init.warn(f"KILL does not end {named}{more}; look at what they wait for, and whose they are")


def survivors(with_spared: bool) -> "tuple[list[str], bool]":
    """All who are below us, by name, PID and state; and whether one is ending, or only needs the processor for it."""
    children = look_up()
    below = children(posix.getpid()) if children else []
    names, are_dying, ours = [], False, set(below)
    for pid in below:  # which grows meanwhile
        stat = stat_fields(pid)
        if is_spared(pid, stat) and not with_spared:
            continue
        below += children(pid) if children else []
        state = stat[STATE].decode() if stat else "?" if pid in ours else "X"  # of ours none is gone, but one is hidden
        are_dying = are_dying or state in DYING or bool(stat and int(stat[FLAGS]) & PF_EXITING)
        name = read_file(f"/proc/{pid}/comm").decode("utf-8", "replace").rstrip("\n")
        names.append(f"{name!r} (pid {pid}, state {state})")
    return names, are_dying


# ---- whom to signal -------------------------------------------------------------------------------------------


class Descendants:
    """All processes below tinyinit, but for those that are left alone, and what is below these.

    Left alone is what has TINYINIT_SPARE=1 in its environment, and what was our child before COMMAND: a shell that does
    `exec > >(tee log); exec tinyinit COMMAND` leaves us its tee, which is to see the end of the output.
    """

    def __init__(self, init: Init) -> None:
        self.init = init
        self.own = posix.getpid()
        self.reserve = bytes(RESERVE)
        self.told: "set[int]" = set()
        self.missed: "set[int]" = set()  # in the last walk
        self.cleaners: "set[int]" = set()  # who handles this TERM, and what these have forked since
        self.tells_left = True  # who is still there, the first time that they are signalled
        children = look_up()
        try:
            starts = {pid: start_of(pid) for pid in (children(self.own) if children else [])}
            self.were_here = {pid: start for pid, start in starts.items() if was_before(init, pid, start)}
        except (OSError, MemoryError):
            self.were_here = {}

    def signal(self, numbers: "list[int]") -> None:
        """Send these signals, one after the other, to each; with none only look whether it is over, now and later."""
        if look_up() is None:
            self.init.warn("without /proc only those of COMMAND's process group are ended: mount it")
            return self.signal_main_group(numbers)
        if not numbers:
            self.init.actions[_signal.SIGCHLD] = self.reap
        reached: "set[int]" = set()
        self.reserve = b""
        self.cleaners = set()
        try:
            for _ in range(WALKS if _signal.SIGTERM in numbers else 1):
                before = set(reached)
                if before:
                    self.init.reap()
                if self.walk(numbers, reached, before):
                    break
        except (OSError, MemoryError):
            self.init.warn("no memory or descriptor is left to find all that COMMAND left behind: see ulimit -n and -v")
            return self.signal_main_group(numbers)
        self.tells_left = self.tells_left and not numbers
        if self.told and not reached:
            self.look()
        self.reserve = bytes(RESERVE)

    def walk(self, numbers: "list[int]", reached: "set[int]", before: "set[int]", by_group: bool = True) -> bool:
        """Go down the tree once, and signal who is not in `reached` yet; the main group at the end, at once.

        Not those whose living parent was there `before`, in the last walk, and handles TERM: forked to clean up; nor
        what these fork.
        Returns whether nobody was new, or can have been missed: forked, or become our child, after we had looked there.
        """
        children, main, last = look_up() or children_of, self.init.main, read_file(LAST_PID)
        as_seen = children
        texts: "dict[int, bytes]" = {}
        found = [(pid, self.own) for pid in children(self.own)]
        # while a child of ours is in it, until it is reaped, the group's number is nobody else's (setpgid(2))
        by_group = by_group and any(group_of(pid) == main for pid, _ in found)
        members: "set[int]" = set()
        images: "dict[int, bytes]" = {}
        for number, (pid, parent) in enumerate(found):  # which grows meanwhile
            if number == MANY and children is children_of:
                as_seen, texts = look_at_all()  # for members, who get their signal at the end anyway
            is_member = by_group and group_of(pid) == main
            held = -1 if is_member or parent == self.own else hold(pid)
            try:
                stat = texts[pid].split() if is_member and pid in texts else stat_fields(pid)
                if not stat and parent == self.own:  # another user's, and hidden: hidepid in proc(5)
                    if not is_member:
                        self.send(pid, [0] if pid in reached else numbers)
                    (members if is_member else reached).add(pid)
                if not stat or int(stat[PPID]) not in (parent, self.own):
                    continue  # it has ended
                images[pid] = image_in(stat)
                is_new = pid not in reached and (parent not in self.cleaners or pid in self.missed)
                handles_term = pid in before and (int(stat[BLOCKED]) | int(stat[CAUGHT])) & TERM_BIT
                if handles_term or (pid not in reached and not is_new):
                    self.cleaners.add(pid)
                # who has executed nothing since it was forked has the environment of its parent, which is not spared
                if pid not in reached and images[pid] != images.get(parent) and self.is_left_alone(pid, stat):
                    if is_member:
                        return self.walk(numbers, reached, before, by_group=False)
                    continue
                below = (as_seen if is_member else children)(pid, has_one_thread=stat[NUM_THREADS] == b"1")
                if self.tells_left and numbers and is_new and is_alive(stat) and pid != main:
                    self.init.emit("left", pid=pid)
                is_there = group_of(pid) == main if is_member else self.send(pid, numbers if is_new else [0], held)
                found += [(child, pid) for child in below if is_there]  # or they may be those of who got its PID
                (members if is_member else reached).add(pid)
            finally:
                if held >= 0:
                    posix.close(held)
        if members - reached:
            self.send(-main, numbers)
        # who has left the group since we saw it there, as by setsid(1), has hardly got that
        self.missed = {pid for pid in members - reached if group_of(pid) not in (main, 0)}
        reached |= members - self.missed
        if self.missed or not {pid for pid, _ in found}.issuperset(children(self.own)):
            return False
        # the signal to the group missed nobody whom a member was just forking (kill(2)), if none of these has left it
        return reached == before or (reached == members and last != b"" and last == read_file(LAST_PID))

    def send(self, target: int, numbers: "list[int]", held: int = -1) -> bool:
        """kill(2), or with a pidfd pidfd_send_signal(2). False if there was no such process for the first signal."""
        for number in numbers:
            try:
                _signal.pidfd_send_signal(held, number) if held >= 0 else posix.kill(target, number)
            except ProcessLookupError:
                return number != numbers[0]
            except PermissionError:
                self.init.warn("may not signal all that COMMAND left behind, some of which runs as another user")
            except OSError as failure:  # seccomp(2): others are signalled nevertheless
                self.init.warn(f"cannot signal what COMMAND left behind: {failure}")
        return True

    def signal_main_group(self, numbers: "list[int]") -> None:
        """Who stayed in the main group. While a child of ours is in it, its number is nobody else's."""
        try:
            posix.waitid(posix.P_PGID, self.init.main, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
        except ChildProcessError:
            return  # nobody is in it, and the number may be another's
        self.send(-self.init.main, numbers)

    # -- whom to leave alone

    def is_left_alone(self, pid: int, stat: "list[bytes]") -> bool:
        """Whether a process is not to be signalled. Once there is one, waitid(2) alone will not say when it is over."""
        was_here = self.were_here.get(pid) == start_of(pid, stat)  # or its PID was given to another
        if not was_here and not is_spared(pid, stat):
            return False
        if pid not in self.told:
            self.told.add(pid)
            self.init.emit("spared", pid=pid)
            self.init.actions[_signal.SIGCHLD] = self.reap
        return True

    def reap(self, event: object) -> None:
        """As always; and then it may be over, though waitid(2) will never say so."""
        self.init.reap(event)
        if self.init.is_ending and not self.init.is_over:
            self.look()
            self.init.set_deadline("look", PAUSE_BEFORE_LOOK, self.look)  # a fork gets its environment by execve(2)

    def look(self) -> None:
        """It is over if all that are left are left alone."""
        children = look_up()
        below = [pid for _ in range(PASSES) for pid in children(self.own)] if children else [0]
        if all(self.is_left_alone(pid, stat_fields(pid)) for pid in below):
            self.init.is_over = True
