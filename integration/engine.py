"""A Docker Engine: one that answers, or a private one, which leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import termios
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

from helpers.running import TIMEOUT, Running, wait_until
from helpers.terminal import Terminal

ENGINE_TIMEOUT = 60.0  # seconds: to start dockerd, or for what is one short command on an idle machine
AT_ONCE = 4.0  # seconds for `docker stop`, which kills after 10; on an idle machine it takes 0.2
BUILD_TIMEOUT = 600.0  # seconds: packages are downloaded, and compiled
PRIVATE = "INTEGRATION_ENGINE_IS_PRIVATE"  # a variable: the engine that answers is one of ours, without a network
# no bridge and no rules: the machine's own network and firewall are left as they are
PRIVATE_NETWORK = ("--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false")


def skip_without(what: str) -> NoReturn:
    """Skip, and say what is missing; in CI that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


class Engine:
    """A Docker Engine, by its command line."""

    def __init__(self, environ: dict[str, str], *, has_network: bool = True) -> None:
        self.environ = environ
        self.has_network = has_network

    def run_words(self, *options: str) -> list[str]:
        """`run OPTIONS`. Without a network it is told so, or its client warns on standard error that there is none."""
        is_told = self.has_network or any(option.startswith("--network") for option in options)
        return ["run", *(() if is_told else ("--network=none",)), *options]

    def run(self, *words: str, timeout: float = ENGINE_TIMEOUT) -> subprocess.CompletedProcess[str]:
        """Run `docker WORDS`, whatever its status."""
        return subprocess.run(
            ["docker", *words],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environ,
        )

    def docker(self, *words: str, timeout: float = ENGINE_TIMEOUT) -> str:
        """What `docker WORDS` prints; AssertionError with all that it said if it fails."""
        done = self.run(*words, timeout=timeout)
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def remove_images(self, name: str) -> None:
        """Remove all images of this name, whatever their tags."""
        found = self.docker("images", "--format", "{{.Repository}}:{{.Tag}}", name).split()
        if found:
            self.docker("rmi", "--force", *found)

    def answers(self) -> bool:
        """Whether there is a client, and an engine behind it."""
        try:
            return self.run("version", timeout=TIMEOUT).returncode == 0
        except (FileNotFoundError, subprocess.TimeoutExpired):
            return False


@contextmanager
def any_engine() -> Iterator[Engine]:
    """The engine that answers, or else a private one. Skip where there can be none; in CI that is a failure."""
    found = Engine(dict(os.environ), has_network=PRIVATE not in os.environ)
    if found.answers():
        yield found
        return
    missing = [name for name in ("docker", "dockerd") if not shutil.which(name)]
    if missing:
        skip_without(f"no Docker Engine answers, and to start one {' and '.join(missing)} is missing")
    if os.geteuid() != 0:
        skip_without("no Docker Engine answers, and only root can start one")
    with private_engine() as started:
        yield started


@contextmanager
def private_engine() -> Iterator[Engine]:
    """A dockerd of our own in a temporary folder; both are gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="tinyinit-docker-"))
    socket, log = f"unix://{root}/docker.sock", root / "log"
    places = ("--data-root", f"{root}/data", "--exec-root", f"{root}/exec", "--pidfile", f"{root}/pid")
    with log.open("wb") as output:  # a session of its own: Ctrl-C is for pytest, which then stops it
        words = ["dockerd", *places, *PRIVATE_NETWORK, "--host", socket]
        daemon = subprocess.Popen(words, stdout=output, stderr=output, start_new_session=True)
    engine = Engine({**os.environ, "DOCKER_HOST": socket}, has_network=False)
    try:
        wait_until(lambda: daemon.poll() is not None or engine.answers(), "dockerd to answer", ENGINE_TIMEOUT)
        if daemon.poll() is not None:
            skip_without(f"dockerd does not start here: {log.read_text().splitlines()[-1:]}")
        yield engine
    finally:
        end_daemon(daemon)
        unmount_below(root)
        shutil.rmtree(root)


def end_daemon(daemon: subprocess.Popen[bytes]) -> None:
    """TERM, on which dockerd ends its containers and its containerd; KILL if that does not help."""
    daemon.terminate()
    try:
        daemon.wait(ENGINE_TIMEOUT)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def unmount_below(root: Path) -> None:
    """Unmount what dockerd has left mounted, such as the network namespaces of its containers."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed(mounts):
        if mount.startswith(f"{root}/"):
            subprocess.run(["umount", "--lazy", mount], check=True)


class Container:
    """A container that `docker run` makes, by a name of its own."""

    def __init__(self, engine: Engine, image: str, options: Sequence[str]) -> None:
        self.engine = engine
        self.name = f"tinyinit-{uuid.uuid4().hex[:12]}"
        self.command = ["docker", *engine.run_words("--name", self.name, *options), image]

    def execute(self, *words: str) -> str:
        """What a program that `docker exec` runs in the container prints."""
        return self.engine.docker("exec", self.name, *words)

    def kill(self, name: str) -> None:
        """`docker kill --signal`."""
        self.engine.docker("kill", "--signal", name, self.name)

    def stop(self, *options: str) -> float:
        """`docker stop`, which returns when the container has ended; how many seconds it took."""
        begin = time.monotonic()
        self.engine.docker("stop", *options, self.name)
        return time.monotonic() - begin

    def inspect(self, field: str) -> str:
        """A field of `docker inspect`, such as `.State.Pid`."""
        return self.engine.docker("inspect", "--format", f"{{{{{field}}}}}", self.name).strip()

    def processes(self) -> dict[int, Process]:
        """What `ps` in the container shows, but for itself, which is no child of anything there."""
        lines = self.execute("ps", "-e", "-o", "pid=,ppid=,stat=,args=").splitlines()
        shown = [Process(int(pid), int(ppid), stat[0], args) for pid, ppid, stat, args in map(cells, lines)]
        return {each.pid: each for each in shown if not each.command.startswith("ps -e")}

    def remove(self) -> None:
        """End and remove it, if it was made at all; `docker run` ends then."""
        self.engine.run("rm", "--force", "--volumes", self.name)


class Process(NamedTuple):
    """A row of `ps`."""

    pid: int
    parent: int
    state: str
    command: str


def cells(line: str) -> list[str]:
    """The four cells of a row of `ps`."""
    return line.split(None, 3)


class Attached(Container, Running):
    """`docker run` in the foreground: its standard streams are the container's."""

    def __init__(self, engine: Engine, image: str, words: Sequence[str], options: Sequence[str], **popen: Any) -> None:
        Container.__init__(self, engine, image, options)
        Running.__init__(self, list(words), as_pid_1=False, command=self.command, env=engine.environ, **popen)

    def write(self, text: str) -> None:
        """Write to standard input; needs `--interactive` and a pipe."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def close(self) -> None:
        """Remove the container, and end `docker run`."""
        self.remove()
        self.process.kill()
        self.process.wait()
        super().close()


class OnTerminal(Container, Terminal):
    """`docker run --interactive --tty` on a terminal of ours."""

    def __init__(self, engine: Engine, image: str, words: Sequence[str]) -> None:
        Container.__init__(self, engine, image, ["--interactive", "--tty"])
        Terminal.__init__(self, [*self.command, *words], engine.environ)

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size, of which the kernel tells its foreground group."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """Remove the container, and end `docker run`."""
        self.remove()
        super().close()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            return  # the test has waited for it
