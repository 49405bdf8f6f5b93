"""Claims within the policy of a site: what exceeds a bound is refused, or cut with a warning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.comparison import EACH, WHOLE, Comparison, Excess
from dask_claim.claim.effective import SIZES, Amount, order
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

    Raises
    ------
    ClaimError
        It asks for more than the site allows; every bound that was passed is named.
    """
    policy, sites = site.policy, site.asks_for(sources)
    assert policy is not None
    compared = Comparison(policy, site.gateway_options, plan, sites, gateway)
    # Fields that nobody has set get the policy's value without a warning.
    quiet: dict[str, Any] = {}
    if claim.max_lifetime is None and policy.max_lifetime is not None:
        quiet["max_lifetime"] = policy.max_lifetime
    if policy.lease_timeout is not None and sources.get("lease_timeout") == "default":
        quiet["lease_timeout"] = min(claim.lease_timeout, policy.lease_timeout)
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
            Fault(one.path, _shown(one.value), _words(one, site.path)) for one in reported
        )
    warnings = [
        f"{dotted(one.path)} {_shown(one.value)} is cut to {_shown(cuts.get(one.path[0]))}: it "
        f"{_words(one, site.path)}"
        for one in excesses
    ]
    warnings += [
        f"{name} {_shown(getattr(claim, name))} is cut to {_shown(value)}, by the policy in "
        f"{site.path}"
        for name, value in cuts.items()
        if name not in {one.path[0] for one in excesses} and getattr(claim, name) is not None
    ]
    return changed, warnings, [*quiet, *cuts]


def _words(excess: Excess, path: str) -> str:
    return f"exceeds policy.{excess.bound} in {path} (allowed: {excess.allowed})"


def _shown(value: Any) -> Any:
    return str(value) if isinstance(value, Memory) else value


def _cut(claim: ClaimFields, compared: Comparison) -> dict[str, Any]:
    """Return new values for the fields that must change, for as much as the policy allows.

    First the size of a worker, then their number, a minimum as well as a maximum: never more
    workers than were claimed, of however many cores. What cannot be cut stays.
    """
    plain = {one.path[0]: one.cut for one in compared.excesses(claim) if one.cut is not None}
    # Without minimums, which might contradict the bounds of a smaller worker.
    free = claim.model_copy(update={"min_workers": None, "min_cores": None})
    cuts = _smaller_workers(free, compared)
    return plain | cuts | _fewer_workers(claim, free.model_copy(update=cuts), compared)


def _limits(compared: Comparison) -> dict[str, Any]:
    """Return field → the most that a single worker may have, where there is a bound."""
    whole_cores = provider_class(compared.plan.provider).whole_cores
    limits: dict[str, Any] = {}
    for name, bound in EACH.items():
        bounds = [getattr(compared.policy, one, None) for one in (bound, WHOLE.get(bound, ""))]
        limit = min((one for one in bounds if one is not None), key=exact, default=None)
        if limit is not None:
            rounds = whole_cores and bound == "worker_cores"
            limits[name] = (math.floor(limit) or limit) if rounds else limit
    return limits


def _smaller_workers(claim: ClaimFields, compared: Comparison) -> dict[str, Any]:
    """Return the size of a worker within the limits, where fields of the claim decide on it."""
    limits = _limits(compared)

    def too_large(cuts: Mapping[str, Any]) -> dict[str, Amount]:
        size = compared.effective(claim.model_copy(update=cuts)).size
        return {
            name: size[name]
            for name, limit in limits.items()
            if name in size and exact(size[name].value) > exact(limit)
        }

    cuts: dict[str, Any] = {}
    # Twice, for what is cut may let a default, or another choice, count instead.
    for _ in range(2):
        for name, amount in too_large(cuts).items():
            own = cuts.get(name, getattr(claim, name))
            fields = () if own is not None else _BESIDE.get(name, ())
            bounds = [limits[name], own, *(getattr(claim, field) for field in fields)]
            if amount.path == (name,):
                cuts[name] = min((one for one in bounds if one is not None), key=exact)
    if not too_large(cuts):
        return cuts
    for choices in compared.offered.choices.values():
        for choice in sorted(choices.values(), key=order, reverse=True):
            own_sizes = {name: cuts.get(name, getattr(claim, name)) for name in SIZES}
            smaller = {
                name: min(value, getattr(choice, SIZES[name]))
                for name, value in own_sizes.items()
                if value is not None
            }
            if not too_large(cuts | smaller):
                changed = {n: value for n, value in smaller.items() if value != getattr(claim, n)}
                return cuts | changed
    return cuts


def _fewer_workers(claim: ClaimFields, sized: ClaimFields, compared: Comparison) -> dict[str, Any]:
    """Return the number of workers, for workers of the size that `sized` has."""
    own, request = count_workers(sized).ceiling, compared.effective(sized)
    rooms = [compared.plan.max_workers, compared.policy.max_workers, own]
    rooms += [room for _, room, _ in request.room(compared.policy)]
    most = min(room for room in rooms if room is not None)
    least = min(compared.plan.min_workers, most)
    if most < 1:
        return {}
    cuts: dict[str, Any] = {}
    if most != (compared.plan.max_workers if own is None else own):
        cuts["max_workers"] = most
    if claim.min_workers is not None and claim.min_workers > least:
        cuts["min_workers"] = least
    cores = exact(sized.worker_cores or 1)
    if claim.min_cores is not None and -(-exact(claim.min_cores) // cores) > least:
        floor = least * cores
        cuts["min_cores"] = int(floor) if floor.denominator == 1 else float(floor)
    # As the plan counts workers, so that these bounds still have room for `most`.
    each = {
        "max_cores": sized.worker_cores_limit or sized.worker_cores or 1,
        "max_memory": sized.worker_memory,
    }
    for whole, has in each.items():
        value, limit = getattr(claim, whole), getattr(compared.policy, whole)
        if value is None or limit is None or exact(value) <= exact(limit):
            continue
        if has is None or exact(limit) // exact(has) >= most:
            cuts[whole] = limit
    return cuts
