"""The page that `python -m tinyinit.report --html` makes of reports, as a PNG: docs/report.png is made by

    python tests/helpers/reports.py FOLDER
    cd FOLDER && python REPOSITORY/tools/screenshot.py --height 745 *.json REPOSITORY/docs/report.png

It drives a headless Chromium by the DevTools protocol, over a pipe, which needs nothing but the browser.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = "chromium"
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND"),
    *("--remote-debugging-pipe", "--hide-scrollbars", "--force-color-profile=srgb"),
)
NULL = subprocess.DEVNULL
HIGH = 20  # above every descriptor that has a meaning: --remote-debugging-pipe reads 3 and writes 4
TIMEOUT = 60.0  # seconds for one answer
TALLEST = 16384  # pixels: what Chromium draws at once


class Browser:
    """A headless Chromium that runs, and the one page in it."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.to_browser, self.from_browser = to_browser, from_browser
        self.numbers, self.rest, self.session = itertools.count(1), b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a method of the protocol; what happens meanwhile is kept in `events`."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        os.write(
            self.to_browser,
            json.dumps({**message, "sessionId": self.session} if self.session else message).encode() + b"\0",
        )
        while True:
            answer = self.receive()
            if answer.get("id") != number:
                self.events.append(answer)
                continue
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            result: dict[str, Any] = answer["result"]
            return result

    def receive(self) -> dict[str, Any]:
        """The next message. TimeoutError if there is none in time, EOFError if the browser has ended."""
        end = time.monotonic() + TIMEOUT
        while b"\0" not in self.rest:
            if not select.select([self.from_browser], [], [], max(end - time.monotonic(), 0))[0]:
                raise TimeoutError(f"the browser has not answered in {TIMEOUT} s")
            part = os.read(self.from_browser, 1 << 20)
            if not part:
                raise EOFError("the browser has ended")
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def show(self, path: Path, *, width: int, height: int = 800, is_dark: bool = False, media: str = "screen") -> None:
        """Open a page in a window of that size, and wait until it is there."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.events.clear()
        done = self.call("Page.navigate", url=path.resolve().as_uri())
        if "errorText" in done:
            raise RuntimeError(f"{path}: {done['errorText']}")
        loaded = {"name": "load", "loaderId": done["loaderId"]}
        while not any(loaded.items() <= event.get("params", {}).items() for event in self.lifecycle()):
            self.events.append(self.receive())

    def lifecycle(self) -> list[dict[str, Any]]:
        """What has happened to pages, of this one and those before it."""
        return [event for event in self.events if event.get("method") == "Page.lifecycleEvent"]

    def evaluate(self, script: str) -> Any:
        """The value of an expression in JavaScript, in the page, whatever its Content-Security-Policy."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(str(done["exceptionDetails"]))
        return done["result"].get("value")

    def screenshot(self, out: Path, most: int = TALLEST) -> None:
        """The page as a PNG, all of it, or its first `most` pixels."""
        width, height = self.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, most), "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        out.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser with a profile of its own; both are gone afterwards. FileNotFoundError if none is installed."""
    path = shutil.which(CHROMIUM)
    if not path:
        raise FileNotFoundError(f"{CHROMIUM} is not installed")
    from_us, to_browser = high_pipe()
    from_browser, to_us = high_pipe()
    profile = tempfile.mkdtemp(prefix="tinyinit-chromium-")
    words = ["bash", "-c", f'exec "$@" 3<&{from_us} 4>&{to_us}', "bash", path, *OPTIONS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(words, stdin=NULL, stdout=NULL, stderr=NULL, pass_fds=(from_us, to_us))
    os.close(from_us)
    os.close(to_us)
    try:
        yield Browser(to_browser, from_browser)
    finally:
        os.close(to_browser)  # on which it ends
        end_process(process)
        os.close(from_browser)
        shutil.rmtree(profile, ignore_errors=True)  # a process of the browser's may be about to write


def high_pipe() -> tuple[int, int]:
    """A pipe whose numbers are none that the shell, or the browser, has a meaning for."""
    low = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, HIGH) for end in low]
    for end in low:
        os.close(end)
    return high[0], high[1]


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Wait for it to end; KILL if it does not."""
    try:
        process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", metavar="REPORT")
    parser.add_argument("out", metavar="OUT.png", type=Path)
    parser.add_argument("--width", type=int, default=1100, help="of the window, in pixels; 1100 by default")
    parser.add_argument("--height", type=int, default=TALLEST, help="of the picture, at most; the page's by default")
    parser.add_argument("--dark", action="store_true", help="as on a dark desktop")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        words = [sys.executable, "-m", "tinyinit.report", *arguments.reports, "--html", str(page)]
        subprocess.run(words, check=True, stdout=NULL)
        with browser() as found:
            found.show(page, width=arguments.width, is_dark=arguments.dark)
            found.screenshot(arguments.out, arguments.height)
    return 0


if __name__ == "__main__":
    sys.exit(main())
