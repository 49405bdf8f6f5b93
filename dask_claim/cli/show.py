"""`dask-claim show`: every effective value, its source, and the plan."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from dask_claim.claim.fields import MAPPINGS
from dask_claim.redact import redact

if TYPE_CHECKING:
    from dask_claim.claim.model import Resolved
    from dask_claim.claim.plan import Plan


def as_json(resolved: Resolved, plan: Plan) -> str:
    """The object of contract §1: `claim`, `plan`, `sources`."""
    content: dict[str, Any] = {
        "claim": resolved.claim.to_dict(),
        "plan": plan.to_dict(),
        "sources": dict(resolved.sources),
        "overruled": [one.to_dict() for one in resolved.overruled],
    }
    if resolved.site and resolved.site.policy:
        content["policy"] = {"source": resolved.site.path, **resolved.site.policy.to_dict()}
    if resolved.site and (said := resolved.site.gateway_options.to_dict()):
        content["gateway_options"] = {"source": resolved.site.path, **said}
    shown = redact(content)
    assert isinstance(shown, dict)
    if resolved.site and resolved.site.credentials:
        # Its name alone would mask it.
        shown["credentials"] = resolved.site.credentials.shown()
    return json.dumps(shown, indent=2, ensure_ascii=False)


def as_text(resolved: Resolved, plan: Plan) -> str:
    """A table of the claim, and the plan with its arithmetic."""
    claim = redact(resolved.claim.to_dict())
    assert isinstance(claim, dict)
    rows = [(name, _cell(value), _source(name, resolved)) for name, value in _flat(claim)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = ["Claim"]
    lines += [f"  {name:<{widths[0]}}  {value:<{widths[1]}}  {at}" for name, value, at in rows]
    if overruled := [one.to_dict() for one in resolved.overruled]:
        lines.append("Overruled")
        lines += [
            f"  {one['field']} {_cell(one['value'])} of {one['source']}: by {one['by']}"
            for one in overruled
        ]
    lines += ["Plan", *(f"  {step}" for step in plan.arithmetic)]
    if resolved.site and resolved.site.policy:
        bounds = resolved.site.policy.to_dict()
        lines.append(f"Policy of {resolved.site.path}")
        lines += [f"  {name}: {_cell(value)}" for name, value in bounds.items()]
        lines += [f"  {cut}" for cut in resolved.cuts]
    if resolved.site and (said := resolved.site.gateway_options.to_dict()):
        lines.append(f"Options of the gateway, by {resolved.site.path}")
        lines += [f"  {name}: {_cell(value)}" for name, value in said.items()]
    if resolved.site and (found := resolved.site.credentials):
        lines.append(f"Credentials of {found.path}: {found.type}, for {found.gateway} alone")
    return os.linesep.join(line.rstrip() for line in lines)


def _flat(claim: dict[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in claim.items():
        if isinstance(value, dict) and name in MAPPINGS:
            rows += [(f"{name}.{key}", item) for key, item in value.items()]
        else:
            rows.append((name, value))
    return rows


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _source(name: str, resolved: Resolved) -> str:
    return resolved.sources.get(name, "default")
