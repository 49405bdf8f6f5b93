"""Where clusters come from: one module for each backend, imported when it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from dask_claim.errors import ConfigurationError

if TYPE_CHECKING:
    from dask_claim.providers.base import Provider

PROVIDERS = {
    "gateway": "gateway.provider:GatewayProvider",
    "local": "local.provider:LocalProvider",
    "program-on-gateway": "gateway.program:MarkingProvider",
    "local-gateway": "local.own_gateway:OwnGatewayProvider",
    "local-gateway-cluster": "local.own_gateway:OwnGatewayClusterProvider",
    "attach": "existing:AttachProvider",
    "allocation": "hpc.allocation:AllocationProvider",
    "slurm": "hpc.batch:SlurmProvider",
    "pbs": "hpc.batch:PbsProvider",
    "lsf": "hpc.batch:LsfProvider",
    "sge": "hpc.batch:SgeProvider",
    "oar": "hpc.batch:OarProvider",
    "none": "existing:NoProvider",
}
"""Name → module and class. A new provider is one new module and one line here."""

INNER = ("none", "program-on-gateway", "local-gateway", "local-gateway-cluster")
"""Those that no claim names: they follow from the others and from the rest of the claim."""


def provider_class(name: str) -> type[Provider]:
    """Return the provider of that name; its library is imported only now."""
    if name not in PROVIDERS:
        raise ConfigurationError(
            f"provider {name!r} is not available in this version of dask-claim: use "
            f"{', '.join(known for known in PROVIDERS if known not in INNER)}"
        )
    module, _, attribute = PROVIDERS[name].partition(":")
    found: type[Provider] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return found
