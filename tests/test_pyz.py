"""tinyinit.pyz: one file to copy. That it does what the installed command does is for all other tests."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import pyz

from conftest import StartTinyinit
from helpers.running import PYTHON, UNSHARE, children, program, wait_until

ECHO = ("--", "sh", "-c", "echo ran; exit 4")
VERSION = "{}.{}".format(*sys.version_info)


def without(archive: Path, out: Path, folder: str) -> Path:
    """A copy of the archive that lacks a folder."""
    first_line = archive.read_bytes().partition(b"\n")[0]
    with zipfile.ZipFile(archive) as whole, out.open("wb") as file:
        file.write(first_line + b"\n")
        with zipfile.ZipFile(file, "w") as part:
            names = [name for name in whole.namelist() if not name.startswith(folder + "/")]
            assert len(names) < len(whole.namelist())
            for name in names:
                part.writestr(name, whole.read(name))
    out.chmod(0o755)
    return out


@pytest.mark.form("pyz")
def test_by_an_interpreter_that_somebody_else_starts(start: StartTinyinit, archive: Path) -> None:
    assert start(*ECHO, command=[*PYTHON, str(archive)]).end() == (4, "ran\n", "")
    assert start(*ECHO, command=[sys.executable, str(archive)]).end() == (4, "ran\n", "")


@pytest.mark.form("pyz")
@pytest.mark.parametrize("name", ["tinyinit", "it's in a folder/a b.pyz", "%d$HOME\\n"])
def test_whatever_it_is_called(start: StartTinyinit, archive: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    shutil.copy(archive, path)
    assert start(*ECHO, command=[str(path)]).end() == (4, "ran\n", "")
    (tmp_path / "link").symlink_to(path)
    assert start(*ECHO, command=["./link"], cwd=tmp_path).end() == (4, "ran\n", "")


@pytest.mark.form("pyz")
def test_by_a_relative_path_what_the_end_needs_is_found_too(
    start_subreaper: StartTinyinit, archive: Path, tmp_path: Path
) -> None:
    shutil.copy(archive, tmp_path / "tinyinit")
    words = ("--summary", "--", "sh", "-c", "sleep 60 & sleep 0.1; exit 4")
    for command in (["./tinyinit"], [sys.executable, "tinyinit"]):
        running = start_subreaper(*words, command=command, cwd=tmp_path)
        status, _, err = running.end()
        assert (status, "warning" in err) == (4, False), err
        assert "STATUS" in err or "status" in err


@pytest.mark.form("pyz")
def test_python_is_found_in_path(start: StartTinyinit, tmp_path: Path) -> None:
    path = tmp_path / "tinyinit"
    pyz.write_archive(path, "python3", [sys.executable])
    (tmp_path / "python3").symlink_to(sys.executable)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert start(*ECHO, command=["tinyinit"], env=environ).end() == (4, "ran\n", "")
    assert start(*ECHO, command=[str(path)], env={"PATH": "/no/such"}).end()[0] == 127


@pytest.mark.form("pyz")
@pytest.mark.parametrize("folder", ["source", VERSION], ids=["compiled", "source"])
def test_a_python_that_it_was_made_for_and_another_one(
    start: StartTinyinit, archive: Path, tmp_path: Path, folder: str
) -> None:
    path = without(archive, tmp_path / "tinyinit", folder)
    assert start(*ECHO, command=[str(path)]).end() == (4, "ran\n", "")
    status, out, _ = start("--summary", *ECHO, command=[str(path)]).end()
    assert (status, out) == (4, "ran\n")


@pytest.mark.form("pyz")
def test_a_python_that_is_too_old(tmp_path: Path) -> None:
    shutil.copy(pyz.BOOT, tmp_path / "boot.py")
    code = f"import sys; sys.version_info = (3, 8, 18); sys.path[:0] = [{str(tmp_path)!r}]; import boot"
    done = subprocess.run([*PYTHON, "-c", code], check=False, capture_output=True, text=True)
    said = f"tinyinit: this is Python 3.8 ({sys.executable}); 3.9 or newer is needed\n"
    assert (done.returncode, done.stdout, done.stderr) == (125, "", said)


@pytest.mark.form("pyz")
def test_without_python_prctl(start: StartTinyinit, as_pid_1: bool, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = str(tmp_path / "venv" / "bin" / "python3")
    pyz.write_archive(tmp_path / "tinyinit", python, [python])
    is_there = subprocess.run([python, "-c", "import _prctl"], check=False, capture_output=True).returncode == 0
    assert not is_there
    words = ("sh", "-c", "(sleep 30 &); echo 'ready (pid: 1)'; sleep 60")
    running = start("-v", "--", *words, command=[str(tmp_path / "tinyinit")])
    running.wait_ready()
    wait_until(lambda: len(children(running.pid)) == 2, "the orphan to be adopted")


@pytest.mark.form("pyz")
def test_signals_that_env_has_blocked(start_pid_1: StartTinyinit, archive: Path) -> None:
    """README's entrypoint: as PID 1 none is lost while the interpreter starts, and COMMAND's mask is empty."""
    command = ["env", "--block-signal", str(archive)]
    _, out, _ = start_pid_1("--", *program("report"), command=command).end()
    assert int(json.loads(out)["signals"]["SigBlk"], 16) == 0
    script = f"kill -TERM $$; exec {shlex.join(command)} -- sleep 60"
    words = [*UNSHARE, "env", "--block-signal", "sh", "-c", script]
    assert subprocess.run(words, check=False, stderr=subprocess.DEVNULL, timeout=30).returncode == 128 + 15


@pytest.mark.form("pyz")
def test_the_first_line_suits_every_kernel() -> None:
    assert len(pyz.FIRST_LINE.format(interpreter="python3")) <= 127  # Linux before 5.1 reads no more
    with pytest.raises(SystemExit, match="too long"):
        pyz.write_archive(Path("/no/such"), "/" + "x" * 255, [])


@pytest.mark.form("pyz")
def test_the_same_sources_make_the_same_file(tmp_path: Path) -> None:
    paths = [tmp_path / "one", tmp_path / "two"]
    for path in paths:
        words = [sys.executable, pyz.__file__, str(path), sys.executable]
        subprocess.run(words, check=True)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path not in paths] == []
