"""Makes tinyinit.pyz: one file to copy, which needs nothing but a Python from 3.9 on.

    python tools/pyz.py OUT [--interpreter PATH] [PYTHON]...

A zipapp with the package once as source, for any Python, and once compiled for each of these PYTHONs, which makes it
fast. Its first line has env(1) find python3 in PATH, or run PATH if that is given, and give it code, which costs 5 ms
less than to have runpy find __main__.py, as `python3 tinyinit.pyz` does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "tinyinit"
NEEDS_INSTALLATION = {"__main__.py", "api.py", "called.py", "report.py"}  # they are not the command's
BOOT = REPOSITORY / "launcher" / "boot.py"
CODE = 'import sys as s;z=s.argv.pop(1);s.path[:0]=z+"/%d.%d"%s.version_info[:2],z;import boot'
FIRST_LINE = "#!/usr/bin/env -S {interpreter} -ISXutf8 -c '" + CODE + "'\n"
MAIN = CODE.replace("argv.pop(1)", "argv[0]") + "\n"
LONGEST_FIRST_LINE = 255  # bytes that execve(2) reads of it, since Linux 5.1
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # every file's time: the same sources make the same bytes


def modules() -> list[Path]:
    """The files of the package that the command may need."""
    return [path for path in sorted(PACKAGE.glob("*.py")) if path.name not in NEEDS_INSTALLATION]


def compiled(python: str) -> Iterator[tuple[str, bytes]]:
    """The package's modules, compiled by this Python: names in the archive, and contents."""
    words = [python, "-ISc", "import sys; print('%d.%d' % sys.version_info[:2])"]
    version = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tinyinit").mkdir()
        Path(folder, "boot.py").write_bytes(BOOT.read_bytes())
        for source in modules():
            Path(folder, "tinyinit", source.name).write_bytes(source.read_bytes())
        how = ("-q", "-b", "-s", folder, "--invalidation-mode", "unchecked-hash")
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environ["PYTHONHASHSEED"] = "0"  # or constants that are sets would not always be in the same order
        subprocess.run([python, "-m", "compileall", *how, folder], check=True, cwd=folder, env=environ)
        for path in sorted(Path(folder).rglob("*.pyc")):
            yield f"{version}/{path.relative_to(folder)}", path.read_bytes()


def contents(pythons: list[str]) -> Iterator[tuple[str, bytes]]:
    """All that is in the archive, by name."""
    yield "boot.py", BOOT.read_bytes()
    yield "__main__.py", MAIN.encode()
    for path in modules():
        yield f"source/tinyinit/{path.name}", path.read_bytes()
    for python in pythons:
        yield from compiled(python)


def write_archive(out: Path, interpreter: str, pythons: list[str]) -> None:
    """Write the file, executable. Nothing in it is compressed: unpacking would cost more than reading."""
    first_line = FIRST_LINE.format(interpreter=interpreter).encode()
    if len(first_line) > LONGEST_FIRST_LINE:
        raise SystemExit(f"the interpreter's path is too long for the kernel: {interpreter}")
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f"{out.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        file.write(first_line)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, content in contents(pythons):
                entry = zipfile.ZipInfo(name, LONG_AGO)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content)
    unfinished.chmod(0o755)
    unfinished.replace(out)


def main() -> int:
    """Make the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the file to make")
    parser.add_argument("--interpreter", default="python3", metavar="PATH", help="what its first line names")
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", help="compile for these; by default for this one")
    arguments = parser.parse_args()
    write_archive(arguments.out, arguments.interpreter, arguments.pythons or [sys.executable])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
