"""Issue 3: tinyinit.run() is subprocess.run(), beside it, and nothing that it has started is alive afterwards."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tinyinit
from conftest import StartTinyinit
from helpers.running import (
    PROGRAMS,
    TIMEOUT,
    Running,
    children,
    descendants,
    end_descendants,
    program,
    state,
    wait_until,
)
from helpers.terminal import Terminal

pytestmark = pytest.mark.form("installed")

AFTER_GRACE = 1.0  # seconds
SLEEP = "sleep 60 & sleep 60"
BOTH: tuple[Callable[..., Any], ...] = (subprocess.run, tinyinit.run)
CALL = (sys.executable, str(PROGRAMS / "call.py"))  # with site-packages, which program() is without


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """This process is a subreaper: who outlives a call is its descendant. Nor is a descriptor left open."""
    before, descriptors = descendants(os.getpid()), os.listdir("/proc/self/fd")
    yield
    assert {pid: state(pid) for pid in set(descendants(os.getpid())) - set(before)} == {}
    assert os.listdir("/proc/self/fd") == descriptors


def outcome(run: Callable[..., Any], *args: Any, **arguments: Any) -> dict[str, object]:
    """What comes of a call: the type and all that can be asked of it."""
    try:
        came = run(*args, **arguments)
    except Exception as error:
        came = error
    names = ("args", "returncode", "stdout", "stderr", "cmd", "timeout", "output", "errno", "filename", "filename2")
    told = {name: getattr(came, name) for name in names if hasattr(came, name)}
    return {"type": type(came), "text": str(came), **told}


def same(*args: Any, **arguments: Any) -> dict[str, object]:
    """Assert that both do the same, and return what that is."""
    ours = outcome(tinyinit.run, *args, **arguments)
    assert ours == outcome(subprocess.run, *args, **arguments)
    return ours


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


# ---- as subprocess.run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["true", "exit 1", "exit 137", "exit 255", "kill -TERM $$", "kill -KILL $$"])
@pytest.mark.parametrize("check", [False, True])
def test_the_return_code(script: str, check: bool) -> None:
    same(sh(f"echo out; echo err >&2; {script}"), check=check, capture_output=True)


def test_every_signal_that_kills() -> None:
    for number in signal.valid_signals() - {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}:
        if number not in (32, 33):
            same(program("die_by", number))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"text": True},
        {"text": False},
        {"universal_newlines": True},
        {"encoding": "latin-1"},
        {"encoding": "utf-16"},
        {"errors": "surrogateescape"},
        {"encoding": "ascii", "errors": "replace"},
        {"text": True, "bufsize": 1},
    ],
    ids=str,
)
def test_input_and_output(arguments: dict[str, Any]) -> None:
    """1 MB goes through, more than all pipes hold; and every newline is one in text mode."""
    is_text = bool(set(arguments) - {"text"}) or arguments.get("text", False)
    content: Any = "a\r\nb\rc\n" + "x" * 1000000 if is_text else b"a\r\n\xff\xe4" + b"x" * 1000000
    both = sh('cat; printf "\\377" >&2') if "errors" in arguments else sh("tee /dev/stderr")
    assert same(both, input=content, capture_output=True, **arguments)["type"] is subprocess.CompletedProcess


@pytest.mark.parametrize(
    "streams",
    [
        {},
        {"stdin": subprocess.DEVNULL},
        {"stdin": subprocess.PIPE},
        {"stdout": subprocess.PIPE},
        {"stderr": subprocess.PIPE},
        {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT},
        {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE},
        {"input": b"", "stdout": subprocess.PIPE},
        {"input": bytearray(b"12"), "stdout": subprocess.PIPE},
        pytest.param({"input": memoryview(b"12"), "stdout": subprocess.PIPE}, id="memoryview"),
        {"stdout": subprocess.PIPE, "timeout": 30},
        {"timeout": 30},
    ],
    ids=str,
)
def test_the_streams(streams: dict[str, Any]) -> None:
    same(sh("exec 3<&0; test -t 0 || cat <&3; echo out; echo err >&2"), **{"stdin": None, **streams})


def test_command_need_not_read_its_input(tmp_path: Path) -> None:
    same(["true"], input=b"x" * 1000000)
    same(sh("exec <&-; echo done"), input=b"x" * 1000000, capture_output=True, timeout=30)


@pytest.mark.skipif(sys.version_info < (3, 10), reason="has no pipesize")
def test_what_was_written_last_is_read_too() -> None:
    """The caller is late: the pipe is full, and all have ended."""
    before = signal.signal(signal.SIGALRM, lambda number, frame: time.sleep(1))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        done = tinyinit.run(sh("sleep 0.2; head -c 1000000 /dev/zero"), stdout=subprocess.PIPE, pipesize=1 << 20)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(done.stdout) == 1000000


def test_files_and_descriptors_are_streams(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("in\n")
    for number, run in enumerate(BOTH):
        with open(tmp_path / "in") as source, open(tmp_path / f"out{number}", "w") as target:
            run(sh("cat; echo out; echo err >&2"), stdin=source, stdout=target.fileno(), stderr=subprocess.STDOUT)
    assert (tmp_path / "out1").read_text() == (tmp_path / "out0").read_text() == "in\nout\nerr\n"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name, content, mode in (
        ("plain", "x", 0o644),
        ("no_interpreter", "#!/missing\n", 0o755),
        ("no_format", "echo not for sh\n", 0o755),
        ("good", '#!/bin/sh\necho good "$0"\n', 0o755),
    ):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(mode)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["missing", "plain", "no_interpreter", "no_format", "good", "plain/x", ".", "", "\udc80", "good" * 2000]
)
@pytest.mark.parametrize("how", ["path", "bytes", "pathlike", "relative", "in PATH"])
def test_what_cannot_be_run(name: str, how: str, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path: Any = {
        "path": f"{programs}/{name}",
        "bytes": os.fsencode(f"{programs}/{name}"),
        "pathlike": programs / name,
        "relative": f"./{name}",
        "in PATH": name,
    }[how]
    monkeypatch.setenv("PATH", f"/missing:{programs}:/etc/passwd:/bin")
    same([path], cwd=programs, capture_output=True)
    same(path, cwd=programs, capture_output=True)


@pytest.mark.parametrize(
    ("args", "arguments"),
    [
        (["true"], {"cwd": "/missing"}),
        (["missing"], {"cwd": b"/missing"}),
        (["true"], {"cwd": Path("/etc/passwd")}),
        (["true"], {"input": b"", "stdin": subprocess.PIPE}),
        (["true"], {"capture_output": True, "stdout": subprocess.PIPE}),
        (["true"], {"capture_output": True, "stderr": subprocess.DEVNULL}),
        (["true"], {"stdin": 1000}),
        (["true", "a\0b"], {}),
        ("a\0b", {}),
        (["true"], {"env": {"a=b": "c"}}),
        (["true"], {"env": {"a": "\0"}}),
        (["true", "x" * 200000], {}),
        (["true"], {"env": {"a": "x" * 200000}}),
        ([], {}),
        (["true", 1], {}),
        (None, {}),
        (["cat"], {"input": "text", "stdout": subprocess.PIPE, "timeout": 9}),
        (["cat"], {"input": b"bytes", "text": True, "stdout": subprocess.PIPE}),
        (["printf", "\\377"], {"encoding": "ascii", "stdout": subprocess.PIPE}),
        (["cat"], {"input": "\xff", "encoding": "ascii", "stdout": subprocess.PIPE}),
        (["true"], {"encoding": "missing", "stdout": subprocess.PIPE}),
        (["true"], {"user": "missing"}),
        (["true"], {"startupinfo": 1}),
        (Path("true"), {"shell": True}),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_the_same_exception(args: Any, arguments: dict[str, Any]) -> None:
    assert issubclass(same(args, **arguments)["type"], Exception)  # type: ignore[arg-type]


def test_contradictions_and_what_there_is_not() -> None:
    with pytest.raises(subprocess.SubprocessError):
        tinyinit.run(["true"], text=True, universal_newlines=False)
    with pytest.raises(TypeError, match="nonsense"):
        tinyinit.run(["true"], nonsense=1)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="preexec_fn"):
        tinyinit.run(["true"], preexec_fn=print)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="restore_signals"):
        tinyinit.run(["true"], restore_signals=False)  # type: ignore[call-overload]
    for value in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="grace"):
            tinyinit.run(["true"], grace=value)
        with pytest.raises(ValueError, match="kill_after"):
            tinyinit.run(["true"], kill_after=value)


def test_every_argument_of_subprocess_run_is_known() -> None:
    """But for those that can only be wrong; what there is in later Pythons goes through as well."""
    known = set(inspect.signature(tinyinit.run).parameters)
    for name in set(inspect.signature(subprocess.run).parameters) - {"popenargs", "kwargs"}:
        assert name in known


def is_for_every_user(path: str) -> bool:
    try:
        return subprocess.run([path, "-c", ""], check=False, user=65534).returncode == 0
    except PermissionError:
        return False


@pytest.mark.parametrize(
    ("args", "arguments"),
    [
        ("echo $0 $1", {"shell": True}),
        (["echo $0 $1", "a", "b"], {"shell": True}),
        ("echo $0", {"shell": True, "executable": "/bin/bash"}),
        (["other name", "-c", "echo $0"], {"executable": "/bin/sh"}),
        (["sh", "-c", "echo $0"], {"executable": "/missing"}),
        (["sh", "-c", 'printf %s "$1"', "sh", "\udcff é"], {}),
        ([b"printf", b"\\377%s", "é"], {}),
        (("echo", "tuple"), {}),
        (["pwd"], {"cwd": "/etc"}),
        (sh("env | sort"), {"env": {}}),
        (sh("env | sort"), {"env": {"PATH": "/bin", "LC_ALL": "C", "LC_CTYPE": "C", "é": "\udcff"}}),
        (sh("env | sort"), {"env": {b"PATH": b"/bin", b"a.b": b""}}),
        (
            sh("env | sort"),
            {"env": {"TINYINIT_TIMEOUT": "nonsense", "TINI_VERBOSITY": "3", "PYTHONHOME": "/", "PATH": "/bin"}},
        ),
        (sh("env | sort"), {}),
        (sh("umask"), {"umask": 0o27}),
        (sh("id -u; id -g; id -G"), {"user": 65534, "group": 65534, "extra_groups": [1]}),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_command_is_given(args: Any, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYINIT_GRACE", "nonsense")
    monkeypatch.setenv("LC_CTYPE", "C")
    if "user" in arguments and not is_for_every_user(sys.executable):
        pytest.skip("tinyinit is started as that user, who must be able to run the interpreter")
    same(args, capture_output=True, **arguments)


@pytest.mark.parametrize("arguments", [{"pass_fds": [3]}, {"close_fds": False}, {"start_new_session": True}], ids=str)
def test_command_inherits_all_else(arguments: dict[str, Any]) -> None:
    """Mask, ignored signals, limits, descriptors. It leads a group, as it may there in a session of its own alone."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    if "pass_fds" in arguments:
        arguments = {"pass_fds": [reader]}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        expected, got = (json.loads(run(program("report"), stdout=subprocess.PIPE, **arguments).stdout) for run in BOTH)
    finally:
        signal.signal(signal.SIGHUP, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(reader)
        os.close(writer)
    assert expected.pop("leads_group") == ("start_new_session" in arguments)
    assert got.pop("leads_group")
    for told in (expected, got):  # with posix_spawn(3), glibc leaves 32 and 33 ignored in what subprocess starts
        told["signals"]["SigIgn"] = int(told["signals"]["SigIgn"], 16) & ~(3 << 31)
    assert got == expected


def test_a_caller_without_standard_streams() -> None:
    script = "import os, sys, tinyinit; os.closerange(0, 3); done = tinyinit.run(['echo', 'x'], capture_output=True)\n"
    script += "tinyinit.run(['true']); os._exit(7 if done.stdout == b'x\\n' else 8)"
    assert subprocess.run([sys.executable, "-I", "-c", script], check=False, timeout=TIMEOUT).returncode == 7


def test_a_caller_that_ignores_sigchld() -> None:
    """subprocess.run() cannot know the status."""
    ignored = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert tinyinit.run(sh("exit 3")).returncode == 3
    finally:
        signal.signal(signal.SIGCHLD, ignored)


# ---- time limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("script", ["echo out; echo err >&2; exec sleep 60", "exec sleep 60"])
def test_the_timeout(script: str, text: bool) -> None:
    assert same(sh(script), capture_output=True, timeout=0.3, text=text)["type"] is subprocess.TimeoutExpired


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_timeout_that_is_over_at_once(seconds: int) -> None:
    assert same(["sleep", "60"], capture_output=True, timeout=seconds)["type"] is subprocess.TimeoutExpired


def test_the_output_until_the_end_is_kept() -> None:
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        tinyinit.run(sh("trap 'echo bye; exit' TERM; echo hi; sleep 60 & wait"), timeout=0.3, capture_output=True)
    assert caught.value.output == b"hi\nbye\n"


def test_long_timeouts_are_long() -> None:
    assert tinyinit.run(["true"], timeout=1e12).returncode == 0
    assert tinyinit.run(["true"], timeout=float("inf"), grace=float("inf")).returncode == 0


def test_a_grandchild_that_holds_the_pipe() -> None:
    """subprocess.run() waits until it ends."""
    before = descendants(os.getpid())
    begin = time.monotonic()
    assert tinyinit.run(sh("sleep 60 & echo done"), capture_output=True).stdout == b"done\n"
    assert time.monotonic() - begin < AFTER_GRACE
    begin = time.monotonic()
    assert subprocess.run(sh("sleep 3 & echo done"), check=True, capture_output=True).stdout == b"done\n"
    assert time.monotonic() - begin >= 2.9
    end_descendants(before)


def test_a_grandchild_that_holds_the_pipe_and_a_timeout() -> None:
    """subprocess.run() leaves it behind."""
    before = descendants(os.getpid())
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        tinyinit.run(sh(SLEEP), capture_output=True, timeout=1)
    assert time.monotonic() - begin < 1 + AFTER_GRACE
    assert descendants(os.getpid()) == before
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(sh(SLEEP), check=False, capture_output=True, timeout=0.2)
    assert [state(pid) for pid in set(descendants(os.getpid())) - set(before)] == ["S", "S"]
    end_descendants(before)


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_grace_and_kill_after(seconds: float) -> None:
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        tinyinit.run(program("leave_behind", "sleep", "stubborn"), timeout=0.5, grace=seconds, capture_output=True)
    assert b"ready" in caught.value.output
    assert 0.5 + seconds <= time.monotonic() - begin < 0.5 + 2 * seconds + AFTER_GRACE
    begin = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        tinyinit.run(sh("trap '' TERM; sleep 60"), timeout=0.5, kill_after=seconds)
    assert 0.5 + seconds <= time.monotonic() - begin < 0.5 + seconds + AFTER_GRACE


def test_command_was_in_time_and_what_it_left_behind_has_its_grace() -> None:
    begin = time.monotonic()
    done = tinyinit.run(program("leave_behind", "end", "stubborn"), timeout=0.8, grace=1.5, capture_output=True)
    assert done.returncode == 0
    assert 1.5 <= time.monotonic() - begin < 1.5 + AFTER_GRACE


def test_a_stopped_command_is_ended_too() -> None:
    for script in ("kill -STOP $$", SLEEP + " & kill -STOP -$$"):
        begin = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired):
            tinyinit.run(sh(script), timeout=0.3, capture_output=True)
        assert time.monotonic() - begin < 0.3 + AFTER_GRACE


def test_ctrl_z_stops_a_command_where_it_would_without_tinyinit() -> None:
    """Not in a process group that no shell in its session watches: there the kernel drops SIGTSTP (setpgid(2))."""

    def is_stopped(run: Callable[..., Any]) -> bool:
        try:
            return bool(run(sh("kill -TSTP $$"), timeout=0.5, capture_output=True).returncode)
        except subprocess.TimeoutExpired:
            return True

    assert is_stopped(tinyinit.run) == is_stopped(subprocess.run)


# ---- nothing is left --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["end", "sleep"])
@pytest.mark.parametrize("how", ["obeys", "stubborn"])
@pytest.mark.parametrize("capture", [False, True])
def test_nobody_outlives_the_call(end: str, how: str, capture: bool) -> None:
    """Nor does anybody outlive a timeout; `nothing_is_left` looks."""
    stdout = subprocess.PIPE if capture else subprocess.DEVNULL
    try:
        tinyinit.run(program("leave_behind", end, how), timeout=1 if end == "sleep" else 60, grace=0.3, stdout=stdout)
    except subprocess.TimeoutExpired:
        assert end == "sleep"


def test_one_who_is_spared_is_not_waited_for() -> None:
    begin = time.monotonic()
    done = tinyinit.run(sh("TINYINIT_SPARE=1 setsid sleep 5 & sleep 0.2; echo $!"), capture_output=True)
    assert time.monotonic() - begin < 2
    os.kill(int(done.stdout), signal.SIGKILL)
    os.waitpid(int(done.stdout), 0)


def test_a_caller_who_is_spared_does_not_spare_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYINIT_SPARE", "1")
    done = tinyinit.run(sh("setsid sleep 60 & env | grep -c TINYINIT_SPARE; sleep 0.2"), capture_output=True)
    assert done.stdout == b"0\n"


def call(start: StartTinyinit, arguments: str, *command: str) -> Running:
    """helpers/call.py in a process of its own, once COMMAND says that it is ready."""
    running = start(command=[*CALL, arguments, *command])
    running.wait_ready()
    return running


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGUSR1, "RuntimeError")])
@pytest.mark.parametrize("how", ["obeys", "stubborn"])
def test_an_exception_in_the_caller(start_subreaper: StartTinyinit, number: int, name: str, how: str) -> None:
    """tinyinit.run() raises it when nothing is left."""
    running = call(start_subreaper, "grace=0.5", *program("leave_behind", "sleep", how))
    begin = time.monotonic()
    running.send(number)
    running.read_until(f"came: {name}\n")
    assert time.monotonic() - begin < 1 + AFTER_GRACE
    assert children(running.pid) == []
    assert running.end()[2] == ""


def test_a_second_ctrl_c_kills_at_once(start_subreaper: StartTinyinit) -> None:
    running = call(start_subreaper, "grace=30", *program("leave_behind", "sleep", "stubborn"))
    begin = time.monotonic()
    for _ in range(2):
        running.send(signal.SIGINT)
        time.sleep(0.3)  # or the kernel would make one of two
    running.read_until("came: KeyboardInterrupt\n")
    assert time.monotonic() - begin < 0.6 + AFTER_GRACE
    assert running.end()[2] == ""


@pytest.mark.parametrize("delay", [number * 0.002 for number in range(20)])
def test_an_interrupt_while_it_starts(start_subreaper: StartTinyinit, delay: float) -> None:
    """Of the whole group, as from a terminal. A tinyinit that has got no request may outlive the caller by its start."""
    before = children(os.getpid())
    script = (
        "import os, signal, sys, threading, time, tinyinit.api\n"
        "def interrupt(): time.sleep(float(sys.argv[1])); os.kill(0, signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try: threading.Thread(target=interrupt).start(); tinyinit.run(['sleep', '60'])\n"
        "except KeyboardInterrupt: print('came', flush=True)\n"
    )
    running = start_subreaper(command=[sys.executable, "-I", "-c", script, str(delay)])
    assert running.end() == (0, "came\n", "")
    wait_until(lambda: not reap(set(children(os.getpid())) - set(before)), "what was adopted to end", 1)


def reap(pids: set[int]) -> set[int]:
    """Those who have not ended yet."""
    return {pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0] == 0}


def test_no_signal_ends_tinyinit_with_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are blocked when it is started, and only then."""
    masks = []

    class Popen(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **arguments: Any) -> None:
            masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
            super().__init__(*args, **arguments)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert tinyinit.run(["true"]).returncode == 0
    assert masks == [signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.parametrize("thread", ["", ",thread=1"])
def test_a_caller_that_is_killed(start_subreaper: StartTinyinit, thread: str) -> None:
    """COMMAND and all else end by themselves."""
    running = call(start_subreaper, "grace=0.5" + thread, *program("leave_behind", "sleep", "stubborn"))
    pids = descendants(running.pid)
    assert len(pids) >= 6
    running.send(signal.SIGKILL)
    assert running.read_rest(1 + AFTER_GRACE)  # all of them hold it
    wait_until(lambda: all(state(pid) in ("", "Z") for pid in pids), "all to end")
    running.end()
    for pid in set(pids) & set(children(os.getpid())):
        os.waitpid(pid, 0)


@pytest.mark.parametrize("rest", [(), tuple(["x" * 100_000] * 20)], ids=["short", "more than a socket takes"])
def test_a_tinyinit_that_ends_at_once(monkeypatch: pytest.MonkeyPatch, rest: tuple[str, ...]) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(subprocess.SubprocessError, match="ended with status 1 before COMMAND could be run"):
        tinyinit.run(["true", *rest])


def test_a_refusal_that_is_no_error_of_the_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    refuse = "os.write(int(sys.argv[sys.argv.index('-c') + 2]), b'refused 125 0 because of that\\n')"
    python.write_text(f"#!{sys.executable}\nimport os, sys\n{refuse}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(subprocess.SubprocessError, match=r"^because of that$"):
        tinyinit.run(["true"])


def test_text_of_one_stream_alone() -> None:
    done = tinyinit.run(["echo", "x"], stdout=subprocess.PIPE, text=True)
    assert done.stdout == "x\n"
    assert done.stderr is None


def test_a_tinyinit_that_is_killed() -> None:
    assert tinyinit.run(sh("sleep 0.3; kill -KILL $PPID")).returncode == -signal.SIGKILL
    while children(os.getpid()):
        os.wait()


def test_a_thread_that_calls_and_ends() -> None:
    """PR_SET_PDEATHSIG is about threads."""
    returncodes: list[int] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: returncodes.append(tinyinit.run(sh("sleep 0.2")).returncode))
        thread.start()
        thread.join()
    assert returncodes == [0, 0, 0]


@pytest.mark.heavy
def test_200_calls_at_once() -> None:
    """20 threads; `nothing_is_left` looks for descriptors too."""
    failures: list[object] = []

    def call_ten() -> None:
        for number in range(10):
            script = f"setsid sleep 60 & echo {number}; exit {number}"
            done = tinyinit.run(sh(script), capture_output=True, text=True, grace=20)
            if (done.returncode, done.stdout, done.stderr) != (number, f"{number}\n", ""):
                failures.append(done)

    threads = [threading.Thread(target=call_ten) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# ---- the terminal -----------------------------------------------------------------------------------------------


def test_ctrl_c_on_a_terminal_reaches_the_caller_too() -> None:
    """COMMAND has the terminal; the caller gets it when COMMAND was killed by it, as a shell does."""
    shell = Terminal([*CALL, "", *sh("echo ready; read line; echo got $line; exec sleep 60")])
    try:
        shell.read_until("ready\n")
        shell.type("word\n")
        shell.read_until("got word\n")
        shell.type("\x03")
        shell.read_until("came: KeyboardInterrupt\n")
        assert shell.wait() == 0
    finally:
        shell.close()


# ---- its cost ---------------------------------------------------------------------------------------------------


def test_the_package_does_not_import_what_run_needs() -> None:
    script = "import sys, tinyinit; print([name for name in sys.modules if name in ('subprocess', 'tinyinit.api')])"
    done = subprocess.run([sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="nonsense"):
        _ = tinyinit.nonsense  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        from tinyinit import nonsense  # type: ignore[attr-defined]  # noqa: F401
