"""tinyinit: a tiny init for containers and CI jobs."""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tinyinit.api import run as run
else:

    def __getattr__(name):
        """`run`, imported when it is asked for (PEP 562): the init comes through here on its way to COMMAND."""
        if name == "run":
            from tinyinit.api import run

            return run
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
