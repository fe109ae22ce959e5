"""A tinyinit that is soaked, with load.c as its COMMAND, and what is done to it."""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from engine import Container, Engine

from helpers.running import UNSHARE, children, descendants, private_memory, state, status_field, wait_until

RATE = 500  # orphans a second, of each
PATIENCE = 60.0  # seconds, for what takes milliseconds where nobody else wants the processor
TRIPS = 25  # round trips of a signal in a look
STATUS = 7  # load.c's
HUNDRED, KILLED, NOT_KILLED, EXECUTED, READY, FAILED = range(200, 206)  # bytes that load.c writes, beside signals

QUEUED = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
# Not INT and the like: they stop, or are nobody's to send. CONT is sent by tinyinit itself too, so it is not counted.
NOT_SENT = {
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
}
ALONE = sorted(set(signal.valid_signals()) - NOT_SENT - set(QUEUED))
DOES_NOT_CONTINUE = sorted(set(ALONE) - {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})


class Broken(Exception):
    """A promise that was not kept: what happened, for people."""


class Subject:
    """tinyinit, or one in another, as PID 1 or as subreaper."""

    def __init__(self, name: str, words: Sequence[str], load: Path, folder: Path, seed: int) -> None:
        self.name, self.random = name, random.Random(seed)
        self.folder, self.environ = folder, dict(os.environ)
        self.process: subprocess.Popen[bytes] | None = None
        self.counts: Counter[str] = Counter()
        self.sent: Counter[int] = Counter()
        self.came: Counter[int] = Counter()
        self.trips: list[float] = []  # seconds, of all looks
        self.failures: list[str] = []
        self.status: int | None = None
        self.chain: list[int] = []
        folder.mkdir()
        for fifo in ("control", "out"):
            os.mkfifo(folder / fifo)
        self.control = os.open(folder / "control", os.O_RDWR)
        self.out = os.open(folder / "out", os.O_RDWR | os.O_NONBLOCK)
        self.words = [*words, *map(str, (load, folder / "control", folder / "out", RATE))]
        self.errors = (folder / "errors").open("w+b")

    # -- its life

    def start(self) -> None:
        """Start it, and find out who is who: all tinyinits, the outer one first, and COMMAND."""
        streams = (subprocess.DEVNULL, self.errors, self.errors)
        self.process = subprocess.Popen(self.words, -1, None, *streams, env=self.environ, start_new_session=True)
        self.wait_for(READY, 1)
        self.chain = [self.outer()]
        while below := children(self.chain[-1]):
            self.chain.append(below[0])
        self.tinyinits, self.command = self.chain[:-1], self.chain[-1]

    def outer(self) -> int:
        """The PID of the outer tinyinit."""
        assert self.process
        return self.process.pid

    def end(self) -> None:
        """Have COMMAND end, and look whether tinyinit has ended as it is to, and nothing is left."""
        assert self.process
        self.tell(b"q")
        try:
            self.status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Broken(f"has not ended {PATIENCE:g} s after COMMAND") from None
        if self.status != STATUS:
            raise Broken(f"has ended with {self.status}, and COMMAND with {STATUS}")

    def close(self) -> None:
        """Kill what is left of it, and give back what it took."""
        if self.process and self.process.poll() is None:
            for pid in (*descendants(self.process.pid), self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
        for descriptor in (self.control, self.out):
            os.close(descriptor)
        self.errors.close()

    def states(self) -> str:
        """Who of the chain is in which state, and the status with which it has ended, for people."""
        found = [f"{status_field(pid, 'Name')} (pid {pid}) {state(pid) or 'gone'}" for pid in self.chain]
        return f"{', '.join(found)}; status {self.process and self.process.poll()}; it said: {self.said()!r}"

    def said(self) -> str:
        """What it has written to its standard streams: nothing, where all went well."""
        return (self.folder / "errors").read_text(errors="replace").strip()

    # -- words to COMMAND, and bytes from it

    def tell(self, word: bytes) -> None:
        os.write(self.control, word)

    def read(self, seconds: float) -> bool:
        """Count what COMMAND has written, once there is something; False if there is nothing in time."""
        if not select.select([self.out], [], [], seconds)[0]:
            return False
        self.came.update(os.read(self.out, 65536))
        return True

    def wait_for(self, byte: int, count: int) -> None:
        """Until COMMAND has written a byte so many times."""
        end = time.monotonic() + PATIENCE
        while self.came[byte] < count:
            if not self.read(max(0.0, end - time.monotonic())):
                raise Broken(f"byte {byte} came {self.came[byte]} times of {count}")

    def send(self, number: int, count: int = 1) -> None:
        for _ in range(count):
            os.kill(self.chain[0], number)
        self.sent[number] += count
        self.counts["signals"] += count

    def wait_for_signals(self) -> None:
        for number, count in self.sent.items():
            self.wait_for(number, count)

    # -- what is done to it

    def act(self) -> None:
        """One thing at random."""
        self.random.choice(self.actions())()
        self.wait_for_signals()

    def actions(self) -> list[Callable[[], None]]:
        return [self.send_many, self.send_many, self.send_one, self.send_one, self.stop, self.execute]

    def send_many(self) -> None:
        """Signals that queue: each arrives."""
        for _ in range(self.random.randint(1, 8)):
            self.send(self.random.choice(QUEUED), self.random.choice((1, 2, 20, 100)))

    def send_one(self, numbers: Sequence[int] = ALONE) -> None:
        """Signals that do not queue: another one, once the last has come."""
        for _ in range(self.random.randint(1, 20)):
            number = self.random.choice(numbers)
            self.send(number)
            self.wait_for(number, self.sent[number])

    def stop(self) -> None:
        """Stop one of them, send signals meanwhile, and continue it."""
        pid = self.random.choice(self.chain)

        def is_stopped() -> bool:
            if state(pid) != "T":  # or the CONT of an earlier stop is still on its way to it
                os.kill(pid, signal.SIGSTOP)
            return state(pid) == "T"

        wait_until(is_stopped, f"{pid} to stop")
        self.counts["stops"] += 1
        for number in self.random.sample(DOES_NOT_CONTINUE, 3):
            self.send(number)
        self.send(self.random.choice(QUEUED), 20)
        time.sleep(self.random.uniform(0.0, 0.2))
        if self.random.random() < 0.5:
            self.send(signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)

    def execute(self) -> None:
        """COMMAND executes itself while signals come."""
        self.tell(b"x")
        self.counts["execs"] += 1
        self.send(self.random.choice(QUEUED), 20)
        self.wait_for(EXECUTED, self.counts["execs"])

    # -- the looks

    def rest(self) -> None:
        """Make no orphans, until all have been reaped."""
        self.tell(b"-")
        end = time.monotonic() + PATIENCE
        while left := self.left():
            if time.monotonic() > end:
                raise Broken(f"has children that it does not reap: {left}")
            time.sleep(0.05)
        while self.read(0):
            pass
        self.counts["orphans"] = 100 * self.came[HUNDRED]

    def left(self) -> dict[int, str]:
        """All below it but for COMMAND and the tinyinits, with their states."""
        found = {child for pid in self.chain for child in children(pid)} - set(self.chain)
        return {pid: state(pid) for pid in found}

    def measure_trips(self) -> list[float]:
        """Seconds from a signal to COMMAND's answer, some times."""
        trips = []
        for _ in range(TRIPS):
            begin = time.monotonic()
            self.send(signal.SIGUSR1)
            self.wait_for(signal.SIGUSR1, self.sent[signal.SIGUSR1])
            trips.append(time.monotonic() - begin)
            time.sleep(0.002)
        self.trips += trips
        return trips

    def resources(self) -> list[tuple[int, int]]:
        """Of each tinyinit KiB of private memory, and descriptors."""
        return [(private_memory(pid), len(os.listdir(f"/proc/{pid}/fd"))) for pid in self.tinyinits]

    def surplus(self) -> dict[int, int]:
        """Signals that came otherwise than they were sent, and by how many; and bytes that were not to be."""
        counted = {number: self.came[number] - self.sent[number] for number in (*ALONE, *QUEUED, NOT_KILLED, FAILED)}
        return {number: more for number, more in counted.items() if more}


class FirstProcess(Subject):
    """As PID 1 of a namespace of its own."""

    def __init__(self, name: str, words: Sequence[str], load: Path, folder: Path, seed: int) -> None:
        super().__init__(name, [*UNSHARE, *words], load, folder, seed)

    def outer(self) -> int:
        return children(super().outer())[0]


class InDocker(Subject):
    """In a container with a limit of memory, into which programs are sent by `docker exec`."""

    def __init__(
        self, engine: Engine, image: str, name: str, words: Sequence[str], load: Path, folder: Path, seed: int
    ) -> None:
        options = ["--memory=256m", "--memory-swap=256m", "--network=none", "--entrypoint=tinyinit"]
        mounts = [f"--volume={folder}:{folder}", f"--volume={load}:{load}:ro"]
        self.container = Container(engine, image, [*options, *mounts])
        super().__init__(name, [*self.container.command, *words], load, folder, seed)
        self.load, self.environ = load, engine.environ

    def outer(self) -> int:
        return int(self.container.inspect(".State.Pid"))

    def actions(self) -> list[Callable[[], None]]:
        return [*super().actions(), self.go_in, self.run_out_of_memory]

    def go_in(self) -> None:
        """`docker exec` a program that leaves a process behind."""
        self.container.execute(str(self.load), "leave")
        self.counts["docker execs"] += 1

    def run_out_of_memory(self) -> None:
        """A child of COMMAND takes more than there is."""
        self.tell(b"h")
        self.counts["killed for memory"] += 1
        self.wait_for(KILLED, self.counts["killed for memory"])

    def close(self) -> None:
        self.container.remove()
        super().close()


def is_docker_possible() -> str:
    """Empty, or why containers cannot be soaked here."""
    if os.geteuid() != 0:
        return "only root may signal what is in a container from outside"
    return "" if shutil.which("docker") else "there is no docker"
