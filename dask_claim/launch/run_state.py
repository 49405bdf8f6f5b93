"""The phase of a run, and what signals, time limits and the program around it mean there.

While the cluster is *pending* a signal ends the run; while the command is *running* it is the
command's; while everything is *released* it is noted.
"""

from __future__ import annotations

import asyncio
import enum
import os
import signal
from time import monotonic
from typing import TYPE_CHECKING

from dask_claim.errors import DaskClaimError, Reason, StartTimeout
from dask_claim.launch.caller import Block
from dask_claim.launch.child import Child
from dask_claim.launch.events import Events
from dask_claim.launch.own_job import walltime_left
from dask_claim.launch.signals import JOB_CONTROL, Interrupted
from dask_claim.launch.terminal import Terminal, process_ends
from dask_claim.threads import cancel

if TYPE_CHECKING:
    from dask_claim.launch.session import Session


class Phase(enum.Enum):
    PENDING = "pending"
    RUNNING = "running"
    RELEASING = "releasing"


class RunState:
    """How far a run has come. Its methods are called by the event loop, at any time."""

    def __init__(self, grace: float, emit: Events) -> None:
        self._grace, self._emit = grace, emit
        self.phase = Phase.PENDING
        self.session: Session | None = None
        self.opening: asyncio.Task[None] | None = None
        """The start of the cluster."""

        self.work: Child | Block | None = None
        """What has the cluster: a command, or the block of a program."""

        self.cause: DaskClaimError | None = None
        """Why the run ends before its work does so by itself; the first cause counts."""

        self.passed_on: dict[signal.Signals, float] = {}
        """What the command was sent since this process got it, and when the last time; of a command
        that has ended those that may have been the cause."""

        self.terminal = Terminal()
        self._walltime: asyncio.Task[None] | None = None

    def end(self, cause: DaskClaimError) -> None:
        """End the run before its work does so by itself."""
        if self.phase is Phase.PENDING:
            # Cancelled once only: a second time would interrupt what the first one has to wait for,
            # such as the gateway's answer with the name of the cluster.
            if self.cause is None and self.opening is not None:
                self.opening.cancel()
            self.cause = self.cause or cause
        elif self.phase is Phase.RUNNING and self.work is not None and self.work.running:
            self._emit.warn(str(cause))
            self.cause = self.cause or cause
            self.work.end_for(cause, self._grace)

    def watch_limits(self, lifetime: float | None) -> None:
        """End the run after so many seconds, and before the batch job ends that this process is."""
        if lifetime:
            limit = f"the max_lifetime of {lifetime:g} s"
            loop = asyncio.get_running_loop()
            loop.call_later(lifetime, self.end_at, limit, Reason.LIFETIME)

        async def end_with_job() -> None:
            left = await walltime_left(os.environ)
            if left is not None:
                self._emit.note(f"This job's walltime ends in {left:.0f} s")
                await asyncio.sleep(max(left - self._grace, 0.0))
                self.end_at("this job's walltime", Reason.WALLTIME)

        self._walltime = asyncio.create_task(end_with_job())

    def end_at(self, limit: str, reason: Reason) -> None:
        """End a run that has reached a limit of time, set by the claim or the batch system."""
        if self.phase is Phase.PENDING:
            self.end(StartTimeout(f"{limit} ended before the command began"))
        else:
            what = "block" if isinstance(self.work, Block) else "run"
            reached = "ends soon" if reason is Reason.WALLTIME else "is reached"
            self.end(DaskClaimError(f"{limit} {reached}; ending the {what}", reason))

    def command_ended(self, status: int) -> None:
        """Forget the signals that the command has survived."""
        survived = monotonic() - self._grace  # a SIGTERM is followed by SIGKILL
        self.passed_on = {
            signum: at
            for signum, at in self.passed_on.items()
            if signum == signal.SIGTERM or status == 128 + signum or at > survived
        }

    def judge(self, status: int) -> int:
        """Return the run's status, by that of a work that the launcher may have ended itself."""
        if status != 0 or self.cause is None:
            return status
        if isinstance(self.work, Child):
            self._emit.note(f"Status {self.cause.exit_status} in place of 0: {self.cause}")
        return self.cause.exit_status

    def on_caller_end(self, status: int | None) -> None:
        """The program around wants no more of this run, or is gone (status None)."""
        if isinstance(self.work, Block):
            if status is None and self.cause is None and self.work.running:
                text = "the program was gone before its block had ended: it was killed, or crashed"
                self.cause, status = DaskClaimError(text, Reason.COMMAND_KILLED), 1
            self.work.finish(status or 0)
        else:
            signum = signal.SIGTERM if status is None else signal.SIGINT
            self.end(Interrupted.by(signum, "for the program that has started this run"))

    def on_signal(self, signum: signal.Signals) -> None:
        """A signal has come to this process."""
        if signum in JOB_CONTROL:
            self._on_job_control(signum)
            return
        if signum == signal.SIGINT:
            self.terminal.interrupted()
        if self.phase is Phase.PENDING:
            self.end(Interrupted.by(signum, "while the cluster was pending: the run ends"))
        elif self.phase is Phase.RELEASING or self.work is None:
            self._emit.note(f"{signum.name} is noted; the cluster is being stopped")
        elif isinstance(self.work, Block):
            self.passed_on[signum] = monotonic()
            self.work.end(self._grace, 128 + signum)
        else:
            self._emit.note(f"{signum.name} goes to the command")
            self.passed_on[signum] = monotonic()
            if signum == signal.SIGTERM:
                self.work.end(self._grace)
            else:
                self.work.send(signum)

    def _on_job_control(self, signum: signal.Signals) -> None:
        child = self.work if isinstance(self.work, Child) and self.work.running else None
        if signum == signal.SIGCONT:
            if child is not None:
                self.terminal.resume(child.pid)
        elif child is not None:
            child.send(signum)  # it stops, and the launcher with it (see `Child`)
        else:
            self.terminal.stop_with(None)

    async def close(self) -> None:
        """Watch no limit any more, and take the terminal back, where the command had it."""
        await cancel(self._walltime)
        ended_by = self.work.ended_by if self.work else getattr(self.cause, "signum", None)
        if ended_by == signal.SIGINT and (end := self.terminal.ctrl_c()):
            process_ends.append(end)
        self.terminal.close()
