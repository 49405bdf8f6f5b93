"""What runs on one cluster have in common: the key that an operator gives, and the same request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from dask_claim.claim.units import json_copy
from dask_claim.providers.versions import installed_versions

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim

SAME = (
    "image",
    "options",
    "worker_cores",
    "worker_cores_limit",
    "worker_memory",
    "gpus",
    "environment",
    "no_workers_timeout",
)
"""Fields in which all runs on one cluster agree; of the bounds on workers each has its own."""


@dataclass(frozen=True)
class Share:
    """Which runs may use a cluster together."""

    key: str

    digest: str
    """Of all that their requests have in common: no value of it can be read from here."""

    @classmethod
    def of(cls, claim: Claim) -> Share | None:
        """Return what a claim shares; None where that is nothing."""
        if claim.share is None:
            return None
        same = {name: _plain(getattr(claim, name)) for name in SAME}
        if claim.versions == "strict":
            same["versions"] = installed_versions()
        text = json.dumps(same, sort_keys=True, default=str)
        return cls(claim.share, sha256(text.encode()).hexdigest()[:32])


def told_by_others(key: object, digest: object) -> Share | None:
    """Return what a gateway or scheduler tells; None where that is nothing that a run wrote."""
    if not (isinstance(key, str) and isinstance(digest, str)):
        return None
    return Share(key, digest) if key and f"{key}{digest}".isprintable() else None


def _plain(value: Any) -> Any:
    """Return a value so that equal ones have the same text: 4 and 4.0, 1 G and 1024 M."""
    if isinstance(value, Mapping):
        return json_copy(value)
    return float(value) if isinstance(value, int | float) else value
