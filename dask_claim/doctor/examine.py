"""The whole examination: which checks, in which order, and what their findings say together."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace

from dask_claim.claim.model import Resolved, load
from dask_claim.doctor.finding import Examined, Finding, fail, failed, ok, warn
from dask_claim.doctor.here import CHECKS
from dask_claim.errors import ClaimError, DaskClaimError
from dask_claim.launch.handoff import check_variables
from dask_claim.providers.base import Provider
from dask_claim.providers.values import Request, Ticket
from dask_claim.registry import provider_class

START_TIMEOUT, STOP_TIMEOUT = 300.0, 30.0


async def examine(
    flags: Mapping[str, object],
    *,
    start: bool = False,
    start_timeout: float = START_TIMEOUT,
    stop_timeout: float = STOP_TIMEOUT,
) -> AsyncIterator[Finding]:
    """Yield what each check finds, in order.

    Parameters
    ----------
    flags : mapping
        The claim's fields from the command line.
    start : bool
        Whether to start a cluster, too.
    start_timeout, stop_timeout : float
        Seconds in which it must be ready, and gone.
    """
    try:
        resolved = load(flags)
        plan = resolved.plan()
        check_variables(resolved.claim, plan, os.environ)
    except ClaimError as error:
        for fault in error.faults:
            yield fail("claim", str(replace(fault, hint="")), fault.hint)
        return
    except DaskClaimError as error:
        yield failed("claim", error, "see `dask-claim show`")
        return
    yield _claim(resolved)
    for cut in resolved.cuts:
        yield warn("claim", cut, "ask the site's operator, or claim less")
    request = Request.of(resolved, start_timeout, stop_timeout)
    provider: Provider | None = None
    warnings: list[str] = []
    for text in plan.choice.warnings:
        message, _, hint = text.partition(": ")
        yield warn("provider", message, hint or "see docs/sites.md")
    try:
        provider = provider_class(plan.choice.backend)(request, _keep, warnings.append)
    except DaskClaimError as error:
        yield failed("provider", error, "choose another --provider")
    for warning in warnings:
        yield warn("provider", warning, "see docs/sites.md")
    seen = Examined(os.environ, resolved, plan, request, provider)
    bad = provider is None
    for check in CHECKS:
        if found := check(seen):
            bad = bad or found.state == "fail"
            warnings.append(found.message)
            yield found
    if bad:
        return
    if seen.uses_gateway:
        from dask_claim.doctor.gateway import check_gateway

        async for found in check_gateway(seen):
            bad = bad or found.state == "fail"
            yield found
    if provider and provider.adopts:
        from dask_claim.doctor.attached import check_attached

        found = await check_attached(seen)
        bad = bad or found.state == "fail"
        yield found
    if start and not bad and resolved.claim.create:
        from dask_claim.doctor.start import check_start

        async for found in check_start(seen):
            # What a run warns of as it starts may be told above.
            if found.state != "warn" or not found.message.startswith(tuple(warnings)):
                yield found


def _keep(ticket: Ticket) -> None:
    """Nothing is asked of this provider, so nothing has to be reclaimed."""


def _claim(resolved: Resolved) -> Finding:
    said = dict.fromkeys(source for source in resolved.sources.values() if source != "default")
    plan = resolved.plan()
    size = f"{plan.min_workers} to {plan.max_workers} workers from provider {plan.provider}"
    return ok("claim", f"{size}; values from {', '.join(said) or 'nowhere: defaults'}")


def exit_status(findings: Iterable[Finding]) -> int:
    """Return what a run would end with: the status of the first finding that fails, else 0."""
    return next((found.status for found in findings if found.state == "fail"), 0)
