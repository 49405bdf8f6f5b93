"""The command line of `dask-claim clusters`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dask_claim.cli import printing
from dask_claim.cli.options import seconds_option
from dask_claim.errors import UsageError

if TYPE_CHECKING:
    from dask_claim.lifetime.clusters import ListedCluster

COLUMNS = ("name", "status", "age", "workers", "lease")
OF_SHARED = ("share", "runs", "ends_in")


@click.group("clusters", invoke_without_command=True)
@click.option(
    "--gateway-url", metavar="URL", help="Use this gateway instead of the configured one."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def clusters_command(context: click.Context, gateway_url: str | None, as_json: bool) -> None:
    """List your clusters on the gateway, or stop some.

    Shows their age and workers, and whether a live lease holds them.
    """
    from dask_claim.claim.model import load
    from dask_claim.log import configure

    configure("WARNING")
    context.obj = load({"gateway_url": gateway_url})
    if context.invoked_subcommand is None:
        from dask_claim.lifetime import clusters

        mine = clusters.find(context.obj)
        rows = [{name: getattr(each, name) for name in _columns([each])} for each in mine]
        print(printing.as_json(rows) if as_json else _table(mine))


@clusters_command.command("stop")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--orphaned", is_flag=True, help="Stop clusters whose launcher is certainly gone.")
@seconds_option(
    "--pending-after",
    600.0,
    "With `--orphaned`: the age from which a pending cluster is orphaned; one that runs without a "
    "lease is 60 s later. Not below the longest `--start-timeout` in use.",
    positive=False,
)
@click.option("--share", metavar="KEY", help="Stop the clusters that runs with this key share.")
@click.option("--all", "everything", is_flag=True, help="Stop all your clusters.")
@click.option("--yes", is_flag=True, help="Stop without asking.")
@seconds_option("--stop-timeout", 30.0, "Longest wait for confirmation that they are gone.")
@click.pass_context
def stop_command(
    context: click.Context,
    names: tuple[str, ...],
    orphaned: bool,
    pending_after: float,
    share: str | None,
    everything: bool,
    yes: bool,
    stop_timeout: float,
) -> int:
    """Stop clusters of yours, and wait until they are gone.

    A cluster is orphaned if a run of dask-claim requested it with a lease, and the launcher is
    gone: the lease is silent, or there is none although the cluster is older than
    `--pending-after`. Clusters that do not answer, were made without dask-claim, or have
    lease_timeout 0 are stopped by name only.
    """
    from dask_claim.lifetime import clusters

    if bool(names) + orphaned + bool(share) + everything != 1:
        raise UsageError("say which: NAME …, --share KEY, --orphaned or --all")
    mine = clusters.find(context.obj)
    if unknown := set(names) - {cluster.name for cluster in mine}:
        raise UsageError(f"no cluster of yours: {', '.join(sorted(unknown))}")
    chosen = [
        cluster
        for cluster in mine
        if everything
        or cluster.name in names
        or (share and cluster.share == share.strip())
        or (orphaned and cluster.orphaned(pending_after))
    ]
    if not chosen:
        print("nothing to stop")
        return 0
    if not (names or share or yes):
        _confirm(_table(chosen), [cluster.name for cluster in chosen])
    gone = clusters.stop(context.obj, [cluster.name for cluster in chosen], stop_timeout)
    for name, confirmed in gone.items():
        print(f"{name} is {'gone' if confirmed else 'NOT confirmed gone'}")
    return 0 if all(gone.values()) else 75


def _columns(clusters: Sequence[ListedCluster]) -> tuple[str, ...]:
    return (*COLUMNS, *OF_SHARED) if any(each.share for each in clusters) else COLUMNS


def _table(clusters: Sequence[ListedCluster]) -> str:
    """A table, or one line where there is nothing."""
    if not clusters:
        return "no clusters"
    names = _columns(clusters)
    rows = [[_cell(name, getattr(each, name)) for name in names] for each in clusters]
    return "\n".join(printing.table([[name.upper() for name in names], *rows]))


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "?" if name == "workers" else ""
    return _age(value) if name in ("age", "ends_in") else str(value)


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _confirm(table: str, names: list[str]) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"nothing is stopped without a terminal to ask on. These {len(names)} would be:\n"
            f"{table}\nGive --yes to stop them without confirmation, or name the ones to stop: "
            f"stop {' '.join(names)}"
        )
    print(table)
    if not click.confirm(f"Stop {len(names)}?"):
        raise click.Abort
