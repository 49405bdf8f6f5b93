"""The command line: arguments in, exit status out."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from dask_claim import __version__
from dask_claim.cli_clusters import clusters_command
from dask_claim.cli_cwl import cwl_command
from dask_claim.cli_options import claim_options, claimed, seconds_option
from dask_claim.errors import DaskClaimError, UsageError

EPILOG = """\b
Other commands:
  dask-claim show      every effective value, where it comes from, and the plan
  dask-claim clusters  list my clusters on the gateway, stop some
  dask-claim cwl       CWL documents that claim a cluster: translate, check, schema

\b
Exit status: the command's own; 128+n ended by signal n; 126/127 not executable / not found;
64 wrong usage; 75 temporary (try again later); 78 wrong claim or configuration; 70 a defect.
"""


@click.command(
    "dask-claim",
    context_settings={"help_option_names": ["-h", "--help"]},
    options_metavar="[OPTIONS] -- COMMAND [ARG …]",
    epilog=EPILOG,
)
@click.version_option(__version__, prog_name="dask-claim")
@claim_options
@click.option(
    "--start",
    type=click.Choice(["ready", "workers", "eager"]),
    default="ready",
    show_default=True,
    help="Start the command when the scheduler is up, when the minimum of workers is up, or at "
    "once.",
)
@seconds_option("--start-timeout", 600.0, "Longest wait for the cluster.")
@seconds_option("--stop-timeout", 30.0, "Longest wait for the confirmation that it is gone.")
@seconds_option("--grace", 15.0, "From SIGTERM to SIGKILL for the command.", positive=False)
@click.option(
    "--receipt",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="DASK_CLAIM_RECEIPT",
    metavar="FILE",
    help="Write what happened to FILE, as JSON  [env: DASK_CLAIM_RECEIPT].",
)
@click.option("-q", "--quiet", is_flag=True, help="Log warnings and errors only.")
@click.pass_obj
def run_command(command: Sequence[str], /, quiet: bool, **given: Any) -> int:
    """Run COMMAND on a Dask cluster that the claim in DASK_CLAIM describes, and give the cluster
    back however the run ends. Without a claim the cluster is a local one.
    """
    from dask_claim.log import configure

    configure("WARNING" if quiet else "INFO")
    from dask_claim.claim import load
    from dask_claim.launch import conduct, write_receipt
    from dask_claim.options import RunOptions
    from dask_claim.receipt import Receipt

    if not command:
        raise UsageError(
            "there is no command to run; put `--` before it: dask-claim [OPTIONS] -- COMMAND "
            "[ARG …]\nSee dask-claim --help"
        )
    names = ("start", "start_timeout", "stop_timeout", "grace", "receipt")
    options = RunOptions(**{name: given.pop(name) for name in names})
    receipt = Receipt(command)
    try:
        effective = load(claimed(given))
    except DaskClaimError as error:
        receipt.error, receipt.exit_status = str(error), error.exit_status
        write_receipt(receipt, options.receipt)
        raise
    return asyncio.run(conduct(command, effective, options, receipt, owns_process=True))


@click.command("show", context_settings={"help_option_names": ["-h", "--help"]})
@claim_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object: claim, plan, sources.")
def show_command(as_json: bool, **given: Any) -> int:
    """Print every effective value of the claim, the place it comes from, and the plan.

    Nothing is created and no gateway is asked.
    """
    from dask_claim import show
    from dask_claim.claim import load

    effective = load(claimed(given))
    plan = effective.claim.plan()
    print((show.as_json if as_json else show.as_text)(effective, plan))
    return 0


COMMANDS: dict[str, click.Command] = {
    "show": show_command,
    "clusters": clusters_command,
    "cwl": cwl_command,
}


def run_cli(arguments: Sequence[str]) -> int:
    """Run the command line; every error ends here, as a message and an exit status."""
    rest = list(arguments)
    wrapped: list[str] = []
    program = "dask-claim"
    entry = COMMANDS.get(rest[0]) if rest else None
    if entry:
        program = f"{program} {rest.pop(0)}"
    else:
        entry = run_command
        if "--" in rest:
            split = rest.index("--")
            rest, wrapped = rest[:split], rest[split + 1 :]
    try:
        status = entry.main(rest, prog_name=program, standalone_mode=False, obj=wrapped)
        return int(status or 0)
    except click.ClickException as error:
        hint = "" if wrapped or entry is not run_command else ", and put `--` before the command"
        return _fail(UsageError(f"{error.format_message()}\nSee dask-claim --help{hint}"))
    except click.exceptions.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    except DaskClaimError as error:
        if type(error) is DaskClaimError:
            traceback.print_exc()
        return _fail(error)
    except Exception as error:
        traceback.print_exc()
        return _fail(
            DaskClaimError(f"a defect in dask-claim: {type(error).__name__}; please report it")
        )


def _fail(error: DaskClaimError) -> int:
    from dask_claim.redact import redact

    print(f"dask-claim: {redact(str(error))}", file=sys.stderr)
    return error.exit_status


def main() -> NoReturn:
    """The console script."""
    # While nothing is made yet SIGTERM just ends the process, also a container's first one, for
    # which the system has no default; the run itself takes over later.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(128 + signum))
    status = run_cli(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = status or 1
    # Everything is given back: no thread or exit handler of a library may delay or change the end.
    os._exit(status)
