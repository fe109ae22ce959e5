"""sd_notify(3) for COMMAND: the socket that NOTIFY_SOCKET names, what is said there, and --watchdog.

limits.py asks for this when there is a --timeout, a --watchdog, or --notify. That is on the way to COMMAND, so only
built-in modules are imported here, and two that are in C wherever they are not built in.

Design note: the socket
-----------------------
It wakes the one sleep as everything does, by a signal (fcntl(2), F_SETSIG): for each datagram the kernel queues a
real-time one, and for each of these one datagram is taken. So between any two datagrams all other signals come first,
TERM and CHLD among them; and no more of these signals wait than datagrams, which net.unix.max_dgram_qlen bounds: who
sends faster than we read, waits. Where none can be queued (RLIMIT_SIGPENDING) the kernel sends SIGIO instead. Not
taken: SIGIO alone. It coalesces, also with one that somebody sends to COMMAND, which would then be lost.

Its name is an abstract one (unix(7)): that needs no folder which can be written, no permission for a COMMAND that has
become another user, and is gone with us, even after KILL. It is seen in our network namespace, from everywhere in it.

So whom a message comes from counts, for which the kernel vouches (SCM_CREDENTIALS): it is heard if parent links lead
from its sender to us, whatever user that is. A sender that has been reaped already has no parent, and is not told from
a stranger: it is not heard, as by systemd. systemd-notify and sd_notify_barrier(3) wait until they have been heard; and
our own children, COMMAND and what was adopted, are reaped only after what they have said was taken.
"""

import _signal
import _socket
import fcntl
import posix
import sys
import time

from tinyinit.init import Init, Refusal, Start, write_line
from tinyinit.leftovers import group_of, parent_of
from tinyinit.limits import EVIDENCE_TIME, Limits
from tinyinit.options import is_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NEWS = _signal.SIGRTMAX - 1  # says that a datagram has come; from anybody but the kernel it is COMMAND's
LONGEST_MESSAGE = 4096  # bytes: systemd's bound too; what is longer is not heard
CREDENTIALS = 12  # bytes of a struct ucred: pid, uid and gid, 4 each (unix(7))
# Where only these fit the kernel closes the descriptors of FDSTORE=1 and BARRIER=1 at once: we never have them.
CREDENTIALS_SPACE = _socket.CMSG_SPACE(CREDENTIALS)
MOST_AT_ONCE = 512  # datagrams; more wait nowhere, by systemd's own net.unix.max_dgram_qlen
PAUSE = 0.1  # seconds, until what did not go is tried again
MEMORY = 0.05  # seconds for which a sender is known, so that a flood of one costs no look at /proc each
FOREVER = 2**64 - 1  # microseconds: systemd's USEC_INFINITY
ATTEMPTS = 3  # to follow parent links, of which one breaks when a parent ends
STOPS = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT)  # COMMAND is to end: the watchdog is over, as by systemd
PASSED_ON = frozenset(  # but for MAINPID, since that is ours, and ERRNO, since that is told by our status
    (b"READY", b"RELOADING", b"MONOTONIC_USEC", b"STOPPING", b"STATUS", b"WATCHDOG", b"WATCHDOG_USEC",
     b"EXTEND_TIMEOUT_USEC")
)  # fmt: skip

# ---- what is said ---------------------------------------------------------------------------------------------


def assignments(message: bytes) -> "dict[bytes, bytes]":
    """The variables of a message, a line each; of two with the same name the first counts, as for systemd."""
    said: "dict[bytes, bytes]" = {}
    for line in message.split(b"\n"):
        name, equals, value = line.partition(b"=")
        if equals:
            said.setdefault(name, value)
    return said


def microseconds(value: bytes) -> "float | None":
    """The seconds of so many microseconds, infinite for 0 and for systemd's infinity; None for what is no number."""
    text = value.decode("ascii", "replace")
    if not is_number(text) or int(text) > FOREVER:
        return None
    return int(text) / 1e6 if 0 < int(text) < FOREVER else float("inf")


# ---- who says it ----------------------------------------------------------------------------------------------


def descends(pid: int, own: int) -> "bool | None":
    """Whether parent links lead from a process to `own`, or it is that; None if it has ended. PID 0: from outside."""
    for _ in range(ATTEMPTS):
        ancestor = pid
        while ancestor > 0 and ancestor != own:
            ancestor = parent_of(ancestor)
        if ancestor >= 0:
            return ancestor == own
        if parent_of(pid) < 0:
            return None
    return False


def has_own_proc(own: int) -> bool:
    """Whether /proc is there, and knows processes by the PIDs that we do."""
    try:
        return posix.readlink("/proc/self") == str(own)
    except OSError:
        return False


# ---- the socket -----------------------------------------------------------------------------------------------


def open_socket() -> "_socket.socket":
    """A socket with a name that nobody else knows yet, and with NEWS for each datagram. OSError if there can be none.

    Its descriptor is above 2: a closed standard error must not become the socket.
    """
    low = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    number = low.detach()
    if number < 3:
        low = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM, 0, number)
        number = fcntl.fcntl(low.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
        low.close()
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM, 0, number)
    socket.setblocking(False)
    socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
    fcntl.fcntl(number, fcntl.F_SETSIG, NEWS)
    fcntl.fcntl(number, fcntl.F_SETOWN, posix.getpid())
    fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) | fcntl.FASYNC)
    socket.bind(b"\0tinyinit/" + posix.urandom(8).hex().encode())
    return socket


def address_of(variable: bytes) -> bytes:
    """The address that a NOTIFY_SOCKET means, `@` for an abstract one; empty for none, and for kinds we do not know."""
    return {b"/": variable, b"@": b"\0" + variable[1:]}.get(variable[:1], b"")


class Notify:
    """Hears what COMMAND says, acts on it, and passes it on to the NOTIFY_SOCKET that we were started with."""

    def __init__(self, init: Init, limits: Limits, socket: "_socket.socket", outer: bytes) -> None:
        self.init, self.limits, self.socket, self.outer = init, limits, socket, outer
        self.own = posix.getpid()
        self.known: "tuple[int, float, bool | None]" = (-1, 0.0, None)  # the last sender, until when, its descent
        self.refused: "set[bool]" = set()  # who were warned about: those that have ended, and strangers
        self.unheard: "list[_signal.struct_siginfo]" = []
        self.unsent: "dict[bytes, bytes]" = {}  # what the outer socket had no room for
        self.watchdog = init.options.watchdog  # seconds
        self.acts: "dict[bytes, Callable[[bytes], None]]" = {
            b"EXTEND_TIMEOUT_USEC": self.extend,
            b"STATUS": self.keep_status,
            b"STOPPING": self.stop_watchdog,
            b"WATCHDOG": self.hear_watchdog,
            b"WATCHDOG_USEC": self.change_watchdog,
        }

    # -- wake-ups

    def listen(self, event: str, facts: "dict[str, int]") -> None:
        """Start the watchdog with COMMAND, as systemd does for a service of Type=exec; stop it when that is to end."""
        if event == "started":
            if "timeout" in self.init.deadlines:
                self.guard("timeout", self.init.options.timeout, self.limits.pass_timeout)
            self.start_watchdog()
        elif event == "ended" or (event == "sent" and facts["signal"] in STOPS):
            self.stop_watchdog()
        elif event == "sent" and facts["signal"] == _signal.SIGCONT and "watchdog" in self.init.deadlines:
            self.start_watchdog()  # it may have been stopped with us, by Ctrl-Z, and could not show any sign

    def act_on(self, number: int, take: "Callable[[], object]") -> None:
        """Have `take` called for a signal of the kernel's, before anything else that is done for it.

        Anybody else's is still what it was, and the kernel's SIGIO may have been merged into it.
        """
        former = self.init.actions.get(number)

        def act(event: "_signal.struct_siginfo | None") -> None:
            take()
            if number == _signal.SIGCHLD or (event and event.si_code <= 0):  # sent by a process: sigaction(2)
                former(event) if former else self.init.forward(number)

        self.init.actions[number] = act

    def guard(self, name: str, seconds: float, action: "Callable[[], None]") -> None:
        """Set a deadline which, when it has come, what still waits in the socket may put off."""

        def meet() -> None:
            self.init.set_deadline(name, 0.0, meet)
            self.take_all()
            if self.init.deadlines.get(name, (float("inf"),))[0] <= time.monotonic():
                del self.init.deadlines[name]
                action()

        self.init.set_deadline(name, seconds, meet)

    # -- hear

    def take(self) -> bool:
        """Take a datagram; whether there was one."""
        try:
            message, control, flags, _ = self.socket.recvmsg(LONGEST_MESSAGE, CREDENTIALS_SPACE)
        except BlockingIOError:
            return False
        except (OSError, MemoryError):  # there is no memory for it just now, and no signal comes again
            self.init.set_deadline("notify", PAUSE, self.take_all)
            return False
        said = assignments(message)
        # BARRIER=1 is not among these: who sends it may have gone on, and ended, as soon as it was taken
        if control and not flags & _socket.MSG_TRUNC and not PASSED_ON.isdisjoint(said):
            self.judge_sender(said, control[0][2])
        return True

    def take_all(self) -> None:
        """Take all datagrams, and first the signals for them: those that come from now on are for later ones."""
        for _ in range(MOST_AT_ONCE):
            event = _signal.sigtimedwait((NEWS,), 0)
            if event is None:
                break
            if event.si_signo == NEWS and event.si_code <= 0:  # or it is what lay on the stack: see Init.sleep()
                self.unheard.append(event)  # until the one that is being handled just now is done
                self.init.set_deadline("unheard", 0.0, self.handle_rest)
        for _ in range(MOST_AT_ONCE):
            if not self.take():
                return
        self.init.set_deadline("notify", 0.0, self.take_all)

    def handle_rest(self) -> None:
        """Handle the signals that processes had sent, and that were taken with ours."""
        while self.unheard:
            self.init.handle(self.unheard.pop(0))

    def judge_sender(self, said: "dict[bytes, bytes]", credentials: bytes) -> None:
        """Obey a message if its sender is one of ours. Of each other kind one is told."""
        pid, uid = (int.from_bytes(credentials[at : at + 4], sys.byteorder) for at in (0, 4))
        now = time.monotonic()
        if pid != self.known[0] or now > self.known[1]:
            self.known = (pid, now + MEMORY, self.is_ours(pid))
        is_ours = self.known[2]
        if is_ours:
            self.obey(said)
        elif (is_ours is None) not in self.refused:
            self.refused.add(is_ours is None)
            why = f"pid {pid} (uid {uid}) is no process of COMMAND's" if pid else f"uid {uid} of another PID namespace"
            if is_ours is None:
                why = f"pid {pid} has ended, so it is not known whose it was; send it with systemd-notify, which waits"
            self.init.warn(f"a message to NOTIFY_SOCKET is ignored: {why}")

    def is_ours(self, pid: int) -> "bool | None":
        """Whether a process descends from us; None if it has ended.

        We are ours too: root's systemd-notify, if we are its parent, says that it is us. Without /proc it is the main
        group that counts.
        """
        if has_own_proc(self.own):
            return descends(pid, self.own)
        return self.init.status is None and pid > 0 and group_of(pid) == self.init.main

    def obey(self, said: "dict[bytes, bytes]") -> None:
        """Do what a message says. What is not known is ignored, as sd_notify(3) wants it."""
        for name, value in said.items():
            if name in PASSED_ON:
                if self.init.options.verbosity > 1:
                    self.tell(name, value)
                if self.outer:
                    self.unsent[name] = value
            act = self.acts.get(name)
            if act:
                act(value)
        if self.unsent:
            self.pass_on()

    def tell(self, name: bytes, value: bytes) -> None:
        """Tell what COMMAND says, with nothing in it that a terminal could obey."""
        from tinyinit.processes import printable

        write_line(f"COMMAND says {name.decode()}={printable(value)}")

    def pass_on(self) -> None:
        """Send what COMMAND said to the outer socket, and never wait for that: later, if it has no room now."""
        message = b"\n".join(name + b"=" + value for name, value in self.unsent.items())
        try:
            self.socket.sendto(message, _socket.MSG_DONTWAIT, self.outer)
        except BlockingIOError:
            return self.init.set_deadline("pass on", PAUSE, self.pass_on)
        except OSError as failure:
            self.init.warn(f"what COMMAND says cannot be passed on to our own NOTIFY_SOCKET: {failure.strerror}")
        self.unsent.clear()

    # -- act

    def extend(self, value: bytes) -> None:
        """EXTEND_TIMEOUT_USEC: COMMAND may run for so long from now on. It never shortens, and comes in time or never.

        The watchdog is put off by it too. Source: sd_notify(3), systemd's service_extend_timeout().
        """
        later = time.monotonic() + (microseconds(value) or 0.0)
        for name in ("timeout", "watchdog"):
            moment, action = self.init.deadlines.get(name, (float("inf"), None))
            if action and moment < later < float("inf"):
                self.init.deadlines[name] = (later, action)
                self.limits.is_extended |= name == "timeout"

    def keep_status(self, value: bytes) -> None:
        """STATUS: shown when a limit has passed."""
        self.limits.command_status = value

    # -- the watchdog

    def start_watchdog(self) -> None:
        """From now on COMMAND has --watchdog for the next sign of life."""
        self.stop_watchdog()
        if self.init.status is None and not self.limits.is_past:
            self.guard("watchdog", self.watchdog, self.be_too_late)

    def be_too_late(self) -> None:
        """No sign of life has come in time."""
        self.bite(f"has sent no WATCHDOG=1 in time; its --watchdog is {self.watchdog:g} s")

    def stop_watchdog(self, value: bytes = b"") -> None:
        """COMMAND is ending, or says so: it is not expected to show more signs of life."""
        self.init.deadlines.pop("watchdog", None)

    def hear_watchdog(self, value: bytes) -> None:
        """WATCHDOG: 1 is a sign of life, `trigger` says that COMMAND has found itself to be broken."""
        if value == b"1":
            self.start_watchdog()
        elif value == b"trigger" and self.init.options.watchdog != float("inf"):
            self.bite("has sent WATCHDOG=trigger")

    def change_watchdog(self, value: bytes) -> None:
        """WATCHDOG_USEC: another --watchdog, from now on, where there is one; 0 is none."""
        seconds = microseconds(value)
        if seconds is not None and self.init.options.watchdog != float("inf"):
            self.watchdog = seconds
            self.start_watchdog()

    def bite(self, what: str) -> None:
        """ABRT to COMMAND, so that a core or a stack shows where it hung; and a second later as after --timeout."""
        self.stop_watchdog()
        if self.limits.is_past or not self.limits.is_running_past(_signal.SIGABRT):
            return
        self.init.emit("watchdog")
        if self.init.options.verbosity > 0:
            write_line(f"COMMAND {what}{self.limits.status_line()}: it gets ABRT, and is ended")
        self.init.deadlines.pop("timeout", None)
        self.init.send(_signal.SIGABRT)
        self.init.set_deadline("evidence", EVIDENCE_TIME, self.limits.time_out)


# ---- join -----------------------------------------------------------------------------------------------------


def set_variables(init: Init, environ: "dict[bytes, bytes]", name: bytes) -> None:
    """What COMMAND finds: NOTIFY_SOCKET, and WATCHDOG_USEC if somebody waits for signs of life, us or who started us.

    Without WATCHDOG_PID, which none of COMMAND's children would be: any may show it (sd_watchdog_enabled(3)).
    """
    environ[b"NOTIFY_SOCKET"] = b"@" + name[1:]
    is_meant = environ.get(b"WATCHDOG_PID", b"%d" % posix.getpid()) == b"%d" % posix.getpid()
    theirs = microseconds(environ.get(b"WATCHDOG_USEC", b"")) if is_meant else None
    seconds = min(init.options.watchdog, theirs or float("inf"))
    if is_meant:
        environ.pop(b"WATCHDOG_PID", None)
    if init.options.watchdog != float("inf"):
        environ.pop(b"WATCHDOG_PID", None)
        environ[b"WATCHDOG_USEC"] = b"%d" % (seconds * 1e6)


def hear_command(init: Init, start: Start, limits: Limits) -> None:
    """Open the socket, and have COMMAND find it. Refusal where it was asked for and there can be none."""
    try:
        socket = open_socket()
    except OSError as failure:
        text = f"cannot open a socket for NOTIFY_SOCKET: {failure.strerror}"
        if init.options.notify or init.options.watchdog != float("inf"):
            raise Refusal(text) from None
        return init.warn(f"{text}; COMMAND cannot ask for more time than its --timeout")
    notify = Notify(init, limits, socket, address_of(start.environ.get(b"NOTIFY_SOCKET", b"")))
    set_variables(init, start.environ, socket.getsockname())
    init.kept.add(socket.fileno())
    init.listeners.append(notify.listen)
    notify.act_on(NEWS, notify.take)
    notify.act_on(_signal.SIGIO, notify.take_all)
    # what a child said before it ended is taken before it is reaped, while it can be told whose it is
    notify.act_on(_signal.SIGCHLD, notify.take_all)
