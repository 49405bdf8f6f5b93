"""A cluster that is there already: whether it answers, as a run would ask it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from dask_claim.doctor.finding import TEMPORARY, Examined, Finding, fail, failed, ok
from dask_claim.errors import DaskClaimError
from dask_claim.registry import provider_class
from dask_claim.threads import in_time

PATIENCE, MARGIN = 10.0, 5.0
"""Seconds for its answer, and until an answer that ignores them is not waited for."""

HINT = (
    "correct the variable that names it, or unset it: a run with provider auto then claims a "
    "cluster of its own"
)


async def check_attached(seen: Examined) -> Finding:
    """Whether the scheduler answers; of a gateway's cluster, whether the gateway says it runs."""
    request = replace(seen.request, start_timeout=PATIENCE)
    provider = provider_class(seen.plan.choice.backend)(
        request, lambda ticket: None, lambda warning: None
    )

    async def ask() -> None:
        await provider.submit()
        await provider.wait_until_running()

    try:
        await in_time(ask(), PATIENCE + MARGIN)
    except DaskClaimError as error:
        return failed("scheduler", error, HINT)
    except asyncio.TimeoutError:
        why = f": {provider.obstacle}" if provider.obstacle else ""
        message = f"{provider.description} does not answer within {PATIENCE:g} s{why}"
        return fail("scheduler", message, HINT, TEMPORARY)
    finally:
        await provider.close()
    cluster = provider.cluster
    if cluster.cluster_name:
        return ok("scheduler", f"the gateway says that cluster {cluster.cluster_name} is running")
    return ok("scheduler", f"it answers at {cluster.scheduler_address}")
