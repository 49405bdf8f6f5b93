"""The one way to end what a run has made, for launcher, guard and operator.

The guard runs this file as a process of its own: tickets and its patience on standard
input, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Modules lying beside this file must not shadow anybody's.
    sys.path[0:1] = []
    sys.path += [str(Path(__file__).resolve().parents[2])]

from dask_claim.providers.values import Outcome, Ticket
from dask_claim.redact import redact
from dask_claim.registry import provider_class
from dask_claim.threads import run_loop


async def reclaim(ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> Outcome:
    """End what `ticket` names and confirm that it is gone.

    `timeout`: seconds after which it is not confirmed. `warn` is called with lines for a person.
    Never raises: whatever fails, the other tickets of the run are still to be reclaimed.
    """
    try:
        return await provider_class(ticket.provider).reclaim(ticket, timeout, warn)
    except Exception as error:
        what = f"cluster {ticket.cluster_name}" if ticket.cluster_name else "what was requested"
        warn(f"{what} could not be ended: {redact(str(error)) or type(error).__name__}")
        return Outcome.NOT_CONFIRMED


async def reclaim_all(tickets: Sequence[Mapping[str, Any]], patience: float) -> None:
    """What the guard does for a launcher that was killed: all at once, `patience` seconds each.

    `tickets`: in the form in which they cross.
    """
    from loguru import logger

    async def end(written: Mapping[str, Any]) -> None:
        name = written.get("cluster_name")
        what = f"Cluster {name}" if isinstance(name, str) else "A requested cluster"
        try:
            ticket = Ticket.from_dict(written)
        except (TypeError, ValueError) as error:
            logger.error(f"{what} is left as it is: {error}")
            return
        outcome = await reclaim(ticket, patience, logger.warning)
        if outcome is Outcome.GONE:
            logger.info(f"{what} is gone")
        elif outcome is Outcome.KEPT:
            logger.info(f"{what} is left to the other runs that share it, or to its lease")
        elif outcome is Outcome.NOT_CONFIRMED:
            logger.error(f"{what} is NOT confirmed gone")

    await asyncio.gather(*map(end, tickets))


if __name__ == "__main__":
    from dask_claim import stderr
    from dask_claim.log import configure

    with stderr.written_by(stderr.State.of_guard(os.environ)):
        configure("INFO")
        run_loop(reclaim_all(**json.load(sys.stdin)))
