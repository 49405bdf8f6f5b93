"""What is looked at before anything is made, and what is to be requested then."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from loguru import logger

from dask_claim.credentials.login import describe_withheld
from dask_claim.launch.command import check_command
from dask_claim.launch.events import Events
from dask_claim.launch.handoff import check_variables
from dask_claim.launch.run_options import RunOptions
from dask_claim.launch.tracing import TRACEPARENT, Trace
from dask_claim.providers.values import Request

if TYPE_CHECKING:
    from dask_claim.claim.model import Resolved


def prepare(
    run_id: str,
    command: Sequence[str],
    resolved: Resolved,
    options: RunOptions,
    emit: Events,
    trace: Trace,
) -> Request:
    """Return the request for the run's cluster; what can be wrong is looked at before.

    Raises
    ------
    CommandNotFound, CommandNotExecutable, ClaimError
    """
    places = dict.fromkeys(resolved.sources.values())
    if named := [place for place in places if place != "default"]:
        emit.note(f"The claim comes from {', '.join(named)}")
    for line in resolved.plan().arithmetic:
        logger.debug(line)
    if command:
        check_command(command, os.environ)
    check_variables(resolved.claim, resolved.plan(), os.environ)
    if trace.received:
        emit.note(f"This run is part of a trace: {trace.received}")
    if trace.invalid:
        emit.warn(
            f"{TRACEPARENT} = {trace.invalid!r} is not a trace context of W3C's: the command gets "
            "it as it is"
        )
    request = replace(
        Request.of(resolved, options.start_timeout, options.stop_timeout, run_id),
        report=options.report is not None,
    )
    withheld = describe_withheld(resolved)
    for warning in (*resolved.warnings(), withheld):
        if warning:
            emit.warn(warning)
    return request
