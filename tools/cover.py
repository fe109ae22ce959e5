"""Have the installed tinyinit measure which of its lines and branches are run, from now on.

    .venv/3.13/bin/python tools/cover.py FOLDER    whatever runs it leaves its data there, for `coverage combine`

coverage(1) has no way into an interpreter that is isolated (-I -S), and tinyinit ends by _exit(2) or becomes COMMAND.
So the installed package's first line starts it, in whatever way tinyinit was started.

What it cannot see is run all the same: without memory, descriptors or a writable root (tests/test_hostile.py and
test_faults.py), where nothing can be measured either; what follows a failed execve(2) in the functions that had begun
before it; __init__.py, whose place it takes; and what needs a cgroup's limit, which the integration tests run.
"""

import sys
import sysconfig
from pathlib import Path

START = """\
import posix, sys
before, sys.path = sys.path, [*sys.path, sys._stdlib_dir, sys._stdlib_dir + "/lib-dynload"]
import atexit, coverage, os
sys.path = before
measured = coverage.Coverage(
    data_file=folder + "/.coverage", data_suffix=True, branch=True, source_pkgs=["tinyinit"], config_file=False
)
measured.set_option("run:disable_warnings", ["module-not-measured", "no-data-collected"])  # standard error is COMMAND's
measured.start()

def save():
    try:
        measured.stop()
        measured.save()
    except Exception:
        return  # a read-only root, another user: this process counts for nothing

def after_saving(call):
    def save_and_call(*arguments):
        save()
        try:
            call(*arguments)
        finally:
            measured.start()  # it was an execve(2), which has failed
    return save_and_call

atexit.register(save)
posix._exit = os._exit = after_saving(posix._exit)
posix.execve = os.execve = after_saving(posix.execve)
"""

folder = Path(sys.argv[1]).resolve()
folder.mkdir(parents=True, exist_ok=True)
folder.chmod(0o1777)  # some tests run tinyinit as another user
package = Path(sysconfig.get_path("purelib")) / "tinyinit/__init__.py"
package.write_text(f"exec({START!r}, {{'folder': {str(folder)!r}}})\n" + package.read_text().partition("\n")[2])
