"""What tinyinit.pyz runs first: finds python-prctl, and hands over to tinyinit.init.

Isolated like the installed command: python-prctl is looked for where the interpreter's prefix has it, be that a venv's,
and nothing else is on the path but the interpreter's own library and the pyz. In that, tinyinit is compiled for some
Pythons, and there as source for any other one.
"""

import posix
import sys

version = "%d.%d" % sys.version_info[:2]
if sys.version_info < (3, 9):
    sys.stderr.write("tinyinit: this is Python %s (%s); 3.9 or newer is needed\n" % (version, sys.executable))
    sys.exit(125)

archive, library = sys.path[1], sys.path[2:]
if not archive.startswith("/"):
    archive = posix.getcwd() + "/" + archive  # tinyinit leaves the working directory, and some is imported after that
prefixes = [sys.executable.rpartition("/bin/")[0], sys.prefix]  # which -S leaves the same in a venv, or not
sys.path[:] = [
    prefix + folder
    for prefix in dict.fromkeys(prefixes)
    for folder in (
        "/lib/python" + version + "/site-packages",
        "/local/lib/python" + version + "/dist-packages",
        "/lib/python3/dist-packages",
    )
]
try:
    import _prctl  # noqa: F401
except ImportError:
    pass  # init.py does without, and says so where that matters
sys.path[:] = [*library, archive + "/" + version, archive + "/source"]

from tinyinit.init import main

main()
