"""Runs tinyinit, with the options and COMMAND of argv[2:], as on a kernel that lacks what argv[1] names.

children: the lists /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN). pidfd: pidfd_open(2), before Linux 5.3.
"""

import posix
import sys
from typing import Any

import tinyinit.init

lack = sys.argv.pop(1)


def without_lists(call: Any) -> Any:
    def patched(path: Any, *arguments: Any, **keywords: Any) -> Any:
        if str(path).endswith("/children"):
            raise FileNotFoundError(2, "No such file or directory")
        return call(path, *arguments, **keywords)

    return patched


if lack == "children":
    for name in ("stat", "open", "access"):
        setattr(posix, name, without_lists(getattr(posix, name)))
elif lack == "pidfd":
    del posix.pidfd_open
else:
    raise SystemExit(f"{lack!r} is not known")
tinyinit.init.main()
