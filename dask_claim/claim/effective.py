"""What a claim really asks for: the workers, and the size of each, as far as files tell it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from dask_claim.claim.fields import ClaimFields, Path
from dask_claim.claim.memory import Memory
from dask_claim.claim.plan import count_workers
from dask_claim.claim.site_sections import GatewayOptions, Policy, WorkerSize
from dask_claim.claim.units import exact
from dask_claim.registry import provider_class

SIZES = {"worker_cores": "cores", "worker_memory": "memory", "gpus": "gpus"}
"""Field of a claim → what it is of a `WorkerSize`."""

BATCH_WORKER = WorkerSize(cores=1, memory=Memory("2 GiB"))
"""The worker of a batch system where the claim does not say."""


DEFAULT = "gateway_options.default"


class Amount(NamedTuple):
    """How much a worker has of something."""

    value: Any
    path: Path
    """The field or option of the claim that it comes from, or would come from."""

    cause: str = ""
    """What decides it in place of that field."""


@dataclass(frozen=True)
class Effective:
    """The request after options, choices and defaults."""

    workers: int
    """The maximum."""

    size: Mapping[str, Amount]
    """`worker_cores`, `worker_cores_limit`, `worker_memory`, `gpus`; absent where no file tells."""

    def room(self, policy: Policy) -> list[tuple[str, int, Any]]:
        """Return (bound of all workers, how many it has room for, what each of them has).

        A worker counts with no more than the policy allows it. Cores that no file tells count as
        one; memory that no file tells is not counted.
        """
        names = [name for name in ("worker_cores", "worker_cores_limit") if name in self.size]
        unknown = min(1, policy.max_cores or 1)
        cores = max((self.size[name].value for name in names), default=unknown)
        memory = self.size.get("worker_memory")
        each = {
            "max_cores": _at_most(policy.worker_cores, cores),
            "max_memory": memory and _at_most(policy.worker_memory, memory.value),
        }
        return [
            (bound, int(exact(limit) // exact(has)), has)
            for bound, has in each.items()
            if has is not None and (limit := getattr(policy, bound)) is not None
        ]


def effective(
    claim: ClaimFields, provider: str, offered: GatewayOptions, sites: frozenset[str]
) -> Effective:
    """Return what is asked for, of the provider that is planned.

    `offered` is what the site says of its gateway's options. A choice among them that the site's
    own file makes, `sites`, is not counted.
    """
    kind = provider_class(provider)
    fields = (*SIZES, "worker_cores_limit")
    size = {name: Amount(getattr(claim, name), (name,)) for name in fields}
    size = {name: amount for name, amount in size.items() if amount.value is not None}

    def raise_to(one: WorkerSize, path: Path | None, cause: str = "") -> None:
        for name, part in SIZES.items():
            value = getattr(one, part)
            if value and (name not in size or size[name].value < value):
                size[name] = Amount(value, path or (name,), cause)

    is_chosen = False
    for option, value in claim.options.items():
        sizes = offered.choices_for(option)
        is_chosen = is_chosen or bool(sizes)
        if str(value) in sizes and f"options.{option}" not in sites:
            raise_to(sizes[str(value)], ("options", option))
    if kind.of_gateway and not is_chosen:
        enough = {name: smallest(sizes, claim) for name, sizes in offered.choices.items()}
        for option, one in enough.items():
            if one is not None:
                raise_to(one, None, f"gateway_options.choices.{option}")
        if offered.default is not None and not any(enough.values()):
            unset = {name: part for name, part in SIZES.items() if name not in size}
            for name, part in unset.items():
                size[name] = Amount(getattr(offered.default, part), (name,), DEFAULT)
    if kind.whole_cores:
        cores = math.ceil(claim.worker_cores_limit or claim.worker_cores or BATCH_WORKER.cores)
        memory = claim.worker_memory or BATCH_WORKER.memory
        raise_to(WorkerSize(cores=cores, memory=memory), None, "the batch system's whole cores")
    return Effective(count_workers(claim).maximum, size)


def smallest(sizes: Mapping[str, WorkerSize], claim: ClaimFields) -> WorkerSize | None:
    """Return the smallest choice that is enough, None where none is, or nothing is claimed."""
    needed = {name: getattr(claim, name) for name in SIZES if getattr(claim, name)}
    if not any(one.gpus for one in sizes.values()):
        needed.pop("gpus", None)
    enough = [
        one
        for one in sizes.values()
        if all(getattr(one, SIZES[name]) >= value for name, value in needed.items())
    ]
    return min(enough, key=order, default=None) if needed else None


def order(size: WorkerSize) -> tuple[int, int, float]:
    """Return by what choices are sorted."""
    return size.gpus, size.memory, size.cores


def _at_most(limit: Any, value: Any) -> Any:
    return value if limit is None else min(limit, value)
