"""Contract, section 9: what is missing, closed, full or forbidden around tinyinit does not end it."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import StartTinyinit
from helpers.running import INSTALLED, TINYINIT, UNPRIVILEGED, UNSHARE, as_user, children, program, wait_until
from tinyinit.explain import prctl_by_ctypes


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_standard_streams(start: StartTinyinit, closed: tuple[int, ...]) -> None:
    close = " ".join(f"{fd}>&-" for fd in closed)
    words = ["sh", "-c", f'exec "$0" "$@" {close}', TINYINIT]
    for options in ([], ["-v"]):
        assert start(*options, "--", "sh", "-c", "exit 4", command=words).end()[0] == 4
        assert start(*options, "--", "/no/such", command=words).end()[0] == 127


def test_closed_streams_are_closed_for_the_command_too(start: StartTinyinit) -> None:
    words = ["sh", "-c", 'exec "$0" "$@" 0<&-', TINYINIT]
    assert start("--", "sh", "-c", "test -e /proc/$$/fd/0", command=words).end()[0] == 1
    assert start("--", "sh", "-c", "test -e /proc/$$/fd/0").end()[0] == 0


@pytest.mark.parametrize("options", [[], ["-v"], ["--no-such"]], ids=["silent", "verbose", "refused"])
def test_a_full_disk_behind_standard_error(start: StartTinyinit, options: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        expected = 125 if "--no-such" in options else 4
        assert start(*options, "--", "sh", "-c", "exit 4", stderr=full).end()[0] == expected


def test_a_file_behind_standard_error_keeps_its_lines(start: StartTinyinit, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        start("-v", "--", "sh", "-c", "echo one >&2; exit 3", stderr=file).end()
    lines = log.read_text().splitlines()
    assert "one" in lines
    assert lines[-1].endswith("exited with status 3")


def test_a_standard_error_past_the_limit_of_file_sizes(start: StartTinyinit, tmp_path: Path) -> None:
    """write(2) past RLIMIT_FSIZE sends SIGXFSZ to who writes: that is tinyinit, and not COMMAND."""
    with (tmp_path / "log").open("wb") as file:
        limit: Callable[[], None] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # noqa: E731
        running = start("-v", "--", *program("log_signals", "got", signal.SIGTERM), stderr=file, preexec_fn=limit)
        running.wait_ready()
        running.send(signal.SIGUSR1)
        running.read_until("got 10\n")
        running.send(signal.SIGTERM)
        assert running.end()[1].splitlines()[1:] == ["got 10", "got 15"]


def test_without_proc_as_subreaper(start_subreaper: StartTinyinit, without_proc: list[str]) -> None:
    script = ["sh", "-c", "(sleep 0.1 &); sleep 0.2; exit 4"]
    assert start_subreaper("--", *script, command=[*without_proc, TINYINIT]).end() == (4, "", "")
    assert start_subreaper("--", "/no/such", command=[*without_proc, TINYINIT]).end()[0] == 127


def test_without_proc_as_pid_1(start_subreaper: StartTinyinit, without_proc: list[str]) -> None:
    script = ["sh", "-c", "sleep 60 & setsid sleep 60 & exit 4"]
    namespace = ["unshare", "--pid", "--fork", "--kill-child", "--"]
    assert start_subreaper("--", *script, command=[*namespace, *without_proc, TINYINIT]).end() == (4, "", "")


def test_without_dev(start: StartTinyinit, namespaces: None) -> None:
    words = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh", TINYINIT]
    assert start("--", "sh", "-c", "exit 4", command=words).end() == (4, "", "")


def test_the_least_of_descriptors(start: StartTinyinit) -> None:
    """3 descriptors are enough for what goes on once it runs, but not to start: that is said."""

    def limit(count: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))

    assert start("--", "sh", "-c", "exit 4", preexec_fn=limit(16)).end() == (4, "", "")


def test_an_unprivileged_user_without_capabilities(start: StartTinyinit) -> None:
    if os.getuid() != 0:
        pytest.skip("is one already")
    running = start("--", *program("log_signals", "got", signal.SIGTERM), command=[*UNPRIVILEGED, TINYINIT])
    running.wait_ready()
    running.send(signal.SIGTERM)
    status, out, err = running.end()
    assert (status, out.splitlines()[1:], err) == (0, ["got 15"], "")
    script = "(sleep 0.1 &); (setsid sleep 0.1 &); sleep 0.3; exit 4"
    assert start("--", "sh", "-c", script, command=[*UNPRIVILEGED, TINYINIT]).end() == (4, "", "")


def test_a_pid_limit_of_two_is_enough(start_subreaper: StartTinyinit) -> None:
    """tinyinit and COMMAND: nothing else is started on the way."""
    if os.getuid() != 0:
        pytest.skip("needs root to become a user with no other process")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))

    command = [*as_user(64321), TINYINIT]
    assert start_subreaper("--", "sh", "-c", "exit 4", command=command, preexec_fn=limit).end() == (4, "", "")


@pytest.fixture
def without_prctl(tmp_path: Path) -> list[str]:
    """A tinyinit that finds no python-prctl."""
    (tmp_path / "_prctl.py").write_text("raise ImportError('hidden by a test')\n")
    package = subprocess.run(
        [INSTALLED + "-python"], check=False, capture_output=True
    )  # the script alone is a usage error, and compiles nothing
    assert package.returncode == 125
    import tinyinit

    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(Path(tinyinit.__file__).parent.parent)!r}]; import tinyinit.init as i; i.main()"
    import sys

    return [sys.executable, "-I", "-c", code]


@pytest.mark.form("installed")
def test_without_python_prctl_orphans_are_still_adopted(start: StartTinyinit, without_prctl: list[str]) -> None:
    running = start("--", "sh", "-c", "(sleep 30 &); echo 'ready (pid: 1)'; sleep 60", command=without_prctl)
    running.wait_ready()
    wait_until(lambda: len(children(running.pid)) == 2, "the orphan to be adopted")
    running.send(signal.SIGTERM)
    assert running.process.wait(10) in (143, -15)


def test_what_the_kernel_refuses_to_ctypes_is_an_error() -> None:
    with pytest.raises(OSError, match="Invalid argument") as caught:
        prctl_by_ctypes(-1, 0)
    assert caught.value.errno == errno.EINVAL


def test_a_kernel_that_refuses_is_one_warning_as_subreaper(start: StartTinyinit) -> None:
    if not Path("/usr/bin/strace").exists():
        assert not os.environ.get("CI"), "strace is missing"
        pytest.skip("needs strace")
    for error in ("EINVAL", "EPERM", "ENOSYS"):
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject=prctl:error={error}"]
        status, _, err = start("--", "sh", "-c", "exit 4", command=[*strace, TINYINIT]).end()
        assert status == 4
        lines = err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("tinyinit: warning: cannot become a child subreaper (")


def test_pid_1_says_nothing_when_the_kernel_refuses(start_subreaper: StartTinyinit, namespaces: None) -> None:
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=prctl:error=EPERM:when=7+"]
    status, _, err = start_subreaper("--", "sh", "-c", "exit 4", command=[*strace, *UNSHARE, TINYINIT]).end()
    assert (status, err) == (4, "")
