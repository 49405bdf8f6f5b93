"""A container's first process: an init for what the command leaves, or a shell that is none.

The kernel gives every orphan of a container to its first process, which must reap it. Where
dask-claim is that process it forks: the parent reaps and passes signals on, as tini does, and the
child is the launcher, which waits for its own children alone. With the first process the kernel
ends all others, so the parent also waits for a guard that the launcher has left work to.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from dask_claim.launch.signals import TAKEN
from dask_claim.lifetime.tickets import PROCESS

# What the terminal sends goes to the whole foreground group, so to the launcher as well.
_FROM_KERNEL = 0x80  # SI_KERNEL


def become_init() -> None:
    """Return at once, in a child if this is a container's first process.

    The parent never returns: it ends with the child's exit status, when the child has ended, and
    the guards that it leaves, whose patience has an end.
    """
    if os.getpid() != 1:
        return
    passed = set(TAKEN)
    # Blocked before the fork: none is lost in between.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, passed | {signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    # The kernel shows waiting for a signal neither as "caught" nor as "blocked": without a handler
    # `deaf_parent`, here and in other programs, would think that nothing reaches this process.
    signal.signal(signal.SIGTERM, lambda signum, frame: None)
    status = None
    while status is None or _guards():
        received = signal.sigwaitinfo(passed | {signal.SIGCHLD})
        if received.si_signo == signal.SIGCHLD:
            ended = _reap(child)
            status = ended if status is None else status
        elif status is None and received.si_code != _FROM_KERNEL:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, received.si_signo)
    os._exit(status)


def _guards() -> bool:
    """Whether a guard is among this process's children, to which orphans are given."""
    with contextlib.suppress(OSError):
        for pid in Path("/proc/self/task", str(os.getpid()), "children").read_text().split():
            if os.fsencode(PROCESS) in Path("/proc", pid, "cmdline").read_bytes().split(b"\0"):
                return True
    return False


def _reap(launcher: int) -> int | None:
    """Reap all that have ended; return the launcher's exit status if it is among them."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, wait_status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == launcher:
                code = os.waitstatus_to_exitcode(wait_status)
                status = code if code >= 0 else 128 - code
    return status


def deaf_parent(proc: Path = Path("/proc")) -> str | None:
    """Return a warning where the parent is a container's first process and ignores SIGTERM.

    The kernel keeps from a first process every signal that it has no handler for, and a shell
    that waits for its command passes none on: `docker stop` and a deleted pod then end in SIGKILL.
    """
    if os.getppid() != 1:
        return None
    try:
        lines = (proc / "1" / "status").read_text(encoding="ascii", errors="replace").splitlines()
        name = (proc / "1" / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    # Blocked means read by other means (signalfd), as the init of a whole system does it.
    handled = int(status.get("SigCgt", "0"), 16) | int(status.get("SigBlk", "0"), 16)
    if handled >> (signal.SIGTERM - 1) & 1:
        return None
    return (
        f"the first process here, {name}, has no handler for SIGTERM, so stopping this container "
        "will not reach the command before SIGKILL: start dask-claim without a shell, or by "
        "`exec dask-claim …`"
    )
