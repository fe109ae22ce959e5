"""Contract, section 2.3: COMMAND inherits exactly what tinyinit inherited."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import StartTinyinit
from helpers.running import PYTHON, TINYINIT, UNSHARE, is_settled, program, wait_until

# Python's own handler for SIGINT is in the helper program's SigCgt, with and without tinyinit
REPORT = program("report", "plain", "", "two words", "*", "-x", "--")
# Signals 32 and 33, which no program gets from the C library (nptl(7)): posix_spawn(3) has them ignored.
KEPT_BY_LIBC = 1 << 31 | 1 << 32


def without_tinyinit(as_pid_1: bool, words: list[str], **popen: Any) -> bytes:
    """What the same COMMAND prints when it is started the same way, but for tinyinit."""
    prefix = [*UNSHARE, "sh", "-c", '"$@"; exit $?', "sh"] if as_pid_1 else []
    result = subprocess.run([*prefix, *words], stdout=subprocess.PIPE, check=True, start_new_session=True, **popen)
    return bytes(result.stdout)


def block_some_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN + 7})


def ignore_some_signals() -> None:
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGRTMAX):
        signal.signal(number, signal.SIG_IGN)


def change_limits() -> None:
    os.umask(0o027)
    os.nice(3)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (77, 99))


@pytest.mark.parametrize(
    "preparation",
    [None, block_some_signals, ignore_some_signals, change_limits],
    ids=lambda f: getattr(f, "__name__", "as is"),
)
def test_the_command_inherits_what_tinyinit_inherited(
    start: StartTinyinit, as_pid_1: bool, tmp_path: Path, preparation: Any
) -> None:
    expected = json.loads(
        without_tinyinit(as_pid_1, REPORT, preexec_fn=preparation, cwd=tmp_path, stdin=subprocess.DEVNULL)
    )
    status, out, err = start("--", *REPORT, preexec_fn=preparation, cwd=tmp_path).end()
    assert (status, err) == (0, "")
    actual = json.loads(out)
    assert actual.pop("leads_group")
    del expected["leads_group"]
    if as_pid_1:
        assert int(actual["signals"]["SigBlk"], 16) == 0  # a mask protects PID 1 while it starts, and is not COMMAND's
        expected["signals"]["SigBlk"] = actual["signals"]["SigBlk"]
    for each in (actual, expected):
        each["signals"]["SigIgn"] = int(each["signals"]["SigIgn"], 16) & ~KEPT_BY_LIBC
    assert actual == expected


def test_open_descriptors_are_passed_on_and_then_closed(start: StartTinyinit) -> None:
    reader, writer = os.pipe()
    os.dup2(writer, 57)
    script = (
        f"import os, time; os.close({writer}); os.write(57, b'here'); os.close(57); print('ready (pid: 0)', flush=True)"
    )
    running = start("--", *PYTHON, "-c", script + "; time.sleep(60)", pass_fds=(writer, 57))
    os.close(writer)
    os.close(57)
    running.wait_ready()
    assert os.read(reader, 10) == b"here"
    if not running.as_pid_1:  # else unshare, which waits outside, has it open
        assert os.read(reader, 1) == b"", "tinyinit keeps a descriptor open that COMMAND has closed"
    os.close(reader)
    wait_until(lambda: is_settled(running.pid), "tinyinit to have all that it needs")
    assert os.readlink(f"/proc/{running.pid}/cwd") == "/"
    assert sorted(os.listdir(f"/proc/{running.pid}/fd"), key=int) == ["0", "1", "2"]


ENVIRONMENTS = [
    pytest.param({}, id="empty"),
    pytest.param(
        {"A.B": "1", "c-d": "2", "1X": "", "PWD": "/nowhere", "SHLVL": "7", "_": "x", "OLDPWD": "/old"}, id="odd names"
    ),
    pytest.param({b"BYTES\xff": b"\xfe\n=="}, id="no UTF-8"),
    pytest.param({"LC_CTYPE": "C.UTF-8"}, id="UTF-8"),
    pytest.param({"LC_CTYPE": "POSIX", "LANG": "C"}, id="POSIX locale"),
    pytest.param({"LC_ALL": "C", "LC_CTYPE": "C.utf8"}, id="C locale for all"),
    pytest.param({"LC_CTYPE": "xx_YY.ISO-8859-1"}, id="a locale that is not installed"),
    pytest.param(
        {"PYTHONHASHSEED": "1", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "IFS": "x"}, id="Python's and sh's"
    ),
    pytest.param({"TINI_VERBOSITY": "1", "DUMB_INIT_DEBUG": "0"}, id="other inits' variables"),
    pytest.param({f"N{n}": "x" * 1000 for n in range(100)}, id="larger than a page"),
]


@pytest.mark.parametrize("environ", ENVIRONMENTS)
def test_the_environment_is_passed_on_to_the_byte(start: StartTinyinit, as_pid_1: bool, environ: Any) -> None:
    running = start("/usr/bin/env", "-0", command=["/usr/bin/env", "-i", *pairs(environ), TINYINIT])
    out, _ = running.process.communicate(timeout=20)
    assert sorted(out.split(b"\0")) == sorted([b"", *(os.fsencode(pair) for pair in pairs(environ))])


def pairs(environ: dict[str, str] | dict[bytes, bytes]) -> list[str]:
    return [os.fsdecode(name) + "=" + os.fsdecode(value) for name, value in environ.items()]


def test_our_own_variables_are_consumed(start: StartTinyinit) -> None:
    ours = {"TINYINIT_GRACE": "1s", "TINYINIT_QUIET": "0", "TINYINIT_SPARE": "1", "OTHER": "x"}
    _, out, _ = start("/usr/bin/env", command=["/usr/bin/env", "-i", *pairs(ours), TINYINIT]).end()
    assert out == "OTHER=x\n"


def test_arguments_are_passed_on_to_the_byte(start: StartTinyinit) -> None:
    words = [b"\xff\xfe", b"", b" ", b"a\nb", "ä€😀".encode(), b"--help", b"-v", b"--"]
    _, out, _ = start("--", *REPORT, *(os.fsdecode(word) for word in words)).end()
    assert json.loads(out)["argv"][-len(words) :] == [word.hex() for word in words]


def test_nohup_works(start: StartTinyinit) -> None:
    running = start("--", "sh", "-c", 'echo "ready (pid: $$)"; exec sleep 60', command=["nohup", TINYINIT])
    running.wait_ready()
    running.send(signal.SIGHUP)
    running.send(signal.SIGTERM)
    assert running.end()[0] == 128 + signal.SIGTERM


def test_sigchld_inherited_as_ignored_does_not_hang(start: StartTinyinit, as_pid_1: bool) -> None:
    ignoring = ["env", "--ignore-signal=CHLD"]  # inside the namespace: unshare(1) takes the default
    expected = json.loads(without_tinyinit(as_pid_1, [*ignoring, *REPORT]))
    _, out, _ = start("--", *REPORT, command=[*ignoring, TINYINIT]).end()
    assert int(expected["signals"]["SigIgn"], 16) & 1 << signal.SIGCHLD - 1
    assert json.loads(out)["signals"]["SigIgn"] == expected["signals"]["SigIgn"]
    assert start("--", "sh", "-c", "exit 7", command=[*ignoring, TINYINIT]).end()[0] == 7


def test_listen_pid_names_the_command(start: StartTinyinit) -> None:
    """Socket activation: sd_listen_fds(3) looks whether LISTEN_PID is the PID of the process that asks."""
    script = 'echo "$LISTEN_PID $$ $LISTEN_FDS"; cat <&3'
    reader, writer = os.pipe()
    os.write(writer, b"from the socket")
    os.close(writer)
    activation = ["sh", "-c", 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"', "sh", TINYINIT]
    running = start("sh", "-c", script, command=activation, preexec_fn=lambda: os.dup2(reader, 3), close_fds=False)
    os.close(reader)
    status, out, _ = running.end()
    pid, shell, count = out.splitlines()[0].split()
    assert (status, pid, count, out.splitlines()[1]) == (0, shell, "1", "from the socket")


def test_listen_pid_of_somebody_else_stays(start: StartTinyinit) -> None:
    assert start("sh", "-c", "echo $LISTEN_PID", env={**os.environ, "LISTEN_PID": "99999"}).end()[1] == "99999\n"
