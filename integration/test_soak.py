"""`make soak` for some seconds: that it runs, counts and judges."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from engine import Engine

SOAK = Path(__file__).parent / "soak" / "soak.py"
README = SOAK.parents[2] / "README.md"
NUMBER = r"[\d,]+"


def run(*words: str, seconds: str = "20s", environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    environ = {**(environ or os.environ), "SOAK": seconds}
    return subprocess.run([sys.executable, SOAK, *words], check=False, capture_output=True, text=True, env=environ)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces")
def test_all_are_soaked_and_nothing_is_missed(engine: Engine, image: str) -> None:
    done = run("--image", image, environ=engine.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"\d+ of 20 s: {NUMBER} orphans, {NUMBER} signals, \d+ stops, longest trip ", done.stderr)
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]] == [
        "| as subreaper, watching",
        "| as PID 1",
        "| as PID 1, nested",
        "| in Docker, nested",
    ]
    for row in rows[2:]:
        orphans, signals, lost = (int(cell.replace(",", "")) for cell in row[1:4])
        assert (orphans > 0, signals > 0, lost, row[-1]) == (True, True, 0, "7 |"), row


def test_bad_arguments() -> None:
    assert "it can be a number of hours, or such as 60s" in run(seconds="soon").stderr


def test_readme_has_its_place() -> None:
    readme = README.read_text()
    begin, end = readme.index("<!-- soak: make soak README=1"), readme.index("<!-- soak: up to here -->")
    assert "| in Docker, nested |" in readme[begin:end]
