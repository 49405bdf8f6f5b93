"""Sizes of workers as amounts (cores, GPUs, bytes): those of choices, and a policy's limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from dask_claim.claim.effective import SIZES
from dask_claim.claim.units import exact
from dask_claim.providers.gateway.amounts import cores_in, gpus_in, memory_in, written
from dask_claim.providers.gateway.option import Option, is_memory

if TYPE_CHECKING:
    from dask_claim.claim.site_sections import GatewayOptions, Policy

Size = Mapping[str, Fraction]
"""Field → amount, in the order by which sizes are compared."""

_TOGETHER = {"worker_cores": "max_cores", "worker_memory": "max_memory"}


@dataclass(frozen=True)
class Limit:
    """The most that one worker may have of something, and the policy's name for it."""

    amount: Fraction
    bound: str


@dataclass(frozen=True)
class Bounds:
    """What the site's file allows."""

    policy: Policy
    path: str
    """Of that file."""

    site_fields: frozenset[str]
    """What the file itself asks for, such as `options.X`: it may exceed the policy."""

    def limits(self, workers: int) -> Iterator[tuple[str, Limit]]:
        """Yield the field and the limit of each of so many workers."""
        for name in SIZES:
            limits = []
            if (each := getattr(self.policy, name)) is not None:
                limits.append(Limit(exact(each), name))
            whole = _TOGETHER.get(name, "")
            if (together := getattr(self.policy, whole, None)) is not None:
                amount = exact(together) / workers
                if is_memory(name):
                    amount -= amount % 2**20  # every form of text can have whole mebibytes
                limits.append(Limit(amount, whole))
            if limits:
                limit = min(limits, key=lambda limit: limit.amount)
                yield name, limit
                if whole:
                    yield f"{name}_limit", limit


def worker_sizes(option: Option, site: GatewayOptions) -> dict[str, Size]:
    """Return choice → worker, by the site's file or by the texts of all choices; else nothing."""
    if by_site := site.choices_for(option.name):
        offered = option.choices or by_site
        return {
            choice: {
                "gpus": exact(size.gpus),
                "worker_memory": exact(size.memory),
                "worker_cores": exact(size.cores),
            }
            for choice, size in by_site.items()
            if choice in offered
        }
    if "scheduler" in option.name.lower():
        return {}
    sizes = {choice: size for choice in option.choices if (size := _worker_in(choice))}
    return sizes if len(sizes) == len(option.choices) else {}


def _worker_in(text: str) -> Size | None:
    """Return the worker that a text such as "4CPU, 28.9Gi" tells; None where it has not both."""
    cores, memory = cores_in(text), memory_in(text)
    if not cores or not memory:
        return None
    return {
        "gpus": Fraction(gpus_in(text)),
        "worker_memory": exact(memory),
        "worker_cores": exact(cores),
    }


def shown(name: str, amount: Fraction) -> str:
    """Write the amount of a field for a person."""
    return written(int(amount)) if is_memory(name) else f"{float(amount):g}"
