"""Every test here runs real containers, and what it has started is removed after it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import images
import pytest
import qemu
from engine import Attached, Engine, OnTerminal, any_engine


class StartContainer(Protocol):
    def __call__(self, *words: str, options: Sequence[str] = (), **popen: Any) -> Attached: ...


class OpenTerminal(Protocol):
    def __call__(self, *words: str) -> OnTerminal: ...


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine that answers, or else a private one. Skip where there can be none; in CI that is a failure."""
    with any_engine() as found:
        yield found


@pytest.fixture(scope="session")
def tag(engine: Engine) -> Iterator[str]:
    """What the names of our images begin with; at the end those are removed."""
    prefix = f"tinyinit-integration-{os.getpid()}"
    yield prefix
    engine.remove_images(prefix)


@pytest.fixture(scope="session")
def base(engine: Engine, tag: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with Python and pip."""
    return images.make_base(engine, f"{tag}:base", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def wheels(engine: Engine, tag: str, base: str) -> str:
    """The Dockerfile's first stage, by a name of its own, or it would stay behind without one."""
    return images.build_repository(engine, f"{tag}:wheels", base, "--target=wheels")


@pytest.fixture(scope="session")
def image(engine: Engine, tag: str, base: str, wheels: str) -> str:
    """The image that the Dockerfile makes."""
    return images.build_repository(engine, f"{tag}:built", base)


@pytest.fixture(scope="session")
def image_with_programs(engine: Engine, tag: str, image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same, with the helper programs of the tests in it."""
    return images.add_programs(engine, f"{tag}:programs", image, tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="session")
def workshop(engine: Engine, tag: str, wheels: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image to build and to install in: a compiler, the sources, and no need of a network."""
    return images.make_workshop(engine, f"{tag}:workshop", wheels, tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def started() -> Iterator[list[Attached | OnTerminal]]:
    """Where the containers of a test are kept; when it is over they are removed."""
    containers: list[Attached | OnTerminal] = []
    yield containers
    for each in reversed(containers):
        each.close()


@pytest.fixture
def start(engine: Engine, image_with_programs: str, started: list[Attached | OnTerminal]) -> StartContainer:
    """Start COMMAND as `docker run OPTIONS IMAGE COMMAND` does, in the foreground."""

    def start_container(*words: str, options: Sequence[str] = (), **popen: Any) -> Attached:
        container = Attached(engine, image_with_programs, words, options, **popen)
        started.append(container)
        return container

    return start_container


@pytest.fixture
def open_terminal(engine: Engine, image_with_programs: str, started: list[Attached | OnTerminal]) -> OpenTerminal:
    """Start COMMAND as `docker run --interactive --tty IMAGE COMMAND` does, on a terminal of ours."""

    def open_container(*words: str) -> OnTerminal:
        container = OnTerminal(engine, image_with_programs, words)
        started.append(container)
        return container

    return open_container


@pytest.fixture(scope="session")
def initramfs(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's files, to boot a kernel with."""
    return qemu.make_initramfs(engine, image, tmp_path_factory.mktemp("initramfs"))
