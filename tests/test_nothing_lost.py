"""Whatever a source says is in the effective claim, overruled by a stronger source, or a fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dask_claim.claim.model import load
from dask_claim.claim.spellings import read
from dask_claim.claim.validation import check_fields
from dask_claim.cli.show import as_json, as_text
from dask_claim.errors import ClaimError, Fault


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing is said, with a site file to write."""
    return {
        "DASK_CLAIM_SITE": write(tmp_path / "claim.yaml", "{}"),
        "HOME": str(tmp_path / "home"),
        "DASK_ROOT_CONFIG": str(tmp_path / "etc"),
    }


def write(path: Path, content: object) -> str:
    """Write a file of JSON, which YAML is, too."""
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return str(path)


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


ADDRESSES = {
    "gateway_url": "http://a:8000",
    "proxy_url": "gateway://a:8786",
    "public_url": "http://a.example.org",
}


def say(where: str, fields: dict[str, Any], flags: dict[str, Any], environ: dict[str, str]) -> None:
    """Have one kind of source say these fields."""
    site = Path(environ["DASK_CLAIM_SITE"])
    if where == "flags":
        flags |= fields
    elif where == "variables":
        environ |= {f"DASK_CLAIM_{name.upper()}": str(value) for name, value in fields.items()}
    elif where == "DASK_CLAIM":
        environ["DASK_CLAIM"] = json.dumps(fields)
    elif where == "site":
        write(site, {**json.loads(site.read_text()), **fields})
    elif where == "profile":
        whole = json.loads(site.read_text())
        write(site, {**whole, "profile": "large", "profiles": {"large": fields}})
    else:
        names = {"gateway_url": "ADDRESS", "proxy_url": "PROXY_ADDRESS"}
        names["public_url"] = "PUBLIC_ADDRESS"
        environ |= {f"DASK_GATEWAY__{names[name]}": value for name, value in fields.items()}


SOURCES = ("flags", "variables", "DASK_CLAIM", "profile", "site", "Dask")
PAIRS = [(one, other) for i, one in enumerate(SOURCES) for other in SOURCES[i + 1 :]]


class TestAddressesOfOneGateway:
    """A source's three addresses belong together."""

    @pytest.mark.parametrize(("strong", "weak"), PAIRS)
    def test_other_gateway_takes_none_of_them(
        self, environ: dict[str, str], strong: str, weak: str
    ) -> None:
        flags: dict[str, Any] = {}
        say(weak, ADDRESSES, flags, environ)
        say(strong, {"gateway_url": "http://b"}, flags, environ)
        resolved = load(flags, environ)
        claim = resolved.claim
        assert (claim.gateway_url, claim.proxy_url, claim.public_url) == ("http://b", None, None)
        told = {one.field: one for one in resolved.overruled}
        assert {name: told[name].value for name in ADDRESSES} == ADDRESSES
        shown = as_text(resolved, resolved.plan({}))
        for name, value in ADDRESSES.items():
            assert f"{name} {value} of {told[name].source}: by {told[name].by}" in shown
        content = json.loads(as_json(resolved, resolved.plan({})))
        assert [one["field"] for one in content["overruled"]] == list(told)

    @pytest.mark.parametrize(("strong", "weak"), PAIRS)
    @pytest.mark.parametrize("url", ["http://a:8000/", "HTTP://A:8000", None])
    def test_same_or_no_gateway_keeps_them(
        self, environ: dict[str, str], strong: str, weak: str, url: str | None
    ) -> None:
        flags: dict[str, Any] = {}
        fields = {**ADDRESSES, "gateway_url": url}
        say(weak, {name: value for name, value in fields.items() if value}, flags, environ)
        say(strong, {"gateway_url": ADDRESSES["gateway_url"]}, flags, environ)
        claim = load(flags, environ).claim
        assert (claim.proxy_url, claim.public_url) == (*ADDRESSES.values(),)[1:]

    def test_fault_of_an_address_that_is_not_used(self, environ: dict[str, str]) -> None:
        environ["DASK_CLAIM"] = json.dumps({**ADDRESSES, "proxy_url": "no where"})
        environ["DASK_CLAIM_GATEWAY_URL"] = "http://b"
        with pytest.raises(ClaimError, match="DASK_CLAIM: proxy_url"):
            load(environ=environ)


@pytest.mark.parametrize("name", [["large"], {"a": 1}, 7, "", "small"])
@pytest.mark.parametrize("where", ["flags", "variables", "DASK_CLAIM", "site"])
def test_profile_that_is_none(environ: dict[str, str], where: str, name: object) -> None:
    if where in ("flags", "variables") and not isinstance(name, str):
        return
    write(Path(environ["DASK_CLAIM_SITE"]), {"profiles": {"large": {"worker_cores": 2}}})
    flags: dict[str, Any] = {}
    say(where, {"profile": name}, flags, environ)
    if where == "variables" and not name:
        assert load(flags, environ).claim.profile is None
        return
    with pytest.raises(ClaimError, match="profile"):
        load(flags, environ)
    say(where, {"profile": " large "}, flags, environ)
    claim = load(flags, environ).claim
    assert (claim.profile, claim.worker_cores) == ("large", 2)
