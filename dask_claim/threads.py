"""Event loops that do not wait for their threads at the end, and bounded steps in them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
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
        """Wait for nothing. asyncio's own would start a thread for it."""

    loop.shutdown_default_executor = shutdown  # type: ignore[method-assign]


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, on a loop with such threads."""

    async def prepared() -> T:
        use_daemon_threads(asyncio.get_running_loop())
        return await main

    return asyncio.run(prepared())


async def in_time(step: Awaitable[T], seconds: float) -> T:
    """Return the result of `step`, cancelled and asyncio.TimeoutError after so many `seconds`.

    Before Python 3.12 `asyncio.wait_for` swallows a cancellation that comes at the moment when its
    step ends: a loop of requests that is to end then goes on for ever.
    """
    task = asyncio.ensure_future(step)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            # Once: a step may have to wait for what it has begun, as for the name of a cluster.
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # mark as retrieved, or asyncio logs it
    if task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


async def cancel(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task, if there is one, and return when it has ended."""
    while task is not None and not task.done():
        # Again, for a step that ends at that very moment may swallow it (Python before 3.12).
        task.cancel()
        await asyncio.wait({task}, timeout=1.0)
