"""What a check finds, and what the checks know of the run that they examine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dask_claim.claim.model import Resolved
from dask_claim.errors import DaskClaimError
from dask_claim.providers.base import Provider
from dask_claim.redact import redact
from dask_claim.registry import provider_class

TEMPORARY, WRONG = 75, 78
"""The statuses of a run that fails for such a reason."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    """The part that was looked at."""

    state: Literal["ok", "warn", "fail"]
    message: str
    hint: str = ""
    """How to correct it; empty where all is well, or where the message says so."""

    status: int = 0
    """What a run would end with; 0 where it would go on."""

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON types, secrets masked."""
        return {name: redact(text) for name, text in asdict(self).items() if name != "status"}

    def __str__(self) -> str:
        shown = self.to_dict()
        message = shown["message"].replace("\n", "\n      ")
        hint = f"\n      hint: {shown['hint']}" if self.hint else ""
        return f"{self.state:<4}  {self.name}: {message}{hint}"


def ok(name: str, message: str) -> Finding:
    return Finding(name, "ok", message)


def warn(name: str, message: str, hint: str = "") -> Finding:
    return Finding(name, "warn", message, hint)


def fail(name: str, message: str, hint: str = "", status: int = WRONG) -> Finding:
    return Finding(name, "fail", message, hint, status)


def fail_with(name: str, error: DaskClaimError, hint: str = "") -> Finding:
    """The finding for what would end a run with this error."""
    return fail(name, str(error), hint, error.exit_status)


@dataclass(frozen=True)
class Examined:
    """The run that would be made."""

    resolved: Resolved
    provider: Provider

    @property
    def uses_gateway(self) -> bool:
        kind = provider_class(self.provider.request.plan.provider)
        return kind.of_gateway and self.resolved.claim.gateway_url is not None
