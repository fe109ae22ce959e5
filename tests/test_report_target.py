"""Issue: it says why it ended. Where --report writes to: the status is COMMAND's whatever stands there, and nothing waits."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tinyinit
from conftest import StartTinyinit
from helpers.running import TINYINIT
from tinyinit import deliver

SOON = 5.0  # seconds: PATIENCE, and a start
FAILING = ("sh", "-c", "exit 3")


def is_report(content: str) -> bool:
    return bool(json.loads(content)["status"] == 3)


def warning(path: object, cause: str) -> str:
    return f"tinyinit: warning: cannot write the report to {str(path)!r}: {cause}\n"


@pytest.fixture
def refused(start: StartTinyinit) -> Callable[..., None]:
    """Checks that a report is refused with this cause, and that the status is COMMAND's, in time."""

    def check(path: object, cause: str, **popen: object) -> None:
        begin = time.monotonic()
        assert start("--report", str(path), "--", *FAILING, **popen).end() == (3, "", warning(path, cause))
        assert time.monotonic() - begin < SOON

    return check


# ---- where it works --------------------------------------------------------------------------------------------


def test_a_relative_path_is_meant_where_tinyinit_was_started(start: StartTinyinit, tmp_path: Path) -> None:
    assert start("--report", "a.json", "--", *FAILING, cwd=tmp_path).end() == (3, "", "")
    assert is_report((tmp_path / "a.json").read_text())


def test_a_file_is_replaced_at_once_and_keeps_its_mode(start: StartTinyinit, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("x" * 100000)
    path.chmod(0o640)
    with path.open() as reader:
        before = path.stat().st_ino
        start("--report", path, "--", *FAILING).end()
        assert reader.read() == "x" * 100000, "who reads the old one has it whole"
    assert path.stat().st_ino != before
    assert is_report(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_new_file_has_the_umask(start: StartTinyinit, tmp_path: Path) -> None:
    start("--report", tmp_path / "a", "--", *FAILING, preexec_fn=lambda: os.umask(0o027)).end()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_in_a_folder_that_allows_no_new_file_it_is_written_in_place(
    start_subreaper: StartTinyinit, tmp_path: Path, nobody: list[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_text("x" * 100000)
    path.chmod(0o666)
    before = path.stat().st_ino
    assert start_subreaper("--report", path, "--", *FAILING, command=[*nobody, TINYINIT]).end() == (3, "", "")
    assert path.stat().st_ino == before
    assert is_report(path.read_text())


def test_a_file_that_is_mounted_is_written_in_place(start: StartTinyinit, tmp_path: Path, namespaces: None) -> None:
    for name in ("mounted", "a.json"):
        (tmp_path / name).touch()
    mount = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"']
    words = [str(tmp_path / "mounted"), str(tmp_path / "a.json"), TINYINIT]
    assert start("--report", tmp_path / "a.json", "--", *FAILING, command=[*mount, *words]).end() == (3, "", "")
    assert is_report((tmp_path / "mounted").read_text())
    assert sorted(os.listdir(tmp_path)) == ["a.json", "mounted"]


def test_standard_error(start: StartTinyinit) -> None:
    status, out, err = start("--report", "-", "--", *FAILING).end()
    assert (status, out) == (3, "")
    assert is_report(err)


def test_a_descriptor(start_subreaper: StartTinyinit) -> None:
    reader, writer = os.pipe()
    assert start_subreaper("--report", f"fd:{writer}", "--", *FAILING, pass_fds=[writer]).end() == (3, "", "")
    os.close(writer)
    with os.fdopen(reader) as file:
        assert is_report(file.read())


def test_a_link_of_our_own_is_followed(start: StartTinyinit, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a").symlink_to("folder/../folder")
    (tmp_path / "b").symlink_to(tmp_path / "a" / "c")
    (tmp_path / "folder" / "c").symlink_to("d")
    assert start("--report", tmp_path / "b", "--", *FAILING).end() == (3, "", "")
    assert is_report((tmp_path / "folder" / "d").read_text())
    assert (tmp_path / "b").is_symlink()


def test_a_fifo_with_a_reader(start: StartTinyinit, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with subprocess.Popen(["cat", tmp_path / "fifo"], stdout=subprocess.PIPE, text=True) as reader:
        with open(tmp_path / "fifo", "w"):  # until it has opened it, too
            assert start("--report", tmp_path / "fifo", "--", *FAILING).end() == (3, "", "")
        assert is_report(reader.communicate()[0])
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


def test_a_device_stays_one(start: StartTinyinit) -> None:
    assert start("--report", "/dev/null", "--", *FAILING).end() == (3, "", "")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


# ---- where it does not -----------------------------------------------------------------------------------------


@pytest.fixture
def full(tmp_path: Path, namespaces: None) -> Iterator[Path]:
    """A file system without room, but for a file that is there already."""
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder], check=True)
    (folder / "a.json").write_text("mine")
    with (folder / "fill").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk(refused: Callable[..., None], full: Path) -> None:
    refused(full / "new.json", "No space left on device")
    refused(full / "a.json", "No space left on device")
    assert (full / "a.json").read_text() == "mine"
    assert sorted(os.listdir(full)) == ["a.json", "fill"]


def test_a_limit_of_file_sizes(refused: Callable[..., None], tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    refused(tmp_path / "a.json", "File too large", preexec_fn=limit)
    assert os.listdir(tmp_path) == []


def test_a_missing_folder(refused: Callable[..., None], tmp_path: Path) -> None:
    refused(tmp_path / "missing" / "a.json", "No such file or directory")


def test_a_directory(refused: Callable[..., None], tmp_path: Path) -> None:
    refused(tmp_path, "Is a directory")
    refused(f"{tmp_path}/", "Is a directory")
    refused("/", "Is a directory")


def test_a_file_as_a_folder(refused: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "a.json", "Not a directory")


def test_a_fifo_without_a_reader(refused: Callable[..., None], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    refused(tmp_path / "fifo", "No such device or address")


def test_a_fifo_whose_reader_does_not_read(refused: Callable[..., None], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(tmp_path / "fifo", os.O_WRONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    refused(tmp_path / "fifo", "nobody reads it")
    os.close(reader)
    os.close(writer)


def test_a_read_only_file(start_subreaper: StartTinyinit, tmp_path: Path, nobody: list[str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "a.json").write_text("mine")
    (folder / "a.json").chmod(0o444)
    running = start_subreaper("--report", folder / "a.json", "--", *FAILING, command=[*nobody, TINYINIT])
    assert running.end() == (3, "", warning(folder / "a.json", "Permission denied"))
    assert (folder / "a.json").read_text() == "mine"


def test_a_read_only_file_system(refused: Callable[..., None], full: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", full], check=True)
    refused(full / "a.json", "Read-only file system")
    refused(full / "new.json", "Read-only file system")


def test_a_descriptor_that_is_not_there(refused: Callable[..., None]) -> None:
    refused("fd:77", "Bad file descriptor")


def test_a_socket(refused: Callable[..., None], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        refused(tmp_path / "socket", "No such device or address")


def test_links_that_lead_to_themselves(refused: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    refused(tmp_path / "a", "Too many levels of symbolic links")


def refuse(*_: object) -> int:
    """In place of a system call."""
    raise BlockingIOError


def test_a_terminal_that_nobody_reads(start_subreaper: StartTinyinit) -> None:
    """select(2) says that there is room, but not for how much."""
    for filled in (0, 3000, 6000, 20000):
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        os.set_blocking(theirs, False)
        try:
            os.write(theirs, b"x" * filled)
        except BlockingIOError:
            pass
        os.set_blocking(theirs, True)
        begin = time.monotonic()
        running = start_subreaper("--report", "-", "--", *FAILING, "x" * 20000, stderr=theirs)
        assert running.process.wait(30) == 3
        assert time.monotonic() - begin < SOON
        os.close(theirs)
        os.close(ours)


def test_a_file_system_that_never_answers_without_waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """btrfs says EAGAIN to RWF_NOWAIT each time; a file has no room to wait for."""
    monkeypatch.setattr(os, "pwritev", refuse)
    deliver.write_file(str(tmp_path / "a"), b"x" * 10000)
    assert (tmp_path / "a").read_bytes() == b"x" * 10000
    reader, writer = os.pipe()
    begin = time.monotonic()
    with pytest.raises(OSError, match="nobody reads it"):
        deliver.write_all(writer, b"x")
    assert 0.9 < time.monotonic() - begin < SOON
    os.close(reader)
    os.close(writer)


def test_a_pipe_that_is_closed() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        deliver.write_some(writer, b"x")
    os.close(writer)


def test_without_proc_a_terminal_is_written_to_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert deliver.own_description(theirs) == theirs
    os.close(theirs)
    os.close(ours)


def test_without_proc_every_user_is_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "open", refuse, raising=False)
    assert deliver.is_somebody(12345)


def test_a_file_of_another_user_stays_theirs(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root")
    path = tmp_path / "a"
    path.touch(0o640)
    os.chown(path, 12345, 54321)
    deliver.write_file(str(path), b"x")
    kind = path.stat()
    assert (path.read_bytes(), stat.S_IMODE(kind.st_mode)) == (b"x", 0o640)
    assert (kind.st_uid, kind.st_gid) == (12345, 54321)


def test_a_working_directory_that_was_removed(start_subreaper: StartTinyinit, tmp_path: Path) -> None:
    script = 'rmdir "$PWD"; exec "$0" --report a.json -- sh -c "exit 3"'
    (tmp_path / "gone").mkdir()
    running = start_subreaper(command=["sh", "-c", script, TINYINIT], cwd=tmp_path / "gone")
    status, _, err = running.end()
    assert (status, err.endswith(warning("a.json", "the working directory was removed"))) == (3, True)
    assert not Path("/a.json").exists()


def test_a_temporary_file_that_was_left_is_in_nobodys_way(start: StartTinyinit, tmp_path: Path) -> None:
    for name in (".a.json.1.tmp", ".tinyinit.1.tmp"):
        (tmp_path / name).touch()
    assert start("--report", tmp_path / "a.json", "--", *FAILING).end() == (3, "", "")
    assert start("--report", tmp_path / ("\u00e9" * 127), "--", *FAILING).end() == (3, "", "")


@pytest.mark.parametrize("path", ["/dev/fd/{}", "/proc/self/fd/{}"])
def test_the_path_of_a_descriptor(start_subreaper: StartTinyinit, path: str) -> None:
    """As of `--report >(jq .)`."""
    reader, writer = os.pipe()
    words = ["--report", path.format(writer), "--", *FAILING]
    assert start_subreaper(*words, pass_fds=[writer]).end() == (3, "", "")
    os.close(writer)
    with os.fdopen(reader) as file:
        assert is_report(file.read())


# ---- links of others -------------------------------------------------------------------------------------------

OF_ANOTHER = "a link that is another user's, in a folder that everybody may write to, is not followed"


@pytest.fixture
def everybodys(tmp_path: Path) -> Path:
    """A folder like /tmp."""
    if os.getuid() != 0:
        pytest.skip("needs root to make what is another user's")
    folder = tmp_path / "everybodys"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.mark.parametrize("mode", [0o1777, 0o777])
def test_a_link_of_another_user_in_a_folder_of_everybodys(
    refused: Callable[..., None], tmp_path: Path, everybodys: Path, mode: int
) -> None:
    everybodys.chmod(mode)
    (tmp_path / "victim").write_text("mine")
    (everybodys / "a.json").symlink_to(tmp_path / "victim")
    os.lchown(everybodys / "a.json", 65534, 65534)
    refused(everybodys / "a.json", OF_ANOTHER)
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_folder_that_is_such_a_link(refused: Callable[..., None], tmp_path: Path, everybodys: Path) -> None:
    (tmp_path / "victims").mkdir()
    (everybodys / "folder").symlink_to(tmp_path / "victims")
    os.lchown(everybodys / "folder", 65534, 65534)
    refused(everybodys / "folder" / "a.json", OF_ANOTHER)
    assert os.listdir(tmp_path / "victims") == []


def test_such_a_link_behind_one_of_our_own(refused: Callable[..., None], tmp_path: Path, everybodys: Path) -> None:
    (everybodys / "theirs").symlink_to(tmp_path / "victim")
    os.lchown(everybodys / "theirs", 65534, 65534)
    (tmp_path / "ours").symlink_to(everybodys / "theirs")
    refused(tmp_path / "ours", OF_ANOTHER)


def test_a_file_of_another_user_in_a_folder_like_tmp(refused: Callable[..., None], everybodys: Path) -> None:
    (everybodys / "a.json").write_text("theirs")
    (everybodys / "a.json").chmod(0o666)
    os.chown(everybodys / "a.json", 65534, 65534)
    refused(everybodys / "a.json", "a file that is another user's, in a folder like /tmp, is not written to")
    assert (everybodys / "a.json").read_text() == "theirs"


def test_a_link_of_who_may_write_to_the_folder_of_the_report(
    start: StartTinyinit, tmp_path: Path, everybodys: Path
) -> None:
    """As of a COMMAND that runs as another user, under root's tinyinit."""
    (tmp_path / "victim").write_text("mine")
    everybodys.chmod(0o755)
    os.chown(everybodys, 65534, 65534)
    job = ["sh", "-c", 'ln -s "$0" "$1" && chown -h 65534 "$1"', str(tmp_path / "victim"), str(everybodys / "a.json")]
    cause = "a link that is another user's is not followed"
    assert start("--report", everybodys / "a.json", "--", *job).end() == (0, "", warning(everybodys / "a.json", cause))
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_link_of_who_is_not_in_our_user_namespace_is_followed(
    start_subreaper: StartTinyinit, tmp_path: Path, namespaces: None
) -> None:
    """In there root outside of it is as little a user as he is: user_namespaces(7)."""
    (tmp_path / "link").symlink_to("a")
    os.lchown(tmp_path / "link", 12345, 12345)
    unshare = ["unshare", "--user", "--map-user=1000"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no user namespace can be made")
    assert start_subreaper("--report", tmp_path / "link", "--", *FAILING, command=[*unshare, TINYINIT]).end() == (
        3,
        "",
        "",
    )
    assert is_report((tmp_path / "a").read_text())


def test_our_own_link_in_a_folder_of_everybodys_is_followed(
    start: StartTinyinit, tmp_path: Path, everybodys: Path
) -> None:
    (everybodys / "a.json").symlink_to(tmp_path / "target")
    assert start("--report", everybodys / "a.json", "--", *FAILING).end() == (3, "", "")
    assert is_report((tmp_path / "target").read_text())


def test_a_termination_log_that_is_such_a_link(start: StartTinyinit, tmp_path: Path, everybodys: Path) -> None:
    (tmp_path / "victim").write_text("")
    (everybodys / "log").symlink_to(tmp_path / "victim")
    os.lchown(everybodys / "log", 65534, 65534)
    status, _, err = start(f"--termination-log={everybodys / 'log'}", "--", *FAILING).end()
    assert (status, err) == (
        3,
        f"tinyinit: warning: cannot write the termination log {str(everybodys / 'log')!r}: {OF_ANOTHER}\n",
    )
    assert (tmp_path / "victim").read_text() == ""


# ---- bad values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", "fd:", "fd:x", "fd:-1", "fd:99999999999"])
def test_a_bad_target_is_refused_before_anything_is_started(start_subreaper: StartTinyinit, value: str) -> None:
    assert start_subreaper("--report", value, "--", "echo", "started").end() == (
        125,
        "",
        f"tinyinit: option --report: {value!r} is no place for a report; write a path, - for standard error, or fd:3\n",
    )


# ---- surroundings ----------------------------------------------------------------------------------------------


def test_without_proc_there_is_a_report_all_the_same(
    start_subreaper: StartTinyinit, tmp_path: Path, without_proc: list[str]
) -> None:
    path = tmp_path / "a.json"
    assert start_subreaper("--report", path, "--", *FAILING, command=[*without_proc, TINYINIT]).end()[0] == 3
    report = json.loads(path.read_text())
    assert (report["status"], report["memory"], report["tinyinit"]["peak_memory_bytes"]) == (3, None, None)


def test_a_job_that_deletes_tinyinit_has_its_status(start: StartTinyinit, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    shutil.copytree(Path(tinyinit.__file__).parent, folder / "tinyinit")
    code = f"import sys; sys.path[:0] = [{str(folder)!r}]; import tinyinit.init as i; i.main()"
    words = ["--report", str(tmp_path / "a.json"), "--", "sh", "-c", 'rm -r "$0"; sleep 0.1; exit 3', str(folder)]
    status, _, err = start(*words, command=[sys.executable, "-B", "-I", "-c", code]).end()
    assert (status, err.count("\n")) == (3, 1)
    assert "No module named 'tinyinit.tell'" in err
