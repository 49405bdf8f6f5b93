"""The policy bounds what is really asked for: workers × size, after options, choices and cut."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from functools import partial
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
from dask_claim.providers.gateway.bounded import keep_within
from dask_claim.providers.gateway.options import fill
from dask_claim.providers.values import Request

FILE = "/site/claim.yaml"
URL = {"gateway_url": "https://gw.example.org"}
SMALL_LARGE = {
    "small": {"cores": 2, "memory": "4G"}, "large": {"cores": 16, "memory": "64G", "gpus": 1},
}  # fmt: skip
DEFAULT_16 = {"default": {"cores": 16, "memory": "2G"}}


def kept(policy: dict[str, Any], claim: dict[str, Any], **offered: Any) -> tuple[Claim, list[str]]:
    """The claim within the policy, and the warnings."""
    made = Claim.model_validate(claim)
    sources = {name: "claim" if name in claim else "default" for name in FIELDS}
    site = Site(
        FILE,
        policy=Policy.model_validate(policy),
        gateway_options=GatewayOptions.model_validate(offered),
    )
    found, warnings, _ = within(made, made.plan({}), site, sources, made.gateway_url, foreign=False)
    return found, warnings


@pytest.mark.parametrize(
    ("policy", "claim", "offered", "refused"),
    [
        # Left out, and known from the site's file.
        ({"max_cores": 8}, URL, DEFAULT_16, {"max_workers": "max_cores"}),
        ({"max_cores": 64}, {**URL, "max_workers": 9}, DEFAULT_16, {"max_workers": "max_cores"}),
        ({"worker_cores": 8}, URL, DEFAULT_16, {"worker_cores": "worker_cores"}),
        ({"max_memory": "20G"}, {**URL, "max_workers": 11}, DEFAULT_16,
         {"max_workers": "max_memory"}),
        # A choice whose size is known.
        ({"max_cores": 8}, {**URL, "options": {"size": "small"}, "max_workers": 5},
         {"choices": {"size": SMALL_LARGE}}, {"max_workers": "max_cores"}),
        ({"max_memory": "8G"}, {**URL, "options": {"size": "huge"}},
         {"choices": {"size": SMALL_LARGE}}, {"options.size": "max_memory"}),
        ({"worker_cores": 4}, {**URL, "worker_cores": 3}, {"choices": {"size": SMALL_LARGE}},
         {"worker_cores": "worker_cores"}),
        # The jobs of a batch system.
        ({"max_memory": "8G"}, {"provider": "slurm", "max_workers": 5}, {},
         {"max_workers": "max_memory"}),
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
           {"provider": "slurm", "worker_memory": "1G", "hpc": {"directives": ["--array=1-50"]}},
           {}, {"hpc.directives": bound})
          for bound in ("max_workers", "max_cores", "max_memory", "worker_cores", "gpus")),
        ({"providers": ["gateway"]}, {**URL, "fallback": "local"}, {}, {"fallback": "providers"}),
        ({"lease_timeout": 300}, {**URL, "lease_timeout": 0}, {},
         {"lease_timeout": "lease_timeout"}),
        ({"lease_timeout": 300}, {**URL, "lease_timeout": 301}, {},
         {"lease_timeout": "lease_timeout"}),
    ],
)  # fmt: skip
def test_beyond(
    policy: dict[str, Any], claim: dict[str, Any], offered: dict[str, Any], refused: dict[str, str]
) -> None:
    with pytest.raises(ClaimError) as caught:
        kept(policy, claim, **offered)
    found = {fault.path: fault.hint for fault in caught.value.faults}
    assert found.keys() == refused.keys()
    for path, bound in refused.items():
        assert found[path].startswith(f"exceeds policy.{bound} in {FILE} (allowed: ")


@pytest.mark.parametrize(
    ("policy", "claim", "offered", "cut"),
    [
        # As many workers as before, not twice as many small ones.
        ({"worker_cores": 4}, {"worker_cores": 8, "max_cores": 16}, {},
         {"worker_cores": 4, "max_workers": 2}),
        ({"worker_cores": 4}, {"worker_cores": 8, "min_cores": 8, "max_cores": 16}, {},
         {"worker_cores": 4, "min_cores": 4, "max_workers": 2}),
        ({"max_workers": 2}, {"min_workers": 5, "max_workers": 5}, {},
         {"min_workers": 2, "max_workers": 2}),
        ({"max_workers": 2}, {"min_workers": 5}, {}, {"min_workers": 2, "max_workers": 2}),
        ({"max_cores": 2}, {"worker_cores": 4}, {}, {"worker_cores": 2}),
        ({"worker_cores": 4}, {**URL, "worker_cores": 3}, {"choices": {"size": SMALL_LARGE}},
         {"worker_cores": 2}),
        ({"max_cores": 4}, {**URL, "options": {"size": "small"}, "max_workers": 5},
         {"choices": {"size": SMALL_LARGE}}, {"max_workers": 2}),
        ({"worker_cores": 4}, URL, DEFAULT_16, {"worker_cores": 4}),
        ({"providers": ["gateway"]}, {**URL, "fallback": "local"}, {}, {"fallback": "fail"}),
        ({"providers": ["gate*", "loc*"], "max_workers": 1},
         {**URL, "fallback": "local", "max_workers": 2}, {},
         {"fallback": "local", "max_workers": 1}),
        ({"lease_timeout": 300}, {**URL, "lease_timeout": 0}, {}, {"lease_timeout": 300}),
    ],
)  # fmt: skip
def test_cut(
    policy: dict[str, Any], claim: dict[str, Any], offered: dict[str, Any], cut: dict[str, Any]
) -> None:
    found, warnings = kept({**policy, "excess": "cut"}, claim, **offered)
    for field, value in cut.items():
        assert getattr(found, field) == value, field
    assert warnings and all(FILE in warning for warning in warnings)


def test_a_default_lease_is_as_the_policy_has_it() -> None:
    found, warnings = kept({"lease_timeout": 30}, URL)
    assert (found.lease_timeout, warnings) == (30, [])


# An oracle that knows nothing of the module's ways: amounts in fractions, every choice looked at.


def amount(value: Any) -> Fraction:
    return Fraction(value.bytes if isinstance(value, Memory) else str(value))


def worst(claim: Claim, offered: GatewayOptions) -> dict[str, Fraction]:
    """The most that a claim may have of everything that a policy bounds."""
    plan = claim.plan({})
    size = {
        "worker_cores": [claim.worker_cores, claim.worker_cores_limit],
        "worker_memory": [claim.worker_memory],
        "gpus": [claim.gpus],
    }
    choice = offered.choices.get("size", {})
    chosen = choice.get(str(claim.options.get("size")))
    if plan.provider == "gateway" and chosen is None and choice:
        needed = [
            one
            for one in choice.values()
            if one.cores >= (claim.worker_cores or 0)
            and (claim.worker_memory is None or one.memory >= claim.worker_memory)
            and (one.gpus >= (claim.gpus or 0) or not any(each.gpus for each in choice.values()))
        ]
        has_gpus = any(each.gpus for each in choice.values())
        if claim.worker_cores or claim.worker_memory or (claim.gpus and has_gpus):
            needed.sort(key=lambda one: (one.gpus, one.memory.bytes, one.cores))
            chosen = needed[0] if needed else None
    if chosen is not None:
        for name, value in zip(size, (chosen.cores, chosen.memory, chosen.gpus), strict=True):
            size[name].append(value)
    if plan.provider == "gateway" and "size" not in claim.options and offered.default:
        default = offered.default
        for name, value in zip(size, (default.cores, default.memory, default.gpus), strict=True):
            if getattr(claim, name) is None and (chosen is None or name not in size):
                size[name].append(value)
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


def maybe(values: Any) -> Any:
    return st.none() | values


cores = st.sampled_from([0.1, 0.5, 1, 1.5, 2, 3, 4, 8, 16])
memory = st.sampled_from(["512M", "1G", "2G", "3 GB", "4G", "16G", "64G"])
counts = st.integers(1, 12)
sizes = st.fixed_dictionaries({"cores": cores, "memory": memory, "gpus": st.integers(0, 2)})

# Cores that no file tells count as one.
whole_cores = st.sampled_from([1, 1.5, 2, 3, 4, 8])

policies = st.fixed_dictionaries(
    {
        "max_workers": maybe(counts), "max_cores": maybe(whole_cores), "max_memory": maybe(memory),
        "worker_cores": maybe(whole_cores), "worker_memory": maybe(memory),
        "gpus": maybe(st.integers(0, 2)), "lease_timeout": maybe(st.sampled_from([30, 300])),
        "max_lifetime": maybe(st.just(3600)),
        "providers": maybe(st.sampled_from([["gateway"], ["gateway", "local", "slurm"]])),
    }
)  # fmt: skip
claims = st.fixed_dictionaries(
    {
        "worker_cores": maybe(cores), "worker_cores_limit": maybe(cores),
        "worker_memory": maybe(memory), "gpus": maybe(st.integers(0, 2)),
        "min_workers": maybe(counts), "max_workers": maybe(counts),
        "min_cores": maybe(cores), "max_cores": maybe(cores), "max_memory": maybe(memory),
        "lease_timeout": maybe(st.sampled_from([0, 60, 600])),
        "max_lifetime": maybe(st.sampled_from([60, 7200])),
        "fallback": maybe(st.just("local")),
    }
)  # fmt: skip


@given(
    policies,
    claims,
    maybe(sizes),
    st.dictionaries(st.sampled_from("abc"), sizes, max_size=3),
    maybe(st.sampled_from("abc")),
    st.sampled_from(["gateway", "local", "slurm"]),
    st.sampled_from(["refuse", "cut"]),
)
def test_nothing_exceeds_a_bound(
    policy: dict[str, Any],
    claim: dict[str, Any],
    default: dict[str, Any] | None,
    choices: dict[str, Any],
    option: str | None,
    provider: str,
    excess: str,
) -> None:
    policy = {name: value for name, value in policy.items() if value is not None}
    claim = {name: value for name, value in claim.items() if value is not None}
    claim |= URL if provider == "gateway" else {"provider": provider}
    if provider == "gateway" and option in choices:
        claim["options"] = {"size": option}
    said = {"default": default} if default else {}
    said |= {"choices": {"size": choices}} if choices else {}
    try:
        made = Claim.model_validate(claim)
    except ClaimError:
        return  # impossible in itself
    offered, bounds = GatewayOptions.model_validate(said), Policy.model_validate(policy)
    limits = {name: amount(getattr(bounds, name)) for name in policy if name != "providers"}

    def beyond(claim: Claim) -> set[str]:
        asked = worst(claim, offered)
        found = {name for name, limit in limits.items() if asked[name] > limit}
        providers = {claim.provider.replace("auto", "gateway")}
        providers |= {"local"} if claim.fallback == "local" and provider == "gateway" else set()
        return found | (
            {"providers"} if providers - {*policy.get("providers", providers)} else set()
        )

    before = beyond(made)
    if "lease_timeout" not in claim:
        before.discard("lease_timeout")  # lowered without a word
    try:
        found, warnings = kept({**policy, "excess": excess}, claim, **said)
    except ClaimError as error:
        hints = [fault.hint for fault in error.faults]
        named = {hint.partition("policy.")[2].partition(" ")[0] for hint in hints}
        assert before and named <= before
        assert all(f" in {FILE} (allowed: " in hint for hint in hints)
        if excess == "refuse":
            assert before - named <= {"max_cores", "max_memory"} and named
        else:
            assert not can_be_cut(bounds, claim, offered, provider, option)
        return
    assert beyond(found) == set()
    assert bool(warnings) is bool(before)
    plan, was = found.plan({}), made.plan({})
    assert plan.max_workers <= was.max_workers and plan.min_workers <= was.min_workers


def can_be_cut(
    policy: Policy, claim: dict[str, Any], offered: GatewayOptions, provider: str, option: Any
) -> bool:
    """Whether one worker, of some size, is within the policy."""
    if policy.providers is not None and provider not in policy.providers:
        return False
    most = {
        "cores": [policy.worker_cores, policy.max_cores],
        "memory": [policy.worker_memory, policy.max_memory],
        "gpus": [policy.gpus],
    }
    if provider == "slurm":
        # A job has whole cores.
        return all(limit is None or limit >= 1 for limit in most["cores"])
    if provider == "local":
        return True

    def fits(one: Any) -> bool:
        return all(
            limit is None or amount(getattr(one, name)) <= amount(limit)
            for name, limits in most.items()
            for limit in limits
        )

    sizes = offered.choices.get("size", {})
    if "options" in claim:
        return fits(sizes[option])
    # By claiming less of what is claimed: nothing else leads to another choice.
    names = {"worker_cores": "cores", "worker_memory": "memory", "gpus": "gpus"}
    made = Claim.model_validate(
        {name: value for name, value in claim.items() if name in names or name in URL}
    )
    for one in sizes.values():
        less = {
            name: min(getattr(made, name), getattr(one, part), key=amount)
            for name, part in names.items()
            if name in claim
        }
        asked = worst(made.model_copy(update=less), offered)
        if (
            fits(one)
            and asked["worker_cores"] == amount(one.cores)
            and all(
                asked[name] <= amount(getattr(policy, name))
                for name in names
                if getattr(policy, name) is not None
            )
        ):
            return True
    return not sizes


# What no file tells is seen when the gateway tells what it offers.


@pytest.mark.parametrize(
    ("policy", "fields", "claim", "set_to"),
    [
        # A default within the bound stays; one beyond it is lowered.
        ({"worker_memory": "8G"}, [("String", "worker_memory", "2 G")], {},
         {"worker_memory": "2 G"}),
        ({"worker_memory": "8G"}, [("String", "worker_memory", "64 G")], {},
         {"worker_memory": "8192 M"}),
        ({"max_memory": "8G"}, [("Float", "worker_memory", 16)], {"max_workers": 4},
         {"worker_memory": 2}),
        ({"max_cores": 8}, [("Integer", "cpu", 16)], {"max_workers": 3}, {"cpu": 2}),
        ({"worker_cores": 2},
         [("Float", "worker_cores", 1), ("Float", "worker_cores_limit", 4)], {},
         {"worker_cores": 1, "worker_cores_limit": 2}),
        ({"worker_memory": "2G"},
         [("String", "worker_memory", "1 G"), ("String", "worker_memory_limit", "64 G")], {},
         {"worker_memory": "1 G", "worker_memory_limit": "2048 M"}),
        ({"gpus": 0}, [("Integer", "gpus", 1)], {}, {"gpus": 0}),
        ({"gpus": 0}, [("Bool", "gpu", True)], {}, {"gpu": False}),
        *(({"gpus": most}, [("Bool", "gpu", default)], {}, {"gpu": default})
          for most in (1, 2) for default in (False, True)),
        # Whole units, never more than the bound.
        ({"max_memory": "10G"}, [("Integer", "worker_memory", 4)], {"max_workers": 4},
         {"worker_memory": 2}),
        ({"worker_memory": "1500M"}, [("Integer", "worker_memory", 4096)], {},
         {"worker_memory": 1500}),
        ({"worker_cores": 2.5}, [("Integer", "cpu", 4)], {}, {"cpu": 2}),
        ({"worker_cores": 4},
         [("Select", "size", ["2 CPU, 4 GB", "8 CPU, 9 GB"], "8 CPU, 9 GB")], {},
         {"size": "2 CPU, 4 GB"}),
        # Beside a choice of a whole size, too.
        ({"gpus": 0},
         [("Select", "size", ["2 CPU, 4 GB"], "2 CPU, 4 GB"), ("Integer", "gpus", 1)], {},
         {"size": "2 CPU, 4 GB", "gpus": 0}),
    ],
)  # fmt: skip
def test_defaults_of_a_gateway(
    policy: dict[str, Any], fields: list[Any], claim: dict[str, Any], set_to: dict[str, Any]
) -> None:
    options = lowered(policy, fields, claim)
    assert {name: options[name] for name in set_to} == set_to


@pytest.mark.parametrize(
    ("policy", "fields", "site", "words"),
    [
        ({"worker_memory": "8G"}, [], {}, "no file tells its default; .*policy.worker_memory in"),
        ({"worker_cores": 4}, [], DEFAULT_16, "its default is 16; .*policy.worker_cores in"),
        ({"max_cores": 4}, [("Select", "size", ["8 CPU, 4 GB"], "8 CPU, 4 GB")], {},
         "exceeds policy.max_cores in"),
        ({"max_cores": 4}, [("Float", "worker_cores", 8, 8)], {}, "policy.max_cores in"),
        ({"worker_memory": "512M"}, [("Integer", "worker_memory", 4)], {},
         "no integer of worker_memory is small enough"),
        # Its limit would be more than it has, perhaps.
        ({"worker_memory": "8G"}, [("String", "worker_memory", "")], {},
         "nobody can tell how much worker_memory '' is; claim worker_memory, or its operator"),
        ({"worker_cores": 8}, [("Select", "cpu", ["few", "8 CPU"], "few")], {},
         "nobody can tell how much cpu 'few' is"),
        # A choice that the site's file does not tell the size of.
        ({"worker_cores": 4}, [("Select", "size", ["small", "huge"], "huge")],
         {"choices": {"size": SMALL_LARGE}}, "no file tells its default"),
        ({"worker_cores": 4},
         [("Select", "size", ["small", "huge"], "huge"),
          ("Select", "kind", ["2CPU, 4Gi"], "2CPU, 4Gi")],
         {"choices": {"size": SMALL_LARGE}}, "no file tells its default"),
    ],
)  # fmt: skip
def test_what_no_gateway_can_lower(
    policy: dict[str, Any], fields: list[Any], site: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        lowered(policy, fields, {}, site)


@pytest.mark.parametrize(
    ("fields", "claim", "set_to"),
    [
        # As much as the site's file says, or as is claimed of the worker itself.
        ([("String", "worker_memory", "")], {}, {"worker_memory": "2G"}),
        ([("String", "worker_cores", "")], {"worker_memory": "1G"}, {"worker_cores": "2"}),
        ([("String", "worker_cores_limit", ""), ("Float", "worker_cores", 1)],
         {"worker_cores": 3.5}, {"worker_cores_limit": "3.5"}),
    ],
)  # fmt: skip
def test_an_unknown_default_is_not_raised(
    fields: list[Any], claim: dict[str, Any], set_to: dict[str, Any]
) -> None:
    policy = {"worker_cores": 4, "worker_memory": "16G"}
    options = lowered(policy, fields, claim, {"default": {"cores": 2, "memory": "2G"}})
    assert {name: options[name] for name in set_to} == set_to


LARGE = "16CPU, 64Gi"


@pytest.mark.parametrize("name", ["profile", "PROFILE"])
@pytest.mark.parametrize("chosen", ["2CPU, 8Gi", LARGE])
@pytest.mark.parametrize("by_site", [False, True])
@pytest.mark.parametrize("more", [{}, {"strict": False}, {"excess": "cut"}], ids=str)
@pytest.mark.parametrize("site", [{}, {"default": {"cores": 2, "memory": "8G"}}], ids=str)
def test_a_choice_that_a_claim_names(
    name: str, chosen: str, by_site: bool, more: dict[str, Any], site: dict[str, Any]
) -> None:
    """It is never another one, and too large only where the site's own file has chosen it."""
    policy = {"worker_cores": 4, "worker_memory": "16G", "excess": more.get("excess", "refuse")}
    fields = [("Select", "profile", ["2CPU, 8Gi", LARGE], "2CPU, 8Gi")]
    claim = {"options": {name: chosen}, "strict": more.get("strict", True)}
    sites = frozenset({f"options.{name}"} if by_site else ())
    attempt = partial(lowered, policy, fields, claim, site, sites)
    if chosen != LARGE or by_site:
        assert attempt()["profile"] == chosen
        return
    with pytest.raises(OptionError, match=r"profile '16CPU, 64Gi' exceeds policy\.worker_cores in"):
        attempt()


def test_the_stronger_of_two_spellings_is_compared() -> None:
    """A claim cannot hide behind what the site's file says of the same option."""
    claim = {"options": {"profile": LARGE, "PROFILE": LARGE}}
    fields = [("Select", "profile", ["2CPU, 8Gi", LARGE], "2CPU, 8Gi")]
    with pytest.raises(OptionError, match=r"exceeds policy\.worker_cores in"):
        lowered({"worker_cores": 4}, fields, claim, {}, frozenset({"options.profile"}))


def test_a_request_knows_what_the_sites_file_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "claim.yaml"
    file.write_text("options: {size: large}\nprofiles: {big: {options: {queue: long}}}\n")
    environ = {
        "DASK_CLAIM_SITE": str(file),
        "DASK_CONFIG": "/dev/null",
        "DASK_CLAIM": json.dumps({**URL, "profile": "big", "options": {"account": "x"}}),
    }
    resolved = load(environ=environ)
    monkeypatch.setattr("os.environ", environ)
    assert Request.of(resolved, 1, 1).sites == {"options.size", "options.queue"}


def lowered(
    policy: dict[str, Any],
    fields: list[Any],
    claim: dict[str, Any],
    site: dict[str, Any] | None = None,
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
    bounds, offered = Policy.model_validate(policy), GatewayOptions.model_validate(site or {})
    asked = Claim.model_validate({**URL, **claim})
    fill(options, asked, None, offered)
    keep_within(options, asked, asked.plan({}).max_workers, offered, bounds, FILE, sites)
    return options
