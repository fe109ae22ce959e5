"""The death of our own parent as a signal, for --parent-death-signal."""

import posix

from tinyinit.init import Refusal, set_process_attribute

PR_SET_PDEATHSIG = 1  # prctl(2)


def follow_parent(number: int, parent: int) -> None:
    """Have the kernel send us `number` when our parent dies. If `parent` is not our parent any more, send it now.

    Refusal if the kernel will not. Source: PR_SET_PDEATHSIG(2const).
    """
    try:
        set_process_attribute(PR_SET_PDEATHSIG, number)
    except (OSError, ImportError) as failure:
        raise Refusal(f"cannot set a parent-death signal: {failure}") from None
    if posix.getppid() != parent:
        posix.kill(posix.getpid(), number)
