"""The claim's fields as options of a command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dask_claim.claim.fields import MAPPINGS
from dask_claim.claim.texts import Plain
from dask_claim.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

# Each field of the claim is a flag; the texts are short, for docs and `show` tell the rest.
FIELDS: dict[str, tuple[str, str]] = {
    "gateway_url": ("URL", "Dask Gateway to claim the cluster from."),
    "proxy_url": ("URL", "Its scheduler proxy, where that differs."),
    "public_url": ("URL", "Its address in a browser, where that differs."),
    "image": ("IMAGE", "Scheduler and worker image."),
    "worker_cores": ("CORES", "Cores per worker, may be fractional."),
    "worker_cores_limit": ("CORES", "Cores a worker may burst to."),
    "worker_memory": ("MEMORY", "Memory per worker, such as '4 G'."),
    "min_cores": ("CORES", "Minimum of cores, all workers together."),
    "max_cores": ("CORES", "Maximum of cores, all workers together."),
    "max_memory": ("MEMORY", "Maximum of memory, all workers together."),
    "min_workers": ("N", "Minimum number of workers."),
    "max_workers": ("N", "Maximum number of workers."),
    "provider": ("NAME", "auto (default), gateway, local, attach, allocation, slurm, …"),
    "fallback": ("HOW", "fail (default) or local, when the gateway cannot serve."),
    "lease_timeout": ("SECONDS", "A vanished launcher's cluster ends after this; 0: never."),
    "reconnect_timeout": ("SECONDS", "The same where its connection was closed."),
    "max_lifetime": ("SECONDS", "The longest that a run may take."),
    "no_workers_timeout": ("SECONDS", "Tasks without a worker for them fail after this."),
    "local_cores": ("CORES", "Cores granted here: the bound of a local cluster."),
    "local_memory": ("MEMORY", "Memory granted here, the same."),
    "gpus": ("N", "GPUs per worker."),
    "profile": ("NAME", "One of the site's named profiles."),
    "versions": ("HOW", "warn (default), strict or ignore other package versions on workers."),
}


def claim_options(function: F) -> F:
    """Add one flag for each field of the claim."""
    function = click.option(
        "--create/--no-create", default=None, help="--no-create: the program makes its own cluster."
    )(function)
    function = click.option(
        "--strict/--no-strict",
        default=None,
        help="--no-strict: what a site cannot give is a warning.",
    )(function)
    for name, what in (("hpc", "batch setting"), ("environment", "variable of the workers")):
        function = click.option(
            f"--{name}", multiple=True, metavar="NAME=VALUE", help=f"A {what}."
        )(function)
    function = click.option(
        "--option", "options", multiple=True, metavar="NAME=VALUE", help="A further gateway option."
    )(function)
    function = click.option(
        "--env",
        multiple=True,
        metavar="FIELD=NAME",
        help="The variable in which the program wants a field.",
    )(function)
    for field, (metavar, text) in reversed(FIELDS.items()):
        flag = "--" + field.replace("_", "-")
        function = click.option(flag, field, metavar=metavar, help=text)(function)
    return function


def seconds_option(
    flag: str, default: float, text: str, *, positive: bool = True, of_run: bool = False
) -> Callable[[F], F]:
    """An option that takes a number of seconds, greater than 0 or also 0.

    Those `of_run` have their default from `RunOptions`, where the environment comes first.
    """
    return click.option(
        flag,
        type=click.FloatRange(min=0, min_open=positive),
        default=None if of_run else default,
        show_default=f"{default:g}",
        metavar="SECONDS",
        help=text,
    )


def claimed(given: dict[str, Any]) -> dict[str, Any]:
    """The claim's flags that were given, as fields."""
    fields = {name: value for name, value in given.items() if value not in (None, ())}
    for name in MAPPINGS:
        if pairs := fields.get(name):
            fields[name] = dict(_pair(name, pair) for pair in pairs)
    return fields


def _pair(name: str, pair: str) -> tuple[str, Plain]:
    key, equals, value = pair.partition("=")
    if not key or not equals:
        flag = {"env": "--env FIELD=NAME", "options": "--option NAME=VALUE"}.get(
            name, f"--{name} NAME=VALUE"
        )
        raise UsageError(f"{pair!r} is not of the form {flag}")
    return key, Plain(value)
