"""SECURITY.md: each statement names the test that holds it; here are those that no other file has."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from conftest import StartTinyinit
from helpers.running import PYTHON, TIMEOUT, TINYINIT, children, program, state, wait_until

pytestmark = pytest.mark.form("installed")

REPOSITORY = Path(__file__).parent.parent
STATEMENTS = re.findall(r"^- .*(?:\n  .*)*", REPOSITORY.joinpath("SECURITY.md").read_text(), re.MULTILINE)
# what a terminal obeys, or shows in another order; a CI system's commands; Markdown's cells, links and HTML
HOSTILE = "\x1b[2J\r::x::##[y]|<b>[z](u)`\u202e\n::error::"

# ---- SECURITY.md -----------------------------------------------------------------------------------------------


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda each: each[2:30])
def test_each_statement_names_tests_that_exist(statement: str) -> None:
    named = re.findall(r"`(tests/test_\w+\.py)::(test_\w+)`", statement)
    assert named
    assert [name for path, name in named if name not in functions_of(REPOSITORY / path)] == []


# ---- who may signal it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["KILL", "STOP"])
def test_kill_and_stop_from_within_do_not_reach_pid_1(start_pid_1: StartTinyinit, name: str) -> None:
    """The kernel drops them: signal(7), pid_namespaces(7)."""
    running = start_pid_1("--", "sh", "-c", f"kill -{name} $PPID && kill -USR1 $PPID && sleep 60")
    assert running.end() == (128 + signal.SIGUSR1, "", "")


def test_all_end_with_a_pid_1_that_is_killed_from_outside(start_pid_1: StartTinyinit) -> None:
    running = start_pid_1("--", *program("leave_behind", "wait", "deaf", "double_fork"), stdin=subprocess.PIPE)
    running.wait_ready()
    running.send(signal.SIGKILL)
    assert running.read_rest(), "somebody still holds standard output"


def test_a_subreaper_that_is_killed_ends_nobody(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper("--", *program("log_signals", "got", signal.SIGTERM))
    main = running.wait_ready()
    running.send(signal.SIGKILL)
    running.process.wait(TIMEOUT)
    wait_until(lambda: state(main) == "S", "COMMAND to sleep on")


# ---- whom a descendant can have signalled ----------------------------------------------------------------------


def test_a_command_that_joins_our_own_group_does_not_have_it_signalled(
    start_subreaper: StartTinyinit, tmp_path: Path
) -> None:
    """It may, since the session is the same (setpgid(2)). There is a canary in that group."""
    log = tmp_path / "log"
    code = "import os, signal; os.setpgid(0, os.getpgid(os.getppid())); print(os.getppid(), 'is joined', flush=True); "
    script = (
        '"$@" >"$LOG" & until [ -s "$LOG" ]; do sleep 0.01; done; "$TINYINIT" -- $PAUSE -c "$CODE"; echo "$? is it"'
    )
    env = {"LOG": str(log), "TINYINIT": TINYINIT, "PAUSE": " ".join(PYTHON), "CODE": code + "signal.pause()"}
    canary = program("log_signals", "canary", signal.SIGUSR1)
    shell = start_subreaper(command=["sh", "-c", f"{script}; wait", "sh", *canary], env={**os.environ, **env})
    os.kill(int(shell.read_until(" is joined").split()[0]), signal.SIGTERM)
    assert "143 is it" in shell.read_until(" is it\n")
    os.kill(children(shell.pid)[0], signal.SIGUSR1)
    assert shell.end()[0] == 0
    assert log.read_text().splitlines()[1:] == ["canary 10"]


# ---- what it says ----------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """A shell with a name that means something to whoever shows it; no more than its first 15 bytes are its comm."""
    path = tmp_path / HOSTILE
    shutil.copy(str(shutil.which("dash") or shutil.which("sh")), path)
    return str(path)


def unprintable(text: str) -> list[str]:
    return [each for each in text if not each.isprintable() and each != "\n"]


def assert_harmless(text: str) -> None:
    """Nothing for a terminal or a CI system, and no line that is not ours."""
    assert unprintable(text) == []
    assert "##" not in text
    assert [each for each in text.splitlines() if not re.match(r"tinyinit: |\{|::error title=tinyinit::", each)] == []


def test_whoever_is_named_while_it_runs_or_after_it(start: StartTinyinit, tmp_path: Path, hostile: str) -> None:
    deaf, lazy = "trap '' TERM; while :; do sleep 1; done", ": & read x <&3"
    script = f'exec 3<&0; ("$0" -c "{deaf}" &); "$0" -c "{lazy}" & read x'
    options = ["--orphans", "warn", "--orphan-ttl", "100ms", "--zombies", "warn", "--zombie-ttl", "100ms"]
    with (tmp_path / "err").open("wb") as err:
        running = start(
            "--grace", "100ms", *options, "-v", "--", hostile, "-c", script, hostile, stdin=subprocess.PIPE, stderr=err
        )
    seen = tmp_path.joinpath("err").read_text
    wait_until(lambda: " an orphan for " in seen() and " not reaped by " in seen(), "both to be named")
    shown = subprocess.run([TINYINIT, "--ps", str(running.pid)], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert "\\x1b[2J\\r::x::#\\x23[y]" in shown
    assert_harmless("".join(f"tinyinit: {line}\n" for line in shown.split("\n")))
    running.go_on()
    running.end()
    said = [line for line in seen().splitlines() if "'\\x1b[2J\\r::x::#" in line]
    assert len(said) >= 3, seen()
    assert_harmless(seen())


def test_what_is_written_of_a_hostile_command(start: StartTinyinit, tmp_path: Path, hostile: str) -> None:
    log, page = tmp_path / "log", tmp_path / "page"
    environ = {**os.environ, "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page), f"TINYINIT_{HOSTILE}": "1"}
    options = ["--timeout", "300ms", "--kill-after", "100ms", "--summary", "--report", "-", f"--termination-log={log}"]
    command = [hostile, "-c", "trap '' TERM; sleep 60; exit 3", HOSTILE]
    err = start(*options, "--", *command, env=environ).end()[2]
    assert_harmless(err)
    kinds = ["tinyinit: warning: variable", r"tinyinit: +\d", "tinyinit: main", "::error", "tinyinit: command", "{"]
    assert [kind for kind in kinds if not re.search(rf"^{kind}.*\[2J", err, re.MULTILINE)] == []
    assert unprintable(log.read_text()) == []
    assert "\\x1b[2J" in log.read_text()
    text = page.read_text().replace("### tinyinit\n", "", 1)
    assert unprintable(text) == []
    assert not re.search(r"[`\[\]<>@\\:]|(?<!&)#", text.replace("| --- | --- |", ""))
    assert text.count("\n|") == 8
