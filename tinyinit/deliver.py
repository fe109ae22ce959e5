"""Writing a report to where the user wants it, whatever stands there: it may fail, but never wait, and spoil nothing.

* A file is replaced by rename(2), so that nobody reads half of it; in place where the folder does not allow that.
* A link is followed only where the user cannot be deceived: if it is the user's own or root's, and in a folder that
  everybody may write to only the user's own. So a COMMAND of another user, which may write to the folder of its report,
  does not send root's tinyinit to another file. Each step of the path is held while it is looked at, so it cannot be
  changed in between.
* A FIFO without a reader, a full pipe, a terminal that is stopped: they are waited for at most PATIENCE.
"""

from __future__ import annotations

import os
import select
import stat
import time
from errno import EACCES, EAGAIN, EBUSY, EINVAL, ELOOP, ENOSYS, EOPNOTSUPP, EPERM, EROFS, EXDEV

PATIENCE = 1.0  # seconds
CHUNK = 4096  # bytes: PIPE_BUF, which a pipe that select(2) finds writable has room for (pipe(7))
MOST_LINKS = 40  # as in the kernel: path_resolution(7)
# of a folder, of what is mounted over a file in it, or of an owner that is not mapped
NOT_ALLOWED = (EACCES, EPERM, EROFS, EBUSY, EXDEV, EINVAL, ENOSYS, EOPNOTSUPP)
OPEN = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC
LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
OWN_STREAMS = {"-": 2, "/dev/stdout": 1, "/dev/stderr": 2}


def error(number: int, text: str = "") -> OSError:
    """An OSError with the kernel's words, or better ones."""
    return OSError(number, text or os.strerror(number))


# ---- descriptors ----------------------------------------------------------------------------------------------


def write_all(file: int, content: bytes) -> None:
    """Write it all, to whatever the descriptor is. OSError, also if it has not taken it all after PATIENCE."""
    end = time.monotonic() + PATIENCE
    own = own_description(file)
    try:
        while content:
            content = content[write_some(own, content[:CHUNK]) :]
            left = end - time.monotonic()
            if content and not (left > 0 and select.select([], [own], [], left)[1]):
                raise error(EAGAIN, "nobody reads it")
    finally:
        if own != file:
            os.close(own)


def own_description(file: int) -> int:
    """A terminal opened once more, without waiting: select(2) does not say how much it takes. Any other as it is."""
    try:
        return os.open(f"/proc/self/fd/{file}", OPEN & ~os.O_NOFOLLOW) if os.isatty(file) else file
    except OSError:
        return file


def write_some(file: int, content: bytes) -> int:
    """Write what there is room for, perhaps nothing. The open file may be others' too, so O_NONBLOCK is not set."""
    try:
        if stat.S_ISREG(os.fstat(file).st_mode) or not os.get_blocking(file):
            return os.write(file, content)  # btrfs and XFS may answer RWF_NOWAIT with EAGAIN for ever
        return os.pwritev(file, [content], -1, os.RWF_NOWAIT)
    except BlockingIOError:
        return 0
    except OSError as failure:
        if failure.errno != EOPNOTSUPP:
            raise
    return os.write(file, content) if select.select([], [file], [], 0)[1] else 0


# ---- paths ----------------------------------------------------------------------------------------------------


def find(path: str) -> tuple[int, str]:
    """A descriptor of the folder that the path leads to, and the name in it, which is no link. OSError without one.

    Source: path_resolution(7), and for whose links are followed protected_symlinks in proc(5), but without exception.
    """
    folder, parts, links = os.open("/", LOOK), path.split("/")[::-1], 0
    try:
        while True:
            name = parts.pop() or "."
            is_last = not any(parts)
            try:
                step = os.open(name, LOOK, dir_fd=folder)
            except FileNotFoundError:
                if is_last:
                    return os.dup(folder), name
                raise
            try:
                mode = os.fstat(step)
                if stat.S_ISLNK(mode.st_mode):
                    links += 1
                    target = follow(step, mode.st_uid, folder, links)
                    parts += target.split("/")[::-1]
                    if target.startswith("/"):
                        os.close(folder)
                        folder = os.open("/", LOOK)
                elif is_last:
                    return os.dup(folder), name
                else:
                    folder, step = step, folder
            finally:
                os.close(step)
    finally:
        os.close(folder)


def follow(link: int, owner: int, folder: int, links: int) -> str:
    """Where a link leads. OSError if it must not be followed."""
    if os.fstat(folder).st_mode & stat.S_IWOTH and owner != os.geteuid():
        raise error(EACCES, "a link that is another user's, in a folder that everybody may write to, is not followed")
    if owner not in (os.geteuid(), 0) and is_somebody(owner):
        raise error(EACCES, "a link that is another user's is not followed")
    if links > MOST_LINKS:
        raise error(ELOOP)
    return os.readlink("", dir_fd=link)


def is_somebody(owner: int) -> bool:
    """Whether a user's number is one in our user namespace; else it stands for all that are not, such as root outside.

    Source: user_namespaces(7). Without /proc it is.
    """
    try:
        with open("/proc/self/uid_map") as file:
            ranges = [(int(first), int(count)) for first, _, count in map(str.split, file)]
    except OSError:
        return True
    return any(first <= owner < first + count for first, count in ranges)


# ---- files ----------------------------------------------------------------------------------------------------


def write_file(path: str, content: bytes) -> None:
    """Write a file whole, or what is no file as it takes it. OSError if it cannot be."""
    folder, name = find(path)
    try:
        try:
            file = os.open(name, OPEN, dir_fd=folder)
        except FileNotFoundError:
            return replace(folder, name, content, None)
        try:
            kind = os.fstat(file)
            if not stat.S_ISREG(kind.st_mode):
                return write_all(file, content)
            refuse_anothers(folder, kind)
            try:
                replace(folder, name, content, kind)
            except OSError as failure:
                if failure.errno not in NOT_ALLOWED:
                    raise
                write_all(file, content)
                os.ftruncate(file, len(content))
        finally:
            os.close(file)
    finally:
        os.close(folder)


def refuse_anothers(folder: int, kind: os.stat_result) -> None:
    """OSError for a file that somebody may have laid there for us to fill: protected_regular in proc(5)."""
    where = os.fstat(folder)
    is_everybodys = where.st_mode & stat.S_IWOTH and where.st_mode & stat.S_ISVTX
    if is_everybodys and kind.st_uid not in (os.geteuid(), where.st_uid):
        raise error(EACCES, "a file that is another user's, in a folder like /tmp, is not written to")


def replace(folder: int, name: str, content: bytes, before: os.stat_result | None) -> None:
    """Write a new file, and give it name, mode and owner of the one before. OSError, and nothing is left of it."""
    temporary = f".tinyinit.{os.getpid()}.{time.monotonic_ns()}.tmp"  # of many a container, each is PID 1
    file = os.open(temporary, OPEN | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
    try:
        try:
            if before:
                os.fchmod(file, stat.S_IMODE(before.st_mode))
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file, before.st_uid, before.st_gid)
            write_all(file, content)
        finally:
            os.close(file)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        os.unlink(temporary, dir_fd=folder)
        raise


def append(path: str, content: bytes) -> None:
    """Write at the end of a file, or begin it. OSError if it cannot be."""
    folder, name = find(path)
    try:
        file = os.open(name, OPEN | os.O_APPEND | os.O_CREAT, 0o666, dir_fd=folder)
        try:
            write_all(file, content)
        finally:
            os.close(file)
    finally:
        os.close(folder)


def deliver(target: str, content: bytes) -> None:
    """Write to an absolute path, `-` or `fd:N`. OSError if it cannot be."""
    if target in OWN_STREAMS or target.startswith("fd:"):
        return write_all(OWN_STREAMS.get(target) or int(target[3:]), content)
    write_file(target, content)
