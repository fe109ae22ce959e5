"""tinyinit.pyz, copied into an image that has nothing but a Python."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import pyz
from engine import AT_ONCE, Attached, Engine, OnTerminal
from images import build

ENTRYPOINTS = {
    "plain": '["tinyinit", "--"]',
    "signals blocked": '["env", "--block-signal", "tinyinit", "--"]',
    "by the interpreter": '["python3", "-IS", "/sbin/tinyinit", "--"]',
}


@pytest.fixture(params=ENTRYPOINTS)
def image_with_pyz(request: pytest.FixtureRequest, engine: Engine, tag: str, base: str, tmp_path: Path) -> str:
    """The base with it, as README has it."""
    pyz.write_archive(tmp_path / "tinyinit.pyz", "python3", [sys.executable])
    entrypoint = ENTRYPOINTS[request.param]
    text = f"FROM {base}\nCOPY tinyinit.pyz /sbin/tinyinit\nENTRYPOINT {entrypoint}\n"
    tmp_path.joinpath("Dockerfile").write_text(text)
    return build(engine, f"{tag}:pyz", tmp_path)


@pytest.fixture
def start_pyz(engine: Engine, image_with_pyz: str, started: list[Attached | OnTerminal]) -> Callable[..., Attached]:
    """`docker run` of that image."""

    def start_container(*words: str) -> Attached:
        started.append(container := Attached(engine, image_with_pyz, words, ()))
        return container

    return start_container


def test_it_is_an_entrypoint(start_pyz: Callable[..., Attached]) -> None:
    status, out, err = start_pyz("sh", "-c", "readlink /proc/1/exe; exit 3").end()
    assert (status, "/python3" in out, err) == (3, True, "")
    container = start_pyz("sh", "-c", "(sleep 60 &); trap 'echo got TERM; exit 5' TERM; echo ready; sleep 61 & wait")
    container.read_until("ready")
    assert container.stop() < AT_ONCE
    status, out, err = container.end()
    assert (status, out.partition("ready\n")[2], err) == (5, "got TERM\n", "")


def test_a_command_that_is_not_there(start_pyz: Callable[..., Attached]) -> None:
    status, out, err = start_pyz("/no/such").end()
    assert (status, out) == (127, "")
    assert err.startswith("tinyinit: cannot find COMMAND '/no/such': ")
