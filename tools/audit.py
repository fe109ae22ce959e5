"""Ask a vulnerability service about what is installed in this environment: pip-audit, for `make lint`.

Exit status 1: a finding, or pip-audit itself has failed. Where no service answers in time, or it knows no package, as a
mirror that has but the files, nothing can be known: that is said, and is no failure. One package is asked for first, so
that this is known soon.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from typing import Any

PATIENCE = 20.0  # seconds, for all of it
PIP_AUDIT = (sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--timeout=5", "--format=json")
KNOWN_TO_ALL = "pip==24.0"
UNREACHABLE = ("ServiceError", "ConnectionError", "Timeout", "SSLError", "ProxyError", "HTTPError")


class Unknown(Exception):
    """Why nothing can be known."""


def ask(patience: float, *options: str) -> list[dict[str, Any]]:
    """The packages that the service knows, each with its `vulns`. Unknown, or RuntimeError if pip-audit fails."""
    try:
        done = subprocess.run(
            [*PIP_AUDIT, *options], check=False, capture_output=True, text=True, timeout=max(patience, 0.1)
        )
    except subprocess.TimeoutExpired:
        raise Unknown(f"no answer in {PATIENCE:g} s") from None
    if done.stdout:
        return [each for each in json.loads(done.stdout)["dependencies"] if "vulns" in each]
    last = done.stderr.strip().rpartition("\n")[2]
    if any(name in last.partition(": ")[0] for name in UNREACHABLE):
        raise Unknown(last[:300])
    raise RuntimeError(f"pip-audit has failed, with status {done.returncode}:\n{done.stderr}")


def audit() -> int:
    """Ask, and say what came of it; the number of findings."""
    end = time.monotonic() + PATIENCE
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(KNOWN_TO_ALL)
        file.flush()
        if not ask(PATIENCE, "--no-deps", "--disable-pip", f"--requirement={file.name}"):
            raise Unknown(f"it does not know {KNOWN_TO_ALL}")
    packages = [each for each in ask(end - time.monotonic(), "--local") if each["name"] != "pip"]  # Python brought it
    found = [(each, vulnerability) for each in packages for vulnerability in each["vulns"]]
    for each, vulnerability in found:
        remedy = " or ".join(vulnerability["fix_versions"]) or "none yet"
        print(f"{each['name']} {each['version']}: {vulnerability['id']}; fixed in: {remedy}", file=sys.stderr)
    print(f"pip-audit: {len(found)} vulnerabilities in {len(packages)} packages")
    return len(found)


def main() -> int:
    """The exit status."""
    try:
        return 1 if audit() else 0
    except Unknown as reason:
        print(f"pip-audit: NOT CHECKED, since no vulnerability service could be asked: {reason}", file=sys.stderr)
        return 0


if __name__ == "__main__":
    sys.exit(main())
