"""A cluster that is there already: whether it answers, as a run would ask it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from dask_claim.doctor.finding import TEMPORARY, Examined, Finding, fail, failed, ok, warn
from dask_claim.errors import DaskClaimError
from dask_claim.threads import in_time

PATIENCE, MARGIN = 10.0, 5.0
"""Seconds for its answer, and until an answer that ignores them is not waited for."""

HINT = (
    "correct the variable that names it, or unset it: a run with provider auto then claims a "
    "cluster of its own"
)


async def check(seen: Examined) -> AsyncIterator[Finding]:
    """Whether the scheduler answers; of a gateway's cluster, whether the gateway says it runs."""
    if not seen.provider.adopts:
        return
    request = replace(seen.request, start_timeout=PATIENCE)
    provider = type(seen.provider)(request, lambda ticket: None, lambda warning: None)

    async def ask() -> None:
        await provider.submit()
        await provider.wait_until_running()

    try:
        await in_time(ask(), PATIENCE + MARGIN)
    except DaskClaimError as error:
        yield failed("scheduler", error, HINT)
    except asyncio.TimeoutError:
        if provider.of_gateway and not provider.obstacle:
            message = f"{provider.description}; it is still pending after {PATIENCE:g} s"
            yield warn("scheduler", message, "a run waits for it until its --start-timeout")
        else:
            why = f": {provider.obstacle}" if provider.obstacle else ""
            message = f"{provider.description} does not answer within {PATIENCE:g} s{why}"
            yield fail("scheduler", message, HINT, TEMPORARY)
    else:
        name = provider.cluster.cluster_name
        where = f"it answers at {provider.cluster.scheduler_address}"
        yield ok("scheduler", f"the gateway says that cluster {name} is running" if name else where)
    finally:
        await provider.close()
