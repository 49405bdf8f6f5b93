"""Claims within the policy of a site: what exceeds a bound is refused, or cut with a warning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.cut import cut
from dask_claim.claim.effective import SIZES, Effective, effective, number, room_for
from dask_claim.claim.fields import ClaimFields, Path
from dask_claim.claim.memory import Memory
from dask_claim.claim.plan import Plan, resized
from dask_claim.claim.site import Site
from dask_claim.claim.site_sections import GatewayOptions, Policy, gateway_allowed, matches
from dask_claim.errors import ClaimError, Fault, dotted
from dask_claim.redact import redact

C = TypeVar("C", bound=ClaimFields)

# Field that an option of a gateway can stand for → the policy's bounds.
_CORES, _MEMORY = ("worker_cores", "max_cores"), ("worker_memory", "max_memory")
_BOUNDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("worker_cores", "worker_cores_limit", "worker_threads"), _CORES),
    **dict.fromkeys(("worker_memory", "worker_memory_limit"), _MEMORY),
    **{"gpus": ("gpus",), "image": ("images",), "cluster_max_workers": ("max_workers",)},
    **{"cluster_max_cores": ("max_cores",), "cluster_max_memory": ("max_memory",)},
}


@dataclass(frozen=True)
class Excess:
    """One thing that is asked for beyond a bound."""

    path: Path
    value: Any
    bound: str
    """The policy's field."""

    allowed: str

    def words(self, path: str) -> str:
        """Return which bound it is, of the file at `path`."""
        return f"exceeds policy.{self.bound} in {path} (allowed: {self.allowed})"


def excesses(
    claim: ClaimFields,
    plan: Plan,
    asked: Effective,
    policy: Policy,
    gateway: GatewayAddress | None,
) -> Iterator[Excess]:
    """Yield every bound that the effective request exceeds.

    `gateway` is the one to be used.
    """
    yield from _of_workers(asked, policy)
    if policy.max_lifetime is not None and (claim.max_lifetime or 0) > policy.max_lifetime:
        allowed = f"at most {policy.max_lifetime}"
        yield Excess(("max_lifetime",), claim.max_lifetime, "max_lifetime", allowed)
    lease = policy.lease_timeout
    if lease is not None and not 0 < claim.lease_timeout <= lease:
        allowed = f"at most {lease}, and not 0, which is no lease"
        yield Excess(("lease_timeout",), claim.lease_timeout, "lease_timeout", allowed)
    if policy.images is not None and claim.image and not matches(policy.images, claim.image):
        yield Excess(("image",), claim.image, "images", ", ".join(policy.images))
    url = gateway and redact(gateway.url)
    if (
        gateway
        and policy.gateways is not None
        and not gateway_allowed(policy.gateways, gateway.url)
    ):
        yield Excess(("gateway_url",), url, "gateways", ", ".join(policy.gateways))
    if gateway and not gateway.trusted and not policy.foreign_gateways:
        allowed = "none that only a claim names; its operator sets DASK_CLAIM_GATEWAY_URL"
        yield Excess(("gateway_url",), url, "foreign_gateways", allowed)
    if policy.providers is not None:
        asked_for = {"provider": plan.provider}
        if plan.choice.fallback:
            asked_for["fallback"] = plan.choice.fallback.provider
        for field, name in asked_for.items():
            if not matches(policy.providers, name):
                yield Excess((field,), name, "providers", ", ".join(policy.providers))


def _of_workers(asked: Effective, policy: Policy) -> Iterator[Excess]:
    """Yield what each worker has too much of, then all together, of the size that is allowed."""
    for field, bound in (*((name, name) for name in SIZES), ("worker_cores_limit", "worker_cores")):
        value, limit = asked.size.get(field), getattr(policy, bound)
        if value is None or limit is None or number(value) <= number(limit):
            continue
        by = asked.told_by.get(field, "")
        if by.startswith("options."):
            yield Excess(tuple(by.split(".", 1)), _plain(value), bound, f"at most {limit}")
        else:
            of = f"; {value} by {by}" if by else ""
            yield Excess((field,), _plain(value), bound, f"at most {limit}{of}")
    workers = asked.maximum
    if policy.max_workers is not None and workers > policy.max_workers:
        yield Excess(("max_workers",), workers, "max_workers", f"at most {policy.max_workers}")
    for bound, each in asked.parts(policy):
        limit = getattr(policy, bound)
        if limit is None or each is None:
            continue
        if workers > (room := room_for(limit, each)):
            of = f"at most {limit}{' cores' if bound == 'max_cores' else ''}"
            yield Excess(("max_workers",), workers, bound, f"{of}, {room} workers of {each}")


def excesses_passed_on(
    claim: ClaimFields, policy: Policy, offered: GatewayOptions, sites: frozenset[str]
) -> Iterator[Excess]:
    """Yield what a claim says in a gateway's or batch system's own words beyond a policy.

    `offered` is what the site says of its gateway's options. What the site's own file asks for,
    `sites`, is not compared: `options.X`, `hpc.directives`.
    """
    for name, value in claim.options.items():
        path = ("options", name)
        if f"options.{name}" in sites:
            continue
        if policy.options is not None and not matches(policy.options, name):
            yield Excess(path, value, "options", ", ".join(policy.options) or "none")
        bounds = _BOUNDS.get(offered.field_of(name) or "", ())
        if named := next((one for one in bounds if getattr(policy, one) is not None), None):
            allowed = f"the claim's own field for {name}, which can be compared"
            yield Excess(path, value, named, allowed)
        if (sizes := offered.choices_for(name)) and str(value) not in sizes:
            for bound in _bounded(policy):
                yield Excess(path, value, bound, "what gateway_options tells the size of")
    if claim.hpc.get("directives") and "hpc.directives" not in sites:
        allowed = "no directives but the site's own, since any could ask for more"
        for bound in _bounded(policy, "max_workers")[:1]:
            yield Excess(("hpc", "directives"), claim.hpc["directives"], bound, allowed)


def _bounded(policy: Policy, *more: str) -> list[str]:
    """Return the bounds of a worker's size; else those of all workers' together; else `more`."""
    for bounds in (SIZES, ("max_cores", "max_memory"), more):
        if found := [one for one in bounds if getattr(policy, one) is not None]:
            return found
    return []


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
    policy, offered, path = site.policy, site.gateway_options, site.path
    assert policy is not None
    sites = site.asks_for(sources)

    def exceeded(claim: ClaimFields, plan: Plan) -> list[Excess]:
        asked = effective(claim, plan, offered, sites)
        return [
            *excesses(claim, plan, asked, policy, gateway),
            *excesses_passed_on(claim, policy, offered, sites),
        ]

    # Nobody has said these: they are as the policy has them, without a word.
    quiet: dict[str, Any] = {}
    if claim.max_lifetime is None and policy.max_lifetime is not None:
        quiet["max_lifetime"] = policy.max_lifetime
    if policy.lease_timeout is not None and sources.get("lease_timeout") == "default":
        quiet["lease_timeout"] = min(claim.lease_timeout, policy.lease_timeout)
    changed = claim.model_copy(update=quiet)
    found = left = exceeded(changed, plan)
    cuts: dict[str, Any] = {}
    if found and policy.excess == "cut":
        cuts = cut(changed, plan, policy, offered, sites)
        changed = changed.model_copy(update=cuts)
        left = exceeded(changed, resized(plan, changed))
    if left:
        # What only a cut would exceed, such as a choice that it leads to, nobody has asked for.
        asked_for = {one.bound for one in found}
        told = [one for one in left if one.bound in asked_for] or found
        raise ClaimError(Fault(one.path, _plain(one.value), one.words(path)) for one in told)
    warnings = [
        f"{dotted(one.path)} {_plain(one.value)} is cut to {_plain(cuts.get(one.path[0]))}: it "
        f"{one.words(path)}"
        for one in found
    ]
    warnings += [
        f"{name} {_plain(getattr(claim, name))} is cut to {_plain(value)}, by the policy in {path}"
        for name, value in cuts.items()
        if name not in {one.path[0] for one in found} and getattr(claim, name) is not None
    ]
    return changed, warnings, [*quiet, *cuts]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Memory) else value
