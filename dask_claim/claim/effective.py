"""What a claim really requests: the workers, and the size of each, as far as files state it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from dask_claim.amounts import counted
from dask_claim.claim.fields import ClaimFields, Path
from dask_claim.claim.memory import Memory
from dask_claim.claim.plan import count_workers
from dask_claim.claim.site_sections import GatewayOptions, WorkerSize
from dask_claim.claim.units import exact
from dask_claim.registry import provider_class

SIZES = {"worker_cores": "cores", "worker_memory": "memory", "gpus": "gpus"}
"""Field of a claim → what it is of a `WorkerSize`."""

BATCH_WORKER = WorkerSize(cores=1, memory=Memory("2 GiB"))
"""The worker of a batch system where the claim does not say."""


class Amount(NamedTuple):
    """An amount that a claim requests."""

    value: Any
    path: Path
    """The field or option of the claim that it comes from, or would come from."""

    cause: str = ""
    """How it comes about, where that is not the field itself."""


def effective(
    claim: ClaimFields,
    provider: str,
    offered: GatewayOptions,
    sites: frozenset[str],
    workers: int | None = None,
) -> dict[str, Amount]:
    """Return what is requested after options, choices and defaults.

    Of each worker: `worker_cores`, `worker_cores_limit`, `worker_memory`, `gpus`; and of all
    `workers`, by default the claim's maximum: `max_workers`, `max_cores`, `max_memory`. What no
    file states is absent, but cores count as one. `provider` is the planned one, `offered` what
    the site says of its gateway's options; a choice that the site's own file makes, `sites`, is not
    counted.
    """
    kind = provider_class(provider)
    fields = {name: getattr(claim, name) for name in (*SIZES, "worker_cores_limit")}
    size = {name: Amount(value, (name,)) for name, value in fields.items() if value is not None}

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
        enough = {name: choose_smallest(sizes, claim) for name, sizes in offered.choices.items()}
        for option, one in enough.items():
            if one is not None:
                raise_to(one, None, f"by gateway_options.choices.{option}")
        if offered.default is not None and not any(enough.values()):
            for name, part in SIZES.items():
                default = Amount(getattr(offered.default, part), (name,), "by its default")
                size.setdefault(name, default)
    if kind.whole_cores:
        cores = math.ceil(claim.worker_cores_limit or claim.worker_cores or BATCH_WORKER.cores)
        memory = claim.worker_memory or BATCH_WORKER.memory
        raise_to(WorkerSize(cores=cores, memory=memory), None, "in the batch system's whole cores")
    return size | _together(size, workers or count_workers(claim).maximum)


def _together(size: Mapping[str, Amount], workers: int) -> dict[str, Amount]:
    """Return how much all workers have."""
    path, names = ("max_workers",), ("worker_cores", "worker_cores_limit")
    cores = max((size[name].value for name in names if name in size), default=1)
    each = {"max_cores": cores}
    if "worker_memory" in size:
        each["max_memory"] = size["worker_memory"].value
    return {"max_workers": Amount(workers, path)} | {
        name: Amount(workers * exact(one), path, f"= {counted(workers, 'worker')} × {one}")
        for name, one in each.items()
    }


def choose_smallest(sizes: Mapping[str, WorkerSize], claim: ClaimFields) -> WorkerSize | None:
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
