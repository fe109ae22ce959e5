"""Every test that takes `start` runs the installed command, and what it has started is ended after it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import pyz

from helpers.running import (
    INSTALLED,
    TINYINIT,
    UNPRIVILEGED,
    UNSHARE,
    Running,
    descendants,
    end_descendants,
    state,
    wait_until,
)

PR_SET_CHILD_SUBREAPER = 36


class StartTinyinit(Protocol):
    def __call__(self, *words: str | os.PathLike[str], **popen: Any) -> Running: ...


def pytest_sessionstart() -> None:
    """What a test leaves behind becomes our child, and is found and ended.

    In a shell's background INT is ignored, and under nohup HUP.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


FORMS = ("installed", "pyz")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--form", choices=FORMS, help="test with one form of the command what is tested with both")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever runs the command is run with both forms of it, but for what is about one, or about others as well."""
    runs_it = hasattr(metafunc.module, "TINYINIT") or any(name.startswith("start") for name in metafunc.fixturenames)
    marker, only = metafunc.definition.get_closest_marker("form"), metafunc.config.getoption("form")
    both = (only,) if only else FORMS
    forms = marker.args if marker else both if runs_it else ("installed",)
    metafunc.parametrize("form", forms, indirect=True, scope="session")


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tinyinit.pyz, made for this Python."""
    out = tmp_path_factory.mktemp("archive") / "tinyinit.pyz"
    for folder in list(out.parents)[:3]:
        folder.chmod(0o755)
    pyz.write_archive(out, sys.executable, [sys.executable])
    return out


@pytest.fixture(scope="session", autouse=True)
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """TINYINIT is the installed command, or tinyinit.pyz."""
    target = request.getfixturevalue("archive") if request.param == "pyz" else INSTALLED
    Path(TINYINIT).parent.mkdir(mode=0o755)
    Path(TINYINIT).symlink_to(target)
    yield request.param
    shutil.rmtree(Path(TINYINIT).parent)


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skip where no PID namespace can be made; in CI that is a failure."""
    if shutil.which("unshare") and subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode == 0:
        return
    assert not os.environ.get("CI"), "no PID namespace can be made"
    pytest.skip("no PID namespace can be made: needs root and util-linux")


@pytest.fixture(params=["pid1", "subreaper"])
def as_pid_1(request: pytest.FixtureRequest) -> bool:
    """Both modes: as PID 1 of a namespace, and as subreaper."""
    if request.param == "pid1":
        request.getfixturevalue("namespaces")
    return bool(request.param == "pid1")


@pytest.fixture(autouse=True)
def started() -> Iterator[list[Running]]:
    """Where the tinyinits of a test are kept; when it is over all that it has started is ended."""
    before = descendants(os.getpid())
    running: list[Running] = []
    yield running
    end_descendants(before)
    for each in running:
        each.close()


@pytest.fixture
def nothing_is_left(request: pytest.FixtureRequest, started: list[Running]) -> Iterator[None]:
    """Hold every test to it: what tinyinit leaves behind is a descendant of this process, which is a subreaper."""
    before = descendants(os.getpid())
    yield
    if "leaves" not in request.keywords:
        left = set(descendants(os.getpid())) - set(before) - {running.process.pid for running in started}
        assert {pid: state(pid) for pid in left} == {}


def starter(started: list[Running], as_pid_1: bool) -> StartTinyinit:
    def start_tinyinit(*words: str | os.PathLike[str], **popen: Any) -> Running:
        started.append(Running([os.fspath(word) for word in words], as_pid_1=as_pid_1, **popen))
        return started[-1]

    return start_tinyinit


@pytest.fixture
def start(started: list[Running], as_pid_1: bool) -> StartTinyinit:
    """Start tinyinit in both modes."""
    return starter(started, as_pid_1)


@pytest.fixture
def start_subreaper(started: list[Running]) -> StartTinyinit:
    """Start tinyinit as subreaper only, where PID 1 has no such case."""
    return starter(started, False)


@pytest.fixture
def start_pid_1(started: list[Running], namespaces: None) -> StartTinyinit:
    """Start tinyinit as PID 1 only."""
    return starter(started, True)


@pytest.fixture
def without_proc(namespaces: None) -> list[str]:
    """What starts a program in a mount namespace where /proc is an empty folder."""
    return ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]


@pytest.fixture
def freeze() -> Iterator[Callable[[int], None]]:
    """Freezes processes, which are in state D then, so that KILL does not end them; and thaws them in the end."""
    freezer = Path("/sys/fs/cgroup/freezer")
    if not (freezer / "tasks").exists():
        pytest.skip("no cgroup v1 freezer: that of v2 does not hold KILL back")
    group = freezer / f"tinyinit-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as failure:
        pytest.skip(f"the cgroup v1 freezer cannot be used: {failure}")

    def freeze_process(pid: int) -> None:
        (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")
        wait_until(lambda: "FROZEN" in (group / "freezer.state").read_text(), "the process to freeze")

    def is_removed() -> bool:
        try:
            group.rmdir()
        except OSError:
            return False  # EBUSY: what was frozen has yet to end
        return True

    yield freeze_process
    (group / "freezer.state").write_text("THAWED")
    for pid in (group / "cgroup.procs").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    wait_until(is_removed, "what was frozen to end")


@pytest.fixture
def become_root(tmp_path: Path) -> Path:
    """A setpriv(1) with which anybody becomes root."""
    if os.getuid() != 0:
        pytest.skip("needs root to become two other users")
    path = tmp_path / "become_root"
    shutil.copy(str(shutil.which("setpriv")), path)
    path.chmod(0o4755)
    for folder in list(tmp_path.parents)[:3]:
        folder.chmod(0o755)
    return path


@pytest.fixture
def nobody(tmp_path: Path) -> list[str]:
    """What starts a program as a user who may write to none of root's files, but can get to those of the test."""
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(0o755)
    return list(UNPRIVILEGED)
