"""Claims, one file per case: the good with what they mean, the bad with their message."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from dask_claim.claim.fields import FIELDS
from dask_claim.claim.model import Claim
from dask_claim.errors import ClaimError, ConfigurationError, Fault
from tests.support.claims import NOWHERE, write

CLAIMS = Path(__file__).parent / "claims"
GOOD = sorted(
    file for file in (CLAIMS / "good").glob("*.json") if not file.match("*.expected.json")
)
BAD = sorted((CLAIMS / "bad").glob("*.json"))


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_good(file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    expected = json.loads(file.with_suffix(".expected.json").read_text(encoding="utf-8"))
    claim = Claim.model_validate(json.loads(text))
    assert claim.to_dict() == {**Claim().to_dict(), **expected}
    assert Claim.model_validate_json(text) == claim == Claim.model_validate(expected)
    site = write(tmp_path / "site.yaml", "profiles: {large: {}}\n")
    environ = {**NOWHERE, "DASK_CLAIM_SITE": str(site), "DASK_CLAIM": text}
    assert Claim.from_env(environ) == claim
    claim.plan({})


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_bad(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    with pytest.raises(ClaimError) as caught:
        Claim.model_validate(json.loads(text))
    assert f"{caught.value}\n" == file.with_suffix(".message.txt").read_text(encoding="utf-8")
    with pytest.raises(ClaimError) as again:
        Claim.from_env({**NOWHERE, "DASK_CLAIM": text})
    assert {one.problem for one in again.value.faults} == {
        one.problem for one in caught.value.faults
    }
    assert all(fault.source.startswith("DASK_CLAIM") for fault in again.value.faults)


def test_there_is_a_case_for_every_field() -> None:
    said = {key for file in GOOD for key in json.loads(file.read_text(encoding="utf-8"))}
    assert set(FIELDS) - said == {"share"}  # which no claim of a developer sets


def test_defaults() -> None:
    assert Claim().to_dict() == {
        "version": 1, "options": {}, "env": {}, "environment": {}, "hpc": {}, "provider": "auto",
        "fallback": "fail", "create": True, "strict": True, "versions": "warn",
        "lease_timeout": 60, "reconnect_timeout": 10, "keep": 60,
    }  # fmt: skip


def test_a_claim_cannot_be_changed() -> None:
    raw = {"options": {"queue": "short", "a": [1]}, "env": {"image": "IMAGE"}}
    claim = Claim.model_validate(raw)
    with pytest.raises(ValidationError):
        claim.worker_cores = 2
    with pytest.raises(TypeError):
        claim.options["queue"] = "long"  # type: ignore[index]
    with pytest.raises(TypeError):
        claim.env.clear()  # type: ignore[attr-defined]
    raw["options"]["a"].append(2)  # type: ignore[attr-defined]
    assert claim.options["a"] == [1]


def test_a_claim_travels() -> None:
    claim = Claim(worker_memory="4 G", options={"queue": "short"}, env={"image": "IMAGE"})
    for twin in (pickle.loads(pickle.dumps(claim)), copy.deepcopy(claim), claim.model_copy()):
        assert twin == claim and str(twin.worker_memory) == "4 G"
    assert json.loads(claim.model_dump_json(exclude_none=True)) == claim.to_dict()


def test_a_claim_and_a_changed_copy_are_checked() -> None:
    with pytest.raises(ClaimError, match="did you mean worker_cores"):
        Claim(worker_core=2)
    claim = Claim(workerCores="2", max_cores=8, env={"image": "IMAGE"}, gateway_url="http://gw")
    assert Claim.model_validate(claim) is claim
    changed = claim.model_copy(update={"workerCores": "4", "image": None})
    assert (changed.worker_cores, changed.max_cores, changed.env) == (4, 8, claim.env)
    assert claim.model_copy(update={"gateway_url": None}).gateway_url is None
    for update in ({"worker_cores": 16}, {"worker_cores": "many"}, {"no_field": 1}):
        with pytest.raises(ClaimError):
            claim.model_copy(update=update)
    assert claim.worker_cores == 2


def test_names_that_dask_could_not_read_together() -> None:
    for env in (
        {"image": "DASK_EO", "worker_cores": "DASK_EO__CORES"},
        {"image": "DASK_EO__CORES__MAX", "worker_cores": "DASK_eo__cores"},
        {"image": "DASK_CLUSTER__IMAGE"},
    ):
        with pytest.raises(ClaimError, match="Dask would fail on import"):
            Claim(env=env)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        ("{'worker_cores': 1}", "at line 1, column 2"),
        ('{"image": "x",\n "worker_cores": }', "at line 2, column 18"),
        ("worker_cores: 1", "is not JSON"), ("null", "is not an object"),
        ("[]", "is not an object"),
        ('{"worker_cores": NaN}', "worker_cores = NaN: is not a finite number"),
        ('{"options": {"x": -Infinity}}', "options.x = -Infinity: has no JSON form"),
        ('{"worker_cores": 1e999}', "is not a finite number"),
        ('{"image": "a", "image": "a"}', "image: is given twice in one object"),
        ('{"image": "a", "image": "b", "worker_core": 1}', "2 faults"),
        ('{"env": {"image": "A", "image": "B"}}', "image: is given twice in one object"),
        ('{"options": {"a": [{"b": 1, "b": 2}]}}', "b: is given twice"),
        ("[" * 200_000, "is nested too deeply"),
        ('{"max_cores": ' + "9" * 5000 + "}", "too many digits"),
        ('{"image": "' + "x" * 2**20 + '"}', "is longer than"),
    ],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_text_that_is_no_claim(text: str, message: str) -> None:
    with pytest.raises(ClaimError) as caught:
        Claim.model_validate_json(text)
    assert message in str(caught.value)
    with pytest.raises(ClaimError) as caught:
        Claim.from_env({**NOWHERE, "DASK_CLAIM": text})
    assert message in str(caught.value) and "  DASK_CLAIM: " in str(caught.value)


def test_the_error_is_a_value_error_of_status_78() -> None:
    error = ClaimError(
        [Fault(("a",), 1, "is wrong", source="DASK_CLAIM"), Fault((), None, "is odd")]
    )
    assert isinstance(error, ValueError) and isinstance(error, ConfigurationError)
    assert error.exit_status == 78
    assert str(error) == "2 faults in the claim:\n  DASK_CLAIM: a = 1: is wrong\n  is odd"
    assert pickle.loads(pickle.dumps(error)).faults == error.faults


@pytest.mark.parametrize(
    "value",
    [10**5000, object(), "x" * 500, {1, 2}, "\ud800", "\x9b2J\u2028\x85"],
    ids=["digits", "object", "long", "set", "surrogate", "controls"],
)
def test_a_fault_of_any_value_is_one_short_line(value: object) -> None:
    line = str(Fault(("a",), value, "is wrong"))
    assert len(line) < 200 and line.isprintable()
    line.encode()


def test_the_schema_tells_every_field() -> None:
    schema = Claim.model_json_schema()
    assert list(schema["properties"]) == list(FIELDS)
    assert all("description" in field for field in schema["properties"].values())
    assert schema["additionalProperties"] is False
    json.dumps(schema)
