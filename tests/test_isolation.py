"""Contract, section 10, and the command itself: nothing around it changes what code PID 1 runs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pyz

import tinyinit
from conftest import StartTinyinit
from helpers.running import INSTALLED, TINYINIT

ALLOWED_IMPORTS = {"tinyinit", "tinyinit.init", "_prctl"}
of_the_launcher = pytest.mark.form("installed")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder of modules, each of which says that it was imported."""
    folder = tmp_path / "trap"
    folder.mkdir()
    names = (
        "os",
        "signal",
        "posix",
        "_signal",
        "time",
        "errno",
        "site",
        "sitecustomize",
        "usercustomize",
        "_prctl",
        "prctl",
        "ctypes",
    )
    for name in (*names, "tinyinit/__init__", "tinyinit/init", "encodings/__init__", "io", "abc", "codecs"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text("import sys; sys.stderr.write('trapped\\n'); raise SystemExit(99)\n")
    return folder


def test_hostile_modules_are_not_imported(start: StartTinyinit, trap: Path) -> None:
    env = {
        **os.environ,
        "PYTHONPATH": str(trap),
        "PYTHONHOME": str(trap),
        "PYTHONSTARTUP": str(trap / "os.py"),
        "PYTHONINSPECT": "1",
        "PYTHONUSERBASE": str(trap),
        "PYTHONWARNINGS": "error",
        "PYTHONVERBOSE": "1",
        "PYTHONPLATLIBDIR": "no",
        "PYTHONDEVMODE": "1",
        "PYTHONPROFILEIMPORTTIME": "1",
        "PYTHONMALLOC": "debug",
    }
    for options in ([], ["-v", "-p", "TERM"], ["--help"]):
        status, out, err = start(*options, "--", "sh", "-c", "echo ran; exit 4", env=env, cwd=trap).end()
        assert (status, out) == (4, "ran\n") or options == ["--help"]
        assert "trapped" not in err + out


def test_only_built_in_modules_and_python_prctl_are_imported(form: str) -> None:
    run = [INSTALLED + "-python"] if form == "installed" else ["-c", pyz.CODE, TINYINIT]
    words = [sys.executable, "-IS", "-X", "importtime", *run, "--", "true"]
    err = subprocess.run(words, check=True, capture_output=True, text=True).stderr
    imported = set(re.findall(r"^import time: .*\| *(\S+)$", err, re.MULTILINE)) - {"package"}
    own_start = subprocess.run(
        [sys.executable, "-IS", "-X", "importtime", "-c", "pass"], check=True, capture_output=True, text=True
    )
    floor = set(re.findall(r"^import time: .*\| *(\S+)$", own_start.stderr, re.MULTILINE))
    later = {
        "tinyinit.leftovers",
        "tinyinit.ending",
        "tinyinit.cgroup",
    }  # a moment after COMMAND's start, should it still run then
    of_the_archive = {"boot", "zipimport"} if form == "pyz" else set()
    assert imported - floor - set(sys.builtin_module_names) - later - of_the_archive == ALLOWED_IMPORTS


@of_the_launcher
@pytest.mark.skipif(not shutil.which("strace") and not os.environ.get("CI"), reason="needs strace")
def test_the_mask_is_set_before_anything_of_ours_is_opened(tmp_path: Path) -> None:
    log = tmp_path / "log"
    subprocess.run(["strace", "-f", "-o", str(log), TINYINIT, "--", "true"], check=True)
    lines = log.read_text().splitlines()
    mask = next(number for number, line in enumerate(lines) if "rt_sigprocmask(SIG_BLOCK, ~[" in line)
    opened = [number for number, line in enumerate(lines) if "open" in line and "tinyinit" in line]
    assert opened
    assert mask < min(opened)
    started = next(number for number, line in enumerate(lines) if "execve(" in line and "-IS" in line)
    assert mask < started, "the launcher blocks signals before the interpreter starts"


def test_called_by_name_by_path_and_through_links(start: StartTinyinit, tmp_path: Path) -> None:
    link, second = tmp_path / "link", tmp_path / "second"
    link.symlink_to(TINYINIT)
    second.symlink_to("link")
    folder = tmp_path / "folder"
    folder.symlink_to(Path(TINYINIT).parent)
    by_name = {**os.environ, "PATH": f"{Path(TINYINIT).parent}:{os.environ['PATH']}"}
    assert start("echo", "x", command=["tinyinit"], env=by_name).end() == (0, "x\n", "")
    for path in (link, second, folder / "tinyinit"):
        assert start("echo", "x", command=[str(path)]).end() == (0, "x\n", "")
    assert start("echo", "x", command=["./second"], cwd=tmp_path).end() == (0, "x\n", "")
    assert start("echo", "x", command=[f"../{folder.resolve().name}/tinyinit"], cwd=folder).end() == (0, "x\n", "")


def test_an_empty_environment_and_an_empty_path(start: StartTinyinit) -> None:
    assert start("/bin/echo", "x", command=["/usr/bin/env", "-i", TINYINIT]).end() == (0, "x\n", "")
    assert start("/bin/echo", "x", command=["/usr/bin/env", "-i", "PATH=", TINYINIT]).end() == (0, "x\n", "")


def test_an_unreadable_working_directory(start: StartTinyinit, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    assert (
        start("echo", "x", command=["sh", "-c", f'cd {gone} && rmdir {gone} && exec "$0" "$@"', TINYINIT]).end()[0] == 0
    )


@of_the_launcher
def test_python_m_tinyinit(start: StartTinyinit, trap: Path) -> None:
    """Isolated with -I; without it at least nothing is imported from the working directory once it runs."""
    for module in ("_prctl", "ctypes", "select"):
        (trap / f"{module}.py").write_text("import sys; sys.stderr.write('trapped\\n'); raise SystemExit(99)\n")
    isolated = [sys.executable, "-I", "-m", "tinyinit"]
    script = ["sh", "-c", "echo $PYTHONPATH; exit 4"]
    status, out, err = start(
        "--", *script, command=isolated, cwd=trap, env={**os.environ, "PYTHONPATH": str(trap)}
    ).end()
    assert (status, out, err) == (4, f"{trap}\n", "")
    half = trap / "half"
    half.mkdir()
    shutil.copy(trap / "_prctl.py", half)
    assert start("--", *script, command=[sys.executable, "-m", "tinyinit"], cwd=half).end()[::2] == (4, "")


@of_the_launcher
@pytest.mark.parametrize(
    ("first_line", "message"),
    [
        ("#!/no/such/python\n", "tinyinit: cannot run the interpreter '/no/such/python': No such file or directory; install tinyinit again\n"),
        ("import sys\n", "tinyinit: no interpreter is named in '{}': its first line should be #! and an absolute path; install tinyinit again\n"),
        (None, "tinyinit: cannot read '{}': No such file or directory; install tinyinit again\n"),
        ("", "tinyinit: no interpreter is named in '{}': its first line should be #! and an absolute path; install tinyinit again\n"),
    ],
    ids=["interpreter gone", "no interpreter", "no script", "empty script"],
)  # fmt: skip
def test_a_broken_installation_is_said(
    start: StartTinyinit, tmp_path: Path, first_line: str | None, message: str
) -> None:
    launcher, script = tmp_path / "tinyinit", tmp_path / "tinyinit-python"
    shutil.copy(INSTALLED, launcher)
    if first_line is not None:
        script.write_text(first_line)
    assert start("true", command=[str(launcher)]).end() == (125, "", message.format(script))


@of_the_launcher
@pytest.mark.parametrize(
    "head",
    ["#!/bin/sh\n'''exec' \"{}\" \"$0\" \"$@\"\n' '''\n", "#!/bin/sh\n'''exec' {} \"$0\" \"$@\"\n' '''\n"],
    ids=["quoted", "plain"],
)
def test_an_interpreter_whose_path_is_too_long_for_a_first_line(
    start: StartTinyinit, tmp_path: Path, head: str
) -> None:
    """Installers write a script for sh then; the launcher reads the path from that."""
    home = tmp_path / "bin"
    home.mkdir()
    shutil.copy(INSTALLED, home / "tinyinit")
    text = Path(INSTALLED + "-python").read_text().partition("\n")[2]
    text = text.replace("__file__[:-20]", repr(str(Path(INSTALLED).parent.parent)))
    (home / "tinyinit-python").write_text(head.format(sys.executable) + text)
    assert start("echo", "x", command=[str(home / "tinyinit")]).end() == (0, "x\n", "")


WITHOUT_LIBC = "-ffreestanding -fno-builtin -fno-stack-protector -fno-tree-loop-distribute-patterns -static -nostdlib"


@pytest.fixture(params=[WITHOUT_LIBC, "-DWITH_LIBC"], ids=["without libc", "with libc"])
def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The launcher in a folder of its own, built in each of its ways, with a script that prints its arguments."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler: needs gcc and libc6-dev")
    folder = tmp_path / "folder"
    folder.mkdir()
    source = str(Path(__file__).parent.parent / "launcher" / "tinyinit.c")
    build = ["cc", "-D_GNU_SOURCE", *request.param.split(), source, "-o", str(folder / "tinyinit")]
    subprocess.run(build, check=True)
    (folder / "tinyinit-python").write_text("#!/bin/echo\n")
    (tmp_path / "other").symlink_to("folder")
    (folder / "link").symlink_to("../other/tinyinit")
    return folder


@of_the_launcher
@pytest.mark.parametrize("has_proc", [True, False], ids=["with proc", "without proc"])
@pytest.mark.parametrize("call", ["./tinyinit", "./link", "../other/tinyinit", "../folder/../other/link", "{}/link"])
def test_the_launcher_finds_its_script(launcher: Path, namespaces: None, has_proc: bool, call: str) -> None:
    hide = "" if has_proc else "umount -l /proc; "
    words = ["unshare", "--mount", "sh", "-c", hide + 'exec "$0" "$@"', call.format(launcher), "a b", "--", ""]
    out = subprocess.run(words, cwd=launcher, check=True, capture_output=True, text=True).stdout
    own = f"{os.getpid():016x}"  # unshare and sh execute what follows: its parent is this process
    options = f"-IS -X utf8 -X tinyinit_mask=0000000000000000 -X tinyinit_parent={own}"
    assert out == f"{options} {launcher}/tinyinit-python a b -- \n"


@of_the_launcher
def test_the_launcher_hands_the_inherited_mask_on(launcher: Path) -> None:
    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGTERM, signal.SIGRTMAX})

    words = [str(launcher / "tinyinit")]
    out = subprocess.run(words, check=True, capture_output=True, text=True, preexec_fn=block).stdout
    assert "tinyinit_mask=8000000000004001 " in out


@pytest.mark.skipif(not shutil.which("strace") and not os.environ.get("CI"), reason="needs strace")
def test_nothing_is_opened_for_the_end_but_what_tells_want_of_memory(tmp_path: Path) -> None:
    """While COMMAND runs: the modules that the end needs, and the counters of the cgroup."""
    log = tmp_path / "log"
    words = ["strace", "-e", "trace=openat,open,fork,vfork,clone,clone3,exit_group,wait4", "-o", str(log), TINYINIT]
    subprocess.run([*words, "--", "sleep", "0.3"], check=True)
    lines = log.read_text().splitlines()
    forked = next(number for number, line in enumerate(lines) if re.match(r"(v?fork|clone3?)\(", line))
    opened = [found[1] for line in lines[forked:] if (found := re.match(r'open(?:at)?\(.*?"([^"]*)".* = \d', line))]
    allowed = (
        *(rf".*/tinyinit(/__pycache__)?(/{name}[\w.-]*)?" for name in ("leftovers", "ending", "cgroup", "init")),
        *("/proc/self/fd", r"/proc/\d+/(task(/\d+/children)?|stat)"),
        "/proc/self/stat",  # from 3.12 on CPython itself counts its threads when it forks
        *("/proc/self/cgroup", "/proc/self/mountinfo", r"/sys/fs/cgroup/.*memory\.(oom_control|events)", "/dev/tty"),
    )
    assert any(name.endswith("/mountinfo") for name in opened)
    assert [name for name in opened if not any(re.fullmatch(each, name) for each in allowed)] == []


def test_what_is_said_at_the_end_imports_only_built_in_modules() -> None:
    """Somebody waits for it: 22 ms, as they were with contextlib and typing, are twice the start."""
    folder = str(Path(tinyinit.__file__).parent.parent)
    code = (
        f"import sys; sys.path[:0] = [{folder!r}]; import tinyinit.init; before = set(sys.modules); import tinyinit.why"
    )
    script = code + "; print(*(set(sys.modules) - before - set(sys.builtin_module_names)))"
    out = subprocess.run([sys.executable, "-IS", "-c", script], check=True, capture_output=True, text=True).stdout
    assert out.split()
    assert [name for name in out.split() if not name.startswith("tinyinit.")] == []
