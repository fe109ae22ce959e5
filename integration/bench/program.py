"""What a program that measures for minutes needs besides: to end its own when it is ended, and its place in README."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import NoReturn

README = Path(__file__).resolve().parent.parent.parent / "README.md"


def end_as_on_ctrl_c() -> None:
    """On a termination signal, end as on Ctrl-C, so that everything that was started is ended."""

    def end(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def put_into_readme(begin: str, text: str, end: str) -> None:
    """Put a text where the last one stands, between these lines. SystemExit if they are not there."""
    pattern = f"{re.escape(begin)}.*?{re.escape(end)}"
    content, count = re.subn(pattern, lambda _: f"{begin}\n{text}\n{end}", README.read_text(), flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"README has no place for the figures: {begin.strip()} and {end} must be in it")
    README.write_text(content)
