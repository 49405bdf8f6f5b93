"""Runs a command on a Dask cluster that it requests, and shuts the cluster down at the end.

Names are loaded when they are first used: importing the package costs nothing and does nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim
    from dask_claim.claim.plan import Plan
    from dask_claim.errors import ClaimError, ConfigurationError, DaskClaimError, TemporaryError
    from dask_claim.library import Result, connect, run

__all__ = [
    "Claim",
    "ClaimError",
    "ConfigurationError",
    "DaskClaimError",
    "Plan",
    "Result",
    "TemporaryError",
    "__version__",
    "connect",
    "run",
]

_HOMES = {
    "Claim": "claim.model",
    "ClaimError": "errors",
    "ConfigurationError": "errors",
    "DaskClaimError": "errors",
    "Plan": "claim.plan",
    "Result": "library",
    "TemporaryError": "errors",
    "connect": "library",
    "run": "library",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
