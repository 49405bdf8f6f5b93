"""Errors as messages between the launcher and the program that has started it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dask_claim import errors
from dask_claim.errors import ClaimError, DaskClaimError, Fault, Reason
from dask_claim.launch.signals import Interrupted


def to_dict(error: DaskClaimError) -> dict[str, Any]:
    """Return an error as JSON types, for another process; `from_dict` makes it an error again."""
    return {
        "kinds": [kind.__name__ for kind in type(error).__mro__],
        "text": str(error),
        "reason": error.reason.value,
        "faults": [asdict(fault) for fault in getattr(error, "faults", ())],
        "signum": getattr(error, "signum", None),
    }


def from_dict(content: Mapping[str, Any]) -> DaskClaimError:
    """Return the error again; of a class of another module as its nearest base."""
    if content["faults"]:
        return ClaimError(
            Fault(**{**fault, "path": tuple(fault["path"]), "other": tuple(fault["other"])})
            for fault in content["faults"]
        )
    classes = {"Interrupted": Interrupted, **vars(errors)}
    kind = next(classes[name] for name in content["kinds"] if name in classes)
    error: DaskClaimError = kind.__new__(kind, content["text"])
    error.reason = Reason(content["reason"])  # type: ignore[call-arg]
    if isinstance(error, Interrupted):
        error.signum = content["signum"]
    return error
