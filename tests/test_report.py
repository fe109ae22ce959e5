"""Issue: it says why it ended. --report, --summary and --termination-log: what stands in them."""

from __future__ import annotations

import ctypes
import datetime
import json
import os
import platform
import pty
import re
import resource
import signal
import struct
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import tinyinit
from conftest import StartTinyinit
from helpers.running import PYTHON, TINYINIT, children, private_memory, program, state, status_field, wait_until
from helpers.terminal import Terminal, read_all
from tinyinit import account
from tinyinit.init import Init, Options, Start
from tinyinit.leftovers import MANY

SCHEMA = json.loads((Path(tinyinit.__file__).parent / "report.schema.json").read_text())
LOG_LIMIT = 4096
RT_SIGQUEUEINFO = {"x86_64": 129, "aarch64": 138}[platform.machine()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


def read(path: Path) -> dict[str, Any]:
    """The report, which is one line, and valid."""
    text = path.read_text("ascii")
    assert text.count("\n") == 1
    report: dict[str, Any] = json.loads(text)
    jsonschema.validate(report, SCHEMA, cls=jsonschema.Draft202012Validator)
    return report


def signal_named(name: str) -> dict[str, Any]:
    return {"name": name, "number": int(getattr(signal, name))}


# ---- what ended, and why ---------------------------------------------------------------------------------------


def test_an_exit_by_itself(start: StartTinyinit, path: Path) -> None:
    before = datetime.datetime.now(datetime.timezone.utc)
    running = start("--report", path, "--", "sh", "-c", "exit 3")
    assert running.end() == (3, "", "")
    report = read(path)
    assert report["status"] == 3
    assert report["end"].pop("at") <= report["elapsed_seconds"]
    assert report["end"] == {"how": "exited", "code": 3, "signal": None, "core_dumped": False}
    assert report["reason"] == {"kind": "exited", "signal": None, "at": None, "sender": None}
    assert report["message"] is None
    assert report["command"]["words"] == ["sh", "-c", "exit 3"]
    assert report["tinyinit"]["mode"] == ("pid1" if running.as_pid_1 else "subreaper")
    assert report["tinyinit"]["version"] == tinyinit.__version__
    assert 2**22 < report["tinyinit"]["peak_memory_bytes"] < 2**26
    moments = [
        datetime.datetime.strptime(report[name], "%Y-%m-%dT%H:%M:%S.%f%z") for name in ("started_at", "ended_at")
    ]
    now = datetime.datetime.now(datetime.timezone.utc)
    milliseconds = datetime.timedelta(milliseconds=2)
    assert before - milliseconds <= moments[0] <= moments[1] <= now + milliseconds
    assert abs((moments[1] - moments[0]).total_seconds() - report["elapsed_seconds"]) < 0.01


def test_a_signal_that_was_forwarded_with_who_sent_it(start: StartTinyinit, path: Path) -> None:
    running = start("--report", path, "--", *program("log_signals", "got", signal.SIGTERM))
    running.wait_ready()
    for number in (signal.SIGUSR1, signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM):
        running.send(number)
        running.read_until(f"got {int(number)}\n")
    assert running.end()[0] == 0
    report = read(path)
    assert report["reason"]["kind"] == "signal forwarded"
    assert report["reason"]["signal"] == signal_named("SIGTERM")
    assert report["reason"]["sender"] == {"pid": 0 if running.as_pid_1 else os.getpid(), "uid": os.getuid()}
    assert 0 < report["reason"]["at"] <= report["end"]["at"]
    forwarded = report["signals"]["forwarded"]
    assert {name: forwarded[name] for name in ("SIGHUP", "SIGTERM")} == {"SIGHUP": 1, "SIGTERM": 1}
    assert forwarded["SIGUSR1"] in (1, 2), "two may have become one before they were taken"
    what = [(each["what"], each.get("signal", {}).get("name")) for each in report["events"]["listed"]]
    assert ("signal came", "SIGTERM") in what
    assert ("signal sent", "SIGTERM") in what
    assert what[-1] == ("main child ended", None)


def test_a_stop_is_told_and_stands_among_the_events(start: StartTinyinit, path: Path) -> None:
    running = start("-v", "--report", path, "--", *program("log_signals", "got", signal.SIGTERM))
    running.wait_ready()
    main = running.main
    os.kill(main, signal.SIGSTOP)
    wait_until(lambda: state(main) == "T", "COMMAND to stop")
    running.send(signal.SIGTERM)
    status, _, err = running.end()
    assert (status, err.count("tinyinit: COMMAND was stopped by SIGSTOP\n")) == (0, 1)
    stops = [each["signal"] for each in read(path)["events"]["listed"] if each["what"] == "stopped"]
    assert stops == [signal_named("SIGSTOP")]


def test_a_reload_is_no_reason(start_subreaper: StartTinyinit, path: Path) -> None:
    running = start_subreaper("--report", path, "--", *program("log_signals", "got", signal.SIGUSR2))
    running.wait_ready()
    running.send(signal.SIGHUP)
    running.read_until("got 1\n")
    running.send(signal.SIGUSR2)
    running.end()
    assert read(path)["reason"]["kind"] == "exited"


def test_a_signal_that_was_rewritten(start_subreaper: StartTinyinit, path: Path) -> None:
    running = start_subreaper(
        "--report", path, "-r", "TERM:INT", "--", "sh", "-c", "echo 'ready (pid: 1)'; exec sleep 60"
    )
    running.wait_ready()
    running.send(signal.SIGTERM)
    assert running.end()[0] == 128 + signal.SIGINT
    report = read(path)
    assert report["signals"]["forwarded"] == {"SIGINT": 1}
    assert (report["reason"]["kind"], report["reason"]["signal"]) == ("signal forwarded", signal_named("SIGINT"))


def test_a_kill_from_elsewhere(start: StartTinyinit, path: Path) -> None:
    status, _, err = start("--report", path, "--", "sh", "-c", "kill -KILL $$").end()
    report = read(path)
    assert status == report["status"] == 137
    assert report["reason"]["kind"] == "signal from elsewhere"
    assert report["end"]["signal"] == signal_named("SIGKILL")
    assert f"tinyinit: {report['message']}\n" == err


def test_a_crash(start: StartTinyinit, path: Path) -> None:
    start("--report", path, "--", "sh", "-c", "ulimit -c 0; kill -SEGV $$").end()
    report = read(path)
    assert (report["reason"]["kind"], report["reason"]["signal"]) == ("crash", signal_named("SIGSEGV"))


@pytest.mark.parametrize("options", [("--grace", "5"), ("--grace", "200ms")])
def test_a_timeout(start: StartTinyinit, path: Path, options: tuple[str, str]) -> None:
    job = program("log_signals", "got") if options[1] == "200ms" else ["sleep", "60"]
    start("--report", path, *options, "--timeout", "300ms", "--", *job).end()
    report = read(path)
    assert (report["status"], report["reason"]["kind"]) == (124, "timeout")
    assert 0.3 <= report["reason"]["at"] < 3
    assert report["end"]["signal"]["name"] == ("SIGKILL" if options[1] == "200ms" else "SIGTERM")
    assert [each["what"] for each in report["events"]["listed"]].count("timeout") == 1


def test_a_watchdog_a_kill_after_and_a_parent(start: StartTinyinit, tmp_path: Path) -> None:
    start("--report", tmp_path / "1", "--watchdog", "200ms", "--", "sleep", "60").end()
    running = start("--report", tmp_path / "2", "--kill-after", "200ms", "--", *program("log_signals", "got"))
    running.wait_ready()
    running.send(signal.SIGTERM)
    running.end()
    assert [read(tmp_path / name)["reason"]["kind"] for name in "12"] == ["watchdog", "kill after"]


def test_the_death_of_the_parent(start_subreaper: StartTinyinit, path: Path) -> None:
    script = '"$@" & echo "ready (pid: $!)"; wait'
    words = [TINYINIT, "--die-with-parent", "--report", str(path), "--", "sleep", "60"]
    running = start_subreaper(command=["sh", "-c", script, "sh", *words])
    inner = running.wait_ready()
    wait_until(lambda: [pid for pid in children(inner) if status_field(pid, "Name") == "sleep"], "COMMAND")
    running.process.kill()
    wait_until(path.exists, "the report")
    assert read(path)["reason"]["kind"] == "parent died"


# ---- what it took ----------------------------------------------------------------------------------------------


def test_what_the_main_child_and_the_others_took(start: StartTinyinit, path: Path) -> None:
    use = "import os; block = bytearray({} << 20)\nwhile sum(os.times()[:2]) < {}: pass\n{}"
    main, orphan = use.format(48, 0.3, "os.read(0, 1)"), use.format(24, 0.2, "print(1, flush=True)")
    script = '(setsid "$@" "$orphan" &); exec "$@" "$main"'
    environ = {**os.environ, "main": main, "orphan": orphan}
    words = ["sh", "-c", script, "sh", *PYTHON, "-c"]
    running = start("--report", path, "--", *words, stdin=subprocess.PIPE, env=environ)
    running.read_until("1\n")
    running.go_on()
    assert running.end()[0] == 0
    resources = read(path)["resources"]
    for part, memory, seconds in (("main", 48 << 20, 0.3), ("others", 24 << 20, 0.2)):
        took = resources[part]
        assert memory < took["peak_memory_bytes"] < memory + (32 << 20)
        assert seconds * 0.9 < took["user_seconds"] + took["system_seconds"] < seconds + 2
        assert took["minor_page_faults"] > memory / 4096 * 0.1 or took["minor_page_faults"] > 100
        assert took["voluntary_context_switches"] + took["involuntary_context_switches"] > 0


# ---- who was adopted, and who was left -------------------------------------------------------------------------


def test_who_was_adopted_and_from_when_to_when(start: StartTinyinit, path: Path) -> None:
    script = "(setsid sleep 0.3 &); (sh -c 'exit 4' &); sleep 0.8; exit 5"
    running = start("--report", path, "--", "sh", "-c", script)
    assert running.end()[0] == 5
    report = read(path)
    processes = report["processes"]
    assert (processes["adopted"], processes["reaped"], processes["is_complete"]) == (2, 2, True)
    by_end = {each["how"]: each for each in processes["listed"]}
    assert set(by_end) == {"exited with status 0", "exited with status 4"}
    sleeper = by_end["exited with status 0"]
    assert re.search(r"sleep|setsid|sh", sleeper["command"]), "it may not have executed it yet"
    assert 0.25 < sleeper["ended"] <= report["elapsed_seconds"]
    assert 0 <= sleeper["started"] <= sleeper["adopted"] + 0.01, "by the kernel's clock ticks"
    assert sleeper["adopted"] <= sleeper["ended"]


def test_the_leftovers_by_name_and_by_how_they_ended(start: StartTinyinit, path: Path) -> None:
    running = start("--report", path, "--grace", "1", "--", *program("behind", 5, "setsid", "deaf", "double_fork"))
    assert running.end()[0] == 5
    leftovers = read(path)["leftovers"]
    assert leftovers["count"] == 3
    assert leftovers["is_complete"]
    assert sorted(each["how"] for each in leftovers["listed"]) == ["KILL", "TERM", "TERM"]
    assert all("behind.py" in each["command"] for each in leftovers["listed"])


@pytest.mark.parametrize(("leftovers", "how"), [("wait", "waited for"), ("leave", "left")])
def test_leftovers_that_are_not_ended(start_subreaper: StartTinyinit, path: Path, leftovers: str, how: str) -> None:
    script = "sleep 0.4 > /dev/null 2>&1 & until grep -q sleep /proc/$!/comm; do :; done; exit 5"
    start_subreaper("--report", path, "--leftovers", leftovers, "--", "sh", "-c", script).end()
    assert [each["how"] for each in read(path)["leftovers"]["listed"]] == [how]


def test_a_spared_leftover(start_subreaper: StartTinyinit, path: Path) -> None:
    wait = "until grep -q sleep /proc/$!/comm; do :; done"
    script = f"TINYINIT_SPARE=1 sleep 60 > /dev/null 2>&1 & {wait}; sleep 61 & {wait}; exit 5"
    start_subreaper("--report", path, "--", "sh", "-c", script).end()
    leftovers = {each["command"]: each["how"] for each in read(path)["leftovers"]["listed"]}
    assert leftovers == {"sleep 60": "spared", "sleep 61": "TERM"}


def test_what_was_there_before_is_neither_adopted_nor_left(start_subreaper: StartTinyinit, path: Path) -> None:
    script = 'sleep 0.3 > /dev/null 2>&1 & exec "$0" --report "$1" -- sh -c "exit 5"'
    start_subreaper(command=["sh", "-c", script, TINYINIT, str(path)]).end()
    report = read(path)
    assert (report["processes"]["adopted"], report["leftovers"]["count"]) == (0, 0)


def test_an_unkillable_leftover(start_subreaper: StartTinyinit, path: Path, freeze: Any) -> None:
    words = program("behind", "wait", "group")
    running = start_subreaper("--report", path, "--grace", "300ms", "--", *words, stdin=subprocess.PIPE)
    freeze(running.wait_ready())
    running.go_on()
    assert running.process.wait(30) == 5
    report = read(path)
    assert [each["how"] for each in report["leftovers"]["listed"]] == ["unkillable"]
    assert [each for each in report["warnings"] if each.startswith("KILL does not end ")]


# ---- bounds ----------------------------------------------------------------------------------------------------


def test_of_thousands_left_behind_a_thousand_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    init = Init(Options({}), Start(["true"], ()), 0)
    init.main = 2
    monkeypatch.setattr(account, "alive", lambda _: ((pid, False) for pid in range(2, 5000)))
    assert [pid for pid, _ in account.Account(init, set(), (), "/").below()] == list(range(3, 2 + MANY))


@pytest.mark.form("installed")
@pytest.mark.heavy
def test_a_hundred_thousand_orphans_are_a_small_report_and_no_memory(start: StartTinyinit, path: Path) -> None:
    """The first thousand are there before the memory is looked at."""
    count = int(os.environ.get("ORPHANS") or 20000)
    running = start("--report", path, "--", *program("orphan_stream", 1000, count), stdin=subprocess.PIPE)
    running.read_until("1000\n", timeout=120)
    wait_until(lambda: status_field(running.pid, "State").startswith("S"), "tinyinit to sleep")
    before = private_memory(running.pid)
    running.go_on()
    running.read_until(f"{count}\n", timeout=240)
    wait_until(lambda: status_field(running.pid, "State").startswith("S"), "tinyinit to sleep")
    grown = private_memory(running.pid) - before
    running.go_on()
    assert running.end(120)[0] == 5
    report = read(path)
    assert grown <= 256, f"{grown} KiB"
    assert report["processes"]["reaped"] == report["processes"]["adopted"] == count
    assert (len(report["processes"]["listed"]), report["processes"]["is_complete"]) == (50, False)
    assert path.stat().st_size < 64 * 1024


def test_long_names_do_not_make_it_long(start: StartTinyinit, path: Path) -> None:
    name = "\U0001f600" * 3000
    job = f"for i in $(seq 60); do (setsid sh -c 'sleep 0.5; :' {name} &); done; sleep 0.2; exit 5"
    start("--report", path, "--", "sh", "-c", job, name).end()
    report = read(path)
    assert path.stat().st_size < 64 * 1024
    assert not report["command"]["is_complete"]
    assert report["leftovers"]["count"] >= 60
    assert not report["leftovers"]["is_complete"]


def test_words_that_are_no_text(start: StartTinyinit, path: Path) -> None:
    assert start("--report", path, "--", b"sh".decode(), "-c", "exit 5", os.fsdecode(b'\xff\x01\n"')).end()[0] == 5
    assert read(path)["command"]["words"] == ["sh", "-c", "exit 5", '\\xff\x01\n"']


def test_many_signals_are_counted_and_few_are_listed(start_subreaper: StartTinyinit, path: Path) -> None:
    running = start_subreaper("--report", path, "--", *program("log_signals", "got", signal.SIGTERM))
    running.wait_ready()
    for _ in range(150):
        running.send(signal.SIGRTMIN)
    running.read_until("got 34\n", times=150)
    running.send(signal.SIGTERM)
    running.end()
    report = read(path)
    assert report["signals"]["forwarded"] == {"SIGRTMIN": 150, "SIGTERM": 1}
    assert (len(report["events"]["listed"]), report["events"]["is_complete"]) == (81, False)
    assert report["events"]["listed"][-1]["what"] == "main child ended"


# ---- --summary -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_the_summary_is_always_printed(start: StartTinyinit, quiet: tuple[str, ...]) -> None:
    err = start("--summary", *quiet, "--", "sh", "-c", "(setsid sleep 0.1 &); sleep 0.3; exit 3").end()[2]
    lines = err.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["tinyinit:", name] for name in ("command", "ended", "elapsed", "memory", "processes", "signals")
    ]
    assert lines[1].endswith("exited with 3; status 3")
    assert lines[4].endswith("1 adopted, 1 reaped, 0 left behind")
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("variables", "has_colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)]
)
def test_colour_is_for_terminals_that_want_it(
    start_subreaper: StartTinyinit, variables: dict[str, str], has_colour: bool
) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    ours, theirs = pty.openpty()
    start_subreaper("--summary", "--", "sh", "-c", "exit 3", stderr=theirs, env={**environ, **variables}).end()
    os.close(theirs)
    shown = read_all(ours)
    assert ("\x1b[31mended" in shown) == has_colour
    assert "status 3" in shown


# ---- --termination-log -----------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """As Kubernetes makes it."""
    path = tmp_path / "termination-log"
    path.touch()
    return path


def test_the_termination_log_has_the_line_and_a_report(start: StartTinyinit, log: Path) -> None:
    status, _, err = start(f"--termination-log={log}", "--", "sh", "-c", "kill -KILL $$").end()
    line, compact, rest = log.read_text().split("\n")
    assert (status, f"tinyinit: {line}\n", rest) == (137, err, "")
    report = json.loads(compact)
    assert report["status"] == 137
    assert report["reason"]["kind"] == "signal from elsewhere"


def test_a_failure_that_command_meant_is_in_the_termination_log_too(start: StartTinyinit, log: Path) -> None:
    assert start(f"--termination-log={log}", "--", "sh", "-c", "exit 3").end() == (3, "", "")
    assert log.read_text().startswith("exited with 3\n{")


def test_after_a_success_the_termination_log_is_left_empty(start: StartTinyinit, log: Path) -> None:
    start(f"--termination-log={log}", "--", "true").end()
    assert log.read_text() == ""


def test_what_command_wrote_to_the_termination_log_stays(start: StartTinyinit, log: Path) -> None:
    start(f"--termination-log={log}", "--", "sh", "-c", f"echo mine > {log}; exit 3").end()
    assert log.read_text() == "mine\n"


def test_a_long_termination_message_is_cut_to_what_kubernetes_keeps(start: StartTinyinit, log: Path) -> None:
    words = ["\U0001f600" * 900] * 3
    start(f"--termination-log={log}", "--", "sh", "-c", "exit 3", *words).end()
    content = log.read_bytes()
    content.decode("utf-8")
    assert 0 < len(content) <= LOG_LIMIT
    assert json.loads(content.split(b"\n")[1])["status"] == 3


def test_the_termination_log_has_a_default(tmp_path: Path) -> None:
    from tinyinit.options import parse_options

    for words, environ in ((["--termination-log", "true"], {}), (["true"], {b"TINYINIT_TERMINATION_LOG": b"1"})):
        options, command = parse_options(words, environ)
        assert (options.termination_log, command) == ("/dev/termination-log", ["true"])
    assert parse_options(["true"], {b"TINYINIT_TERMINATION_LOG": b"0"})[0].termination_log == ""
    assert parse_options(["true"], {b"TINYINIT_TERMINATION_LOG": b"/x"})[0].termination_log == "/x"


# ---- GitHub's summary ------------------------------------------------------------------------------------------


def test_github_gets_a_section_for_the_page_of_the_job(start: StartTinyinit, path: Path, tmp_path: Path) -> None:
    page = tmp_path / "summary.md"
    page.write_text("before\n")
    environ = {**os.environ, "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)}
    start("--report", path, "--", "sh", "-c", "kill -KILL $$ '<b>'", env=environ).end()
    text = page.read_text()
    assert text.startswith("before\n### tinyinit\n\nmain child 'sh' (pid ")
    assert re.search(r"^\| ended \| killed by SIGKILL \(signal from elsewhere\); status 137 \|$", text, re.MULTILINE)
    assert "<b>" not in text
    start("--", "sh", "-c", "exit 3", env=environ).end()
    assert page.read_text() == text, "there is no --report"


# ---- what must not be lost -------------------------------------------------------------------------------------


def test_the_status_is_known_even_if_command_takes_the_standard_library_away(start: StartTinyinit, path: Path) -> None:
    """wait4(2) is Python's with the module resource, which is a file on most machines."""
    if not hasattr(resource, "__file__"):
        pytest.skip("it is built in here")
    library = os.path.dirname(resource.__file__)
    script = 'sleep 0.1; mount -t tmpfs none "$0" && exit 3'
    if os.getuid() != 0:
        pytest.skip("needs root to mount something over it")
    command = ["unshare", "--mount", TINYINIT]
    assert start("--report", path, "--", "sh", "-c", script, library, command=command).end()[0] == 3


def test_a_sender_that_lies_about_its_pid(start_subreaper: StartTinyinit, path: Path) -> None:
    running = start_subreaper("--report", path, "--", *program("log_signals", "got", signal.SIGTERM))
    running.wait_ready()
    info = struct.pack("=iiixxxxiI104x", signal.SIGTERM, 0, -1, -7, 0)  # siginfo_t with si_code SI_QUEUE
    assert ctypes.CDLL(None).syscall(RT_SIGQUEUEINFO, running.pid, int(signal.SIGTERM), info) == 0
    assert running.end()[0] == 0
    assert read(path)["reason"]["sender"]["pid"] == 0


@pytest.mark.parametrize(("name", "how"), [("USR1", "waited for"), ("TERM", "TERM")])
def test_signals_to_leftovers_that_are_waited_for(
    start_subreaper: StartTinyinit, path: Path, name: str, how: str
) -> None:
    script = f'sh -c \'trap "exit 0" {name}; echo "ready (pid: $$)"; while :; do sleep 0.01; done\' & read x; exit 5'
    words = ["--leftovers", "wait", "--", "sh", "-c", script]
    running = start_subreaper("--report", path, *words, stdin=subprocess.PIPE)
    leftover = running.wait_ready()
    running.go_on()
    wait_until(lambda: children(running.pid) == [leftover], "COMMAND to be reaped")
    running.send(signal.Signals[f"SIG{name}"])
    assert running.end()[0] == 5
    report = read(path)
    assert report["signals"]["forwarded"] == {f"SIG{name}": 1}
    assert report["reason"]["kind"] == "exited"  # before it came
    assert [each["how"] for each in report["leftovers"]["listed"] if each["pid"] == leftover] == [how]


def test_a_main_child_that_does_not_end(start_subreaper: StartTinyinit, path: Path, freeze: Any) -> None:
    words = ["--timeout", "300ms", "--grace", "200ms", "--", "sh", "-c", 'echo "ready (pid: $$)"; exec sleep 60']
    running = start_subreaper("--report", path, *words)
    freeze(running.wait_ready())
    assert running.process.wait(30) == 124
    report = read(path)
    assert report["end"]["how"] == "not ended"
    assert report["leftovers"] == {"count": 0, "listed": [], "is_complete": True}
    assert re.fullmatch(
        r"main child 'sh' \(pid \d+\) did not end, not even by KILL; see what it waits for", report["message"]
    )


def test_what_was_typed_is_the_reason(path: Path) -> None:
    terminal = Terminal([TINYINIT, "--report", str(path), "--", "sh", "-c", "echo 'ready (pid: 1)'; exec sleep 60"])
    try:
        terminal.read_until("ready (pid: 1)")
        terminal.type("\x03")
        assert terminal.wait() == 128 + signal.SIGINT
    finally:
        terminal.close()
    assert read(path)["reason"]["kind"] == "terminal"


def test_a_termination_log_that_was_only_emptied(start: StartTinyinit, log: Path) -> None:
    start(f"--termination-log={log}", "--", "sh", "-c", f": > {log}; exit 3").end()
    assert log.read_text().startswith("exited with 3\n")
