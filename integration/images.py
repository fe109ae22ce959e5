"""The images that the tests run: a base, what the Dockerfile makes of it, and what the tests add to that."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import BUILD_TIMEOUT, Engine, skip_without

REPOSITORY = Path(__file__).parent.parent
DEFAULT_BASE = re.findall(r"^ARG BASE=(\S+)$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)[0]
DEBIAN = "bookworm"
DEBIAN_PACKAGES = ("python3", "python3-pip", "python3-venv", "procps", "ca-certificates")
PULL_TIMEOUT = 120.0  # seconds
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")  # `docker build` knows these arguments without an ARG
PIP_ADDRESSES = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy")
SOURCE_FOLDERS = ("launcher", "tests", "tinyinit", "tools")  # what an sdist is to have, beside the files at the top
NO_CACHES = shutil.ignore_patterns("__pycache__")


def build(engine: Engine, tag: str, context: Path, *options: str) -> str:
    """`docker build`; the tag."""
    proxies = [f"--build-arg={name}={os.environ[name]}" for name in PROXIES if name in os.environ]
    words = ["build", "--network=host", *proxies, "--tag", tag, *options, str(context)]
    engine.docker(*words, timeout=BUILD_TIMEOUT)
    return tag


def build_repository(engine: Engine, tag: str, base: str, *options: str) -> str:
    """Build the Dockerfile of the repository on a base; the tag."""
    return build(engine, tag, REPOSITORY, f"--build-arg=BASE={base}", *options)


@contextmanager
def for_a_while(engine: Engine, tag: str) -> Iterator[str]:
    """The image that the Dockerfile makes, for a program; afterwards all of that tag is removed."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            base = make_base(engine, f"{tag}:base", Path(folder))
            build_repository(engine, f"{tag}:wheels", base, "--target=wheels")  # or it would stay behind without a name
            yield build_repository(engine, f"{tag}:built", base)
        finally:
            engine.remove_images(tag)


# ---- the base -------------------------------------------------------------------------------------------------


def make_base(engine: Engine, tag: str, context: Path) -> str:
    """The Dockerfile's own base if it can be had, or Debian's Python; with this machine's pip settings. The tag."""
    base = DEFAULT_BASE if is_there_or_pulled(engine, DEFAULT_BASE) else import_debian(engine, f"{tag}-debian")
    write_pip_settings(context)
    context.joinpath("Dockerfile").write_text(f"FROM {base}\nCOPY etc /etc/\n")
    return build(engine, tag, context)


def is_there_or_pulled(engine: Engine, image: str) -> bool:
    """Whether the engine has the image, or gets it from a registry."""
    if engine.run("image", "inspect", image).returncode == 0:
        return True
    try:
        return engine.run("pull", "--quiet", image, timeout=PULL_TIMEOUT).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def import_debian(engine: Engine, tag: str) -> str:
    """An image made from Debian's packages, which are fetched once and kept; the tag."""
    name = hashlib.sha256(" ".join((DEBIAN, *DEBIAN_PACKAGES)).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinyinit"
    archive = folder / f"debian-{name}.tar"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        bootstrap_debian(archive)
    engine.docker("import", str(archive), tag, timeout=BUILD_TIMEOUT)
    return tag


def bootstrap_debian(archive: Path) -> None:
    """Make a tar of a Debian with Python, that is there only if it is whole."""
    if not shutil.which("mmdebstrap"):
        skip_without(f"{DEFAULT_BASE} cannot be pulled, and mmdebstrap, to make a base image with, is missing")
    unfinished = archive.with_name(f"{archive.stem}-{os.getpid()}.tar")
    packages = f"--include={','.join(DEBIAN_PACKAGES)}"
    words = ["mmdebstrap", "--variant=apt", packages, DEBIAN, str(unfinished), *debian_mirror()]
    try:
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=BUILD_TIMEOUT)
        if done.returncode != 0:
            skip_without(f"{DEFAULT_BASE} cannot be pulled, nor made from Debian packages: {done.stderr[-500:]}")
        unfinished.replace(archive)
    finally:
        unfinished.unlink(missing_ok=True)


def debian_mirror() -> list[str]:
    """The mirror that this machine uses; none where it is no Debian, and mmdebstrap uses the one that it knows."""
    words = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]
    try:
        return subprocess.run(words, check=False, capture_output=True, text=True).stdout.split()[:1]
    except FileNotFoundError:
        return []


def write_pip_settings(context: Path) -> None:
    """Have pip in the image fetch packages as it does here, so that a mirror or a company's certificate works."""
    settings = pip_settings()
    lines = [f"{name} = {value}" for name in PIP_ADDRESSES if (value := remote_only(settings.get(name, "")))]
    folder = context / "etc"
    folder.mkdir()
    if Path(settings.get("cert", "")).is_file():
        shutil.copy(settings["cert"], folder / "pip-cert.pem")
        lines.append("cert = /etc/pip-cert.pem")
    folder.joinpath("pip.conf").write_text("\n".join(["[global]", *lines, ""]))


def pip_settings() -> dict[str, str]:
    """The settings of this machine's pip, from its files and the environment."""
    words = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(words, check=False, capture_output=True, text=True).stdout.splitlines()
    found = [match for line in lines if (match := re.fullmatch(r"(?:global|:env:)\.([\w-]+)=('.*'|\".*\")", line))]
    return {match[1]: str(ast.literal_eval(match[2])) for match in reversed(found)}  # the environment, first, wins


def remote_only(addresses: str) -> str:
    """The addresses that mean the same in an image: those that are no path of this machine."""
    return " ".join(word for word in addresses.split() if not word.startswith(("/", "file:")))


# ---- what the tests add ---------------------------------------------------------------------------------------


def add_programs(engine: Engine, tag: str, image: str, context: Path) -> str:
    """The built image with the tests' helper programs in /programs, and ps; the tag."""
    shutil.copytree(REPOSITORY / "tests" / "helpers", context / "programs", ignore=NO_CACHES)
    context.joinpath("Dockerfile").write_text(
        f"FROM {image}\n"
        "COPY programs /programs\n"
        "RUN command -v ps || (apt-get update && apt-get install --yes --no-install-recommends procps)\n"
    )
    return build(engine, tag, context)


def make_workshop(engine: Engine, tag: str, wheels: str, context: Path) -> str:
    """The stage with the compiler, with the sources in /tree, sdist and wheel in /dist, and no need of a network."""
    for name in SOURCE_FOLDERS:
        shutil.copytree(REPOSITORY / name, context / "tree" / name, ignore=NO_CACHES)
    for path in REPOSITORY.iterdir():
        if path.is_file():
            shutil.copy(path, context / "tree")
    context.joinpath("Dockerfile").write_text(
        f"FROM {wheels}\n"
        "RUN python3 -m pip wheel --no-cache-dir --wheel-dir /wheels setuptools build && rm /wheels/tinyinit-*\n"
        "ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_BREAK_SYSTEM_PACKAGES=1\n"
        "COPY tree /tree\n"
        "RUN python3 -m pip install build && cp -r /tree /tmp && python3 -m build --outdir /dist /tmp/tree\n"
        "RUN useradd --create-home somebody\n"
    )
    return build(engine, tag, context)
