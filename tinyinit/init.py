"""The whole init: start COMMAND, hand it every signal, reap every orphan, end with COMMAND's status.

    tinyinit [OPTION]... [--] COMMAND [ARG]...

As PID 1 of a container or, anywhere else, as child subreaper (prctl(2)). To follow a signal from its arrival to
its delivery, read downwards: `block_signals`, and of `Init` `run`, `hear`, `sleep`, `handle`, `forward`, `send`.

Design note: signals
--------------------
All signals are blocked before anything else is done, and stay blocked. There is one place where the process
sleeps: sigwaitinfo(2), or sigtimedwait(2) while a deadline is set. A blocked signal waits in the kernel until it
is asked for, so none is lost between two calls, before COMMAND runs, or while another one is handled. Not taken:

* Python's signal handlers can raise out of any line, and a sleep that begins just before one misses its wake-up;
* signal.set_wakeup_fd, signalfd(2) and asyncio need a descriptor, a poll(2) and a read(2) where one call does;
* SIGCHLD ignored, so that the kernel reaps, loses every exit status, the main child's too.

This file is on the way to COMMAND, so it imports what is built into the interpreter, and python-prctl's C module.
enum (which `signal` needs), `os`, `typing` or `argparse` would each cost more than all that is done here.
"""

import _signal
import posix
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import NoReturn

# ---- constants and tables -------------------------------------------------------------------------------------

EXIT_CANNOT = 125  # tinyinit itself cannot do what was asked, as with env(1) and timeout(1)
EXIT_NOT_RUNNABLE, EXIT_NOT_FOUND = 126, 127  # COMMAND, which is there or not: as with sh(1)
EXIT_SIGNAL_BASE = 128  # + the number of the signal that killed COMMAND

ALL_SIGNALS = _signal.valid_signals() - {_signal.SIGKILL, _signal.SIGSTOP}  # those that can be blocked: signal(7)
TERMINATION_SIGNALS = frozenset((_signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGHUP))
JOB_CONTROL_STOPS = frozenset((_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU))
TIME_LIMITS = {"timeout", "evidence", "kill after", "watchdog"}  # those deadlines that are COMMAND's
IGNORED_BY_CPYTHON = frozenset((_signal.SIGPIPE, _signal.SIGXFSZ))  # at its start; COMMAND gets the default

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
COERCED_LOCALES = (b"C.UTF-8", b"C.utf8", b"UTF-8")  # what CPython puts into LC_CTYPE in the C locale (PEP 538)
DEFAULT_PATH = b"/bin:/usr/bin"  # where execvp(3) looks when PATH is not set
LONGEST_LINE = 4096  # bytes: PIPE_BUF, so that a line is written whole or not at all (pipe(7))
LONGEST_SLEEP = 86400.0  # seconds, while a deadline is set: an enormous one would overflow sigtimedwait's time_t
PAUSE_AFTER_ERROR = 0.1  # seconds: an error that comes back at once must not take the processor from COMMAND
LOADING_TIME = 0.005  # seconds from the start of COMMAND until what its end needs is loaded
LONG_LOOK, REST = 30e-6, 0.005  # seconds that one wait4(2) takes among thousands of children, and then a pause
PAUSE_AFTER_KILL = 0.02  # seconds until KILL is sent again, to what was forked meanwhile

# ---- errors and messages --------------------------------------------------------------------------------------


class Refusal(Exception):
    """COMMAND is not run: the reason, for people, the exit status, and the errno(3) behind it, 0 if there is none."""

    def __init__(self, reason: str, status: int = EXIT_CANNOT, errno: int = 0) -> None:
        super().__init__(reason)
        self.status, self.errno = status, errno


def write_line(text: str, prefix: str = "tinyinit: ") -> None:
    """Write one line to standard error, and never wait for it: where that is closed or full, the line is lost.

    It is COMMAND's as well, so no O_NONBLOCK: pwritev2(2) can refuse to wait in one call, or else select(2) is asked.
    """
    harmless = text.replace("##", "#\\x23")  # nobody's name gives a CI system a command: ##[...], ##vso[...]
    line = (prefix + harmless).encode("utf-8", "surrogateescape")[: LONGEST_LINE - 1] + b"\n"
    try:
        posix.pwritev(2, [line], -1, posix.RWF_NOWAIT)
    except (OSError, AttributeError):  # full, closed, or does not know RWF_NOWAIT: a terminal, a file, Linux before 6.5
        try:
            if posix.fstat(2).st_mode >> 12 != 8:  # that is a regular file (inode(7)), which nobody waits for
                import select

                if not select.select([], [2], [], 0)[1]:
                    return
            posix.write(2, line)
        except (OSError, ImportError, MemoryError):
            return  # standard error is never an error


# ---- options --------------------------------------------------------------------------------------------------


class Options:
    """What the user asked for, with the defaults. Immutable."""

    die_with_parent = notify = oom_is_failure = single_child = subreaper = summary = warn_on_reap = False
    grace, orphan_ttl, zombie_ttl = 5.0, 30.0, 30.0  # seconds
    kill_after: "float | None" = None  # seconds
    annotations, leftovers, orphans, zombies = "auto", "stop", "keep", "ignore"
    remap_exit: "frozenset[int]" = frozenset()
    rewrite: "Mapping[int, int]" = {}
    report = show = termination_log = ""
    siblings: "Iterable[Callable[[Init, Start], None]]" = ()  # have them join
    timeout = watchdog = float("inf")  # seconds
    on_timeout_signal, parent_death_signal, verbosity = 0, 0, 1

    def __init__(self, values: "Mapping[str, object]") -> None:
        vars(self).update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"options are immutable: {name}")


def read_options(words: "list[str]", environ: "Mapping[bytes, bytes]") -> "tuple[Options, list[str]]":
    """The options, from the command line and the environment, and COMMAND with its arguments."""
    variables = any(name.startswith((b"TINYINIT_", b"TINI_", b"DUMB_INIT_")) for name in environ)
    if words and not variables and (words[0] == "--" or not words[0].startswith("-")):
        return Options({}), words[words[0] == "--" :]  # nothing is asked, so nothing is imported
    from tinyinit.options import parse_options

    return parse_options(words, environ)


# ---- setup ----------------------------------------------------------------------------------------------------


def block_signals() -> "Iterable[int]":
    """Block every signal, and return the mask that COMMAND is to have: the inherited one, which the launcher tells.

    As PID 1 COMMAND's mask is empty: there somebody may have set one to protect PID 1's start.
    """
    inherited: "Iterable[int]" = _signal.pthread_sigmask(_signal.SIG_BLOCK, ALL_SIGNALS)
    handed_on = sys._xoptions.get("tinyinit_mask")
    if posix.getpid() == 1:
        return ()
    if isinstance(handed_on, str):
        return [number for number in range(1, 65) if int(handed_on, 16) >> (number - 1) & 1]
    return inherited


def set_process_attribute(option: int, value: int, may_use_ctypes: bool = True) -> None:
    """prctl(2), through python-prctl or, where that is missing, ctypes. OSError, or ImportError without both."""
    try:
        from _prctl import prctl  # prctl.py, the wrapper around it, costs three times as much to import
    except ImportError:
        if not may_use_ctypes:
            raise
        from tinyinit.explain import prctl_by_ctypes as prctl
    prctl(option, value)


def become_subreaper(init: "Init") -> None:
    """Have orphans become our children. PID 1's do so anyway, so there a refusal is not worth a word."""
    try:
        set_process_attribute(PR_SET_CHILD_SUBREAPER, 1, may_use_ctypes=not init.is_pid_1)
    except (OSError, ImportError) as failure:
        if not init.is_pid_1:
            init.warn(f"cannot become a child subreaper ({failure}): orphans will be neither reaped nor ended")


def command_environment() -> "dict[bytes, bytes]":
    """The environment that tinyinit inherited, without TINYINIT_*, and with LC_CTYPE as it was: /proc still knows."""
    environ = {name: value for name, value in posix.environ.items() if not name.startswith(b"TINYINIT_")}
    if environ.get(b"LC_CTYPE") in COERCED_LOCALES:
        try:
            with open("/proc/self/environ", "rb") as file:
                inherited = [entry for entry in file.read().split(b"\0") if entry.startswith(b"LC_CTYPE=")]
        except OSError:
            return environ  # without /proc COMMAND gets C.UTF-8 in place of C
        del environ[b"LC_CTYPE"]
        environ.update((b"LC_CTYPE", entry.partition(b"=")[2]) for entry in inherited)
    return environ


def on_terminal(call: "Callable[..., int | None]", *arguments: int) -> "int | None":
    """`call(terminal, *arguments)` for the controlling terminal (tty(4)); None if there is none, or it hung up."""
    try:
        terminal = posix.open("/dev/tty", posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC)
        try:
            return call(terminal, *arguments)
        finally:
            posix.close(terminal)
    except OSError:
        return None


# ---- start ----------------------------------------------------------------------------------------------------


class Start:
    """COMMAND and what it is to have."""

    def __init__(self, words: "list[str]", mask: "Iterable[int]") -> None:
        self.command = [word.encode(sys.getfilesystemencoding(), "surrogateescape") for word in words]
        self.mask = mask
        self.environ = command_environment()
        self.ignores_sigchld = _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_IGN
        self.listens = self.environ.get(b"LISTEN_PID") == str(posix.getpid()).encode()  # sd_listen_fds(3)
        self.has_terminal = on_terminal(posix.tcgetpgrp) == posix.getpgrp()

    def paths(self) -> "list[bytes]":
        """Where COMMAND may be, as execvp(3) has it; nowhere if its name is empty, which argv[0] must not be."""
        name = self.command[0]
        folders = self.environ.get(b"PATH", DEFAULT_PATH).split(b":") if b"/" not in name else [b""]
        return [folder + b"/" + name if folder else name for folder in folders if name]

    def run(self) -> int:
        """Start COMMAND as leader of a new process group, and return its PID. Refusal if it does not run.

        By posix_spawn(3), which unlike fork(2) copies no page tables, but cannot set all that COMMAND may be to have.
        """
        if not (self.has_terminal or self.listens or self.ignores_sigchld):
            for path in self.paths():
                try:
                    if posix.access(path, posix.X_OK):
                        return self.spawn(path)
                except (OSError, ValueError):
                    break  # fork() will find out why, and whether sh can run it
        return self.fork()

    def spawn(self, path: bytes) -> int:
        """Start this file. OSError, or ValueError for words that are none for the kernel."""
        default = IGNORED_BY_CPYTHON
        return posix.posix_spawn(path, self.command, self.environ, setpgroup=0, setsigmask=self.mask, setsigdef=default)

    def fork(self) -> int:
        """The same by fork(2) and execve(2)."""
        from tinyinit.child import execute, fork

        return fork(self, execute)


def take_terminal_back(group: int) -> None:
    """Make our group the foreground group again, if it is still `group` or one that has ended."""
    foreground = on_terminal(posix.tcgetpgrp)
    try:
        if foreground and foreground != group:
            return posix.kill(-foreground, 0)  # somebody else's by now: a shell has moved us to the background
    except OSError:
        pass  # ESRCH: nobody is in it
    on_terminal(posix.tcsetpgrp, posix.getpgrp())


# ---- the parent's side ----------------------------------------------------------------------------------------


class Init:
    """COMMAND's parent. Two tables drive it: what to do when a signal comes, and what when a moment comes."""

    def __init__(self, options: Options, start: Start, parent: int) -> None:
        self.options, self.start, self.parent = options, start, parent
        self.is_pid_1, self.began = posix.getpid() == 1, time.clock_gettime(time.CLOCK_BOOTTIME)
        self.main, self.main_is_stopped, self.is_over = 0, False, False  # main: PID of the main child, and its group's
        self.judge = self.own_status  # wait status of the main child: our exit status
        self.status: "int | None" = None  # ours, once the main child has ended
        self.wait_status, self.ended = 0, 0.0  # the main child's, and when it ended, by the same clock as `began`
        self.wait, self.tells_all = posix.waitpid, False  # with what to reap; whether came, sent and reaped are events
        self.sent: "set[int]" = set()  # signals that went to the main child, or came too late for it
        self.ending: object = None  # what tells of it
        self.signal_descendants: "Callable[[list[int]], None] | None" = None
        self.is_ending = self.must_end = False  # only what it left behind is there yet; that is not to be waited for
        self.next_rest = 0.0  # time.monotonic(): not before that may the deadline "reap" be set
        self.warned: "set[str]" = set()
        self.actions: "dict[int, Callable[..., None]]" = {_signal.SIGCHLD: self.reap, _signal.SIGCONT: self.resume}
        self.deadlines: "dict[str, tuple[float, Callable[[], object]]]" = {}  # name: time.monotonic(), what to do
        self.listeners: "list[Callable[[str, dict[str, int]], None]]" = []
        self.kept = {0, 1, 2}  # the descriptors that stay open

    def warn(self, text: str) -> None:
        """Say once what was found wrong."""
        if self.options.verbosity > 0 and text not in self.warned:
            self.warned.add(text)
            write_line("warning: " + text)

    def emit(self, event: str, **facts: int) -> None:
        """Offer an event to those who registered: started, came, sent, stopped, reaped, ended, left, leftovers..."""
        for listener in self.listeners:
            try:
                listener(event, facts)
            except Exception as error:
                self.survive(error)

    def run(self) -> None:
        """From now on we must not die: sleep, act, until it is over."""
        while not self.is_over:
            for step in (self.hear, self.meet_deadlines):  # where one always fails, the other is still done
                try:
                    step()
                except Exception as error:
                    self.survive(error)
                    time.sleep(PAUSE_AFTER_ERROR)

    def hear(self) -> None:
        """Wait for the next signal or deadline, and handle the signal."""
        if event := self.sleep():
            self.handle(event)

    def sleep(self) -> "_signal.struct_siginfo | None":
        """The next signal; None when a deadline has come. The one place where tinyinit sleeps.

        Stopped or frozen until after the deadline (EINTR), CPython returns what lies on its stack. Some of that may be
        overwritten: so what is believed is what the kernel may say (sigaction(2)), and not our own mark.
        """
        if not self.deadlines:
            return _signal.sigwaitinfo(ALL_SIGNALS)
        now = time.monotonic()
        first = min(now + LONGEST_SLEEP, *(moment for moment, _ in self.deadlines.values()))
        heard = ALL_SIGNALS - {_signal.SIGCHLD} if "reap" in self.deadlines else ALL_SIGNALS
        if event := _signal.sigtimedwait(heard, 0):  # which does not sleep, so nothing interrupts it
            return event
        self.mark_stack()
        event = _signal.sigtimedwait(heard, max(first - now, 0.0))
        if event is None and first - time.monotonic() > PAUSE_AFTER_ERROR:
            raise TimeoutError("rt_sigtimedwait(2) does not wait")
        if event is None or event.si_signo not in ALL_SIGNALS or event.si_errno or not -60 <= event.si_code <= 128:
            return None  # the codes are from SI_ASYNCNL to SI_KERNEL: siginfo.h
        return None if event.si_code == 0 and event.si_pid == posix.getpid() else event

    def mark_stack(self) -> None:
        """Leave a signal of our own where sigtimedwait would find the last one, and take it for one more."""
        try:
            _signal.raise_signal(_signal.SIGCHLD)  # to the thread: it takes the place of no other
            _signal.sigtimedwait((_signal.SIGCHLD,), 0)  # that one: the thread's own come first
        except OSError as failure:  # seccomp(2)
            self.warn(f"a signal may come twice after a stop: {failure}")

    def handle(self, event: "_signal.struct_siginfo") -> None:
        """Do what the table says for this signal; every other one is forwarded."""
        number = event.si_signo
        if number in IGNORED_BY_CPYTHON and event.si_pid == posix.getpid():
            return  # nobody sent it: our own write to a closed standard error, or past a file's size limit
        if self.tells_all:
            self.emit("came", signal=number, pid=event.si_pid, uid=event.si_uid, code=event.si_code)
        action = self.actions.get(number)
        action(event) if action else self.forward(number)

    def meet_deadlines(self) -> None:
        """Do what was to be done at the moments that have passed."""
        for name in list(self.deadlines):
            if name in self.deadlines and self.deadlines[name][0] <= time.monotonic():  # one may put another off
                self.deadlines.pop(name)[1]()

    def set_deadline(self, name: str, seconds: float, action: "Callable[[], object]") -> None:
        """Have `action` called once, in so many seconds; never if they are infinite."""
        if seconds != float("inf"):
            self.deadlines[name] = (time.monotonic() + seconds, action)

    def survive(self, error: Exception) -> None:
        """Go on after an error that nobody foresaw, be it that there is no memory to report it with."""
        try:
            self.set_deadline("after an error", 0.0, self.reap)
            self.warn(f"unexpected error, going on: {error!r}")
        except Exception:
            return

    def forward(self, number: int) -> None:
        """Send a signal that came on to COMMAND."""
        target = self.options.rewrite.get(number, number)
        if target in TERMINATION_SIGNALS:
            self.actions[_signal.SIGCHLD](None)  # is the main child stopped? The kernel hands out TERM before CHLD
        if target:
            self.send(target)
        if target in TERMINATION_SIGNALS and (self.main_is_stopped or self.is_ending):
            self.send(_signal.SIGCONT)  # or what is stopped would never see the first
        if target in JOB_CONTROL_STOPS and not self.is_pid_1:
            self.suspend()

    def send(self, number: int) -> None:
        """Send a signal to the main group, or to the main child where it has left that group, or alone was meant."""
        self.sent.add(number)
        if self.status is not None:
            return self.send_to_leftovers([number])
        if self.tells_all:
            self.emit("sent", signal=number)
        in_group = not self.options.single_child
        try:
            if in_group:
                try:
                    posix.kill(-self.main, number)
                except ProcessLookupError:
                    in_group = False
            # until it is reaped its PID is not given to another process, so nobody else is ever signalled
            if not in_group or posix.getpgid(self.main) != self.main:
                posix.kill(self.main, number)
        except ProcessLookupError:
            return  # a zombie, about to be reaped
        except PermissionError:
            self.warn(f"may not send signal {number} to COMMAND (pid {self.main}), which runs as another user")

    def resume(self, event: object = None) -> None:
        """SIGCONT came. Where that was a shell's fg, our group has the terminal, and the main group is to have it."""
        self.hand_over_terminal()
        self.forward(_signal.SIGCONT)

    def hand_over_terminal(self) -> bool:
        """Make the main group the foreground group if ours is."""
        if self.status is not None or on_terminal(posix.tcgetpgrp) != posix.getpgrp():
            return False
        return on_terminal(posix.tcsetpgrp, posix.getpgid(self.main)) is None

    def main_stopped(self, number: int) -> None:
        """The main child was stopped. A shell is to see that, so stop as well; where there is none, continue it."""
        self.main_is_stopped = True
        self.emit("stopped", signal=number)
        if number in (_signal.SIGTTIN, _signal.SIGTTOU) and self.hand_over_terminal():
            self.send(_signal.SIGCONT)  # started in the background, then fg: bash sends no SIGCONT for that
        elif not TIME_LIMITS.isdisjoint(self.deadlines) and not self.is_pid_1 and on_terminal(posix.tcgetpgrp) is None:
            return  # a time limit goes on, where nobody has typed Ctrl-Z
        elif (self.is_pid_1 or not self.suspend()) and number == _signal.SIGTSTP:
            self.send(_signal.SIGCONT)  # nobody is there who ever could

    def suspend(self) -> bool:
        """Stop until SIGCONT, then continue COMMAND. False where no shell would: in an orphaned group (setpgid(2)).

        With the terminal, our whole group is stopped, as by Ctrl-Z: a script that waits for us is the same job.
        """
        target = 0 if on_terminal(posix.tcgetpgrp) == self.main else posix.getpid()
        if _signal.SIGCONT in _signal.sigpending():
            return True  # it is handled next; SIGTSTP would take it from the queue: signal(7)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGTSTP,))
        posix.kill(target, _signal.SIGTSTP)
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTSTP,))
        if event := _signal.sigtimedwait((_signal.SIGCONT,), 0):
            self.resume()
        return event is not None

    # -- reap, and end

    def reap(self, event: object = None) -> None:
        """Wait for every child that has ended: signals coalesce. If that takes long, rest."""
        may_rest, begin, took = not self.look_at_main() and event is not None, 0.0, 0.0
        while not may_rest or took < LONG_LOOK or begin < self.next_rest:
            begin = time.monotonic()
            try:
                pid, wait_status = self.wait(-1, posix.WNOHANG)
            except ChildProcessError:
                self.is_over = self.status is not None
                return
            if pid == 0:
                break
            took = time.monotonic() - begin
            if pid == self.main and self.status is None:  # or another one has its PID by now
                self.main_changed(wait_status)
                may_rest = False  # all must be known now
            elif self.tells_all:
                self.emit("reaped", pid=pid, wait_status=wait_status)
        else:
            self.next_rest = begin + 1.5 * REST
            self.set_deadline("reap", REST, lambda: self.actions[_signal.SIGCHLD](event))
        if self.status is not None and not self.is_ending:
            self.is_ending = True
            self.load()
            self.end_leftovers()

    def look_at_main(self) -> bool:
        """Whether the main child has ended, was stopped or went on. To ask that of all would take twice as long."""
        has_changed = False
        options = posix.WNOHANG | posix.WUNTRACED | posix.WCONTINUED
        while self.status is None and (change := self.wait(self.main, options))[0]:
            has_changed = True
            self.main_changed(change[1])
        return has_changed

    def main_changed(self, wait_status: int) -> None:
        """The main child was stopped or continued, or has ended."""
        if posix.WIFSTOPPED(wait_status):
            self.main_stopped(posix.WSTOPSIG(wait_status))
        elif posix.WIFCONTINUED(wait_status):
            self.main_is_stopped = False
        else:
            self.wait_status, self.ended = wait_status, time.clock_gettime(time.CLOCK_BOOTTIME)
            self.emit("ended", pid=self.main, wait_status=wait_status)
            self.status = self.judge(wait_status)

    def own_status(self, wait_status: int) -> int:
        """What a shell would report: the exit code, or 128 + the number of the signal that killed; or 0 for it."""
        code = posix.waitstatus_to_exitcode(wait_status)
        status = EXIT_SIGNAL_BASE - code if code < 0 else code
        return 0 if status in self.options.remap_exit else status

    def end_leftovers(self) -> None:
        """The main child has ended, others have not: end them, TERM first; or wait for them, or leave them."""
        if self.options.leftovers == "leave":
            self.is_over = True
        elif self.options.leftovers == "wait" and not self.must_end:
            self.signal_leftovers([])
        else:
            self.set_deadline("grace", self.options.grace, self.kill_leftovers)
            if self.options.grace > 0:
                self.send_to_leftovers([_signal.SIGTERM, _signal.SIGCONT])  # a stopped one would not see TERM alone

    def kill_leftovers(self) -> None:
        """The grace is over: KILL, and again until nobody is left, for some fork while others are killed."""
        begin = time.monotonic()
        if "give up" not in self.deadlines:
            self.set_deadline("give up", max(self.options.grace, 10 * PAUSE_AFTER_KILL), self.give_up)
            self.emit("leftovers", signal=_signal.SIGKILL)
        self.set_deadline("kill", PAUSE_AFTER_KILL, self.kill_leftovers)  # also if this one fails, for want of memory
        self.signal_leftovers([_signal.SIGKILL])
        self.set_deadline("kill", max(PAUSE_AFTER_KILL, time.monotonic() - begin), self.kill_leftovers)

    def give_up(self) -> None:
        """One more grace has passed: what KILL does not end is named, and left to the kernel."""
        self.is_over = True
        from tinyinit.leftovers import look_at_survivors

        look_at_survivors(self)

    def send_to_leftovers(self, numbers: "list[int]") -> None:
        """Send these signals, one after the other, to each process that the main child has left behind."""
        for number in numbers:
            self.emit("leftovers", signal=number)
        self.signal_leftovers(numbers)

    def signal_leftovers(self, numbers: "list[int]") -> None:
        """As PID 1: every process of the namespace, by kill(2) with -1, which is the whole machine elsewhere."""
        if not self.is_pid_1:
            return self.find_descendants()(numbers)
        for number in numbers:
            try:
                posix.kill(-1, number)
            except ProcessLookupError:
                return  # nobody is left
            except PermissionError:
                self.warn("may not signal what COMMAND left behind, which runs as another user")

    def load(self) -> None:
        """Load what the end needs: when COMMAND runs, but has hardly deleted what we are in, or used up its memory."""
        try:
            if self.options.verbosity > 0 and not self.ending:
                from tinyinit.ending import Ending

                self.ending = Ending(self)
            if not self.is_pid_1:
                self.find_descendants()
        except Exception as error:
            self.survive(error)

    def find_descendants(self) -> "Callable[[list[int]], None]":
        """As subreaper: what signals them."""
        from tinyinit.leftovers import Descendants

        self.signal_descendants = self.signal_descendants or Descendants(self).signal
        return self.signal_descendants


# ---- run ------------------------------------------------------------------------------------------------------


def let_go(kept: "set[int]") -> None:
    """Keep nothing by accident: no file system by a working directory, no pipe by a descriptor, no names of modules."""
    sys.path_importer_cache.clear()  # what all files in site-packages are called
    try:
        posix.chdir("/")
        ranges = [(number, number + 1) for number in {int(name) for name in posix.listdir("/proc/self/fd")} - kept]
    except OSError:  # no /proc
        edges = [*sorted(kept), min(posix.sysconf("SC_OPEN_MAX"), 65536)]
        ranges = [(low + 1, high) for low, high in zip(edges, edges[1:])]
    for low, high in ranges:
        posix.closerange(low, high)  # close(2) whose errors do not matter


def run(options: Options, start: Start, parent: int) -> int:
    """From COMMAND's start to tinyinit's exit status; `parent` is the PID of our parent at the first look."""
    init = Init(options, start, parent)
    for join in options.siblings:
        join(init, start)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # inherited as ignored it would make the kernel reap
    become_subreaper(init)
    init.main = start.run()
    init.emit("started", pid=init.main)
    # a child from before may have ended when nothing was blocked yet
    init.set_deadline("first look", 0.0, lambda: init.actions[_signal.SIGCHLD](None))
    init.set_deadline("load", LOADING_TIME, init.load)
    let_go(init.kept)
    init.run()
    if posix.WIFSIGNALED(init.wait_status):
        init.load()
    if start.has_terminal:
        take_terminal_back(init.main)
    init.emit("over")
    return init.status or 0


def main() -> "NoReturn":
    """Start COMMAND and exit with its status, or say why it cannot be run. Never returns."""
    try:
        mask = block_signals()
        parent = sys._xoptions.get("tinyinit_parent", f"{posix.getppid():x}")  # it may have died since
        options, command = read_options(sys.argv[1:], posix.environ)
        if command and not options.show:
            status = run(options, Start(command, mask), int(str(parent), 16))
        else:
            from tinyinit.explain import show

            status = show(options.show, command)
    except Refusal as refusal:
        write_line(str(refusal))
        status = refusal.status
    except BaseException as error:
        write_line(f"internal error: {error!r}")
        status = EXIT_CANNOT
    posix._exit(status)  # nothing is buffered, and the interpreter's own end takes as long as our start
