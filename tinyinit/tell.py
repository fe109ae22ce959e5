"""What is told when all is over: the report as JSON, its short forms for people, Kubernetes and GitHub.

account.py imports this at the very end, when COMMAND no longer waits for anything.
"""

from __future__ import annotations

import _signal
import errno
import json
import os
import posix
import re
import time
from typing import TYPE_CHECKING, Any

from tinyinit import __version__
from tinyinit.account import Account, signature
from tinyinit.cgroup import amount, read_file
from tinyinit.deliver import append, deliver
from tinyinit.init import TERMINATION_SIGNALS, write_line
from tinyinit.leftovers import is_alive, stat_fields
from tinyinit.limits import EXIT_TIMED_OUT
from tinyinit.narrate import describe_end
from tinyinit.options import signal_name
from tinyinit.processes import printable
from tinyinit.why import FAULTS, kind_of_annotations, size

if TYPE_CHECKING:
    from collections.abc import Callable

    Facts = dict[str, Any]

SCHEMA_VERSION = 1
LONGEST_REPORT = 60000  # bytes; with long command lines fewer processes are listed
LONGEST_LOG = 4096  # bytes: what Kubernetes keeps of a termination message
LONGEST_MESSAGE = 1500  # bytes of that, so that there is room for the report
LONGEST_COMMAND = 4096  # characters of COMMAND's words
MOST_WARNINGS = 20
ASKED_TO_END = [
    number for number in TERMINATION_SIGNALS if signal_name(number) != "SIGHUP"
]  # which is a reload as well

# ---- the report -----------------------------------------------------------------------------------------------


def shown(text: str) -> str:
    """A text that a terminal may be given."""
    return printable(text.encode("utf-8", "surrogateescape"))


def signal_facts(number: int) -> Facts:
    """A signal by name and number."""
    return {"name": signal_name(number), "number": number}


def moment(seconds: float) -> str:
    """ISO 8601 with milliseconds and the zone."""
    local = time.localtime(seconds)
    sign, minutes = "-" if local.tm_gmtoff < 0 else "+", abs(local.tm_gmtoff) // 60
    fraction = int(seconds % 1 * 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{fraction:03}{sign}{minutes // 60:02}:{minutes % 60:02}"


def words_of(account: Account) -> Facts:
    """COMMAND, as far as there is room for it."""
    words, room = [], LONGEST_COMMAND
    for word in account.init.start.command:
        words.append(word[:room].decode("utf-8", "backslashreplace"))
        room -= len(word)
        if room <= 0:
            break
    is_complete = room >= 0 and len(words) == len(account.init.start.command)
    return {"words": words, "is_complete": is_complete, "pid": account.init.main}


def end_of_main(account: Account, elapsed: float) -> Facts:
    """How the main child ended."""
    if not account.init.ended:
        return {"how": "not ended", "code": None, "signal": None, "core_dumped": False, "at": elapsed}
    killer = account.killer
    return {
        "how": "killed" if killer else "exited",
        "code": None if killer else posix.WEXITSTATUS(account.init.wait_status),
        "signal": signal_facts(killer) if killer else None,
        "core_dumped": posix.WCOREDUMP(account.init.wait_status),
        "at": round(account.init.ended - account.init.began, 3),
    }


def reason(account: Account, kills: int) -> Facts:
    """Why the main child ended."""
    causes, killer, status = account.causes, account.killer, account.init.status
    moments = {str(event["what"]): event["at"] for event in account.events}
    sender: Any = None
    at: Any = None
    if kills and killer == _signal.SIGKILL and killer not in account.init.sent:
        kind = "out of memory"
    elif status == EXIT_TIMED_OUT and causes & {"timeout", "watchdog"}:
        kind = "timeout" if "timeout" in causes else "watchdog"
    elif "kill after" in causes and killer == _signal.SIGKILL:
        kind = "kill after"
    elif "parent died" in causes:
        kind = "parent died"
    elif account.was_typed():
        kind = "terminal"
    elif killer and killer not in account.init.sent:
        kind = "crash" if killer in FAULTS else "signal from elsewhere"
    else:
        asked = [number for number in account.last if number == killer or (not killer and number in ASKED_TO_END)]
        if asked:
            number = max(asked, key=lambda each: account.last[each][0])
            at, sender = account.last[number]
            return {"kind": "signal forwarded", "signal": signal_facts(number), "at": at, "sender": sender}
        kind = "signal forwarded" if killer else "exited"  # to all of a job at once, it may have come to COMMAND first
    signal = signal_facts(killer) if killer and kind != "exited" else None
    return {"kind": kind, "signal": signal, "at": moments.get(kind, at), "sender": sender}


def memory_facts(account: Account, kills: int) -> Facts | None:
    """The memory of the cgroup."""
    memory = account.memory
    if not memory.before:
        return None
    since = memory.since()
    return {
        "cgroup": memory.folder.decode("utf-8", "backslashreplace"),
        "cgroup_version": memory.version,
        "limit_bytes": memory.limit(),
        "peak_bytes": memory.peak(),
        "oom_kills": kills if "oom_kill" in since else None,
        "oom_events": since.get("oom"),
        "oom_group_kills": since.get("oom_group_kill"),
    }


def pids_facts(account: Account) -> Facts | None:
    """The limit of processes, and how often it was hit."""
    if not account.pids.before:
        return None
    return {"limit": amount(account.pids.read("pids.max", "pids.max")), "hits": account.pids.since().get("max")}


def cpu_facts(account: Account) -> Facts | None:
    """How the CPU limit has held the job back."""
    since = account.cpu.since()
    if not since.get("nr_periods"):
        return None
    seconds = since["throttled_usec"] / 1e6 if "throttled_usec" in since else since.get("throttled_time", 0) / 1e9
    return {
        "periods": since["nr_periods"],
        "throttled_periods": since.get("nr_throttled", 0),
        "throttled_seconds": round(seconds, 6),
    }


def adopted_facts(account: Account) -> Facts:
    """What became ours, and what of it was listed."""
    still_here = sum(is_alive(stat_fields(pid)) for pid in account.own_children())
    adopted = account.orphans + still_here
    listed = []
    for each in account.listed:
        how = each["how"]
        listed.append({**each, "how": describe_end(how) if isinstance(how, int) else None})
    return {"adopted": adopted, "reaped": account.reaped, "listed": listed, "is_complete": len(listed) >= adopted}


def leftover_facts(account: Account) -> Facts:
    """What was left behind, and how it ended: who was not reaped by us was by its own parent."""
    listed = []
    for pid, each in account.left_behind.items():
        how = each["how"]
        if not how and is_alive(stat_fields(pid)):
            how = "left" if account.init.options.leftovers == "leave" else "unkillable"
        elif not how:
            how = "KILL" if _signal.SIGKILL in account.sent_to_leftovers else account.how_most_ended()
        listed.append({**each, "how": how})
    count = max(account.count_left, len(account.left))
    return {"count": count, "listed": listed, "is_complete": count == len(listed)}


def own_peak() -> int | None:
    """The most memory that tinyinit itself had resident, in bytes (proc(5), VmHWM)."""
    _, _, rest = read_file("/proc/self/status").partition(b"VmHWM:")
    kibibytes = amount(rest.partition(b"kB")[0])
    return kibibytes * 1024 if kibibytes is not None else None


def event_facts(event: Facts) -> Facts:
    """An event of the timeline."""
    return {**event, "signal": signal_facts(event["signal"])} if "signal" in event else event


def report_of(account: Account, kills: int, text: str) -> Facts:
    """The whole report, as report.schema.json has it."""
    elapsed = account.now()
    return {
        "schema_version": SCHEMA_VERSION,
        "tinyinit": {
            "version": __version__,
            "mode": "pid1" if account.init.is_pid_1 else "subreaper",
            "pid": posix.getpid(),
            "peak_memory_bytes": own_peak(),
        },
        "command": words_of(account),
        "started_at": moment(account.started_at),
        "ended_at": moment(account.started_at + elapsed),
        "elapsed_seconds": elapsed,
        "status": account.init.status or 0,
        "end": end_of_main(account, elapsed),
        "reason": reason(account, kills),
        "message": text or None,
        "resources": {"main": account.main_usage.facts(), "others": account.other_usage.facts()},
        "memory": memory_facts(account, kills),
        "pids": pids_facts(account),
        "cpu": cpu_facts(account),
        "processes": adopted_facts(account),
        "leftovers": leftover_facts(account),
        "signals": {"forwarded": {signal_name(number): count for number, count in sorted(account.forwarded.items())}},
        "events": {"listed": [event_facts(each) for each in account.events], "is_complete": not account.more_events},
        "warnings": [shown(each)[:500] for each in sorted(account.init.warned)][:MOST_WARNINGS],
    }


def as_json(report: Facts) -> str:
    """JSON, in which a CI system that reads it finds no command (see processes.printable)."""
    return json.dumps(report).replace("##", "#\\u0023")


def encode(report: Facts) -> bytes:
    """The report as one line of ASCII, at most LONGEST_REPORT bytes: if need be less is listed."""
    text = as_json(report)
    while len(text) > LONGEST_REPORT:
        for part in ("processes", "leftovers", "events"):
            listed = report[part]["listed"]
            report[part] = {**report[part], "listed": listed[: len(listed) // 2], "is_complete": False}
        report["warnings"] = report["warnings"][: len(report["warnings"]) // 2]
        text = as_json(report)
    return text.encode() + b"\n"


def termination_message(report: Facts) -> bytes:
    """The line for people and what has room of the report, at most LONGEST_LOG bytes of UTF-8."""
    short = {
        part: value for part, value in report.items() if part not in ("events", "warnings", "message", "resources")
    }
    for part in ("processes", "leftovers"):
        short[part] = {name: value for name, value in report[part].items() if name not in ("listed", "is_complete")}
    cut = (report["message"] or describe(report)).encode()[:LONGEST_MESSAGE]
    message = cut.decode("utf-8", "ignore").encode() + b"\n"
    for part in ("", "command", "signals", "cpu", "pids", "memory"):
        short.pop(part, None)
        text = json.dumps(short, separators=(",", ":")).encode()
        if len(message) + len(text) < LONGEST_LOG:
            return message + text + b"\n"
    return message


# ---- for people -----------------------------------------------------------------------------------------------


def describe(report: Facts) -> str:
    """How the main child ended, in words: `killed by SIGTERM`, `exited with 3`, `exited with 0 (timeout)`."""
    end, why = report["end"], report["reason"]["kind"]
    how = f"killed by {end['signal']['name']}" if end["signal"] else f"exited with {end['code']}"
    how = "not ended by KILL" if end["how"] == "not ended" else how
    return how if why == "exited" else f"{how} ({why})"


def rows_of(report: Facts) -> list[tuple[str, str]]:
    """The short table: names and what there is to say."""
    main, others = report["resources"]["main"], report["resources"]["others"]
    cpu = f"{main['user_seconds'] + others['user_seconds']:.1f} s user"
    cpu += f", {main['system_seconds'] + others['system_seconds']:.1f} s system"
    memory = f"{size(main['peak_memory_bytes'])} at most in one process"
    if report["memory"] and report["memory"]["limit_bytes"] is not None:
        memory += f"; cgroup {size(report['memory']['peak_bytes'])} of {size(report['memory']['limit_bytes'])}"
    if report["memory"] and report["memory"]["oom_kills"]:
        memory += f"; {report['memory']['oom_kills']} killed for want of it"
    found = report["processes"]
    forwarded = ", ".join(f"{name} {count}" for name, count in report["signals"]["forwarded"].items())
    words = shown(" ".join(report["command"]["words"]))
    return [
        ("command", f"{words if len(words) <= 100 else words[:97] + '...'} (pid {report['command']['pid']})"),
        ("ended", f"{describe(report)}; status {report['status']}"),
        ("elapsed", f"{report['elapsed_seconds']:.1f} s; CPU {cpu}"),
        ("memory", memory),
        ("processes", f"{found['adopted']} adopted, {found['reaped']} reaped, {leftover_words(report['leftovers'])}"),
        ("signals", forwarded or "none forwarded"),
    ]


def leftover_words(leftovers: Facts) -> str:
    """`3 left behind (2 TERM, 1 KILL)`."""
    ways = [each["how"] for each in leftovers["listed"]]
    counts = ", ".join(f"{ways.count(way)} {way}" for way in sorted(set(ways)))
    return f"{leftovers['count']} left behind" + (f" ({counts})" if counts else "")


def summarize(account: Account, report: Facts) -> None:
    """--summary: the short table on standard error, its status in colour on a terminal."""
    has_colour = os.isatty(2) and not account.init.start.environ.get(b"NO_COLOR")
    for name, text in rows_of(report):
        row = f"{name:9}  {text}"
        if name == "ended" and has_colour:
            row = f"\x1b[{31 if report['status'] else 32}m{row}\x1b[0m"
        write_line(row)


def plain(text: str) -> str:
    """A text as Markdown that is nothing else: no link, no picture, no cell, no HTML."""
    return re.sub(r"(?![,;%'/()-]|(?<=\d)\.\d)[!-/:-@[-`{-~]", lambda found: f"&#{ord(found[0])};", text)


def markdown(report: Facts) -> bytes:
    """The section for the page of a GitHub job."""
    lines = ["### tinyinit", "", *([plain(report["message"]), ""] if report["message"] else [])]
    lines += ["| | |", "| --- | --- |", *(f"| {name} | {plain(text)} |" for name, text in rows_of(report)), ""]
    return "\n".join(lines).encode("utf-8", "backslashreplace") + b"\n"


# ---- to where it goes -----------------------------------------------------------------------------------------


def attempt(account: Account, what: str, write: Callable[[], None]) -> None:
    """Write something; where that fails it is one warning."""
    try:
        write()
    except (OSError, ValueError) as failure:
        cause = getattr(failure, "strerror", None) or str(failure)
        account.init.warn(f"cannot write {what}: {cause}")


def absolute(account: Account, path: str) -> str:
    """A path as it was meant before we changed to `/`. OSError where that leads nowhere."""
    if path == "-" or path.startswith(("/", "fd:")):
        return path
    if not account.folder:
        raise FileNotFoundError(errno.ENOENT, "the working directory was removed")
    return f"{account.folder}/{path}"


def write_termination_log(account: Account, report: Facts) -> None:
    """To where Kubernetes looks, but only if COMMAND has written nothing there."""
    path = absolute(account, account.init.options.termination_log)
    found = signature(path)
    if found == account.log or found[2:3] == (0,):
        deliver(path, termination_message(report))


def tell(account: Account, kills: int, text: str) -> None:
    """Write the report and its short forms to where they were asked for."""
    options = account.init.options
    report = report_of(account, kills, text)
    if options.report:
        what = f"the report to {options.report!r}"
        attempt(account, what, lambda: deliver(absolute(account, options.report), encode(dict(report))))
        page = os.fsdecode(account.init.start.environ.get(b"GITHUB_STEP_SUMMARY", b""))
        if page and kind_of_annotations(options.annotations, account.init.start.environ) == "github":
            attempt(account, f"the summary to {page!r}", lambda: append(absolute(account, page), markdown(report)))
    if options.summary:
        summarize(account, report)
    if options.termination_log and report["status"] != 0:
        what = f"the termination log {options.termination_log!r}"
        attempt(account, what, lambda: write_termination_log(account, report))
