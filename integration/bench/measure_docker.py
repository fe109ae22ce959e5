"""`docker run --rm` from end to end: the image that the Dockerfile makes, with its entrypoint or another."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from contained import Failure
from contenders import DOCKER_INIT, NONE, OURS
from measures import Bench, Figure

INTEGRATION = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(INTEGRATION), str(INTEGRATION.parent / "tests")]


@contextlib.contextmanager
def image() -> Iterator[tuple[object, str]]:
    """An engine, and the image; both are gone afterwards, unless the engine was there before."""
    import images
    from engine import any_engine

    with any_engine() as engine, images.for_a_while(engine, f"tinyinit-bench-{os.getpid()}") as tag:
        yield engine, tag


def measure_docker(bench: Bench) -> list[Figure]:
    """Wall time of `docker run --rm IMAGE true`."""
    from engine import Engine

    ways = {
        OURS: ["--entrypoint=tinyinit", "IMAGE", "--", "true"],
        DOCKER_INIT: ["--init", "--entrypoint=true", "IMAGE"],
        NONE: ["--entrypoint=true", "IMAGE"],
    }
    values: dict[str, list[float]] = {name: [] for name in ways}
    bench.say("docker: the image is made")
    try:
        with image() as (engine, tag):
            assert isinstance(engine, Engine)
            commands = {
                name: engine.run_words("--rm", *(tag if word == "IMAGE" else word for word in words))
                for name, words in ways.items()
            }
            for words in commands.values():
                engine.docker(*words)
            for name in bench.turns(ways, bench.size.docker_rounds, "docker run"):
                before = time.monotonic()
                engine.docker(*commands[name])
                values[name].append((time.monotonic() - before) * 1e3)
    except (pytest.skip.Exception, pytest.fail.Exception, AssertionError) as failure:
        raise Failure(str(failure)) from None
    return [Figure("docker", f"`docker run --rm IMAGE true`, {bench.size.docker_rounds} times", "ms", values)]
