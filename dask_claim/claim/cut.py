"""A claim cut to what a site's policy allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dask_claim.claim.effective import (
    SIZES,
    Effective,
    effective,
    largest,
    number,
    order,
    room_for,
)
from dask_claim.claim.fields import ClaimFields
from dask_claim.claim.plan import Plan, ceiling, resized
from dask_claim.claim.site_sections import GatewayOptions, Policy, matches
from dask_claim.registry import provider_class


def cut(
    claim: ClaimFields, plan: Plan, policy: Policy, offered: GatewayOptions, sites: frozenset[str]
) -> dict[str, Any]:
    """Return new values for the fields that must change, for as much as the policy allows.

    First the size of a worker, then their number, a minimum as well as a maximum: never more
    workers than were claimed, of however many cores. What cannot be cut stays.
    """

    def asked(claim: ClaimFields) -> Effective:
        return effective(claim, resized(plan, claim), offered, sites)

    most = largest(policy)
    limits = {name: most["max_cores"] for name in ("worker_cores", "worker_cores_limit")}
    limits |= {"worker_memory": most["max_memory"], "gpus": policy.gpus}
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    if asked(claim).whole_cores:
        for name in limits.keys() & {"worker_cores", "worker_cores_limit"}:
            limits[name] = math.floor(limits[name]) or limits[name]
    # Without minimums, so that it is sound whatever the size.
    one = free = claim.model_copy(update={"min_workers": None, "min_cores": None})
    cuts: dict[str, Any] = {}
    # What is cut may let a default, or another choice, count instead.
    for _ in limits:
        cuts |= _size(one, asked(one), limits)
        one = free.model_copy(update=cuts)
    if provider_class(plan.provider).of_gateway and _too_large(asked(one), limits):
        for choices in offered.choices.values():
            for choice in sorted(choices.values(), key=order, reverse=True):
                said = [name for name in SIZES if getattr(one, name) is not None]
                least = {
                    name: min(getattr(one, name), getattr(choice, SIZES[name])) for name in said
                }
                if not _too_large(asked(one.model_copy(update=least)), limits):
                    cuts |= {
                        name: new for name, new in least.items() if new != getattr(claim, name)
                    }
                    break
        one = free.model_copy(update=cuts)
    cuts |= _number(claim, one, plan, policy, asked(one))
    if policy.max_lifetime is not None and (claim.max_lifetime or 0) > policy.max_lifetime:
        cuts["max_lifetime"] = policy.max_lifetime
    if policy.lease_timeout is not None and not 0 < claim.lease_timeout <= policy.lease_timeout:
        cuts["lease_timeout"] = policy.lease_timeout
    if policy.providers is not None and claim.fallback != "fail":
        cuts |= {} if matches(policy.providers, claim.fallback) else {"fallback": "fail"}
    return cuts


def _size(claim: ClaimFields, asked: Effective, limits: Mapping[str, Any]) -> dict[str, Any]:
    """The worker's size, where it is too large and a field of the claim decides on it."""
    cuts: dict[str, Any] = {}
    for name, limit in limits.items():
        value, by = asked.size.get(name), asked.told_by.get(name, "")
        if value is None or number(value) <= number(limit) or by.startswith("options."):
            continue
        own = getattr(claim, name)
        bounds = [limit, own]
        if own is None and name == "worker_cores":
            bounds += [claim.worker_cores_limit, claim.max_cores]
        elif own is None and name == "worker_memory":
            bounds.append(claim.max_memory)
        cuts[name] = min((one for one in bounds if one is not None), key=number)
    return cuts


def _too_large(asked: Effective, limits: Mapping[str, Any]) -> bool:
    return any(
        number(asked.size[name]) > number(limit)
        for name, limit in limits.items()
        if asked.size.get(name) is not None
    )


def _number(
    claim: ClaimFields, one: ClaimFields, plan: Plan, policy: Policy, asked: Effective
) -> dict[str, Any]:
    """The number of workers, for a worker of the size that `one` has."""
    rooms = [plan.max_workers]
    if policy.max_workers is not None:
        rooms.append(policy.max_workers)
    if (own := ceiling(one)) is not None:
        rooms.append(own)
    for bound, each in asked.parts(policy):
        limit = getattr(policy, bound)
        if limit is not None and each is not None:
            rooms.append(room_for(limit, each))
    most = min(rooms)
    least = min(plan.min_workers, most)
    if most < 1:
        return {}
    cuts: dict[str, Any] = {}
    if most != (plan.max_workers if own is None else own):
        cuts["max_workers"] = most
    if claim.min_workers is not None and claim.min_workers > least:
        cuts["min_workers"] = least
    if claim.min_cores is not None:
        cores = number(one.worker_cores or 1)
        if -(-number(claim.min_cores) // cores) > least:
            floor = least * cores
            cuts["min_cores"] = int(floor) if floor.denominator == 1 else float(floor)
    # As the plan counts workers, so that what a program is told fits to it.
    own_size = one.worker_cores_limit or one.worker_cores or 1, one.worker_memory
    for whole, each in zip(("max_cores", "max_memory"), own_size, strict=True):
        value, limit = getattr(claim, whole), getattr(policy, whole)
        if value is None or limit is None or number(value) <= number(limit):
            continue
        if each is None or room_for(limit, each) >= most:
            cuts[whole] = limit
    return cuts
