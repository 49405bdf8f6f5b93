"""A cluster that is there already, and one that is really started, as a run does both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from time import monotonic
from typing import Any
from warnings import catch_warnings, simplefilter

from dask_claim.doctor.finding import TEMPORARY, WRONG, Examined, Finding, fail, fail_with, ok, warn
from dask_claim.errors import ClusterFailed, DaskClaimError
from dask_claim.imports import import_dask
from dask_claim.launch.events import Event, Events, Warned
from dask_claim.launch.session import Session
from dask_claim.providers.values import Outcome
from dask_claim.providers.versions import differences_of_client
from dask_claim.registry import provider_class
from dask_claim.threads import in_time

PATIENCE = 60.0
"""Seconds for one task on a worker that is up."""

LOGS = "ask the gateway's operator for the logs of that cluster's scheduler and worker"
COMMANDS = (
    "ask its operator whether c.ClusterConfig has scheduler_cmd and worker_cmd for this Dask "
    "(2026.6 or newer has `dask scheduler` only), and for the logs of that cluster"
)


ANSWER, MARGIN = 10.0, 5.0
"""Seconds for its answer, and until an answer that ignores them is not waited for."""

HINT = (
    "correct the variable that names it, or unset it: a run with provider auto then claims a "
    "cluster of its own"
)


async def check_attached(seen: Examined) -> AsyncIterator[Finding]:
    """Whether the scheduler answers; of a gateway's cluster, whether the gateway says it runs."""
    if not seen.provider.adopts:
        return
    request = replace(seen.provider.request, start_timeout=ANSWER)
    provider = type(seen.provider)(request, lambda ticket: None, lambda warning: None)

    async def ask() -> None:
        await provider.submit()
        await provider.wait_until_running()

    try:
        await in_time(ask(), ANSWER + MARGIN)
    except DaskClaimError as error:
        yield fail_with("scheduler", error, HINT)
    except asyncio.TimeoutError:
        if provider.of_gateway and not provider.obstacle:
            message = f"{provider.description}; it is still pending after {ANSWER:g} s"
            yield warn("scheduler", message, "a run waits for it until its --start-timeout")
        else:
            why = f": {provider.obstacle}" if provider.obstacle else ""
            message = f"{provider.description} does not answer within {ANSWER:g} s{why}"
            yield fail("scheduler", message, HINT, TEMPORARY)
    else:
        name = provider.cluster.cluster_name
        where = f"it answers at {provider.cluster.scheduler_address}"
        yield ok("scheduler", f"the gateway says that cluster {name} is running" if name else where)
    finally:
        await provider.close()


async def check_start(seen: Examined) -> AsyncIterator[Finding]:
    """Start one worker, use it, release it; report how that went also when cancelled."""
    warnings: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Warned):
            warnings.append(str(event))

    # Versions are compared below, once for both sides; it looks at a cluster of its own.
    request = seen.provider.request
    claim = request.claim.model_copy(update={"versions": "ignore", "share": None})
    backend = provider_class(request.plan.provider).serves_with(claim)[0]
    choice = replace(request.plan.choice, backend=backend)
    plan = replace(request.plan, min_workers=1, max_workers=1, scaling="scale", choice=choice)
    session = Session(replace(request, plan=plan, claim=claim), Events([listen]))
    started = monotonic()
    cancelled: asyncio.CancelledError | None = None
    try:
        await session.open("workers")
        yield ok("start", f"scheduler and one worker after {monotonic() - started:.1f} s")
        async for finding in _use(seen, session):
            yield finding
    except DaskClaimError as error:
        yield fail_with("start", error, COMMANDS if isinstance(error, ClusterFailed) else LOGS)
    except asyncio.CancelledError as error:
        cancelled = error
    finally:
        stopping = monotonic()
        outcome, signalled = await _release(session)
        cancelled = cancelled or signalled
    for warning in warnings:
        yield warn("start", warning, "see docs/guarantees.md")
    if session.provider.makes_cluster:
        yield _report_release(outcome, session, monotonic() - stopping)
    if cancelled is not None:
        raise cancelled


async def _release(session: Session) -> tuple[Outcome, asyncio.CancelledError | None]:
    """Give the cluster back, whatever signal comes meanwhile; return that, too."""
    releasing = asyncio.ensure_future(session.release())
    cancelled = None
    while not releasing.done():
        try:
            await asyncio.wait({releasing})
        except asyncio.CancelledError as error:
            cancelled = error
    return releasing.result(), cancelled


async def _use(seen: Examined, session: Session) -> AsyncIterator[Finding]:
    provider = session.provider
    address, security = provider.cluster.scheduler_address, provider.security()
    Client = (await asyncio.to_thread(import_dask, "distributed")).Client
    assert address is not None
    options = {"asynchronous": True, "set_as_default": False, "timeout": PATIENCE}
    try:
        with catch_warnings():
            simplefilter("ignore")  # Dask's own of other versions, which are compared below
            async with Client(address, security=security, **options) as client:
                started = monotonic()
                await in_time(client.submit(sum, [20, 22], pure=False), PATIENCE)
                yield ok("task", f"one task and its result: {monotonic() - started:.2f} s")
                there = await client.get_versions()
                yield _compare_versions(seen.resolved.claim.versions, there)
    except Exception as error:  # whatever another version of Dask makes of it
        lost = isinstance(error, (OSError, asyncio.TimeoutError))
        message = f"a task by the scheduler at {address} fails: {type(error).__name__}: {error}"
        hint = f"compare the versions on both sides; {LOGS}"
        yield fail("task", message, hint, TEMPORARY if lost else WRONG)
    if provider.outlives_launcher and session.request.claim.lease_timeout:
        if session.lease.leased:
            yield ok("lease", "the scheduler holds it: it ends an abandoned cluster")
        else:
            hint = "use Dask 2024.1 or newer in the cluster's image, and let it take plugins"
            yield warn("lease", "the scheduler has not taken the lease", hint)


def _compare_versions(choice: str, there: Any) -> Finding:
    message = differences_of_client(there)
    if not message:
        return ok("versions", "the same here, on the scheduler and on the workers")
    if choice == "ignore":
        return ok("versions", f"{message} (versions: ignore)")
    make = fail if choice == "strict" else warn
    return make("versions", message, "use an image with the same versions on both sides")


def _report_release(outcome: Outcome, session: Session, seconds: float) -> Finding:
    name = session.cluster.cluster_name or "the cluster"
    if outcome is Outcome.NOT_CONFIRMED:
        hint = "`dask-claim clusters` shows whether it still runs, and stops it"
        return fail("release", f"{name} is not confirmed gone", hint, TEMPORARY)
    if outcome is Outcome.NOTHING:
        return ok("release", "nothing was made")
    return ok("release", f"{name} is gone after {seconds:.1f} s")
