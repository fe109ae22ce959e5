"""Reports made up, each valid by tinyinit/report.schema.json; run with a folder, it writes five plausible ones there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
START = "2026-03-04T09:15:00.000+01:00"


def signal(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "number": {"SIGINT": 2, "SIGABRT": 6, "SIGKILL": 9, "SIGSEGV": 11, "SIGTERM": 15}.get(name, 34),
    }


def resources(user: float = 0.0, system: float = 0.0, peak: int = 0) -> dict[str, Any]:
    names = ("minor_page_faults", "major_page_faults", "voluntary_context_switches", "involuntary_context_switches")
    counts = {name: int((user + system) * factor) for name, factor in zip(names, (5200, 3, 410, 38))}
    return {"user_seconds": user, "system_seconds": system, "peak_memory_bytes": peak, **counts}


def end(at: float, *, code: int | None = None, killed_by: str = "") -> dict[str, Any]:
    how = "killed" if killed_by else "exited"
    return {
        "how": how,
        "code": code,
        "signal": signal(killed_by) if killed_by else None,
        "core_dumped": False,
        "at": at,
    }


def reason(kind: str, name: str = "", at: float | None = None, sender: tuple[int, int] | None = None) -> dict[str, Any]:
    who = {"pid": sender[0], "uid": sender[1]} if sender else None
    return {"kind": kind, "signal": signal(name) if name else None, "at": at, "sender": who}


def event(at: float, what: str, name: str = "", **others: Any) -> dict[str, Any]:
    return {"at": at, "what": what, **({"signal": signal(name)} if name else {}), **others}


def adopted(
    pid: int, command: str, started: float, at: float, ended: float | None, how: str | None = "exited with status 0"
) -> dict[str, Any]:
    return {
        "pid": pid,
        "command": command,
        "started": started,
        "adopted": at,
        "ended": ended,
        "how": None if ended is None else how,
    }


def memory(peak: int, limit: int | None = None, kills: int = 0) -> dict[str, Any]:
    return {
        "cgroup": "/ci/job-4711", "cgroup_version": 2, "limit_bytes": limit, "peak_bytes": peak, "oom_kills": kills,
        "oom_events": kills, "oom_group_kills": 0,
    }  # fmt: skip


def listed(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"listed": list(entries), "is_complete": True}


def made(**overrides: Any) -> dict[str, Any]:
    """The report of `true`, with `overrides` in place of its members."""
    return {
        "schema_version": 1,
        "tinyinit": {"version": "0.1.0", "mode": "subreaper", "pid": 4100, "peak_memory_bytes": 11 * MIB},
        "command": {"words": ["true"], "is_complete": True, "pid": 4101},
        "started_at": START,
        "ended_at": "2026-03-04T09:15:00.004+01:00",
        "elapsed_seconds": 0.004,
        "status": 0,
        "end": end(0.003, code=0),
        "reason": reason("exited"),
        "message": None,
        "resources": {"main": resources(0.001, 0.001, 2 * MIB), "others": resources()},
        "memory": None,
        "pids": None,
        "cpu": None,
        "processes": {"adopted": 0, "reaped": 0, **listed()},
        "leftovers": {"count": 0, **listed()},
        "signals": {"forwarded": {}},
        "events": listed(event(0.003, "main child ended")),
        "warnings": [],
        **overrides,
    }


def crowded(processes: int = 50, events: int = 100, elapsed: float = 600.0) -> dict[str, Any]:
    """A report as full as one may be, whose lists were cut."""
    step = elapsed / (processes + 2)
    names = [
        f"worker --shard {number:02} --with-a-long-option=/srv/build/cache/{number:08}" for number in range(processes)
    ]
    children = [
        adopted(5000 + number, name, number * step, (number + 0.5) * step, (number + 1.8) * step)
        for number, name in enumerate(names)
    ]
    kinds = ("signal came", "signal sent", "process signalled")
    found = [
        event(
            number * elapsed / (events + 2),
            kinds[number % 3],
            "SIGTERM" if number % 4 else "SIGINT",
            pid=5000 + number,
            sender={"pid": 0, "uid": 0},
        )
        for number in range(events)
    ]
    left = [
        {"pid": 5000 + number, "command": name, "how": "KILL" if number % 3 else "TERM"}
        for number, name in enumerate(names)
    ]
    return made(
        command={"words": ["make", "-j", "64", "everything"], "is_complete": False, "pid": 4101},
        elapsed_seconds=elapsed,
        status=124,
        end=end(elapsed * 0.9, killed_by="SIGKILL"),
        reason=reason("timeout", "SIGTERM", elapsed * 0.8),
        message="COMMAND has run for 8 minutes (--timeout), and was killed",
        processes={"adopted": 412, "reaped": 1034, "listed": children, "is_complete": False},
        leftovers={"count": 74, "listed": left, "is_complete": False},
        signals={"forwarded": {"SIGTERM": 75, "SIGINT": 25}},
        events={"listed": found, "is_complete": False},
        warnings=[f"warning {number}: a process could not be signalled" for number in range(20)],
    )  # fmt: skip


# ---- plausible ones -------------------------------------------------------------------------------------------


def out_of_memory() -> dict[str, Any]:
    return made(
        command={"words": ["make", "integration-test"], "is_complete": True, "pid": 4101},
        ended_at="2026-03-04T09:17:23.400+01:00",
        elapsed_seconds=143.4,
        status=137,
        end=end(141.2, killed_by="SIGKILL"),
        reason=reason("out of memory", "SIGKILL", 141.2),
        message="COMMAND was killed for want of memory: the limit of its cgroup is 2 GiB, and 1 process was killed; raise it (docker run --memory)",
        resources={"main": resources(212.4, 18.6, 1741 * MIB), "others": resources(9.1, 2.2, 212 * MIB)},
        memory=memory(2048 * MIB, 2048 * MIB, 1),
        pids={"limit": 4096, "hits": 0},
        cpu={"periods": 1434, "throttled_periods": 611, "throttled_seconds": 48.3},
        processes={
            "adopted": 4,
            "reaped": 9,
            **listed(
                adopted(4127, "postgres -D /tmp/pgdata -p 54321", 1.9, 2.1, 142.9),
                adopted(4160, "redis-server *:63790", 3.2, 3.4, 141.9),
                adopted(4388, "node /srv/build/worker.js --shard 3", 38.2, 96.5, 143.4, "was killed by SIGKILL"),
                adopted(4391, "gzip -9 coverage.json", 96.4, 96.5, 108.8),
            ),
        },
        leftovers={
            "count": 3,
            **listed(
                {"pid": 4127, "command": "postgres -D /tmp/pgdata -p 54321", "how": "TERM"},
                {"pid": 4160, "command": "redis-server *:63790", "how": "TERM"},
                {"pid": 4388, "command": "node /srv/build/worker.js --shard 3", "how": "KILL"},
            ),
        },
        events=listed(event(141.2, "main child ended"), event(141.3, "leftovers signalled", "SIGTERM"), event(143.3, "leftovers signalled", "SIGKILL")),
    )  # fmt: skip


def timed_out() -> dict[str, Any]:
    return made(
        command={"words": ["sh", "-c", "./start-database & npm run end-to-end"], "is_complete": True, "pid": 4101},
        ended_at="2026-03-04T09:45:09.200+01:00",
        elapsed_seconds=1809.2,
        status=124,
        end=end(1805.0, killed_by="SIGKILL"),
        reason=reason("timeout", "SIGTERM", 1800.0),
        message="COMMAND has not ended in 30 min (--timeout): it was sent SIGTERM, and 5 s later SIGKILL",
        resources={"main": resources(301.0, 44.1, 612 * MIB), "others": resources(88.0, 12.0, 190 * MIB)},
        memory=memory(1203 * MIB, 4096 * MIB),
        pids={"limit": 512, "hits": 2},
        processes={
            "adopted": 2,
            "reaped": 5,
            **listed(
                adopted(4110, "./database --port 5433", 0.4, 0.6, 1809.1),
                adopted(4212, "chrome_crashpad_handler --monitor-self", 61.0, 744.0, 1805.4),
            ),
        },
        leftovers={"count": 1, **listed({"pid": 4110, "command": "./database --port 5433", "how": "TERM"})},
        signals={"forwarded": {"SIGTERM": 1, "SIGQUIT": 1}},
        events=listed(
            event(1799.0, "signal sent", "SIGQUIT"), event(1800.0, "timeout"), event(1800.0, "signal sent", "SIGTERM"),
            event(1805.0, "kill after"), event(1805.0, "signal sent", "SIGKILL"), event(1805.0, "main child ended"),
            event(1805.1, "leftovers signalled", "SIGTERM"),
        ),
        warnings=["fork(2) failed 2 times for the limit of processes of the cgroup (512)"],
    )  # fmt: skip


def killed_from_elsewhere() -> dict[str, Any]:
    return made(
        command={"words": ["python", "-m", "pytest", "-n", "8", "tests"], "is_complete": True, "pid": 4101},
        ended_at="2026-03-04T09:15:37.000+01:00",
        elapsed_seconds=37.0,
        status=137,
        end=end(36.9, killed_by="SIGKILL"),
        reason=reason("signal from elsewhere", "SIGKILL", 36.9),
        message="COMMAND was killed by SIGKILL, which tinyinit has not sent",
        resources={"main": resources(71.0, 6.0, 288 * MIB), "others": resources(0.2, 0.1, 33 * MIB)},
        memory=memory(911 * MIB),
        processes={"adopted": 1, "reaped": 1, **listed(adopted(4177, "sh -c sleep 600", 12.0, 36.9, 37.0, "was killed by SIGTERM"))},
        leftovers={"count": 1, **listed({"pid": 4177, "command": "sh -c sleep 600", "how": "TERM"})},
        events=listed(event(36.9, "main child ended"), event(36.9, "leftovers signalled", "SIGTERM")),
    )  # fmt: skip


def failed() -> dict[str, Any]:
    return made(
        command={"words": ["make", "lint"], "is_complete": True, "pid": 4101},
        ended_at="2026-03-04T09:15:12.500+01:00",
        elapsed_seconds=12.5,
        status=2,
        end=end(12.5, code=2),
        resources={"main": resources(19.5, 2.0, 144 * MIB), "others": resources()},
    )


def ended_well() -> dict[str, Any]:
    return made(
        command={"words": ["make", "unit-test"], "is_complete": True, "pid": 4101},
        ended_at="2026-03-04T09:16:04.700+01:00",
        elapsed_seconds=64.7,
        end=end(64.7, code=0),
        resources={"main": resources(118.0, 9.0, 203 * MIB), "others": resources(0.1, 0.1, 12 * MIB)},
        processes={"adopted": 1, "reaped": 1, **listed(adopted(4140, "gpg-agent --daemon", 20.1, 20.2, 31.0))},
    )


PLAUSIBLE = {
    "integration.json": out_of_memory,
    "end-to-end.json": timed_out,
    "unit.json": ended_well,
    "lint.json": failed,
    "flaky.json": killed_from_elsewhere,
}

if __name__ == "__main__":
    for name, make in PLAUSIBLE.items():
        Path(sys.argv[1], name).write_text(json.dumps(make()) + "\n")
