"""--ps, and what processes.py makes of /proc: columns as ps(1) has them, zombies and orphans with who is to blame."""

from __future__ import annotations

import fcntl
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import StartTinyinit
from helpers.running import (
    INSTALLED,
    PYTHON,
    TINYINIT,
    UNPRIVILEGED,
    UNSHARE,
    children,
    descendants,
    program,
    state,
    wait_until,
)
from tinyinit.processes import (
    SYSCALLS,
    Process,
    adopted,
    clock,
    marks,
    own_pid,
    own_table,
    parse_stat,
    printable,
    read_processes,
    read_start,
    syscall_name,
    table,
    visible_roots,
    walk,
    zombies_by_parent,
)

IDS = ("PID", "PPID", "PGID", "SID", "STAT")
CHAIN = 'if [ $1 -gt 1 ]; then sh -c "$0" "$0" $(($1 - 1)); :; else echo "ready (pid: $$)"; exec sleep 60; fi'
SLEEPERS = ["sh", "-c", "echo 'ready (pid: 1)'; sleep 60 & setsid nice sleep 61 & wait"]


def ps(*words: object, **run: object) -> subprocess.CompletedProcess[str]:
    """`tinyinit --ps` from outside, in the namespace of the test."""
    command = [TINYINIT, "--ps", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, **run)  # type: ignore[call-overload, no-any-return]


def rows_of(out: str) -> dict[int, dict[str, str]]:
    """The rows of a table by PID, and their cells by the names in its head."""
    head, *lines = out.splitlines()
    rows = [dict(zip(head.split(), line.split(maxsplit=8))) for line in lines if re.match(r" *\d+ +\d+ ", line)]
    return {int(row["PID"]): row for row in rows}


def command_line(pid: int) -> str:
    return read_start(f"/proc/{pid}/cmdline").rstrip(b"\0").replace(b"\0", b" ").decode()


def process(pid: int, ppid: int, /, **others: object) -> Process:
    """A process made up: it leads neither group nor session, and was started as its PID says."""
    made = Process(pid, "x", "S", [ppid, 1, 1, 0, -1, *[0] * 10, 0, 1, 0, pid])
    for name, value in others.items():
        setattr(made, name, value)
    return made


# ---- columns --------------------------------------------------------------------------------------------------


def test_the_columns_agree_with_ps(start: StartTinyinit) -> None:
    running = start("--", *SLEEPERS)
    running.wait_ready()
    wait_until(lambda: "".join(map(command_line, descendants(running.main))) == "sleep 60sleep 61", "both sleeps")
    rows = rows_of(ps(running.pid).stdout)
    assert list(rows) == [running.pid, running.main, *sorted(descendants(running.main))]
    words = ["ps", "-ww", "-o", "pid,ppid,pgid,sid,stat,args", "-p", ",".join(map(str, rows))]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[1:]
    expected = [line.split(maxsplit=5) for line in lines]
    assert [
        [*(rows[int(cells[0])][name] for name in IDS), rows[int(cells[0])]["COMMAND"]] for cells in expected
    ] == expected
    assert {row["STAT"] for row in rows.values()} >= {"SNs"}


def test_children_are_indented_below_their_parents_in_the_order_of_their_start(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper("--", *SLEEPERS)
    running.wait_ready()
    wait_until(lambda: "sleep 61" in ps(running.main).stdout, "sleep 61")
    lines = [line[ps(running.main).stdout.index("COMMAND") :] for line in ps(running.main).stdout.splitlines()]
    assert lines == ["COMMAND", " ".join(SLEEPERS), "  sleep 60", "  sleep 61"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "00:00"), (59.9, "00:59"), (60, "01:00"), (3599, "59:59"), (3600, "01:00:00"), (86399, "23:59:59"), (86400, "01-00:00:00"),
     (100 * 86400 + 61, "100-00:01:01")],
)  # fmt: skip
def test_times_are_written_as_ps_does(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_elapsed_and_cpu_time(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper(
        "--",
        *PYTHON,
        "-c",
        "import time\nwhile time.process_time() < 1.1: pass\nprint('ready (pid: 1)', flush=True); time.sleep(60)",
    )
    running.wait_ready()
    row = rows_of(ps(running.main).stdout)[running.main]
    assert row["TIME"] == "00:01"
    assert "00:01" <= row["ELAPSED"] <= "00:20"


def test_wchan_is_the_function_of_the_kernel_or_the_system_call(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper("--", "sleep", "60")
    wait_until(lambda: state(running.main) == "S", "sleep to sleep")
    wait_until(lambda: "nanosleep" in rows_of(ps(running.main).stdout)[running.main]["WCHAN"], "it to show")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"running\n", "running"),
        (b"-1 0x7ffd51346dc8 0x7f128f6e4503\n", "-"),
        (b"", "-"),
        (b"230 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffd51346dc8 0x7f128f6e4503\n", "clock_nanosleep"),
        (b"7777 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffd51346dc8 0x7f128f6e4503\n", "syscall 7777"),
        (b"230 0x0 0x0 0x0 0x0 0x0 0x0 0xffd51340 0xf7fc6579\n", "syscall 230"),
    ],
    ids=["running", "in none", "unreadable", "known", "unknown", "32 bits"],
)
def test_system_calls(line: bytes, name: str) -> None:
    assert syscall_name(line, "x86_64") == name


def test_system_calls_of_other_machines() -> None:
    line = b"115 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffd51346dc8 0x7f128f6e4503\n"
    assert syscall_name(line, "aarch64") == "clock_nanosleep"
    assert syscall_name(line, "riscv64") == "syscall 115"


@pytest.mark.parametrize(
    ("column", "header"),
    [(1, f"/usr/include/{platform.machine()}-linux-gnu/asm/unistd_64.h"), (2, "/usr/include/asm-generic/unistd.h")],
)
def test_the_numbers_of_system_calls_are_those_of_the_headers(column: int, header: str) -> None:
    if not Path(header).exists():
        pytest.skip("needs linux-libc-dev")
    known = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", Path(header).read_text(), re.MULTILINE)
    numbers = {name: int(number) for name, number in known}
    for row in SYSCALLS:
        assert numbers.get(row[0], -1) == row[column] or (column == 2 and row[column] == -1)


# ---- zombies and orphans --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "summary"), [(1, "1 zombie is"), (3, "3 zombies are")])
def test_a_zombie_is_shown_with_who_does_not_reap_it(start: StartTinyinit, count: int, summary: str) -> None:
    running = start("--", *program("tree", "zombie", count))
    running.wait_ready()
    main = running.main
    name = Path(f"/proc/{main}/comm").read_text().rstrip("\n")
    out = ps(running.pid).stdout
    rows = rows_of(out)
    for pid in children(main):
        assert rows[pid]["STAT"] == "Z"
        assert rows[pid]["WCHAN"] == "-"
        assert rows[pid]["COMMAND"] == f"[{name}] <zombie, not reaped by '{name}' (pid {main})>"
    assert out.splitlines()[-1] == f"{summary} not reaped by '{name}' (pid {main})"


def test_zombies_of_many_parents_are_named_within_bounds() -> None:
    parents = {pid: process(pid, 0) for pid in range(1, 15)}
    zombies = [process(100 + number, number % 14 + 1, state="Z") for number in range(30)]
    lines = zombies_by_parent([(each, 1) for each in zombies], parents)
    assert lines[0] == "3 zombies are not reaped by 'x' (pid 1)"
    assert lines[2] == "2 zombies are not reaped by 'x' (pid 3)"
    assert lines[10:] == ["8 more zombies are not reaped by 4 other parents"]


def test_a_zombie_whose_parent_is_not_visible() -> None:
    assert marks(process(7, 0, state="Z"), None, False) == " <zombie, not reaped by its parent, which is not visible>"


def test_a_process_whose_first_thread_has_ended_is_no_zombie(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper("--", *program("tree", "threads"))
    running.wait_ready()
    wait_until(lambda: state(running.main) == "Z", "the first thread to end")
    out = ps(running.main).stdout
    assert rows_of(out)[running.main]["COMMAND"].endswith("] <its first thread has ended>")
    assert "not reaped" not in out


def test_what_tinyinit_has_adopted_is_marked(start: StartTinyinit) -> None:
    running = start("--", *program("tree", "orphan"))
    running.wait_ready()
    orphan = wait_until(lambda: set(children(running.pid)) - {running.main}, "the orphan").pop()
    rows = rows_of(ps(running.pid).stdout)
    assert {pid for pid, row in rows.items() if row["COMMAND"].endswith(" <adopted>")} == {orphan}


def test_seen_from_within_the_namespace(start_pid_1: StartTinyinit) -> None:
    shown = '$("$0" --ps | grep -c "sleep 6[01] <adopted>$")'
    script = f'(sleep 60 & setsid sleep 61 &); until [ {shown} = 2 ]; do :; done; "$0" --ps'
    status, out, err = start_pid_1("--", "sh", "-c", script, TINYINIT).end()
    assert (status, err) == (0, "")
    commands = [row["COMMAND"] for row in rows_of(out).values()]
    assert "sleep 60 <adopted>" in commands
    assert sum(each.endswith(" <adopted>") for each in commands) == 2
    assert next(iter(rows_of(out))) == 1


def test_without_proc_of_our_own_namespace_the_right_tree_is_shown(
    start_subreaper: StartTinyinit, namespaces: None
) -> None:
    """`unshare --pid` without --mount-proc: /proc shows the PIDs outside, and our 1 is another's there."""
    code = "import os, subprocess; from tinyinit.processes import own_table; "
    code += "child = subprocess.Popen(['sleep', '60'], preexec_fn=os.setpgrp).pid; "
    code += "\nwhile 'sleep 60' not in (table := '\\n'.join(own_table(child, 9))): pass\nprint(table)"
    command = ["unshare", "--pid", "--fork", "--kill-child", "--", sys.executable, "-I", "-c", code]
    running = start_subreaper(command=command)
    status, out, _ = running.end()
    assert status == 0
    first, second = rows_of(out).values()
    assert first["PPID"] == str(running.process.pid)
    assert second["COMMAND"] == "sleep 60", "the main child's PID is another one there too, so nothing is known of it"


def until_named(pid: int) -> None:
    """Wait until execve(2), which closes the pipe that Popen reads before it sets the command line, has set that."""
    wait_until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes() != b"", f"{pid} has a command line")


def test_our_own_table_knows_its_main_child() -> None:
    first = subprocess.Popen(["sleep", "60"])
    second = subprocess.Popen(["sleep", "61"], start_new_session=True)
    for each in (first, second):
        until_named(each.pid)
    lines = own_table(first.pid, 100)
    for each in (first, second):
        each.kill()
        each.wait()
    assert own_pid() == os.getpid()
    assert int(lines[1].split()[0]) == os.getpid()
    assert [line.partition("  sleep")[2] for line in lines if "sleep 6" in line] == [" 60", " 61 <adopted>"]


@pytest.mark.parametrize(
    ("parent", "child", "is_adopted"),
    [
        pytest.param({"sid": 5}, {"sid": 7}, True, id="in neither its own nor its parent's session"),
        pytest.param({"sid": 5}, {"sid": 5}, False, id="in its parent's session"),
        pytest.param({"sid": 5}, {"sid": 30}, False, id="in a session of its own"),
        pytest.param({"sid": 20}, {"sid": 7}, False, id="of a parent that may have left that session"),
        pytest.param({"pid": 1, "sid": 1}, {"sid": 7}, True, id="of PID 1"),
        pytest.param({"pid": 1, "sid": 1}, {"sid": 0}, False, id="of PID 1, in a session from outside"),
    ],
)
def test_children_of_others_are_marked_where_it_is_sure(
    parent: dict[str, int], child: dict[str, int], is_adopted: bool
) -> None:
    above = process(20, 1, **{**parent, "state": "D"})  # whose command line is not read
    below = process(30, 20, **child)
    assert adopted(above, [below], 0) == ({30} if is_adopted else set())


def test_children_of_tinyinit() -> None:
    tinyinit = process(20, 1, sid=5, pgid=20)
    before, main, orphan = process(21, 20, pgid=20), process(22, 20, pgid=22), process(23, 20, pgid=22)
    assert adopted(tinyinit, [before, main, orphan], 22) == {23}
    assert adopted(tinyinit, [before, orphan], 22) == {23}, "main has ended"


@pytest.mark.parametrize(
    ("words", "is_one"),
    [
        ([sys.executable, "-c", "import time; time.sleep(60)", "tinyinit-python"], False),
        (["tail", "-f", INSTALLED + "-python"], False),
        ([TINYINIT, "--", "sh", "-c", "sleep 60; :"], True),
        ([sys.executable, "-IXutf8", "-X", "utf8", "-m", "tinyinit", "--", "sh", "-c", "sleep 60; :"], True),
        ([sys.executable, "-m", "tinyinit", "--", "sh", "-c", "sleep 60; :"], True),
    ],
    ids=["-c", "no python", "the command", "-m after others", "-m"],
)
def test_a_tinyinit_is_known_by_its_command_line(
    start_subreaper: StartTinyinit, words: list[str], is_one: bool
) -> None:
    from tinyinit.processes import is_tinyinit

    running = start_subreaper(command=words)
    wait_until(
        lambda: read_start(f"/proc/{running.pid}/cmdline").split(b"\0")[-2:-1] == [os.fsencode(words[-1])], "exec"
    )
    if is_one:
        wait_until(lambda: children(running.pid) and state(running.pid) != "D", "COMMAND")  # D: in vfork(2)
    assert is_tinyinit(read_processes()[running.pid]) == is_one


# ---- hostile names, and what is odd or gone -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("comm", "shown"),
    [(b") R 1 1 1", ") R 1 1 1"), (b"a\n1 (b) S", "a\\n1 (b) S"), (b"\x1b[2J\x07", "\\x1b[2J\\x07"), ("caf\u00e9".encode(), "caf\u00e9"), (b"\xff(", "\\xff(")],
)  # fmt: skip
def test_a_hostile_comm(start_subreaper: StartTinyinit, comm: bytes, shown: str) -> None:
    running = start_subreaper("--", *program("tree", "named", comm.hex()))
    running.wait_ready()
    found = read_processes()[running.main]
    assert (found.comm, found.ppid, found.pgid) == (shown, running.pid, running.main)


def test_a_hostile_command_line(start: StartTinyinit) -> None:
    hostile = b"\x1b]0;x\x07 \n1 0 S \xff \xc2\x9b2J \xe2\x80\xae caf\xc3\xa9 \xe2\x9c\x93"
    running = start("--", *program("tree", "named", b"x".hex()), os.fsdecode(hostile))
    running.wait_ready()
    out = ps(running.pid).stdout
    assert "\\x1b]0;x\\x07 \\n1 0 S \\xff \\x9b2J \\u202e caf\u00e9 \u2713\n" in out
    assert len(out.splitlines()) == 3


def test_a_process_that_vanishes_while_it_is_read() -> None:
    assert parse_stat(b"") is None
    assert parse_stat(b"12 (x) S 1 1") is None
    assert read_start("/proc/999999999/stat") == b""
    gone, left = process(12, 1), process(1, 0)
    assert len(table([1], {1: left, 12: gone})) == 3


def test_the_memory_of_a_process_in_state_d_is_not_read() -> None:
    """Our own could be: it is the state that the table goes by."""
    found = {each.pid: each for each in (process(os.getpid(), 1, state="D"), process(os.getppid(), 1))}
    commands = [line.split(maxsplit=8)[8] for line in table(found, found)[1:]]
    assert commands[0] == "[x]"
    assert commands[1] != "[x]"


def test_a_cycle_of_parents_ends() -> None:
    """One pass is not one moment: a PID may be given away while the others are read."""
    found = {2: process(2, 3), 3: process(3, 2)}
    assert [each.pid for each, _ in walk([2], found)] == [2, 3]


def test_names_are_escaped_and_text_is_let_be() -> None:
    assert printable(b"a\\b\tc\x7f \xe4 \xc3\xa4") == "a\\b\\tc\\x7f \\xe4 \u00e4"


def test_a_long_command_line_is_cut_on_a_terminal_only(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper("--", "sh", "-c", "echo 'ready (pid: 1)'; sleep 60; :", "\u00e9" * 50000)
    running.wait_ready()
    assert rows_of(ps(running.main).stdout)[running.main]["COMMAND"].endswith(50000 * "\u00e9")
    cell = table([running.main], read_processes())[1].split(maxsplit=8)[8]
    assert len(cell) == 200
    assert cell.endswith("\u00e9...")


@pytest.mark.heavy
def test_a_deep_chain_and_a_bound(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper("--", "sh", "-c", CHAIN, CHAIN, "2000")
    running.wait_ready()
    result = ps(running.main)
    assert (len(rows_of(result.stdout)), result.stderr) == (2000, "")
    lines = table([running.main], read_processes(), most=100)
    assert max(map(len, lines)) <= 330
    assert len(lines) == 102
    assert lines[-1] == "... and 1900 more: 100 of 2000 processes are shown"
    assert not table([running.main], read_processes(), most=2000)[-1].startswith("...")
    check_a_full_pipe_that_does_not_wait(running.main)
    check_a_reader_that_goes(running.main)


def check_a_full_pipe_that_does_not_wait(pid: int) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    with subprocess.Popen([TINYINIT, "--ps", str(pid)], stdout=writer) as running:
        os.close(writer)
        wait_until(lambda: state(running.pid) == "S", "it to wait for its reader")
        with open(reader) as file:
            assert len(rows_of(file.read())) == 2000
    assert running.returncode == 0


def check_a_reader_that_goes(pid: int) -> None:
    script = '"$0" --ps "$1" | head -1; echo ${PIPESTATUS[0]}'
    result = subprocess.run(["bash", "-c", script, TINYINIT, str(pid)], check=True, capture_output=True, text=True)
    assert re.fullmatch(r" *PID .*COMMAND\n141\n", result.stdout)
    assert result.stderr == ""


# ---- the option -----------------------------------------------------------------------------------------------


def test_all_trees_without_the_kernel_threads() -> None:
    rows = rows_of(ps().stdout)
    assert os.getpid() in rows
    assert 1 in rows
    assert not [row for row in rows.values() if row["PPID"] == "2" and row["COMMAND"].startswith("[k")]
    found = {1: process(1, 0), 2: process(2, 0, flags=0x208040), 3: process(3, 2, flags=0x208040), 9: process(9, 0)}
    assert visible_roots(found) == [1, 9]


def test_the_trees_of_several_pids_each_once(start_subreaper: StartTinyinit) -> None:
    running, other = start_subreaper("--", *SLEEPERS), start_subreaper("--", "sleep", "60")
    running.wait_ready()
    wait_until(lambda: len(descendants(running.main)) == 2, "both sleeps")
    rows = rows_of(ps(other.main, running.main, running.main).stdout)
    assert list(rows)[:2] == [other.main, running.main]
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x"], "'x' is no PID; write one as 1, or none to see all"),
        (["1", ""], "'' is no PID; write one as 1, or none to see all"),
        (["--", "-1"], "'-1' is no PID; write one as 1, or none to see all"),
        (["\u0661"], "'\u0661' is no PID; write one as 1, or none to see all"),
        (["0"], "there is no process 0; see 'tinyinit --ps' for all that there are"),
        (["1", "999999999"], "there is no process 999999999; see 'tinyinit --ps' for all that there are"),
    ],
)
def test_a_bad_pid_is_one_line_and_125(start: StartTinyinit, words: list[str], message: str) -> None:
    assert start("--ps", *words).end() == (125, "", f"tinyinit: option --ps: {message}\n")


def test_no_proc_is_one_line_and_125(start_subreaper: StartTinyinit, namespaces: None) -> None:
    for hide in ("mount -t tmpfs none /proc", "umount -l /proc"):
        command = ["unshare", "--mount", "sh", "-c", hide + ' && exec "$@"', "sh", TINYINIT]
        message = (
            "tinyinit: option --ps: cannot read /proc: No such file or directory; mount it (mount -t proc proc /proc)\n"
        )
        assert start_subreaper("--ps", command=command).end() == (125, "", message)


def test_a_full_disk_is_one_line_and_125() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run([TINYINIT, "--ps"], check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    message = "tinyinit: cannot write to standard output: No space left on device\n"
    assert (result.returncode, result.stderr) == (125, message)


def test_a_signal_ends_it_while_it_waits_for_its_reader(start_subreaper: StartTinyinit) -> None:
    running = start_subreaper("--", "sh", "-c", "echo 'ready (pid: 1)'; sleep 60; :", "x" * 120000)
    running.wait_ready()
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            [TINYINIT, "--ps", str(running.main)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as waiting:
            wait_until(lambda: state(waiting.pid) == "S", "it to wait for its reader")
            waiting.send_signal(number)
            assert waiting.wait(10) == -number
            assert waiting.stderr
            assert waiting.stderr.read() == b""


def test_another_users_processes_are_shown_with_what_may_be_read(start_subreaper: StartTinyinit) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root to be somebody else")
    running = start_subreaper("--", "sleep", "60")
    wait_until(lambda: "sleep" in ps(running.main).stdout, "sleep")
    status, out, err = start_subreaper("--ps", str(running.main), command=[*UNPRIVILEGED, TINYINIT]).end()
    assert (status, err) == (0, "")
    row = rows_of(out)[running.main]
    assert (row["WCHAN"], row["COMMAND"]) == ("-", "sleep 60")


def test_nothing_of_it_is_imported_unless_asked_for() -> None:
    code = "import sys, tinyinit.options, tinyinit.explain; sys.exit('tinyinit.processes' in sys.modules)"
    assert subprocess.run([*PYTHON[:2], "-c", code], check=False).returncode == 0


def test_it_runs_where_pid_1_shows_itself(start_subreaper: StartTinyinit, namespaces: None) -> None:
    """`docker run IMAGE --ps`, with tinyinit as the entrypoint."""
    status, out, _ = start_subreaper("--ps", command=[*UNSHARE, TINYINIT]).end()
    assert (status, list(rows_of(out))) == (0, [1])
