"""One run in its three phases, which decide what a signal means.

While the cluster is *pending* a signal ends the run; while the command is *running* it is the
command's; while everything is *released* it is noted.
"""

from __future__ import annotations

import asyncio
import enum
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from loguru import logger

from dask_claim.credentials.login import withheld_warning
from dask_claim.errors import (
    ConfigurationError,
    DaskClaimError,
    Exhausted,
    Interrupted,
    StartTimeout,
)
from dask_claim.launch import events, inherited
from dask_claim.launch.caller import Block, Caller
from dask_claim.launch.child import Child, check_command
from dask_claim.launch.death import MemoryLimit
from dask_claim.launch.first_process import deaf_parent
from dask_claim.launch.handoff import check_variables, variables
from dask_claim.launch.interpreter import cannot_connect
from dask_claim.launch.options import RunOptions
from dask_claim.launch.own_job import OwnJob
from dask_claim.launch.receipt import Receipt
from dask_claim.launch.result_files import write_result_files
from dask_claim.launch.session import Session
from dask_claim.launch.signals import JOB_CONTROL, caught
from dask_claim.launch.terminal import CtrlC, Terminal
from dask_claim.providers.values import Request
from dask_claim.redact import redact_command

if TYPE_CHECKING:
    from dask_claim.claim.model import Resolved


class Phase(enum.Enum):
    PENDING = "pending"
    RUNNING = "running"
    RELEASING = "releasing"


LIFETIME_OVER = 124
"""In place of a command's 0 where `max_lifetime` has ended it: what `timeout` gives, too."""


class Launcher:
    """One run of one command: `await Launcher(…).run()`, once."""

    def __init__(
        self,
        command: Sequence[str],
        resolved: Resolved,
        options: RunOptions,
        caller: Caller | None = None,
    ) -> None:
        """`caller`: the program that has started this process; its block stands for no command.

        Raises ClaimError.
        """
        if not command:
            # A block finds no names of the claim in its environment.
            nameless = resolved.claim.model_copy(update={"env": None})
            resolved = replace(resolved, claim=nameless)
        plan = resolved.plan()
        self._command, self._resolved = command, resolved
        self._options, self._caller = options, caller
        # A block's program has the receipt from here.
        self.receipt = Receipt(command, resolved, plan, options.receipt if command else None)
        self._emit = events.Events([self.receipt, events.log])
        self._phase = Phase.PENDING
        self.signum: signal.Signals | None = None
        """The first signal that would have ended this process."""

        self.ctrl_c: CtrlC | None = None
        """How to end this process where Ctrl-C at its terminal has ended the run."""

        self._too_late: str | None = None
        """Why no command is to begin any more."""

        self._cut_short: tuple[int, str] | None = None
        """What the launcher itself has ended the command for: the status in place of a 0, and the
        reason."""

        self._session: Session | None = None
        self._child: Child | Block | None = None
        self._own_job = OwnJob(os.environ, self._emit)
        self._terminal = Terminal()

    async def run(self) -> int:
        """Run the command and return its exit status; the receipt is written in any case.

        Raises
        ------
        DaskClaimError
            The command was not started.
        """
        receipt = self.receipt
        if self._caller is not None:
            self._caller.watch(self._on_caller_end)
        # Signals are caught before anything is made, and until the receipt tells that all is gone.
        with caught(self.on_signal, self._end_process) as signals:
            # What has to happen is registered before there is anything for it to do, and happens
            # whatever fails before it.
            async with AsyncExitStack() as end:
                end.callback(self._write_receipt)
                end.push_async_callback(self._release)
                try:
                    receipt.exit_status = await self._run(signals)
                except DaskClaimError as error:
                    receipt.error, receipt.exit_status = str(error), error.exit_status
                    raise
                except BaseException as error:
                    if exhausted := Exhausted.of(error):
                        receipt.error, receipt.exit_status = str(exhausted), exhausted.exit_status
                        raise exhausted from error
                    receipt.error, receipt.exit_status = repr(error), 70
                    raise
            assert receipt.exit_status is not None
            return receipt.exit_status

    async def _run(self, signals: Sequence[signal.Signals]) -> int:
        claim, options = self._resolved.claim, self._options
        places = dict.fromkeys(self._resolved.sources.values())
        if said := [place for place in places if place != "default"]:
            self._emit.note(f"The claim comes from {', '.join(said)}")
        # Before a cluster is made for a command that does not exist, or could not import Dask.
        if self._command:
            check_command(self._command, os.environ)
        check_variables(claim, self._resolved.plan(), os.environ)
        request = Request.of(self._resolved, options.start_timeout, options.stop_timeout)
        resolved = self._resolved
        for warning in (*resolved.warnings(), withheld_warning(resolved), deaf_parent()):
            if warning:
                self._emit.warn(warning)
        self._session = session = Session(request, self._emit, options.grace)
        await self._pending(session)
        return await self._running(session, signals)

    async def _pending(self, session: Session) -> None:
        lifetime = self._resolved.claim.max_lifetime
        if lifetime:
            asyncio.get_running_loop().call_later(lifetime, self._outlived, lifetime)
        self._own_job.look(self._options.grace, self._walltime_ends)
        steps = {
            "eager": ["submit"],
            "ready": ["submit", "wait_until_running"],
            "workers": ["submit", "wait_until_running", "wait_for_workers"],
        }
        if self.signum is None and not self._too_late:
            looking = None
            if session.provider.of_gateway and self._command:
                # Beside the cluster's start: nobody waits for an interpreter that hangs.
                look = asyncio.to_thread(cannot_connect, self._command, dict(os.environ))
                looking = asyncio.create_task(look)
            try:
                await session.open(*steps[self._options.start])
                why = looking.result() if looking and looking.done() else None
                if why and session.cluster.cluster_name:
                    self._emit.warn(why)
            except asyncio.CancelledError:
                if self.signum is None and not self._too_late:
                    raise
        if self._too_late:
            raise StartTimeout(f"{self._too_late} before the command began")
        if self.signum is not None:
            raise Interrupted(self.signum, "while the cluster was pending: the run ends")

    async def _running(self, session: Session, signals: Sequence[signal.Signals]) -> int:
        claim, cluster = self._resolved.claim, session.cluster
        files = write_result_files(cluster, claim.env, session.tickets.write)
        added = variables(cluster, claim, os.environ, session.request.run_id, files)
        self._phase = Phase.RUNNING
        if not self._command:
            return await self._block(session, added)
        self._emit.note(f"Running {redact_command(self._command)}")
        memory = MemoryLimit()
        session.tickets.expect_command()
        self._child = Child.spawn(
            self._command, {**inherited.environment(), **added}, signals, self._terminal
        )
        session.tickets.command_started(self._child.pid)
        started = asyncio.get_running_loop().time()
        self._emit(events.CommandStarted())
        ended = asyncio.create_task(self._child.wait())
        failed = None
        if self._options.start == "eager":
            failed = await self._open_meanwhile(session, ended)
        status = await ended
        session.tickets.command_ended()
        seconds = asyncio.get_running_loop().time() - started
        self._emit(events.CommandEnded(status, seconds))
        killed = status == 128 + signal.SIGKILL
        whom = "the command" if killed else "a worker or another process here"
        # With status 0 it did no harm; of the local cluster's own end the lease tells.
        harmed = killed or (status and session.watch.ended is None)
        if harmed and (why := memory.exceeded(whom)):
            self._emit.warn(why)
        if failed is not None and status in (0, 128 + signal.SIGTERM, 128 + signal.SIGKILL):
            raise failed
        return self._told(status)

    async def _block(self, session: Session, added: dict[str, str]) -> int:
        """The program's block, which has the cluster from here on."""
        if session.cluster.scheduler_address is None:
            raise ConfigurationError("create is false in the claim: no cluster to connect to")
        assert self._caller is not None
        self._child = Block(self._caller)
        keys = None
        if session.cluster.cluster_name is not None:
            security = session.provider.security()
            keys = security.tls_key, security.tls_cert
        self._caller.send(variables=added, keys=keys)
        return await self._child.wait()

    def _told(self, status: int) -> int:
        """The run's status for the command's, with the reason where the launcher has ended it."""
        if self._cut_short is None:
            return status
        instead, self.receipt.error = self._cut_short
        if status == 0:
            self._emit.note(f"Status {instead} in place of 0: {self.receipt.error}")
        return status or instead

    async def _open_meanwhile(
        self, session: Session, ended: asyncio.Task[int]
    ) -> BaseException | None:
        """The cluster's start, beside the command that will wait for it; return what failed."""
        opening = asyncio.ensure_future(session.open("wait_for_the_very_same"))
        await asyncio.wait({opening, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            self._emit.warn(
                "the command ended before its cluster was up: the scheduler gives no figures"
            )
            session.interrupt()
            await asyncio.wait({opening})
        elif error := opening.exception():
            # Nothing the command waits for will come.
            status = getattr(error, "exit_status", 70)
            self._end_command_for(f"the command is ended, for it has no cluster: {error}", status)
            return error
        return None

    async def _release(self) -> None:
        """Whatever has happened: end the command and the cluster, and note how that went."""
        self._phase = Phase.RELEASING
        async with AsyncExitStack() as end:
            end.callback(self._terminal.close)
            end.callback(self._look_at_terminal)
            end.push_async_callback(self._own_job.end)
            end.push_async_callback(self._release_cluster)
            if self._child is not None and self._child.running:
                self._end_command()
                await self._child.wait()

    def _write_receipt(self) -> None:
        self.receipt.finish()
        if self._caller is not None and self.receipt.error is None:
            self._caller.send(receipt=self.receipt.to_dict())

    def _look_at_terminal(self) -> None:
        by = self.signum if self._child is None else self._child.ended_by
        if by == signal.SIGINT:
            self.ctrl_c = self._terminal.ctrl_c()

    async def _release_cluster(self) -> None:
        if self._session is None:
            return
        try:
            await self._session.release()
        except Exception:
            # Neither this nor anything else afterwards changes how the command ended.
            logger.exception("A defect in dask-claim while stopping the cluster; please report it")

    def _end_process(self) -> None:
        status = self.receipt.exit_status
        os._exit(70 if status is None else status)

    def _outlived(self, lifetime: float) -> None:
        """The run has lasted as long as the claim allows."""
        if self._phase is Phase.PENDING:
            self._too_late = f"the max_lifetime of {lifetime:g} s ended"
            self._end_opening()
        elif self._phase is Phase.RUNNING:
            reason = f"the run has reached its max_lifetime of {lifetime:g} s: it is ended"
            self._end_command_for(reason, LIFETIME_OVER)
            if isinstance(self._child, Block):
                self._child.finish()

    def _walltime_ends(self) -> None:
        """The batch system ends this job in `grace` seconds."""
        what = "run" if self._command else "program"
        reason = f"this job's walltime ends: so does the {what}"
        if self._phase is Phase.RUNNING:
            self.signum = self.signum or signal.SIGTERM
            if isinstance(self._child, Block):
                self._child.terminate()
            self._end_command_for(reason, 75)
            return
        self._emit.warn(reason)
        if self._phase is Phase.PENDING:
            self._too_late = "this job's walltime ended"
            self._end_opening()

    def _end_opening(self) -> None:
        if self._session is not None:
            self._session.interrupt()

    def _end_command_for(self, reason: str, status: int) -> None:
        """Say why the launcher ends the command, and end it; `status` is the run's if it ends so
        with 0."""
        self._emit.warn(reason)
        if self._child is not None and self._child.running:
            self._cut_short = self._cut_short or (status, reason)
            self._end_command()

    def _end_command(self, signum: signal.Signals = signal.SIGTERM) -> None:
        assert self._child is not None
        grace, name = self._options.grace, signum.name
        self._child.end(
            grace,
            lambda: logger.warning(f"The command still runs {grace:g} s after {name}: SIGKILL"),
            signum,
        )

    def _on_caller_end(self) -> None:
        """The program wants no more of this run, or is gone."""
        assert self._caller is not None
        if self._phase is Phase.PENDING:
            self._too_late = "the program ended"
            self._end_opening()
        elif isinstance(self._child, Block):
            self._own_job.tell_why()  # the signal may have come to the program alone
            self._child.finish()
        elif self._phase is Phase.RUNNING and self._child is not None:
            signum = signal.SIGINT if self._caller.alive else signal.SIGTERM
            self._end_command(signum)

    def on_signal(self, signum: signal.Signals) -> None:
        """What a signal means in the phase that the run is in."""
        if signum in JOB_CONTROL:
            self._on_job_control(signum)
            return
        self.signum = self.signum or signum
        if signum == signal.SIGTERM:
            self._own_job.tell_why()
        if signum == signal.SIGINT:
            self._terminal.interrupted()
        if self._phase is Phase.PENDING:
            self._end_opening()
        elif self._phase is Phase.RUNNING and self._child is not None:
            if self._command:
                self._emit.note(f"{signum.name} goes to the command")
            if signum == signal.SIGTERM:
                self._end_command()
            else:
                self._child.send(signum)
        else:
            self._emit.note(f"{signum.name} is noted; the cluster is being stopped")

    def _on_job_control(self, signum: signal.Signals) -> None:
        child = self._child if isinstance(self._child, Child) and self._child.running else None
        if signum == signal.SIGCONT:
            if child is not None:
                self._terminal.resume(child.pid)
        elif child is not None:
            child.send(signum)  # it stops, and the launcher with it (see `Child`)
        else:
            self._terminal.stop_with(None)
