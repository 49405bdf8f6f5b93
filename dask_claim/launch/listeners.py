"""Who listens to the events of a run, by its options and what is around it."""

from __future__ import annotations

import os

from dask_claim import stderr
from dask_claim.launch import event_log, status_line
from dask_claim.launch.events import Events
from dask_claim.launch.progress import ProgressReports
from dask_claim.launch.receipt import Receipt
from dask_claim.launch.run_options import RunOptions
from dask_claim.launch.spans import Spans, exports
from dask_claim.launch.tracing import Trace


def listened(
    receipt: Receipt, run_id: str, trace: Trace, options: RunOptions, *, by_program: bool
) -> Events:
    """Return what events are given to; `by_program`: a program reads the log."""
    emit = Events([receipt, event_log.log])
    for_people = not by_program and not stderr.state.as_json
    if for_people and not options.quiet and status_line.is_wanted(os.environ):
        emit.add(status_line.StatusLine())
    if not (for_people and os.isatty(2)):
        emit.add(ProgressReports(emit))
    if exports(os.environ):
        emit.add(Spans(trace, run_id, os.environ))
    return emit
