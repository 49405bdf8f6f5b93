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
    findings: list[Finding] = []
    # In a thread: it may send a request to a gateway.
    seen = await asyncio.to_thread(_prepare, flags, start_timeout, stop_timeout, findings)
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
    flags: Mapping[str, object], start_timeout: float, stop_timeout: float, findings: list[Finding]
) -> Examined | None:
    """Return what the checks examine, and add to `findings` what comes before them."""
    try:
        resolved = outside_ended_run(load(flags))
        plan = resolved.plan()
        check_variables(resolved.claim, plan, os.environ)
    except ClaimError as error:
        findings += [fail("claim", str(replace(each, hint="")), each.hint) for each in error.faults]
        return None
    except DaskClaimError as error:
        findings.append(fail_with("claim", error, "see `dask-claim show`"))
        return None
    sources = dict.fromkeys(source for source in resolved.sources.values() if source != "default")
    origin = f"values from {', '.join(sources)}" if sources else "all values are defaults"
    findings.append(ok("claim", f"{plan.size()} from provider {plan.provider}; {origin}"))
    for cut in resolved.cuts:
        findings.append(warn("claim", cut, "ask the site's operator, or claim less"))
    backend = provider_class(plan.choice.backend)
    if (key := resolved.claim.share) is not None and backend.shares:
        text = f"runs with the key {key!r} and the same request use one cluster"
        findings.append(ok("share", text))
    elif key is not None:
        text = f"a cluster of provider {plan.provider} is not shared, as only a gateway's is"
        findings.append(warn("share", text, "see docs/sharing.md"))
    warnings = [*plan.choice.warnings]
    try:
        # Nothing is requested, so there is no ticket to keep.
        request = Request.of(resolved, start_timeout, stop_timeout)
        return Examined(resolved, backend(request, lambda ticket: None, warnings.append))
    except DaskClaimError as error:
        findings.append(fail_with("provider", error, "choose another --provider"))
        return None
    finally:
        hint = "see docs/batch.md and docs/attach.md"
        findings += [warn("provider", text, hint) for text in warnings]


def exit_status(findings: Iterable[Finding]) -> int:
    """Return what a run would end with: the status of the first finding that fails, else 0."""
    return next((each.status for each in findings if each.state == "fail"), 0)
