"""Which signals the launcher takes, and what the program finds of them.

What a signal *means* depends on the phase of the run and is decided in `launch`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from dask_claim.errors import DaskClaimError, Reason

T = TypeVar("T")

FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
JOB_CONTROL = (signal.SIGTSTP, signal.SIGCONT)
TAKEN = (*FORWARDED, *JOB_CONTROL)


class Interrupted(DaskClaimError):
    """A signal ended what was under way, and no command of the user's (status 128 + n)."""

    reason = Reason.INTERRUPTED

    signum = signal.SIGTERM

    @classmethod
    def by(cls, signum: signal.Signals, what: str) -> Interrupted:
        """`what`: what it meant, to follow the signal's name."""
        error = cls(f"{signum.name} {what}")
        error.signum = signum
        return error

    @property
    def exit_status(self) -> int:
        return 128 + self.signum


async def until_signal(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`, which the first of the forwarded signals cancels.

    Raises
    ------
    Interrupted
        When it has ended so; what it does to end in order is not cancelled again.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    came: list[signal.Signals] = []

    def on_signal(signum: signal.Signals) -> None:
        came.append(signum)
        if len(came) == 1:
            task.cancel()

    for signum in _not_ignored(FORWARDED):
        loop.add_signal_handler(signum, on_signal, signum)
    await asyncio.wait({task})
    if task.cancelled() and came:
        raise Interrupted.by(came[0], "ended this before it was done")
    return task.result()


@contextmanager
def caught(
    on_signal: Callable[[signal.Signals], None], end_process: Callable[[], None]
) -> Iterator[None]:
    """Call `on_signal` from the event loop for each signal that the launcher takes.

    Afterwards the process's work is done: a late SIGTERM calls `end_process`, the others are
    ignored, for none may replace the command's exit status.
    """
    loop = asyncio.get_running_loop()
    taken = _not_ignored(TAKEN)
    for signum in taken:
        loop.add_signal_handler(signum, on_signal, signum)
    try:
        yield
    finally:
        # Blocked meanwhile: asyncio puts the default action back, which would end the process.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, taken)
        for signum in taken:
            loop.remove_signal_handler(signum)
            signal.signal(signum, signal.SIG_IGN)
        if signal.SIGTERM in taken:
            signal.signal(signal.SIGTERM, lambda signum, frame: end_process())
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _not_ignored(signals: Sequence[signal.Signals]) -> list[signal.Signals]:
    """Without those that were ignored from the start (`nohup`, a shell's `&`) and stay so."""
    return [signum for signum in signals if signal.getsignal(signum) is not signal.SIG_IGN]
