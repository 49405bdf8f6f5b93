"""Claims within the policy of a site: what exceeds a bound is refused, or cut with a warning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.effective import Comparison, Excess, too_long
from dask_claim.claim.fields import ClaimFields
from dask_claim.claim.memory import Memory
from dask_claim.claim.plan import Plan, count_workers
from dask_claim.claim.site import Site
from dask_claim.claim.site_sections import SIZE, WorkerSize
from dask_claim.claim.units import exact
from dask_claim.errors import ClaimError, Fault
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
    # Times that no source sets are the policy's, without a warning.
    quiet = {
        one.bound: one.cut
        for one in too_long(claim, policy)
        if sources.get(one.bound, "default") == "default"
    }
    changed = claim.model_copy(update=quiet)
    excesses = list(compared.excesses(changed))
    if not excesses:
        return changed, [], [*quiet]
    if policy.excess == "cut":
        cuts = _cut(changed, compared)
        less = changed.model_copy(update=cuts)
        if not any(compared.excesses(less)):
            warnings = [_warning(name, changed, value, site.path) for name, value in cuts.items()]
            return less, warnings, [*quiet, *cuts]
    raise ClaimError(_fault(one, site.path, sources) for one in excesses)


def most_workers(
    claim: ClaimFields, plan: Plan, site: Site | None, sites: frozenset[str]
) -> int | None:
    """Return how many workers of a claim's size the policy allows in one cluster; None: any number.

    `sites`: what the site's own file asks for, as for `effective`.
    """
    if site is None or site.policy is None:
        return None
    return Comparison(site.policy, site.gateway_options, plan, sites, None).room(claim)


def _warning(name: str, claim: ClaimFields, cut: Any, path: str) -> str:
    before = getattr(claim, name)
    value = "" if before is None else f" {_shown(before)}"
    return f"{name}{value} is cut to {_shown(cut)}, by the policy in {path}"


def _fault(excess: Excess, path: str, sources: Mapping[str, str]) -> Fault:
    source = sources.get(".".join(excess.path), "default")
    problem = f"exceeds policy.{excess.bound} in {path} (allowed: {excess.allowed})"
    source = "" if source == "default" else source
    return Fault(excess.path, _shown(excess.value), problem, source=source)


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

    def cut_to(choice: WorkerSize | None) -> dict[str, Any]:
        cuts: dict[str, Any] = {}
        for name in (*SIZE, "worker_cores_limit"):
            own, limit, amount = getattr(claim, name), limits.get(name), size.get(name)
            bounds = [own, limit, getattr(choice, name, None)]
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
    choices.sort(key=lambda one: one.rank, reverse=True)
    tried = [cut_to(one) for one in (None, *choices)]
    enough = (one for one in tried if not compared.exceeding(claim.model_copy(update=one), 1))
    return next(enough, tried[0])


def _limits(compared: Comparison) -> dict[str, Any]:
    """Return field → the most that a single worker may have, where there is a bound."""
    found = compared.policy.limits()
    limits = {name: getattr(compared.policy, limit.bound) for name, limit in found.items()}
    if provider_class(compared.plan.provider).whole_cores:
        cores = [name for name in limits if "cores" in name]
        limits |= {name: math.floor(limits[name]) or limits[name] for name in cores}
    return limits


def _fewer_workers(
    claim: ClaimFields, sized: ClaimFields, compared: Comparison
) -> dict[str, Any] | None:
    """Return the number of workers of the size that `sized` has; None where not one has room."""
    own, planned = count_workers(sized).ceiling, compared.plan
    rooms = (planned.max_workers, own, compared.room(sized))
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
