"""The options: one table, from which the command line, the variables, --help and README's table come.

init.py imports this when there is an option, or a variable of one. That is on the way to COMMAND, so only built-in
modules are imported here.
"""

import _signal

from tinyinit.init import Init, Options, Refusal, Start, write_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIGNAL_ALIASES = ("CLD", "IOT", "POLL")  # System V's names for CHLD, ABRT and IO
SIGSTKFLT = 16  # which `_signal` knows from Python 3.11 on
TERMINATION_LOG = "/dev/termination-log"  # where Kubernetes reads it, if terminationMessagePath is not set
LIBRARY_SIGNALS = (32, 33)  # the C library keeps them to itself (nptl(7)): they can be neither blocked nor sent on

# ---- what a value may look like: ValueError quotes the text and shows a good one --------------------------------


def signal_numbers() -> "dict[str, int]":
    """Every signal's name, without SIG, and its number (signal(7))."""
    numbers = {"STKFLT": SIGSTKFLT}
    for name, number in vars(_signal).items():
        if name.startswith("SIG") and not name.startswith("SIG_") and isinstance(number, int):
            numbers[name[3:]] = int(number)
    return numbers


def signal_name(number: int) -> str:
    """`SIGTERM` for 15, `SIGRTMIN+2` for the second real-time signal after the first."""
    if _signal.SIGRTMIN < number < _signal.SIGRTMAX:
        return f"SIGRTMIN+{number - _signal.SIGRTMIN}"
    names = (name for name, known in signal_numbers().items() if known == number and name not in SIGNAL_ALIASES)
    return "SIG" + next(names, str(number))


def parse_signal(text: str) -> int:
    """The number of a signal: `TERM`, `SIGTERM`, `term`, `RTMIN+3`, `RTMAX-1` or `15`."""
    name = text.upper() if text.isascii() else ""  # of other letters too upper() makes such
    name = name[3:] if name.startswith("SIG") else name
    base, sign, offset = name.partition("-" if name.startswith("RTMAX") else "+")
    number = int(text) if is_number(text) else signal_numbers().get(base, 0)
    if sign:
        in_range = base in ("RTMIN", "RTMAX") and is_number(offset)
        number = number + int(sign + offset) if in_range else 0
        number = number if _signal.SIGRTMIN <= number <= _signal.SIGRTMAX else 0
    if not 1 <= number <= _signal.SIGRTMAX or number in LIBRARY_SIGNALS:
        raise ValueError(f"{text!r} is no signal; write one as TERM, SIGTERM, RTMIN+3 or 15")
    return number


def parse_rewrites(text: str, before: "Mapping[int, int]") -> "dict[int, int]":
    """`FROM:TO[,FROM:TO]...`, added to the rewrites before; TO 0 drops the signal."""
    rewrites = dict(before)
    for pair in text.split(","):
        source, colon, target = pair.partition(":")
        if not colon:
            raise ValueError(f"{pair!r} is no rewrite; write one as TERM:QUIT, or as HUP:0 to drop a signal")
        rewrites[parse_signal(source)] = 0 if target == "0" else parse_signal(target)
    return rewrites


def parse_codes(text: str, before: "frozenset[int]") -> "frozenset[int]":
    """`CODE[,CODE]...`, exit codes from 0 to 255, added to those before."""
    codes = text.split(",")
    for code in codes:
        if not is_number(code) or int(code) > 255:
            raise ValueError(f"{code!r} is no exit code; write a number from 0 to 255, such as 143")
    return before | frozenset(int(code) for code in codes)


def parse_duration(text: str) -> float:
    """The seconds of `10`, `10s`, `1.5m`, `2h`, `1d`, `500ms` or `inf`."""
    if text == "inf":
        return float("inf")
    number = text.rstrip("smhd")
    unit = text[len(number) :]
    if unit not in SECONDS or not is_number(number.replace(".", "", 1)):
        raise ValueError(f"{text!r} is no duration; write one as 10, 10s, 1.5m, 2h, 1d, 500ms or inf")
    return float(number) * SECONDS[unit]


def parse_limit(text: str) -> float:
    """The seconds of a duration after which something is to happen; 0 is never, as with timeout(1)."""
    return parse_duration(text) or float("inf")


def parse_switch(text: str) -> bool:
    """Whether a variable switches its flag on."""
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(f"{text!r} is no switch; write 1 or 0")


def parse_target(text: str) -> str:
    """Where a report goes: a path, `-` for standard error, or `fd:N`, which is what /dev/fd/N means."""
    for folder in ("/dev/fd/", "/proc/self/fd/"):
        if text.startswith(folder) and is_number(text[len(folder) :]):
            text = "fd:" + text[len(folder) :]
    if not text or "\0" in text or (text.startswith("fd:") and not (is_number(text[3:]) and len(text) < 10)):
        raise ValueError(f"{text!r} is no place for a report; write a path, - for standard error, or fd:3")
    return text


def parse_log(text: str) -> str:
    """The path of a termination log; for a variable that is a switch the one that Kubernetes has."""
    try:
        return TERMINATION_LOG if parse_switch(text) else ""
    except ValueError:
        return text


def is_number(text: str) -> bool:
    """Whether `text` is ASCII digits, and not more of them than int() takes."""
    return text.isascii() and text.isdigit() and len(text) <= 300


# ---- the table ------------------------------------------------------------------------------------------------


class Option:
    """A row of OPTIONS.

    An option with a METAVAR takes a value: one of its words if it is `one|two`, else what `parse` makes of it; with
    `gathers` each value is added to those before. An option without one is a flag, and stands for `constant`; one that
    `may_lack_value` stands for that too where no value is attached to it.
    `key` is its attribute in Options, `variable` the environment variable that stands for it.
    """

    def __init__(
        self,
        short: str,
        long: str,
        help: str,
        *,
        metavar: str = "",
        parse: "Callable[..., object] | None" = None,
        gathers: bool = False,
        key: str = "",
        constant: object = True,
        may_lack_value: bool = False,
    ) -> None:
        self.short, self.long, self.help, self.metavar = short, long, help, metavar
        self.parse, self.gathers, self.constant, self.may_lack_value = parse, gathers, constant, may_lack_value
        self.key = key or long.replace("-", "_")
        self.variable = "TINYINIT_" + long.upper().replace("-", "_") if key != "show" else ""

    def read(self, origin: str, text: str, values: "Mapping[str, object]") -> object:
        """The value that `text` gives; a Refusal says where it stood. Nothing else is changed."""
        try:
            if self.parse is None:
                words = self.metavar.split("|")
                if text not in words:
                    raise ValueError(f"{text!r} is not known; write {', '.join(words[:-1])} or {words[-1]}")
                return text
            if self.gathers:
                return self.parse(text, values.get(self.key, getattr(Options, self.key)))
            return self.parse(text)
        except ValueError as error:
            raise Refusal(f"{origin}: {error}") from None


OPTIONS = (
    Option("c", "single-child", "send signals to COMMAND alone, not to its process group"),
    Option("e", "remap-exit", "end with 0 where COMMAND ends with CODE; may be repeated",
           metavar="CODE", parse=parse_codes, gathers=True),
    Option("g", "kill-process-group", "send signals to COMMAND's process group; so it is by default",
           key="single_child", constant=False),
    Option("", "annotations", "say it as a CI system's commands too; auto by default, by its variables",
           metavar="auto|off|github|gitlab"),
    Option("", "die-with-parent", "end COMMAND and all that it has started when the parent of tinyinit dies"),
    Option("", "grace", "time from TERM to KILL for what COMMAND leaves behind; 5s by default",
           metavar="DURATION", parse=parse_duration),
    Option("", "kill-after", "send KILL to COMMAND so long after TERM, INT, QUIT or HUP; never by default",
           metavar="DURATION", parse=parse_limit),
    Option("", "leftovers", "end what COMMAND leaves behind, wait for it, or leave it; stop by default",
           metavar="stop|wait|leave"),
    Option("", "notify", "give COMMAND a NOTIFY_SOCKET (sd_notify(3)); so do --timeout and --watchdog"),
    Option("", "on-timeout-signal", "send SIGNAL one second before the TERM of --timeout, such as QUIT for stacks",
           metavar="SIGNAL", parse=parse_signal),
    Option("", "oom-is-failure", "end with 137 if any process of the cgroup was killed for want of memory"),
    Option("", "orphans", "name or end what stays an orphan while COMMAND runs; keep by default",
           metavar="keep|warn|stop"),
    Option("", "orphan-ttl", "time that an orphan has until it is named or ended; 30s by default",
           metavar="DURATION", parse=parse_limit),
    Option("p", "parent-death-signal", "act as if SIGNAL came when the parent of tinyinit dies",
           metavar="SIGNAL", parse=parse_signal),
    Option("q", "quiet", "say nothing but why COMMAND cannot be run", key="verbosity", constant=0),
    Option("", "report", "write what ended and why as JSON; - is standard error, fd:3 a descriptor",
           metavar="FILE", parse=parse_target),
    Option("r", "rewrite", "send TO when FROM comes, nothing if TO is 0; may be repeated",
           metavar="FROM:TO", parse=parse_rewrites, gathers=True),
    Option("s", "subreaper", "understood as tini's; so it is by default: orphans come to tinyinit"),
    Option("", "summary", "print at the end what ended, why, and what it took"),
    Option("", "termination-log", "write why it failed for Kubernetes; /dev/termination-log by default",
           metavar="FILE", parse=parse_log, constant=TERMINATION_LOG, may_lack_value=True),
    Option("", "timeout", "end COMMAND after so long, status 124; KILL after --kill-after or the grace",
           metavar="DURATION", parse=parse_limit),
    Option("v", "verbose", "tell every event", key="verbosity", constant=2),
    Option("w", "warn-on-reap", "tell of each orphan that is reaped"),
    Option("", "watchdog", "end COMMAND, ABRT first, if it sends no WATCHDOG=1 for so long; status 124",
           metavar="DURATION", parse=parse_limit),
    Option("", "zombies", "name, nudge by SIGCHLD, or end who does not reap zombies; ignore by default",
           metavar="ignore|warn|nudge|stop"),
    Option("", "zombie-ttl", "time until who does not reap is named, and then ended; 30s by default",
           metavar="DURATION", parse=parse_limit),
    Option("h", "help", "print this, and exit", key="show", constant="help"),
    Option("l", "license", "print the license, and exit", key="show", constant="license"),
    Option("", "ps", "print the trees of the PIDs given, or all; zombies and orphans are marked",
           key="show", constant="ps"),
    Option("V", "version", "print the version, and exit", key="show", constant="version"),
)  # fmt: skip

# Variables of tini and dumb-init: for each value what it means; "" stands for any other.
FOREIGN_VARIABLES: "tuple[tuple[str, dict[str, dict[str, object]]], ...]" = (
    ("TINI_SUBREAPER", {"": {"subreaper": True}}),
    ("TINI_KILL_PROCESS_GROUP", {"": {"single_child": False}}),
    ("TINI_VERBOSITY", {"": {}, "0": {"verbosity": 0}, **{level: {"verbosity": 2} for level in "234"}}),
    ("DUMB_INIT_DEBUG", {"": {}, "1": {"verbosity": 2}}),
    ("DUMB_INIT_SETSID", {"": {}, "0": {"single_child": True}}),
)

SPARE_VARIABLE = "TINYINIT_SPARE"  # no option: a process that has it in its environment is not ended with the others

# ---- the command line and the environment ---------------------------------------------------------------------


def parse_options(words: "list[str]", environ: "Mapping[bytes, bytes]") -> "tuple[Options, list[str]]":
    """The options, of which the command line's win, and COMMAND with its arguments. Refusal if one is bad.

    A variable that is like ours but is none is told and otherwise let be: who sets it may mean a later tinyinit.
    """
    from_words, command = parse_command_line(words)
    values = {**parse_environment(environ), **from_words}
    options = Options({**values, "siblings": find_siblings(Options(values))})
    known = {SPARE_VARIABLE, *(option.variable for option in OPTIONS)}
    for name in sorted(environ):
        text = name.decode("utf-8", "replace")
        if options.verbosity > 0 and text.startswith("TINYINIT_") and text not in known:
            write_line(f"warning: variable {repr(text)[1:-1]} is not known; see 'tinyinit --help'")
    return options, command


def find_siblings(options: Options) -> "list[Callable[[Init, Start], None]]":
    """Those that the options ask for; only they are imported."""
    siblings: "list[Callable[[Init, Start], None]]" = []
    if options.verbosity > 1 or options.warn_on_reap:
        from tinyinit.narrate import narrate

        siblings.append(narrate)
    is_limited = min(options.timeout, options.watchdog) != float("inf") or options.kill_after is not None
    if is_limited or options.die_with_parent or options.notify:
        from tinyinit.limits import limit

        siblings.append(limit)
    if options.parent_death_signal and not options.die_with_parent:  # which follows it as well
        from tinyinit.parent import follow_parent

        siblings.append(follow_parent)
    if options.report or options.summary or options.termination_log:
        from tinyinit.account import keep_account

        siblings.append(keep_account)
    elif options.oom_is_failure:
        from tinyinit.ending import remember

        siblings.append(remember)
    if options.orphans != "keep" or options.zombies != "ignore":
        from tinyinit.watch import keep_watch

        siblings.append(keep_watch)
    return siblings


def parse_command_line(words: "list[str]") -> "tuple[dict[str, object], list[str]]":
    """The values of the options, and COMMAND with its arguments: options end at `--`, or before another word."""
    values: "dict[str, object]" = {}
    rest = words[:]
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, equals, text = word.partition("=")
            take_option(name, text if equals else None, rest, values)
            continue
        for position in range(1, len(word)):  # -gv, -e143
            if take_option("-" + word[position], word[position + 1 :] or None, rest, values):
                break
    return values, rest


def take_option(name: str, attached: "str | None", rest: "list[str]", values: "dict[str, object]") -> bool:
    """Put an option into `values`, and say whether it took a value: the attached text, or the next word."""
    option = next((option for option in OPTIONS if name in ("-" + option.short, "--" + option.long)), None)
    if option is None:
        raise Refusal(f"unknown option {name!r}; see 'tinyinit --help'")
    if not option.metavar:
        if attached is not None and name.startswith("--"):
            raise Refusal(f"option {name} takes no value, but was given {attached!r}; see 'tinyinit --help'")
        values[option.key] = option.constant
        return False
    if attached is None and option.may_lack_value:
        values[option.key] = option.constant
        return True
    if attached is None and not rest:
        raise Refusal(f"option {name} needs a value: {name} {option.metavar}; see 'tinyinit --help'")
    values[option.key] = option.read(f"option {name}", rest.pop(0) if attached is None else attached, values)
    return True


def parse_environment(environ: "Mapping[bytes, bytes]") -> "dict[str, object]":
    """The values of the variables; of two that disagree ours wins."""
    texts = {name.decode("utf-8", "replace"): text.decode("utf-8", "replace") for name, text in environ.items()}
    values: "dict[str, object]" = {}
    for name, meanings in FOREIGN_VARIABLES:
        if name in texts:
            values.update(meanings.get(texts[name], meanings[""]))
    for option in OPTIONS:
        text, origin = texts.get(option.variable), f"variable {option.variable}"
        if text is None:
            continue
        if option.metavar:
            values[option.key] = option.read(origin, text, {})
            continue
        try:
            if parse_switch(text):
                values[option.key] = option.constant
        except ValueError as error:
            raise Refusal(f"{origin}: {error}") from None
    return values
