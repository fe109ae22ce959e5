"""Contract, section 8, for any words and variables: a documented status, one clear line, no traceback, no hang.

By default always the same examples; FUZZ=100 tries so many times as many others.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

import tinyinit
from helpers.running import TIMEOUT, TINYINIT
from tinyinit import options as module
from tinyinit.init import ALL_SIGNALS, Options, Refusal
from tinyinit.options import FOREIGN_VARIABLES, OPTIONS, SPARE_VARIABLE, parse_options, parse_signal

pytestmark = [pytest.mark.form("installed"), pytest.mark.heavy]

TIMES = int(os.environ.get("FUZZ") or 0)
MIB = 1 << 20


def tries(count: int) -> settings:
    return settings(
        max_examples=count * max(TIMES, 1), derandomize=not TIMES, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


# ---- words and variables --------------------------------------------------------------------------------------

VARIABLES = [option.variable for option in OPTIONS if option.variable] + [name for name, _ in FOREIGN_VARIABLES]
KNOWN_VALUES = [word for option in OPTIONS for word in option.metavar.split("|") if word.islower()]
NUMBERS = ["0", "1", "2", "64", "65", "124", "255", "256", "1e3", "0x10", "1_0", "inf", "Inf", "infinity", "nan", "1.5",
           ".5", "5.", ".", "9" * 300, "9" * 301, "9" * 5000, "0" * 300, "\u0663", "\xb2", "\u2167", "\uff11\uff10", "+1", "-1", " 1", "1\n"]  # fmt: skip
SIGNALS = ["TERM", "SIGTERM", "term", "RTMIN+3", "RTMAX-1", "RTMIN+99", "\u017figterm", "\u0131nt", "KILL", "0", "32"]

arbitrary = st.binary(max_size=12).map(os.fsdecode) | st.text(max_size=8)
durations = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "-", "+"]),
    st.sampled_from(NUMBERS),
    st.sampled_from(["", "ms", "s", "m", "h", "d", "w"]),
)
signals = st.sampled_from(SIGNALS + NUMBERS)
lists = st.lists(signals, max_size=3).map(",".join)
rewrites = st.lists(st.builds("{}:{}".format, signals, signals), max_size=3).map(",".join)
targets = st.builds("{}{}".format, st.sampled_from(["fd:", "/dev/fd/", "-", ""]), st.sampled_from(NUMBERS))
switches = st.sampled_from(["", "0", "1", "true", "NO", "oN", "off", "maybe"])
values = st.one_of(durations, signals, lists, rewrites, targets, switches, st.sampled_from(KNOWN_VALUES), arbitrary)


def spellings(option: module.Option) -> st.SearchStrategy[list[str]]:
    """The words that give an option, with a value where it takes one, and now and then where it does not."""
    flags = [f"--{option.long}"] + [f"-{option.short}"] * bool(option.short)
    name = st.sampled_from(flags)
    return st.one_of(
        name.map(lambda flag: [flag]),
        st.tuples(name, values).map(list),
        values.map(lambda value: [f"--{option.long}={value}"]),
        values.map(lambda value: [f"-{option.short}{value}"]),
    )


words = st.lists(
    st.one_of(st.sampled_from(OPTIONS).flatmap(spellings), st.sampled_from([["--"], [""], ["-"], ["x"]]), arbitrary.map(lambda word: [word])),
    max_size=6,
).map(lambda groups: [word for group in groups for word in group])  # fmt: skip
names = st.one_of(st.sampled_from(VARIABLES), st.sampled_from([SPARE_VARIABLE, "TINYINIT_", "TINYINIT"]))
names_of_any_kind = names.map(os.fsencode) | st.binary(max_size=6).map(lambda rest: b"TINYINIT_" + rest)
environments = st.dictionaries(names_of_any_kind, values.map(lambda text: text.encode("utf-8", "surrogateescape") if not re.search("[\ud800-\udc7f\udd00-\udfff]", text) else b""), max_size=3)  # fmt: skip


def is_line(text: str) -> bool:
    return text.isprintable()


# ---- in process -----------------------------------------------------------------------------------------------


def check(options: Options) -> None:
    """What the options may be, whatever was asked for."""
    for name in ("grace", "orphan_ttl", "zombie_ttl", "timeout", "watchdog"):
        seconds = getattr(options, name)
        assert isinstance(seconds, float)
        assert seconds > 0 or (name == "grace" and seconds == 0)
    assert options.kill_after is None or options.kill_after > 0
    assert all(0 <= code <= 255 for code in options.remap_exit)
    assert all(
        number in ALL_SIGNALS | {0, signal.SIGKILL, signal.SIGSTOP}
        for pair in options.rewrite.items()
        for number in pair
    )
    assert options.on_timeout_signal == 0 or options.on_timeout_signal in signal.valid_signals()
    assert options.parent_death_signal == 0 or options.parent_death_signal in signal.valid_signals()
    assert options.verbosity in (0, 1, 2)
    for option in OPTIONS:
        if option.metavar and option.parse is None:
            assert getattr(options, option.key) in option.metavar.split("|")
        elif not option.metavar and isinstance(option.constant, bool):
            assert isinstance(getattr(options, option.key), bool)
    assert "\0" not in options.report


@tries(600)
@given(words=words, environ=environments)
@example(words=["x"], environ={b"TINYINIT_\n\x1b[31m": b""})
def test_options_are_understood_or_refused_in_one_line(words: list[str], environ: Mapping[bytes, bytes]) -> None:
    before, said, status = list(words), list[str](), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "write_line", said.append)
        try:
            options, command = parse_options(words, environ)
        except Refusal as refusal:
            event("refused")
            said.append(str(refusal))
            status = refusal.status
        else:
            event("understood")
            check(options)
            assert command == before[len(before) - len(command) :]
    assert status in (0, 125)
    assert words == before
    assert all(map(is_line, said)), said


@tries(300)
@given(option=st.sampled_from([option for option in OPTIONS if option.metavar]), value=values)
def test_a_variable_means_what_the_option_means(option: module.Option, value: str) -> None:
    try:
        text = value.encode()
    except UnicodeEncodeError:
        return  # which a variable has otherwise than a word
    outcomes: list[Any] = []
    for words, environ in ([f"--{option.long}={value}"], {}), ([], {option.variable.encode(): text}):
        try:
            outcomes.append(getattr(parse_options(words, environ)[0], option.key))
        except Refusal as refusal:
            outcomes.append(str(refusal).partition(": ")[2])
    if option.may_lack_value:  # which is on or off, as a variable
        return
    assert outcomes[0] == outcomes[1]


@tries(300)
@given(text=values)
@example(text="\u017figterm")
def test_what_is_taken_for_a_signal_looks_like_one(text: str) -> None:
    try:
        number = parse_signal(text)
    except ValueError:
        return
    assert number in signal.valid_signals()
    assert re.fullmatch(r"(?i:sig)?[A-Za-z0-9]+([+-]\d+)?", text, re.ASCII)


# ---- the command ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory, and all that PATH has: `true`."""
    path = tmp_path_factory.mktemp("fuzz")
    (path / "true").symlink_to(str(shutil.which("true")))
    return path


def is_harmless(text: str) -> bool:
    """Nothing is to be written outside of the folder."""
    return "/" not in text and "\0" not in text and "termination" not in text.lower()


def as_bytes(text: str) -> bytes:
    return text.encode(
        "utf-8", "surrogateescape" if re.fullmatch("[^\ud800-\udc7f\udd00-\udfff]*", text) else "replace"
    )


def check_run(status: int, err: bytes) -> None:
    assert b"Traceback" not in err
    assert b"internal error" not in err
    assert b"unexpected error" not in err
    assert status in (0, 124, 125, 126, 127), (status, err)
    if status >= 125:
        lines = [line for line in err.decode().split("\n") if not line.startswith("tinyinit: warning: ")]
        assert (len(lines), lines[-1], lines[0][:10]) == (2, "", "tinyinit: ")
        assert is_line(lines[0])


@tries(80)
@given(words=words, environ=environments, command=st.sampled_from([["true"], ["--", "true"], []]))
def test_the_command_ends_with_a_documented_status(
    folder: Path, words: list[str], environ: Mapping[bytes, bytes], command: list[str]
) -> None:
    arguments = [as_bytes(word) for word in words if is_harmless(word)] + [word.encode() for word in command]
    wanted = {
        name: text
        for name, text in environ.items()
        if is_harmless(os.fsdecode(name)) and is_harmless(os.fsdecode(text))
    }
    wanted = {name: text for name, text in wanted.items() if b"=" not in name}
    done = subprocess.run(
        [TINYINIT.encode(), *arguments], env={**wanted, b"PATH": bytes(folder)}, cwd=folder, timeout=TIMEOUT, check=False,
        stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True,
    )  # fmt: skip
    event(f"status {done.returncode}")
    check_run(done.returncode, done.stderr)


@tries(30)
@given(words=st.lists(arbitrary | st.binary(max_size=8), min_size=1, max_size=3), known=st.booleans())
def test_run_returns_or_raises_what_subprocess_does(folder: Path, words: list[Any], known: bool) -> None:
    words = ["true", *words] if known else words
    words = [word for word in words if not (isinstance(word, str) and "/" in word)] or [""]

    def outcome(run: Any) -> Any:
        try:
            return run(words, env={"PATH": str(folder)}, cwd=folder, stdin=subprocess.DEVNULL).returncode
        except (OSError, ValueError) as error:
            return type(error), getattr(error, "errno", None)

    assert outcome(tinyinit.run) == outcome(subprocess.run)


@pytest.mark.parametrize("missing", [0, 256, 1024, 65536, MIB])
@pytest.mark.parametrize("word", [100, 131071])
def test_two_mebibytes_of_arguments(folder: Path, missing: int, word: int) -> None:
    """As many as the kernel takes, less a little: more than it takes once the interpreter's own words are added."""
    room = 2 * MIB - 4096 - missing  # of a stack of 8 MiB: execve(2)
    arguments = [b"x" * word] * (room // (word + 9))
    try:
        done = subprocess.run(
            [TINYINIT.encode(), b"--", b"true", *arguments], env={b"PATH": bytes(folder)}, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    except OSError as failure:
        if failure.errno == errno.E2BIG:
            return  # from the kernel, which has not even started tinyinit
        raise
    check_run(done.returncode, done.stderr)
    assert done.returncode in (0, 125, 126)
    assert done.returncode == 0 or b"Argument list too long" in done.stderr
