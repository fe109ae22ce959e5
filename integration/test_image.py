"""The image that the Dockerfile makes."""

from __future__ import annotations

import subprocess

import pytest
from engine import Engine

from conftest import StartContainer


def test_tinyinit_is_pid_1_and_the_command_its_child(start: StartContainer) -> None:
    running = start("sh", "-c", "echo \"ready (pid: $$)\"; trap '' USR1; sleep 60")
    main = running.wait_ready()
    words = running.execute("cat", "/proc/1/cmdline").rstrip("\0").split("\0")
    assert words[words.index("--") - 1].endswith("/bin/tinyinit-python")
    assert words[words.index("--") + 1 :][:2] == ["sh", "-c"]
    assert running.execute("cat", "/proc/1/comm").startswith("python")
    assert running.processes()[main].parent == 1


def test_the_interpreter_of_pid_1_is_isolated_and_has_python_prctl(start: StartContainer) -> None:
    running = start("sh", "-c", 'echo "ready (pid: $$)"; sleep 60', options=["--env", "PYTHONPATH=/tmp"])
    running.wait_ready()
    assert "-IS" in running.execute("cat", "/proc/1/cmdline").split("\0")
    assert "_prctl" in running.execute("cat", "/proc/1/maps")


def test_without_a_command_it_says_what_is_missing(start: StartContainer) -> None:
    assert start().end() == (125, "", "tinyinit: no COMMAND was given; see 'tinyinit --help'\n")


def test_the_command_has_the_same_arguments_environment_and_working_directory(start: StartContainer) -> None:
    script = 'printf "<%s>" "$A" "$PWD" "$@"'
    options = ["--env", "A= b\nc ", "--workdir", "/usr/lib"]
    words = ("sh", "-c", script, "sh", "--help", "", "-v", "a b")
    assert start(*words, options=options).end() == (0, "< b\nc ></usr/lib><--help><><-v><a b>", "")


def test_standard_input_is_the_commands(start: StartContainer) -> None:
    running = start("cat", options=["--interactive"], stdin=subprocess.PIPE)
    running.write("one\ntwo\n")
    assert running.end() == (0, "one\ntwo\n", "")


@pytest.mark.parametrize("compiler", ["cc", "gcc", "x86_64-linux-gnu-gcc", "python3-config", "/wheels"])
def test_what_compiled_it_is_not_in_the_image(engine: Engine, image: str, base: str, compiler: str) -> None:
    def has(name: str) -> bool:
        words = engine.run_words("--rm", "--entrypoint", "sh")
        return engine.run(*words, name, "-c", 'command -v "$0" || test -e "$0"', compiler).returncode == 0

    assert has(image) == has(base)


def test_the_built_image_runs_as_it_is(engine: Engine, image: str) -> None:
    done = engine.run(*engine.run_words("--rm", "--user=65534"), image, "sh", "-c", "id -u; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "65534\n", "")
