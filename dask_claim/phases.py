"""One run in its three phases, which decide what a signal means.

While the cluster is *pending* a signal ends the run; while the command is *running* it is the
command's; while everything is *given back* it is noted.
"""

from __future__ import annotations

import asyncio
import enum
import os
import shlex
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loguru import logger

from dask_claim.child import Child, check_command
from dask_claim.errors import DaskClaimError, StartTimeout, UsageError
from dask_claim.options import RunOptions
from dask_claim.providers.base import Order
from dask_claim.receipt import Receipt
from dask_claim.redact import redact
from dask_claim.session import Session
from dask_claim.signals import JOB_CONTROL
from dask_claim.terminal import Terminal

if TYPE_CHECKING:
    from dask_claim.claim import Effective


class Phase(enum.Enum):
    PENDING = "pending"
    RUNNING = "running"
    GIVING_BACK = "giving back"


class Interrupted(DaskClaimError):
    """A signal ended the run before the command had started (status 128 + n)."""

    def __init__(self, signum: signal.Signals) -> None:
        super().__init__(f"{signum.name} while the cluster was pending: the run ends")
        self.exit_status = 128 + signum  # type: ignore[misc]


class Launch:
    """The state of one run that its signals need to see."""

    def __init__(
        self,
        command: Sequence[str],
        effective: Effective,
        options: RunOptions,
        receipt: Receipt,
    ) -> None:
        self._command = command
        self._effective = effective
        self._options = options
        self._receipt = receipt
        self._phase = Phase.PENDING
        self._opening: asyncio.Task[None] | None = None
        self._signum: signal.Signals | None = None
        self._expired = False
        self._session: Session | None = None
        self._child: Child | None = None
        self._terminal = Terminal()

    async def run(self, signals: Sequence[signal.Signals]) -> int:
        if not self._command:
            raise UsageError("there is no command to run")
        claim = self._effective.claim
        plan = claim.plan()
        self._receipt.effective, self._receipt.plan = self._effective, plan
        places = dict.fromkeys(self._effective.sources.values())
        if said := [place for place in places if place != "default"]:
            logger.info(f"The claim comes from {', '.join(said)}")
        # Before a cluster is made for a command that does not exist.
        check_command(self._command, os.environ)
        options = self._options
        self._session = Session(
            Order(claim, plan, os.environ, options.start_timeout, options.stop_timeout, self._warn),
            self._receipt.timeline,
            options.grace,
        )
        await self._pending(self._session)
        return await self._running(self._session, signals)

    async def _pending(self, session: Session) -> None:
        lifetime = self._effective.claim.max_lifetime
        if lifetime:
            asyncio.get_running_loop().call_later(lifetime, self._outlived, lifetime)
        self._opening = opening = asyncio.create_task(self._open(session))
        try:
            await opening
        except asyncio.CancelledError:
            if self._signum is None and not self._expired:
                raise
        if self._expired:
            raise StartTimeout(f"the max_lifetime of {lifetime:g} s ended before the command began")
        if self._signum is not None:
            raise Interrupted(self._signum)

    def _outlived(self, lifetime: float) -> None:
        """The run has lasted as long as the claim allows."""
        self._expired = True
        if self._phase is Phase.PENDING:
            self._end_opening()
        elif self._phase is Phase.RUNNING:
            self._warn(f"the run has reached its max_lifetime of {lifetime:g} s: it is ended")
            self._end_command()

    def _end_opening(self) -> None:
        # Once only: a second time would interrupt what the first one has to wait for, such as the
        # gateway's answer with the name of the cluster.
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()

    async def _open(self, session: Session) -> None:
        steps = {
            "eager": [session.submit],
            "ready": [session.submit, session.wait_until_running],
            "workers": [session.submit, session.wait_until_running, session.wait_for_workers],
        }
        for step in steps[self._options.start]:
            await step()
            # Before Python 3.12 a step that ends at that very moment swallows its cancellation.
            if self._signum is not None or self._expired:
                return

    async def _running(self, session: Session, signals: Sequence[signal.Signals]) -> int:
        claim = self._effective.claim
        added = session.handoff.variables(claim, os.environ)
        self._phase = Phase.RUNNING
        logger.info(f"Running {redact(shlex.join(self._command))}")
        session.command_starts(session.handoff.markers(added))
        self._child = Child.spawn(self._command, {**os.environ, **added}, signals, self._terminal)
        session.command_started(self._child.pid)
        self._receipt.timeline.mark("command_start")
        ended = asyncio.create_task(self._child.wait())
        if self._options.start == "eager":
            await self._open_meanwhile(session, ended)
        status = await ended
        session.command_ended()
        self._receipt.timeline.mark("command_end")
        seconds = self._receipt.timeline.since("command_start")
        logger.info(f"The command ended with status {status} after {seconds:.1f} s")
        return status

    async def _open_meanwhile(self, session: Session, ended: asyncio.Task[int]) -> None:
        """The cluster's start, beside the command that will wait for it."""
        opening = asyncio.create_task(session.wait_until_running(may_fall_back=False))
        await asyncio.wait({opening, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            opening.cancel()
            await asyncio.wait({opening})
        elif error := opening.exception():
            # Nothing the command waits for will come.
            self._end_command()
            await ended
            raise error

    def _end_command(self) -> None:
        assert self._child is not None
        grace = self._options.grace
        self._child.end(
            grace,
            lambda: logger.warning(f"The command still runs {grace:g} s after SIGTERM: SIGKILL"),
        )

    async def give_back(self) -> None:
        """Whatever has happened: end the command and the cluster, and note how that went."""
        self._phase = Phase.GIVING_BACK
        if self._child is not None and self._child.running:
            self._end_command()
            await self._child.wait()
        if self._session is not None:
            await self._end_cluster(self._session)
        self._terminal.close()

    async def _end_cluster(self, session: Session) -> None:
        receipt, handoff = self._receipt, session.handoff
        started = asyncio.get_running_loop().time()
        receipt.gone = await session.give_back()
        receipt.provider, receipt.handoff = session.provider.name, handoff
        receipt.usage, receipt.leased = session.usage, session.leased
        seconds = asyncio.get_running_loop().time() - started
        what = f"Cluster {handoff.cluster_name}" if handoff.cluster_name else "The local cluster"
        if receipt.gone:
            receipt.timeline.mark("gone")
            logger.info(f"{what} is given back and gone after {seconds:.1f} s")
        elif receipt.gone is False:
            lease = self._effective.claim.lease_timeout
            logger.error(
                f"{what} is NOT confirmed gone after {seconds:.1f} s; it was claimed from "
                f"{session.provider.description}. "
                + (f"Its lease ends it within {lease:g} s; " if session.leased else "")
                + "`dask-claim clusters` tells whether it still runs, and stops it"
            )

    def _warn(self, message: str) -> None:
        logger.warning(message)
        self._receipt.warnings.append(message)

    def on_signal(self, signum: signal.Signals) -> None:
        """What a signal means in the phase that the run is in."""
        if signum in JOB_CONTROL:
            self._on_job_control(signum)
        elif self._phase is Phase.PENDING:
            self._signum = self._signum or signum
            self._end_opening()
        elif self._phase is Phase.RUNNING and self._child is not None:
            logger.info(f"{signum.name} goes to the command")
            if signum == signal.SIGTERM:
                self._end_command()
            else:
                self._child.send(signum)
        else:
            logger.info(f"{signum.name} is noted; the cluster is being given back")

    def _on_job_control(self, signum: signal.Signals) -> None:
        child = self._child if self._child is not None and self._child.running else None
        if signum == signal.SIGCONT:
            if child is not None:
                self._terminal.resume(child.pid)
        elif child is not None:
            child.send(signum)  # it stops, and the launcher with it (see `Child`)
        else:
            self._terminal.stop_with(None)
