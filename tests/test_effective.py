"""The policy bounds what is really asked for: workers × size, after options, choices and cut.

What no file tells is seen when the gateway tells what it offers: `test_gateway_options`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_claim.claim.fields import FIELDS
from dask_claim.claim.memory import Memory
from dask_claim.claim.model import Claim
from dask_claim.claim.policy import within
from dask_claim.claim.site import Site
from dask_claim.claim.site_sections import GatewayOptions, Policy
from dask_claim.errors import ClaimError
from tests.support.claims import Fields

FILE = "/site/claim.yaml"
URL = {"gateway_url": "https://gw.example.org"}
BATCH = {"provider": "slurm", "worker_memory": "1G"}
CHOICES = {"choices": {"size": {
    "small": {"cores": 2, "memory": "4G"}, "large": {"cores": 16, "memory": "64G", "gpus": 1},
}}}  # fmt: skip

DEFAULT_16 = {"default": {"cores": 16, "memory": "2G"}}


def kept(policy: Fields, claim: Fields, **offered: Any) -> tuple[Claim, list[str]]:
    """The claim within the policy, and the warnings."""
    made = Claim.model_validate(claim)
    sources = {name: "claim" if name in claim else "default" for name in FIELDS}
    options = GatewayOptions.model_validate(offered)
    site = Site(path=FILE, policy=Policy.model_validate(policy), gateway_options=options)
    found, warnings, _ = within(made, made.plan({}), site, sources, None)
    return found, warnings


@pytest.mark.parametrize(
    ("policy", "claim", "offered", "refused"),
    [
        # Left out, and known from the site's file; a choice of unknown size.
        ({"worker_cores": 8}, URL, DEFAULT_16, {"worker_cores": "worker_cores"}),
        ({"max_memory": "8G"}, {**URL, "options": {"Size": "huge"}}, CHOICES,
         {"options.Size": "max_memory"}),
        # In the site's own names.
        ({"worker_memory": "8G", "images": ["eo/*"]}, {**URL, "options": {"rammb": 1, "tag": "x"}},
         {"names": {"worker_memory": "RamMB", "image": "tag"}},
         {"options.rammb": "worker_memory", "options.tag": "images"}),
        # An option that stands for a field, where all workers together are bounded.
        *(({bound: "4G" if "memory" in bound else 2}, {**URL, "options": {name: 1}}, {},
           {f"options.{name}": bound})
          for name, bound in (("cpu", "max_cores"), ("Worker_Threads", "max_cores"),
                              ("worker_cores_limit", "max_cores"), ("ram", "max_memory"),
                              ("worker_memory_limit", "max_memory"))),
        # A directive can ask for more of whatever is bounded.
        *(({bound: "4G" if "memory" in bound else 2},
           {**BATCH, "hpc": {"directives": ["--array=1-50"]}}, {}, {"hpc.directives": bound})
          for bound in ("max_workers", "max_cores", "max_memory", "worker_cores", "gpus")),
        ({"providers": ["gateway"]}, {**URL, "fallback": "local"}, {}, {"fallback": "providers"}),
        *(({"lease_timeout": 300}, {**URL, "lease_timeout": seconds}, {},
           {"lease_timeout": "lease_timeout"}) for seconds in (0, 301)),
        # One that no cut makes smaller.
        ({"max_cores": 8, "excess": "cut"}, {**URL, "options": {"size": "large"}}, CHOICES,
         {"max_workers": "max_cores"}),
    ],
)  # fmt: skip
def test_beyond(policy: Fields, claim: Fields, offered: Fields, refused: dict[str, str]) -> None:
    with pytest.raises(ClaimError) as caught:
        kept(policy, claim, **offered)
    found = {fault.where: fault.problem.partition("(")[0] for fault in caught.value.faults}
    assert found == {path: f"exceeds policy.{one} in {FILE} " for path, one in refused.items()}


@pytest.mark.parametrize(
    ("policy", "claim", "offered", "cut"),
    [
        ({"worker_cores": 4, "worker_memory": "8G", "max_cores": 8},
         {"worker_cores": 8, "worker_memory": "16G", "max_workers": 9}, {},
         {"worker_cores": 4, "worker_memory": Memory("8G"), "max_workers": 2}),
        # As many workers as before, not twice as many small ones.
        ({"worker_cores": 4}, {"worker_cores": 8, "max_cores": 16}, {},
         {"worker_cores": 4, "max_workers": 2}),
        ({"worker_cores": 4}, {"worker_cores": 8, "min_cores": 8, "max_cores": 16}, {},
         {"worker_cores": 4, "min_cores": 4, "max_workers": 2}),
        ({"worker_cores": 4}, {**URL, "worker_cores": 3}, CHOICES, {"worker_cores": 2}),
        ({"worker_cores": 4}, URL, DEFAULT_16, {"worker_cores": 4}),
        ({"providers": ["gateway"]}, {**URL, "fallback": "local"}, {}, {"fallback": "fail"}),
        ({"providers": ["gate*", "loc*"], "max_workers": 1},
         {**URL, "fallback": "local", "max_workers": 2}, {},
         {"fallback": "local", "max_workers": 1}),
        ({"lease_timeout": 300}, {**URL, "lease_timeout": 0}, {}, {"lease_timeout": 300}),
        # A job has whole cores.
        ({"worker_cores": 1.5}, {**BATCH, "worker_cores": 2}, {}, {"worker_cores": 1}),
    ],
)  # fmt: skip
def test_cut(policy: Fields, claim: Fields, offered: Fields, cut: Fields) -> None:
    found, warnings = kept({**policy, "excess": "cut"}, claim, **offered)
    assert {field: getattr(found, field) for field in cut} == cut
    assert warnings and all(f"by the policy in {FILE}" in warning for warning in warnings)
    lowered = [name for name in cut if name in claim and cut[name] != claim[name]]
    told = "; ".join(warnings)
    assert all(f"{name} {claim[name]} is cut to {cut[name]}, " in told for name in lowered)


def test_no_room_for_one_worker_names_the_bounds() -> None:
    """Not by what the cut would make of the claim, which nobody has written."""
    claim = {"worker_cores": 0.1, "max_memory": "512M", "min_workers": 2, **URL}
    one = {"cores": 0.1, "memory": "1G"}
    policy = {"max_workers": 1, "max_memory": "512M", "excess": "cut"}
    with pytest.raises(ClaimError) as failure:
        kept(policy, claim, choices={"size": {"a": one}})
    problems = [fault.problem for fault in failure.value.faults]
    assert len(problems) == 2 and all("exceeds policy." in problem for problem in problems)


# An oracle that knows nothing of the module's ways: amounts in fractions, every choice looked at.
PARTS = ("gpus", "worker_memory", "worker_cores")


def amount(value: Any) -> Fraction:
    return Fraction(value.bytes if isinstance(value, Memory) else str(value))


def worst(claim: Claim, offered: GatewayOptions) -> dict[str, Fraction]:
    """The most that a claim may have of everything that a policy bounds."""
    plan = claim.plan({})
    size = {name: [getattr(claim, name)] for name in PARTS}
    size["worker_cores"].append(claim.worker_cores_limit)
    if plan.provider == "gateway":
        choices = offered.choices.get("size", {})
        chosen = choices.get(str(claim.options.get("size")))
        needed = {name: getattr(claim, name) for name in PARTS if getattr(claim, name)}
        if not any(one.gpus for one in choices.values()):
            needed.pop("gpus", None)
        if chosen is None and needed:
            enough = [
                one
                for one in choices.values()
                if all(getattr(one, name) >= least for name, least in needed.items())
            ]
            chosen = min(
                enough, key=lambda one: [getattr(one, name) for name in PARTS], default=None
            )
        default = None if "size" in claim.options else offered.default
        for name in PARTS:
            if chosen is not None:
                size[name].append(getattr(chosen, name))
            elif default is not None and getattr(claim, name) is None:
                size[name].append(getattr(default, name))
    if plan.provider == "slurm":
        size["worker_cores"].append(math.ceil(claim.worker_cores_limit or claim.worker_cores or 1))
        size["worker_memory"].append(claim.worker_memory or Memory("2 GiB"))
    one = {
        name: max((amount(value) for value in values if value is not None), default=Fraction(0))
        for name, values in size.items()
    }
    workers = plan.max_workers
    return {
        **one,
        "max_workers": Fraction(workers),
        "max_cores": workers * (one["worker_cores"] or 1),
        "max_memory": workers * one["worker_memory"],
        "max_lifetime": amount(claim.max_lifetime or 0),
        "lease_timeout": amount(claim.lease_timeout) or Fraction(10**9),
    }


def smaller(claim: Fields, policy: Policy, offered: GatewayOptions) -> Iterator[Fields]:
    """One worker instead, as small as a cut can make it, for each choice that it may lead to."""
    fixed = {name: claim[name] for name in ("provider", "gateway_url", "options") if name in claim}
    said = {name: getattr(Claim.model_validate(claim), name) for name in PARTS if name in claim}
    choices = offered.choices.get("size", {})
    if "gateway_url" in claim and choices and "options" not in claim:
        # By claiming less of what is claimed: nothing else leads to another choice.
        for one in choices.values():
            less = {name: min(value, getattr(one, name)) for name, value in said.items()}
            yield {**fixed, **less}
        return
    for name, whole in (("worker_cores", "max_cores"), ("worker_memory", "max_memory"),
                        ("gpus", "gpus")):  # fmt: skip
        limits = [getattr(policy, bound) for bound in (name, whole)]
        if found := [limit for limit in limits if limit is not None]:
            # A job has whole cores.
            fixed[name] = math.floor(min(found)) if name == "worker_cores" else min(found)
    yield fixed


def records(**fields: Any) -> Any:
    return st.fixed_dictionaries({}, optional=fields)


cores = st.sampled_from([0.1, 0.5, 1, 1.5, 2, 3, 4, 8, 16])
memory = st.sampled_from(["512M", "1G", "2G", "3 GB", "4G", "16G", "64G"])
counts = st.integers(1, 12)
gpus = st.integers(0, 2)
sizes = st.fixed_dictionaries({"cores": cores, "memory": memory, "gpus": gpus})

offers = records(
    default=sizes,
    choices=st.fixed_dictionaries(
        {"size": st.dictionaries(st.sampled_from("abc"), sizes, min_size=1, max_size=3)}
    ),
)
# Cores that no file tells count as one.
whole_cores = st.sampled_from([1, 1.5, 2, 3, 4, 8])

policies = records(
    max_workers=counts, max_cores=whole_cores, max_memory=memory, worker_cores=whole_cores,
    worker_memory=memory, gpus=gpus, lease_timeout=st.sampled_from([30, 300]),
    max_lifetime=st.just(3600),
    providers=st.sampled_from([["gateway"], ["gateway", "local", "slurm"]]),
)  # fmt: skip
claims = records(
    worker_cores=cores, worker_cores_limit=cores, worker_memory=memory, gpus=gpus,
    min_workers=counts, max_workers=counts, min_cores=cores, max_cores=cores, max_memory=memory,
    lease_timeout=st.sampled_from([0, 60, 600]), max_lifetime=st.sampled_from([60, 7200]),
    fallback=st.just("local"),
)  # fmt: skip


@given(
    policies,
    claims,
    offers,
    st.none() | st.sampled_from("abc"),
    st.sampled_from(["gateway", "local", "slurm"]),
    st.sampled_from(["refuse", "cut"]),
)
def test_nothing_exceeds_a_bound(
    policy: Fields, claim: Fields, said: Fields, option: str | None, provider: str, excess: str
) -> None:
    claim = {**claim, **(URL if provider == "gateway" else {"provider": provider})}
    if provider == "gateway" and option in said.get("choices", {}).get("size", {}):
        claim["options"] = {"size": option}
    try:
        made = Claim.model_validate(claim)
    except ClaimError:
        return  # impossible in itself
    offered, bounds = GatewayOptions.model_validate(said), Policy.model_validate(policy)
    limits = {name: amount(getattr(bounds, name)) for name in policy if name != "providers"}

    def beyond(claim: Claim) -> set[str]:
        asked = worst(claim, offered)
        found = {name for name, limit in limits.items() if asked[name] > limit}
        providers = {provider}
        providers |= {"local"} if claim.fallback == "local" and provider == "gateway" else set()
        allowed = {*policy.get("providers", providers)}
        return found | ({"providers"} if providers - allowed else set())

    before = beyond(made)
    if "lease_timeout" not in claim:
        before.discard("lease_timeout")  # lowered without a word
    try:
        found, warnings = kept({**policy, "excess": excess}, claim, **said)
    except ClaimError as error:
        hints = [fault.problem for fault in error.faults]
        named = {hint.partition("policy.")[2].partition(" ")[0] for hint in hints}
        assert before and named <= before
        assert all(f" in {FILE} (allowed: " in hint for hint in hints)
        if excess == "refuse":
            assert before - named <= {"max_cores", "max_memory"} and named
            return
        cut = {"lease_timeout": bounds.lease_timeout or 60}
        for one in smaller(claim, bounds, offered):
            assert beyond(Claim.model_validate({**one, **cut})), one
        return
    assert beyond(found) == set()
    assert bool(warnings) is bool(before)
    plan, was = found.plan({}), made.plan({})
    assert plan.max_workers <= was.max_workers and plan.min_workers <= was.min_workers
