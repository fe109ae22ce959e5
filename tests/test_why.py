"""Issue: it says why it ended. The line for people: when, and only when, it went other than COMMAND meant it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess

import pytest

from conftest import StartTinyinit
from helpers.running import PYTHON, TINYINIT, children, is_settled, program, status_field, wait_until
from helpers.terminal import Terminal
from tinyinit.init import Init, Options, Start
from tinyinit.why import size

READY = "echo 'ready (pid: 1)'; "


def line_of(err: str) -> str:
    """The only line that was written."""
    lines = err.splitlines()
    assert len(lines) == 1, err
    return lines[0]


# ---- what is said at all ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verbosity", "said"), [(0, ""), (1, "tinyinit: warning: found\n")], ids=["-q", "default"])
def test_a_warning_is_said_once_and_not_with_q(verbosity: int, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    init = Init(Options({"verbosity": verbosity}), Start(["true"], ()), 0)
    for _ in range(2):
        init.warn("found")
    assert capfd.readouterr().err == said


@pytest.mark.parametrize(
    ("count", "told"), [(None, "not known"), (17, "17 bytes"), (512 << 20, "512 MiB"), (3 << 29, "1.5 GiB")]
)
def test_a_size_in_words(count: int | None, told: str) -> None:
    assert size(count) == told


# ---- killed by a signal that nobody forwarded ------------------------------------------------------------------


def test_a_kill_from_elsewhere_is_told_and_is_not_out_of_memory(start: StartTinyinit) -> None:
    running = start("--", *program("log_signals", "got"))
    main = running.wait_ready()
    wait_until(lambda: is_settled(running.pid), "what the end needs to be loaded")
    os.kill(running.main, signal.SIGKILL)
    status, _, err = running.end()
    assert status == 137
    begin = rf"tinyinit: main child 'python3?[\d.]*' \(pid {main}\) was killed by SIGKILL after \d+\.\d s, "
    assert re.match(begin + "which tinyinit has not sent: the kernel has counted no kill for want of memory; ", err)
    line_of(err)


def test_one_that_is_killed_at_once_may_have_been_out_of_memory(start: StartTinyinit) -> None:
    """Nobody has looked at the counters before."""
    for _ in range(100):
        err = start("--", "sh", "-c", "kill -KILL $$").end()[2]
        if "whether it was out of memory is not known" in line_of(err):
            return
    pytest.fail("it never ended before tinyinit had looked")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSYS])
def test_a_fault_is_told_as_one(start: StartTinyinit, number: int) -> None:
    status, _, err = start("--", "sh", "-c", f"ulimit -c 0; kill -{number} $$").end()
    assert status == 128 + number
    name = signal.Signals(number).name
    assert re.fullmatch(
        rf"tinyinit: main child 'sh' \(pid \d+\) was killed by {name} after \d+\.\d s: a fault of the .*", line_of(err)
    )


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("kill -TERM $$", "SIGTERM after .* which tinyinit has not sent: somebody signalled it directly"),
        ("kill -INT $$", "SIGINT after .* which tinyinit has not sent: somebody signalled it directly"),
        ("kill -34 $$", r"SIGRTMIN after .* which tinyinit has not sent: somebody signalled it directly"),
        ("ulimit -St 1; while :; do :; done", r"SIGXCPU after .*: it has used up its limit of CPU time; raise it"),
        ("kill -XFSZ $$", r"SIGXFSZ after .*: a file has become larger than its limit; raise it"),
        ("kill -ALRM $$", r"SIGALRM after .*: an alarm\(2\) of its own"),
    ],
)
def test_another_signal_is_told_with_what_is_known(start_subreaper: StartTinyinit, script: str, words: str) -> None:
    err = start_subreaper("--", "sh", "-c", script).end()[2]
    assert re.search(r"^tinyinit: main child 'sh' \(pid \d+\) was killed by " + words, line_of(err))


def test_a_signal_that_was_forwarded_is_not_told(start: StartTinyinit) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGSEGV, signal.SIGRTMIN + 2):
        running = start("--", "sh", "-c", READY + "ulimit -c 0; exec sleep 60")
        running.wait_ready()
        wait_until(lambda pid=running.main: status_field(pid, "Name") == "sleep", "sleep")  # type: ignore[misc]
        running.send(number)
        assert running.end()[::2] == (128 + number, "")


def test_a_signal_that_was_rewritten_is_the_one_that_counts(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper("-r", "TERM:USR1", "--", "sh", "-c", READY + "exec sleep 60")
    running.wait_ready()
    running.send(signal.SIGTERM)
    assert running.end()[::2] == (128 + signal.SIGUSR1, "")


def test_a_closed_pipe_is_not_told(start: StartTinyinit) -> None:
    script = f"{' '.join(PYTHON)} -c 'import signal, os; signal.signal(13, signal.SIG_DFL); os.kill(os.getpid(), 13)'"
    assert start("--", "sh", "-c", f"exec {script}").end() == (128 + signal.SIGPIPE, "", "")


def test_what_was_typed_is_not_told() -> None:
    terminal = Terminal([TINYINIT, "--", "sh", "-c", READY + "exec sleep 60"])
    try:
        terminal.read_until("ready (pid: 1)")
        terminal.type("\x03")
        assert terminal.wait() == 128 + signal.SIGINT
        with pytest.raises((AssertionError, OSError)):
            terminal.read_until("main child", 1)
    finally:
        terminal.close()


def test_an_end_that_command_meant_is_not_told(start: StartTinyinit) -> None:
    for code in (0, 1, 3, 124, 137, 255):
        assert start("--", "sh", "-c", f"exit {code}").end() == (code, "", "")


def test_quiet_says_none_of_it(start: StartTinyinit) -> None:
    script = 'trap "" TERM; sleep 60 & kill -KILL $$'
    assert start("-q", "--grace", "100ms", "--", "sh", "-c", script, stdout=subprocess.DEVNULL).end()[2] == ""


# ---- time limits -----------------------------------------------------------------------------------------------


def test_a_timeout_is_told_after_the_tree(start: StartTinyinit) -> None:
    status, _, err = start("--timeout", "300ms", "--", "sleep", "60").end()
    assert status == 124
    assert re.fullmatch(
        r"tinyinit: main child 'sleep' \(pid \d+\) was ended after \d\.\d s: its --timeout of 0\.3 s had passed; see above "
        "what was running, or give it more time",
        err.splitlines()[-1],
    )


def test_a_timeout_that_needed_kill_says_so(start: StartTinyinit) -> None:
    err = start("--timeout", "200ms", "--grace", "200ms", "--", *program("log_signals", "got")).end()[2]
    assert "its --timeout of 0.2 s had passed, and it needed KILL; " in err.splitlines()[-1]


def test_one_that_ends_in_time_is_not_told_of(start: StartTinyinit) -> None:
    assert start("--timeout", "20s", "--", "sh", "-c", "exit 124").end()[::2] == (124, "")


def test_kill_after_is_told(start: StartTinyinit) -> None:
    running = start("--kill-after", "200ms", "--", *program("log_signals", "got"))
    running.wait_ready()
    running.send(signal.SIGTERM)
    status, _, err = running.end()
    assert status == 137
    assert line_of(err).endswith("have it end on TERM, or raise --kill-after")


def test_a_watchdog_is_told(start: StartTinyinit) -> None:
    err = start("--watchdog", "300ms", "--", "sleep", "60").end()[2]
    assert re.search(r" was ended after \d\.\d s: it had shown no sign of life; ", err.splitlines()[-1])


# ---- leftovers -------------------------------------------------------------------------------------------------


def test_a_leak_is_told_as_subreaper_if_command_was_content(start_subreaper: StartTinyinit) -> None:
    script = "sleep 60 & (setsid sleep 61 &); until grep -q sleep /proc/$!/comm; do :; done; exit 0"
    status, _, err = start_subreaper("--", "sh", "-c", script).end()
    assert status == 0
    line = line_of(err)
    assert re.match(
        r"tinyinit: main child 'sh' \(pid \d+\) exited with status 0, but left 2 processes behind, which had to be ended: "
        r"'(sleep|sh|setsid)' \(pid \d+\), '(sleep|sh|setsid)' \(pid \d+\); have COMMAND wait for them, or set TINYINIT_SPARE=1",
        line,
    )


@pytest.mark.parametrize("options", [("--leftovers", "leave"), ("--leftovers", "wait")])
def test_what_was_to_be_left_is_no_leak(start_subreaper: StartTinyinit, options: tuple[str, str]) -> None:
    running = start_subreaper(*options, "--", "sh", "-c", "sleep 0.3 > /dev/null 2>&1 & exit 0")
    assert running.end()[::2] == (0, "")


def test_what_was_waited_for_until_term_came_is_no_leak(start_subreaper: StartTinyinit) -> None:
    script = 'sleep 60 & until grep -q sleep /proc/$!/comm; do :; done; echo "ready (pid: $!)"; exit 0'
    running = start_subreaper("--leftovers", "wait", "--", "sh", "-c", script)
    leftover = running.wait_ready()
    wait_until(lambda: children(running.pid) == [leftover], "COMMAND to end")
    running.send(signal.SIGTERM)
    assert running.end()[::2] == (0, "")


def test_what_is_still_ending_after_term_is_no_leak(start_subreaper: StartTinyinit) -> None:
    slow = "trap 'sleep 0.2; exit 0' TERM; echo 'ready (pid: 1)'; sleep 60 & wait"
    running = start_subreaper("--", "bash", "-c", "trap 'exit 0' TERM; bash -c \"$0\" & wait", slow)
    running.wait_ready()
    running.send(signal.SIGTERM)
    status, _, err = running.end()
    assert (status, "tinyinit" in err) == (0, False), "bash itself says that its sleep was terminated"


def test_a_status_that_was_remapped_is_no_content(start_subreaper: StartTinyinit) -> None:
    script = "sleep 60 & until grep -q sleep /proc/$!/comm; do :; done; exit 3"
    assert start_subreaper("-e", "3", "--", "sh", "-c", script).end()[::2] == (0, "")


def test_one_signal_for_all_of_a_job_is_not_told(start: StartTinyinit) -> None:
    """As of a system that signals each process; it comes to COMMAND first."""
    running = start("--", "sh", "-c", READY + "exec sleep 60")
    running.wait_ready()
    main = running.main
    wait_until(lambda: status_field(main, "Name") == "sleep" and is_settled(running.pid), "sleep")
    os.kill(running.pid, signal.SIGSTOP)
    wait_until(lambda: status_field(running.pid, "State").startswith("T"), "tinyinit to stop")
    os.kill(main, signal.SIGTERM)
    wait_until(lambda: status_field(main, "State").startswith("Z"), "COMMAND to end")
    running.send(signal.SIGTERM)
    os.kill(running.pid, signal.SIGCONT)
    assert running.end()[::2] == (128 + signal.SIGTERM, "")


def test_what_was_there_before_is_not_named(start_subreaper: StartTinyinit) -> None:
    script = 'sh -c "trap \'\' TERM; sleep 1" > /dev/null 2>&1 & exec "$0" --grace 100ms -- "$@"'
    words = program("behind", 5, "deaf")
    err = start_subreaper(command=["sh", "-c", script, TINYINIT, *words]).end()[2]
    assert line_of(err).startswith("tinyinit: 1 process that COMMAND left behind")


def test_under_the_proc_of_another_namespace_only_ours_are_named(
    start_subreaper: StartTinyinit, namespaces: None
) -> None:
    command = ["unshare", "--pid", "--fork", "--kill-child", "--", TINYINIT]
    status, _, err = start_subreaper("--grace", "100ms", "--", *program("behind", 5, "deaf"), command=command).end()
    assert status == 5
    assert "kthreadd" not in err
    assert err.count("(pid ") <= 1


def test_what_is_spared_is_no_leak(start_subreaper: StartTinyinit) -> None:
    wait = "until grep -q sleep /proc/$!/comm; do :; done; "
    script = f"TINYINIT_SPARE=1 sleep 60 > /dev/null 2>&1 & {wait} exit 0"
    assert start_subreaper("--", "sh", "-c", script).end()[::2] == (0, "")


def test_a_failed_command_is_not_told_what_it_left(start_subreaper: StartTinyinit) -> None:
    assert start_subreaper("--", "sh", "-c", "sleep 60 & exit 3").end()[::2] == (3, "")


def test_a_pid_1_is_not_told_what_obeyed(start_pid_1: StartTinyinit) -> None:
    assert start_pid_1("--", "sh", "-c", "sleep 60 & exit 0").end()[::2] == (0, "")


def test_what_has_ended_but_was_not_reaped_is_no_leak(start_subreaper: StartTinyinit) -> None:
    """A zombie of COMMAND's comes to tinyinit, which reaps it."""
    code = "import os; pid = os.fork() or os._exit(0); os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)"
    assert start_subreaper("--", *PYTHON, "-c", code).end()[::2] == (0, "")


def test_what_needed_kill_is_told_by_name(start: StartTinyinit) -> None:
    running = start("--grace", "1", "--", *program("behind", 5, "deaf", "deaf", "setsid"))
    status, _, err = running.end()
    assert status == 5
    names = r"'python3?[\d.]*' \(pid \d+\)"
    assert re.fullmatch(
        rf"tinyinit: 2 processes that COMMAND left behind did not end on TERM in 1 s, and got KILL: {names}, {names}; "
        "have them end on TERM, or raise --grace",
        line_of(err),
    )


def test_many_are_counted_and_few_are_named(start: StartTinyinit) -> None:
    running = start("--grace", "300ms", "--", *program("behind", 5, *["deaf"] * 30))
    line = line_of(running.end()[2])
    assert line.startswith("tinyinit: 30 processes that COMMAND left behind")
    assert line.count("(pid ") == 10
    assert " and 20 more; " in line


def test_all_that_went_wrong_is_one_line(start_subreaper: StartTinyinit) -> None:
    script = 'trap "" TERM; sleep 60 & until grep -q sleep /proc/$!/comm; do :; done; exit 0'
    err = start_subreaper("--grace", "100ms", "--", "sh", "-c", script).end()[2]
    assert re.search(
        "left 1 process behind.*. Besides, 1 process that COMMAND left behind did not end on TERM", line_of(err)
    )


# ---- its form --------------------------------------------------------------------------------------------------


def test_nobodys_name_writes_on_somebodys_screen(start_subreaper: StartTinyinit, tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "\x1b[31mred\nline")
    shutil.copy(str(shutil.which("dash") or shutil.which("sh")), path)
    err = start_subreaper("--", path, "-c", "kill -KILL $$").end()[2]
    assert "'\\x1b[31mred\\nline'" in line_of(err)


def test_a_closed_standard_error_is_no_error(start: StartTinyinit) -> None:
    script = 'exec "$0" -- sh -c "kill -KILL \\$\\$" 2>&-'
    assert start(command=["sh", "-c", script, TINYINIT]).end() == (137, "", "")


# ---- annotations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "level"), [("kill -KILL $$", "error"), ("sleep 60 & exit 0", "warning")])
def test_github_gets_it_as_a_command(start_subreaper: StartTinyinit, script: str, level: str) -> None:
    lines = (
        start_subreaper("--", "sh", "-c", script, env={**os.environ, "GITHUB_ACTIONS": "true"}).end()[2].splitlines()
    )
    assert len(lines) == 2
    assert lines[1] == f"::{level} title=tinyinit::" + lines[0].partition("tinyinit: ")[2]


def test_what_github_would_take_for_its_own_is_escaped(
    start_subreaper: StartTinyinit, tmp_path: os.PathLike[str]
) -> None:
    path = os.path.join(tmp_path, "100%\r")
    shutil.copy(str(shutil.which("dash") or shutil.which("sh")), path)
    err = start_subreaper("--annotations", "github", "--", path, "-c", "kill -KILL $$").end()[2]
    assert "'100%25\\r'" in err.splitlines()[1]


@pytest.mark.parametrize(
    ("options", "variables"),
    [((), {}), ((), {"GITHUB_ACTIONS": "1"}), (("--annotations", "off"), {"GITHUB_ACTIONS": "true"})],
)
def test_others_get_no_command(
    start_subreaper: StartTinyinit, options: tuple[str, ...], variables: dict[str, str]
) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "GITHUB_ACTIONS"}
    running = start_subreaper(*options, "--", "sh", "-c", "kill -KILL $$", env={**environ, **variables})
    assert line_of(running.end()[2]).startswith("tinyinit: ")


def test_gitlab_gets_the_tree_as_a_folded_section(start: StartTinyinit) -> None:
    err = start("--timeout", "200ms", "--", "sleep", "60", env={**os.environ, "GITLAB_CI": "true"}).end()[2]
    begin, end = (
        r"\x1b\[0Ksection_start:\d+:(\w+)\[collapsed=true\]\r\x1b\[0Ktinyinit: ",
        r"\x1b\[0Ksection_end:\d+:\1\r\x1b\[0K\n",
    )
    found = re.search(begin + r"[^\n]*\n(.*)" + end, err, re.DOTALL)
    assert found
    assert "PID" in found[2]
    assert "sleep 60" in found[2]
    assert "was ended after" in err[found.end() :]


def test_without_proc_the_section_is_closed_too(start_subreaper: StartTinyinit, without_proc: list[str]) -> None:
    words = ["--annotations", "gitlab", "--timeout", "200ms", "--", "sleep", "60"]
    err = start_subreaper(*words, command=[*without_proc, TINYINIT]).end()[2]
    assert err.count("section_start:") == err.count("section_end:") == 1


def test_a_bad_kind_of_annotations_is_refused(start_subreaper: StartTinyinit) -> None:
    status, _, err = start_subreaper("--annotations", "jenkins", "--", "true").end()
    assert (status, err) == (
        125,
        "tinyinit: option --annotations: 'jenkins' is not known; write auto, off, github or gitlab\n",
    )
