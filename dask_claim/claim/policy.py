"""Claims within the policy of a site: what exceeds a bound is refused, or cut with a warning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dask_claim.claim.memory import Memory
from dask_claim.claim.site import Site
from dask_claim.claim.site_sections import (
    GatewayOptions,
    Policy,
    WorkerSize,
    gateway_allowed,
    matches,
)
from dask_claim.errors import ClaimError, Fault
from dask_claim.redact import redact

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim
    from dask_claim.claim.plan import Plan

# Field that an option of a gateway can stand for → the policy's bound.
_BOUND = {
    **{"worker_cores": "worker_cores", "worker_cores_limit": "worker_cores"},
    **{"worker_threads": "worker_cores", "gpus": "gpus", "image": "images"},
    **{"worker_memory": "worker_memory", "worker_memory_limit": "worker_memory"},
    **{"cluster_max_workers": "max_workers", "cluster_max_cores": "max_cores"},
    **{"cluster_max_memory": "max_memory"},
}

# Bounds of one worker, and what they bound of a choice that the site tells the size of.
_OF_WORKER: Mapping[str, Callable[[WorkerSize], Any]] = {
    "worker_cores": lambda size: size.cores,
    "worker_memory": lambda size: size.memory,
    "gpus": lambda size: size.gpus,
}


@dataclass(frozen=True)
class Excess:
    """One thing that a claim asks for beyond a bound."""

    field: str
    value: Any
    bound: str
    """The policy's field."""

    allowed: str
    cut: Any = None
    """The value within the bound; None where there is none."""


def excesses(
    claim: Claim, plan: Plan, policy: Policy, gateway: str | None, *, foreign: bool
) -> Iterator[Excess]:
    """Return every field in which a claim exceeds a policy.

    `gateway` is the one to be used; `foreign`: no source of the operator's names it.
    """
    for field, bound in (
        ("worker_cores", "worker_cores"),
        ("worker_cores_limit", "worker_cores"),
        ("worker_memory", "worker_memory"),
        ("gpus", "gpus"),
        ("max_lifetime", "max_lifetime"),
    ):
        value, limit = getattr(claim, field), getattr(policy, bound)
        if value is not None and limit is not None and _size(value) > _size(limit):
            yield Excess(field, value, bound, f"at most {limit}", limit)
    yield from _whole(claim, plan, policy)
    if policy.images is not None and claim.image and not matches(policy.images, claim.image):
        yield Excess("image", claim.image, "images", ", ".join(policy.images))
    url = redact(gateway)
    if gateway and policy.gateways is not None and not gateway_allowed(policy.gateways, gateway):
        yield Excess("gateway_url", url, "gateways", ", ".join(policy.gateways))
    if gateway and foreign and not policy.foreign_gateways:
        allowed = "none that only a claim names; its operator sets DASK_CLAIM_GATEWAY_URL"
        yield Excess("gateway_url", url, "foreign_gateways", allowed)
    if policy.providers is not None and not matches(policy.providers, plan.provider):
        yield Excess("provider", plan.provider, "providers", ", ".join(policy.providers))


def excesses_passed_on(
    claim: Claim, policy: Policy, offered: GatewayOptions, sites: frozenset[str]
) -> Iterator[Excess]:
    """Return what a claim says in a gateway's or batch system's own words beyond a policy.

    `offered` is what the site says of its gateway's options. What the site's own file asks for,
    `sites`, is not compared: `options.X`, `hpc.directives`.
    """
    choices = {name.lower(): sizes for name, sizes in offered.choices.items()}
    for name, value in claim.options.items():
        path = f"options.{name}"
        if path in sites:
            continue
        if policy.options is not None and not matches(policy.options, name):
            yield Excess(path, value, "options", ", ".join(policy.options) or "none")
        named = _BOUND.get(offered.field_of(name) or "")
        if named and getattr(policy, named) is not None:
            allowed = f"the claim's own field for {name}, which can be compared"
            yield Excess(path, value, named, allowed)
        for bound in _OF_WORKER if name.lower() in choices else ():
            size, limit = choices[name.lower()].get(str(value)), getattr(policy, bound)
            if limit is None:
                continue
            if size is None:
                yield Excess(path, value, bound, "what gateway_options tells the size of")
            elif _size(_OF_WORKER[bound](size)) > _size(limit):
                yield Excess(path, value, bound, f"at most {limit}")
    if claim.hpc.get("directives") and "hpc.directives" not in sites:
        bounds = (*_OF_WORKER, "max_cores", "max_memory")
        if bounded := [one for one in bounds if getattr(policy, one) is not None]:
            allowed = "no directives but the site's own, since any could ask for more"
            yield Excess("hpc.directives", claim.hpc["directives"], bounded[0], allowed)


def _whole(claim: Claim, plan: Plan, policy: Policy) -> Iterator[Excess]:
    """All workers together, counted in workers of the size that they would be cut to."""
    workers = plan.max_workers
    cores = claim.worker_cores_limit or claim.worker_cores or 1
    if policy.worker_cores is not None:
        cores = min(cores, policy.worker_cores)
    memory = min(
        (_size(one) for one in (claim.worker_memory, policy.worker_memory) if one is not None),
        default=None,
    )
    if claim.worker_memory is None:
        memory = None
    if policy.max_workers is not None and workers > policy.max_workers:
        allowed = f"at most {policy.max_workers}"
        yield Excess("max_workers", workers, "max_workers", allowed, policy.max_workers)
    if policy.max_cores is not None:
        room = int(Fraction(str(policy.max_cores)) // Fraction(str(cores)))
        if workers > room:
            allowed = f"at most {policy.max_cores} cores, {room} workers of {cores}"
            yield Excess("max_workers", workers, "max_cores", allowed, room or None)
    if policy.max_memory is not None and memory is not None:
        room = policy.max_memory.bytes // int(memory)
        if workers > room:
            allowed = f"at most {policy.max_memory}, {room} workers"
            yield Excess("max_workers", workers, "max_memory", allowed, room or None)


def within(
    claim: Claim,
    plan: Plan,
    site: Site,
    sources: Mapping[str, str],
    gateway: str | None,
    *,
    foreign: bool,
) -> tuple[Claim, list[str], list[str]]:
    """Return the claim within the policy, a warning for each cut, and the fields that changed.

    `site` has a policy. `sources`: where each value comes from. `gateway` is the one to be used;
    `foreign`: no source of the operator's names it.

    Raises
    ------
    ClaimError
        It asks for more than the site allows; every bound that was passed is named.
    """
    policy, path = site.policy, site.path
    assert policy is not None
    sites = frozenset(
        name for name, source in sources.items() if source == path or source.startswith(f"{path}, ")
    )
    found = [
        *excesses(claim, plan, policy, gateway, foreign=foreign),
        *excesses_passed_on(claim, policy, site.gateway_options, sites),
    ]
    refused = [one for one in found if policy.excess == "refuse" or one.cut is None]
    if refused:
        raise ClaimError(
            [
                Fault(
                    one.field,
                    _plain(one.value),
                    f"is beyond {path}, policy.{one.bound}: {one.allowed}",
                )
                for one in refused
            ]
        )
    cut: dict[str, Any] = {}
    for one in found:
        cut[one.field] = min(one.cut, cut.get(one.field, one.cut), key=_size)
    warnings = [
        f"{one.field} {_plain(one.value)} is cut to {_plain(cut[one.field])}: "
        f"{path}, policy.{one.bound}, allows {one.allowed}"
        for one in found
    ]
    if policy.max_lifetime is not None and claim.max_lifetime is None:
        cut["max_lifetime"] = policy.max_lifetime
    return claim.model_copy(update=cut) if cut else claim, warnings, list(cut)


def _size(value: Any) -> float:
    return value.bytes if isinstance(value, Memory) else value


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Memory) else value
