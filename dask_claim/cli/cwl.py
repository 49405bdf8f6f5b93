"""`dask-claim cwl`: CWL documents that claim a cluster, translated, checked and described."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dask_claim.cli import printing

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("cwl")
def cwl_command() -> None:
    """CWL documents that claim a cluster: translate, check, schema."""


@cwl_command.command("translate")
@click.argument("file")
@click.option("-o", "--output", type=_FILE, metavar="OUT", help="Write to OUT; default: stdout.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, even if FILE is YAML.")
@click.option("--gateway-url", metavar="URL", help="Set DASK_CLAIM_GATEWAY_URL for every tool.")
@click.option("--share", is_flag=True, help="Add an input for the key of a shared cluster.")
def translate_command(
    file: str, output: Path | None, as_json: bool, gateway_url: str | None, share: bool
) -> int:
    """Write FILE so that any CWL runner runs it on the cluster that it claims.

    FILE may end in #id; - is standard input. Relative references hold beside FILE, or beside
    OUT where that is given.
    """
    from dask_claim.cwl.translate import translate

    text = translate(
        file,
        output,
        as_json,
        gateway_url,
        share,
        warn=lambda text: click.echo(f"warning: {text}", err=True),
    )
    if output is None:
        sys.stdout.write(text)
    else:
        _write(output, text)
    return 0


@cwl_command.command("check")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: claims, findings.")
def check_command(file: str, as_json: bool) -> int:
    """Print what each step of FILE claims, and what would go wrong where.

    Ends with 78 where something is wrong for certain, with 0 where there are warnings only.
    """
    from dask_claim.cwl.check import check

    report = check(file)
    content = report.to_dict()
    if as_json:
        print(printing.as_json(content))
        return report.exit_status
    for claim in content["claims"]:
        rows = [(name, printing.cell(value)) for name, value in claim["claim"].items()]
        print(f"{claim['step']}  ({claim['place']})", *printing.table(rows, "  "), sep="\n")
    if not content["claims"]:
        print("Nothing here claims a cluster.")
    for one in content["findings"]:
        print(f"{one['place']}: {one['level']}: {one['text']}")
    return report.exit_status


@cwl_command.command("schema")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Schema, for editors.")
def schema_command(as_json: bool) -> int:
    """Print the schema of DaskGatewayRequirement: SALAD, for runners, in JSON."""
    from dask_claim.cwl import schema

    made = schema.make_schema() if as_json else schema.make_salad()
    print(printing.as_json(made))
    return 0


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all: it may be the one that was read."""
    from dask_claim.errors import ConfigurationError
    from dask_claim.files import write_whole

    try:
        write_whole(path, text)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
