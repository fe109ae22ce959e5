"""Every way in which pip installs the command, and every way in which it is called then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from engine import Attached, Engine
from images import REPOSITORY, SOURCE_FOLDERS

INSTALL_TIMEOUT = 120.0  # seconds: pip makes an environment to build in, and compiles
IN_VENV = 'python3 -m venv "$PLACE"; "$PLACE/bin/pip" install --quiet'


class Way(NamedTuple):
    """A way to install: how, into which folder, as whom, and the Python that can import it then, if any can."""

    script: str
    place: str
    user: str = "root"
    python: str = ""


def in_venv(what: str, place: str = "/opt/venv") -> Way:
    return Way(f"{IN_VENV} {what}", place, python=f"{place}/bin/python")


WAYS = {
    "venv": in_venv("./tree"),
    "venv with spaces in its path": in_venv("./tree", "/opt/a folder/and another"),
    "venv with a path too long for the kernel": in_venv("./tree", f"/opt/{'long/' * 60}venv"),
    "editable": in_venv("--editable ./tree"),
    "wheel": in_venv("/dist/tinyinit-*.whl"),
    "sdist": in_venv("/dist/tinyinit-*.tar.gz"),
    "system": Way("python3 -m pip install --quiet ./tree", "/usr/local", python="python3"),
    "user": Way("python3 -m pip install --quiet --user ./tree", "/home/somebody/.local", "somebody", "python3"),
    "prefix": Way('python3 -m pip install --quiet --prefix "$PLACE" ./tree', "/opt/prefix"),
    "target": Way('python3 -m pip install --quiet --target "$PLACE" ./tree', "/opt/target"),
}
CALLS = {
    "name": 'PATH="${0%/*}:$PATH" tinyinit "$@"',
    "absolute path": '"$0" "$@"',
    "relative path": 'cd "${0%/*}/.." && bin/tinyinit "$@"',
    "symlink": 'ln -sf "$0" /tmp/my-init && /tmp/my-init "$@"',
    "name of a symlink": 'ln -sf "$0" /tmp/my-init && PATH="/tmp:$PATH" my-init "$@"',
    "empty PATH": 'PATH= "$0" "$@"',
    "empty environment": 'exec env -i "$0" "$@"',
}
# a shell's own means are enough for it, so it needs no PATH
EXIT_7_IF_PARENT_HAS_PRCTL = """\
while read -r line; do case $line in *_prctl*) echo found; exit 7;; esac; done < /proc/$PPID/maps"""
COMMAND = ("--", "/bin/sh", "-c", EXIT_7_IF_PARENT_HAS_PRCTL)


class Installed(NamedTuple):
    """A container in which the command is installed."""

    container: Attached
    way: Way

    def call(self, script: str, *arguments: str) -> tuple[int, str, str]:
        """Run a shell script there: status, standard output and error."""
        done = self.container.engine.run("exec", self.container.name, "sh", "-c", script, *arguments)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module", params=WAYS.values(), ids=list(WAYS))
def installed(request: pytest.FixtureRequest, engine: Engine, workshop: str) -> Iterator[Installed]:
    """A container of its own for each way; pip there has no network, only what is needed to build."""
    way: Way = request.param
    script = f"cp -r /tree ~; cd; {way.script}; echo 'ready (pid: 1)'; exec sleep 600"
    options = ["--network=none", f"--user={way.user}", f"--env=PLACE={way.place}", "--entrypoint=sh"]
    container = Attached(engine, workshop, ["-ec", script], options)
    try:
        container.read_until("ready (pid: 1)\n", INSTALL_TIMEOUT)
        yield Installed(container, way)
    finally:
        container.close()


@pytest.mark.parametrize("script", CALLS.values(), ids=list(CALLS))
def test_it_is_found_isolated_and_with_python_prctl(installed: Installed, script: str) -> None:
    path = installed.container.execute("find", installed.way.place, "-path", "*/bin/tinyinit").strip()
    assert installed.call(script, path, *COMMAND) == (7, "found\n", "")


@pytest.mark.parametrize("options", ["-m tinyinit", "-I -m tinyinit"])
def test_it_runs_as_a_module(installed: Installed, options: str) -> None:
    if not installed.way.python or (installed.way.user != "root" and "-I" in options):
        pytest.skip("no Python finds the module there when it is started so")
    assert installed.call(f'"$0" {options} "$@"', installed.way.python, *COMMAND) == (7, "found\n", "")


def test_the_wheel_is_for_this_platform_and_any_python(engine: Engine, workshop: str) -> None:
    names = engine.docker(*engine.run_words("--rm", "--entrypoint=ls"), workshop, "/dist").split()
    wheels = [name for name in names if name.endswith(".whl")]
    assert len(wheels) == 1
    assert wheels[0].startswith("tinyinit-")
    assert "-py3-none-linux_" in wheels[0]


def test_the_sdist_has_all_that_is_needed_to_build_and_to_test(engine: Engine, workshop: str) -> None:
    words = [*engine.run_words("--rm", "--entrypoint=sh"), workshop, "-c", "tar -tzf /dist/tinyinit-*.tar.gz"]
    packed = {name.partition("/")[2] for name in engine.docker(*words).splitlines()}
    files = [path for folder in SOURCE_FOLDERS for path in REPOSITORY.joinpath(folder).rglob("*") if path.is_file()]
    expected = {str(path.relative_to(REPOSITORY)) for path in files if "__pycache__" not in path.parts}
    top = {"CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "pyproject.toml", "setup.py"}
    assert (expected | top) - packed == set()
