"""Whatever a source says is in the effective claim, overruled by a stronger source, or a fault."""

from __future__ import annotations

import pytest

from dask_claim.claim.spellings import read
from dask_claim.claim.validation import check_fields
from dask_claim.errors import Fault


@pytest.mark.parametrize(
    ("field", "entry", "value"),
    [
        ("environment", "MY-VAR", "x"),
        ("environment", "", "x"),
        ("environment", "ÄRA", "x"),
        ("environment", "NUMBER", 1),
        ("hpc", "acount", "x"),
        ("hpc", "queue", "two words"),
        ("env", "worker_cores", "PATH"),
        ("env", "image", 7),
        ("options", "deep", float("nan")),
    ],
)
def test_wrong_entry_is_named_and_takes_no_other_with_it(
    field: str, entry: str, value: object
) -> None:
    right = {"environment": "AWS_REGION", "hpc": "account", "env": "gateway_url"}.get(field, "tag")
    values, [fault], doubtful = check_fields(read({field: {entry: value, right: "RIGHT"}}))
    assert isinstance(fault, Fault) and fault.path == f"{field}.{entry}"
    assert values == {field: {right: "RIGHT"}}
    assert doubtful == {field}


@pytest.mark.parametrize("field", ["options", "environment", "hpc", "env"])
def test_null_is_absent(field: str) -> None:
    entry = {"env": "image", "hpc": "queue"}.get(field, "X")
    assert check_fields(read({field: {entry: None}, "image": "x"})) == ({"image": "x"}, [], set())


@pytest.mark.parametrize("first", [{"queue": "long"}, "long"])
@pytest.mark.parametrize("second", [{"queue": "short"}, "short"])
def test_field_that_is_given_twice(first: object, second: object) -> None:
    _, faults, _ = check_fields(read({"hpc": first, "Hpc": second}))
    assert faults
