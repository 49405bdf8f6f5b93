"""A claim in a gateway's terms: a worker is never smaller than claimed, nor beyond the policy.

The options are the server's own classes, seen through the client's; what comes out is accepted by
the server and read as the site's handler would read it, by an oracle of its own.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dask_claim.claim.memory import Memory
from dask_claim.claim.model import Claim, load
from dask_claim.claim.site_sections import OPTION_NAMES, GatewayOptions, Policy
from dask_claim.errors import OptionError
from dask_claim.providers.gateway.amounts import written
from dask_claim.providers.gateway.filling import (
    IDLE_TIMEOUT,
    Filling,
    end_when_idle,
    variables_option,
)
from dask_claim.providers.gateway.fit import Bounds
from dask_claim.providers.values import Request
from tests.support.claims import Fields, environ_with

server = pytest.importorskip("dask_gateway_server.options")
traitlets = pytest.importorskip("dask_gateway_server.traitlets")

KINDS = ("Bool", "Float", "Integer", "Mapping", "Select", "String")
Bool, Float, Integer, Mapping, Select, String = (getattr(server, kind) for kind in KINDS)
FILE = "/site/claim.yaml"


def offered(*fields: Any) -> Any:
    """The client's view of what a server offers."""
    from dask_gateway.options import Options

    return Options._from_spec(json.loads(json.dumps(server.Options(*fields).get_specification())))


def fill(
    *fields: Any,
    policy: Fields | None = None,
    site: Fields | None = None,
    sites: frozenset[str] = frozenset(),
    **claimed: Any,
) -> tuple[Fields, Filling]:
    """What the server accepts for a claim, and what is told; `sites`: the file's own fields."""
    options, claim = offered(*fields), Claim(**claimed)
    workers = claim.plan({}).max_workers
    bounds = Bounds(Policy.model_validate(policy or {}), FILE, sites, workers)
    named = GatewayOptions.model_validate(site or {})
    filled = Filling(options, claim, workers, named, bounds).fill()
    return server.Options(*fields).parse_options(json.loads(json.dumps(dict(options)))), filled


def fault(*fields: Any, **more: Any) -> str:
    """What is wrong with a claim."""
    with pytest.raises(OptionError) as caught:
        fill(*fields, **more)
    assert caught.value.exit_status == 78
    return str(caught.value)


def given_by(field: Any, **more: Any) -> tuple[Any, Any]:
    """The value of one option, and what is said of it; None and the fault where there is one."""
    try:
        options, filled = fill(field, **more)
    except OptionError as error:
        return None, str(error)
    return options[field.field], filled


def option(kind: str, name: str, choices: Any = ("x", "y"), **settings: Any) -> Any:
    given = ([*choices],) if kind == "Select" else ()
    return getattr(server, kind)(name, *given, **settings)


def test_what_is_not_offered_is_named_and_left() -> None:
    options, filled = fill(
        Float("worker_cores", default=1),
        worker_cores=2, worker_cores_limit=3, image="bai:1", options={"queue": "long"},
    )  # fmt: skip
    assert filled.missing == ["image", "worker_cores_limit", "queue"]
    assert options == {"worker_cores": 2.0}


def test_every_fault_at_once_with_its_limits() -> None:
    told = fault(
        Integer("worker_cores", default=2, min=2, max=8), Bool("gpu"),
        Float("worker_memory", default=2, min=2, max=16), Select("profile", ["small", "large"]),
        worker_cores=0.5, worker_memory="32 G", options={"profile": "huge", "gpu": "maybe"},
    )  # fmt: skip
    for said in (
        "worker_cores = 0.5: is not a whole number; this gateway offers 2 to 8",
        "worker_memory = 32 G", "2 to 16 GiB", "one of small, large", "gpu = maybe",
    ):  # fmt: skip
        assert said in told


@given(st.one_of(st.integers(1, 10**15), st.sampled_from(["1GB", "1Gi", "1.5 GiB", "7 K"])))
@example(4 * 10**9)
def test_the_server_reads_exactly_the_claimed_bytes(claimed: int | str) -> None:
    size = Memory(claimed).bytes
    assert traitlets.MemoryLimit().validate(None, written(size)) == size


def test_variables_and_gpus_under_other_names() -> None:
    fields = Mapping("environment_vars", {"SITE": "x"}), Bool("gpu")
    options, filled = fill(*fields, gpus=1, environment={"A": "b"})
    assert options == {"environment_vars": {"SITE": "x", "A": "b"}, "gpu": True}
    assert filled.understood == ["gpus is its gpu", "environment is its environment_vars"]
    assert "gpu = 2: it offers one or none" in fault(*fields, gpus=2)


def test_what_no_default_satisfies() -> None:
    field = Float("worker_cores", default=1, max=4)
    claim: Fields = {"gpus": 1, "environment": {"A": "b"}, "worker_cores": 8}
    told = fault(field, **claim)
    assert all(said in told for said in ("gpus = 1", "environment = A", "worker_cores = 8: "))
    options, filled = fill(field, strict=False, **claim)
    assert len(filled.given_up) == 3 and options == {"worker_cores": 1}
    assert fill(field, gpus=0)[1].missing == []


# -- choices that stand for a size

SIZES = ["4CPU, 28.9Gi", "1CPU, 7.2Gi", "2CPU, 14.5Gi"]


@pytest.mark.parametrize(
    ("choices", "claim", "chosen"),
    [
        (SIZES, {"worker_cores": 1}, "1CPU, 7.2Gi"),
        (SIZES, {"worker_cores": 1.5}, "2CPU, 14.5Gi"),
        (SIZES, {"worker_memory": "16G"}, "4CPU, 28.9Gi"),
        (SIZES, {"worker_cores": 2, "worker_memory": "7 GiB"}, "2CPU, 14.5Gi"),
        (SIZES, {"worker_cores": 5}, None),
        (SIZES, {"image": "eo:1"}, "missing"),
        (["small", "1CPU, 2Gi"], {"worker_cores": 5}, "missing"),
        (["2 CPU, 4 GB, 1 GPU", "2 CPU, 8 GB"], {"worker_cores": 2}, "2 CPU, 8 GB"),
        (["2 CPU, 8 GB", "2 CPU, 4 GB, 1 GPU"], {"gpus": 1}, "2 CPU, 4 GB, 1 GPU"),
        (["4 CPU, 16 GB", "4 CPU, 16 GB, 2 x T4"], {"gpus": 2}, "4 CPU, 16 GB, 2 x T4"),
        (["4 CPU, 16 GB, no GPU", "4 CPU, 16 GB, GPU"], {"gpus": 1}, "4 CPU, 16 GB, GPU"),
        (["A100 40GB: 4 CPU, 16 GB RAM", "8 CPU, 64 GB"], {"worker_memory": "32G"}, "8 CPU, 64 GB"),
        (["A100 (40 GB), 4 CPU, 16 GB"], {"worker_memory": "32G"}, None),
        (["16 GB VRAM, 4 CPU, 8 GB"], {"worker_memory": "12G"}, None),
        (["4 CPU, 16 GB, 100 GB disk"], {"worker_memory": "32G"}, None),
        (["1-4 CPU, 8 GB", "2 CPU, 4 GB"], {"worker_cores": 2}, "missing"),
        (["up to 4 CPU, 8 GB"], {"worker_cores": 4}, "missing"),
        (["8 CPU, 8 to 64 GB"], {"worker_memory": "32G"}, "missing"),
    ],
)  # fmt: skip
def test_what_a_text_says_of_a_worker(
    choices: list[str], claim: Fields, chosen: str | None
) -> None:
    value, said = given_by(Select("size", choices), **claim)
    if chosen == "missing":
        assert (value, said.missing) == (choices[0], list(claim))
    elif chosen is None:
        assert f"no choice is enough; this gateway offers one of {choices[0]}" in said
    else:
        assert value == chosen
        assert f"{chosen!r} is its smallest choice that is enough (" in said.understood[0]


def test_a_size_is_that_of_a_whole_worker() -> None:
    """Of both, cores and memory, where an option of a field's own name tells both."""
    field = Select("worker_memory", ["1 CPU, 8 GB", "4 CPU, 16 GB"])
    assert given_by(field, worker_cores=4, worker_memory="4 G")[0] == "4 CPU, 16 GB"
    schedulers = Select("scheduler_size", ["1CPU, 2Gi"])
    options, _ = fill(schedulers, Select("size", ["8CPU, 9Gi"]), worker_cores=4)
    assert options == {"scheduler_size": "1CPU, 2Gi", "size": "8CPU, 9Gi"}


# -- the site's file

SITE = {
    "names": {"worker_cores": "Kerne", "worker_memory": "mem", "image": "tag"},
    "units": {"mem": "MB"},
    "choices": {
        "profile": {
            "Small": {"cores": 1, "memory": "2G"},
            "Large": {"cores": 8, "memory": "32G"},
            "Graphics": {"cores": 8, "memory": "32G", "gpus": 1},
        }
    },
    "default": {"cores": 2, "memory": "8G"},
}
RENAMED = GatewayOptions.model_validate({"names": {"environment": "Env_Vars"}})


def test_names_and_units_of_the_site_file() -> None:
    fields = Integer("kerne"), Float("mem", label="Memory (GiB)"), String("tag")
    options, filled = fill(*fields, site=SITE, worker_cores=2, worker_memory="4GB", image="eo:1")
    assert options == {"kerne": 2, "mem": 4000.0, "tag": "eo:1"}
    assert "worker_cores is its kerne" in filled.understood
    for field, names in OPTION_NAMES.items():
        for name in names:
            assert GatewayOptions().field_of(name.upper()) == field
            assert GatewayOptions().option_for(field, ["x", name.upper()]) == name.upper()
    assert RENAMED.field_of("ENV_VARS") == "environment" and RENAMED.field_of("x") is None


@pytest.mark.parametrize(
    "field",
    [
        Select("profile", ["Medium", "Small", "Large", "Graphics", "Odd"]),
        String("profile", "Medium"),
    ],
)
def test_choices_of_the_site_file(field: Any) -> None:
    claims: list[tuple[Fields, str]] = [
        ({"worker_cores": 1, "worker_memory": "1G"}, "Small"), ({"worker_cores": 2}, "Large"),
        ({"gpus": 1}, "Graphics"), ({"image": "eo:1"}, "Medium"),
    ]  # fmt: skip
    for claim, chosen in claims:
        assert given_by(field, site=SITE, **claim)[0] == chosen
    assert "worker_cores = 9: no choice is enough" in fault(field, site=SITE, worker_cores=9)


@pytest.mark.parametrize(
    ("field", "chosen", "smallest"),
    [
        (Integer("size", 1, max=4), 2, 1), (Float("size", 1, max=4), 2.0, 1),
        (Bool("size"), True, False), (Mapping("size"), {}, {}),
    ],
)  # fmt: skip
def test_choices_of_the_site_file_for_every_kind(field: Any, chosen: Any, smallest: Any) -> None:
    """Those that the option cannot have do not count; a number or switch is one in the request."""
    worker, large = {"cores": 1, "memory": "2G"}, {"cores": 4, "memory": "8G"}
    site = {"choices": {"size": {
        "1": worker, "2": large, "9": large, "false": worker, "true": large,
    }}}  # fmt: skip
    assert given_by(field, site=site, worker_cores=2)[0] == chosen
    if chosen:
        assert given_by(field, site=site, policy={"worker_cores": 2})[0] == smallest


def test_default_of_the_site_file() -> None:
    """What cannot be chosen is enough by default, or it is an error."""
    field = String("queue", "all")
    assert fill(field, site=SITE, worker_cores=2)[1].missing == ["worker_cores"]
    claim: Fields = {"worker_cores": 2, "worker_memory": "16G"}
    told = fault(field, site=SITE, **claim)
    assert "worker_memory = 16G: " in told and "its default is 8G" in told
    assert len(fill(field, site=SITE, strict=False, **claim)[1].given_up) == 1
    assert "its default is 0" in fault(field, site=SITE, gpus=1)


def test_a_cluster_that_nobody_uses_ends() -> None:
    fields = Mapping("environment", {"A": "b"}), Integer("idle_timeout_minutes")
    options = offered(*fields)
    assert end_when_idle(options, Claim(), 90)
    own = {"A": "b", IDLE_TIMEOUT: "90s"}
    assert dict(options) == {"environment": own, "idle_timeout_minutes": 2}
    # What the claim says itself stays.
    claim = Claim(environment={IDLE_TIMEOUT: "5s"}, options={"idle_timeout_minutes": 30})
    Filling(options, claim).fill()
    end_when_idle(options, claim, 90)
    assert options["environment"][IDLE_TIMEOUT] == "5s"
    assert options["idle_timeout_minutes"] == 30
    assert not end_when_idle(offered(String("image")), Claim(), 90)
    never = Claim(options={"idle_timeout_minutes": 0})
    assert not end_when_idle(offered(fields[1]), never, 90)
    chosen = offered(Integer("idle_timeout", 1800))
    assert not end_when_idle(chosen, Claim(), 90) and chosen["idle_timeout"] == 1800


def test_the_sites_name_for_variables_counts_everywhere() -> None:
    """The claim's variables, the end of a cluster that nobody uses, and the mark of a run."""
    options = offered(Mapping("environment", {}), Mapping("env_vars", {"A": "b"}))
    claim = Claim(environment={"C": "d"})
    assert Filling(options, claim, None, RENAMED).fill().missing == []
    assert end_when_idle(options, claim, 90, RENAMED)
    own = {"A": "b", "C": "d", IDLE_TIMEOUT: "90s"}
    assert dict(options) == {"env_vars": own, "environment": {}}
    assert variables_option(options, RENAMED) == "env_vars"
    assert variables_option(options) == "environment"
    assert variables_option(offered(String("environment"))) is None


# -- the policy, which sees what no file tells when the gateway tells what it offers

SIZE = Select("size", ["2 CPU, 4 GB", "8 CPU, 9 GB"], default="8 CPU, 9 GB")
UNKNOWN = Select("size", ["small", "huge"], default="huge")
CHOICES = {"choices": {"size": {
    "small": {"cores": 2, "memory": "4G"}, "large": {"cores": 16, "memory": "64G", "gpus": 1},
}}}  # fmt: skip
TWO = {"default": {"cores": 2, "memory": "2G"}}
SIXTEEN = {"default": {"cores": 16, "memory": "2G"}}
BOTH = {"worker_cores": 4, "worker_memory": "16G"}


@pytest.mark.parametrize(
    ("policy", "fields", "claim", "site", "expected"),
    [
        # A default within the bound stays; one beyond it is lowered.
        ({"worker_memory": "8G"}, [String("worker_memory", "2 G")], {}, {},
         {"worker_memory": "2 G"}),
        ({"worker_memory": "8G"}, [String("worker_memory", "64 G")], {}, {},
         {"worker_memory": "8 G"}),
        ({"max_memory": "8G"}, [Float("worker_memory", 16)], {"max_workers": 4}, {},
         {"worker_memory": 2}),
        ({"max_cores": 8}, [Integer("cpu", 16)], {"max_workers": 3}, {}, {"cpu": 2}),
        ({"worker_cores": 2}, [Float("worker_cores", 1), Float("worker_cores_limit", 4)], {}, {},
         {"worker_cores": 1, "worker_cores_limit": 2}),
        ({"worker_memory": "2G"},
         [String("worker_memory", "1 G"), String("worker_memory_limit", "64 G")], {}, {},
         {"worker_memory": "1 G", "worker_memory_limit": "2 G"}),
        ({"gpus": 0}, [Integer("gpus", 1)], {}, {}, {"gpus": 0}),
        ({"gpus": 0}, [Bool("gpu", True)], {}, {}, {"gpu": False}),
        *(({"gpus": most}, [Bool("gpu", default)], {}, {}, {"gpu": default})
          for most in (1, 2) for default in (False, True)),
        # Whole units, never more than the bound.
        ({"max_memory": "10G"}, [Integer("worker_memory", 4)], {"max_workers": 4}, {},
         {"worker_memory": 2}),
        ({"worker_memory": "1500M"}, [Integer("worker_memory", 4096)], {}, {},
         {"worker_memory": 1500}),
        ({"worker_cores": 2.5}, [Integer("cpu", 4)], {}, {}, {"cpu": 2}),
        ({"worker_cores": 4}, [SIZE], {}, {}, {"size": "2 CPU, 4 GB"}),
        # Beside a choice of a whole size, too.
        ({"gpus": 0}, [SIZE, Integer("gpus", 1)], {}, {}, {"size": "8 CPU, 9 GB", "gpus": 0}),
        # An unknown default is not raised: as much as the site's file says, or as is claimed of
        # the worker itself.
        (BOTH, [String("worker_memory", "")], {}, TWO, {"worker_memory": "2 G"}),
        (BOTH, [String("worker_cores", "")], {"worker_memory": "1G"}, TWO, {"worker_cores": "2"}),
        (BOTH, [String("worker_cores_limit", ""), Float("worker_cores", 1)],
         {"worker_cores": 3.5}, TWO, {"worker_cores_limit": "3.5"}),
        # Nor is one that takes the place of what the claim cannot have.
        ({"worker_cores": 2}, [Integer("worker_cores", 4)], {"strict": False, "worker_cores": 0.5},
         {}, {"worker_cores": 2}),
        ({"worker_memory": "6G"}, [Float("worker_memory", 16, min=2)],
         {"strict": False, "worker_memory": "1G"}, {}, {"worker_memory": 6}),
        ({"worker_memory": "6G"}, [Integer("worker_memory", 16)],
         {"strict": False, "worker_memory": 10**9}, {}, {"worker_memory": 6}),
        # What cannot be lowered.
        ({"worker_memory": "8G"}, [], {}, {},
         "no file tells its default; .*policy.worker_memory in"),
        ({"worker_cores": 4}, [], {}, SIXTEEN, "its default is 16; .*policy.worker_cores in"),
        ({"max_cores": 1}, [SIZE], {}, {}, "exceeds policy.max_cores in"),
        ({"max_cores": 4}, [Float("worker_cores", 8, min=8)], {}, {}, "policy.max_cores in"),
        ({"worker_memory": "512M"}, [Integer("worker_memory", 4)], {}, {},
         "no integer of worker_memory is small enough"),
        # Its limit would be more than it has, perhaps.
        ({"worker_memory": "8G"}, [String("worker_memory", "")], {}, {},
         "it is unclear how much worker_memory '' is; claim worker_memory, or its operator"),
        ({"worker_cores": 8}, [Select("cpu", ["few", "8 CPU"])], {}, {},
         "it is unclear how much cpu 'few' is"),
        *(({"worker_cores": 2}, [field], {"strict": False, "worker_cores": 1}, {},
           "may exceed policy.worker_cores in")
          for field in (Bool("worker_cores", True), Select("worker_cores", ["small", "large"]))),
        # A choice that the site's file does not tell the size of.
        ({"worker_cores": 4}, [UNKNOWN], {}, CHOICES, "no file tells its default"),
        ({"worker_cores": 4}, [UNKNOWN, Select("kind", ["2CPU, 4Gi"])], {}, CHOICES,
         "no file tells its default"),
    ],
)  # fmt: skip
def test_defaults_within_the_policy(
    policy: Fields, fields: list[Any], claim: Fields, site: Fields, expected: Fields | str
) -> None:
    if isinstance(expected, str):
        with pytest.raises(OptionError, match=expected):
            fill(*fields, policy=policy, site=site, **claim)
        return
    options, filled = fill(*fields, policy=policy, site=site, **claim)
    assert {name: options[name] for name in expected} == expected
    assert bool(filled.given_up) is ("strict" in claim)


LARGE = "16CPU, 64Gi"
PROFILE = Select("profile", ["2CPU, 8Gi", LARGE])


@pytest.mark.parametrize("by_site", [False, True])
def test_a_choice_that_a_claim_names(by_site: bool) -> None:
    """It is never another one, and too large only where the site's own file has chosen it."""
    for name, site, chosen, strict, excess in product(
        ("profile", "PROFILE"), ({}, TWO), ("2CPU, 8Gi", LARGE), (True, False), ("refuse", "cut")
    ):
        asked: Fields = {
            "policy": {**BOTH, "excess": excess}, "site": site, "strict": strict,
            "options": {name: chosen},
            "sites": frozenset({f"options.{name}"} if by_site else ()),
        }  # fmt: skip
        if chosen != LARGE or by_site:
            assert given_by(PROFILE, **asked)[0] == chosen
        else:
            assert "'16CPU, 64Gi' exceeds policy.worker_cores in" in fault(PROFILE, **asked)


def test_a_request_knows_what_the_sites_file_asks_for(tmp_path: Path) -> None:
    """A claim cannot hide behind what that says of the same option in another spelling."""
    text = (
        f"options: {{profile: '{LARGE}', size: x}}\nprofiles: {{big: {{options: {{queue: y}}}}}}\n"
    )
    options = {"account": "x", "PROFILE": LARGE}
    environ = environ_with(tmp_path, text, gateway_url="http://gw", profile="big", options=options)
    request = Request.of(load(environ=environ), 1, 1)
    assert request.site_fields == {"options.size", "options.queue"}
    chosen = {"profile": request.claim.options["profile"]}
    told = fault(PROFILE, policy={"worker_cores": 4}, sites=request.site_fields, options=chosen)
    assert "exceeds policy.worker_cores in" in told


@pytest.mark.parametrize(
    ("name", "choices"),
    [("worker_memory", ["2G", "8G"]), ("size", ["2 CPU, 8G", "1 CPU, 2G"])],
)
def test_the_policy_never_makes_a_worker_smaller_than_claimed(
    name: str, choices: list[str]
) -> None:
    """Without a fault or a warning; and no choice is beyond it."""
    for asked, strict, excess in product([None, "1G", "4G"], [True, False], ["refuse", "cut"]):
        policy = {"worker_memory": "6G", "excess": excess}
        value, said = given_by(
            Select(name, choices), policy=policy, worker_memory=asked, strict=strict
        )
        if asked == "4G" and strict and excess == "refuse":
            assert value is None and f"policy.worker_memory in {FILE}" in said
        else:
            assert "2G" in value and bool(said.less) == (asked == "4G")


@pytest.mark.parametrize(
    ("field", "told"),
    [
        (Integer("cluster_max_workers", 5, max=10), "cluster_max_workers = 20"),
        (Float("cluster_max_cores", 5, max=10), "cluster_max_cores = 41"),
        (Float("cluster_max_memory", 5, max=10), "cluster_max_memory = 82 G"),
        (Float("worker_memory_limit", 2, max=3), "worker_memory_limit = 4 G"),
        # It is still as large a worker.
        (Integer("worker_threads", 1, max=1), None),
    ],
)
def test_limits_of_what_follows_from_the_claim(field: Any, told: str | None) -> None:
    claim: Fields = {"max_workers": 20, "worker_cores": 2, "worker_memory": "4G"}
    if told is None:
        assert "worker_threads = 2" in fill(field, **claim)[1].less[0]
        return
    assert f"{told}: " in (words := fault(field, **claim)) and "offers at most" in words
    value, filled = given_by(field, strict=False, **claim)
    assert told in filled.given_up[0] and value == field.default


# -- the case of names


def test_options_are_matched_whatever_their_case() -> None:
    """Exactly first, where two differ in nothing else."""
    for offers, said in product(
        [("CPU",), ("Cpu",), ("cpu",), ("CPU", "cpu"), ("Cpu", "CPU")], ["CPU", "cpu", "Cpu"]
    ):
        options, filled = fill(*(Integer(name, 1) for name in offers), options={said: 2})
        chosen = said if said in offers else offers[-1]
        assert options == {name: 2 if name == chosen else 1 for name in offers}
        assert filled.missing == []


def test_stronger_source_holds_where_names_differ_in_case_only(tmp_path: Path) -> None:
    environ = environ_with(tmp_path, "options: {CPU: 1, queue: long}\n", options={"cpu": 2})
    for flags, cpu in (({}, 2), ({"options": {"CPU": 3}}, 3)):
        found = load(flags, environ).claim.options
        options, _ = fill(Integer("CPU", 9), String("Queue"), options=found)
        assert options == {"CPU": cpu, "Queue": "long"}


# -- every kind of option × label × unit × form of choice

BYTES = {
    "bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9,
}  # fmt: skip
LABELS = {
    "bytes": ["Memory (bytes)", "memory in bytes", "RAM [B]"],
    "MiB": ["Memory (Mi)", "Worker Memory (MiB)", "mebibytes", "ram_mib", "memory in M"],
    # The last ones name no unit.
    "GiB": [
        "Memory (GiB)", "memory in gi", "Worker memory, gibibytes", "(G)", "Memory", "RAM",
        "Worker memory (optional)", "Arbeitsspeicher je Worker",
    ],
    "MB": ["in mb", "Memory (MB)", "megabytes", "memory_mb"],
    "GB": ["Memory in GB", "gigabytes", "Worker Memory (gb)"],
}  # fmt: skip
UNLABELLED = {"bytes": [2**20, 2**30], "MiB": [256, 4096, 2**20 - 1], "GiB": [0, 1, 4, 255]}
SUFFIXES = {
    "": 1, "K": 2**10, "M": 2**20, "G": 2**30, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, **BYTES
}  # fmt: skip
UNITS = sorted(SUFFIXES.keys() - {"", "bytes"})
CLAIMS = ["4 G", "4GB", "1536 MiB", "7.2Gi", "123456789", "500 MB", "1 K"]


def in_bytes(text: str) -> int:
    """As a handler reads a text: a number and its suffix, in whole bytes."""
    digits = text.rstrip("KMGTiBb ")
    return int(float(digits) * SUFFIXES[text[len(digits) :].strip()])


@st.composite
def memory_options(draw: Any) -> tuple[Any, str]:
    """An option for a worker's memory, and the unit that its numbers really count."""
    kind = draw(st.sampled_from(["Integer", "Float", "String", "Select"]))
    labelled = draw(st.booleans())
    unit = draw(st.sampled_from(sorted(LABELS if labelled else UNLABELLED)))
    label = draw(st.sampled_from(LABELS[unit])) if labelled else None
    default = 4 if labelled else draw(st.sampled_from(UNLABELLED[unit]))
    if kind != "Select":
        value = str(default) if kind == "String" else default
        return option(kind, "worker_memory", default=value, label=label), unit
    numbers = [max(default, 1) * factor for factor in draw(st.permutations([1, 2, 4, 8]))]
    if not labelled:
        small = {"MiB": [256, 1024, 4096, 16384], "GiB": [1, 4, 2, 8]}
        numbers = small.get(unit, numbers)
    return option(kind, "worker_memory", map(str, numbers), label=label), unit


@given(memory_options(), st.sampled_from(CLAIMS))
def test_memory_as_a_number(made: tuple[Any, str], claimed: str) -> None:
    field, unit = made
    value, said = given_by(field, worker_memory=claimed)
    if value is None:
        assert "worker_memory = " in said
        return
    asked = float(value) * BYTES[unit]
    assert asked >= in_bytes(claimed) - 1e-3
    if not isinstance(field, Select):
        assert asked <= in_bytes(claimed) * 1.011
    assert f"worker_memory counts {unit} (" in "; ".join(said.understood)


@given(st.sampled_from(UNITS), st.sampled_from(["", " "]), st.sampled_from(CLAIMS))
def test_memory_as_a_text(suffix: str, space: str, claimed: str) -> None:
    """A text has the form of the gateway's default, and exactly the amount."""
    field = String("worker_memory", f"2{space}{suffix}")
    value, said = given_by(field, worker_memory=claimed)
    assert in_bytes(value) == in_bytes(claimed)
    if suffix in "KMG":
        assert value[-1] in "KMG"
    else:
        assert value.endswith(suffix[1:]) and said.understood


@given(
    st.permutations(["2", "4", "8"]), st.sampled_from(UNITS),
    st.sampled_from(["{}{}", "{} {}", "large ({} {})", "{} {} RAM, 100 GB disk"]),
    st.sampled_from(CLAIMS),
)  # fmt: skip
def test_memory_as_a_choice(numbers: list[str], suffix: str, form: str, claimed: str) -> None:
    """The smallest that is enough, or none is."""
    sizes = {form.format(number, suffix): float(number) * SUFFIXES[suffix] for number in numbers}
    value, said = given_by(Select("worker_memory", list(sizes)), worker_memory=claimed)
    enough = [size for size in sizes.values() if size >= in_bytes(claimed)]
    if value is None:
        assert not enough and "no choice is enough; this gateway offers one of" in said
    else:
        assert sizes[value] == min(enough)
        assert f"{value!r} is its smallest choice that is enough" in "; ".join(said.understood)


FORMS = ["{}", "{}.0", "{} cores", "{} CPU", "{}vCPU (shared)", "large: {} cores"]


@given(
    st.sampled_from(KINDS), st.sampled_from(["worker_cores", "worker_cores_limit"]),
    st.sampled_from(FORMS), st.permutations([1, 2, 4]), st.sampled_from([0.5, 1, 1.5, 2, 4, 5]),
)  # fmt: skip
def test_cores(kind: str, name: str, form: str, numbers: list[int], claimed: float) -> None:
    choices = {form.format(number): number for number in numbers}
    claim = {"worker_cores": min(claimed, 0.5), name: claimed}
    value, said = given_by(option(kind, name, choices), **claim)
    if value is None:
        assert f"{name} = {claimed}" in said
        wrong = {"Bool", "Mapping"} | ({"Select"} if claimed > 4 else set())
        assert kind in wrong | ({"Integer"} if claimed % 1 else set())
    elif kind == "Select":
        assert choices[value] == min(number for number in numbers if number >= claimed)
    else:
        assert float(value) == claimed


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_cannot_hold_a_field_is_status_78(kind: str) -> None:
    for name, asked, holding in (
        ("worker_memory", "4 G", {"Integer", "Float", "String"}),
        ("worker_cores", 2, {"Integer", "Float", "String"}),
        ("gpus", 1, {"Integer", "Float", "String", "Bool"}),
        ("gpus", 0, {"Integer", "Float", "String", "Bool", "Select"}),
        ("image", "a:1", {"String"}),
        ("environment", {"A": "b"}, {"Mapping"}),
    ):
        value, said = given_by(option(kind, name, ["x"]), **{name: asked})
        if kind in holding:
            assert isinstance(said, Filling) and not said.missing
        else:
            assert value is None and f"{name} = " in said
    if kind != "Mapping":
        # Nobody knows the form in which such a gateway wants them.
        assert "environment = A" in said and "give environment in `options`" in said
    own = {"environment": "A=b"}
    assert given_by(String("environment"), options=own)[0] == "A=b"


THREE: Fields = {"worker_cores": 2, "worker_memory": "4G", "max_workers": 3}


@pytest.mark.parametrize("kind", KINDS)
def test_a_scheduler_that_cannot_be_counted(kind: str) -> None:
    for name, label in product(
        ["scheduler_cores", "scheduler_core_limit", "scheduler_memory", "scheduler_memory_limit"],
        [None, "Blocks (pages)"],
    ):
        own = {name: True} if kind == "Bool" else {}
        options, _ = fill(
            option(kind, name, ["small", "large"], label=label),
            Integer("cluster_max_cores"), Integer("cluster_max_memory", 2**40),
            **THREE, options=own,
        )  # fmt: skip
        counted = kind in ("Integer", "Float")
        assert options["cluster_max_cores"] == (6 if counted and "core" in name else 7)
        counted = counted and "memory" in name and not label
        assert options["cluster_max_memory"] == (12 if counted else 14) * 2**30


def test_a_scheduler_that_is_counted() -> None:
    options, _ = fill(
        Select("scheduler_cores", ["1.0", "2.0"]), Select("scheduler_memory", ["1GB", "4 GB"]),
        Float("cluster_max_cores"), Float("cluster_max_memory", 2**40),
        **THREE, options={"scheduler_cores": "2.0", "scheduler_memory": "4 GB"},
    )  # fmt: skip
    assert options["cluster_max_cores"] == 8
    assert options["cluster_max_memory"] == 12 * 2**30 + 4e9


@pytest.mark.parametrize("kind", ["String", "Select", "Bool", "Mapping"])
def test_what_nobody_claimed_is_no_fault(kind: str) -> None:
    for name in (
        "worker_threads", "worker_memory_limit", "cluster_max_workers", "cluster_max_memory",
        "cluster_max_cores",
    ):  # fmt: skip
        field = option(kind, name)
        value, said = given_by(field, **THREE)
        assert isinstance(said, Filling)
        assert kind == "String" or value == field.get_default()


@pytest.mark.parametrize("label", ["Memory (pages)", "memory in blocks", "pages", "RAM [words]"])
def test_an_unknown_unit_is_status_78(label: str) -> None:
    site = {"units": {"Worker_Memory": "GiB"}}
    for field in (
        Integer("worker_memory", 4, label=label), String("worker_memory", "4", label=label),
        Select("worker_memory", ["1", "8"], label=label),
    ):  # fmt: skip
        told = fault(field, worker_memory="4 G")
        assert f"its label {label!r} names an unknown unit" in told and "gateway_options" in told
        value, said = given_by(field, site=site, worker_memory="4 G")
        assert float(value) in (4, 8) and "by the site's file" in "; ".join(said.understood)


@pytest.mark.parametrize(("default", "alone", "shared"), [(9, 3, 9), (2, 3, 3), (0, 3, 3)])
def test_bounds_of_the_whole_leave_room_for_runs_that_join(
    default: int, alone: int, shared: int
) -> None:
    for key, most in ((None, alone), ("k", shared)):
        field = Integer("cluster_max_workers", default)
        assert given_by(field, share=key, max_workers=3)[0] == most
