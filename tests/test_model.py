"""Random trees, signals and options, against a model of what tinyinit and the kernel make of them.

By default always the same examples. MODEL=600 looks for others for so many seconds in each mode, and says from which
seed: `MODEL_SEED=N` begins with that one. What it has found has a test of its own, where that belongs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import _prctl
import pytest
from hypothesis import HealthCheck, event, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from helpers.running import TIMEOUT, Running, children, is_pending, program, state, status_field, wait_until
from tinyinit.leftovers import start_of
from tinyinit.options import parse_signal

pytestmark = [pytest.mark.form("installed"), pytest.mark.heavy]

SECONDS = float(os.environ.get("MODEL") or 0)
EXAMPLES, STEPS = 25, 40
PAUSE = 0.0005  # seconds between two looks: most of what is waited for takes less
MOST = 12  # processes that can be told what to do
TTL = "40ms"

TERMINATION = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}
STANDARD = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
            signal.SIGALRM, signal.SIGURG, signal.SIGIO, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGABRT]  # fmt: skip
REAL_TIME = [signal.SIGRTMIN, signal.SIGRTMIN + 1, signal.SIGRTMIN + 7, signal.SIGRTMAX - 1, signal.SIGRTMAX]
LOOSE = {signal.SIGHUP, signal.SIGCONT, signal.SIGCHLD, signal.SIGTSTP}  # which the kernel sends of itself: exit(3)
HARMLESS = {signal.SIGWINCH, signal.SIGURG}
CRASHES = {signal.SIGSEGV, signal.SIGABRT}

SIGNALS = st.sampled_from([*STANDARD, *REAL_TIME, signal.SIGHUP, signal.SIGCONT])
DEADLY = st.sampled_from(
    [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGSEGV, signal.SIGRTMIN]
)
CODES = st.sampled_from([0, 1, 3, 124, 137, 143, 255])
WHO = st.integers(0, MOST - 1)
FLAGS = ["--timeout=300", "--notify", "--summary", "--oom-is-failure", "--die-with-parent", "-pUSR1"]
OPTIONS = st.fixed_dictionaries(
    {
        "grace": st.sampled_from([0.1, 0.0, 20.0]),
        "leftovers": st.sampled_from(["stop", "wait", "leave"]),
        "remap": st.sets(CODES, max_size=2),
        "rewrite": st.dictionaries(st.sampled_from(STANDARD + REAL_TIME), st.sampled_from([0, *STANDARD, *REAL_TIME]), max_size=2),
        "single": st.booleans(),
        "kill_after": st.sampled_from([None, 0.1, 60.0]),
        "orphans": st.sampled_from(["keep", "keep", "warn", "stop"]),
        "zombies": st.sampled_from(["ignore", "ignore", "warn", "nudge", "stop"]),
        "verbosity": st.sampled_from([[], ["-q"], ["-v"], ["-w"]]),
        "report": st.booleans(),
        "flags": st.sets(st.sampled_from(FLAGS), max_size=2).map(sorted),
    }
)  # fmt: skip
numbers = itertools.count()


def eventually(condition: Callable[[], Any], what: str) -> Any:
    return wait_until(condition, what, pause=PAUSE)


class Process:
    """What is to be true of a process; its parent is None if that is tinyinit."""

    def __init__(self, connection: socket.socket, parent: Process | None) -> None:
        self.connection, self.parent = connection, parent
        self.number = int(connection.recv(64))  # its PID, as it sees it
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        self.pid = int.from_bytes(credentials[:4], sys.byteorder)
        self.start = start_of(self.pid)
        self.group: int = parent.group if parent else self.number
        self.session: int = parent.session if parent else 0
        self.treats: dict[int, str] = dict(parent.treats) if parent else {}
        self.is_mute = self.is_stopped = self.is_subreaper = False
        self.expected: Counter[int] = Counter()
        self.came: Counter[int] = Counter()

    def send(self, *words: object) -> None:
        """What it is to do. A signal is its number: str() of one is its name with some Pythons."""
        self.connection.send(" ".join(str(int(each) if isinstance(each, int) else each) for each in words).encode())

    def is_there(self) -> bool:
        """Be it as a zombie; and no other one has its PID."""
        return 0 < self.start == start_of(self.pid)

    def treatment(self, number: int) -> str:
        return self.treats.get(number, "catch")


class Model(RuleBasedStateMachine):
    """A tinyinit after the other, and what is below it."""

    as_pid_1 = False
    steps = examples = 0

    def __init__(self) -> None:
        super().__init__()
        self.running: Running | None = None
        type(self).examples += 1

    # -- a life

    @precondition(lambda self: self.running is None)
    @rule(options=OPTIONS)
    def start(self, options: dict[str, Any]) -> None:
        options = dict(options)
        if "stop" in (options["orphans"], options["zombies"]):
            options["grace"] = min(options["grace"], 0.1)
        self.options = options
        self.folder = tempfile.TemporaryDirectory()
        self.report = Path(self.folder.name, "report")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        name = f"tinyinit-model-{os.getpid()}-{next(numbers)}"
        self.listener.bind("\0" + name)
        self.listener.listen(MOST)
        self.listener.settimeout(TIMEOUT)
        self.stderr = Path(self.folder.name, "stderr").open("w+b")
        self.alive: list[Process] = []
        puppet = program("puppet", name, os.path.dirname(_prctl.__file__), "first")
        self.running = Running(
            [*self.words(), "--", *puppet], as_pid_1=self.as_pid_1, stdout=self.stderr, stderr=self.stderr
        )
        self.tinyinit = self.running.pid
        self.zombies: list[Process] = []  # whose parent is not tinyinit
        self.count = self.reaped_by_others = self.adopted = 0
        self.forwarded: Counter[int] = Counter()
        self.sent: set[int] = set()
        self.sent_late: set[int] = set()  # which may have come to all of a job, and to the main child first
        self.is_waiting = False  # for what is left, as the main child has ended
        self.main = self.accept(None)

    def words(self) -> list[str]:
        options = self.options
        words = ["--grace", f"{options['grace']}", "--leftovers", options["leftovers"], *options["verbosity"]]
        words += [f"-e{code}" for code in sorted(options["remap"])]
        words += [f"-r{int(old)}:{int(new)}" for old, new in sorted(options["rewrite"].items())]
        words += ["--single-child"] * options["single"] + options["flags"]
        words += [] if options["kill_after"] is None else ["--kill-after", f"{options['kill_after']}"]
        words += [
            "--orphans",
            options["orphans"],
            "--orphan-ttl",
            TTL,
            "--zombies",
            options["zombies"],
            "--zombie-ttl",
            TTL,
        ]
        return words + ["--report", str(self.report)] * options["report"]

    def accept(self, parent: Process | None, is_known: bool = False) -> Process:
        connection = self.listener.accept()[0]
        connection.settimeout(TIMEOUT)
        process = Process(connection, parent)
        if not is_known:
            self.alive.append(process)
            self.count += 1
        return process

    def teardown(self) -> None:
        if self.running:
            for process in self.alive:
                process.connection.close()
                with contextlib.suppress(ProcessLookupError):
                    if process.is_there():
                        os.kill(process.pid, signal.SIGKILL)
            self.close()

    def close(self) -> None:
        assert self.running
        self.running.process.kill()
        self.running.process.wait()
        self.running.close()
        self.running = None
        self.listener.close()
        self.stderr.close()
        self.folder.cleanup()

    def read_stderr(self) -> str:
        return Path(self.stderr.name).read_text()

    # -- what the model makes of things

    def tell(self, process: Process, *words: object) -> int:
        """Have a process do something, and take note of the signals that it has got meanwhile."""
        self.wake(process)
        process.send(*words)
        heard = process.connection.recv(4096)
        assert heard, f"{process.pid} has ended: {self.read_stderr()}"
        answer, *came = map(int, heard.split())
        process.came.update(came)
        return answer

    def wake(self, process: Process) -> None:
        """Nothing can be said to who is stopped; that he may be is known, but the kernel may have continued him."""
        if process.is_stopped:
            process.is_stopped = False
            os.kill(process.pid, signal.SIGCONT)

    def halt(self, process: Process) -> None:
        """Stop a process, once more where a CONT that tinyinit had yet to forward has continued it."""

        def is_stopped() -> bool:
            os.kill(process.pid, signal.SIGSTOP)
            return state(process.pid) == "T"

        process.is_stopped = True
        eventually(is_stopped, f"{process.pid} to stop")

    def pick(self, who: int, but_main: bool = False, mute_too: bool = False) -> Process | None:
        found = [each for each in self.alive if (mute_too or not each.is_mute) and not (but_main and each is self.main)]
        return found[who % len(found)] if found else None

    def died(self, process: Process) -> None:
        """A process has ended: whose are its children now, and who reaps it?"""
        process.connection.close()
        self.alive.remove(process)
        heir = process.parent
        while heir and not heir.is_subreaper:
            heir = heir.parent
        for each in [*self.alive, *self.zombies]:
            if each.parent is process:
                each.parent = heir
        self.zombies = [each for each in [*self.zombies, process] if each.parent]

    def wait_for_death(self, process: Process) -> None:
        eventually(lambda: state(process.pid) in ("", "Z", "X") or not process.is_there(), f"{process.pid} to end")

    def wait_until_gone(self, processes: list[Process]) -> None:
        pids = [each.pid for each in processes]
        eventually(lambda: not any(each.is_there() for each in processes), f"of {pids} none to be left")

    def get(self, process: Process, number: int) -> bool:
        """A process gets a signal, and whether that ends it."""
        how = process.treatment(number)
        if number == signal.SIGKILL or (how == "default" and number not in HARMLESS | LOOSE):
            return True
        process.expected[number] += how == "catch"
        return False

    @precondition(lambda self: self.running and not self.is_waiting)
    @rule(number=st.sampled_from(sorted(TERMINATION)))
    def stop_main_and_end_it(self, number: int) -> None:
        self.halt(self.main)
        self.signal_tinyinit(number)

    def means_parent_died(self, number: int) -> bool:
        """Whether a signal from us, the parent of tinyinit or outside of its namespace, says that we have died."""
        flags = self.options["flags"]
        return "--die-with-parent" in flags and number == (signal.SIGUSR1 if "-pUSR1" in flags else signal.SIGRTMAX)

    def receivers(self) -> list[Process]:
        if self.is_waiting:
            return self.alive[:]
        group = [each for each in self.alive if each.group == self.main.number and not self.options["single"]]
        return group if self.main in group else [*group, self.main]

    def has_come(self, process: Process, number: int) -> bool:
        if process.is_mute or process.is_stopped:
            return is_pending(process.pid, number)
        self.tell(process, "hello")
        return process.came[number] >= process.expected[number]

    def wait_to_come(self, process: Process, number: int) -> None:
        eventually(lambda: self.has_come(process, number), f"signal {number} to come to {process.pid}")

    def would_merge(self, receivers: list[Process], number: int) -> bool:
        """Whether one of these has yet to take the same signal, which may have to wait until it goes on."""
        return any((each.is_mute or each.is_stopped) and is_pending(each.pid, number) for each in receivers)

    def is_idle(self) -> bool:
        """Whether tinyinit has handled all that came to it, as far as can be seen."""
        return int(status_field(self.tinyinit, "ShdPnd") or "1", 16) == 0 and state(self.tinyinit) == "S"

    # -- what happens to processes

    @precondition(lambda self: self.running and not self.is_waiting and len(self.alive) < MOST)
    @rule(who=WHO)
    def fork(self, who: int) -> None:
        if parent := self.pick(who):
            self.tell(parent, "fork")
            self.accept(parent)

    @precondition(lambda self: self.running and not self.is_waiting and len(self.alive) < MOST)
    @rule(who=WHO, code=CODES)
    def fork_twice(self, who: int, code: int) -> None:
        if parent := self.pick(who):
            self.tell(parent, "twice", code)
            self.count += 1
            self.reaped_by_others += 1
            orphan, heir = self.accept(parent), parent.parent
            heir = parent if parent.is_subreaper else heir
            while heir and not heir.is_subreaper:
                heir = heir.parent
            orphan.parent = heir

    @precondition(lambda self: self.running and not self.is_waiting)
    @rule(who=WHO, count=st.integers(1, 20))
    def storm(self, who: int, count: int) -> None:
        parent = self.pick(who)
        heir = parent
        while heir and not heir.is_subreaper:
            heir = heir.parent
        if parent and not heir:  # or they were the zombies of another one, and not tinyinit's
            self.tell(parent, "storm", count)
            self.count += count + 1
            self.reaped_by_others += 1

    @precondition(lambda self: self.running and not self.is_waiting)
    @rule(who=WHO, how=st.sampled_from(["setsid", "leader", "join"]), whom=WHO)
    def change_group(self, who: int, how: str, whom: int) -> None:
        process, other = self.pick(who), self.pick(whom, mute_too=True)
        if not process or not other or process.session == process.number:
            return
        is_group = any(each.group == process.number for each in self.alive)
        is_group = is_group or any(
            process.number == int(status_field(each.pid, "NSpgid").split()[-1]) for each in self.zombies
        )
        if how == "setsid" and not is_group:
            self.tell(process, "setsid")
            process.session = process.group = process.number
        elif how == "leader":
            self.tell(process, "setpgid", 0)
            process.group = process.number
        elif how == "join" and other.session == process.session:
            self.tell(process, "setpgid", other.group)
            process.group = other.group

    @precondition(lambda self: self.running and not self.is_waiting)
    @rule(who=WHO)
    def become_subreaper(self, who: int) -> None:
        if process := self.pick(who):
            self.tell(process, "subreaper")
            process.is_subreaper = True

    @precondition(lambda self: self.running and not self.is_waiting)
    @rule(who=WHO, what=st.sampled_from(["puppet", "sleep"]))
    def execute(self, who: int, what: str) -> None:
        process = self.pick(who, but_main=what == "sleep")
        if not process:
            return
        self.tell(process, "hello")
        process.send("exec", what)
        assert process.connection.recv(1) == b""
        if what == "puppet":
            process.connection.close()
            process.connection = self.accept(process, is_known=True).connection
        process.is_mute = what == "sleep"

    @precondition(lambda self: self.running and not self.is_waiting)
    @rule(who=WHO, number=st.sampled_from(STANDARD + REAL_TIME), how=st.sampled_from(["catch", "ignore", "default"]))
    def treat(self, who: int, number: int, how: str) -> None:
        if process := self.pick(who):
            self.tell(process, "treat", how, number)
            process.treats[number] = how

    @precondition(lambda self: self.running)
    @rule(who=WHO)
    def close_descriptors(self, who: int) -> None:
        if process := self.pick(who):
            self.tell(process, "close")

    @precondition(lambda self: self.running)
    @rule(who=WHO)
    def stop(self, who: int) -> None:
        process = self.pick(who, mute_too=True)
        if process and not (self.options["zombies"] == "stop" and process is not self.main):
            self.halt(process)

    @precondition(lambda self: self.running)
    @rule(who=WHO)
    def go_on(self, who: int) -> None:
        if process := self.pick(who, mute_too=True):
            self.wake(process)

    @precondition(lambda self: self.running and not self.is_waiting and self.main.treatment(signal.SIGTSTP) == "catch")
    @rule()
    def stop_main_as_by_terminal(self) -> None:
        """Nobody could ever continue it, so tinyinit does; unless a time limit will see to it."""
        has_limit = "--timeout=300" in self.options["flags"] or (self.options["kill_after"] and self.sent & TERMINATION)
        if not has_limit or self.as_pid_1:
            self.tell(self.main, "tstp")

    @precondition(lambda self: self.running)
    @rule(who=WHO)
    def reap(self, who: int) -> None:
        if process := self.pick(who):
            mine = [each for each in self.zombies if each.parent is process]
            assert self.tell(process, "reap") == len(mine)
            self.zombies = [each for each in self.zombies if each not in mine]
            self.reaped_by_others += len(mine)

    @precondition(lambda self: self.running)
    @rule(who=WHO, code=CODES)
    def exit(self, who: int, code: int) -> None:
        if process := self.pick(who):
            self.end(process, code << 8, "exit", code)

    @precondition(lambda self: self.running)
    @rule(who=WHO, number=DEADLY)
    def die(self, who: int, number: int) -> None:
        if process := self.pick(who):
            self.end(process, number, "die", number)

    def end(self, process: Process, wait_status: int, *words: object) -> None:
        if process is self.main:
            self.get_ready()
        self.tell(process, "hello")
        process.send(*words)
        self.wait_for_death(process)
        self.died(process)
        if process is self.main:
            self.finish(wait_status)

    # -- signals

    @precondition(lambda self: self.running)
    @rule(who=WHO, number=SIGNALS | DEADLY)
    def signal_process(self, who: int, number: int) -> None:
        process = self.pick(who, mute_too=True)
        if process and not self.would_merge([process], number):
            if process is self.main and number == signal.SIGKILL:
                self.get_ready()
            self.deliver([process], number, lambda: os.kill(process.pid, number))

    @precondition(lambda self: self.running)
    @rule(number=SIGNALS)
    def signal_tinyinit(self, number: int) -> None:
        target = self.options["rewrite"].get(number, number)
        receivers = self.receivers() if target else []
        if self.would_merge(receivers, target) or self.means_parent_died(number):
            return
        is_over = self.will_end(receivers, target)
        if is_over:
            self.get_ready()
            receivers = self.receivers()
        assert self.running
        self.note_sent(target)
        was_stopped = not self.is_waiting and self.main.is_stopped
        self.deliver(receivers, target, lambda: os.kill(self.tinyinit, number))
        if self.running and is_over:
            self.wait_for_death(self.main)
            for each in [each for each in receivers if each in self.alive]:
                self.wait_for_death(each)
                self.died(each)
            self.finish(signal.SIGKILL, is_exact=len(receivers) == 1)
        elif self.main in self.alive and was_stopped and target in TERMINATION:
            self.main.is_stopped = False  # as CONT follows
            self.tell(self.main, "hello")

    def will_end(self, receivers: list[Process], target: int) -> bool:
        """Whether --kill-after is about to end COMMAND for this signal."""
        is_limited = self.options["kill_after"] == 0.1 and target in TERMINATION and not self.is_waiting
        return bool(is_limited and not self.get_killed([self.main], target))

    def get_killed(self, receivers: list[Process], number: int) -> list[Process]:
        is_deadly = number not in HARMLESS | LOOSE
        return [each for each in receivers if is_deadly and each.treatment(number) == "default"]

    def note_sent(self, target: int) -> None:
        if target:
            self.forwarded[target] += 1
            (self.sent_late if self.is_waiting else self.sent).add(target)

    def deliver(self, receivers: list[Process], number: int, send: Callable[[], None]) -> None:
        """Send a signal, and see that it comes to these; who dies of that dies."""
        for each in self.get_killed(receivers, number):
            self.wake(each)
        if self.main in self.get_killed(receivers, number):
            self.get_ready()
        receivers = [each for each in receivers if each in self.alive]
        killed = [each for each in receivers if self.get(each, number)]
        send()
        for each in killed:
            self.wait_for_death(each)
        if self.will_end(receivers, number) and len(receivers) > len(killed):
            return self.bury(killed, number)  # who has got it is not to be asked, it is killed
        for each in receivers:
            if each not in killed and each.treatment(number) == "catch":
                self.wait_to_come(each, number)
        if not receivers:
            eventually(self.is_idle, "tinyinit to sleep")
        self.bury(killed, number)

    def bury(self, killed: list[Process], number: int) -> None:
        for each in killed:
            self.died(each)
        if self.main in killed:
            self.finish(number, is_exact=len(killed) == 1)

    @precondition(lambda self: self.running and not self.is_waiting)
    @rule(
        sent=st.lists(st.sampled_from(STANDARD + REAL_TIME), max_size=5),
        exits=st.lists(WHO, max_size=4),
        seconds=st.sampled_from([0.0, 0.05]),
    )
    def all_at_once(self, sent: list[int], exits: list[int], seconds: float) -> None:
        """All that comes while tinyinit is stopped, it has when it goes on."""
        numbers = [number for number in sent if number in REAL_TIME]
        numbers += sorted({number for number in sent if number in STANDARD})
        numbers = [number for number in numbers if not self.means_parent_died(number)]
        targets: Counter[int] = Counter()
        for number in numbers[:]:
            target = self.options["rewrite"].get(number, number)
            is_double = target in STANDARD and targets[target]
            receivers = self.receivers() if target else []
            is_double = is_double or self.would_merge(receivers, target)
            if is_double or self.will_end(receivers, target) or self.get_killed(receivers, target):
                numbers.remove(number)
            elif target:
                targets[target] += 1
        os.kill(self.tinyinit, signal.SIGSTOP)
        eventually(lambda: state(self.tinyinit) == "T", "tinyinit to stop")
        for number in numbers:
            os.kill(self.tinyinit, number)
        for who in exits:
            process = self.pick(who, but_main=True)
            if process and self.options["zombies"] != "stop":
                self.end(process, 0, "exit", 0)
        time.sleep(seconds)  # a deadline may pass
        receivers = self.receivers()
        was_stopped = self.main.is_stopped
        for target, count in targets.items():
            self.forwarded[target] += count
            self.sent.add(target)
            for each in receivers:
                each.expected[target] += count * (each.treatment(target) == "catch")
        self.forwarded[signal.SIGCONT] += 1
        self.sent.add(signal.SIGCONT)
        os.kill(self.tinyinit, signal.SIGCONT)
        if was_stopped:
            self.main.is_stopped = False  # as CONT is forwarded
            self.tell(self.main, "hello")
        for target in targets:
            for each in receivers:
                if each.treatment(target) == "catch":
                    self.wait_to_come(each, target)
        eventually(lambda: not is_pending(self.tinyinit, signal.SIGCONT), "CONT to be handled")

    # -- the end

    def get_ready(self) -> None:
        """Before the main child ends: with a long grace all that it leaves is to obey TERM, or nobody could wait."""
        self.settle()
        if self.options["grace"] < 1 or self.options["leftovers"] != "stop":
            return
        for each in [each for each in self.alive if each is not self.main]:
            if each.is_mute and each.treatment(signal.SIGTERM) != "default":
                os.kill(each.pid, signal.SIGKILL)
                self.wait_for_death(each)
                self.died(each)
            elif not each.is_mute:
                self.tell(each, "treat", "default", int(signal.SIGTERM))
                each.treats[signal.SIGTERM] = "default"
        self.settle()

    def finish(self, wait_status: int, is_exact: bool = True) -> None:
        """The main child has ended: what becomes of what it has left, of the status, and of the report?"""
        assert self.running
        left = self.alive[:]
        if self.options["leftovers"] == "wait" and left:
            self.is_waiting, self.end_of_main, self.is_exact, self.count_left = True, wait_status, is_exact, len(left)
            return
        self.over(wait_status, is_exact, len(left))

    def over(self, wait_status: int, is_exact: bool, left: int) -> None:
        assert self.running
        options = self.options
        self.running.process.wait(TIMEOUT + options["grace"])
        killer, code = wait_status & 127, wait_status >> 8
        status = 128 + killer if killer else code
        status = 0 if status in options["remap"] else status
        returncode = self.running.process.returncode
        err = self.read_stderr()
        assert returncode == status, err
        for text in ("unexpected", "internal", "Traceback"):
            assert text not in err
        stay = options["leftovers"] == "leave" and not self.as_pid_1
        if stay:
            for each in self.alive:
                if not each.is_mute:
                    self.tell(each, "hello")
                os.kill(each.pid, signal.SIGKILL)
            for each in [*self.alive, *self.zombies]:
                eventually(partial(self.has_left, each), f"{each.pid} to end")
        else:
            self.wait_until_gone([*self.alive, *self.zombies])
        if options["report"]:
            self.check_report(json.loads(self.report.read_text()), killer, code, status, is_exact, left)
        for each in self.alive:
            each.connection.close()
        event(f"leftovers {options['leftovers']}: {min(left, 3)}")
        self.close()

    def has_left(self, process: Process) -> bool:
        """Whether a process that was left alone has ended; it has become our child, or that of another one of them."""
        if process.pid in children(os.getpid()):
            os.waitpid(process.pid, os.WNOHANG)
        return not process.is_there()

    def check_report(self, report: Any, killer: int, code: int, status: int, is_exact: bool, left: int) -> None:
        end = report["end"]
        assert report["status"] == status
        assert (end["how"], end["code"]) == (("killed", None) if killer else ("exited", code))
        assert end["signal"] is None if not killer else end["signal"]["number"] == killer
        counts = {parse_signal(name): count for name, count in report["signals"]["forwarded"].items()}
        assert counts == self.forwarded, (counts, self.forwarded, report["events"])
        if self.options["leftovers"] != "leave":
            assert report["processes"]["reaped"] == self.count - 1 - self.reaped_by_others
            assert report["processes"]["adopted"] == report["processes"]["reaped"]
        found = report["leftovers"]["count"]
        assert found == left if is_exact else found >= left, (found, left)
        ways = {each["how"] for each in report["leftovers"]["listed"]}
        allowed = {"leave": {"left"}, "wait": {"waited for", "KILL", "TERM"}, "stop": {"TERM", "KILL"}}
        assert ways <= allowed[self.options["leftovers"]] or not is_exact
        if self.options["leftovers"] == "stop" and is_exact:
            assert ways <= {20.0: {"TERM"}, 0.0: {"KILL"}}.get(self.options["grace"], ways)
        kind = report["reason"]["kind"]
        if killer and killer not in self.sent:
            late = {"signal forwarded"} if killer in self.sent_late else set()
            assert kind in {"signal from elsewhere", "crash", "kill after"} | late
        elif killer:
            assert kind == "signal forwarded"
        else:
            asked = self.sent & (TERMINATION - {signal.SIGHUP})
            assert kind == ("signal forwarded" if asked else "exited")

    # -- what always holds

    def settle(self) -> None:
        """--orphans stop and --zombies stop have ended whom they are to end."""
        if self.is_waiting:
            return
        while True:
            orphans = [each for each in self.alive if each.parent is None and each is not self.main]
            parents = [each.parent for each in self.zombies if each.parent and each.parent is not self.main]
            culprits = [each for each in parents if state(each.pid) != "T"]
            if self.options["orphans"] == "stop" and orphans:
                for each in orphans:
                    orphans += [child for child in self.alive if child.parent is each]
                self.wait_until_gone(orphans)
                for each in orphans:
                    self.died(each)
            elif self.options["zombies"] == "stop" and culprits:
                self.wait_for_death(culprits[0])
                self.died(culprits[0])
            else:
                return

    @precondition(lambda self: self.running)
    @invariant()
    def as_the_model_has_it(self) -> None:
        assert self.running
        type(self).steps += 1
        self.settle()
        if self.is_waiting and not self.alive:
            return self.waited()
        own = sorted(each.pid for each in self.alive if each.parent is None)
        eventually(lambda: sorted(children(self.tinyinit)) == own, f"the children of tinyinit to be {own}")
        assert self.running.process.poll() is None
        for each in self.alive:
            assert int(status_field(each.pid, "PPid")) == (each.parent.pid if each.parent else self.tinyinit)
            assert int(status_field(each.pid, "NSpgid").split()[-1]) == each.group
            if not each.is_mute and not each.is_stopped:
                self.tell(each, "hello")
                exact = {number: count for number, count in each.came.items() if number not in LOOSE}
                assert exact == {
                    number: count for number, count in each.expected.items() if count and number not in LOOSE
                }
        assert [state(each.pid) for each in self.zombies] == ["Z"] * len(self.zombies)

    def waited(self) -> None:
        self.is_waiting = False
        self.over(self.end_of_main, self.is_exact, self.count_left)


def test_whatever_happens_below_it_tinyinit_does_its_part(
    as_pid_1: bool, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    class Mode(Model):
        pass

    Mode.as_pid_1 = as_pid_1
    common = settings(
        deadline=None, database=None, stateful_step_count=STEPS, max_examples=EXAMPLES, derandomize=not SECONDS,
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    begin, number = time.monotonic(), int(os.environ.get("MODEL_SEED") or time.time())
    while True:
        if SECONDS:
            seed(number)(Mode)
            with capsys.disabled():
                print(f"MODEL_SEED={number}: {Mode.steps} steps so far", flush=True)
        run_state_machine_as_test(Mode, settings=common)
        number += 1
        if time.monotonic() - begin >= SECONDS:
            break
    for name in ("examples", "steps"):
        record_property(name, getattr(Mode, name))
    with capsys.disabled():
        print(f"\n{'as PID 1' if as_pid_1 else 'as subreaper'}: {Mode.examples} examples, {Mode.steps} steps, "
              f"{time.monotonic() - begin:.0f} s")  # fmt: skip
    assert Mode.steps > EXAMPLES
