"""What a claim really requests, and every bound of a site's policy that this exceeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from dask_claim.amounts import counted
from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.fields import ClaimFields, Path
from dask_claim.claim.memory import Memory
from dask_claim.claim.plan import Plan, count_workers
from dask_claim.claim.site_sections import (
    SIZE,
    WHOLE,
    GatewayOptions,
    Policy,
    WorkerSize,
    gateway_allowed,
    matches,
)
from dask_claim.claim.units import exact
from dask_claim.redact import redact
from dask_claim.registry import provider_class

BATCH_WORKER = WorkerSize(cores=1, memory=Memory("2 GiB"))
"""The worker of a batch system where the claim does not say."""

BOUNDS = {
    "worker_cores_limit": "worker_cores",
    "worker_threads": "worker_cores",
    "worker_memory_limit": "worker_memory",
    "image": "images",
    "cluster_max_workers": "max_workers",
    "cluster_max_cores": "max_cores",
    "cluster_max_memory": "max_memory",
}
"""Field, or what a gateway's option stands for → the policy's bound, where its name differs."""

_OF_WORKERS = ("worker_cores", "worker_memory", "gpus", *WHOLE.values())


class Amount(NamedTuple):
    """An amount that a claim requests."""

    value: Any
    path: Path
    """The field or option of the claim that it comes from, or would come from."""

    cause: str = ""
    """How it comes about, where that is not the field itself."""


@dataclass(frozen=True)
class Excess:
    """One value that exceeds a bound."""

    path: Path
    value: Any
    bound: str
    """The policy's field."""

    allowed: str
    cut: Any = None
    """The value that the field may have instead, where that is plain."""


@dataclass(frozen=True)
class Comparison:
    """What a request is compared with."""

    policy: Policy
    offered: GatewayOptions
    """What the site says of its gateway's options."""

    plan: Plan
    sites: frozenset[str]
    """What the site's own file sets, such as `options.X`: it is not compared."""

    gateway: GatewayAddress | None
    """The one to be used."""

    def request(self, claim: ClaimFields, workers: int | None = None) -> dict[str, Amount]:
        """Return what a claim requests from the planned provider.

        Of each worker: `worker_cores`, `worker_cores_limit`, `worker_memory`, `gpus`; and of all
        `workers`, by default the claim's maximum: `max_workers`, `max_cores`, `max_memory`. What no
        file states is absent, but cores count as one.
        """
        size, workers = self._size(claim), workers or count_workers(claim).maximum
        path, names = ("max_workers",), ("worker_cores", "worker_cores_limit")
        each = {"max_cores": max((size[name].value for name in names if name in size), default=1)}
        if "worker_memory" in size:
            each["max_memory"] = size["worker_memory"].value
        return {**size, "max_workers": Amount(workers, path)} | {
            name: Amount(workers * exact(one), path, f"= {counted(workers, 'worker')} × {one}")
            for name, one in each.items()
        }

    def _size(self, claim: ClaimFields) -> dict[str, Amount]:
        """Return what each worker has, after options, choices and defaults."""
        kind, offered = provider_class(self.plan.provider), self.offered
        fields = {name: getattr(claim, name) for name in (*SIZE, "worker_cores_limit")}
        size = {name: Amount(value, (name,)) for name, value in fields.items() if value is not None}

        def raise_to(one: WorkerSize, path: Path | None, cause: str = "") -> None:
            for name in SIZE:
                value = getattr(one, name)
                if value and (name not in size or size[name].value < value):
                    size[name] = Amount(value, path or (name,), cause)

        chosen = {option: offered.choices_for(option) for option in claim.options}
        for option, sizes in chosen.items():
            value = str(claim.options[option])
            if value in sizes and f"options.{option}" not in self.sites:
                raise_to(sizes[value], ("options", option))
        if kind.of_gateway and not any(chosen.values()):
            enough = {name: choose_smallest(of, claim) for name, of in offered.choices.items()}
            for option, one in enough.items():
                if one is not None:
                    raise_to(one, None, f"by gateway_options.choices.{option}")
            if offered.default is not None and not any(enough.values()):
                for name in SIZE:
                    default = Amount(getattr(offered.default, name), (name,), "by its default")
                    size.setdefault(name, default)
        if kind.whole_cores:
            one_core = BATCH_WORKER.worker_cores
            cores = math.ceil(claim.worker_cores_limit or claim.worker_cores or one_core)
            memory = claim.worker_memory or BATCH_WORKER.worker_memory
            whole = WorkerSize(cores=cores, memory=memory)
            raise_to(whole, None, "in the batch system's whole cores")
        return size

    def exceeding(self, claim: ClaimFields, workers: int | None = None) -> dict[str, Amount]:
        """Return what of a claim exceeds the bounds of workers."""
        return {
            name: amount
            for name, amount in self.request(claim, workers).items()
            if (limit := getattr(self.policy, BOUNDS.get(name, name))) is not None
            and exact(amount.value) > exact(limit)
        }

    def room(self, claim: ClaimFields) -> int | None:
        """Return how many workers of a claim's size are allowed; None: any number."""
        one = self.request(claim, workers=1)
        limits = [(getattr(self.policy, name), one.get(name)) for name in WHOLE.values()]
        rooms = [int(exact(limit) // each.value) for limit, each in limits if limit and each]
        rooms += [] if self.policy.max_workers is None else [self.policy.max_workers]
        return min(rooms, default=None)

    def excesses(self, claim: ClaimFields) -> Iterator[Excess]:
        """Yield every bound that the effective request of a claim exceeds."""
        for name, amount in self.exceeding(claim).items():
            bound = BOUNDS.get(name, name)
            cause = f"; {amount.value} {amount.cause}" if amount.cause else ""
            value = None if bound in WHOLE.values() else amount.value
            allowed = f"at most {getattr(self.policy, bound)}{cause}"
            yield Excess(amount.path, value, bound, allowed)
        yield from self._of_fields(claim)
        yield from self._of_texts(claim)

    def _of_fields(self, claim: ClaimFields) -> Iterator[Excess]:
        policy, gateway = self.policy, self.gateway
        yield from too_long(claim, policy)
        if claim.share and not policy.share:
            yield Excess(("share",), claim.share, "share", "a cluster for each run")
        names = {"image": (claim.image, "images"), "provider": (self.plan.provider, "providers")}
        if self.plan.choice.fallback and claim.fallback != "fail":
            names["fallback"] = (self.plan.choice.fallback.provider, "providers")
        for field, (name, bound) in names.items():
            patterns = getattr(policy, bound)
            if patterns is not None and name and not matches(patterns, name):
                cut = "fail" if field == "fallback" else None
                yield Excess((field,), name, bound, ", ".join(patterns), cut)
        if gateway is None:
            return
        url = redact(gateway.url)
        if policy.gateways is not None and not gateway_allowed(policy.gateways, gateway.url):
            yield Excess(("gateway_url",), url, "gateways", ", ".join(policy.gateways))
        if not gateway.trusted and not policy.foreign_gateways:
            allowed = "only gateways that the operator names, as in DASK_CLAIM_GATEWAY_URL"
            yield Excess(("gateway_url",), url, "foreign_gateways", allowed)

    def _of_texts(self, claim: ClaimFields) -> Iterator[Excess]:
        """Yield what is passed on as it stands, and could request more than can be compared."""
        policy, offered = self.policy, self.offered
        for name, value in claim.options.items():
            path = ("options", name)
            if ".".join(path) in self.sites:
                continue
            if policy.options is not None and not matches(policy.options, name):
                yield Excess(path, value, "options", ", ".join(policy.options) or "none")
            meaning = offered.field_of(name) or ""
            own = BOUNDS.get(meaning, meaning)
            if bound := self._first((own, WHOLE.get(own, ""))):
                allowed = f"the claim's own field for {name}, which can be checked"
                yield Excess(path, value, bound, allowed)
            sizes = offered.choices_for(name)
            if sizes and str(value) not in sizes and (bound := self._first(_OF_WORKERS)):
                yield Excess(path, value, bound, "a choice whose size is in gateway_options")
        directives = None if "hpc.directives" in self.sites else claim.hpc.get("directives")
        if directives and (bound := self._first((*_OF_WORKERS, "max_workers"))):
            allowed = "only the site's own directives, since others could request more"
            yield Excess(("hpc", "directives"), directives, bound, allowed)

    def _first(self, bounds: Iterable[str]) -> str | None:
        """Return the first of these bounds that the policy has."""
        return next((one for one in bounds if getattr(self.policy, one, None) is not None), None)


def too_long(claim: ClaimFields, policy: Policy) -> Iterator[Excess]:
    """Yield the times of a claim that are too long. A lifetime or lease without an end is."""
    for name in ("max_lifetime", "lease_timeout", "keep" if claim.share else ""):
        value, most = getattr(claim, name, 0), getattr(policy, name, None)
        endless = not value and name != "keep"
        if most is not None and (endless or value > most):
            allowed = f"at most {most}"
            if name == "lease_timeout":
                allowed += ", and not 0, which is no lease"
            yield Excess((name,), value, name, allowed, most)


def choose_smallest(sizes: Mapping[str, WorkerSize], claim: ClaimFields) -> WorkerSize | None:
    """Return the smallest choice that is enough, None where none is, or nothing is claimed."""
    needed = {name: getattr(claim, name) for name in SIZE if getattr(claim, name)}
    if not any(one.gpus for one in sizes.values()):
        needed.pop("gpus", None)
    enough = [
        one
        for one in sizes.values()
        if all(getattr(one, name) >= value for name, value in needed.items())
    ]
    return min(enough, key=lambda one: one.rank, default=None) if needed else None
