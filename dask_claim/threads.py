"""Event loops that end while one of their threads still waits for something."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class DaemonThreads(ThreadPoolExecutor):
    """Runs each call in a thread of its own, for which neither the loop nor Python waits.

    A resolver can take a minute, and no call to it can be interrupted.
    """

    def submit(self, call: Callable[..., T], /, *args: Any, **named: Any) -> Future[T]:
        """Start `call`. Its SystemExit is a RuntimeError: it would end the loop, not the run."""
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = call(*args, **named)
            except Exception as error:
                future.set_exception(error)
            except BaseException as error:
                raised = RuntimeError(f"{type(error).__name__} in a thread: {error}")
                raised.__cause__ = error
                future.set_exception(raised)
            else:
                future.set_result(result)

        try:
            threading.Thread(target=work, name="dask-claim-work", daemon=True).start()
        except RuntimeError:
            work()  # no more threads are allowed: late is better than never
        return future


def use_daemon_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Let `loop` resolve names and call `asyncio.to_thread` in such threads."""
    loop.set_default_executor(DaemonThreads())

    async def shutdown(timeout: float | None = None) -> None:
        """Nobody waits. asyncio's own would start a thread for it."""

    loop.shutdown_default_executor = shutdown  # type: ignore[method-assign]


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, on a loop with such threads."""

    async def prepared() -> T:
        use_daemon_threads(asyncio.get_running_loop())
        return await main

    return asyncio.run(prepared())
