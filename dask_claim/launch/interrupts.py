"""What interrupts a program that uses the library: signals in its main thread, in three phases."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")

ENDING = (signal.SIGINT, signal.SIGTERM)
"""The signals that leave a `with` block, as they end a program."""


class Signals:
    """SIGINT and SIGTERM in the three phases of `connect()`, in the main thread alone."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self.first: signal.Signals | None = None
        """The first signal that was caught and has not taken effect yet."""

        self._interrupt = interrupt
        self._before: dict[int, Any] = {}

    def catch(self) -> None:
        """Pending: a signal ends the opening."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in ENDING:
            handler = signal.getsignal(signum)
            # The program's own handler stays, and so does "ignore".
            if handler in (signal.SIG_DFL, signal.default_int_handler) or _is_asyncio(handler):
                self._before[signum] = handler
                signal.signal(signum, self._note)

    def deliver(self) -> None:
        """The block: a signal leaves it like an exit."""
        for signum in self._before:
            signal.signal(signum, lambda signum, frame: leave(signum, self._before[signum]))
        if self.first is not None:  # it came between the last look and here
            self._take_effect()

    def hold(self) -> None:
        """Releasing: a signal is noted, and takes effect when all is stopped."""
        for signum in self._before:
            signal.signal(signum, self._note)

    def restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        if self.first is not None:
            self._take_effect()

    def _take_effect(self) -> None:
        first, self.first = self.first, None
        assert first is not None
        leave(first, self._before[first])

    def _note(self, signum: int, frame: object) -> None:
        self.first = self.first or signal.Signals(signum)
        self._interrupt()


def leave(signum: int, handler: Any) -> None:
    """Let a signal end the program as an exit does, so that its own clean-up runs."""
    if handler is signal.default_int_handler:
        raise KeyboardInterrupt
    if handler is signal.SIG_DFL:
        raise SystemExit(128 + signum)
    if _is_asyncio(handler):
        handler(signum, None)


def _is_asyncio(handler: Any) -> bool:
    """Whether it is `asyncio.run`'s own for Ctrl-C, which interrupts nothing that blocks."""
    return getattr(getattr(handler, "func", None), "__module__", None) == "asyncio.runners"


def to_the_end(future: Future[T], interrupt: Callable[[], None]) -> T:
    """Wait for a step whatever interrupts this thread; what did is raised afterwards."""
    interrupted: BaseException | None = None
    while True:
        try:
            while not future.done():
                # Not for good: the system may give a signal to any thread, which does not wake this
                # one, and here alone Python calls its handler.
                wait([future], timeout=0.2)
            result = future.result()
            break
        except BaseException as error:
            if future.done() and error is future.exception():
                raise interrupted or error from None
            interrupted = interrupted or error
            interrupt()
    if interrupted is not None:
        raise interrupted
    return result
