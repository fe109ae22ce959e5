"""Issue: it says why it ended. Where the cgroup is, by what /proc says of it, and what its files say."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tinyinit.cgroup import Counters, Memory, amount, counters, locate, own_cgroups, search, unescape
from tinyinit.ending import Ending
from tinyinit.init import Init, Options, Start

V1 = "33 25 0:29 {root} {mount} rw,nosuid - cgroup cgroup rw,memory"
V2 = "35 25 0:31 {root} {mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot"
OTHER = "22 1 0:21 / /proc rw - proc proc rw\n34 25 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct"


def mounts(*lines: str) -> bytes:
    return "\n".join([OTHER, *lines, ""]).encode()


@pytest.mark.parametrize(
    ("cgroups", "lines", "expected"),
    [
        pytest.param(
            b"4:memory:/docker/abc\n0::/\n",
            [V1.format(root="/docker/abc", mount="/sys/fs/cgroup/memory")],
            (1, b"/sys/fs/cgroup/memory", b"/sys/fs/cgroup/memory"),
            id="version 1 in a container without a cgroup namespace",
        ),
        pytest.param(
            b"4:cpuset,memory:/\n",
            [V1.format(root="/", mount="/sys/fs/cgroup/memory")],
            (1, b"/sys/fs/cgroup/memory", b"/sys/fs/cgroup/memory"),
            id="version 1 in a cgroup namespace",
        ),
        pytest.param(
            b"4:memory:/a/b\n",
            [V1.format(root="/", mount="/sys/fs/cgroup/memory")],
            (1, b"/sys/fs/cgroup/memory", b"/sys/fs/cgroup/memory/a/b"),
            id="version 1 on the machine",
        ),
        pytest.param(
            b"0::/user.slice/job\n",
            [V2.format(root="/", mount="/sys/fs/cgroup")],
            (2, b"/sys/fs/cgroup", b"/sys/fs/cgroup/user.slice/job"),
            id="version 2 on the machine",
        ),
        pytest.param(
            b"0::/\n", [V2.format(root="/", mount="/sys/fs/cgroup")], (2, b"/sys/fs/cgroup", b"/sys/fs/cgroup"),
            id="version 2 in a cgroup namespace",
        ),
        pytest.param(
            b"0::/a/b\n", [V2.format(root="/a", mount="/c\\040d")], (2, b"/c d", b"/c d/b"),
            id="a mount of a part, with a space in its path",
        ),
        pytest.param(
            b"0::/ab\n", [V2.format(root="/a", mount="/cg")], (0, b"", b""), id="a mount of another part",
        ),
        pytest.param(
            b"0::/a\n", [V2.format(root="/a", mount="/old"), V2.format(root="/", mount="/new")], (2, b"/new", b"/new/a"),
            id="the last mount lies above the others",
        ),
        pytest.param(
            b"1:name=systemd:/x\n0::/x\n", [V2.format(root="/", mount="/unified")], (2, b"/unified", b"/unified/x"),
            id="version 1 without memory beside version 2",
        ),
        pytest.param(b"4:memory:/a\n", [], (0, b"", b""), id="mounted nowhere"),
        pytest.param(b"", [V2.format(root="/", mount="/cg")], (0, b"", b""), id="no cgroups at all"),
    ],
)  # fmt: skip
def test_it_is_located(cgroups: bytes, lines: list[str], expected: tuple[int, bytes, bytes]) -> None:
    assert locate(b"memory", cgroups, mounts(*lines)) == expected


def test_where_only_the_depth_is_known_it_is_searched(tmp_path: Path) -> None:
    for name, pid in (("a", 1), ("b", os.getpid()), ("c", 2)):
        (tmp_path / "slice" / name).mkdir(parents=True)
        (tmp_path / "slice" / name / "cgroup.procs").write_text(f"77\n{pid}\n")
    line = V2.format(root="/../..", mount=tmp_path)
    assert locate(b"memory", b"0::/\n", mounts(line))[2] == os.fsencode(tmp_path / "slice" / "b")
    assert locate(b"memory", b"0::/\n", mounts(V2.format(root="/..", mount=tmp_path)))[2] == b""


def test_where_nothing_can_be_searched_nothing_is_found(tmp_path: Path) -> None:
    assert search(bytes(tmp_path / "gone"), 1) == b""


def test_escapes_of_paths() -> None:
    assert unescape(b"/a\\040b\\134c\\011") == b"/a b\\c\t"


def test_counters_and_amounts() -> None:
    assert counters(b"oom 1\noom_kill 22\nbad\nx y\n") == {"oom": 1, "oom_kill": 22}
    assert [amount(text) for text in (b"512\n", b"max\n", b"", b"9223372036854771712\n")] == [512, None, None, None]


# ---- files ----------------------------------------------------------------------------------------------------


def version_2(tmp_path: Path) -> tuple[bytes, bytes]:
    return b"0::/job\n", mounts(V2.format(root="/", mount=tmp_path))


def write(folder: Path, **files: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_only_what_was_added_meanwhile_counts(tmp_path: Path) -> None:
    write(tmp_path / "job", memory__events="low 0\noom 3\noom_kill 2\n", memory__max="1024\n", memory__peak="1000\n")
    memory = Memory(*version_2(tmp_path))
    assert (memory.kills(), memory.is_own_limit(), memory.limit(), memory.peak()) == (0, False, 1024, 1000)
    write(tmp_path / "job", memory__events="low 0\noom 4\noom_kill 4\n")
    assert (memory.kills(), memory.is_own_limit()) == (2, True)


def test_a_kill_without_the_own_limit(tmp_path: Path) -> None:
    write(tmp_path / "job", memory__events="oom 0\noom_kill 0\n", memory__max="max\n")
    memory = Memory(*version_2(tmp_path))
    write(tmp_path / "job", memory__events="oom 0\noom_kill 1\n")
    assert (memory.kills(), memory.is_own_limit(), memory.limit(), memory.peak()) == (1, False, None, None)


def test_where_a_controller_is_not_enabled_the_next_one_up_counts(tmp_path: Path) -> None:
    cgroups, found = b"0::/job/inner\n", mounts(V2.format(root="/", mount=tmp_path))
    write(tmp_path / "job", memory__events="oom_kill 0\n")
    write(tmp_path / "job" / "inner")
    assert Memory(cgroups, found).folder == os.fsencode(tmp_path / "job")
    (tmp_path / "job" / "memory.events").unlink()
    assert Memory(cgroups, found).kills() == 0


def test_the_limit_of_version_1_is_told_by_its_peak(tmp_path: Path) -> None:
    found = b"4:memory:/\n", mounts(V1.format(root="/", mount=tmp_path))
    before = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
    write(tmp_path, memory__oom_control=before.format(7), memory__limit_in_bytes="1000\n")
    memory = Memory(*found)
    write(tmp_path, memory__oom_control=before.format(8), memory__max_usage_in_bytes="999\n")
    assert (memory.kills(), memory.is_own_limit()) == (1, True)
    write(tmp_path, memory__max_usage_in_bytes="500\n")
    assert not memory.is_own_limit()


def test_of_what_is_gone_nothing_is_said(tmp_path: Path) -> None:
    write(tmp_path / "job", memory__events="oom_kill 0\n")
    memory = Memory(*version_2(tmp_path))
    (tmp_path / "job" / "memory.events").unlink()
    assert (memory.kills(), memory.since(), memory.is_own_limit()) == (0, {}, False)


def test_without_a_cgroup_nothing_is_said() -> None:
    memory, pids = Memory(b"", b""), Counters("pids", ("pids.events", "pids.events"), b"", b"")
    assert (memory.kills(), memory.limit(), memory.peak(), pids.since()) == (0, None, None, {})


def test_our_own_is_found_where_there_is_one() -> None:
    cgroups, found = own_cgroups()
    assert cgroups.count(b":") >= 2
    memory = Memory(cgroups, found)
    assert memory.before == b"" or b"oom_kill" in memory.before


# ---- the line for people ---------------------------------------------------------------------------------------

OUT = "main child 'job' (pid 1234) was killed by SIGKILL after 3.0 s: out of memory, "
ANOTHER = "1 process of the cgroup was killed for want of memory while COMMAND went on: out of memory, "
OWN = "the cgroup's limit is 1 KiB and its peak was 1000 bytes; raise the limit or use less"
AROUND = "so that a cgroup around it or the machine ran out; give that more, or use less"


@pytest.mark.parametrize(
    ("wait_status", "events", "limit", "line"),
    [
        (signal.SIGKILL, "oom 1\noom_kill 1\n", "1024\n", OUT + OWN),
        (signal.SIGKILL, "oom 0\noom_kill 1\n", "1024\n", f"{OUT}{OWN.partition(';')[0]}, {AROUND}"),
        (signal.SIGKILL, "oom 0\noom_kill 1\n", "max\n", f"{OUT}the cgroup has no limit of its own, {AROUND}"),
        (0, "oom 1\noom_kill 1\n", "1024\n", f"{ANOTHER}{OWN}, or have it fail by --oom-is-failure"),
    ],
    ids=["its own limit", "another's limit", "no limit", "not the main child"],
)
def test_what_is_said_of_a_kill(tmp_path: Path, wait_status: int, events: str, limit: str, line: str) -> None:
    write(tmp_path / "job", memory__events="oom 0\noom_kill 0\n", memory__max=limit)
    init = Init(Options({"verbosity": 0}), Start(["job"], ()), 0)
    ending = Ending(init, version_2(tmp_path))
    init.main, init.wait_status, init.status, init.ended = 1234, wait_status, init.judge(wait_status), init.began + 3
    peak = {} if limit == "max\n" else {"memory__peak": "1000\n"}
    write(tmp_path / "job", memory__events=events, **peak)
    assert ending.explain(ending.memory.kills()) == line
