"""What the kernel counts in the cgroup that COMMAND runs in: kills for want of memory, and what the limits held back.

ending.py imports this when COMMAND runs, so only built-in modules are imported here. Source: the kernel's
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst, and cgroup_namespaces(7).
"""

import posix

NO_LIMIT = 2**60  # bytes: from here on a limit of version 1 is none
MOST_FOLDERS = 200  # that are searched where only the depth of ours is known
PIECE = 4096  # bytes that are read at a time: /proc hands out no more
NEAR = 0.98  # of its limit: the peak of a cgroup whose limit was the cause

# ---- files ----------------------------------------------------------------------------------------------------


def read_file(path: "str | bytes") -> bytes:
    """All of a file of /proc or /sys; empty if it cannot be read."""
    try:
        file = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)  # which open() does in twice as many system calls
    except OSError:
        return b""
    try:
        return b"".join(iter(lambda: posix.read(file, PIECE), b""))
    except OSError:
        return b""
    finally:
        posix.close(file)


def own_cgroups() -> "tuple[bytes, bytes]":
    """/proc/self/cgroup and /proc/self/mountinfo; both empty without /proc."""
    return read_file("/proc/self/cgroup"), read_file("/proc/self/mountinfo")


# ---- where it is ----------------------------------------------------------------------------------------------


def unescape(text: bytes) -> bytes:
    r"""A path of mountinfo as it is: space, tab, newline and backslash stand there as \040 and so on (proc(5))."""
    head, *parts = text.split(b"\\")
    return head + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts)


def locate(controller: bytes, cgroups: bytes, mounts: bytes) -> "tuple[int, bytes, bytes]":
    """Version, mount point, and the folder of our cgroup for a controller; version 0 if it is mounted nowhere.

    `cgroups` is /proc/self/cgroup, `mounts` /proc/self/mountinfo. In a cgroup namespace the first is relative to that,
    and so is the root of a mount: one that was made outside has a root such as `/../..`, and the folder is not told.
    """
    paths = {}
    for line in cgroups.splitlines():
        number, names, path = line.split(b":", 2)
        if controller in names.split(b",") or (number == b"0" and not names):
            paths[2 if number == b"0" else 1] = path
    version = min(paths, default=0)  # where both are there, version 1 has the controller
    for line in reversed(mounts.splitlines()):  # the last one lies above the others
        fields, _, after = line.partition(b" - ")
        kind, _, options = after.partition(b" ")
        is_it = kind == b"cgroup2" if version == 2 else controller in options.split(b" ")[-1].split(b",")
        if version and kind.startswith(b"cgroup") and is_it:
            root, mount = (unescape(field) for field in fields.split(b" ")[3:5])
            below = paths[version][len(root.rstrip(b"/")) :]
            if b"/.." in root:
                return version, mount, search(mount, root.count(b"/..")) if paths[version] == b"/" else b""
            if (paths[version] + b"/").startswith(root.rstrip(b"/") + b"/"):
                return version, mount, (mount + below).rstrip(b"/")
    return 0, b"", b""


def search(folder: bytes, depth: int) -> bytes:
    """The folder so many levels below that has us in it; empty if it is not found."""
    folders = [folder]
    for _ in range(depth):
        try:
            folders = [each + b"/" + entry.name for each in folders for entry in posix.scandir(each) if entry.is_dir()]
        except OSError:
            return b""
    own = str(posix.getpid()).encode()
    ours = (each for each in folders[:MOST_FOLDERS] if own in read(each, "cgroup.procs").split())
    return next(ours, b"")


# ---- what it says ---------------------------------------------------------------------------------------------


def read(folder: bytes, name: str) -> bytes:
    """A file of a cgroup; empty if it is not there."""
    return read_file(folder + b"/" + name.encode())


def counters(text: bytes) -> "dict[str, int]":
    """`oom_kill 1` and such, a line each."""
    pairs = (line.split() for line in text.decode("ascii", "replace").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def amount(text: bytes) -> "int | None":
    """A number of bytes or processes; None for `max`, for what stands for it in version 1, and for nothing."""
    digits = text.strip()
    return int(digits) if digits.isdigit() and int(digits) < NO_LIMIT else None


class Counters:
    """A file of counters in the cgroup that a controller has for us, as it was when this was made."""

    def __init__(self, controller: str, files: "tuple[str, str]", cgroups: bytes, mounts: bytes) -> None:
        self.version, mount, self.folder = locate(controller.encode(), cgroups, mounts)
        self.file = files[self.version - 1]
        self.before = read(self.folder, self.file) if self.folder else b""
        while self.version == 2 and self.folder.startswith(mount + b"/") and not self.before:
            self.folder = self.folder.rpartition(b"/")[0]  # the controller is not enabled there, but further up
            self.before = read(self.folder, self.file)

    def since(self) -> "dict[str, int]":
        """What was added meanwhile to each; empty if it cannot be known."""
        if not self.before:
            return {}
        before, now = counters(self.before), counters(read(self.folder, self.file))
        return {name: max(count - before.get(name, 0), 0) for name, count in now.items()}

    def read(self, *names: str) -> bytes:
        """The file of version 1 or 2; empty if it is not there."""
        return read(self.folder, names[self.version - 1]) if self.before else b""


class Memory(Counters):
    """The memory of our cgroup: what makes a kill a proven one."""

    def __init__(self, cgroups: bytes, mounts: bytes) -> None:
        super().__init__("memory", ("memory.oom_control", "memory.events"), cgroups, mounts)

    def kills(self) -> int:
        """How many processes of the cgroup were killed for want of memory, meanwhile."""
        if not self.before or read(self.folder, self.file) == self.before:
            return 0
        return self.since().get("oom_kill", 0)

    def limit(self) -> "int | None":
        """Bytes; None for no limit."""
        return amount(self.read("memory.limit_in_bytes", "memory.max"))

    def peak(self) -> "int | None":
        """The most bytes that were ever used; None where the kernel does not tell (version 2 before Linux 5.19)."""
        return amount(self.read("memory.max_usage_in_bytes", "memory.peak"))

    def is_own_limit(self) -> bool:
        """Whether the limit of this cgroup was the cause; else it was that of one around it, or the whole machine."""
        if self.version == 2:
            return self.since().get("oom", 0) > 0
        limit, peak = self.limit(), self.peak()
        return limit is not None and peak is not None and peak >= NEAR * limit
