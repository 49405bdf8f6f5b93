"""`dask-claim show`: every effective value, its source, and the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask_claim.claim.fields import leaves
from dask_claim.cli import printing
from dask_claim.cli.printing import cell, table
from dask_claim.redact import redact

if TYPE_CHECKING:
    from dask_claim.claim.model import Resolved
    from dask_claim.claim.plan import Plan


def as_json(resolved: Resolved, plan: Plan) -> str:
    """The object of contract §1: `claim`, `plan`, `sources`."""
    content: dict[str, Any] = {
        "claim": resolved.claim.to_dict(),
        "plan": plan.to_dict(),
        "sources": {},
        "overruled": [one.to_dict() for one in resolved.overruled],
    }
    site = resolved.site
    if site.policy:
        content["policy"] = {"source": site.path, **site.policy.to_dict()}
    if options := site.gateway_options.to_dict():
        content["gateway_options"] = {"source": site.path, **options}
    shown: Any = redact(content)
    shown["sources"] = resolved.shown_sources()
    if site.credentials:
        # Its name alone would mask it.
        shown["credentials"] = {**site.credentials.shown(), "source": site.path}
    return printing.as_json(shown)


def as_text(resolved: Resolved, plan: Plan) -> str:
    """A table of the claim, and the plan with its arithmetic."""
    claim: Any = redact(resolved.claim.to_dict())
    names = [(".".join(path), value) for path, value in leaves(claim).items()]
    rows = [(name, cell(value), resolved.sources.get(name, "default")) for name, value in names]
    lines = ["Claim", *table(rows, "  ")]
    overruled = [one.to_dict() for one in resolved.overruled]
    lines += ["Overruled"] if overruled else []
    lines += [
        f"  {one['field']} {cell(one['value'])} of {one['source']}: by {one['by']}"
        for one in overruled
    ]
    lines += ["Plan", *(f"  {step}" for step in plan.arithmetic)]
    lines += [f"  {warning}" for warning in plan.choice.warnings]
    site = resolved.site
    if site.policy:
        lines.append(f"Policy of {site.path}")
        lines += [f"  {name}: {cell(value)}" for name, value in site.policy.to_dict().items()]
        lines += [f"  {cut}" for cut in resolved.cuts]
    if options := site.gateway_options.to_dict():
        lines.append(f"Options of the gateway, by {site.path}")
        lines += [f"  {name}: {cell(value)}" for name, value in options.items()]
    if own := site.credentials:
        lines.append(f"Credentials of {site.path}: {own.type}, for {own.gateway} alone")
    return "\n".join(lines)
