"""A limit on the time that one call may take."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Value = TypeVar("Value")


def within(seconds: float, call: Callable[..., Value], *arguments: Any) -> Value:
    """The value of ``call(*arguments)``.

    A socket's own limit is for each silence: a server that sends one byte now and then never
    meets it. So the call runs in a thread, which is left behind when the time is over.

    Raises:
        TimeoutError: it took longer.
        Exception: what the call raised.
    """
    outcome: queue.SimpleQueue[tuple[Value | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcome.put((call(*arguments), None))
        except Exception as error:  # to be raised where the value is waited for
            outcome.put((None, error))

    # A daemon: a call that never ends must not keep the program from ending.
    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"not done after {seconds:.0f} s") from None
    if error is not None:
        raise error
    return value
