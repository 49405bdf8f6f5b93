"""The session of `connect()`: on an event loop in a thread of its own, for a block's code waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dask_claim.credentials.login import withheld_warning
from dask_claim.launch import events
from dask_claim.launch.interrupts import Signals, to_the_end
from dask_claim.launch.options import RunOptions
from dask_claim.launch.own_job import OwnJob
from dask_claim.launch.session import Session
from dask_claim.providers.values import Request
from dask_claim.threads import use_daemon_threads

if TYPE_CHECKING:
    from dask_claim.claim.model import Resolved


class SessionThread:
    """A cluster for the length of a `with` block, which keeps the three phases of a run."""

    def __init__(self, resolved: Resolved, options: RunOptions) -> None:
        self._resolved = resolved
        # A block finds no names of the claim in its environment.
        nameless = resolved.claim.model_copy(update={"env": None})
        resolved = replace(resolved, claim=nameless)
        self._request = Request.of(resolved, options.start_timeout, options.stop_timeout)
        self._grace = options.grace
        self._loop = asyncio.new_event_loop()
        use_daemon_threads(self._loop)
        self._emit = events.Events([events.log])
        self._own_job = OwnJob(os.environ, self._emit)
        self._session: Session | None = None
        self._signals = Signals(self._interrupt)

    def __enter__(self) -> Session:
        # From here on no signal raises in this thread, until the block is reached: whatever it
        # would interrupt is ended in order, and then it takes effect.
        self._signals.catch()
        try:
            threading.Thread(target=self._run_loop, name="dask-claim", daemon=True).start()
            self._wait(self._open())
            assert self._session is not None
            if self._signals.first is None:
                self._signals.deliver()
                return self._session
        except BaseException:
            self._end()
            raise
        self._end()
        raise AssertionError("a signal that ended the opening did not end the program")

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, SystemExit) and error.code == 128 + signal.SIGTERM:
            self._loop.call_soon_threadsafe(self._own_job.tell_why)
        self._end()

    def _run_loop(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _open(self) -> None:
        gateways = self._resolved.operator_gateways
        withheld = withheld_warning(self._request.gateway, gateways, os.environ)
        for warning in (*self._resolved.warnings(), withheld):
            if warning:
                self._emit.warn(warning)
        self._own_job.look(self._grace, self._walltime_ends)
        self._session = session = Session(self._request, self._emit)
        if self._signals.first is None:
            try:
                await session.open("submit", "wait_until_running")
            except asyncio.CancelledError:
                if self._signals.first is None:
                    raise

    def _walltime_ends(self) -> None:
        self._emit.warn("this job's walltime ends: so does the program")
        # In another thread than the main one, the program's own handler is all there is.
        os.kill(os.getpid(), signal.SIGTERM)

    def _interrupt(self) -> None:
        def interrupt() -> None:
            if self._session is not None:
                self._session.interrupt()

        with contextlib.suppress(RuntimeError):  # all is released, and the loop closed
            self._loop.call_soon_threadsafe(interrupt)

    def _end(self) -> None:
        self._signals.hold()
        try:
            self._wait(self._release())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            # Only now: a signal that came meanwhile takes effect with this.
            self._signals.restore()

    async def _release(self) -> None:
        try:
            if self._session is not None:
                await self._session.release()
        finally:
            await self._own_job.end()

    def _wait(self, step: Any) -> None:
        to_the_end(asyncio.run_coroutine_threadsafe(step, self._loop), self._interrupt)
