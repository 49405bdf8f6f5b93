"""`dask-claim show`: every effective value, the place it came from, and the plan."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from dask_claim.redact import redact

if TYPE_CHECKING:
    from dask_claim.claim import Effective
    from dask_claim.plan import Plan


def as_json(effective: Effective, plan: Plan) -> str:
    """The object of contract §1: `claim`, `plan`, `sources`."""
    content = {
        "claim": effective.claim.to_dict(),
        "plan": plan.to_dict(),
        "sources": dict(effective.sources),
    }
    return json.dumps(redact(content), indent=2, ensure_ascii=False)


def as_text(effective: Effective, plan: Plan) -> str:
    """A table of the claim, and the plan with its arithmetic."""
    claim = redact(effective.claim.to_dict())
    assert isinstance(claim, dict)
    rows = [(name, _cell(value), _place(name, effective)) for name, value in _flat(claim)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = ["Claim"]
    lines += [f"  {name:<{widths[0]}}  {value:<{widths[1]}}  {at}" for name, value, at in rows]
    lines += ["Plan", *(f"  {step}" for step in plan.arithmetic)]
    return os.linesep.join(line.rstrip() for line in lines)


def _flat(claim: dict[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in claim.items():
        if isinstance(value, dict) and name in ("env", "options"):
            rows += [(f"{name}.{key}", item) for key, item in value.items()]
        else:
            rows.append((name, value))
    return rows


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _place(name: str, effective: Effective) -> str:
    return effective.sources.get(name, "default")
