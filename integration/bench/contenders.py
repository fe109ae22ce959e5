"""Who is compared: the inits that are installed here, supervisors, and what their figures are held against."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

OURS = "tinyinit"
PYZ = "tinyinit.pyz"
BLOCKING = "env --block-signal tinyinit.pyz"  # README's entrypoint for it
FLOOR = "python3 -I -S -c pass"
SPAWNING_FLOOR = "python3 -I -S -c pass + true"
ASLEEP = "python3 -I -S, asleep"
FORWARDING = "three lines of Python"  # that do no more than forward: what CPython itself takes for it
WAITING = "four lines of Python"  # that spawn, wait and exit
NONE = "no init"
KILL_ALL = "kill(-1)"  # of a PID 1 that does nothing else
KILL_GROUP = "kill of the group"
DOCKER_INIT = "docker run --init"

# Each as its user writes it before COMMAND. tini's -s: outside a container it warns without.
INITS = (
    (OURS, ["--"]),
    ("tini", ["-s", "--"]),
    ("dumb-init", ["--"]),
    ("catatonit", ["--"]),
    ("timeout", ["1d"]),
)
IN_C = ("tini", "dumb-init", "catatonit")
IN_PYTHON = ("supervisord", "honcho", "circusd")
CONFIGURING = ("PYTHON", "TINYINIT_", "TINI_", "DUMB_INIT_")  # variables that make an init another one
GROUPS = {"the best init in C": IN_C, "the fastest Python peer": IN_PYTHON}  # of which a run decides who it is


class Contender(NamedTuple):
    """An init, a wrapper or a supervisor: its name, what it calls its version, and how it runs COMMAND."""

    name: str
    words: list[str]  # before COMMAND; of a supervisor all of them, with {folder} for where its configuration is
    version: str
    configure: Callable[[list[str], Path], None] | None = None  # have a supervisor find COMMAND in this folder
    ends: bool = True  # with COMMAND

    def command(self, command: list[str], folder: Path) -> list[str]:
        """The words that have it run COMMAND."""
        if not self.configure:
            return [*self.words, *command]
        self.configure(command, folder)
        return [word.format(folder=folder) for word in self.words]


def environment() -> dict[str, str]:
    """The environment of everything that is measured: ours, without what would configure one of the inits."""
    return {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURING)}


# ---- supervisors ----------------------------------------------------------------------------------------------


def configure_supervisord(command: list[str], folder: Path) -> None:
    folder.joinpath("supervisord.conf").write_text(
        f"[supervisord]\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={folder}/pid\nchildlogdir={folder}\nuser=root\n"
        f"[program:command]\ncommand={shlex.join(command)}\nautorestart=false\nstartsecs=0\n"
        "stdout_logfile=/dev/null\nstdout_logfile_maxbytes=0\nstderr_logfile=/dev/null\nstderr_logfile_maxbytes=0\n"
    )


def configure_honcho(command: list[str], folder: Path) -> None:
    folder.joinpath("Procfile").write_text(f"command: {shlex.join(command)}\n")


def configure_circusd(command: list[str], folder: Path) -> None:
    folder.joinpath("circus.ini").write_text(
        f"[circus]\nendpoint = ipc://{folder}/a\npubsub_endpoint = ipc://{folder}/b\nstats_endpoint = ipc://{folder}/c\n"
        f"statsd = False\n[watcher:command]\ncmd = {shlex.join(command)}\nrespawn = False\ncopy_env = True\n"
    )


def configure_service(command: list[str], folder: Path) -> None:
    """For s6 and runit: a folder of services, of which there is one."""
    service = folder / "services" / "command"
    service.mkdir(parents=True)
    service.joinpath("run").write_text(f"#!/bin/sh\nexec {shlex.join(command)}\n")
    service.joinpath("run").chmod(0o755)


# Those from PyPI run COMMAND as their configuration says; s6 and runit run a folder of services.
SUPERVISORS = (
    ("supervisord", ["-n", "-c", "{folder}/supervisord.conf"], "supervisor", configure_supervisord, False),
    ("honcho", ["-f", "{folder}/Procfile", "start"], "honcho", configure_honcho, True),
    ("circusd", ["{folder}/circus.ini"], "circus", configure_circusd, False),
    ("s6-svscan", ["{folder}/services"], "s6", configure_service, False),
    ("runsvdir", ["{folder}/services"], "runit", configure_service, False),
)


# ---- who is here ----------------------------------------------------------------------------------------------


def version_of(path: str) -> str:
    """The first line of `--version`; `unknown` if that fails."""
    try:
        answer = subprocess.run(
            [path, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(), timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.decode(errors="replace").partition("\n")[0] or "unknown"


def version_of_package(name: str) -> str:
    """Of what came from PyPI, or with Debian; `unknown` where it came from elsewhere."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    try:
        words = ["dpkg-query", "--show", "--showformat=${Version}", name]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout or "unknown"
    except FileNotFoundError:
        return "unknown"


def find(name: str) -> str | None:
    """Where a command is: beside this interpreter, as in a venv that is not activated, or on PATH."""
    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)


def installed() -> Iterator[Contender]:
    """The inits that are installed, in the table's order."""
    for name, options in INITS:
        path = find(name)
        if path:
            yield Contender(name, [path, *options], version_of(path))


def installed_supervisors() -> Iterator[Contender]:
    """The supervisors that are installed."""
    for name, options, package, configure, ends in SUPERVISORS:
        path = find(name)
        if path:
            yield Contender(name, [path, *options], version_of_package(package), configure, ends)


def missing() -> list[str]:
    """Those that are not installed, and so left out."""
    here = {each.name for each in (*installed(), *installed_supervisors())}
    return [row[0] for row in (*INITS, *SUPERVISORS) if row[0] not in here]


def interpreter_of(tinyinit: str) -> str:
    """The interpreter that tinyinit runs in: an installer wrote it into the file beside the command."""
    try:
        first_line = Path(os.path.realpath(tinyinit) + "-python").read_text().partition("\n")[0]
    except OSError:
        return sys.executable  # another way of installing it
    path = first_line[2:].strip()
    return path if first_line.startswith("#!/") and "python" in Path(path).name else sys.executable
