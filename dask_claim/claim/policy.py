"""Claims within the policy of a site: what exceeds a bound is refused, or cut with a warning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.comparison import BOUNDS, WHOLE, Comparison, Excess
from dask_claim.claim.effective import SIZES, effective, order
from dask_claim.claim.fields import ClaimFields
from dask_claim.claim.memory import Memory
from dask_claim.claim.plan import Plan, count_workers
from dask_claim.claim.site import Site
from dask_claim.claim.units import exact
from dask_claim.errors import ClaimError, Fault, dotted
from dask_claim.registry import provider_class

C = TypeVar("C", bound=ClaimFields)

_BESIDE = {"worker_cores": ("worker_cores_limit", "max_cores"), "worker_memory": ("max_memory",)}
"""Fields that a worker's size must not exceed where the claim leaves it open."""


def within(
    claim: C,
    plan: Plan,
    site: Site,
    sources: Mapping[str, str],
    gateway: GatewayAddress | None,
) -> tuple[C, list[str], list[str]]:
    """Return the claim within the policy, a warning for each cut, and the fields that changed.

    `site` has a policy. `sources`: where each value comes from. `gateway` is the one to be used.
    Raises ClaimError, with every bound that is exceeded, where the claim requests more.
    """
    policy, sites = site.policy, site.asks_for(sources)
    assert policy is not None
    compared = Comparison(policy, site.gateway_options, plan, sites, gateway)
    # Fields that no source sets get the policy's value without a warning.
    quiet: dict[str, Any] = {}
    if claim.max_lifetime is None and policy.max_lifetime is not None:
        quiet["max_lifetime"] = policy.max_lifetime
    if policy.lease_timeout is not None and sources.get("lease_timeout") == "default":
        quiet["lease_timeout"] = min(claim.lease_timeout, policy.lease_timeout)
    if claim.share and policy.keep is not None and sources.get("keep") == "default":
        quiet["keep"] = min(claim.keep, policy.keep)
    changed = claim.model_copy(update=quiet)
    excesses = left = list(compared.excesses(changed))
    cuts: dict[str, Any] = {}
    if excesses and policy.excess == "cut":
        cuts = _cut(changed, compared)
        changed = changed.model_copy(update=cuts)
        left = list(compared.excesses(changed))
    if left:
        # What only the cut would exceed, such as a choice that it leads to, is not reported.
        bounds = {one.bound for one in excesses}
        reported = [one for one in left if one.bound in bounds] or excesses
        raise ClaimError(
            Fault(one.path, _shown(one.value), _words(one, site.path), source=_source(one, sources))
            for one in reported
        )
    warnings = [_warning(one, cuts.get(one.path[0]), site.path) for one in excesses]
    warnings += [
        f"{name} {_shown(getattr(claim, name))} is cut to {_shown(value)}, by the policy in "
        f"{site.path}"
        for name, value in cuts.items()
        if name not in {one.path[0] for one in excesses} and getattr(claim, name) is not None
    ]
    return changed, warnings, [*quiet, *cuts]


def most_workers(
    claim: ClaimFields, plan: Plan, site: Site | None, sites: frozenset[str]
) -> int | None:
    """Return how many workers of a claim's size the policy allows in one cluster; None: any number.

    `sites`: what the site's own file asks for, as for `effective`.
    """
    policy = site.policy if site else None
    if policy is None or site is None:
        return None
    one = effective(claim, plan.provider, site.gateway_options, sites, workers=1)
    limits = [(getattr(policy, name), one[name].value) for name in WHOLE.values() if name in one]
    rooms = [int(exact(limit) // each) for limit, each in limits if limit is not None]
    rooms += [] if policy.max_workers is None else [policy.max_workers]
    return min(rooms, default=None)


def _warning(excess: Excess, cut: Any, path: str) -> str:
    value = "" if excess.value is None else f" {_shown(excess.value)}"
    result = "" if cut is None else f" to {_shown(cut)}"
    return f"{dotted(excess.path)}{value} is cut{result}: it {_words(excess, path)}"


def _source(excess: Excess, sources: Mapping[str, str]) -> str:
    """Return what has set the value; an empty text where nothing has."""
    source = sources.get(".".join(excess.path), "default")
    return "" if source == "default" else source


def _words(excess: Excess, path: str) -> str:
    return f"exceeds policy.{excess.bound} in {path} (allowed: {excess.allowed})"


def _shown(value: Any) -> Any:
    return str(value) if isinstance(value, Memory) else value


def _cut(claim: ClaimFields, compared: Comparison) -> dict[str, Any]:
    """Return new values for the fields that must change, for as much as the policy allows.

    First the size of a worker, then their number, a minimum as well as a maximum: never more
    workers than were claimed, of however many cores. What cannot be cut stays: where not even one
    worker has room, so do all of its fields.
    """
    plain = {one.path[0]: one.cut for one in compared.excesses(claim) if one.cut is not None}
    # Without minimums, which might contradict the bounds of a smaller worker.
    free = claim.model_copy(update={"min_workers": None, "min_cores": None})
    sizes = _smaller_workers(free, compared)
    counts = _fewer_workers(claim, free.model_copy(update=sizes), compared)
    return plain if counts is None else plain | sizes | counts


def _smaller_workers(claim: ClaimFields, compared: Comparison) -> dict[str, Any]:
    """Return the size of a worker within the limits, where fields of the claim decide on it.

    As much as the limits allow; where that leads to a choice that is too large, the largest choice
    that is not.
    """
    size, limits = compared.request(claim, workers=1), _limits(compared)

    def cut_to(choice: Mapping[str, Any]) -> dict[str, Any]:
        cuts: dict[str, Any] = {}
        for name in (*SIZES, "worker_cores_limit"):
            own, limit, amount = getattr(claim, name), limits.get(name), size.get(name)
            bounds = [own, limit, choice.get(name)]
            if own is None:
                if limit is None or amount is None or exact(amount.value) <= exact(limit):
                    continue
                if amount.path != (name,):
                    continue
                bounds += [getattr(claim, field) for field in _BESIDE.get(name, ())]
            least = min((one for one in bounds if one is not None), key=exact, default=None)
            if least != own:
                cuts[name] = least
        return cuts

    choices = [one for sizes in compared.offered.choices.values() for one in sizes.values()]
    choices.sort(key=order, reverse=True)
    sizes = [{name: getattr(one, part) for name, part in SIZES.items()} for one in choices]
    tried = [cut_to(size) for size in ({}, *sizes)]
    enough = (one for one in tried if not compared.exceeding(claim.model_copy(update=one), 1))
    return next(enough, tried[0])


def _limits(compared: Comparison) -> dict[str, Any]:
    """Return field → the most that a single worker may have, where there is a bound."""
    whole_cores = provider_class(compared.plan.provider).whole_cores
    limits: dict[str, Any] = {}
    for name in (*SIZES, "worker_cores_limit"):
        bound = BOUNDS.get(name, name)
        bounds = [getattr(compared.policy, one, None) for one in (bound, WHOLE.get(bound, ""))]
        limit = min((one for one in bounds if one is not None), key=exact, default=None)
        if limit is not None:
            rounds = whole_cores and bound == "worker_cores"
            limits[name] = (math.floor(limit) or limit) if rounds else limit
    return limits


def _fewer_workers(
    claim: ClaimFields, sized: ClaimFields, compared: Comparison
) -> dict[str, Any] | None:
    """Return the number of workers of the size that `sized` has; None where not one has room."""
    own, planned = count_workers(sized).ceiling, compared.plan
    one, policy = compared.request(sized, 1), compared.policy
    limits = [(getattr(policy, name), one[name].value) for name in WHOLE.values() if name in one]
    rooms = [planned.max_workers, policy.max_workers, own]
    rooms += [int(exact(limit) // each) for limit, each in limits if limit is not None]
    most = min(room for room in rooms if room is not None)
    if most < 1:
        return None
    least = min(planned.min_workers, most)
    cuts: dict[str, Any] = {}
    if most != (planned.max_workers if own is None else own):
        cuts["max_workers"] = most
    cores = sized.worker_cores or 1
    wholes: dict[str, tuple[int, Any]] = {
        "min_workers": (least, 1),
        "min_cores": (least, cores),
        "max_cores": (most, sized.worker_cores_limit or cores),
        "max_memory": (most, sized.worker_memory),
    }
    for name, (workers, each) in wholes.items():
        value, whole = getattr(claim, name), workers * exact(each or 0)
        if value is not None and each and exact(value) > whole:
            cuts[name] = int(whole) if whole.denominator == 1 else float(whole)
    return cuts
