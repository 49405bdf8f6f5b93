"""The command line of `dask-claim doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dask_claim.cli import printing
from dask_claim.cli.options import claim_options, claimed, seconds_option
from dask_claim.launch.signals import Interrupted, until_signal
from dask_claim.threads import run_loop

if TYPE_CHECKING:
    from dask_claim.doctor.finding import Finding


@click.command("doctor")
@claim_options
@click.option(
    "--start", is_flag=True, help="Start the smallest cluster, run a task on it and release it."
)
@seconds_option("--start-timeout", 300.0, "With `--start`: longest wait for the cluster.")
@seconds_option(
    "--stop-timeout", 30.0, "With `--start`: longest wait for confirmation that it is gone."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor_command(
    start: bool, start_timeout: float, stop_timeout: float, as_json: bool, **given: Any
) -> int:
    """Check every part of a run here, with a hint for each that fails.

    Ends with 0 if nothing fails, otherwise with the status (75 or 78) that a run would end with.
    """
    from dask_claim.doctor.examine import examine, exit_status
    from dask_claim.log import configure

    configure("ERROR")

    findings: list[Finding] = []

    async def work() -> None:
        async for finding in examine(
            claimed(given), start=start, start_timeout=start_timeout, stop_timeout=stop_timeout
        ):
            findings.append(finding)
            if not as_json:
                print(finding, flush=True)

    interrupted = None
    try:
        run_loop(until_signal(work()))
    except Interrupted as error:
        interrupted = error
    if as_json:
        print(printing.as_json([each.to_dict() for each in findings]))
    if interrupted is not None:
        raise interrupted
    return exit_status(findings)
