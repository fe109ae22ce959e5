"""NOTIFY_SOCKET: what COMMAND may say, who is heard, and that nothing which is said there does any harm."""

from __future__ import annotations

import os
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import StartTinyinit
from helpers.running import (
    PYTHON,
    TINYINIT,
    Running,
    children,
    private_memory,
    program,
    state,
    status_field,
    wait_until,
)
from tinyinit import notify
from tinyinit.init import Init, Options, Start
from tinyinit.limits import Limits

MESSAGES = ["READY=1", "STATUS=half way", "EXTEND_TIMEOUT_USEC=5000000"]


def socket_of(running: Running) -> bytes:
    """The address that COMMAND finds."""
    environ = Path(f"/proc/{running.main}/environ")
    match = wait_until(lambda: re.search(rb"(?:^|\0)NOTIFY_SOCKET=@([^\0]+)", environ.read_bytes()), "COMMAND's exec")
    return b"\0" + bytes(match[1])


def stop(running: Running) -> None:
    """Have tinyinit, and nobody else, not run for a while."""
    os.kill(running.pid, signal.SIGSTOP)
    wait_until(lambda: state(running.pid) == "T", "tinyinit to be stopped")


# ---- more time ------------------------------------------------------------------------------------------------


def test_a_job_that_keeps_asking_for_more_time_ends_with_its_own_status(start: StartTinyinit) -> None:
    job = program("say", *["EXTEND_TIMEOUT_USEC=400000", "sleep:0.15"] * 4)
    assert start("--timeout", "400ms", "--", *job).end() == (3, "", "")


def test_a_job_that_stops_asking_ends_with_124(start_subreaper: StartTinyinit) -> None:
    begin = time.monotonic()
    job = program("say", "EXTEND_TIMEOUT_USEC=2500000", "sleep:60")
    status, _, err = start_subreaper("--timeout", "2", "--", *job).end()
    assert status == 124
    assert 2.5 < time.monotonic() - begin < 10
    assert "has run for 2 s, which is its --timeout and the time that it has asked for; what runs now:" in err


def test_nothing_shortens_the_limit_or_takes_it_away(start_subreaper: StartTinyinit) -> None:
    values = ["1", "0", "18446744073709551615", "18446744073709551616", "-5", "x", "", "9" * 400]
    begin = time.monotonic()
    job = program("say", *[f"EXTEND_TIMEOUT_USEC={value}" for value in values], "sleep:60")
    assert start_subreaper("-q", "--timeout", "0.5", "--", *job).end() == (124, "", "")
    assert 0.5 < time.monotonic() - begin < 5


def test_what_was_asked_in_time_counts_although_tinyinit_was_late(start_subreaper: StartTinyinit) -> None:
    job = program("say", "print:ready (pid: 0)", "read:", "EXTEND_TIMEOUT_USEC=60000000", "print:said", "read:")
    running = start_subreaper("--timeout", "0.4", "--", *job, stdin=subprocess.PIPE)
    running.wait_ready()
    stop(running)
    assert running.process.stdin
    running.process.stdin.write(b"\n")
    running.process.stdin.flush()
    running.read_until("said")
    time.sleep(0.5)  # until the limit has passed
    running.send(signal.SIGCONT)
    assert running.end()[0] == 3  # at the end of standard input


def test_the_status_is_in_the_process_tree_and_cannot_write_on_a_terminal(start_subreaper: StartTinyinit) -> None:
    said = b"STATUS=100%\x1b[2J\x07 \xff\xc3\xa4 " + b"x" * 1000
    running = start_subreaper("--timeout", "0.4", "--", *program("say"), os.fsdecode(said), "sleep:60")
    err = running.end()[2]
    assert "which is its --timeout (STATUS=100%\\x1b[2J\\x07 \\xffä xxx" in err
    assert max(map(len, err.splitlines())) < 500


# ---- clients that are not ours --------------------------------------------------------------------------------

CLIENTS = {
    "systemd-notify": "systemd-notify --ready --status='half way' && systemd-notify EXTEND_TIMEOUT_USEC=5000000",
    "sdnotify": "import sdnotify; n = sdnotify.SystemdNotifier(); [n.notify(m) for m in messages]",
    "cysystemd": "from cysystemd.daemon import notify, Notification as N; notify(N.READY);"
    " notify(N.STATUS, 'half way'); notify(N.EXTEND_TIMEOUT, 5000000) if hasattr(N, 'EXTEND_TIMEOUT') else None",
    "libsystemd": "import ctypes; c = ctypes.CDLL('libsystemd.so.0');"
    " [c.sd_notify(0, m.encode()) for m in messages]; assert c.sd_notify_barrier(0, ctypes.c_uint64(5000000)) > 0",
}


def client(name: str) -> list[str]:
    """The words that run a client, which sends MESSAGES; skip where it is missing, which in CI is a failure."""
    if name == "systemd-notify":
        is_there, words = shutil.which(name) is not None, ["sh", "-c", CLIENTS[name]]
    else:
        words = [sys.executable, "-c", f"messages = {MESSAGES}; {CLIENTS[name]}; import time; time.sleep(0.1)"]
        probe = "import ctypes; ctypes.CDLL('libsystemd.so.0')" if name == "libsystemd" else f"import {name}"
        is_there = subprocess.run([sys.executable, "-c", probe], check=False, capture_output=True).returncode == 0
    if not is_there:
        assert not os.environ.get("CI"), f"{name} is missing"
        pytest.skip(f"needs {name}")
    return words


@pytest.mark.parametrize("name", list(CLIENTS))
def test_clients_that_are_not_ours(start: StartTinyinit, name: str) -> None:
    status, _, err = start("-v", "--notify", "--", *client(name)).end()
    assert status == 0
    said = re.findall("COMMAND says (.*)", err)
    assert said[:2] == ["READY=1", "STATUS=half way"]
    assert said[2:] == MESSAGES[2:] or name == "cysystemd"
    assert "warning" not in err


def test_systemd_notify_as_command(start: StartTinyinit) -> None:
    """As root it says that its parent is the sender, and that is tinyinit."""
    client("systemd-notify")
    status, _, err = start("-v", "--notify", "--", "systemd-notify", "--ready").end()
    assert status == 0
    assert "COMMAND says READY=1" in err


def test_what_was_said_last_is_heard_though_term_comes_before_sigchld(start: StartTinyinit) -> None:
    """TERM has tinyinit look at COMMAND, which has ended by then."""
    job = program("say", "print:ready", "read:", "READY=1", "STATUS=done")
    running = start("-v", "--notify", "--", *job, stdin=subprocess.PIPE)
    running.read_until("ready\n")
    main = running.main
    stop(running)
    running.go_on()
    wait_until(lambda: state(main) == "Z", "COMMAND to end")
    running.send(signal.SIGTERM)
    running.send(signal.SIGCONT)
    status, _, err = running.end()
    assert (status, re.findall("COMMAND says (.*)", err)) == (3, ["READY=1", "STATUS=done"])


# ---- who is heard ---------------------------------------------------------------------------------------------


def test_the_same_user_outside_of_the_tree_is_refused_with_one_warning(start: StartTinyinit) -> None:
    job = program("say", "print:ready (pid: 0)", "sleep:0.3", "STATUS=inside", "sleep:60")
    running = start("--timeout", "0.6", "--", *job)
    running.wait_ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outsider:
        for message in (b"EXTEND_TIMEOUT_USEC=60000000", b"STATUS=outside", b"STATUS=again"):
            outsider.sendto(message, socket_of(running))
    status, _, err = running.end()
    assert (status, err.count("warning: a message to NOTIFY_SOCKET is ignored")) == (124, 1)
    assert "STATUS=inside" in err


def test_a_process_that_has_entered_the_namespace_is_refused(start_pid_1: StartTinyinit) -> None:
    """As docker exec does: it has PID namespace and network in common, but no parent in there."""
    running = start_pid_1("-v", "--notify", "--", "sleep", "60")
    address = b"@" + socket_of(running)[1:]
    env = {**os.environb, b"NOTIFY_SOCKET": address}
    entered = ["nsenter", "-t", str(running.pid), "-p", "-m", "--", *program("say", "STATUS=entered", "sleep:0.2")]
    subprocess.run(entered, env=env, check=False)
    running.send(signal.SIGTERM)
    err = running.end()[2]
    assert "is no process of COMMAND's" in err
    assert "entered" not in err


def test_another_user_is_refused_but_not_one_of_our_own_tree(start: StartTinyinit) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    from helpers.running import UNPRIVILEGED

    running = start(
        "-v", "--notify", "--", *UNPRIVILEGED, *program("say", "STATUS=inside", "print:ready (pid: 0)", "sleep:60")
    )
    running.wait_ready()
    env = {**os.environb, b"NOTIFY_SOCKET": b"@" + socket_of(running)[1:]}
    subprocess.run([*UNPRIVILEGED, *program("say", "STATUS=outside", "sleep:0.2")], env=env, check=False)
    running.send(signal.SIGTERM)
    err = running.end()[2]
    assert "STATUS=inside" in err
    assert "STATUS=outside" not in err
    assert "65534" in err


def test_a_sender_that_has_ended_is_refused_once_it_was_reaped(start: StartTinyinit) -> None:
    job = program(
        "say",
        "print:ready (pid: 0)",
        "read:",
        "zombie:STATUS=zombie",
        "child:STATUS=gone",
        "child:STATUS=too",
        "print:said",
        "sleep:0.2",
    )
    running = start("-v", "--notify", "--", *job, stdin=subprocess.PIPE)
    running.wait_ready()
    stop(running)
    assert running.process.stdin
    running.process.stdin.write(b"\n")
    running.process.stdin.flush()
    running.read_until("said")
    running.send(signal.SIGCONT)
    err = running.end()[2]
    assert re.findall("COMMAND says (.*)", err) == ["STATUS=zombie"]
    assert err.count("has ended, so it is not known whose it was") == 1


def test_the_last_words_are_heard(start: StartTinyinit) -> None:
    """COMMAND's, and those of an orphan, although the signal that they have ended comes first."""
    orphan = f"exec 3<&0; ({shlex.join(program('say', 'read:', 'STATUS=orphan'))} <&3 &); "
    main = f"exec {shlex.join(program('say', 'print:ready (pid: 0)', 'read:', 'sleep:0.1', 'STATUS=main'))}"
    running = start("-v", "--notify", "--", "sh", "-c", orphan + main, stdin=subprocess.PIPE)
    running.wait_ready()
    wait_until(lambda: len(children(running.pid)) == 2, "the orphan")
    pid = running.pid
    stop(running)
    assert running.process.stdin
    running.process.stdin.close()
    wait_until(lambda: [state(child) for child in children(pid)] == ["Z", "Z"], "both to end")
    os.kill(pid, signal.SIGCONT)
    running.process.stdin = None
    err = running.end()[2]
    assert sorted(re.findall("COMMAND says (.*)", err)) == ["STATUS=main", "STATUS=orphan"]
    assert "warning" not in err


def test_without_proc_the_main_group_is_heard(start_subreaper: StartTinyinit, namespaces: None) -> None:
    without_proc = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    job = program("say", "STATUS=hello", "sleep:0.1")
    status, _, err = start_subreaper("-v", "--notify", "--", *job, command=[*without_proc, TINYINIT]).end()
    assert status == 3
    assert "COMMAND says STATUS=hello" in err


# ---- what is said in vain -------------------------------------------------------------------------------------


def test_what_is_not_known_is_ignored_quietly(start_subreaper: StartTinyinit) -> None:
    messages = ["MAINPID=1", "ERRNO=2", "FDSTORE=1", "FDNAME=x", "X_OWN=1", "nonsense", "=", "", "\n\n", "BUSERROR=x"]
    assert start_subreaper("--notify", "--", *program("say", *messages)).end() == (3, "", "")


def test_of_a_message_that_is_too_long_nothing_is_heard(start_subreaper: StartTinyinit) -> None:
    job = program("say", "STATUS=long\n" + 5000 * "x", "STATUS=short", "sleep:0.1")
    err = start_subreaper("-v", "--notify", "--", *job).end()[2]
    assert re.findall("COMMAND says (.*)", err) == ["STATUS=short"]


def test_descriptors_are_closed_at_once(start: StartTinyinit) -> None:
    running = start(
        "--notify",
        "--",
        *program("say", "fds:200", "count:500", "FDSTORE=1", "count:500", "BARRIER=1", "print:said", "sleep:0.3"),
    )
    running.read_until("said")
    wait_until(lambda: len(os.listdir(f"/proc/{running.pid}/fd")) == 4, "the descriptors to be closed")
    assert running.end()[:2] == (3, "said\nclosed\n")


def test_a_flood_delays_nothing_and_takes_no_memory(start: StartTinyinit) -> None:
    flood = program("say", "STATUS=1", "print:begin", "read:", "count:20000", "STATUS=" + "x" * 1000, "print:said")
    main = program("log_signals", "got")
    script = f'exec 3<&0; setsid "$@" <&3 & exec {shlex.join(main)}'
    running = start("--notify", "--", "sh", "-c", script, "sh", *flood, stdin=subprocess.PIPE)
    running.wait_ready()
    running.read_until("begin")
    pid, before = running.pid, private_memory(running.pid)
    assert running.process.stdin
    running.process.stdin.write(b"\n")
    running.process.stdin.flush()
    for number in range(signal.SIGRTMIN, signal.SIGRTMIN + 5):
        sent = time.monotonic()
        os.kill(pid, number)
        running.read_until(f"got {number}")
        assert time.monotonic() - sent < 1
    assert "said" not in running.output.decode()
    running.read_until("said", timeout=30)
    wait_until(lambda: len(children(pid)) == 1, "the child that said all that to be reaped")
    assert private_memory(pid) - before <= 256


def test_of_a_flood_so_many_are_taken_at_once_and_then_signals_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter(range(10 * notify.MOST_AT_ONCE))
    monkeypatch.setattr(notify.Notify, "take", lambda _: next(taken) >= 0)
    init, (ours, other) = Init(Options({}), Start(["true"], ()), 0), socket.socketpair(type=socket.SOCK_DGRAM)
    with ours, other:
        notify.Notify(init, Limits(init), ours, b"").take_all()
    assert next(taken) == notify.MOST_AT_ONCE
    assert init.deadlines["notify"][0] <= time.monotonic()


def test_where_no_real_time_signal_can_be_queued(start_subreaper: StartTinyinit) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0))

    job = program("say", "count:20", "STATUS=hello", "READY=1", "sleep:0.2")
    err = start_subreaper("-v", "--notify", "--", *job, preexec_fn=limit).end()[2]
    assert re.findall("COMMAND says (.*)", err) == ["STATUS=hello"] * 20 + ["READY=1"]


@pytest.mark.parametrize("number", [signal.SIGRTMAX - 1, signal.SIGIO])
def test_a_signal_that_a_process_sends_is_forwarded_all_the_same(start: StartTinyinit, number: int) -> None:
    running = start("--notify", "--", *program("log_signals", "got"))
    running.wait_ready()
    running.send(number)
    running.read_until(f"got {number}\n")


def test_such_a_signal_is_told_of_also_where_another_one_has_all_that_came_taken(start: StartTinyinit) -> None:
    news = signal.SIGRTMAX - 1
    running = start("-v", "--notify", "--", *program("log_signals", "got", signal.SIGRTMAX))
    running.wait_ready()
    running.send(signal.SIGSTOP)
    wait_until(lambda: state(running.pid) == "T", "tinyinit to stop")
    for number in (signal.SIGCHLD, news, signal.SIGCONT, signal.SIGRTMAX):
        running.send(number)
    assert re.search("SIGRTMIN.29 came from pid .*\n.*sent SIGRTMIN.29 to COMMAND", running.end()[2])


def test_a_signal_with_which_another_one_was_taken_is_counted(start: StartTinyinit) -> None:
    """TERM has tinyinit look at COMMAND, and first take what has come by the socket, with its signals."""
    news = signal.SIGRTMAX - 1
    running = start("--summary", "--notify", "--", *program("log_signals", "got", signal.SIGRTMAX))
    running.wait_ready()
    stop(running)
    for number in (signal.SIGTERM, news, signal.SIGCONT):
        running.send(number)
    for number in (signal.SIGTERM, news):
        running.read_until(f"got {int(number)}\n")
    running.send(signal.SIGRTMAX)
    counts = "SIGTERM 1, SIGCONT 1, SIGRTMIN+29 1, SIGRTMAX 1"
    assert re.findall("^tinyinit: signals *(.*)", running.end()[2], re.MULTILINE) == [counts]


# ---- the outer socket -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_it_is_passed_on_to_our_own_notify_socket(start: StartTinyinit, tmp_path: Path, kind: str) -> None:
    address = str(tmp_path / "outer") if kind == "file" else f"\0tinyinit-test/{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outer:
        outer.bind(address)
        outer.settimeout(5)
        env = {**os.environ, "NOTIFY_SOCKET": address.replace("\0", "@")}
        said = [
            "READY=1\nMAINPID=7\nSTATUS=up",
            "ERRNO=3",
            "WATCHDOG=1",
            "EXTEND_TIMEOUT_USEC=9",
            "X_OWN=1",
            "STOPPING=1",
        ]
        running = start("--notify", "--", *program("say", *said), env=env)
        heard = [outer.recv(4096).decode() for _ in range(4)]
        assert heard == ["READY=1\nSTATUS=up", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=9", "STOPPING=1"]
        assert running.end() == (3, "", "")


def test_an_outer_socket_that_is_full_is_not_waited_for(start_subreaper: StartTinyinit, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outer:
        outer.bind(str(tmp_path / "outer"))
        outer.settimeout(5)
        env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "outer")}
        job = program("say", "count:1000", "STATUS=early", "READY=1", "STATUS=late", "print:said", "sleep:60")
        running = start_subreaper("--notify", "--", *job, env=env)
        running.read_until("said")
        heard = b""
        while b"READY=1" not in heard or b"STATUS=late" not in heard:
            heard += outer.recv(4096)
        assert heard.count(b"STATUS=early") < 1000


def test_an_outer_socket_that_is_gone_is_one_warning(start_subreaper: StartTinyinit) -> None:
    env = {**os.environ, "NOTIFY_SOCKET": "/no/such"}
    status, _, err = start_subreaper(
        "--notify", "--", *program("say", "READY=1", "READY=1", "sleep:0.1"), env=env
    ).end()
    assert (status, err) == (
        3,
        "tinyinit: warning: what COMMAND says cannot be passed on to our own NOTIFY_SOCKET: No such file or directory\n",
    )


def test_an_extension_reaches_every_tinyinit_above(start_subreaper: StartTinyinit) -> None:
    job = program("say", *["EXTEND_TIMEOUT_USEC=600000", "sleep:0.2"] * 4)
    assert start_subreaper("--timeout", "0.6", "--", TINYINIT, "--timeout", "0.6", "--", *job).end() == (3, "", "")


# ---- what it costs --------------------------------------------------------------------------------------------


def test_without_the_option_nothing_is_changed(start: StartTinyinit) -> None:
    env = {**os.environ, "NOTIFY_SOCKET": "/run/outer", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "7"}
    running = start(
        "--kill-after",
        "9",
        "--",
        "sh",
        "-c",
        "echo $NOTIFY_SOCKET $WATCHDOG_USEC $WATCHDOG_PID; read x",
        env=env,
        stdin=subprocess.PIPE,
    )
    assert running.read_until("7\n") == "/run/outer 5 7\n"
    wait_until(lambda: len(os.listdir(f"/proc/{running.pid}/fd")) == 3, "descriptors to be closed")


def test_one_descriptor_and_no_wake_up(start: StartTinyinit) -> None:
    running = start("--timeout", "1h", "--watchdog", "1h", "--", "sleep", "60")
    pid = running.pid
    wait_until(lambda: state(pid) == "S" and len(os.listdir(f"/proc/{pid}/fd")) == 4, "tinyinit to sleep")
    time.sleep(0.2)  # COMMAND's exec and tinyinit's tidying up after it are over
    before = status_field(pid, "voluntary_ctxt_switches")
    time.sleep(0.5)
    assert status_field(pid, "voluntary_ctxt_switches") == before


def test_command_does_not_get_the_socket_itself(start_subreaper: StartTinyinit) -> None:
    out = start_subreaper(
        "--notify", "--", *PYTHON, "-c", "import os; print(sorted(os.listdir('/proc/self/fd')))"
    ).end()[1]
    assert out == "['0', '1', '2', '3']\n"  # 3 is the folder


def test_a_closed_standard_error_does_not_become_the_socket(start_subreaper: StartTinyinit) -> None:
    words = ["sh", "-c", 'exec 2>&-; exec "$@"', "sh", TINYINIT]
    running = start_subreaper("-v", "--notify", "--", *program("say", "READY=1", "sleep:60"), command=words)
    wait_until(lambda: sorted(os.listdir(f"/proc/{running.pid}/fd")) == ["0", "1", "3"], "2 to stay closed")
