"""sd_notify(3) in a container: COMMAND may ask for more time, and what `docker exec` starts may not."""

from __future__ import annotations

import time

import pytest

from conftest import StartContainer
from helpers.running import wait_until

ASKS = [word for _ in range(6) for word in ("EXTEND_TIMEOUT_USEC=2000000", "sleep:0.5")]
RESTRICTIONS = ["--user=65534", "--read-only", "--cap-drop=ALL", "--network=none"]


@pytest.mark.parametrize("options", [[], RESTRICTIONS], ids=["as root", "restricted"])
def test_a_job_that_keeps_asking_for_more_time_ends_with_its_own_status(
    start: StartContainer, options: list[str]
) -> None:
    running = start("python3", "/programs/say.py", *ASKS, options=[*options, "--env=TINYINIT_TIMEOUT=2"])
    assert running.end() == (3, "", "")


def test_a_job_that_stops_asking_ends_with_124(start: StartContainer) -> None:
    say = ("python3", "/programs/say.py", "STATUS=half way", "EXTEND_TIMEOUT_USEC=3000000", "sleep:60")
    begin = time.monotonic()
    status, _, err = start(*say, options=["--env=TINYINIT_TIMEOUT=2"]).end(30)
    assert (status, time.monotonic() - begin >= 3) == (124, True)
    assert "half way" in err


def test_who_comes_by_docker_exec_is_refused(start: StartContainer) -> None:
    running = start("sh", "-c", 'echo "ready (pid: $$)"; exec sleep 60', options=["--env=TINYINIT_NOTIFY=1"])
    main = running.wait_ready()
    environ = running.execute("cat", f"/proc/{main}/environ").split("\0")
    address = next(line for line in environ if line.startswith("NOTIFY_SOCKET="))
    wait_until(lambda: running.processes()[main].command == "sleep 60", "COMMAND's exec")
    running.engine.run("exec", "--env", address, running.name, "python3", "/programs/say.py", "STOPPING=1", "sleep:0.3")
    running.stop()
    status, _, err = running.end()
    assert (status, err.count("\n")) == (143, 1)
    assert "tinyinit: warning: " in err
