"""Every spelling of a claim means the same claim, and nothing else is accepted."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dask_claim.claim.fields import FIELDS, RESULTS, ClaimFields
from dask_claim.claim.model import Claim
from dask_claim.claim.names import suggest_name
from dask_claim.claim.spellings import ALIASES, read, resolve
from dask_claim.errors import ClaimError
from tests.support.claims import Fields

VALUES: dict[str, tuple[Any, ...]] = {
    "gateway_url": ("http://gw.example.org", "https://gw.example.org:8000/x"),
    "image": ("bai:1.0", "registry.example.org/eo/bai@sha256:ab"),
    "worker_cores": (0.5, 1, 2, "0.25"), "worker_cores_limit": (2, 4, "3.5"),
    "worker_memory": ("4 G", "4GB", 2**30, "512Mi"), "min_cores": (0, 1, 2),
    "max_cores": (100, 200.5, "300"), "max_memory": ("1T", 2**41), "min_workers": (0, 1, 2),
    "max_workers": (20, "30"), "options": ({"queue": "short"}, {"a": 1, "b": [True]}),
    "provider": ("auto", "local"), "create": (True, False), "lease_timeout": (0, 30),
}  # fmt: skip
CLAIMS = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(values) for name, values in VALUES.items()}
)
NAMES = st.sets(st.sampled_from((*FIELDS, *RESULTS))).map(
    lambda fields: {field: suggest_name(field) for field in sorted(fields)}
)


def as_typed(draw: st.DrawFn, field: str) -> str:
    """One of the ways in which a person types the name of a field."""
    first, *words = field.split("_")
    camel = first + "".join(word.title() for word in words)
    ways = [field, field.upper(), field.replace("_", "-"), camel, field.replace("_", "")]
    # Only the cores have the singular spelling that is in the wild.
    others = sorted(alias for alias, name in ALIASES.items() if name == field)
    return draw(st.sampled_from([*ways, *others]))


@st.composite
def spelled(draw: st.DrawFn, fields: Fields, names: dict[str, str]) -> Fields:
    """The same claim in one of the spellings, keys typed in any way."""
    form = draw(st.sampled_from(["flat", "name map", "pairs", "requirement"]))
    raw: Fields = {}
    if form in ("flat", "requirement"):
        raw = {as_typed(draw, field): value for field, value in fields.items()}
        raw["env"] = {as_typed(draw, field): name for field, name in names.items()}
        if form == "requirement":
            raw["class"] = draw(st.sampled_from(["", "x:", "https://x/y#"])) + (
                "DaskGatewayRequirement"
            )
    elif form == "name map":
        raw["RuntimeRequirement"] = {as_typed(draw, key): value for key, value in fields.items()}
        raw["EnvVarRequirement"] = {as_typed(draw, key): name for key, name in names.items()}
    else:
        for field in [*fields, *(field for field in names if field not in fields)]:
            pair = {"value": fields[field]} if field in fields else {}
            if field in names and field != "env":
                pair["name"] = names[field]
            raw[as_typed(draw, field)] = pair
        for mapping in ["env", *({"options", "environment", "hpc"} - fields.keys())]:
            if mapping in names:
                # {"name": …} alone would be an entry that is called "name".
                raw.pop(next(key for key in raw if resolve(key) == mapping))
                raw.setdefault("EnvVarRequirement", {})[mapping] = names[mapping]
    if draw(st.booleans()):
        raw = {draw(st.sampled_from(["", "calrissian:", "a#"])) + "DaskGatewayRequirement": raw}
    return raw


@given(CLAIMS, NAMES, st.data())
def test_all_spellings_are_one_claim(
    fields: Fields, names: dict[str, str], data: st.DataObject
) -> None:
    plain = Claim.model_validate({**fields, "env": names})
    raw = data.draw(spelled(fields, names))
    claim = Claim.model_validate(raw)
    assert claim == plain
    assert claim.to_dict() == plain.to_dict()
    assert Claim.model_validate(claim.to_dict()) == claim


KEYS = st.one_of(
    st.sampled_from(
        [*FIELDS, *RESULTS, "DaskGatewayRequirement", "EnvVarRequirement", "RuntimeRequirement",
         "class", "clusterMaxCore", "corse", "name", "value"]
    ),
    st.text(max_size=8),
)  # fmt: skip
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    # Python refuses to write such a number out.
    st.builds(lambda: 10**5000),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["4 G", "0.5", "http://h", "DASK_X", "PATH", "$(inputs.x)", "local", "\x00"]),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=25,
)


@given(st.one_of(st.dictionaries(KEYS, JSON, max_size=6), JSON))
@example(dict.fromkeys(["class", "worker_cores", "unknown"], 10**5000))
def test_nothing_but_claim_errors(raw: Any) -> None:
    try:
        claim = Claim.model_validate(raw)
    except ClaimError as error:
        assert error.faults and len(str(error).splitlines()) == len(error.faults) + 1
        assert len(str(error)) < 1000 * len(error.faults) + 100
    else:
        assert Claim.model_validate(claim.to_dict()) == claim
        claim.plan({})


def nested(kind: str, levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = [value] if kind == "list" else {kind: value}
    return value


@pytest.mark.parametrize("levels", [50, 20_000])
@pytest.mark.parametrize(
    "kind", ["list", "DaskGatewayRequirement", "RuntimeRequirement", "env", "options", "value"]
)
def test_deep_nesting(kind: str, levels: int) -> None:
    deep, lists = nested(kind, levels), nested("list", levels)
    for raw in (
        deep, {"worker_cores": deep}, {"options": {"x": deep}}, {"EnvVarRequirement": deep},
        {"max_cores": lists, "clusterMaxCores": lists},
    ):  # fmt: skip
        with suppress(ClaimError):
            claim = Claim.model_validate(raw)
            assert Claim.model_validate(claim.to_dict()) == claim


def test_the_tables_name_the_fields_of_the_claim() -> None:
    assert set(FIELDS) == set(ClaimFields.model_fields)
    assert set(ALIASES.values()) == set(FIELDS) | set(RESULTS)


@pytest.mark.parametrize(
    ("raw", "held"),
    [
        ({"worker_cores": 4, "workerCores": " 4", "WORKER_CORES": "4"}, True),
        ({"worker_memory": "4G", "workerMemory": "4GB"}, False),
        ({"worker_memory": "4G", "workerMemory": "4 G"}, True),
        ({"worker_cores": 1, "workerCores": "1.0", "strict": True, "Strict": "true"}, True),
        ({"image": "eo/A", "IMAGE": "eo/a"}, False),
        ({"options": {"size": 4}, "Options": {"SIZE": "4"}}, True),
        ({"options": {"size": "a b"}, "Options": {"size": "ab"}}, False),
        ({"options": {"size": "007"}, "Options": {"size": 7}}, False),
        ({"options": {"CPU": 1, "cpu": 2}}, False),
        ({"environment": {"A": "x", "a": "y"}}, True),
        ({"class": None, "worker_cores": 1}, True),
    ],
)
def test_what_is_written_twice_is_no_other_value(raw: Any, held: bool) -> None:
    """Nothing that a claim would hold is lost without a fault."""
    assert [fault.problem.partition(" ")[0] for fault in read(raw).faults] == (
        [] if held else ["contradicts"]
    )
