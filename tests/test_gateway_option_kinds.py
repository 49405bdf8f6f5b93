"""Every kind of option × label × unit × form of choice: a worker is never smaller than claimed.

The options are the server's own classes, seen through the client's; what comes out is accepted by
the server and read as the site's handler would read it, by an oracle of its own.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_claim.claim.model import Claim
from dask_claim.claim.site_sections import GatewayOptions, Policy
from dask_claim.errors import OptionError
from dask_claim.providers.gateway.bounded import keep_within
from dask_claim.providers.gateway.options import Filled, fill

server = pytest.importorskip("dask_gateway_server.options")

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


def offered(*fields: Any) -> Any:
    from dask_gateway.options import Options

    return Options._from_spec(server.Options(*fields).get_specification())


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
    if draw(st.booleans()):
        unit = draw(st.sampled_from(sorted(LABELS)))
        label, default = draw(st.sampled_from(LABELS[unit])), 4
    else:
        unit = draw(st.sampled_from(sorted(UNLABELLED)))
        label, default = None, draw(st.sampled_from(UNLABELLED[unit]))
    if kind == "Select":
        numbers = [max(default, 1) * factor for factor in draw(st.permutations([1, 2, 4, 8]))]
        if label is None and unit == "MiB":
            numbers = [256, 1024, 4096, 16384]
        elif label is None and unit == "GiB":
            numbers = [1, 4, 2, 8]
        return server.Select("worker_memory", list(map(str, numbers)), label=label), unit
    if kind == "String":
        return server.String("worker_memory", str(default), label=label), unit
    return getattr(server, kind)("worker_memory", default, label=label), unit


@settings(max_examples=400, deadline=None)
@given(memory_options(), st.sampled_from(CLAIMS))
def test_memory_as_a_number(option: tuple[Any, str], claimed: str) -> None:
    field, unit = option
    value, said = given_by(field, {"worker_memory": claimed})
    if value is None:
        assert "worker_memory = " in said
        return
    asked = float(value) * BYTES[unit]
    assert asked >= in_bytes(claimed) - 1e-3
    if not isinstance(field, server.Select):
        assert asked <= in_bytes(claimed) * 1.011
    assert f"worker_memory counts {unit} (" in "; ".join(said.understood)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(SUFFIXES)[1:]), st.sampled_from(["", " "]), st.sampled_from(CLAIMS))
def test_memory_as_a_text(suffix: str, space: str, claimed: str) -> None:
    """A text has the form of the gateway's default, and exactly the amount."""
    value, said = given_by(
        server.String("worker_memory", f"2{space}{suffix}"), {"worker_memory": claimed}
    )
    assert isinstance(said, Filled)
    assert in_bytes(value) == in_bytes(claimed)
    if suffix not in "KMG":
        assert value.endswith(suffix[1:]) and said.understood
    else:
        assert value[-1] in "KMG"


@settings(max_examples=200, deadline=None)
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


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["Integer", "Float", "String", "Select", "Bool", "Mapping"]),
    st.sampled_from(["worker_cores", "worker_cores_limit"]),
    st.sampled_from(FORMS), st.permutations([1, 2, 4]), st.sampled_from([0.5, 1, 1.5, 2, 4, 5]),
)  # fmt: skip
def test_cores(kind: str, name: str, form: str, numbers: list[int], claimed: float) -> None:
    choices = {form.format(number): number for number in numbers}
    field = server.Select(name, list(choices)) if kind == "Select" else getattr(server, kind)(name)
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


@pytest.mark.parametrize("kind", ["Integer", "Float", "String", "Select", "Bool", "Mapping"])
@pytest.mark.parametrize(
    "claim",
    [
        {"worker_memory": "4 G"}, {"worker_cores": 2}, {"gpus": 1}, {"gpus": 0}, {"image": "a:1"},
        {"environment": {"A": "b"}},
    ],
)  # fmt: skip
def test_a_kind_that_cannot_hold_a_field_is_status_78(kind: str, claim: dict[str, Any]) -> None:
    ((name, _claimed),) = claim.items()
    field = server.Select(name, ["x"]) if kind == "Select" else getattr(server, kind)(name)
    value, said = given_by(field, claim)
    holds = {
        "worker_memory": {"Integer", "Float", "String"},
        "worker_cores": {"Integer", "Float", "String"},
        "gpus": {"Integer", "Float", "String", "Bool"}, "image": {"String"},
        "environment": {"Mapping"},
    }[name]  # fmt: skip
    if kind in holds or (claim == {"gpus": 0} and kind == "Select"):
        assert isinstance(said, Filled) and not said.missing
    else:
        assert value is None and f"{name} = " in said


@pytest.mark.parametrize("kind", ["Integer", "Float", "String", "Select", "Bool", "Mapping"])
@pytest.mark.parametrize(
    "name",
    ["scheduler_cores", "scheduler_core_limit", "scheduler_memory", "scheduler_memory_limit"],
)
@pytest.mark.parametrize("settings_of", [{}, {"label": "Blocks (pages)"}])
def test_a_scheduler_that_cannot_be_counted(
    kind: str, name: str, settings_of: dict[str, str]
) -> None:
    fields = (
        server.Select(name, ["small", "large"], **settings_of) if kind == "Select"
        else getattr(server, kind)(name, **settings_of),
        server.Integer("cluster_max_cores"), server.Integer("cluster_max_memory", 2**40),
    )  # fmt: skip
    options = offered(*fields)
    own = {name: True} if kind == "Bool" else {}
    fill(options, Claim(worker_cores=2, worker_memory="4G", options=own), 3)
    counted = kind in ("Integer", "Float")
    assert options["cluster_max_cores"] == (6 if counted and "core" in name else 7)
    counted = counted and "memory" in name and not settings_of
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
@pytest.mark.parametrize(
    "name",
    [
        *("worker_threads", "worker_memory_limit"),
        *("cluster_max_workers", "cluster_max_memory", "cluster_max_cores"),
    ],
)
def test_what_nobody_claimed_is_no_fault(kind: str, name: str) -> None:
    field = server.Select(name, ["x", "y"]) if kind == "Select" else getattr(server, kind)(name)
    value, said = given_by(field, {"worker_cores": 2, "worker_memory": "4G", "max_workers": 3})
    assert isinstance(said, Filled)
    if kind != "String":
        assert value == field.get_default()


@pytest.mark.parametrize("label", ["Memory (pages)", "memory in blocks", "pages", "RAM [words]"])
@pytest.mark.parametrize("kind", ["Integer", "Float", "String", "Select"])
def test_an_unknown_unit_is_status_78(kind: str, label: str) -> None:
    settings_of: dict[str, Any] = {"label": label}
    settings_of |= {"options": ["1", "8"]} if kind == "Select" else {"default": 4}
    if kind == "String":
        settings_of["default"] = "4"
    field = getattr(server, kind)("worker_memory", **settings_of)
    value, said = given_by(field, {"worker_memory": "4 G"})
    assert value is None
    assert f"its label {label!r} names an unknown unit" in said and "gateway_options" in said
    site = GatewayOptions.model_validate({"units": {"Worker_Memory": "GiB"}})
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


def test_a_whole_size_is_not_chosen_by_one_of_its_parts() -> None:
    """An option of a field's own name whose choices tell cores and memory is enough for both."""
    field = server.Select("worker_memory", ["1 CPU, 8 GB", "4 CPU, 16 GB"])
    value, _ = given_by(field, {"worker_cores": 4, "worker_memory": "4 G"})
    assert value == "4 CPU, 16 GB"


def test_the_schedulers_size_is_not_taken_for_a_workers() -> None:
    fields = server.Select("scheduler_size", ["1CPU, 2Gi"]), server.Select("size", ["8CPU, 9Gi"])
    options = offered(*fields)
    fill(options, Claim(worker_cores=4))
    assert dict(options) == {"scheduler_size": "1CPU, 2Gi", "size": "8CPU, 9Gi"}


@pytest.mark.parametrize("kind", ["String", "Integer", "Select"])
def test_variables_for_an_option_of_another_form(kind: str) -> None:
    """Nobody knows the form in which such a gateway wants them; the claim can give it as it is."""
    field = (
        server.Select("environment", ["a"])
        if kind == "Select"
        else getattr(server, kind)("environment")
    )
    value, said = given_by(field, {"environment": {"A": "b"}})
    assert value is None and "environment = A" in said and "give environment in `options`" in said
    value, said = given_by(server.String("environment"), {"options": {"environment": "A=b"}})
    assert value == "A=b"


PLAIN, SIZES = ["2G", "8G"], ["1 CPU, 2G", "2 CPU, 8G"]


@pytest.mark.parametrize("choices", [PLAIN, SIZES, PLAIN[::-1], SIZES[::-1]], ids=str)
@pytest.mark.parametrize("lenient", [{}, {"strict": False}, {"excess": "cut"}], ids=str)
@pytest.mark.parametrize("claimed", [None, "1G", "4G"])
def test_the_policy_never_makes_a_worker_smaller_than_claimed(
    choices: list[str], lenient: dict[str, Any], claimed: str | None
) -> None:
    """Without a fault or a warning; and no choice is beyond it."""
    name = "worker_memory" if choices[0] in PLAIN else "size"
    options = offered(server.Select(name, choices))
    claim = Claim(worker_memory=claimed, strict=lenient.get("strict", True))
    excess = {"excess": lenient.get("excess", "refuse")}
    policy = Policy.model_validate({"worker_memory": "6G", **excess})
    fill(options, claim, 1)
    try:
        _, less = keep_within(
            options, claim, 1, GatewayOptions(), policy, "claim.yaml", frozenset()
        )
    except OptionError as error:
        assert (
            claimed == "4G" and not lenient and "policy.worker_memory in claim.yaml" in str(error)
        )
        return
    assert "2G" in options[name]
    assert bool(less) == (claimed == "4G")
    assert lenient or claimed != "4G"
