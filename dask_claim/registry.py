"""The providers by name: those of dask-claim, and those that other packages bring.

Each is imported only when it is looked up. A new one is a module in `providers` and a line here,
or a module of another package and its entry point.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from dask_claim.errors import ConfigurationError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from dask_claim.providers.base import Provider

ENTRY_POINTS = "dask_claim.providers"
"""The group under which other packages register a class of theirs."""

PROVIDERS = {
    "gateway": "gateway.provider:GatewayProvider",
    "local": "local.local_provider:LocalProvider",
    "attach": "existing:AttachProvider",
    "allocation": "hpc.allocation:AllocationProvider",
    "slurm": "hpc.batch:SlurmProvider",
    "pbs": "hpc.batch:PbsProvider",
    "lsf": "hpc.batch:LsfProvider",
    "sge": "hpc.batch:SgeProvider",
    "oar": "hpc.batch:OarProvider",
    "htcondor": "hpc.batch:HTCondorProvider",
}
"""Name that a claim may give → module below `dask_claim.providers`, and its class."""

SUBSTITUTES = {
    "none": "existing:NoProvider",
    "shared-gateway": "gateway.shared:SharedGatewayProvider",
    "program-on-gateway": "gateway.program:MarkingProvider",
    "local-gateway": "local.own_gateway:OwnGatewayProvider",
    "local-gateway-cluster": "local.own_gateway:OwnGatewayClusterProvider",
}
"""Those that no claim names: one of the others has them take its place (`Provider.serves_with`)."""


def is_provider(name: str) -> bool:
    """Whether a claim may name it; other packages are looked at only for names unknown here."""
    return name in PROVIDERS or name in _brought()


def available() -> tuple[str, ...]:
    """Return all names that a claim may give on this machine."""
    return (*PROVIDERS, *sorted(_brought().keys() - PROVIDERS.keys()))


@cache
def provider_class(name: str) -> type[Provider]:
    """Return the provider of that name.

    Raises
    ------
    ConfigurationError
        There is none, or the package that brings it cannot be imported, or is not complete.
    """
    name = name.lower()
    if where := PROVIDERS.get(name) or SUBSTITUTES.get(name):
        module, _, attribute = where.partition(":")
        of_name: type[Provider] = getattr(
            import_module(f"dask_claim.providers.{module}"), attribute
        )
        return of_name
    if (entry := _brought().get(name)) is None:
        raise ConfigurationError(f"unknown provider {name!r}; available: {', '.join(available())}")
    package = entry.dist.name if entry.dist else entry.module
    try:
        brought = entry.load()
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            f"provider {name} of {package} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    base = import_module("dask_claim.providers.base").Provider
    right = isinstance(brought, type) and issubclass(brought, base)
    if not right or str(getattr(brought, "name", "")).lower() != name:
        raise ConfigurationError(
            f"provider {name} of {package}: {entry.value} is not a subclass of "
            f"dask_claim.providers.base.Provider with name = {name!r}"
        )
    if missing := sorted(brought.__abstractmethods__):
        raise ConfigurationError(
            f"provider {name} of {package}: {entry.value} does not define {', '.join(missing)}"
        )
    brought_class: type[Provider] = brought
    return brought_class


def _brought() -> dict[str, EntryPoint]:
    """Return name in lower case, as a claim has it, → entry point."""
    from importlib.metadata import entry_points

    return {entry.name.lower(): entry for entry in entry_points(group=ENTRY_POINTS)}
