"""What /proc says of a tree of processes: a table in the manner of `ps -j`, zombies and adopted processes marked.

Not only --ps runs this: PID 1 itself does too, on a machine that may be short of memory and of working disks. So
nothing heavy is imported, nothing recurses, what is read is bounded, and no file is read that may not return: the
command line of a process in state D lies in memory whose lock that process may hold (proc(5), mmap_lock).
"""

from __future__ import annotations

import _signal
import errno
import os
import time

from tinyinit.init import EXIT_SIGNAL_BASE, TERMINATION_SIGNALS, Refusal
from tinyinit.options import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD = ("PID", "PPID", "PGID", "SID", "STAT", "ELAPSED", "TIME", "WCHAN", "COMMAND")
FLUSH_LEFT = ("STAT", "WCHAN", "COMMAND")
PF_KTHREAD = 0x200000  # a kernel thread, in the flags of /proc/PID/stat: linux/sched.h
DEEPEST_INDENT = 20  # levels; below them PPID alone says who belongs to whom, and a row stays bounded
LONGEST_COMMAND = 200  # characters, where people read it; a Java class path alone takes pages
SCRIPTS = (b"/tinyinit-python", b"/tinyinit/__main__.py", b"/tinyinit.pyz")
CODE_OF_PYZ = b";import boot"  # how what follows -c in its first line ends: tools/pyz.py
LONGEST_READ = 131072  # bytes: all of a command line that ps(1) shows
MOST_PARENTS = 10  # parents of zombies that are named

# The system calls in which processes sleep, and their numbers on x86_64 and aarch64 (asm/unistd.h); -1: has none.
SYSCALLS = (
    ("accept", 43, 202), ("accept4", 288, 242), ("clock_nanosleep", 230, 115), ("clone", 56, 220),
    ("clone3", 435, 435), ("close", 3, 57), ("connect", 42, 203), ("epoll_pwait", 281, 22),
    ("epoll_pwait2", 441, 441), ("epoll_wait", 232, -1), ("execve", 59, 221), ("exit_group", 231, 94),
    ("fcntl", 72, 25), ("fdatasync", 75, 83), ("flock", 73, 32), ("fsync", 74, 82), ("futex", 202, 98),
    ("futex_waitv", 449, 449), ("getdents64", 217, 61), ("io_getevents", 208, 4), ("io_uring_enter", 426, 426),
    ("ioctl", 16, 29), ("mq_timedreceive", 243, 183), ("msgrcv", 70, 188), ("nanosleep", 35, 101), ("open", 2, -1),
    ("openat", 257, 56), ("pause", 34, -1), ("poll", 7, -1), ("ppoll", 271, 73), ("pread64", 17, 67),
    ("pselect6", 270, 72), ("pwrite64", 18, 68), ("read", 0, 63), ("readv", 19, 65), ("recvfrom", 45, 207),
    ("recvmmsg", 299, 243), ("recvmsg", 47, 212), ("restart_syscall", 219, 128), ("rt_sigsuspend", 130, 133),
    ("rt_sigtimedwait", 128, 137), ("select", 23, -1), ("semop", 65, 193), ("semtimedop", 220, 192),
    ("sendfile", 40, 71), ("sendmsg", 46, 211), ("sendto", 44, 206), ("splice", 275, 76), ("sync", 162, 81),
    ("vfork", 58, -1), ("wait4", 61, 260), ("waitid", 247, 95), ("write", 1, 64), ("writev", 20, 66),
)  # fmt: skip

# ---- a process ------------------------------------------------------------------------------------------------


class Process:
    """A process as /proc/PID/stat had it (proc(5)): `start` in clock ticks since boot, `cpu` in those that it used."""

    __slots__ = ("comm", "cpu", "flags", "nice", "pgid", "pid", "ppid", "sid", "start", "state", "threads", "tpgid")

    def __init__(self, pid: int, comm: str, state: str, numbers: list[int]) -> None:
        self.pid, self.comm, self.state = pid, comm, state
        self.ppid, self.pgid, self.sid, _, self.tpgid, self.flags = numbers[:6]
        self.cpu = numbers[10] + numbers[11]
        self.nice, self.threads, _, self.start = numbers[15:19]

    @property
    def is_zombie(self) -> bool:
        """Whether it waits to be reaped: not where its first thread has ended alone, which nobody can wait for."""
        return self.state == "Z" and self.threads <= 1

    @property
    def stat(self) -> str:
        """ps's STAT: the state; < or N: nice below or above 0; s: leads its session; l: threads; +: foreground."""
        nice = "<" if self.nice < 0 else "N" if self.nice > 0 else ""
        leader, threads = "s" * (self.sid == self.pid), "l" * (self.threads > 1)
        return self.state + nice + leader + threads + "+" * (self.tpgid == self.pgid)


def parse_stat(line: bytes) -> Process | None:
    """The process of a line of /proc/PID/stat, whose comm may hold all but NUL; None for what is no such line."""
    head, _, tail = line.rpartition(b")")
    pid, _, comm = head.partition(b" (")
    fields = tail.split()
    if len(fields) < 20:
        return None
    return Process(int(pid), printable(comm), fields[0].decode(), [int(field) for field in fields[1:20]])


def printable(text: bytes) -> str:
    """`text` with all escaped that a terminal may obey or not show, or a CI system obey: `##[...]`, `##vso[...]`.

    Nobody's name may write on somebody's screen.
    """
    characters = text.decode("utf-8", "backslashreplace").replace("##", "#\\x23")
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in characters)


def read_start(path: str, most: int = 4096) -> bytes:
    """The first bytes of a file of /proc; none where it may not be read, or its process is gone."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(file, most)
        finally:
            os.close(file)
    except OSError:
        return b""


def read_processes() -> dict[int, Process]:
    """Every process that /proc shows, by its PID, in one pass. OSError without /proc, or if that shows none."""
    lines = (read_start(f"/proc/{name}/stat") for name in os.listdir("/proc") if is_number(name))
    found = {process.pid: process for process in map(parse_stat, lines) if process}
    if not found:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/proc/self")
    return found


def own_pid() -> int:
    """The PID that /proc knows us by: another than getpid(2)'s where it was mounted for another PID namespace."""
    return int(os.readlink("/proc/self"))


# ---- who belongs to whom --------------------------------------------------------------------------------------


def children_of(processes: dict[int, Process]) -> dict[int, list[Process]]:
    """The children of each parent, the first-started first."""
    children: dict[int, list[Process]] = {}
    for process in sorted(processes.values(), key=lambda each: (each.start, each.pid)):
        children.setdefault(process.ppid, []).append(process)
    return children


def walk(roots: Iterable[int], processes: dict[int, Process]) -> list[tuple[Process, int]]:
    """The trees under the roots: every process once, before its children, and its depth."""
    children = children_of(processes)
    found = {}
    waiting = [(processes[pid], 0) for pid in roots if pid in processes][::-1]
    while waiting:
        process, depth = waiting.pop()
        if process.pid not in found:
            found[process.pid] = process, depth
            waiting += [(child, depth + 1) for child in reversed(children.get(process.pid, []))]
    return list(found.values())


def visible_roots(processes: dict[int, Process]) -> list[int]:
    """The processes whose parent is not visible, the first-started first: PID 1, and what was sent in by docker exec.

    Without kthreadd: a kernel's threads are hardly ever meant, and on the machine itself they hide the rest.
    """
    roots = [each for each in processes.values() if each.ppid not in processes and not each.flags & PF_KTHREAD]
    return [each.pid for each in sorted(roots, key=lambda each: (each.start, each.pid))]


def is_tinyinit(process: Process) -> bool:
    """Whether it runs Python with one of these scripts, with the code of tinyinit.pyz, or with -m tinyinit."""
    line = b"" if process.state in "DZ" else read_start(f"/proc/{process.pid}/cmdline")
    program, *words = line.split(b"\0")
    if b"py" not in program.rpartition(b"/")[2]:
        return False
    while words and words[0].startswith(b"-"):
        word = words.pop(0)
        letters = word[1:].rstrip(b"IESBbdOPqRsuv")  # -IS: those that take no value
        if letters in (b"X", b"W", b"c", b"m"):
            value = words.pop(0) if words else b""
            if letters in (b"c", b"m"):
                return value == b"tinyinit" if letters == b"m" else value.endswith(CODE_OF_PYZ)
    return (b"/" + b"".join(words[:1])).endswith(SCRIPTS)


def main_child(parent: Process, children: list[Process]) -> Process | None:
    """The child that a tinyinit has started itself, as far as can be told from outside; None if it has ended.

    It leads a process group in tinyinit's session, and cannot leave that, since a leader may not (setsid(2)); and it
    is older than its descendants, thus than all that tinyinit adopts. So it is the oldest such child. This is wrong
    where COMMAND joined another group, or has ended and left behind a child that leads one.
    """
    leaders = [child for child in children if child.pgid == child.pid and child.sid == parent.sid]
    return leaders[0] if leaders else None


def adopted(parent: Process, children: list[Process], main: int) -> set[int]:
    """The PIDs of those children that came to `parent` because their own parent died, where that is sure.

    They are sorted by their start. A tinyinit starts one, so it has adopted all younger ones: exact with `main`, its
    PID, else by `main_child`. Without that one, all that are not in its own group: a child from before it is in there.

    Any other parent may have started its children itself. But a session is inherited, or one's own (setsid(2)): a
    child that is in neither its own nor its parent's has had another parent. Not if that parent came to its
    session later, so parents that lead one are passed over, but for PID 1, whose earlier one shows as 0 here.
    """
    if main or is_tinyinit(parent):
        first = next((child for child in children if child.pid == main), None) if main else main_child(parent, children)
        if first is None:
            return {child.pid for child in children if child.pgid != parent.pgid}
        return {child.pid for child in children[children.index(first) + 1 :]}
    if parent.sid == parent.pid and parent.pid != 1:
        return set()
    return {child.pid for child in children if child.sid not in (0, child.pid, parent.sid)}


# ---- the table ------------------------------------------------------------------------------------------------


def clock(seconds: float) -> str:
    """ps's [[DD-]HH:]MM:SS."""
    minutes, second = divmod(max(int(seconds), 0), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    text = f"{minute:02}:{second:02}"
    text = f"{hour:02}:{text}" if hours else text
    return f"{days:02}-{text}" if days else text


def syscall_name(line: bytes, machine: str) -> str:
    """The system call of a line of /proc/PID/syscall: its name, `syscall N`, `running`; `-` if it is in none."""
    fields = line.decode().split()
    if len(fields) < 9 or not is_number(fields[0]):
        return "running" if fields == ["running"] else "-"
    is_32_bit = int(fields[-2], 16) >> 32 == 0  # by its stack; such a process numbers them otherwise
    column = {"x86_64": 1, "aarch64": 2}.get(machine)
    names = {} if column is None or is_32_bit else {row[column]: row[0] for row in SYSCALLS}
    return str(names.get(int(fields[0]), f"syscall {fields[0]}"))


def waits_in(process: Process) -> str:
    """The kernel's function in which it sleeps, or else the system call; `-` where neither may be known."""
    if process.state in "RZ":
        return "running" if process.state == "R" else "-"
    name = printable(read_start(f"/proc/{process.pid}/wchan"))
    if name not in ("", "0"):
        return name.partition(".")[0]  # do_sigtimedwait.isra.0: what the compiler made of it is of no use
    line = b"" if process.state == "D" else read_start(f"/proc/{process.pid}/syscall")
    return syscall_name(line, os.uname().machine)


def command(process: Process, longest: int) -> str:
    """The command line, at most `longest` characters of it; [comm] where it is empty or is not to be read."""
    line = b"" if process.state in "DZ" else read_start(f"/proc/{process.pid}/cmdline", 4 * longest + 1)
    text = printable(b" ".join(line.rstrip(b"\0").split(b"\0"))) or f"[{process.comm}]"
    return text if len(text) <= longest else text[: longest - 3] + "..."


def marks(process: Process, parent: Process | None, is_adopted: bool) -> str:
    """What is to be seen to: ` <adopted>`, ` <zombie, not reaped by 'node' (pid 12)>`."""
    said = ["adopted"] if is_adopted else []
    if process.is_zombie:
        said.append("zombie, not reaped by " + name_of(parent))
    elif process.state == "Z":
        said.append("its first thread has ended")
    return f" <{', '.join(said)}>" if said else ""


def name_of(parent: Process | None) -> str:
    """`'node' (pid 12)`."""
    return f"'{parent.comm}' (pid {parent.pid})" if parent else "its parent, which is not visible"


def zombies_by_parent(shown: list[tuple[Process, int]], processes: dict[int, Process]) -> list[str]:
    """A line for each parent of zombies, those with the most first: `3 zombies are not reaped by 'node' (pid 12)`."""
    counts: dict[int, int] = {}
    for process, _ in shown:
        if process.is_zombie:
            counts[process.ppid] = counts.get(process.ppid, 0) + 1
    parents = sorted(counts, key=lambda pid: (-counts[pid], pid))
    lines = []
    for pid in parents[:MOST_PARENTS]:
        what = "zombie is" if counts[pid] == 1 else "zombies are"
        lines.append(f"{counts[pid]} {what} not reaped by {name_of(processes.get(pid))}")
    if parents[MOST_PARENTS:]:
        rest = sum(counts[pid] for pid in parents[MOST_PARENTS:])
        lines.append(f"{rest} more zombies are not reaped by {len(parents) - MOST_PARENTS} other parents")
    return lines


def align(rows: list[tuple[str, ...]]) -> list[str]:
    """Each row as a line, numbers flush right, and nothing after COMMAND."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    flush = [str.ljust if name in FLUSH_LEFT else str.rjust for name in HEAD]
    return [
        " ".join([*(put(cell, width) for put, cell, width in zip(flush, row[:-1], widths)), row[-1]]) for row in rows
    ]


def table(
    roots: Iterable[int],
    processes: dict[int, Process],
    *,
    main: int = 0,
    most: int | None = None,
    longest: int = LONGEST_COMMAND,
) -> list[str]:
    """The lines of a table of the trees under `roots`, its head first, and under it who does not reap its zombies.

    `main` is the PID of the main child of the first root, if that is a tinyinit that calls this. At most `most`
    processes are shown, and a line says how many are not; `longest` bounds COMMAND, in characters.
    """
    roots = list(roots)
    trees, children = walk(roots, processes), children_of(processes)
    orphans: dict[int, set[int]] = {}
    ticks, now = os.sysconf("SC_CLK_TCK"), time.clock_gettime(time.CLOCK_BOOTTIME)
    rows: list[tuple[str, ...]] = [HEAD]
    for process, depth in trees[:most]:
        parent = processes.get(process.ppid)
        if parent and parent.pid not in orphans:
            known = main if parent.pid == roots[0] else 0
            orphans[parent.pid] = adopted(parent, children[parent.pid], known)
        ids = map(str, (process.pid, process.ppid, process.pgid, process.sid))
        times = clock(now - process.start / ticks), clock(process.cpu / ticks)
        what = "  " * min(depth, DEEPEST_INDENT) + command(process, longest)
        what += marks(process, parent, process.pid in orphans.get(process.ppid, ()))
        rows.append((*ids, process.stat, *times, waits_in(process), what))
    hidden = len(trees) - len(rows) + 1
    bound = [f"... and {hidden} more: {len(rows) - 1} of {len(trees)} processes are shown"] if hidden else []
    return align(rows) + bound + zombies_by_parent(trees, processes)


def own_table(main: int, most: int) -> list[str]:
    """The table of our own tree, for a tinyinit whose main child is `main`. OSError without /proc."""
    own = own_pid()
    return table([own], read_processes(), main=main if own == os.getpid() else 0, most=most)


# ---- --ps -----------------------------------------------------------------------------------------------------


def show_processes(words: list[str]) -> int:
    """What --ps prints: the trees of the PIDs in `words`, or all; the exit status. Refusal for a bad PID, or no /proc.

    No init is run, so a signal that ends a program is to end this one, also while it waits for its reader.
    """
    if _signal.getsignal(_signal.SIGINT) != _signal.SIG_IGN:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # CPython's handler raises KeyboardInterrupt
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, TERMINATION_SIGNALS)
    try:
        processes = read_processes()
    except OSError as failure:
        remedy = "mount it (mount -t proc proc /proc)"
        raise Refusal(f"option --ps: cannot read /proc: {failure.strerror}; {remedy}") from None
    roots = [parse_pid(word, processes) for word in words] or visible_roots(processes)
    longest = LONGEST_COMMAND if os.isatty(1) else LONGEST_READ
    return write_all("\n".join([*table(roots, processes, longest=longest), ""]).encode())


def parse_pid(word: str, processes: dict[int, Process]) -> int:
    """The PID that a word names. Refusal if it is none, or nobody's."""
    if not is_number(word):
        raise Refusal(f"option --ps: {word!r} is no PID; write one as 1, or none to see all")
    if int(word) not in processes:
        raise Refusal(f"option --ps: there is no process {int(word)}; see 'tinyinit --ps' for all that there are")
    return int(word)


def write_all(text: bytes) -> int:
    """Write to standard output, waiting where that is full; the exit status. Refusal if it takes no more.

    A reader that has gone, as head(1) does, had enough: nothing is said, and the status is a shell's for SIGPIPE.
    """
    try:
        while text:
            try:
                text = text[os.write(1, text) :]
            except BlockingIOError:  # somebody has set O_NONBLOCK on what is his as well
                import select

                select.select([], [1], [])
    except BrokenPipeError:
        return EXIT_SIGNAL_BASE + _signal.SIGPIPE
    except OSError as failure:
        raise Refusal(f"cannot write to standard output: {failure.strerror}") from None
    return 0
