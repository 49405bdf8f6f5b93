"""The claim in a gateway's own terms: a worker is never smaller than claimed.

The options are the server's own classes, seen through the client's; what comes out is accepted by
the server and read as the site's handler would read it, by an oracle of its own.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dask_claim.claim.memory import Memory
from dask_claim.claim.model import Claim, load
from dask_claim.claim.site_sections import OPTION_NAMES, GatewayOptions, Policy
from dask_claim.cli.options import claimed
from dask_claim.errors import OptionError
from dask_claim.providers.gateway.amounts import written
from dask_claim.providers.gateway.filling import (
    IDLE_TIMEOUT,
    Filling,
    end_when_idle,
    variables_option,
)
from dask_claim.providers.gateway.fit import Bounds

server = pytest.importorskip("dask_gateway_server.options")
traitlets = pytest.importorskip("dask_gateway_server.traitlets")

KINDS = ("Integer", "Float", "String", "Select", "Bool", "Mapping")


def option(kind: str, name: str, choices: Any = ("x", "y"), **settings: Any) -> Any:
    """One of the server's own."""
    if kind == "Select":
        return server.Select(name, list(choices), **settings)
    return getattr(server, kind)(name, **settings)


def offered(*fields: Any) -> Any:
    """The client's view of what a server offers."""
    from dask_gateway.options import Options

    return Options._from_spec(server.Options(*fields).get_specification())


def given_by(field: Any, claim: Claim, site: GatewayOptions | None = None) -> Any:
    """What the server accepts for a claim on one option; the fault where there is one."""
    options = offered(field)
    try:
        filled = Filling(options, claim, 3, site).fill()
    except OptionError as error:
        return None, str(error)
    return server.Options(field).parse_options(dict(options))[field.field], filled


def test_what_is_not_offered_is_named_and_left() -> None:
    options = offered(server.Float("worker_cores", default=1))
    claim = Claim(worker_cores=2, worker_cores_limit=3, image="bai:1", options={"queue": "long"})
    assert Filling(options, claim).fill().missing == ["image", "worker_cores_limit", "queue"]
    assert dict(options) == {"worker_cores": 2.0}


def test_every_fault_at_once_with_its_limits() -> None:
    options = offered(
        server.Integer("worker_cores", default=2, min=2, max=8),
        server.Float("worker_memory", default=2, min=2, max=16),
        server.Select("profile", options=["small", "large"]),
        server.Bool("gpu"), server.String("account"),
    )  # fmt: skip
    own = {"profile": "huge", "gpu": "maybe", "account": 12345}
    with pytest.raises(OptionError) as caught:
        Filling(options, Claim(worker_cores=0.5, worker_memory="32 G", options=own)).fill()
    for said in (
        "worker_cores = 0.5: is not a whole number; this gateway offers 2 to 8",
        "worker_memory = 32 G", "2 to 16 GiB", "one of small, large", "gpu = maybe",
    ):  # fmt: skip
        assert said in str(caught.value)
    assert caught.value.exit_status == 78
    assert options["account"] == "12345"  # digits are no fault of a text


@given(st.one_of(st.integers(1, 10**15), st.sampled_from(["1GB", "1Gi", "1.5 GiB", "7 K"])))
@example(4 * 10**9)
def test_the_server_reads_exactly_the_claimed_bytes(claimed: int | str) -> None:
    size = Memory(claimed).bytes
    assert traitlets.MemoryLimit().validate(None, written(size)) == size


def test_variables_and_gpus_under_other_names() -> None:
    fields = server.Mapping("environment_vars", {"SITE": "x"}), server.Bool("gpu")
    options = offered(*fields)
    filled = Filling(options, Claim(gpus=1, environment={"A": "b"})).fill()
    assert dict(options) == {"environment_vars": {"SITE": "x", "A": "b"}, "gpu": True}
    assert filled.understood == ["gpus is its gpu", "environment is its environment_vars"]
    with pytest.raises(OptionError, match="gpu = 2: it offers one or none"):
        Filling(offered(*fields), Claim(gpus=2)).fill()


def test_what_no_default_satisfies() -> None:
    options = offered(server.Float("worker_cores", default=1, max=4))
    claim = Claim(gpus=1, environment={"A": "b"}, worker_cores=8)
    with pytest.raises(OptionError) as caught:
        Filling(options, claim).fill()
    for said in ("gpus = 1", "environment = A", "worker_cores = 8: "):
        assert said in str(caught.value)
    filled = Filling(options, claim.model_copy(update={"strict": False})).fill()
    assert len(filled.given_up) == 3 and dict(options) == {"worker_cores": 1}
    assert Filling(options, Claim(gpus=0)).fill().missing == []


# -- choices that stand for a size


def test_smallest_choice_that_is_enough() -> None:
    sizes = ["4CPU, 28.9Gi", "1CPU, 7.2Gi", "2CPU, 14.5Gi"]
    for claim, chosen in (
        (Claim(worker_cores=1), "1CPU, 7.2Gi"),
        (Claim(worker_cores=1.5), "2CPU, 14.5Gi"),
        (Claim(worker_memory="16G"), "4CPU, 28.9Gi"),
        (Claim(worker_cores=2, worker_memory="7 GiB"), "2CPU, 14.5Gi"),
        (Claim(image="eo:1"), "4CPU, 28.9Gi"),
    ):
        options = offered(server.Select("size", sizes), server.Select("queue", ["a", "b"]))
        Filling(options, claim).fill()
        assert dict(options) == {"size": chosen, "queue": "a"}
    with pytest.raises(OptionError, match="no choice is enough; this gateway offers one of 4CPU"):
        Filling(options, Claim(worker_cores=5)).fill()
    odd = offered(server.Select("size", ["small", "1CPU, 2Gi"]))
    assert Filling(odd, Claim(worker_cores=5)).fill().missing == ["worker_cores"]


@pytest.mark.parametrize(
    ("choices", "claim", "chosen"),
    [
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
    choices: list[str], claim: dict[str, Any], chosen: str | None
) -> None:
    value, said = given_by(server.Select("size", choices), Claim.model_validate(claim))
    if chosen == "missing":
        assert said.missing == list(claim)
    elif chosen is None:
        assert "no choice is enough" in said
    else:
        assert value == chosen
        assert f"{chosen!r} is its smallest choice that is enough (" in said.understood[0]


def test_a_size_is_that_of_a_whole_worker() -> None:
    """Of both, cores and memory, where an option of a field's own name tells both."""
    field = server.Select("worker_memory", ["1 CPU, 8 GB", "4 CPU, 16 GB"])
    assert given_by(field, Claim(worker_cores=4, worker_memory="4 G"))[0] == "4 CPU, 16 GB"
    schedulers = server.Select("scheduler_size", ["1CPU, 2Gi"])
    options = offered(schedulers, server.Select("size", ["8CPU, 9Gi"]))
    Filling(options, Claim(worker_cores=4)).fill()
    assert dict(options) == {"scheduler_size": "1CPU, 2Gi", "size": "8CPU, 9Gi"}


# -- the site's file

SITE = GatewayOptions.model_validate(
    {
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
)
RENAMED = GatewayOptions.model_validate({"names": {"environment": "Env_Vars"}})


def test_names_and_units_of_the_site_file() -> None:
    options = offered(
        server.Integer("kerne"), server.Float("mem", label="Memory (GiB)"), server.String("tag")
    )
    filled = Filling(
        options, Claim(worker_cores=2, worker_memory="4GB", image="eo:1"), None, SITE
    ).fill()
    assert dict(options) == {"kerne": 2, "mem": 4000.0, "tag": "eo:1"}
    assert "worker_cores is its kerne" in filled.understood
    for field, names in OPTION_NAMES.items():
        for name in names:
            assert GatewayOptions().field_of(name.upper()) == field
            assert GatewayOptions().option_for(field, ["x", name.upper()]) == name.upper()
    assert RENAMED.field_of("ENV_VARS") == "environment" and RENAMED.field_of("x") is None


@pytest.mark.parametrize(
    "field",
    [
        server.Select("profile", ["Medium", "Small", "Large", "Graphics", "Odd"]),
        server.String("profile", "Medium"),
    ],
)
def test_choices_of_the_site_file(field: object) -> None:
    for claim, chosen in (
        (Claim(worker_cores=1, worker_memory="1G"), "Small"), (Claim(worker_cores=2), "Large"),
        (Claim(gpus=1), "Graphics"), (Claim(image="eo:1"), "Medium"),
    ):  # fmt: skip
        assert given_by(field, claim, SITE)[0] == chosen
    assert (
        "worker_cores = 9: no choice is enough" in given_by(field, Claim(worker_cores=9), SITE)[1]
    )


@pytest.mark.parametrize(
    "field",
    [
        server.Integer("size", 1, max=4), server.Float("size", 1, max=4), server.Bool("size"),
        server.Mapping("size"),
    ],
)  # fmt: skip
def test_choices_of_the_site_file_for_every_kind(field: object) -> None:
    """Those that the option cannot have do not count; a number or switch is one in the request."""
    worker = {"cores": 1, "memory": "2G"}
    large = {"cores": 4, "memory": "8G"}
    site = GatewayOptions.model_validate(
        {"choices": {"size": {"1": worker, "2": large, "9": large, "false": worker, "true": large}}}
    )
    options = offered(field)
    Filling(options, Claim(worker_cores=2), None, site).fill()
    kind = type(options._fields["size"]).__name__
    chosen = {"Integer": 2, "Float": 2.0, "Bool": True, "Mapping": {}}
    assert dict(options) == {"size": chosen[kind]}
    if kind != "Mapping":
        policy = Bounds(Policy(worker_cores=2), "site.yaml")
        Filling(options, Claim(), 1, site, policy).fill()
        assert dict(options) == {"size": {"Bool": False}.get(kind, 1)}


def test_default_of_the_site_file() -> None:
    """What cannot be chosen is enough by default, or it is an error."""
    options = offered(server.String("queue", "all"))
    assert Filling(options, Claim(worker_cores=2), None, SITE).fill().missing == ["worker_cores"]
    claim = Claim(worker_cores=2, worker_memory="16G")
    with pytest.raises(OptionError, match=r"worker_memory = 16G: .* its default is 8G"):
        Filling(options, claim, None, SITE).fill()
    filled = Filling(options, claim.model_copy(update={"strict": False}), None, SITE).fill()
    assert len(filled.given_up) == 1
    with pytest.raises(OptionError, match=r"gpus = 1: .* its default is 0"):
        Filling(options, Claim(gpus=1), None, SITE).fill()


def test_a_cluster_that_nobody_uses_ends() -> None:
    fields = server.Mapping("environment", {"A": "b"}), server.Integer("idle_timeout_minutes")
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
    assert not end_when_idle(offered(server.String("image")), Claim(), 90)
    verbatim, claim = offered(fields[1]), Claim(options={"idle_timeout_minutes": 0})
    Filling(verbatim, claim).fill()
    assert not end_when_idle(verbatim, claim, 90)
    chosen = offered(server.Integer("idle_timeout", 1800))
    assert not end_when_idle(chosen, Claim(), 90) and chosen["idle_timeout"] == 1800


def test_the_sites_name_for_variables_counts_everywhere() -> None:
    """The claim's variables, the end of a cluster that nobody uses, and the mark of a run."""
    options = offered(server.Mapping("environment", {}), server.Mapping("env_vars", {"A": "b"}))
    claim = Claim(environment={"C": "d"})
    assert Filling(options, claim, None, RENAMED).fill().missing == []
    assert end_when_idle(options, claim, 90, RENAMED)
    own = {"A": "b", "C": "d", IDLE_TIMEOUT: "90s"}
    assert dict(options) == {"env_vars": own, "environment": {}}
    assert variables_option(options, RENAMED) == "env_vars"
    assert variables_option(options) == "environment"
    assert variables_option(offered(server.String("environment"))) is None


@pytest.mark.parametrize("choices", [["2G", "8G"], ["2 CPU, 8G", "1 CPU, 2G"]], ids=str)
def test_the_policy_never_makes_a_worker_smaller_than_claimed(choices: list[str]) -> None:
    """Without a fault or a warning; and no choice is beyond it."""
    name = "size" if "CPU" in choices[0] else "worker_memory"
    for asked, strict, excess in product([None, "1G", "4G"], [True, False], ["refuse", "cut"]):
        options = offered(server.Select(name, choices))
        claim = Claim(worker_memory=asked, strict=strict)
        policy = Policy.model_validate({"worker_memory": "6G", "excess": excess})
        bounds = Bounds(policy, "claim.yaml", frozenset())
        if asked == "4G" and strict and excess == "refuse":
            with pytest.raises(OptionError, match=r"policy\.worker_memory in claim\.yaml"):
                Filling(options, claim, 1, bounds=bounds).fill()
            continue
        filled = Filling(options, claim, 1, bounds=bounds).fill()
        assert "2G" in options[name]
        assert bool(filled.less) == (asked == "4G")


@pytest.mark.parametrize(
    ("field", "claimed", "becomes"),
    [
        (server.Integer("worker_cores", 4), {"worker_cores": 0.5}, 2),
        (server.Float("worker_memory", 16, min=2, label="GiB"), {"worker_memory": "1G"}, 6),
        (server.Integer("worker_memory", 16, label="GiB"), {"worker_memory": 10**9}, 6),
        # Nobody can tell what their default is.
        (server.Bool("worker_cores", True), {"worker_cores": 1}, None),
        (server.Select("worker_cores", ["small", "large"]), {"worker_cores": 1}, None),
        (server.Select("worker_memory", ["1", "8"], label="pages"), {"worker_memory": "1G"}, None),
    ],
)
def test_a_default_in_place_of_the_claim_is_within_the_policy(
    field: Any, claimed: dict[str, Any], becomes: float | None
) -> None:
    options = offered(field)
    limit = {"worker_cores": 2, "worker_memory": "6G"}[field.field]
    policy = Policy.model_validate({field.field: limit})
    filling = Filling(options, Claim(strict=False, **claimed), 1, bounds=Bounds(policy, "x.yaml"))
    if becomes is None:
        with pytest.raises(OptionError, match=r"may exceed policy\.worker"):
            filling.fill()
        return
    assert filling.fill().given_up and options[field.field] == becomes


@pytest.mark.parametrize(
    ("field", "fault"),
    [
        (server.Integer("cluster_max_workers", 5, max=10), "cluster_max_workers = 20"),
        (server.Float("cluster_max_cores", 5, max=10), "cluster_max_cores = 41"),
        (server.Float("cluster_max_memory", 5, max=10), "cluster_max_memory = 82 G"),
        (server.Float("worker_memory_limit", 2, max=3), "worker_memory_limit = 4 G"),
        # It is still as large a worker.
        (server.Integer("worker_threads", 1, max=1), None),
    ],
)
def test_limits_of_what_follows_from_the_claim(field: Any, fault: str | None) -> None:
    claim = Claim(max_workers=20, worker_cores=2, worker_memory="4G")
    options = offered(field)
    if fault is None:
        assert "worker_threads = 2" in Filling(options, claim, 20).fill().less[0]
        return
    with pytest.raises(OptionError, match=f"{fault}: .*offers at most"):
        Filling(options, claim, 20).fill()
    filled = Filling(options, claim.model_copy(update={"strict": False}), 20).fill()
    assert fault in filled.given_up[0] and options[field.field] == field.default


# -- the case of names

NOWHERE = {"DASK_CLAIM_SITE": "/dev/null", "HOME": "/nonexistent"}


@pytest.mark.parametrize("source", ["claim", "flag", "variable"])
def test_options_are_matched_whatever_their_case(source: str) -> None:
    """Exactly first, where two differ in nothing else."""
    for offers, said in product(
        [("CPU",), ("Cpu",), ("cpu",), ("CPU", "cpu"), ("Cpu", "CPU")], ["CPU", "cpu", "Cpu"]
    ):
        claim = Claim(options={said: 2})
        if source == "flag":
            claim = load(claimed({"options": (f"{said}=2",)}), NOWHERE).claim
        elif source == "variable":
            claim = load({}, {**NOWHERE, f"DASK_CLAIM_OPTIONS__{said}": "2"}).claim
            # Variables are mostly written in capitals.
            said = said.lower() if said.isupper() else said
        options = offered(*(server.Integer(name, default=1) for name in offers))
        assert Filling(options, claim).fill().missing == []
        chosen = said if said in offers else offers[-1]
        assert dict(options) == {name: 2 if name == chosen else 1 for name in offers}


def test_stronger_source_holds_where_names_differ_in_case_only(tmp_path: Path) -> None:
    (tmp_path / "claim.yaml").write_text("options: {CPU: 1, queue: long}\n")
    environ = {"DASK_CLAIM_SITE": str(tmp_path / "claim.yaml"), "HOME": "/nonexistent"}
    environ["DASK_CLAIM"] = '{"options": {"cpu": 2}}'
    options = offered(server.Integer("CPU", default=9), server.String("Queue"))
    Filling(options, load({}, environ).claim).fill()
    assert dict(options) == {"CPU": 2, "Queue": "long"}
    Filling(options, load({"options": {"CPU": 3}}, environ).claim).fill()
    assert options["CPU"] == 3


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
    value, said = given_by(field, Claim(worker_memory=claimed))
    if value is None:
        assert "worker_memory = " in said
        return
    asked = float(value) * BYTES[unit]
    assert asked >= in_bytes(claimed) - 1e-3
    if not isinstance(field, server.Select):
        assert asked <= in_bytes(claimed) * 1.011
    assert f"worker_memory counts {unit} (" in "; ".join(said.understood)


@given(st.sampled_from(UNITS), st.sampled_from(["", " "]), st.sampled_from(CLAIMS))
def test_memory_as_a_text(suffix: str, space: str, claimed: str) -> None:
    """A text has the form of the gateway's default, and exactly the amount."""
    field = server.String("worker_memory", f"2{space}{suffix}")
    value, said = given_by(field, Claim(worker_memory=claimed))
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
    value, said = given_by(
        server.Select("worker_memory", list(sizes)), Claim(worker_memory=claimed)
    )
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
    claim = Claim(**{"worker_cores": min(claimed, 0.5), name: claimed})
    value, said = given_by(option(kind, name, choices), claim)
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
        value, said = given_by(option(kind, name, ["x"]), Claim(**{name: asked}))
        if kind in holding:
            assert isinstance(said, Filling) and not said.missing
        else:
            assert value is None and f"{name} = " in said
    if kind != "Mapping":
        # Nobody knows the form in which such a gateway wants them.
        assert "environment = A" in said and "give environment in `options`" in said
    own = Claim(options={"environment": "A=b"})
    assert given_by(server.String("environment"), own)[0] == "A=b"


@pytest.mark.parametrize("kind", KINDS)
def test_a_scheduler_that_cannot_be_counted(kind: str) -> None:
    for name, label in product(
        ["scheduler_cores", "scheduler_core_limit", "scheduler_memory", "scheduler_memory_limit"],
        [None, "Blocks (pages)"],
    ):
        fields = (
            option(kind, name, ["small", "large"], label=label),
            server.Integer("cluster_max_cores"), server.Integer("cluster_max_memory", 2**40),
        )  # fmt: skip
        options = offered(*fields)
        own = {name: True} if kind == "Bool" else {}
        Filling(options, Claim(worker_cores=2, worker_memory="4G", options=own), 3).fill()
        counted = kind in ("Integer", "Float")
        assert options["cluster_max_cores"] == (6 if counted and "core" in name else 7)
        counted = counted and "memory" in name and not label
        assert options["cluster_max_memory"] == (12 if counted else 14) * 2**30
        server.Options(*fields).parse_options(dict(options))


def test_a_scheduler_that_is_counted() -> None:
    options = offered(
        server.Select("scheduler_cores", ["1.0", "2.0"]),
        server.Select("scheduler_memory", ["1GB", "4 GB"]),
        server.Float("cluster_max_cores"), server.Float("cluster_max_memory", 2**40),
    )  # fmt: skip
    own = {"scheduler_cores": "2.0", "scheduler_memory": "4 GB"}
    Filling(options, Claim(worker_cores=2, worker_memory="4G", options=own), 3).fill()
    assert options["cluster_max_cores"] == 8
    assert options["cluster_max_memory"] == 12 * 2**30 + 4e9


@pytest.mark.parametrize("kind", ["String", "Select", "Bool", "Mapping"])
def test_what_nobody_claimed_is_no_fault(kind: str) -> None:
    for name in (
        "worker_threads", "worker_memory_limit", "cluster_max_workers", "cluster_max_memory",
        "cluster_max_cores",
    ):  # fmt: skip
        field = option(kind, name)
        value, said = given_by(field, Claim(worker_cores=2, worker_memory="4G", max_workers=3))
        assert isinstance(said, Filling)
        assert kind == "String" or value == field.get_default()


@pytest.mark.parametrize("label", ["Memory (pages)", "memory in blocks", "pages", "RAM [words]"])
def test_an_unknown_unit_is_status_78(label: str) -> None:
    claim, site = Claim(worker_memory="4 G"), {"units": {"Worker_Memory": "GiB"}}
    for field in (
        server.Integer("worker_memory", 4, label=label),
        server.String("worker_memory", "4", label=label),
        server.Select("worker_memory", ["1", "8"], label=label),
    ):
        value, said = given_by(field, claim)
        assert value is None
        assert f"its label {label!r} names an unknown unit" in said and "gateway_options" in said
        value, said = given_by(field, claim, GatewayOptions.model_validate(site))
        assert float(value) in (4, 8) and "by the site's file" in "; ".join(said.understood)


@pytest.mark.parametrize(("default", "alone", "shared"), [(9, 3, 9), (2, 3, 3), (0, 3, 3)])
def test_bounds_of_the_whole_leave_room_for_runs_that_join(
    default: int, alone: int, shared: int
) -> None:
    for claim, most in ((Claim(), alone), (Claim(share="k"), shared)):
        value, _ = given_by(server.Integer("cluster_max_workers", default), claim)
        assert value == most
