"""What this machine is, and how many processes it has room for."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator
from pathlib import Path

BYTES_OF_AN_ORPHAN = 128 * 1024  # at most: kernel stack, task, page tables and the pages that it has written to
SPARED = 0.95  # of what there is room for: others start processes too

# cgroups(7), version 2 and version 1: where a limit stands, what counts against it, and for how much one orphan counts
CGROUP_LIMITS = (
    ("pids.max", "pids.current", 1),
    ("memory.max", "memory.current", BYTES_OF_AN_ORPHAN),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", BYTES_OF_AN_ORPHAN),
)


def read(path: str | Path) -> str:
    """A file of /proc or /sys; empty where there is none."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def field(path: str, name: str) -> str:
    """What follows `name:` in a file of /proc; empty if it is not there."""
    for line in read(path).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def describe() -> str:
    """The processor, memory and kernel, in a line."""
    processor = field("/proc/cpuinfo", "model name") or platform.machine()
    gibibytes = int((field("/proc/meminfo", "MemTotal") or "0").split()[0]) / 2**20
    cores = len(os.sched_getaffinity(0))
    return f"{processor}, {cores} cores, {gibibytes:.0f} GiB, Linux {platform.release().partition('-')[0]}, {platform.machine()}"


def load() -> float:
    """Processes that ran or wanted to, on average over the last minute."""
    return os.getloadavg()[0]


def cgroups() -> Iterator[Path]:
    """The control groups that this process is in, with all above them."""
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for top in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup") / (controllers or "unified")):
            inner = top / path.lstrip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(top))


def limits() -> Iterator[tuple[int, str]]:
    """How many more processes each limit of this machine lets us start, and its name."""
    running = int((read("/proc/loadavg").split() or ["", "", "", "0/0"])[3].partition("/")[2])
    for name in ("pid_max", "threads-max"):
        value = read(f"/proc/sys/kernel/{name}")
        if value:
            yield int(value) - running, f"kernel.{name}"
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if processes != resource.RLIM_INFINITY and os.geteuid() != 0:
        yield processes - running, "ulimit -u"
    available = field("/proc/meminfo", "MemAvailable")
    if available:
        yield int(available.split()[0]) * 1024 // BYTES_OF_AN_ORPHAN, "memory"
    for folder in cgroups():
        for name, used, share in CGROUP_LIMITS:
            limit = read(folder / name).strip()
            if limit.isdigit():
                yield (int(limit) - int(read(folder / used) or 0)) // share, f"{name} of the control group"


def room_for(wanted: int) -> tuple[int, str]:
    """So many processes as are wanted, or as there is room for, and then what it is that limits them."""
    room, name = min(limits(), default=(wanted, ""))
    room = max(1, int(room * SPARED))
    return (wanted, "") if room >= wanted else (room, name)
