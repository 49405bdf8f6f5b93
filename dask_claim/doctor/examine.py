"""The whole examination: which checks, in which order, and what their findings say together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace

from dask_claim.claim.model import load
from dask_claim.doctor import cluster, gateway, here
from dask_claim.doctor.finding import Examined, Finding, fail, fail_with, ok, warn
from dask_claim.errors import ClaimError, DaskClaimError
from dask_claim.launch.handoff import check_variables
from dask_claim.providers.existing import outside_ended_run
from dask_claim.providers.values import Request
from dask_claim.registry import provider_class


async def examine(
    flags: Mapping[str, object],
    *,
    start: bool = False,
    start_timeout: float = 300.0,
    stop_timeout: float = 30.0,
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
    # In a thread: it may send a request to a gateway.
    prepared = await asyncio.to_thread(lambda: [*_prepare(flags, start_timeout, stop_timeout)])
    seen = next((each for each in prepared if isinstance(each, Examined)), None)
    findings = [each for each in prepared if isinstance(each, Finding)]
    for finding in findings:
        yield finding
    if seen is None:
        return
    stages = [here.check, gateway.check, cluster.check_attached]
    if start and seen.resolved.claim.create:
        stages.append(cluster.check_start)
    for stage in stages:
        async for finding in stage(seen):
            # A run, as it starts, repeats warnings of the checks.
            earlier = tuple(each.message for each in findings)
            if finding.state != "warn" or not finding.message.startswith(earlier):
                findings.append(finding)
                yield finding
        if exit_status(findings):
            return


def _prepare(
    flags: Mapping[str, object], start_timeout: float, stop_timeout: float
) -> Iterable[Finding | Examined]:
    """Yield what the claim and the choice of the provider give, last what the checks examine."""
    try:
        resolved = outside_ended_run(load(flags))
        plan = resolved.plan()
        check_variables(resolved.claim, plan, os.environ)
    except ClaimError as error:
        for fault in error.faults:
            yield fail("claim", str(replace(fault, hint="")), fault.hint)
        return
    except DaskClaimError as error:
        yield fail_with("claim", error, "see `dask-claim show`")
        return
    sources = dict.fromkeys(source for source in resolved.sources.values() if source != "default")
    size = f"{plan.min_workers} to {plan.max_workers} workers from provider {plan.provider}"
    yield ok("claim", f"{size}; values from {', '.join(sources) or 'nowhere: defaults'}")
    for cut in resolved.cuts:
        yield warn("claim", cut, "ask the site's operator, or claim less")
    for warning in plan.choice.warnings:
        yield warn("provider", warning, "see docs/sites.md")
    if (key := resolved.claim.share) is not None:
        if provider_class(plan.choice.backend).shares:
            yield ok("share", f"runs with the key {key!r} and the same request use one cluster")
        else:
            only = f"a cluster of provider {plan.provider} is not shared, as only a gateway's is"
            yield warn("share", only, "see docs/sharing.md")
    request = Request.of(resolved, start_timeout, stop_timeout)
    warnings: list[str] = []
    try:
        # Nothing is requested, so there is no ticket to keep.
        backend = provider_class(plan.choice.backend)
        provider = backend(request, lambda ticket: None, warnings.append)
    except DaskClaimError as error:
        yield fail_with("provider", error, "choose another --provider")
        return
    for warning in warnings:
        yield warn("provider", warning, "see docs/sites.md")
    yield Examined(os.environ, resolved, plan, request, provider)


def exit_status(findings: Iterable[Finding]) -> int:
    """Return what a run would end with: the status of the first finding that fails, else 0."""
    return next((each.status for each in findings if each.state == "fail"), 0)
