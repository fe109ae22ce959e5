"""Two things in the same instant, as far as that can be had: each is done many times, a little earlier and a little later.

RACES=1000 has each race run so often. What is random begins with the same seed each time.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conftest import StartTinyinit
from helpers.running import PROGRAMS, TINYINIT, UNSHARE, Running, children, program, state

pytestmark = [pytest.mark.form("installed"), pytest.mark.heavy, pytest.mark.usefixtures("nothing_is_left")]

RACES = int(os.environ.get("RACES") or 12)
AT_ONCE = 4
TIMED_OUT = 124
TERM, KILL = 128 + signal.SIGTERM, 128 + signal.SIGKILL


class Race(NamedTuple):
    """COMMAND, a script to which DELAY is given, and what is to happen at about `at` seconds."""

    options: str
    script: str
    at: float
    ends: Callable[[dict[str, Any]], bool]  # whether the report's account is one of the two that are right
    number: int = 0  # a signal that is sent to tinyinit at `at`, once COMMAND is ready


def how(report: dict[str, Any]) -> tuple[int | None, str | None]:
    """The code with which COMMAND exited, or the signal that killed it."""
    return report["end"]["code"], (report["end"]["signal"] or {}).get("name")


def is_timeout_or_its_own(report: dict[str, Any]) -> bool:
    is_timeout = report["reason"]["kind"] == "timeout"
    if report["status"] == TIMED_OUT:
        return bool(is_timeout)
    return (report["status"], how(report), is_timeout) == (5, (5, None), False)


def is_term_or_its_own(report: dict[str, Any]) -> bool:
    if report["status"] == TERM:
        return (how(report), report["reason"]["kind"]) == ((None, "SIGTERM"), "signal forwarded")
    happened = [event["what"] for event in report["events"]["listed"]]
    came_in_time = "signal sent" in happened[: happened.index("main child ended")]  # when it was in exit(2)
    kind = "signal forwarded" if came_in_time else "exited"
    return (report["status"], how(report), report["reason"]["kind"]) == (5, (5, None), kind)


def is_kill_or_its_own(report: dict[str, Any]) -> bool:
    was_killed = how(report) == (None, "SIGKILL")
    if report["status"] == KILL:
        return was_killed and "kill after" in [event["what"] for event in report["events"]["listed"]]
    return (report["status"], was_killed) == (5, False)


def is_timeout_however_it_ended(report: dict[str, Any]) -> bool:
    is_known = how(report) in ((5, None), (None, "SIGKILL"))
    return (report["status"], report["reason"]["kind"], is_known) == (TIMED_OUT, "timeout", True)


def has_one_leftover(report: dict[str, Any]) -> bool:
    """COMMAND's own status, and a leftover that has ended by itself, before TERM or after it, or by KILL."""
    ends = [each["how"] for each in report["leftovers"]["listed"]]
    return (report["status"], how(report)) == (5, (5, None)) and ends in (["TERM"], ["KILL"], ["waited for"], [])


def is_term_or_has_one_leftover(report: dict[str, Any]) -> bool:
    return is_term_or_its_own(report) and (report["status"] == TERM or has_one_leftover(report))


LEFTOVER = '(trap "" TERM; exec sleep $DELAY) & exit 5'
RACING = {
    "the timeout's TERM": Race("--timeout 80ms", "sleep $DELAY; exit 5", 0.08, is_timeout_or_its_own),
    "a TERM from outside": Race("", "echo ready; sleep $DELAY; exit 5", 0.03, is_term_or_its_own, signal.SIGTERM),
    "the KILL of --kill-after": Race(
        "--kill-after 40ms", 'trap "sleep $DELAY; exit 5" TERM; echo ready; while :; do sleep 0.01; done', 0.04,
        is_kill_or_its_own, signal.SIGTERM,
    ),
    "the KILL after the timeout": Race(
        "--timeout 500ms --grace 40ms", 'trap "sleep $DELAY; exit 5" TERM; while :; do sleep 0.01; done', 0.04,
        is_timeout_however_it_ended,
    ),
    "the end of the grace": Race("--grace 60ms", LEFTOVER, 0.06, has_one_leftover),
    "the last orphan's end": Race("--grace 2", LEFTOVER, 0.002, has_one_leftover),
    "the timeout of a wait": Race("--leftovers wait --timeout 80ms --grace 10ms", LEFTOVER, 0.08, has_one_leftover),
    "a TERM during the grace": Race("--grace 1", f"echo ready; {LEFTOVER}", 0.02, is_term_or_has_one_leftover, signal.SIGTERM),
}  # fmt: skip


def test_a_signal_after_the_end_is_not_why_it_ended(start: StartTinyinit, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    script = '"$@" & read x; exit 3'
    leftover = program("log_signals", "got", signal.SIGUSR1)
    words = ["--grace", "inf", "--report", str(path), "--", "sh", "-c", script, "sh", *leftover]
    running = start(*words, stdin=subprocess.PIPE)
    running.wait_ready()
    running.go_on()
    running.read_until("got 15\ngot 18\n")
    running.send(signal.SIGTERM)
    running.read_until("got 15\n", times=2)
    running.send(signal.SIGUSR1)
    assert running.end()[0] == 3
    report = json.loads(path.read_text())
    assert (report["status"], how(report), report["reason"]["kind"]) == (3, (3, None), "exited")


@pytest.mark.parametrize("name", RACING)
def test_the_end_in_the_same_instant_as(start: StartTinyinit, tmp_path: Path, name: str) -> None:
    """One of the two that are right is the status, and the report's account agrees with it."""
    race, chance = RACING[name], random.Random(name)
    spread = max(race.at / 5, 0.004)
    found: list[tuple[int, str]] = []
    for begin in range(0, RACES, AT_ONCE):
        running: list[tuple[Running, Path]] = []
        for number in range(begin, begin + AT_ONCE):
            path, delay = tmp_path / f"{number}.json", race.at + chance.uniform(-spread, spread)
            words = ["-q", *race.options.split(), "--report", str(path), "--", "sh", "-c", race.script]
            running.append((start(*words, env={**os.environ, "DELAY": f"{max(delay, 0.0):.5f}"}), path))
        if race.number:
            for each, _ in running:
                each.read_until("ready\n")
                time.sleep(max(race.at + chance.uniform(-spread, spread), 0.0) if race.options == "" else 0.0)
                if each.process.poll() is None and not (each.as_pid_1 and state(each.process.pid) == "Z"):
                    send_if_there(each, race.number)
        for each, path in running:
            status, _, err = each.end()
            report = json.loads(path.read_text())
            account = {key: report[key] for key in ("status", "end", "reason", "leftovers", "events")}
            assert status == report["status"], account
            assert "tinyinit" not in err
            assert race.ends(report), json.dumps(account)
            found.append((status, str(how(report)[1])))
    print({each: found.count(each) for each in found})


def send_if_there(running: Running, number: int) -> None:
    """Send a signal to a tinyinit that may just have ended: it is a zombie, or as PID 1 no child of unshare any more."""
    for pid in children(running.process.pid) if running.as_pid_1 else [running.process.pid]:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


# ---- at every moment of its life ------------------------------------------------------------------------------


def test_a_signal_at_any_moment_of_the_start_arrives_once(start_subreaper: StartTinyinit) -> None:
    """It is blocked for all of them, also before tinyinit has blocked it, and COMMAND waits for it."""
    begin = time.monotonic()
    start_subreaper("true").end()
    span, chance = 1.5 * (time.monotonic() - begin), random.Random(1)

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    for number in range(RACES):
        running = start_subreaper("--", *program("log_signals", "got", signal.SIGTERM), preexec_fn=block)
        time.sleep(span * number / RACES * chance.random())
        running.send(signal.SIGUSR1)
        running.read_until("got 10\n")
        running.send(signal.SIGTERM)
        status, out, err = running.end()
        assert (status, out.splitlines()[1:], err) == (0, ["got 10", "got 15"], "")


# ---- numbers that are given again at once ---------------------------------------------------------------------

CANARIES = """
mkfifo hold; "$0" outside < hold & canaries=$!; exec 9> hold
for run in $(seq $RUNS); do
    { sleep 0.15; echo; } 9>&- | "$TINYINIT" -q --grace 100ms "$@" 9>&- > /dev/null
done
exec 9>&-; wait $canaries
"""


@pytest.fixture(scope="module")
def churn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """churn.c, compiled."""
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    path = tmp_path_factory.mktemp("churn") / "churn"
    subprocess.run(["cc", "-O2", "-o", str(path), str(PROGRAMS / "churn.c")], check=True, capture_output=True)
    return path


@pytest.mark.parametrize(
    ("options", "chains", "kind"),
    [
        ("", 4, "plain"),
        ("", 4, "stay"),
        ("--timeout 100ms", 4, "stay"),
        ("--orphans stop --orphan-ttl 20ms", 4, "stay"),
        ("--zombies stop --zombie-ttl 20ms --orphans warn --orphan-ttl 20ms", 1, "zombies"),
    ],
)
def test_who_gets_the_number_of_one_of_ours_gets_no_signal(
    start_subreaper: StartTinyinit, namespaces: None, churn: Path, tmp_path: Path, options: str, chains: int, kind: str
) -> None:
    """All around tinyinit, with the same user, processes live for a moment, with numbers that its tree has just had."""
    runs = max(RACES // 4, 1)
    env = {**os.environ, "TINYINIT": TINYINIT, "RUNS": str(runs)}
    words = [churn, *options.split(), "--", churn, "inside", chains, kind]
    running = start_subreaper(command=[*UNSHARE, "sh", "-c", CANARIES, *map(str, words)], env=env, cwd=tmp_path)
    lines = running.end(60 + 30 * runs)[1].splitlines()
    assert len(lines) == 1, "who was signalled"
    assert lines[0].endswith(" canaries, own signal 0"), lines
    assert int(lines[0].split()[0]) > 100
