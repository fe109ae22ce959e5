"""A machine with a real cgroup v2: Debian's cloud kernel under QEMU, and an image's files in its memory.

QEMU emulates the processor: KVM is not there on every machine, and there are some where it opens but hangs.
"""

from __future__ import annotations

import base64
import io
import json
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import pytest
from engine import BUILD_TIMEOUT, Engine, skip_without

QEMU = "qemu-system-x86_64"
KERNEL_PACKAGE = "linux-image-cloud-amd64"  # depends on the one that has a kernel in it
CPU = "qemu64,+rdrand"  # without that instruction there is no randomness yet for the first Python
MEMORY = "512M"
BOOT_TIMEOUT = 400.0  # seconds, for all cases; on an idle machine it takes 18
CONSOLE_SHOWN = 3000  # characters of the console's end, where a boot fails
# the kernel says nothing but why it panics, which it does when PID 1 ends, and then restarts: that ends QEMU
KERNEL_WORDS = "console=ttyS0 loglevel=1 panic=-1 mitigations=off"
NEEDLESS = {"apt", "boot", "dev", "ensurepip", "gconv", "idlelib", "lib2to3", "perl", "perl-base", "pip", "proc"}
NEEDLESS |= {"pydoc_data", "setuptools", "share", "sys", "terminfo", "var"}  # parts of paths
CGROUPS = "/sys/fs/cgroup"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# util-linux has mount(8) in a package that an image may lack; `:PLACE` unmounts
MOUNT = """\
#!/usr/bin/env -S python3 -IS
import ctypes, sys
libc = ctypes.CDLL(None)
for word in sys.argv[1:]:
    type, place = (part.encode() for part in word.split(":"))
    failed = libc.mount(type, place, type, 0, None) if type else libc.umount(place)
    if failed:
        sys.exit(f"cannot mount {word}")
"""
MARK = "---- what PID 1 says ----"
INIT = f"""\
#!/bin/sh
export PATH={PATH}
/mount proc:/proc sysfs:/sys devtmpfs:/dev tmpfs:/tmp cgroup2:{CGROUPS}
echo '+memory +pids +cpu' > {CGROUPS}/cgroup.subtree_control
stty -F /dev/ttyS1 raw 115200
for case in /cases/*; do
    name=${{case##*/}}
    echo "case: $name"
    mkdir -p "/results/$name"
    cd "/results/$name"
    "$case" < /dev/null > out 2> err
    echo "$?" > status
done
echo 'all cases have been run'
cd /
{{ tar -cz -C /results . | base64; echo '{MARK}'; }} > /dev/ttyS1
exec /last < /dev/null > /dev/ttyS1 2>&1
"""


class Case(NamedTuple):
    """Words that are run in a cgroup of their own, which has these limits: a file's name, and what is written to it."""

    name: str
    words: Sequence[str]
    limits: Mapping[str, str]

    def script(self) -> bytes:
        """The program that becomes those words."""
        cgroup = f"{CGROUPS}/{self.name}"
        writes = [f"echo {shlex.quote(value)} > {cgroup}/{file}\n" for file, value in self.limits.items()]
        start = f"#!/bin/sh\nset -e\nmkdir {cgroup}\n{''.join(writes)}echo $$ > {cgroup}/cgroup.procs\n"
        return f"{start}exec {shlex.join(self.words)}\n".encode()

    def path(self, file: str) -> str:
        """Where a file has to be to become a part of the result."""
        return f"/results/{self.name}/{file}"


class Result(NamedTuple):
    """What has come of a case."""

    status: int
    out: str
    err: str
    files: Mapping[str, bytes]

    def json(self, file: str) -> dict[str, Any]:
        """A JSON file that it has written; AssertionError if it has not."""
        assert file in self.files, f"there is no {file}; status: {self.status}; standard error: {self.err}"
        found: dict[str, Any] = json.loads(self.files[file])
        return found


# ---- the kernel -----------------------------------------------------------------------------------------------


def find_qemu() -> str:
    """Where QEMU is."""
    if platform.machine() != "x86_64":
        pytest.skip(f"the machine with cgroup v2 is an x86_64, and this is {platform.machine()}")
    path = shutil.which(QEMU)
    if not path:
        skip_without(f"{QEMU}, to boot a kernel with cgroup v2, is missing")
    return path


def find_kernel() -> Path:
    """The kernel, which is fetched once and kept."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinyinit"
    kernel = folder / f"vmlinuz-{KERNEL_PACKAGE}"
    if not kernel.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            fetch_kernel(Path(unfinished)).replace(kernel)
    return kernel


def fetch_kernel(folder: Path) -> Path:
    """Fetch the newest kernel that apt knows, and unpack it; where it is."""
    depends = run_or_skip(["apt-cache", "depends", "--important", KERNEL_PACKAGE], folder)
    found = re.findall(r"\blinux-image-\d\S*", depends)
    if not found:
        skip_without(f"apt knows of no {KERNEL_PACKAGE}")
    run_or_skip(["apt-get", "download", "--option=APT::Sandbox::User=root", found[0]], folder)
    run_or_skip(["dpkg-deb", "--extract", *map(str, folder.glob("*.deb")), "unpacked"], folder)
    return next(folder.glob("unpacked/boot/vmlinuz-*"))


def run_or_skip(words: list[str], folder: Path) -> str:
    """What a step to the kernel prints; skip if it fails."""
    try:
        done = subprocess.run(words, check=False, cwd=folder, capture_output=True, text=True, timeout=BUILD_TIMEOUT)
    except FileNotFoundError:
        skip_without(f"a kernel cannot be had, for {words[0]} is missing")
    if done.returncode != 0:
        skip_without(f"a kernel cannot be had: {shlex.join(words)}: {done.stderr[-500:]}")
    return done.stdout


# ---- its first file system ------------------------------------------------------------------------------------


def padded(text: bytes) -> bytes:
    """Filled up to a multiple of four."""
    return text + bytes(-len(text) % 4)


class File(NamedTuple):
    """A file, a folder or a symbolic link as an initramfs has it."""

    name: str
    mode: int
    content: bytes

    def packed(self) -> bytes:
        """Its entry in a cpio archive; source: the kernel's initramfs-buffer-format.rst."""
        name = self.name.encode() + b"\0"
        fields = (0, self.mode, 0, 0, 1, 0, len(self.content), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        return padded(head) + padded(self.content)


TRAILER = File("TRAILER!!!", 0, b"").packed()


def make_initramfs(engine: Engine, image: str, folder: Path) -> Path:
    """An initramfs with the image's files, but for what no test needs; where it is."""
    archive, initramfs = folder / "image.tar", folder / "initramfs"
    container = engine.docker("create", image, "true").strip()
    try:
        engine.docker("export", f"--output={archive}", container, timeout=BUILD_TIMEOUT)
    finally:
        engine.docker("rm", container)
    with tarfile.open(archive) as tar, initramfs.open("wb") as output:
        output.writelines(file.packed() for file in image_files(tar))
        output.writelines(folder_file(name).packed() for name in ("dev", "proc", "sys"))
        output.write(TRAILER)
    archive.unlink()
    return initramfs


def image_files(tar: tarfile.TarFile) -> Iterator[File]:
    """The files of an image, but for what is needless."""
    for member in tar:
        if NEEDLESS.isdisjoint(member.name.split("/")):
            yield from files_of(tar, member)


def files_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[File]:
    """The file that a member of an archive is, unless it is a device or the like; a hard link becomes a copy."""
    if member.isdir():
        yield folder_file(member.name, member.mode)
    elif member.issym():
        yield File(member.name, stat.S_IFLNK | 0o777, member.linkname.encode())
    elif member.isfile() or member.islnk():
        content = tar.extractfile(member)
        assert content is not None
        yield File(member.name, stat.S_IFREG | member.mode, content.read())


def folder_file(name: str, mode: int = 0o755) -> File:
    """A folder."""
    return File(name, stat.S_IFDIR | mode, b"")


def script_file(name: str, content: bytes) -> File:
    """A program."""
    return File(name, stat.S_IFREG | 0o755, content)


# ---- the machine ----------------------------------------------------------------------------------------------


def boot(initramfs: Path, cases: Iterable[Case], last: Case) -> dict[str, Result]:
    """Run the cases in a machine, one after the other, and the last as its PID 1; what has come of each."""
    files = [script_file("init", INIT.encode()), script_file("mount", MOUNT.encode()), folder_file("cases")]
    files += [script_file("last", last.script())]
    files += [script_file(f"cases/{case.name}", case.script()) for case in cases]
    with tempfile.TemporaryDirectory(prefix="tinyinit-qemu-") as name:
        folder = Path(name)
        with folder.joinpath("initramfs").open("wb") as output, initramfs.open("rb") as image:
            shutil.copyfileobj(image, output)
            output.writelines([*(file.packed() for file in files), TRAILER])
        console, results = run_qemu(folder)
    packed, mark, said = results.partition(f"{MARK}\n")
    assert mark, f"the machine has not come to its last case; its console:\n{console[-CONSOLE_SHOWN:]}"
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as tar:
        found = {case.name: read_result(tar, case.name) for case in cases}
    return {**found, last.name: Result(status_of_pid_1(console), "", said, {})}


def run_qemu(folder: Path) -> tuple[str, str]:
    """Run the machine until it restarts: what came on its console, and what on its second serial port."""
    console, results = folder / "console", folder / "results"
    words = [find_qemu(), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    words += ["-accel", "tcg", "-cpu", CPU, "-m", MEMORY]
    words += ["-kernel", str(find_kernel()), "-append", KERNEL_WORDS, "-initrd", str(folder / "initramfs")]
    words += ["-serial", f"file:{console}", "-serial", f"file:{results}"]
    failure = run_until_its_end(words)
    shown = console.read_text(errors="replace") if console.exists() else ""
    assert not failure, f"{QEMU}: {failure}; the console:\n{shown[-CONSOLE_SHOWN:]}"
    return shown, results.read_text().replace("\r\n", "\n")


def run_until_its_end(words: list[str]) -> str:
    """Run a program, which is killed if it lasts too long, or we are; how it failed, if it did."""
    words = ["setpriv", "--pdeathsig=KILL", "--", *words]
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:  # a session of its own: Ctrl-C is for pytest
        done = subprocess.run(words, check=False, timeout=BOOT_TIMEOUT, start_new_session=True, text=True, **pipes)
    except subprocess.TimeoutExpired:
        return f"no end in {BOOT_TIMEOUT} s"
    return f"status {done.returncode}: {done.stdout}" if done.returncode != 0 else ""


def read_result(tar: tarfile.TarFile, case: str) -> Result:
    """What a case has left in the archive that came from the machine."""
    prefix = f"./{case}/"
    members = [member for member in tar if member.isfile() and member.name.startswith(prefix)]
    files = {member.name[len(prefix) :]: content_of(tar.extractfile(member)) for member in members}
    out, err = (files.pop(name).decode() for name in ("out", "err"))
    return Result(int(files.pop("status")), out, err, files)


def content_of(file: IO[bytes] | None) -> bytes:
    """All of a file in an archive."""
    assert file is not None
    return file.read()


def status_of_pid_1(console: str) -> int:
    """The exit status with which PID 1 has ended, which is what the kernel panicked for."""
    found = re.search(r"Attempted to kill init! exitcode=0x([0-9a-f]+)", console)
    assert found, f"PID 1 has not ended; the console:\n{console[-CONSOLE_SHOWN:]}"
    return os.waitstatus_to_exitcode(int(found[1], 16))
