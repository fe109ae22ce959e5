"""README's table of what stays behind: every figure is what is found here, after tinyinit and its peers alike."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from conftest import StartTinyinit
from helpers.running import TINYINIT, UNSHARE, program

pytestmark = [pytest.mark.form("installed"), pytest.mark.peers]

README = Path(__file__).parent.parent / "README.md"
SETTLING = 1.0  # seconds in which that may still end which was told to
JOBS = {
    "tinyinit --grace 1": [TINYINIT, "--grace", "1", "--"],
    "tini -s": ["tini", "-s", "--"],
    "dumb-init": ["dumb-init", "--"],
    "catatonit": ["catatonit", "--"],
    "timeout 60": ["timeout", "60"],
    "no init": [],
}


def rows() -> dict[str, dict[str, object]]:
    """README's rows: how the job is started, and what is there after it."""
    cells = re.findall(r"^\| `?([^`|]+)`? \| (\d+) \| (\d+) \| ([✓✗]) \|$", README.read_text(), re.MULTILINE)
    return {
        name: {"alive": int(alive), "zombies": int(zombies), "is_closed": closed == "✓"}
        for name, alive, zombies, closed in cells
    }


def test_what_stays_behind_has_a_row_for_each() -> None:
    assert list(rows()) == list(JOBS)


@pytest.mark.parametrize("name", JOBS)
def test_what_stays_behind_is_true(name: str, start_subreaper: StartTinyinit, namespaces: None) -> None:
    words = [*JOBS[name], *program("torture", 0)]
    path = shutil.which(words[0])
    if not path:
        assert not os.environ.get("CI"), f"{words[0]} is missing"
        pytest.skip(f"{words[0]} is missing")
    watch = program("watch_job", SETTLING, path, *words[1:])
    out = start_subreaper(command=[*UNSHARE, *watch]).end()[1]
    assert json.loads(out) == rows()[name]
