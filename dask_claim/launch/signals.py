"""Which signals the launcher takes, and what the program finds of them.

What a signal *means* depends on the phase of the run and is decided in `launch`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator
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
    task, first = asyncio.ensure_future(work), []

    def on_signal(signum: signal.Signals) -> None:
        first.append(signum)
        if len(first) == 1:
            task.cancel()

    with caught(on_signal, None, FORWARDED):
        await asyncio.wait({task})
    if task.cancelled() and first:
        raise Interrupted.by(first[0], "ended this before it was done")
    return task.result()


@contextmanager
def caught(
    on_signal: Callable[[signal.Signals], None],
    end_process: Callable[[], None] | None,
    signals: Iterable[signal.Signals] = (*FORWARDED, *JOB_CONTROL),
) -> Iterator[list[signal.Signals]]:
    """Call `on_signal` from the event loop for each of the `signals`.

    Yields the signals that are caught. One that was ignored from the start (`nohup`, a shell's
    `&`) stays ignored.

    `end_process` is for a process whose work is done then: a late SIGTERM calls it, the others are
    ignored, for none may replace the command's exit status. Without it the handlers are put back
    as they were.
    """
    loop = asyncio.get_running_loop()
    taken: list[signal.Signals] = []
    before = {signum: signal.getsignal(signum) for signum in signals}
    for signum, handler in before.items():
        if handler is not signal.SIG_IGN:
            loop.add_signal_handler(signum, on_signal, signum)
            taken.append(signum)
    try:
        yield taken
    finally:
        # Blocked meanwhile: asyncio puts the default action back, which would end the process.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, taken)
        for signum in taken:
            loop.remove_signal_handler(signum)
            handler = signal.SIG_IGN if end_process else before[signum]
            if end_process and signum == signal.SIGTERM:
                handler = lambda signum, frame: end_process()  # noqa: E731
            signal.signal(signum, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
