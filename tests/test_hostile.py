"""Contract, section 9, in surroundings that are meant to do harm: calls forbidden, limits of next to nothing, no memory."""

from __future__ import annotations

import errno
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import StartTinyinit
from helpers.running import (
    INSTALLED,
    PYTHON,
    TINYINIT,
    Running,
    as_user,
    descendants,
    program,
    status_field,
    wait_until,
    with_variable,
)
from helpers.terminal import Terminal

pytestmark = [pytest.mark.form("installed"), pytest.mark.heavy]

# It leaves behind: one in the group, one that ignores HUP, and a chain with two sessions of its own; and has an orphan.
APP = """
ulimit -n 64; trap 'echo got USR1' USR1; trap 'exit 7' TERM
sleep 60 & nohup sleep 60 > /dev/null 2>&1 & setsid sh -c 'sleep 60 & setsid sleep 60 & wait' &
(sleep 0.01 &)
echo "ready (pid: $$)"
while :; do wait; done
"""
SETTLED = ["sh", "sh", *4 * ["sleep"]]
NEW = "pidfd_open,pidfd_send_signal,waitid,close_range,pwritev2,clone3,statx,openat2,faccessat2"
LEAST = (
    "access,arch_prctl,brk,chdir,clock_gettime,clock_nanosleep,clone,clone3,close,dup,dup2,dup3,execve,exit,exit_group,"
    "faccessat,fcntl,fork,fstat,futex,getcwd,getdents64,getegid,geteuid,getgid,getpgid,getpgrp,getpid,getppid,getrandom,"
    "gettid,getuid,ioctl,kill,lseek,lstat,mmap,mprotect,munmap,newfstatat,open,openat,pipe,pipe2,pread64,prctl,prlimit64,read,"
    "readlink,readlinkat,rt_sigaction,rt_sigprocmask,rt_sigreturn,rt_sigsuspend,rt_sigtimedwait,set_robust_list,set_tid_address,setpgid,"
    "setsid,sigaltstack,stat,uname,vfork,wait4,write"
)


def forbid(error: str, names: str) -> list[str]:
    """What starts a program with a seccomp filter."""
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("the numbers of this machine's system calls are not in the table")
    return program("forbid", getattr(errno, error), names)


def names_below(pid: int) -> list[str]:
    return sorted(status_field(each, "Name") for each in descendants(pid))


def play(running: Running) -> tuple[int, str, str]:
    """See that the orphan is reaped and USR1 comes through; TERM; the end, which comes when nobody holds the output."""
    running.wait_ready()
    wait_until(lambda: names_below(running.pid) == SETTLED, "all to be started, and the orphan to be reaped")
    running.send(signal.SIGUSR1)
    running.read_until("got USR1\n")
    running.send(signal.SIGTERM)
    return running.end()


HARMLESS = {
    "without the newer calls": lambda: forbid("ENOSYS", NEW),
    "newer calls forbidden": lambda: forbid("EPERM", NEW),
    "newer calls denied": lambda: forbid("EACCES", NEW),
    "the least of calls": lambda: forbid("ENOSYS", f"but,{LEAST}"),
    "5 descriptors": lambda: ["prlimit", "--nofile=5:64"],
    "no file may grow": lambda: ["prlimit", "--fsize=0:0"],
    "64 KiB of stack": lambda: ["prlimit", "--stack=65536:65536"],
    "no locked memory": lambda: ["prlimit", "--memlock=0:0"],
    "no core": lambda: ["prlimit", "--core=0:0"],
    "no pending signals": lambda: ["prlimit", "--sigpending=0:0"],
    "16 MiB of addresses": lambda: ["prlimit", f"--as={16 << 20}"],
    "nice": lambda: ["nice", "-n", "19"],
    "idle": lambda: ["chrt", "--idle", "0"],
    "batch": lambda: ["chrt", "--batch", "0"],
}


@pytest.mark.parametrize("surroundings", HARMLESS)
def test_it_does_all_of_its_work(start: StartTinyinit, surroundings: str) -> None:
    words = HARMLESS[surroundings]()
    assert play(start("--", "sh", "-c", APP, command=[*words, TINYINIT]))[::2] == (7, "")


CAPABILITIES = tuple(range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1))
LEAVE = "(true &); sleep 60 & setsid sh -c 'sleep 60 & wait' & exit 4"


@pytest.mark.parametrize("bounds", ["{}", "-all,+{}"], ids=["all but one", "one alone"])
def test_root_without_a_capability_or_with_no_other(start: StartTinyinit, bounds: str) -> None:
    """capabilities(7): what root executes has those of the bounding set. Nobody lives when standard output ends."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    signs = [bounds.format(f"-cap_{number}" if bounds == "{}" else f"cap_{number}") for number in CAPABILITIES]
    for part in (signs[:14], signs[14:28], [*signs[28:], "-all"]):
        running = [
            start("--", "sh", "-c", LEAVE, command=["setpriv", f"--bounding-set={each}", "--inh-caps=-all", TINYINIT])
            for each in part
        ]
        assert {each: one.end() for each, one in zip(part, running)} == dict.fromkeys(part, (4, "", ""))


# ---- what is forbidden, and said -------------------------------------------------------------------------------


def test_without_kill_the_status_is_returned_and_who_lives_is_named(start_subreaper: StartTinyinit) -> None:
    words = ["sh", "-c", "sleep 5 > /dev/null 2>&1 & setsid sleep 5 > /dev/null 2>&1 & exit 4"]
    running = start_subreaper(
        "--grace", "0.1", "--", *words, command=[*forbid("EPERM", "kill,pidfd_send_signal"), TINYINIT]
    )
    status, out, err = running.end()
    assert (status, out) == (4, "")
    assert "tinyinit: warning: may not signal all that COMMAND left behind, some of which runs as another user\n" in err
    assert "tinyinit: warning: KILL does not end 'sleep' (pid " in err


def test_without_kill_as_pid_1_the_kernel_ends_all(start_pid_1: StartTinyinit) -> None:
    running = start_pid_1(
        "--grace", "0.1", "--", "sh", "-c", "sleep 60 & exit 4", command=[*forbid("EPERM", "kill"), TINYINIT]
    )
    status, out, err = running.end()
    assert (status, out) == (4, "")
    assert err.startswith("tinyinit: warning: may not signal what COMMAND left behind")


def test_without_kill_a_signal_that_cannot_be_forwarded_is_said(start: StartTinyinit) -> None:
    words = ["sh", "-c", "echo 'ready (pid: 1)'; read line; exit 4"]
    running = start("--", *words, command=[*forbid("EPERM", "kill"), TINYINIT], stdin=subprocess.PIPE)
    running.wait_ready()
    running.send(signal.SIGTERM)
    wait_until(lambda: int(status_field(running.pid, "ShdPnd"), 16) == 0, "TERM to be taken")
    running.go_on()
    status, _, err = running.end()
    assert (status, err.count("\n")) == (4, 1)
    assert err.startswith("tinyinit: warning: may not send signal ")


HIDE = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "sh", "-c"]
HIDE += ['mount -t proc -o hidepid=2,gid=64321 proc /proc && exec "$@"', "sh"]


@pytest.mark.parametrize("prefix", ["", "setsid "], ids=["in the group", "in another session"])
def test_what_hidepid_hides_is_ended(
    start_subreaper: StartTinyinit, namespaces: None, tmp_path: Path, prefix: str
) -> None:
    """proc(5): the processes of others are not seen without CAP_SYS_PTRACE, but root may signal them (kill(2))."""
    hidden = f"{prefix}setpriv --reuid=64324 --clear-groups sh -c 'echo ready; exec sleep 60'"
    script = f"mkfifo {tmp_path}/fifo; {hidden} > {tmp_path}/fifo & read line < {tmp_path}/fifo; exit 4"
    dropped = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", TINYINIT]
    look = '"$@"; status=$?; ! ps -e -o args= | grep "[s]leep 60" || status=99; exit $status'
    running = start_subreaper("--", "sh", "-c", script, command=[*HIDE, "sh", "-c", look, "sh", *dropped])
    status, out, err = running.end()
    assert (status, err) == (4, ""), out


def test_what_hidepid_hides_and_may_not_be_signalled_is_said(
    start_subreaper: StartTinyinit, namespaces: None, tmp_path: Path, nobody: list[str], become_root: Path
) -> None:
    hidden = f"setsid {become_root} --reuid=64324 --clear-groups sh -c 'echo ready; exec sleep 60'"
    script = f"mkfifo fifo; {hidden} > fifo & read line < fifo; exit 4"
    tmp_path.chmod(0o777)
    below_pid_1 = ["sh", "-c", '"$@"; exit $?', "sh"]
    words = ["--grace", "0.2", "--", "sh", "-c", script]
    status, out, err = start_subreaper(*words, command=[*HIDE, *below_pid_1, *nobody, TINYINIT], cwd=tmp_path).end()
    assert (status, out) == (4, "")
    assert err.splitlines()[0].startswith("tinyinit: warning: may not signal all that COMMAND left behind, ")
    assert err.splitlines()[1].startswith("tinyinit: warning: KILL does not end '' (pid ")


MEANWHILE = {  # `sleep` takes the time in which tinyinit is about to send TERM
    "leaves the group": "sleep 0.4; exec setsid sleep 60",
    "is forked and leaves the group": "sleep 0.4; setsid sleep 60 & wait",
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_who_does_that_as_the_group_is_signalled_is_not_missed(start_subreaper: StartTinyinit, what: str) -> None:
    """Should the machine be slow, it does that before or after, and passes as well."""
    if not shutil.which("strace"):
        assert not os.environ.get("CI"), "strace is missing"
        pytest.skip("needs strace")
    late = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=kill", "-e", "inject=kill:delay_enter=1s:when=1"]
    words = ["sh", "-c", f"sh -c '{MEANWHILE[what]}' & exit 4"]
    assert start_subreaper("--grace", "30", "--", *words, command=[*late, TINYINIT]).end(20) == (4, "", "")


# ---- limits -----------------------------------------------------------------------------------------------------


REFUSED = {
    "3 descriptors": (["prlimit", "--nofile=3:3"], "Too many open files; raise their limit, ulimit -n"),
    "1 MiB of addresses": (
        ["prlimit", "--as=1048576"],
        "Cannot allocate memory; look at the memory limit, and ulimit -v",
    ),
    "less of them than an interpreter needs": (
        ["prlimit", "--as=13000000"],
        "; look at the memory limit, and ulimit -v",
    ),
}


@pytest.mark.parametrize("surroundings", REFUSED)
def test_too_little_to_start_with_is_one_line(start: StartTinyinit, surroundings: str) -> None:
    words, cause = REFUSED[surroundings]
    status, out, err = start("--", "echo", "ran", command=[*words, TINYINIT]).end()
    assert (status, out, err.count("\n"), err.endswith(f"{cause}\n")) == (125, "", 1, True), err


def test_a_limit_of_one_process_is_one_line(start_subreaper: StartTinyinit) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root to become a user with no other process")
    command = ["prlimit", "--nproc=1:1", *as_user(64322), TINYINIT]
    status, out, err = start_subreaper("--", "echo", "ran", command=command).end()
    assert (status, out, err.count("\n")) == (125, "", 1)
    assert err.startswith("tinyinit: cannot start a process: Resource temporarily unavailable; look at ")
    assert "ulimit -u" in err


def test_with_4_descriptors_what_is_left_is_ended_late_and_that_is_said(start_subreaper: StartTinyinit) -> None:
    """A process below another is held by one descriptor while its file of /proc takes another."""
    script = """ulimit -n 64; setsid sh -c 'sleep 60 & echo "ready (pid: $$)"; wait' & read line; exit 4"""
    words, command = ["--grace", "0.2", "--", "sh", "-c", script], ["prlimit", "--nofile=4:64", TINYINIT]
    running = start_subreaper(*words, command=command, stdin=subprocess.PIPE)
    running.wait_ready()
    running.go_on()
    status, _, err = running.end()
    assert status == 4
    assert "tinyinit: warning: no memory or descriptor is left to find all that COMMAND left behind" in err


@pytest.mark.parametrize(
    "options", [[], ["--summary"], ["--report", "/dev/null"], ["--timeout", "99"], ["-v"]], ids=str
)
def test_memory_that_cannot_be_had_while_it_runs(
    start_pid_1: StartTinyinit, tmp_path: Path, options: list[str]
) -> None:
    """It keeps what it has taken so far. As subreaper it has to look at /proc, where some CPythons spin for want of it."""
    script = """
        trap 'exit 7' TERM; sleep 60 & setsid sh -c 'sleep 60 & wait' &
        echo "ready (pid: $$)"; while :; do wait; done
    """
    log = tmp_path / "log"
    with log.open("wb") as err:  # a file: for others select(2) would have to be loaded
        running = start_pid_1(*options, "--", "sh", "-c", script, stderr=err)
        running.wait_ready()
        wait_until(lambda: names_below(running.pid) == ["sh", "sh", "sleep", "sleep"], "all to be started")
        resource.prlimit(running.pid, resource.RLIMIT_AS, (0, 0))
        running.send(signal.SIGTERM)
        assert running.end()[0] == 7
    assert "KILL" not in log.read_text()
    is_told = {"--summary", "--report"}.isdisjoint(options) or "warning: no memory is left to" in log.read_text()
    assert is_told, log.read_text()


def test_whether_memory_is_left_is_found_out_without_taking_any() -> None:
    code = """if True:
        from tinyinit.ending import has_room
        def peak():
            with open("/proc/self/status") as status:
                return [int(line.split()[1]) for line in status if line.startswith("VmHWM")][0]
        peaks = [(has_room(), peak()) for _ in range(4)]
        print({has for has, _ in peaks}, peaks[-1][1] - peaks[0][1])
    """
    out = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.startswith("{True} ")
    assert int(out.split()[1]) < 1024  # KiB


def test_a_time_limit_without_memory(start_pid_1: StartTinyinit, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as err:
        running = start_pid_1("--timeout", "2s", "--", "sh", "-c", "echo ready '(pid: 0)'; exec sleep 60", stderr=err)
        running.wait_ready()
        resource.prlimit(running.pid, resource.RLIMIT_AS, (0, 0))
        assert running.end()[0] == 124


def test_a_limit_of_processor_time_ends_command_alone(start_subreaper: StartTinyinit) -> None:
    status, _, err = start_subreaper(
        "--", "sh", "-c", "while :; do :; done", command=["prlimit", "--cpu=1:9", TINYINIT]
    ).end()
    assert status == 128 + signal.SIGXCPU
    assert err.count("\n") == 1


def test_the_report_past_the_limit_of_file_sizes_is_said(start: StartTinyinit, tmp_path: Path) -> None:
    """write(2) sends SIGXFSZ to who writes: that is tinyinit."""
    report = tmp_path / "report"
    words = ["prlimit", "--fsize=0:0", TINYINIT]
    status, _, err = start("--report", report, "--", "sh", "-c", "exit 4", command=words).end()
    assert (status, err.count("\n")) == (4, 1)
    assert err.startswith(f"tinyinit: warning: cannot write the report to '{report}': File too large")
    assert not report.exists()


def test_real_time_signals_come_through_where_none_may_be_queued(start: StartTinyinit) -> None:
    words = program("log_signals", "got", signal.SIGTERM)
    running = start("--", *words, command=["prlimit", "--sigpending=0:0", TINYINIT])
    running.wait_ready()
    for number in (signal.SIGRTMIN + 1, signal.SIGRTMAX, signal.SIGTERM):
        running.send(number)
        running.read_until(f"got {int(number)}\n")
    assert running.end()[0] == 0


# ---- what is missing --------------------------------------------------------------------------------------------

BARE = """
mount -t tmpfs none "$0" && cd "$0" && mkdir lib lib64 usr bin home interpreter
for each in lib lib64 usr bin; do [ ! -e /$each ] || mount --rbind /$each $each; done
mkdir -p ".$1" ".$2"
mount --bind "$1" ".$1" && mount --bind "$2" ".$2" && mount -o remount,ro "$0"
shift 2; exec chroot . "$@"
"""


def test_a_root_that_is_read_only_and_has_no_proc_no_dev_and_no_tmp(
    start: StartTinyinit, namespaces: None, tmp_path: Path
) -> None:
    words = ["unshare", "--mount", "sh", "-c", BARE, str(tmp_path), sys.prefix, sys.base_prefix]
    script = (
        "test ! -e /proc && test ! -e /dev && test ! -e /tmp && ! mkdir /x 2> /dev/null; (true &); sleep 60 & exit 4"
    )
    for options in ([], ["--timeout", "60"], ["--summary"]):
        status, _, err = start(*options, "--", "/bin/sh", "-c", script, command=[*words, INSTALLED]).end()
        assert status == 4, err
        assert "Traceback" not in err
        assert "unexpected error" not in err


# ---- clocks and terminals -----------------------------------------------------------------------------------------

JUMPS = """
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int calls;
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME)
        now->tv_sec += (++calls % 2 ? 36000 : -36000) * calls;
    return (int)failed;
}
"""


def test_only_the_monotonic_clock_matters(start: StartTinyinit, tmp_path: Path) -> None:
    """The other one jumps by hours, there and back, each time that it is asked."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler: needs gcc and libc6-dev")
    library, report = tmp_path / "jumps.so", tmp_path / "report"
    subprocess.run(["cc", "-shared", "-fPIC", "-xc", "-", "-o", str(library)], input=JUMPS.encode(), check=True)
    env = {**os.environ, "LD_PRELOAD": str(library)}
    ask = [*PYTHON, "-c", "import time; print(time.time())"]
    now = float(subprocess.run(ask, env=env, check=True, capture_output=True).stdout)
    assert abs(now - time.time()) > 30000

    limits = ["--timeout", "0.5", "--kill-after", "0.3", "--grace", "0.3", "--report", str(report)]
    begin = time.monotonic()
    running = start(*limits, "--", "sh", "-c", "trap '' TERM; setsid sleep 600 & sleep 600", env=env)
    assert running.end(60)[0] == 124
    assert time.monotonic() - begin >= 1.1
    assert 0.8 <= json.loads(report.read_text())["elapsed_seconds"] < 60


@pytest.mark.parametrize("options", [[], ["--timeout", "99"]], ids=str)
def test_in_a_time_namespace_what_is_left_is_still_told_from_what_was_there(
    start_subreaper: StartTinyinit, namespaces: None, options: list[str]
) -> None:
    """time_namespaces(7) moves the clock, and what /proc says of a process's start with it."""
    words = ["unshare", "--time", "--monotonic", "2000000", "--boottime", "1000000", "--fork", TINYINIT]
    assert start_subreaper(*options, "--", "sh", "-c", LEAVE, command=words).end() == (4, "", "")


def test_a_terminal_that_hangs_up_ends_all_but_tinyinit_which_tells(tmp_path: Path, started: list[Running]) -> None:
    """HUP goes to the session's leader, a shell, and when that has ended to the foreground group: credentials(7)."""
    command = "trap 'exit 5' HUP; setsid sleep 60 & echo ready; while :; do sleep 0.01; done"
    report = tmp_path / "report"
    words = [TINYINIT, "-v", "--summary", "--report", str(report), "--", "sh", "-c", command]
    terminal = Terminal(["sh", "-c", '"$@"; exit 0', "sh", *words], {"HUNG_UP": str(tmp_path)})
    terminal.read_until("ready\n")
    os.close(terminal.fd)
    assert terminal.wait() == -signal.SIGHUP
    wait_until(lambda: with_variable("HUNG_UP", str(tmp_path)) == [], "all to end")
    assert json.loads(report.read_text())["status"] == 5
