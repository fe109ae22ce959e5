"""A real pseudo-terminal with a program as its session leader."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import termios
import time
from collections.abc import Sequence

from helpers.running import TIMEOUT, wait_until


def read_all(leader: int) -> str:
    """All that was written to a terminal, once nobody has its other end; then this one is closed too."""
    text = b""
    try:
        while part := os.read(leader, 65536):
            text += part
    except OSError:
        pass  # EIO: nobody has the other end
    os.close(leader)
    return text.decode()


class Terminal:
    """What a person has before them: types with `type`, reads with `read_until`."""

    def __init__(self, words: Sequence[str], env: dict[str, str] | None = None) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvpe(words[0], list(words), {**os.environ, "PS1": "prompt$ ", "TERM": "dumb", **(env or {})})
            finally:
                os._exit(127)
        self.screen = ""
        self.seen = 0

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def read_until(self, text: str, timeout: float = TIMEOUT) -> str:
        """Wait until `text` stands on the screen after what was waited for before."""
        end = time.monotonic() + timeout
        while text not in self.screen[self.seen :]:
            ready = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))[0]
            try:
                chunk = os.read(self.fd, 65536) if ready else b""
            except OSError:  # EIO: the last process that had it open has ended
                chunk = b""
            assert chunk, f"{text!r} did not come; the screen:\n{self.screen}"
            self.screen += chunk.decode("utf-8", "replace").replace("\r\n", "\n")
        start = self.seen
        self.seen = self.screen.index(text, self.seen) + len(text)
        return self.screen[start : self.seen]

    def foreground(self) -> int:
        """The foreground group."""
        return int.from_bytes(fcntl.ioctl(self.fd, termios.TIOCGPGRP, bytes(4)), "little")

    def wait(self) -> int:
        """The exit status of the session's leader."""

        def ended() -> tuple[int, int] | None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return (pid, status) if pid else None

        status: int = wait_until(ended, "the session to end")[1]
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        os.close(self.fd)
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
