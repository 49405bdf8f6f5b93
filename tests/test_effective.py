"""The policy bounds what is really asked for: workers × size, after options, choices and cut."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_claim.claim.fields import FIELDS
from dask_claim.claim.memory import Memory
from dask_claim.claim.model import Claim, load
from dask_claim.claim.policy import within
from dask_claim.claim.site import Site
from dask_claim.claim.site_sections import GatewayOptions, Policy
from dask_claim.errors import ClaimError, OptionError
from dask_claim.providers.gateway.filling import Filling
from dask_claim.providers.gateway.fit import Bounds
from dask_claim.providers.values import Request
from tests.support.claims import NOWHERE, Fields, write

FILE = "/site/claim.yaml"
URL = {"gateway_url": "https://gw.example.org"}
BATCH = {"provider": "slurm", "worker_memory": "1G"}
CHOICES = {"choices": {"size": {
    "small": {"cores": 2, "memory": "4G"}, "large": {"cores": 16, "memory": "64G", "gpus": 1},
}}}  # fmt: skip
SMALL = {"choices": {"size": {"small": {"cores": 2, "memory": "4G"}}}}
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
        ({"max_memory": "8G"}, {**URL, "options": {"size": "huge"}}, CHOICES,
         {"options.size": "max_memory"}),
        ({"max_cores": 8}, {**URL, "options": {"size": "small"}, "max_workers": 5}, CHOICES,
         {"max_workers": "max_cores"}),
        # A job has whole cores, and memory by default.
        ({"max_cores": 4}, {"provider": "slurm", "worker_cores": 1.5, "max_workers": 3}, {},
         {"max_workers": "max_cores"}),
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
        # A choice that has no GPUs, as none has; one that no cut makes smaller.
        ({"worker_cores": 1}, {**URL, "gpus": 1, "worker_cores": 1}, SMALL,
         {"worker_cores": "worker_cores"}),
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
        ({"max_workers": 2}, {"min_workers": 5, "max_workers": 5}, {},
         {"min_workers": 2, "max_workers": 2}),
        ({"worker_cores": 4}, {**URL, "worker_cores": 3}, CHOICES, {"worker_cores": 2}),
        ({"max_cores": 4}, {**URL, "options": {"size": "small"}, "max_workers": 5}, CHOICES,
         {"max_workers": 2}),
        ({"worker_cores": 4}, URL, DEFAULT_16, {"worker_cores": 4}),
        ({"providers": ["gateway"]}, {**URL, "fallback": "local"}, {}, {"fallback": "fail"}),
        ({"providers": ["gate*", "loc*"], "max_workers": 1},
         {**URL, "fallback": "local", "max_workers": 2}, {},
         {"fallback": "local", "max_workers": 1}),
        ({"lease_timeout": 300}, {**URL, "lease_timeout": 0}, {}, {"lease_timeout": 300}),
        # A job has whole cores.
        ({"worker_cores": 1.5}, {**BATCH, "worker_cores": 2}, {}, {"worker_cores": 1}),
        ({"worker_memory": "1G"}, {"provider": "slurm", "max_memory": "512M"}, {},
         {"worker_memory": Memory("512M")}),
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


# What no file tells is seen when the gateway tells what it offers.


SIZE = ("Select", "size", ["2 CPU, 4 GB", "8 CPU, 9 GB"], "8 CPU, 9 GB")
UNKNOWN = ("Select", "size", ["small", "huge"], "huge")
TWO = {"default": {"cores": 2, "memory": "2G"}}
BOTH = {"worker_cores": 4, "worker_memory": "16G"}


@pytest.mark.parametrize(
    ("policy", "fields", "claim", "site", "expected"),
    [
        # A default within the bound stays; one beyond it is lowered.
        ({"worker_memory": "8G"}, [("String", "worker_memory", "2 G")], {}, {},
         {"worker_memory": "2 G"}),
        ({"worker_memory": "8G"}, [("String", "worker_memory", "64 G")], {}, {},
         {"worker_memory": "8 G"}),
        ({"max_memory": "8G"}, [("Float", "worker_memory", 16)], {"max_workers": 4}, {},
         {"worker_memory": 2}),
        ({"max_cores": 8}, [("Integer", "cpu", 16)], {"max_workers": 3}, {}, {"cpu": 2}),
        ({"worker_cores": 2},
         [("Float", "worker_cores", 1), ("Float", "worker_cores_limit", 4)], {}, {},
         {"worker_cores": 1, "worker_cores_limit": 2}),
        ({"worker_memory": "2G"},
         [("String", "worker_memory", "1 G"), ("String", "worker_memory_limit", "64 G")], {}, {},
         {"worker_memory": "1 G", "worker_memory_limit": "2 G"}),
        ({"gpus": 0}, [("Integer", "gpus", 1)], {}, {}, {"gpus": 0}),
        ({"gpus": 0}, [("Bool", "gpu", True)], {}, {}, {"gpu": False}),
        *(({"gpus": most}, [("Bool", "gpu", default)], {}, {}, {"gpu": default})
          for most in (1, 2) for default in (False, True)),
        # Whole units, never more than the bound.
        ({"max_memory": "10G"}, [("Integer", "worker_memory", 4)], {"max_workers": 4}, {},
         {"worker_memory": 2}),
        ({"worker_memory": "1500M"}, [("Integer", "worker_memory", 4096)], {}, {},
         {"worker_memory": 1500}),
        ({"worker_cores": 2.5}, [("Integer", "cpu", 4)], {}, {}, {"cpu": 2}),
        ({"worker_cores": 4}, [SIZE], {}, {}, {"size": "2 CPU, 4 GB"}),
        # Beside a choice of a whole size, too.
        ({"gpus": 0}, [SIZE, ("Integer", "gpus", 1)], {}, {}, {"size": SIZE[3], "gpus": 0}),
        # An unknown default is not raised: as much as the site's file says, or as is claimed of
        # the worker itself.
        (BOTH, [("String", "worker_memory", "")], {}, TWO, {"worker_memory": "2 G"}),
        (BOTH, [("String", "worker_cores", "")], {"worker_memory": "1G"}, TWO,
         {"worker_cores": "2"}),
        (BOTH, [("String", "worker_cores_limit", ""), ("Float", "worker_cores", 1)],
         {"worker_cores": 3.5}, TWO, {"worker_cores_limit": "3.5"}),
        # What cannot be lowered.
        ({"worker_memory": "8G"}, [], {}, {},
         "no file tells its default; .*policy.worker_memory in"),
        ({"worker_cores": 4}, [], {}, DEFAULT_16, "its default is 16; .*policy.worker_cores in"),
        ({"max_cores": 1}, [SIZE], {}, {}, "exceeds policy.max_cores in"),
        ({"max_cores": 4}, [("Float", "worker_cores", 8, 8)], {}, {}, "policy.max_cores in"),
        ({"worker_memory": "512M"}, [("Integer", "worker_memory", 4)], {}, {},
         "no integer of worker_memory is small enough"),
        # Its limit would be more than it has, perhaps.
        ({"worker_memory": "8G"}, [("String", "worker_memory", "")], {}, {},
         "it is unclear how much worker_memory '' is; claim worker_memory, or its operator"),
        ({"worker_cores": 8}, [("Select", "cpu", ["few", "8 CPU"], "few")], {}, {},
         "it is unclear how much cpu 'few' is"),
        # A choice that the site's file does not tell the size of.
        ({"worker_cores": 4}, [UNKNOWN], {}, CHOICES, "no file tells its default"),
        ({"worker_cores": 4}, [UNKNOWN, ("Select", "kind", ["2CPU, 4Gi"], "2CPU, 4Gi")], {},
         CHOICES, "no file tells its default"),
    ],
)  # fmt: skip
def test_defaults_of_a_gateway(
    policy: Fields, fields: list[Any], claim: Fields, site: Fields, expected: Fields | str
) -> None:
    if isinstance(expected, str):
        with pytest.raises(OptionError, match=expected):
            lowered(policy, fields, claim, site)
        return
    options = lowered(policy, fields, claim, site)
    assert {name: options[name] for name in expected} == expected


LARGE = "16CPU, 64Gi"
PROFILE = [("Select", "profile", ["2CPU, 8Gi", LARGE], "2CPU, 8Gi")]


@pytest.mark.parametrize("chosen", ["2CPU, 8Gi", LARGE])
@pytest.mark.parametrize("by_site", [False, True])
@pytest.mark.parametrize("more", [{}, {"strict": False}, {"excess": "cut"}], ids=str)
def test_a_choice_that_a_claim_names(chosen: str, by_site: bool, more: Fields) -> None:
    """It is never another one, and too large only where the site's own file has chosen it."""
    policy = {**BOTH, "excess": more.get("excess", "refuse")}
    for name, site in product(("profile", "PROFILE"), ({}, TWO)):
        claim = {"options": {name: chosen}, "strict": more.get("strict", True)}
        sites = frozenset({f"options.{name}"} if by_site else ())
        if chosen != LARGE or by_site:
            assert lowered(policy, PROFILE, claim, site, sites)["profile"] == chosen
            continue
        with pytest.raises(OptionError, match=r"'16CPU, 64Gi' exceeds policy\.worker_cores in"):
            lowered(policy, PROFILE, claim, site, sites)


def test_a_request_knows_what_the_sites_file_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim cannot hide behind what that says of the same option in another spelling."""
    text = (
        f"options: {{profile: '{LARGE}', size: x}}\nprofiles: {{big: {{options: {{queue: y}}}}}}\n"
    )
    claim = {**URL, "profile": "big", "options": {"account": "x", "PROFILE": LARGE}}
    site = str(write(tmp_path / "claim.yaml", text))
    environ = {**NOWHERE, "DASK_CLAIM_SITE": site, "DASK_CLAIM": json.dumps(claim)}
    request = Request.of(load(environ=environ), 1, 1)
    assert request.site_fields == {"options.size", "options.queue"}
    claimed = {**URL, "options": {"profile": request.claim.options["profile"]}}
    with pytest.raises(OptionError, match=r"exceeds policy\.worker_cores in"):
        lowered({"worker_cores": 4}, PROFILE, claimed, {}, request.site_fields)


def lowered(
    policy: Fields,
    fields: list[Any],
    claim: Fields,
    site: Fields,
    sites: frozenset[str] = frozenset(),
) -> Any:
    server = pytest.importorskip("dask_gateway_server.options")
    from dask_gateway.options import Options

    made = []
    for kind, name, default, *more in fields:
        if kind == "Select":
            made.append(server.Select(name, default, default=more[0]))
        else:
            least = {"min": more[0]} if more else {}
            made.append(getattr(server, kind)(name, default=default, **least))
    options = Options._from_spec(server.Options(*made).get_specification())
    bounds, offered = Policy.model_validate(policy), GatewayOptions.model_validate(site)
    asked = Claim.model_validate({**URL, **claim})
    workers = asked.plan({}).max_workers
    Filling(options, asked, workers, offered, Bounds(bounds, FILE, sites, workers)).fill()
    return options
