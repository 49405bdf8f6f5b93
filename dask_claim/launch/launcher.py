"""One run, from the claim to the receipt: the cluster is opened, used and given back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from loguru import logger

from dask_claim.credentials.login import describe_withheld
from dask_claim.errors import DaskClaimError, Reason, our_error
from dask_claim.launch import events, inherited
from dask_claim.launch.caller import Block, Caller
from dask_claim.launch.child import Child
from dask_claim.launch.command import cannot_connect, check_command
from dask_claim.launch.event_log import listened
from dask_claim.launch.events import harmless
from dask_claim.launch.explanation import explain
from dask_claim.launch.facts import facts_of
from dask_claim.launch.first_process import deaf_parent
from dask_claim.launch.handoff import check_variables, variables, write_result_files
from dask_claim.launch.receipt import Receipt
from dask_claim.launch.reports import Summary
from dask_claim.launch.run_options import RunOptions
from dask_claim.launch.run_state import Phase, RunState
from dask_claim.launch.session import Session
from dask_claim.launch.signals import caught
from dask_claim.launch.tracing import TRACEPARENT, Trace
from dask_claim.providers.dask_report import NO_CLUSTER
from dask_claim.providers.values import Request
from dask_claim.redact import redact_command
from dask_claim.threads import cancel

if TYPE_CHECKING:
    from dask_claim.claim.model import Resolved


class Launcher:
    """One run: `await Launcher(…).run()`, once."""

    def __init__(
        self,
        run_id: str,
        trace: Trace,
        command: Sequence[str],
        resolved: Resolved,
        options: RunOptions,
        caller: Caller | None = None,
    ) -> None:
        """`run_id`: random letters, of this run alone. `caller`: the program that has started this
        process; its block stands for no command.

        Raises ClaimError.
        """
        self._command, self._resolved = command, resolved
        self._options, self._caller = options, caller
        self._run_id, self._trace = run_id, trace
        path = options.receipt_file(run_id)
        self.receipt = Receipt(command, resolved, path, run_id, trace.received)
        on_terminal = caller is None and not options.quiet
        self._emit = listened(self.receipt, run_id, trace, on_terminal=on_terminal)
        self.state = RunState(options.grace, self._emit)
        self._failure: DaskClaimError | None = None

    async def run(self) -> int:
        """Run the command and return its exit status; the receipt is written in any case.

        Raises
        ------
        DaskClaimError
            The command was not started.
        """
        if self._caller is not None:
            self._caller.watch(self.state.on_caller_end)
        # Signals are caught before anything is made, and until the receipt tells that all is gone.
        with caught(self.state.on_signal, self._end_process):
            # What has to happen is registered before there is anything for it to do, and happens
            # whatever fails before it.
            async with AsyncExitStack() as end:
                end.callback(self._publish)
                end.push_async_callback(self._release)
                try:
                    status = self.state.judge(await self._run())
                    self.receipt.end(status, self.state.cause)
                    return status
                except BaseException as error:
                    self._failure = failure = our_error(error)
                    self.receipt.fail(failure)
                    if failure is error:
                        raise
                    raise failure from error

    async def _run(self) -> int:
        request = self._prepare()
        session = self.state.session = Session(request, self._emit, self._options.grace)
        await self._open(session)
        claim, cluster = self._resolved.claim, session.cluster
        files = write_result_files(cluster, claim.env, session.tickets.write)
        terms = request.run_id, files, request.gateway, session.provider.shares
        added = variables(cluster, claim, os.environ, *terms) | self._trace.variables()
        self.state.phase = Phase.RUNNING
        if self._command:
            return await self._execute(session, added)
        assert self._caller is not None
        self.state.work = block = Block(self._caller, session, added)
        status = await block.wait()
        session.watch.look_at_memory(status)
        return status

    def _prepare(self) -> Request:
        """Return the request for the cluster; what can be wrong is looked at before."""
        resolved, trace, emit = self._resolved, self._trace, self._emit
        places = dict.fromkeys(resolved.sources.values())
        if named := [place for place in places if place != "default"]:
            emit.note(f"The claim comes from {', '.join(named)}")
        for line in resolved.plan().arithmetic:
            logger.debug(line)
        if self._command:
            check_command(self._command, os.environ)
        check_variables(resolved.claim, resolved.plan(), os.environ)
        if trace.received:
            emit.note(f"This run is part of a trace: {trace.received}")
        if trace.invalid:
            emit.warn(
                f"{TRACEPARENT} = {trace.invalid!r} is not a trace context of W3C's: the command "
                "gets it as it is"
            )
        options = self._options
        request = Request.of(resolved, options.start_timeout, options.stop_timeout, self._run_id)
        # A program that uses the library has handlers of its own, or does without.
        deaf = deaf_parent() if self._caller is None else None
        for warning in (*resolved.warnings(), describe_withheld(resolved), deaf):
            if warning:
                emit.warn(warning)
        return replace(request, report=options.report is not None)

    async def _open(self, session: Session) -> None:
        state = self.state
        state.watch_limits(self._resolved.claim.max_lifetime)
        # Beside the cluster's start: the command does not wait for an interpreter.
        looking = asyncio.create_task(self._look_at_interpreter(session))
        try:
            state.opening = asyncio.create_task(session.open(self._options.start))
            await state.opening
        except asyncio.CancelledError:
            if state.cause is None:
                raise
        finally:
            await cancel(looking)
        if state.cause is not None:
            raise state.cause

    async def _look_at_interpreter(self, session: Session) -> None:
        if self._command and session.provider.of_gateway:
            why = await cannot_connect(self._command, dict(os.environ))
            if why and session.provider.of_gateway:  # and nothing has taken its place
                self._emit.warn(why)

    async def _execute(self, session: Session, added: dict[str, str]) -> int:
        """Run the command; return the run's exit status."""
        self._emit.note(f"Running {redact_command(self._command)}")
        now = asyncio.get_running_loop().time
        session.tickets.expect_command()
        environment = {**inherited.environment(), **added}
        child = self.state.work = Child.spawn(self._command, environment, self.state.terminal)
        session.tickets.command_started(child.pid)
        started = now()
        self._emit(events.CommandStarted())
        failure = None
        if not session.running:
            failure = await self._open_meanwhile(session, child)
        status = await child.wait()
        self.state.command_ended(status)
        session.tickets.command_ended()
        self._emit(events.CommandEnded(status, now() - started))
        session.watch.look_at_memory(status)
        if failure is not None and status in (0, 128 + signal.SIGTERM, 128 + signal.SIGKILL):
            raise failure
        return status

    async def _open_meanwhile(self, session: Session, child: Child) -> BaseException | None:
        """The cluster's start, beside the command that will wait for it; return what failed."""
        opening = asyncio.ensure_future(session.start())
        ended = asyncio.ensure_future(child.wait())
        await asyncio.wait({opening, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            self._emit.warn(
                "the command ended before its cluster was up: the scheduler gives no figures"
            )
            opening.cancel()
            await asyncio.wait({opening})
        elif error := opening.exception():
            # Nothing the command waits for will come.
            reason = error.reason if isinstance(error, DaskClaimError) else Reason.DEFECT
            text = f"the command is ended, for it has no cluster: {error}"
            self.state.end(DaskClaimError(text, reason))
            return error
        return None

    async def _release(self) -> None:
        """Whatever has happened: end the command and the cluster, and note how that went."""
        state = self.state
        state.phase = Phase.RELEASING
        async with AsyncExitStack() as end:
            end.push_async_callback(state.close)
            end.callback(self._explain)
            end.push_async_callback(self._release_cluster)
            if state.work is not None and state.work.running:
                state.work.end(self._options.grace)
                await state.work.wait()

    async def _release_cluster(self) -> None:
        state, session = self.state, self.state.session
        try:
            if session is not None:
                await session.release(state.cause is not None or bool(state.passed_on))
        except Exception:
            # Neither this nor anything else afterwards changes how the command ended.
            logger.exception("A defect in dask-claim while stopping the cluster; please report it")

    def _explain(self) -> None:
        """Say why the run ended as it did; the last report of the cluster is there."""
        with harmless():
            status, claim = self.receipt.exit_status, self._resolved.claim
            facts = facts_of(
                self.state, claim, self._command, status=70 if status is None else status,
                cause=self._failure or self.state.cause,
            )  # fmt: skip
            explained = explain(facts)
            if explained.reason or explained.lines:
                self._emit(explained)

    def _publish(self) -> None:
        session = self.state.session
        dask_report = session.dask_report if session else NO_CLUSTER
        self.receipt.finish(self._options.report_file(self._run_id), dask_report)
        with harmless():
            self._emit(Summary.of(self.receipt.to_dict()))
        if self._caller is not None and self._failure is None:
            self._caller.send(receipt=self.receipt.to_dict())

    def _end_process(self) -> None:
        status = self.receipt.exit_status
        os._exit(70 if status is None else status)
