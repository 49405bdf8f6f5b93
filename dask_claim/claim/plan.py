"""Claim → Plan: how many workers, at least and at most. Pure arithmetic, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Any, Literal, NamedTuple

from dask_claim.amounts import counted
from dask_claim.claim.choice import Choice, choose
from dask_claim.claim.fields import ClaimFields
from dask_claim.claim.units import exact
from dask_claim.errors import Fault
from dask_claim.registry import provider_class

GATEWAY_NAMES = ("gateway_url", "cluster_name", "cluster_name_file")
"""What only a gateway can give: a program that wants a name for one of these speaks to one."""


@dataclass(frozen=True)
class Plan:
    """What will be requested."""

    provider: str
    """Where the cluster comes from; never `auto`."""

    min_workers: int
    """The minimum of workers; 0 only if the claim says so."""

    max_workers: int
    """The maximum of workers; by default the minimum, but at least one."""

    scaling: Literal["scale", "adapt"]
    """`scale` to a fixed size, or `adapt` between the two bounds."""

    arithmetic: tuple[str, ...]
    """How the numbers follow from the claim, in lines for a person."""

    choice: Choice = field(repr=False)
    """Where the cluster comes from, and what takes its place."""

    fills_machine: bool = False
    """Whether the workers get all of this machine, as the claim leaves them open."""

    def size(self) -> str:
        """Return the number of workers, for a person."""
        if self.fills_machine:
            return "as many workers as Dask makes of this machine's cores"
        lowest = f"{self.min_workers} to " if self.scaling == "adapt" else ""
        return lowest + counted(self.max_workers, "worker")

    def to_dict(self) -> dict[str, Any]:
        """Return the plan, fit for JSON."""
        names = ("provider", "min_workers", "max_workers", "scaling")
        shown = {name: getattr(self, name) for name in names}
        return {**shown, "arithmetic": list(self.arithmetic)}


COUNTED_BY: dict[str, tuple[str, ...]] = {
    "min_workers": (),
    "min_cores": ("worker_cores",),
    "max_workers": (),
    "max_cores": ("worker_cores_limit", "worker_cores"),
    "max_memory": ("worker_memory",),
}
"""Bound → the field of a worker's size that counts it in workers, the first that is set."""


class _Term(NamedTuple):
    """One bound, counted in workers."""

    field: str
    workers: int
    shown: str


class Workers(NamedTuple):
    """How many workers a claim requests, and how that was counted."""

    minimum: int
    maximum: int
    ceiling: int | None
    """The most that the claim's own bounds allow; None: there are none."""

    arithmetic: list[str]
    fault: Fault | None
    """Where the bounds contradict one another."""


def make_plan(
    claim: ClaimFields, environ: Mapping[str, str], *, by_command_line: bool = False
) -> Plan:
    """Return the plan of a sound claim; see `choose` for parameters and errors."""
    choice = choose(claim, environ, by_command_line=by_command_line)
    minimum, maximum, _, lines, _ = count_workers(claim)
    fixed = minimum == maximum
    size = f"adaptive, {minimum} to {counted(maximum, 'worker')}"
    if fixed:
        size = f"a fixed size of {counted(minimum, 'worker')}"
    fills = claim.leaves_workers_open() and provider_class(choice.provider).same_machine
    if fills:
        lines = []  # of bounds that the claim leaves open
        size = "a local cluster as Dask itself splits this container's cores into workers"
    why = choice.reason
    if provider_class(choice.backend).starts_gateway:
        speaks = speaks_gateway(claim)
        why += f"; a Dask Gateway is started for the command (extra local-gateway): {speaks}"
    scaling: Literal["scale", "adapt"] = "scale" if fixed else "adapt"
    return Plan(choice.provider, minimum, maximum, scaling, (why, *lines, size), choice, fills)


def speaks_gateway(claim: ClaimFields) -> str | None:
    """Return why a command of this claim speaks to a gateway, None where it need not."""
    if name := next((name for name in GATEWAY_NAMES if name in claim.env), None):
        return f"env.{name} is set"
    return None if claim.create else "create is false"


def count_workers(claim: ClaimFields) -> Workers:
    """Return the minimum and maximum of workers."""
    floors, lines = _terms(claim, "min")
    ceilings, more = _terms(claim, "max")
    least = max(floors, key=lambda term: term.workers, default=None)
    most = min(ceilings, key=lambda term: term.workers, default=None)
    minimum = least.workers if least else 1
    maximum = most.workers if most else max(minimum, 1)
    fault = None
    if most and (maximum < 1 or minimum > maximum):
        fault = _impossible(minimum, least, most)
    lower = _shown("the largest of", floors, "not specified")
    upper = _shown("the smallest of", ceilings, "not specified, so the minimum")
    lines += [f"at least {counted(minimum, 'worker')}: {lower}", *more]
    lines += [f"at most {counted(maximum, 'worker')}: {upper}"]
    return Workers(minimum, maximum, most and most.workers, lines, fault)


def _terms(claim: ClaimFields, which: Literal["min", "max"]) -> tuple[list[_Term], list[str]]:
    terms, notes = [], []
    for bound, names in COUNTED_BY.items():
        value = getattr(claim, bound)
        if value is None or not bound.startswith(which):
            continue
        if not names:
            terms.append(_Term(bound, value, f"{bound} {value}"))
            continue
        name = next((name for name in names if getattr(claim, name) is not None), names[-1])
        each = getattr(claim, name)
        if each is None and bound == "max_memory":
            notes.append(f"{bound} has no effect: {name} is not specified")
            continue
        if each is None:
            notes.append(f"{name} is not specified: {bound} is counted with 1")
            each = 1
        left, right, rounded = ("⌈", "⌉", ceil) if which == "min" else ("⌊", "⌋", floor)
        workers = rounded(exact(value) / exact(each))
        shown = f"{left}{bound} {value} / {name} {each}{right} = {workers}"
        terms.append(_Term(bound, workers, shown))
    return terms, notes


def _impossible(minimum: int, least: _Term | None, most: _Term) -> Fault:
    hint = f"raise {most.field}"
    lower = f"at least {counted(minimum, 'worker')}"
    upper = f"at most {most.workers} ({most.shown})"
    if least is None:
        problem = f"is too small: {lower} (not specified), {upper}"
        return Fault((most.field,), None, problem, hint)
    if most.workers:
        hint += f", or lower {least.field}"
    problem = f"cannot both hold: {lower} ({least.shown}), {upper}"
    return Fault((least.field,), None, problem, hint, other=(most.field,))


def _shown(which: str, terms: Sequence[_Term], nothing: str) -> str:
    shown = ", ".join(term.shown for term in terms) or nothing
    return f"{which} {shown}" if len(terms) > 1 else shown
