"""Who is compared: the inits that are installed here, and what their figures are held against."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FLOOR = "python3 -I -S -c pass"
NONE = "no init"
KILL_ALL = "kill(-1)"  # of a PID 1 that does nothing else
OURS = "tinyinit"

# Each as its user writes it before COMMAND. tini's -s: outside a container it warns without.
INITS = (
    (OURS, ["--"]),
    ("tini", ["-s", "--"]),
    ("dumb-init", ["--"]),
    ("catatonit", ["--"]),
)
CONFIGURING = ("PYTHON", "TINYINIT_", "TINI_", "DUMB_INIT_")  # variables that make an init another one


class Contender(NamedTuple):
    """An init: its name, its path and options, which stand before COMMAND, and what it calls its version."""

    name: str
    words: list[str]
    version: str


def environment() -> dict[str, str]:
    """The environment of everything that is measured: ours, without what would configure one of the inits."""
    return {name: value for name, value in os.environ.items() if not name.startswith(CONFIGURING)}


def version_of(path: str) -> str:
    """The first line of `--version`; `unknown` if that fails."""
    try:
        answer = subprocess.run(
            [path, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(), timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return answer.stdout.decode(errors="replace").partition("\n")[0] or "unknown"


def find(name: str) -> str | None:
    """Where a command is: beside this interpreter, as in a venv that is not activated, or on PATH."""
    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)


def installed() -> Iterator[Contender]:
    """The inits that are installed, in the table's order."""
    for name, options in INITS:
        path = find(name)
        if path:
            yield Contender(name, [path, *options], version_of(path))


def interpreter_of(tinyinit: str) -> str:
    """The interpreter that tinyinit runs in: an installer wrote it into the file beside the command."""
    try:
        first_line = Path(os.path.realpath(tinyinit) + "-python").read_text().partition("\n")[0]
    except OSError:
        return sys.executable  # another way of installing it
    path = first_line[2:].strip()
    return path if first_line.startswith("#!/") and "python" in Path(path).name else sys.executable
