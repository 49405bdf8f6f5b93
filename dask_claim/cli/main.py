"""The command line: arguments in, exit status out."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from dask_claim import __version__, stderr
from dask_claim.cli.clusters import clusters_command
from dask_claim.cli.cwl import cwl_command
from dask_claim.cli.doctor import doctor_command
from dask_claim.cli.options import claim_options, claimed, run_flags
from dask_claim.cli.receipts import receipts_command
from dask_claim.errors import DaskClaimError, Reason, UsageError, our_error
from dask_claim.launch import inherited
from dask_claim.launch.first_process import become_init
from dask_claim.launch.terminal import process_ends

EPILOG = """\b
Exit status: the command's own; 128+n ended by signal n; 126/127 not executable / not found;
64 wrong usage; 75 temporary (try again later); 78 wrong claim or configuration; 70 a defect;
124 max_lifetime ended a command that then returned 0.

Each option of the run may also come from a variable: DASK_CLAIM_RECEIPT, DASK_CLAIM_STOP_TIMEOUT …
"""


class LauncherGroup(click.Group):
    """Runs the command after the first `--`, word for word; without one, a command of its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        before = args[: args.index("--")] if "--" in args else args
        _, rest, _ = self.make_parser(ctx).parse_args(args=list(before))
        if "--" in args and not rest:
            # click would take the first word for the name of a command of ours.
            ctx.obj = args[len(before) + 1 :]
            args = before
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            shown = (name for name in sorted(self.commands) if not self.commands[name].hidden)
            known = ", ".join(shown)
            ctx.fail(f"{args[0]!r} is not one of {known}; put `--` before the command to run")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if ctx.obj is not None:
            return [CompletionItem(incomplete, type="file")]
        return super().shell_complete(ctx, incomplete)


@click.group(
    "dask-claim",
    cls=LauncherGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="-- COMMAND [ARG …]",
    epilog=EPILOG,
)
@click.version_option(__version__, prog_name="dask-claim")
@claim_options
@run_flags
@click.option(
    "--caller", type=int, hidden=True, help="The descriptor of a socket (see launch.caller)."
)
@click.pass_context
def cli(context: click.Context, /, **given: Any) -> int | None:
    """dask-claim runs COMMAND on a Dask cluster that it requests for you, and shuts the cluster
    down however the run ends.

    The claim in DASK_CLAIM, or the options, say what the cluster needs. Every field is optional;
    the defaults depend on where the command runs.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return None
    from dask_claim.cli.run import run_command, run_for
    from dask_claim.launch.caller import Caller

    if (socket := given.pop("caller")) is not None:
        return run_for(Caller(socket), context.obj)
    return run_command(context.obj or [], given)


def _refuse_options(context: click.Context) -> None:
    """Options of the run stand before a command that is none: they would be passed over."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is ParameterSource.COMMANDLINE:
            name = context.invoked_subcommand
            context.fail(f"{parameter.opts[0]} does not belong before {name}: see {name} --help")


@cli.command("show")
@claim_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON: claim, plan, sources.")
def show_command(as_json: bool, **given: Any) -> int:
    """Print every effective value with its source, and the plan.

    Nothing is created, and no gateway gets a request.
    """
    from dask_claim.claim.model import load
    from dask_claim.cli import show

    effective = load(claimed(given))
    plan = effective.plan()
    print((show.as_json if as_json else show.as_text)(effective, plan))
    return 0


@cli.command("schema")
@click.option("--json", is_flag=True, hidden=True, expose_value=False, help="As always.")
@click.option("--site", is_flag=True, help="Print the schema of the site file.")
@click.option("--receipt", is_flag=True, help="Print the schema of a receipt.")
@click.option(
    "--events",
    is_flag=True,
    help="Print the schema of a line of the JSON log (`--log-format json`).",
)
def schema_command(site: bool, receipt: bool, events: bool) -> int:
    """Print the JSON Schema of the claim, or of the site file, a receipt or the log."""
    from dask_claim.claim import site as site_file
    from dask_claim.cwl import schema

    if receipt:
        from dask_claim.receipts import fields

        text = fields.schema_text()
    elif events:
        from dask_claim.launch import event_log

        text = event_log.schema_text()
    else:
        text = site_file.schema_text() if site else schema.write_claim_schema()
    sys.stdout.write(text)
    return 0


cli.add_command(clusters_command)
cli.add_command(cwl_command)
cli.add_command(doctor_command)
cli.add_command(receipts_command)


def run_cli(arguments: Sequence[str]) -> int:
    """Run the command line; every error ends here, as a message and an exit status."""
    with stderr.written_by(stderr.State.by(arguments, os.environ)):
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    stdout = sys.stdout
    try:
        return int(cli.main(list(arguments), prog_name="dask-claim", standalone_mode=False) or 0)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "dask-claim"
        return _fail(UsageError(f"{error.format_message()}\nSee {path} --help"))
    except (click.exceptions.Abort, KeyboardInterrupt):
        return 130
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and "_DASK_CLAIM_COMPLETE" in os.environ:
            return int(error.code or 0)  # click has printed what completes a word
        if isinstance(error, SystemExit) and sys.stdout is not stdout:
            return 1  # click has wrapped it and ends, for nobody reads it any more
        return _fail(our_error(error))


def _fail(error: DaskClaimError) -> int:
    """Write the error that is being handled; return the exit status."""
    trace = traceback.format_exc() if error.reason is Reason.DEFECT else None
    own = {"reason": error.reason.value, "exit_status": error.exit_status, "traceback": trace}
    stderr.tell(str(error), "error", "ERROR", **own)
    return error.exit_status


def main() -> NoReturn:
    """The console script."""
    inherited.take_over()
    become_init()
    # While nothing is made yet SIGTERM just ends the process, also a container's first one, for
    # which the system has no default; the run itself takes over later.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(128 + signum))
    status = run_cli(sys.argv[1:])
    # In a run nothing of ours is on stdout; what `show` prints is its result. A log that cannot be
    # written changes no status.
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except OSError:
        status = status or 1
    for end in process_ends:
        end()
    # Everything is released: no thread or exit handler of a library may delay or change the end.
    os._exit(status)
