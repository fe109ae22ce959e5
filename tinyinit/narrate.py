"""Tell events as they happen, a line each on standard error: all with --verbose, reaped orphans with --warn-on-reap."""

from __future__ import annotations

import os
from signal import SIGRTMIN

from tinyinit.init import Init, Start, write_line
from tinyinit.options import signal_name

MOMENTS = {
    "timeout": "the --timeout has passed",
    "watchdog": "the --watchdog has passed",
    "kill after": "the --kill-after has passed",
    "parent died": "the parent of tinyinit has died",
}


def describe_end(wait_status: int) -> str:
    """`was killed by SIGKILL`, or `exited with status 3`."""
    if os.WIFSIGNALED(wait_status):
        return "was killed by " + signal_name(os.WTERMSIG(wait_status))
    return f"exited with status {os.WEXITSTATUS(wait_status)}"


def sentence(event: str, facts: dict[str, int]) -> str:
    """One event in words."""
    if "wait_status" in facts:
        who = f"reaped orphan {facts['pid']}, which" if event == "reaped" else f"COMMAND (pid {facts['pid']})"
        return f"{who} {describe_end(facts['wait_status'])}"
    if event == "started":
        return f"started COMMAND (pid {facts['pid']}) in a process group of its own"
    if event in MOMENTS:
        return MOMENTS[event]
    if event == "spared":
        return f"left pid {facts['pid']} alone, and what is below it"
    if event == "left":
        return f"COMMAND has left pid {facts['pid']} behind"
    signal = signal_name(facts["signal"])
    return {
        "came": f"{signal} came from pid {facts.get('pid')}, uid {facts.get('uid')}",
        "sent": f"sent {signal} to COMMAND",
        "signalled": f"sent {signal} to pid {facts.get('pid')}",
        "stopped": f"COMMAND was stopped by {signal}",
        "leftovers": f"sent {signal} to all that COMMAND left behind",
    }[event]


def narrate(init: Init, start: Start) -> None:
    """Register for the events that the options ask for."""
    everything = init.options.verbosity > 1

    def tell(event: str, facts: dict[str, int]) -> None:
        if event == "over":
            return  # it is told how it ended already
        if event == "came" and facts["code"] > 0 and facts["signal"] >= SIGRTMIN:
            return  # the kernel's own, for what has come to NOTIFY_SOCKET: that is told
        if everything or event == "reaped":
            write_line(sentence(event, facts))

    init.listeners.append(tell)
    init.tells_all = True
