"""Claim → Plan: how many workers, at least and at most. Pure arithmetic, no I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from dask_claim.errors import ClaimError, Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dask_claim.claim import Claim
    from dask_claim.fields import ClaimFields


@dataclass(frozen=True)
class Plan:
    """What will be asked for."""

    provider: str
    """Where the cluster comes from; never `auto`."""

    min_workers: int
    """Workers, at least; 0 only where the claim says so."""

    max_workers: int
    """Workers, at most: where the claim says no ceiling, as many as at least, and one."""

    scaling: Literal["scale", "adapt"]
    """`scale` to a fixed size, or `adapt` between the two bounds."""

    arithmetic: tuple[str, ...]
    """How it was found, in lines for a person."""

    def to_dict(self) -> dict[str, Any]:
        """Return the plan, fit for JSON."""
        return {**asdict(self), "arithmetic": list(self.arithmetic)}


class _Term(NamedTuple):
    """One bound, counted in workers."""

    field: str
    workers: int
    shown: str


def make_plan(claim: Claim, scheduler_address: str | None) -> Plan:
    """Return the plan of a claim. `scheduler_address` is that of a scheduler already there.

    Raises ClaimError, with the arithmetic, if the bounds contradict one another.
    """
    provider, why = _provider(claim, scheduler_address)
    least, most, lines = _bounds(claim)
    fixed = least == most
    size = f"a fixed size of {_count(least)}" if fixed else f"adaptive, {least} to {_count(most)}"
    return Plan(provider, least, most, "scale" if fixed else "adapt", (why, *lines, size))


def bound_faults(claim: ClaimFields) -> list[Fault]:
    """Return what is impossible about a claim's bounds, as faults."""
    try:
        _bounds(claim)
    except ClaimError as error:
        return list(error.faults)
    return []


def _provider(claim: Claim, scheduler_address: str | None) -> tuple[str, str]:
    if claim.provider != "auto":
        return claim.provider, f"provider {claim.provider}: the claim says so"
    if claim.gateway_url:
        return "gateway", "provider gateway: gateway_url is set"
    if scheduler_address:
        return "attach", "provider attach: DASK_SCHEDULER_ADDRESS is set"
    return "local", "provider local: there is neither gateway_url nor DASK_SCHEDULER_ADDRESS"


def _bounds(claim: ClaimFields) -> tuple[int, int, list[str]]:
    floors, lines = _floors(claim)
    ceilings, more = _ceilings(claim)
    floor = max(floors, key=lambda term: term.workers, default=None)
    ceiling = min(ceilings, key=lambda term: term.workers, default=None)
    least = floor.workers if floor else 1
    most = ceiling.workers if ceiling else max(least, 1)
    if ceiling and (most < 1 or least > most):
        raise ClaimError([_impossible(claim, floor, ceiling)])
    lines.append(f"at least {_count(least)}: {_shown('the largest of', floors, 'nothing is said')}")
    lines += more
    lines.append(
        f"at most {_count(most)}: {_shown('the smallest of', ceilings, 'no ceiling said')}"
    )
    return least, most, lines


def _floors(claim: ClaimFields) -> tuple[list[_Term], list[str]]:
    terms, lines = [], []
    if claim.min_workers is not None:
        shown = f"min_workers {claim.min_workers}"
        terms.append(_Term("min_workers", claim.min_workers, shown))
    if claim.min_cores is not None:
        if claim.worker_cores is None:
            lines.append("worker_cores is not said: 1 is taken, to count the workers of min_cores")
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
            lines.append("worker_cores is not said: 1 is taken, to count the workers of max_cores")
        workers = _exact(claim.max_cores) // _exact(cores)
        shown = f"⌊max_cores {claim.max_cores} / {name} {cores}⌋ = {workers}"
        terms.append(_Term("max_cores", workers, shown))
    if claim.max_memory is not None:
        if claim.worker_memory is None:
            lines.append("max_memory bounds nothing here: worker_memory is not said")
        else:
            workers = claim.max_memory.bytes // claim.worker_memory.bytes
            shown = f"⌊max_memory {claim.max_memory} / worker_memory {claim.worker_memory}⌋"
            terms.append(_Term("max_memory", workers, f"{shown} = {workers}"))
    return terms, lines


def _impossible(claim: ClaimFields, floor: _Term | None, ceiling: _Term) -> Fault:
    least = floor.workers if floor else 1
    said = f"at least {_count(least)} ({floor.shown if floor else 'nothing is said'})"
    path = "/".join(term.field for term in (floor, ceiling) if term)
    mend = f"raise {ceiling.field} to {_enough(claim, ceiling.field, max(least, 1))} or more"
    if floor and ceiling.workers:
        mend += f", or lower {floor.field}"
    mend = f"cannot both hold: {said}, at most {ceiling.workers} ({ceiling.shown}); {mend}"
    return Fault(path, None, mend if floor else mend.replace("cannot both hold", "is too small"))


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
