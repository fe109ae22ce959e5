"""The death of our own parent as a signal, for --parent-death-signal and --die-with-parent."""

import _signal
import posix

from tinyinit.init import Init, Refusal, Start, set_process_attribute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # prctl(2)
PARENT_DIED = _signal.SIGRTMAX  # for --die-with-parent alone: hardly anybody else sends it


def has_lost_another(parent: int) -> bool:
    """Whether `parent`, our parent at the first look, had already taken us in after our own one's death.

    As far as can be told: a session is inherited, or one's own (setsid(2)). So who is in neither its own nor its
    parent's has had another parent.
    """
    try:
        return parent > 0 and posix.getsid(0) not in (posix.getpid(), posix.getsid(parent))
    except OSError:
        return False  # it has ended just now, which getppid(2) tells


def follow_parent(init: Init, start: Start, end: "Callable[[], None] | None" = None) -> None:
    """Have the kernel send us a signal when our parent dies. If that has already happened, send it now.

    When it comes it is forwarded, if it is one that the user chose; then, with `end`, that is called if our parent is
    gone. The signal also comes when that thread of it ends that has started us, which is nothing to COMMAND, or from
    anybody, which is. A parent outside of our PID namespace is 0 all the time, so that there it is the signal that
    counts, from outside as well.
    Refusal if the kernel will not. Source: PR_SET_PDEATHSIG(2const).
    """
    number, parent = init.options.parent_death_signal or PARENT_DIED, init.parent
    try:
        set_process_attribute(PR_SET_PDEATHSIG, number)
    except (OSError, ImportError) as failure:
        raise Refusal(f"cannot set a parent-death signal: {failure}") from None
    action = init.actions.get(number)

    def act(event: "_signal.struct_siginfo") -> None:
        is_gone = posix.getppid() != parent or parent == 0 == event.si_pid or has_lost_another(parent)
        is_ours = is_gone or event.si_pid == parent  # it has died, or a thread of it has
        if init.options.parent_death_signal or not is_ours:
            action(event) if action else init.forward(number)
        if is_gone and end:
            end()

    if end:
        init.actions[number] = act
    if posix.getppid() != parent or has_lost_another(parent):
        posix.kill(posix.getpid(), number)
