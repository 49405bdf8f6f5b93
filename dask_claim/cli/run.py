"""The run: by the command line, and for `run()` and `connect()` of a program."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from dask_claim import log, stderr
from dask_claim.claim.model import Resolved, load
from dask_claim.cli.options import claimed
from dask_claim.errors import UsageError, our_error
from dask_claim.files import letters
from dask_claim.launch.caller import Caller
from dask_claim.launch.launcher import Launcher
from dask_claim.launch.receipt import Receipt
from dask_claim.launch.run_options import PREFIX, RunOptions, run_options
from dask_claim.launch.tracing import Trace
from dask_claim.providers.existing import outside_ended_run
from dask_claim.threads import run_loop


def run_command(command: list[str], given: dict[str, Any]) -> int:
    """Run a command with what is `given` on the command line."""
    if not command:
        raise UsageError(
            "there is no command to run; put `--` before it: dask-claim [OPTIONS] -- COMMAND "
            "[ARG …]\nSee dask-claim --help"
        )
    options = {name: given.pop(name) for name in RunOptions.model_fields}
    return _run(command, options, lambda: load(claimed(given)))


def run_for(caller: Caller, command: list[str] | None) -> int:
    """Run a command, or hold a cluster for a block, for the program that has started this."""
    if command is None:
        # Its stdin is for the program, and so is its stdout.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
    log.configure("INFO", caller.log)
    return caller.answer(lambda: _run(command or [], caller.options, caller.claim, caller))


def _run(
    command: list[str],
    given: Mapping[str, Any],
    claim: Callable[[], Resolved],
    caller: Caller | None = None,
) -> int:
    """Run it; an error before the run begins has a receipt and a report, too."""
    trace = Trace.of(os.environ)
    stderr.state.run = run = letters()
    if trace.received:
        stderr.state.trace_id = trace.trace_id
    place = given.get("receipt") or os.environ.get(f"{PREFIX}RECEIPT")
    options = RunOptions.model_construct(receipt=place)
    try:
        options = run_options(**given)
        if caller is None:
            log.configure("DEBUG" if options.verbose else "WARNING" if options.quiet else "INFO")
        resolved = outside_ended_run(claim())
        if resolved.ended:
            for name in os.environ.keys() - resolved.environ.keys():
                del os.environ[name]
        launcher = Launcher(run, trace, command, resolved, options, caller)
    except Exception as error:
        receipt = Receipt(command, None, options.receipt_file(run), run, trace.received)
        receipt.fail(our_error(error))
        receipt.finish(options.report_file(run))
        raise
    return run_loop(launcher.run())
