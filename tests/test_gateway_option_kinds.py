"""Every kind of option × label × unit × form of choice: a worker is never smaller than claimed.

The options are the server's own classes, seen through the client's; what comes out is accepted by
the server and read as the site's handler would read it, by an oracle of its own.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_claim.claim.model import Claim
from dask_claim.claim.site_sections import GatewayOptions, Policy
from dask_claim.errors import OptionError
from dask_claim.providers.gateway.bounded import keep_within
from dask_claim.providers.gateway.options import Filled, fill
from tests.test_gateway_options import offered, server

BYTES = {
    "bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9,
}  # fmt: skip
LABELS = {
    "bytes": ["Memory (bytes)", "memory in bytes", "RAM [B]"],
    "MiB": ["Memory (Mi)", "Worker Memory (MiB)", "mebibytes", "ram_mib", "memory in M"],
    "GiB": ["Memory (GiB)", "memory in gi", "Worker memory, gibibytes", "(G)"],
    "MB": ["in mb", "Memory (MB)", "megabytes", "memory_mb"],
    "GB": ["Memory in GB", "gigabytes", "Worker Memory (gb)"],
}
UNLABELLED = {"bytes": [2**20, 2**30], "MiB": [256, 4096, 2**20 - 1], "GiB": [0, 1, 4, 255]}
SUFFIXES = {
    "": 1, "K": 2**10, "M": 2**20, "G": 2**30, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9,
}  # fmt: skip
CLAIMS = ["4 G", "4GB", "1536 MiB", "7.2Gi", "123456789", "500 MB", "1 K"]


KINDS = ("Integer", "Float", "String", "Select", "Bool", "Mapping")


def option(kind: str, name: str, choices: Any = ("x", "y"), **settings: Any) -> Any:
    """One of the server's own."""
    if kind == "Select":
        return server.Select(name, list(choices), **settings)
    return getattr(server, kind)(name, **settings)


def given_by(field: Any, claim: dict[str, Any], site: GatewayOptions | None = None) -> Any:
    """What the server accepts for a claim on one option; the fault where there is one."""
    options = offered(field)
    try:
        filled = fill(options, Claim.model_validate(claim), 3, site)
    except OptionError as error:
        return None, str(error)
    return server.Options(field).parse_options(dict(options))[field.field], filled


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
    value, said = given_by(field, {"worker_memory": claimed})
    if value is None:
        assert "worker_memory = " in said
        return
    asked = float(value) * BYTES[unit]
    assert asked >= in_bytes(claimed) - 1e-3
    if not isinstance(field, server.Select):
        assert asked <= in_bytes(claimed) * 1.011
    assert f"worker_memory counts {unit} (" in "; ".join(said.understood)


@given(st.sampled_from(sorted(SUFFIXES)[1:]), st.sampled_from(["", " "]), st.sampled_from(CLAIMS))
def test_memory_as_a_text(suffix: str, space: str, claimed: str) -> None:
    """A text has the form of the gateway's default, and exactly the amount."""
    field = server.String("worker_memory", f"2{space}{suffix}")
    value, said = given_by(field, {"worker_memory": claimed})
    assert in_bytes(value) == in_bytes(claimed)
    if suffix in "KMG":
        assert value[-1] in "KMG"
    else:
        assert value.endswith(suffix[1:]) and said.understood


@given(
    st.permutations(["2", "4", "8"]), st.sampled_from(sorted(SUFFIXES)[1:]),
    st.sampled_from(["{}{}", "{} {}", "large ({} {})", "{} {} RAM, 100 GB disk"]),
    st.sampled_from(CLAIMS),
)  # fmt: skip
def test_memory_as_a_choice(numbers: list[str], suffix: str, form: str, claimed: str) -> None:
    """The smallest that is enough, or none is."""
    sizes = {form.format(number, suffix): float(number) * SUFFIXES[suffix] for number in numbers}
    value, said = given_by(server.Select("worker_memory", list(sizes)), {"worker_memory": claimed})
    enough = [size for size in sizes.values() if size >= in_bytes(claimed)]
    if value is None:
        assert not enough and "no choice is enough; this gateway offers one of" in said
    else:
        assert sizes[value] == min(enough)
        assert f"{value!r} is its smallest choice that is enough" in "; ".join(said.understood)


FORMS = ["{}", "{}.0", "{} cores", "{} CPU", "{}vCPU (shared)", "large: {} cores"]


@given(
    st.sampled_from(KINDS),
    st.sampled_from(["worker_cores", "worker_cores_limit"]),
    st.sampled_from(FORMS), st.permutations([1, 2, 4]), st.sampled_from([0.5, 1, 1.5, 2, 4, 5]),
)  # fmt: skip
def test_cores(kind: str, name: str, form: str, numbers: list[int], claimed: float) -> None:
    choices = {form.format(number): number for number in numbers}
    field = option(kind, name, choices)
    claim = {name: claimed, "worker_cores": min(claimed, 0.5) if "limit" in name else claimed}
    value, said = given_by(field, claim)
    if value is None:
        assert f"{name} = {claimed}" in said
        wrong = {"Bool", "Mapping"} | ({"Select"} if claimed > 4 else set())
        assert kind in wrong | ({"Integer"} if claimed % 1 else set())
    elif kind == "Select":
        assert choices[value] == min(number for number in numbers if number >= claimed)
    else:
        assert float(value) == claimed


HOLDING = [
    ({"worker_memory": "4 G"}, {"Integer", "Float", "String"}),
    ({"worker_cores": 2}, {"Integer", "Float", "String"}),
    ({"gpus": 1}, {"Integer", "Float", "String", "Bool"}),
    ({"gpus": 0}, {"Integer", "Float", "String", "Bool", "Select"}),
    ({"image": "a:1"}, {"String"}),
    ({"environment": {"A": "b"}}, {"Mapping"}),
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_cannot_hold_a_field_is_status_78(kind: str) -> None:
    for claim, holding in HOLDING:
        [name] = claim
        value, said = given_by(option(kind, name, ["x"]), claim)
        if kind in holding:
            assert isinstance(said, Filled) and not said.missing
        else:
            assert value is None and f"{name} = " in said
        if name == "environment" and kind not in holding:
            # Nobody knows the form in which such a gateway wants them.
            assert "environment = A" in said and "give environment in `options`" in said
    value, _ = given_by(server.String("environment"), {"options": {"environment": "A=b"}})
    assert value == "A=b"


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
        fill(options, Claim(worker_cores=2, worker_memory="4G", options=own), 3)
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
    claim = Claim(
        worker_cores=2, worker_memory="4G",
        options={"scheduler_cores": "2.0", "scheduler_memory": "4 GB"},
    )  # fmt: skip
    fill(options, claim, 3)
    assert options["cluster_max_cores"] == 8
    assert options["cluster_max_memory"] == 12 * 2**30 + 4e9


@pytest.mark.parametrize("kind", ["String", "Select", "Bool", "Mapping"])
def test_what_nobody_claimed_is_no_fault(kind: str) -> None:
    for name in (
        *("worker_threads", "worker_memory_limit"),
        *("cluster_max_workers", "cluster_max_memory", "cluster_max_cores"),
    ):
        field = option(kind, name)
        value, said = given_by(field, {"worker_cores": 2, "worker_memory": "4G", "max_workers": 3})
        assert isinstance(said, Filled)
        assert kind == "String" or value == field.get_default()


@pytest.mark.parametrize("label", ["Memory (pages)", "memory in blocks", "pages", "RAM [words]"])
def test_an_unknown_unit_is_status_78(label: str) -> None:
    site = GatewayOptions.model_validate({"units": {"Worker_Memory": "GiB"}})
    for field in (
        server.Integer("worker_memory", 4, label=label),
        server.Float("worker_memory", 4, label=label),
        server.String("worker_memory", "4", label=label),
        server.Select("worker_memory", ["1", "8"], label=label),
    ):
        value, said = given_by(field, {"worker_memory": "4 G"})
        assert value is None
        assert f"its label {label!r} names an unknown unit" in said and "gateway_options" in said
        value, said = given_by(field, {"worker_memory": "4 G"}, site)
        assert float(value) in (4, 8) and "by the site's file" in "; ".join(said.understood)


@pytest.mark.parametrize(
    "label", ["Memory", "RAM", "Worker memory (optional)", "Arbeitsspeicher je Worker"]
)
def test_a_label_without_a_unit(label: str) -> None:
    value, said = given_by(server.Float("worker_memory", 4, label=label), {"worker_memory": "8 G"})
    assert value == 8
    assert "worker_memory counts GiB (neither its label" in "; ".join(said.understood)


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
    value, said = given_by(server.Select("size", choices), claim)
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
    value, _ = given_by(field, {"worker_cores": 4, "worker_memory": "4 G"})
    assert value == "4 CPU, 16 GB"
    schedulers = server.Select("scheduler_size", ["1CPU, 2Gi"])
    options = offered(schedulers, server.Select("size", ["8CPU, 9Gi"]))
    fill(options, Claim(worker_cores=4))
    assert dict(options) == {"scheduler_size": "1CPU, 2Gi", "size": "8CPU, 9Gi"}


PLAIN, SIZES = ["2G", "8G"], ["1 CPU, 2G", "2 CPU, 8G"]


@pytest.mark.parametrize("choices", [PLAIN, SIZES, PLAIN[::-1], SIZES[::-1]], ids=str)
def test_the_policy_never_makes_a_worker_smaller_than_claimed(choices: list[str]) -> None:
    """Without a fault or a warning; and no choice is beyond it."""
    name = "worker_memory" if choices[0] in PLAIN else "size"
    for claimed, strict, excess in product(
        [None, "1G", "4G"], [True, False], ["refuse", "cut"]
    ):  # fmt: skip
        options = offered(server.Select(name, choices))
        claim = Claim(worker_memory=claimed, strict=strict)
        policy = Policy.model_validate({"worker_memory": "6G", "excess": excess})
        more = (GatewayOptions(), policy, "claim.yaml", frozenset())
        fill(options, claim, 1)
        if claimed == "4G" and strict and excess == "refuse":
            with pytest.raises(OptionError, match=r"policy\.worker_memory in claim\.yaml"):
                keep_within(options, claim, 1, *more)
            continue
        _, less = keep_within(options, claim, 1, *more)
        assert "2G" in options[name]
        assert bool(less) == (claimed == "4G")
