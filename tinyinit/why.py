"""The line for people: why it ended, and what to do about it; and the same as an annotation in a CI system's page.

ending.py imports this when it is all over and there is something to say, or when something needs KILL. Somebody waits
for the end, so only built-in modules are imported here: contextlib alone would take 10 ms.
"""

import _signal
import posix
import sys
import time
from itertools import islice

from tinyinit.ending import MOST_NAMES, Ending, name_of
from tinyinit.init import Init, write_line
from tinyinit.leftovers import MANY, alive
from tinyinit.limits import EXIT_TIMED_OUT
from tinyinit.options import signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
FAULTS: "set[int]" = {
    _signal.SIGSEGV,
    _signal.SIGBUS,
    _signal.SIGFPE,
    _signal.SIGILL,
    _signal.SIGABRT,
    _signal.SIGSYS,
    _signal.SIGTRAP,
}
LIMITS: "dict[int, str]" = {
    _signal.SIGXCPU: "it has used up its limit of CPU time; raise it (ulimit -t) or use less",
    _signal.SIGXFSZ: "a file has become larger than its limit; raise it (ulimit -f) or write less",
    _signal.SIGALRM: "an alarm(2) of its own that it did not catch",
}

# ---- words ----------------------------------------------------------------------------------------------------


def size(count: "int | None") -> str:
    """`512 MiB`, `1.5 GiB`, `17 bytes`; `not known` for None."""
    if count is None:
        return "not known"
    unit, name = next(((unit, name) for unit, name in UNITS if count >= unit), (1, "bytes"))
    return f"{round(count / unit, 1):g} {name}"


def number_of(count: int, what: str) -> str:
    """`1 process`, `3 processes`."""
    return f"{count} {what}{'es' if count != 1 else ''}"


def names(known: list[str], count: int) -> str:
    """`'a' (pid 1), 'b' (pid 2) and 7 more`."""
    more = f" and {count - len(known)} more" if count > len(known) else ""
    return ", ".join(known) + more


# ---- what needs KILL ------------------------------------------------------------------------------------------


def name_leftovers(init: Init) -> "tuple[list[str], int] | None":
    """Those that live although they got TERM: the first by name, and how many, at most MANY; None if there are none."""
    found = [pid for pid, is_spared in islice(alive(init), MANY) if not is_spared and pid != init.main]
    return ([name_of(pid) for pid in found[:MOST_NAMES]], len(found)) if found else None


# ---- the line -------------------------------------------------------------------------------------------------


def main_child(ending: Ending) -> str:
    """`main child 'python' (pid 7)`."""
    word = ending.init.start.command[0].decode(sys.getfilesystemencoding(), "surrogateescape")
    name = word.rpartition("/")[2]
    return f"main child {name!r} (pid {ending.init.main})"


def memory(ending: Ending) -> str:
    """`out of memory, the cgroup's limit is 512 MiB and its peak was 512 MiB; raise the limit or use less`."""
    limit, peak = ending.memory.limit(), ending.memory.peak()
    own = f"the cgroup's limit is {size(limit)}" if limit is not None else "the cgroup has no limit of its own"
    own += f" and its peak was {size(peak)}" if peak is not None else ""
    if ending.memory.is_own_limit():
        return f"out of memory, {own}; raise the limit or use less"
    return f"out of memory, {own}, so that a cgroup around it or the machine ran out; give that more, or use less"


def how_it_ended(ending: Ending, kills: int) -> str:
    """The main child's end, if it is one that nobody meant; else empty."""
    who, killer, options = main_child(ending), ending.killer, ending.init.options
    if not ending.init.ended:
        return f"{who} did not end, not even by KILL; see what it waits for"
    after = f"after {ending.init.ended - ending.init.began:.1f} s"
    killed = f"{who} was killed by {signal_name(killer)} {after}" if killer else ""
    if kills and killer == _signal.SIGKILL and killer not in ending.init.sent:
        return f"{killed}: {memory(ending)}"
    if "timeout" in ending.causes and ending.init.status == EXIT_TIMED_OUT:
        needed = ", and it needed KILL" if killer == _signal.SIGKILL else ""
        limit = f"its --timeout of {options.timeout:g} s had passed{needed}"
        return f"{who} was ended {after}: {limit}; see above what was running, or give it more time"
    if "watchdog" in ending.causes and ending.init.status == EXIT_TIMED_OUT:
        return f"{who} was ended {after}: it had shown no sign of life; see what it waited for, or raise --watchdog"
    if "kill after" in ending.causes and killer == _signal.SIGKILL:
        what = "the time after which it is killed had passed since it was asked to end"
        return f"{killed}: {what}; have it end on TERM, or raise --kill-after"
    if ending.was_killed_by_another():
        return f"{killed}{cause_of_kill(ending)}"
    return ""


def cause_of_kill(ending: Ending) -> str:
    """What is known about a signal that tinyinit did not send."""
    killer = ending.killer
    if killer in LIMITS:
        return f": {LIMITS[killer]}"
    if killer in FAULTS:
        dumped = " and dumped core" if posix.WCOREDUMP(ending.init.wait_status) else ""
        return f"{dumped}: a fault of the program itself; look at what it wrote last, or run it in a debugger"
    if killer != _signal.SIGKILL:
        return ", which tinyinit has not sent: somebody signalled it directly"
    seen = "whether it was out of memory is not known, since no count of that from before is"
    if ending.memory.before:
        seen = "the kernel has counted no kill for want of memory"
    return f", which tinyinit has not sent: {seen}; look for who may have: kill -9, a cleaner, ulimit -t"


def sentences(ending: Ending, kills: int) -> list[str]:
    """All that there is to say, the main child's end first."""
    said = [how_it_ended(ending, kills)]
    if kills and "out of memory" not in said[0]:
        were = "was" if kills == 1 else "were"
        what = f"{number_of(kills, 'process')} of the cgroup {were} killed for want of memory while COMMAND went on"
        remedy = "" if ending.init.options.oom_is_failure else ", or have it fail by --oom-is-failure"
        said.append(f"{what}: {memory(ending)}{remedy}")
    if ending.has_leaked():
        known = [name for name in ending.left.values() if name]
        left = f"left {number_of(len(ending.left), 'process')} behind, which had to be ended: "
        remedy = "have COMMAND wait for them, or set TINYINIT_SPARE=1 for those that are to stay"
        said.append(f"{main_child(ending)} exited with status 0, but {left}{names(known, len(ending.left))}; {remedy}")
    if ending.deaf:
        known, count = ending.deaf
        what = f"{number_of(count, 'process')} that COMMAND left behind did not end on TERM"
        grace = f"in {ending.init.options.grace:g} s, and got KILL: {names(known, count)}"
        said.append(f"{what} {grace}; have them end on TERM, or raise --grace")
    return [each for each in said if each]


def line(ending: Ending, kills: int) -> str:
    """The line for people; empty if there is nothing to say."""
    return ". Besides, ".join(sentences(ending, kills))


# ---- annotations ----------------------------------------------------------------------------------------------


def kind_of_annotations(wanted: str, environ: "Mapping[bytes, bytes]") -> str:
    """`github`, `gitlab` or `off`, by --annotations or, for `auto`, by what the CI systems set themselves."""
    if wanted != "auto":
        return wanted
    if environ.get(b"GITHUB_ACTIONS") == b"true":
        return "github"
    return "gitlab" if environ.get(b"GITLAB_CI") == b"true" else "off"


def annotate(ending: Ending, text: str) -> None:
    """Say it to GitHub's runner as well, which shows it on the job's page. Source: its workflow commands."""
    if kind_of_annotations(ending.init.options.annotations, ending.init.start.environ) == "github":
        level = "error" if ending.init.status else "warning"
        escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        write_line(escaped, prefix=f"::{level} title=tinyinit::")


class Folded:
    """Has GitLab fold what is written meanwhile. Source: its custom collapsible sections."""

    def __init__(self, wanted: str, title: str) -> None:
        self.is_wanted = kind_of_annotations(wanted, posix.environ) == "gitlab"
        self.name, self.title = f"tinyinit_{posix.getpid()}", title

    def __enter__(self) -> None:
        self.mark("start", f"[collapsed=true]\r\x1b[0Ktinyinit: {self.title}")

    def __exit__(self, *error: object) -> None:
        self.mark("end", "\r\x1b[0K")

    def mark(self, which: str, text: str) -> None:
        """Write where the section starts or ends."""
        if self.is_wanted:
            write_line(f"\x1b[0Ksection_{which}:{int(time.time())}:{self.name}{text}", prefix="")
