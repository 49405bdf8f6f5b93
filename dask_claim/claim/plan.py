"""Claim → Plan: how many workers, at least and at most. Pure arithmetic, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dask_claim.claim.choice import Choice, choose
from dask_claim.claim.fields import ClaimFields
from dask_claim.errors import ClaimError, Fault
from dask_claim.registry import provider_class

if TYPE_CHECKING:
    from collections.abc import Iterable


GATEWAY_NAMES = ("gateway_url", "cluster_name", "cluster_name_file")
"""What only a gateway can give: a program that wants a name for one of these speaks to one."""


@dataclass(frozen=True)
class Plan:
    """What will be asked for."""

    provider: str
    """Where the cluster comes from; never `auto`."""

    min_workers: int
    """The minimum of workers; 0 only where the claim says so."""

    max_workers: int
    """The maximum of workers: where the claim says none, the minimum, but at least one."""

    scaling: Literal["scale", "adapt"]
    """`scale` to a fixed size, or `adapt` between the two bounds."""

    arithmetic: tuple[str, ...]
    """How it was found, in lines for a person."""

    choice: Choice = field(repr=False)
    """Where the cluster comes from, and what takes its place."""

    fills_machine: bool = False
    """Whether the workers get all of this machine, as the claim leaves them open."""

    def to_dict(self) -> dict[str, Any]:
        """Return the plan, fit for JSON."""
        names = ("provider", "min_workers", "max_workers", "scaling")
        shown = {name: getattr(self, name) for name in names}
        return {**shown, "arithmetic": list(self.arithmetic)}


class _Term(NamedTuple):
    """One bound, counted in workers."""

    field: str
    workers: int
    shown: str


def make_plan(
    claim: ClaimFields, environ: Mapping[str, str], *, by_command_line: bool = False
) -> Plan:
    """Return the plan of a claim; see `choose` for the parameters.

    Raises ClaimError, with the arithmetic, if the bounds contradict one another.
    """
    choice = choose(claim, environ, by_command_line=by_command_line)
    minimum, maximum, lines = _bounds(claim)
    fixed = minimum == maximum
    size = (
        f"a fixed size of {_count(minimum)}"
        if fixed
        else f"adaptive, {minimum} to {_count(maximum)}"
    )
    fills = claim.leaves_workers_open() and provider_class(choice.provider).same_machine
    if fills:
        size = "a local cluster as Dask itself splits this container's cores into workers"
    why = choice.reason
    if provider_class(choice.backend).starts_gateway:
        speaks = speaks_gateway(claim)
        why += f"; a Dask Gateway is started for the command (extra local-gateway): {speaks}"
    scaling: Literal["scale", "adapt"] = "scale" if fixed else "adapt"
    return Plan(choice.provider, minimum, maximum, scaling, (why, *lines, size), choice, fills)


def speaks_gateway(claim: ClaimFields) -> str | None:
    """Return what tells that a command of this claim speaks to a gateway, None if nothing does."""
    if name := next((name for name in GATEWAY_NAMES if name in claim.env), None):
        return f"env.{name} is set"
    return None if claim.create else "create is false"


def bound_faults(claim: ClaimFields) -> list[Fault]:
    """Return what is impossible about a claim's bounds, as faults."""
    try:
        _bounds(claim)
    except ClaimError as error:
        return list(error.faults)
    return []


def resized(plan: Plan, claim: ClaimFields) -> Plan:
    """Return a plan with the numbers of workers of another claim."""
    minimum, maximum, lines = _bounds(claim)
    scaling: Literal["scale", "adapt"] = "scale" if minimum == maximum else "adapt"
    choice = plan.choice if claim.fallback != "fail" else replace(plan.choice, fallback=None)
    return replace(
        plan,
        min_workers=minimum,
        max_workers=maximum,
        scaling=scaling,
        arithmetic=(plan.arithmetic[0], *lines),
        choice=choice,
    )


def ceiling(claim: ClaimFields) -> int | None:
    """Return the most workers that a claim's own bounds allow; None: it has none."""
    return min((term.workers for term in _ceilings(claim)[0]), default=None)


def _bounds(claim: ClaimFields) -> tuple[int, int, list[str]]:
    floors, lines = _floors(claim)
    ceilings, more = _ceilings(claim)
    floor = max(floors, key=lambda term: term.workers, default=None)
    ceiling = min(ceilings, key=lambda term: term.workers, default=None)
    minimum = floor.workers if floor else 1
    maximum = ceiling.workers if ceiling else max(minimum, 1)
    if ceiling and (maximum < 1 or minimum > maximum):
        raise ClaimError([_impossible(claim, floor, ceiling)])
    lines.append(f"at least {_count(minimum)}: {_shown('the largest of', floors, 'not specified')}")
    lines += more
    lines.append(f"at most {_count(maximum)}: {_shown('the smallest of', ceilings, 'no bound')}")
    return minimum, maximum, lines


def _floors(claim: ClaimFields) -> tuple[list[_Term], list[str]]:
    terms, lines = [], []
    if claim.min_workers is not None:
        shown = f"min_workers {claim.min_workers}"
        terms.append(_Term("min_workers", claim.min_workers, shown))
    if claim.min_cores is not None:
        if claim.worker_cores is None:
            lines.append("worker_cores is not specified: min_cores is counted with 1")
        cores = 1 if claim.worker_cores is None else claim.worker_cores
        # ⌈a / b⌉; the text of a number is what its author meant, 0.1 is no binary fraction.
        workers = -(-_exact(claim.min_cores) // _exact(cores))
        shown = f"⌈min_cores {claim.min_cores} / worker_cores {cores}⌉ = {workers}"
        terms.append(_Term("min_cores", workers, shown))
    return terms, lines


def _ceilings(claim: ClaimFields) -> tuple[list[_Term], list[str]]:
    terms, lines = [], []
    if claim.max_workers is not None:
        shown = f"max_workers {claim.max_workers}"
        terms.append(_Term("max_workers", claim.max_workers, shown))
    if claim.max_cores is not None:
        name, cores = "worker_cores_limit", claim.worker_cores_limit
        if cores is None:
            name, cores = "worker_cores", claim.worker_cores
        if cores is None:
            cores = 1
            lines.append("worker_cores is not specified: max_cores is counted with 1")
        workers = _exact(claim.max_cores) // _exact(cores)
        shown = f"⌊max_cores {claim.max_cores} / {name} {cores}⌋ = {workers}"
        terms.append(_Term("max_cores", workers, shown))
    if claim.max_memory is not None:
        if claim.worker_memory is None:
            lines.append("max_memory has no effect: worker_memory is not specified")
        else:
            workers = claim.max_memory.bytes // claim.worker_memory.bytes
            shown = f"⌊max_memory {claim.max_memory} / worker_memory {claim.worker_memory}⌋"
            terms.append(_Term("max_memory", workers, f"{shown} = {workers}"))
    return terms, lines


def _impossible(claim: ClaimFields, floor: _Term | None, ceiling: _Term) -> Fault:
    minimum = floor.workers if floor else 1
    least = f"at least {_count(minimum)} ({floor.shown if floor else 'not specified'})"
    hint = f"raise {ceiling.field} to {_enough(claim, ceiling.field, max(minimum, 1))} or more"
    if floor and ceiling.workers:
        hint += f", or lower {floor.field}"
    problem = f"{least}, at most {ceiling.workers} ({ceiling.shown})"
    if floor is None:
        return Fault((ceiling.field,), None, f"is too small: {problem}", hint)
    path, other = (floor.field,), (ceiling.field,)
    return Fault(path, None, f"cannot both hold: {problem}", hint, other=other)


def _enough(claim: ClaimFields, field: str, workers: int) -> str:
    """Return the smallest value of a ceiling that has room for so many workers."""
    if field == "max_cores":
        cores = _exact(claim.worker_cores_limit or claim.worker_cores or 1) * workers
        return str(cores) if cores.denominator == 1 else str(float(cores))
    if field == "max_memory":
        return f"{workers} × {claim.worker_memory}"
    return str(workers)


def _shown(which: str, terms: Iterable[_Term], nothing: str) -> str:
    shown = [term.shown for term in terms]
    if not shown:
        return nothing
    return shown[0] if len(shown) == 1 else f"{which} {', '.join(shown)}"


def _exact(number: int | float) -> Fraction:
    return Fraction(str(number))


def _count(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"
