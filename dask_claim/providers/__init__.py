"""Where clusters come from: one module for each backend, imported when it is needed."""

from __future__ import annotations

from dask_claim.errors import ConfigurationError
from dask_claim.handoff import SCHEDULER_ADDRESS
from dask_claim.providers.base import Order, Provider

__all__ = ["make_provider"]


def make_provider(name: str, order: Order) -> Provider:
    """The provider of that name; its library is imported only now."""
    if name == "gateway":
        from dask_claim.providers.gateway import GatewayProvider

        return GatewayProvider(order)
    if name == "local":
        from dask_claim.providers.local import LocalProvider

        return LocalProvider(order)
    if name == "attach":
        from dask_claim.providers.attach import AttachProvider

        return AttachProvider(order)
    if name == "none":
        from dask_claim.providers.none import NoProvider

        return NoProvider(order)
    raise ConfigurationError(
        f"provider {name!r} is not available in this version of dask-claim: use gateway, local or "
        f"attach (start a scheduler yourself and set {SCHEDULER_ADDRESS})"
    )
