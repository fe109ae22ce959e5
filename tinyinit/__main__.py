"""`python -m tinyinit`: the same init in an interpreter that somebody else started.

Use `python -I -m tinyinit` for PID 1: without -I the interpreter reads PYTHONPATH and the working directory
before this file gets a say. What can still be done here is done: from now on neither is imported from.
"""

import posix
import sys

from tinyinit.init import main

if not sys.flags.isolated:
    _foreign = posix.environ.get(b"PYTHONPATH", b"").decode("utf-8", "surrogateescape").split(":")
    sys.path[:] = [folder for folder in sys.path[1:] if folder not in _foreign]
main()
