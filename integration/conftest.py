"""Every test here runs real containers, and what it has started is removed after it.

With pytest-xdist's workers, of which each has whole files (--dist loadfile), engine and images belong to the process
that has started them: it ends and removes them when they are done. An image is made by who needs it first.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import images
import pytest
import qemu
from engine import PRIVATE, Attached, Engine, OnTerminal, any_engine

IMAGES = "INTEGRATION_IMAGES"  # what the names of the images begin with, for workers


class StartContainer(Protocol):
    def __call__(self, *words: str, options: Sequence[str] = (), **popen: Any) -> Attached: ...


class OpenTerminal(Protocol):
    def __call__(self, *words: str) -> OnTerminal: ...


class MakeImage(Protocol):
    def __call__(self, name: str, make: Callable[[str, Path], str]) -> str: ...


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have workers, who inherit the environment, find an engine; where there can be none, each says so."""
    if session.config.getoption("numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ:
        shared = ExitStack()
        session.config.add_cleanup(shared.close)
        try:
            engine = shared.enter_context(any_engine())
        except (pytest.skip.Exception, pytest.fail.Exception):
            return
        prefix = image_prefix()
        os.environ.update(engine.environ, **{IMAGES: prefix}, **({} if engine.has_network else {PRIVATE: "1"}))
        shared.callback(engine.remove_images, prefix)


def image_prefix() -> str:
    return f"tinyinit-integration-{os.getpid()}"


@contextmanager
def locked(path: Path, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock that the workers share."""
    with path.open("w") as file:
        fcntl.flock(file, operation)
        yield


@pytest.fixture(scope="session")
def locks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the workers share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(autouse=True)
def turn(request: pytest.FixtureRequest, locks: Path) -> Iterator[None]:
    """Who is to be alone waits until all others are between two tests, and nobody begins one meanwhile."""
    is_alone = request.node.get_closest_marker("alone") is not None
    with ExitStack() as held:
        with locked(locks / "next"):
            held.enter_context(locked(locks / "running", fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH))
        yield


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine that answers, or else a private one. Skip where there can be none; in CI that is a failure."""
    with any_engine() as found:
        yield found


@pytest.fixture(scope="session")
def tag(engine: Engine) -> Iterator[str]:
    """What the names of our images begin with; at the end those are removed."""
    yield os.environ.get(IMAGES, image_prefix())
    if IMAGES not in os.environ:
        engine.remove_images(image_prefix())


@pytest.fixture(scope="session")
def make_image(engine: Engine, tag: str, locks: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeImage:
    """Makes an image, by its tag and in an empty folder, unless another worker has."""

    def make_once(name: str, make: Callable[[str, Path], str]) -> str:
        with locked(locks / name):
            if engine.run("image", "inspect", f"{tag}:{name}").returncode != 0:
                make(f"{tag}:{name}", tmp_path_factory.mktemp(name))
        return f"{tag}:{name}"

    return make_once


@pytest.fixture(scope="session")
def base(engine: Engine, make_image: MakeImage) -> str:
    """An image with Python and pip."""
    return make_image("base", lambda tag, folder: images.make_base(engine, tag, folder))


@pytest.fixture(scope="session")
def wheels(engine: Engine, make_image: MakeImage, base: str) -> str:
    """The Dockerfile's first stage, by a name of its own, or it would stay behind without one."""
    return make_image("wheels", lambda tag, _: images.build_repository(engine, tag, base, "--target=wheels"))


@pytest.fixture(scope="session")
def image(engine: Engine, make_image: MakeImage, base: str, wheels: str) -> str:
    """The image that the Dockerfile makes."""
    return make_image("built", lambda tag, _: images.build_repository(engine, tag, base))


@pytest.fixture(scope="session")
def image_with_programs(engine: Engine, make_image: MakeImage, image: str) -> str:
    """The same, with the helper programs of the tests in it."""
    return make_image("programs", lambda tag, folder: images.add_programs(engine, tag, image, folder))


@pytest.fixture(scope="session")
def workshop(engine: Engine, make_image: MakeImage, wheels: str) -> str:
    """An image to build and to install in: a compiler, the sources, and no need of a network."""
    return make_image("workshop", lambda tag, folder: images.make_workshop(engine, tag, wheels, folder))


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
