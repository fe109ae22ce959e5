"""Calls tinyinit.run() with argv[2:] as COMMAND, and writes `came: ` and the return code or the exception's name.

argv[1]: `grace=SECONDS`, `thread=1` to call it in a second thread, both with a comma, or nothing. SIGUSR1 raises
RuntimeError in the caller.
"""

import os
import signal
import sys
import threading

import tinyinit


def raise_error(number: int, frame: object) -> None:
    raise RuntimeError(f"signal {number}")


arguments = dict(pair.split("=") for pair in sys.argv[1].split(",") if pair)
signal.signal(signal.SIGUSR1, raise_error)
signal.signal(signal.SIGINT, signal.default_int_handler)
grace = float(arguments.get("grace", 5))


def call() -> None:
    try:
        text = f"{tinyinit.run(sys.argv[2:], grace=grace).returncode}"
    except BaseException as error:
        text = type(error).__name__
    os.write(1, f"came: {text}\n".encode())


if "thread" in arguments:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
else:
    call()
