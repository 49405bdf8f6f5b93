"""What a claim really asks for: the workers, and the size of each, as far as files tell it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from dask_claim.claim.fields import ClaimFields
from dask_claim.claim.memory import Memory
from dask_claim.claim.plan import Plan
from dask_claim.claim.site_sections import GatewayOptions, Policy, WorkerSize
from dask_claim.registry import provider_class

SIZES = {"worker_cores": "cores", "worker_memory": "memory", "gpus": "gpus"}
"""Field of a claim → what it is of a `WorkerSize`."""

BATCH_WORKER = WorkerSize(cores=1, memory=Memory("2 GiB"))
"""The worker of a batch system where the claim does not say."""


@dataclass(frozen=True)
class Effective:
    """The request after options, choices and defaults."""

    minimum: int
    maximum: int
    size: Mapping[str, Any]
    """`worker_cores`, `worker_cores_limit`, `worker_memory`, `gpus`; absent where no file tells."""

    told_by: Mapping[str, str]
    """Field → what tells its size, where that is not the field itself."""

    whole_cores: bool = False
    """Whether a worker has no part of a core."""

    def parts(self, policy: Policy) -> list[tuple[str, Any]]:
        """Return (bound of all workers, what one of them has of it, or would be cut to).

        Cores that no file tells count as one, memory as None.
        """
        cores = max(self.size.get(name, 0) for name in ("worker_cores", "worker_cores_limit"))
        memory = self.size.get("worker_memory")
        unknown = min(1, largest(policy)["max_cores"] or 1)
        return [
            ("max_cores", min(cores or unknown, policy.worker_cores or cores or 1)),
            ("max_memory", memory and min(memory, policy.worker_memory or memory)),
        ]


def effective(
    claim: ClaimFields, plan: Plan, offered: GatewayOptions, sites: frozenset[str]
) -> Effective:
    """Return what is asked for.

    `offered` is what the site says of its gateway's options. A choice among them that the site's
    own file makes, `sites`, is not counted.
    """
    fields = (*SIZES, "worker_cores_limit")
    size = {name: getattr(claim, name) for name in fields if getattr(claim, name) is not None}
    told_by: dict[str, str] = {}

    def grow(name: str, value: Any, by: str) -> None:
        if value and (name not in size or size[name] < value):
            size[name], told_by[name] = value, by

    kind = provider_class(plan.provider)
    for by, one in _told(claim, offered, sites, kind.of_gateway):
        for name, part in SIZES.items():
            if by != DEFAULT or name not in size:
                grow(name, getattr(one, part), by)
    if kind.whole_cores:
        cores = math.ceil(claim.worker_cores_limit or claim.worker_cores or BATCH_WORKER.cores)
        grow("worker_cores", cores, "a job's whole cores")
        if claim.worker_memory is None:
            grow("worker_memory", BATCH_WORKER.memory, "the default of a batch system's worker")
    return Effective(plan.min_workers, plan.max_workers, size, told_by, kind.whole_cores)


DEFAULT = "gateway_options.default"


def _told(
    claim: ClaimFields, offered: GatewayOptions, sites: frozenset[str], on_gateway: bool
) -> Iterator[tuple[str, WorkerSize]]:
    """Yield (what tells it, size) of the worker that options and choices stand for."""
    chosen = False
    for name, value in claim.options.items():
        sizes = offered.choices_for(name)
        chosen = chosen or bool(sizes)
        if str(value) in sizes and f"options.{name}" not in sites:
            yield f"options.{name}", sizes[str(value)]
    if chosen or not on_gateway:
        return
    for name, sizes in offered.choices.items():
        if one := smallest(sizes, claim):
            yield f"gateway_options.choices.{name}", one
    if offered.default is not None:
        yield DEFAULT, offered.default


def smallest(sizes: Mapping[str, WorkerSize], claim: ClaimFields) -> WorkerSize | None:
    """Return the smallest choice that is enough, None where none is, or nothing is claimed."""
    needed = {name: getattr(claim, name) for name in SIZES if getattr(claim, name)}
    if not any(one.gpus for one in sizes.values()):
        needed.pop("gpus", None)
    fitting = [
        one
        for one in sizes.values()
        if all(getattr(one, SIZES[name]) >= value for name, value in needed.items())
    ]
    return min(fitting, key=order, default=None) if needed else None


def order(size: WorkerSize) -> tuple[int, int, float]:
    """Return by what choices are sorted."""
    return size.gpus, size.memory.bytes, size.cores


def largest(policy: Policy) -> dict[str, Any]:
    """Return what a single worker may have: under `max_cores` cores, under `max_memory` memory.

    That is what all together may have at most; None where there is no bound.
    """
    found: dict[str, Any] = {}
    for whole, one in (("max_cores", "worker_cores"), ("max_memory", "worker_memory")):
        bounds = [getattr(policy, name) for name in (whole, one)]
        found[whole] = min((each for each in bounds if each is not None), key=number, default=None)
    return found


def room_for(limit: Any, each: Any) -> int:
    """Return how many workers there is room for."""
    return int(number(limit) // number(each))


def number(value: Any) -> Fraction:
    """Return an amount as its author meant it: 0.1 is no binary fraction."""
    return Fraction(value.bytes if isinstance(value, Memory) else str(value))
