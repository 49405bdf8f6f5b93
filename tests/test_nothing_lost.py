"""Whatever a source says is in the effective claim, overruled by a stronger source, or a fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_claim.claim.model import Claim, Resolved, load
from dask_claim.claim.spellings import read
from dask_claim.claim.validation import check_fields, leaves
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


RIGHT: dict[str, tuple[Any, ...]] = {
    "gateway_url": ("http://a:8000", "http://b"),
    "proxy_url": ("gateway://a:8786", "gateway://b:8786"),
    "public_url": ("http://a.example.org", "http://b.example.org"),
    "image": ("bai:1.10", "2024.10"),
    "worker_cores": (1, 2),
    "worker_memory": ("1 G", "2Gi"),
    "min_workers": (1, 2),
    "max_workers": (8, 9),
    "fallback": ("local", "fail"),
    "lease_timeout": (30, 90),
    "strict": ("true", "false"),
    "options.queue": ("long", "0123"),
    "options.tag": ("1.10", "x"),
    "env.image": ("IMAGE", "PROGRAM_IMAGE"),
    "env.worker_cores": ("CORES", "PROGRAM_CORES"),
    "environment.AWS_REGION": ("eu", "007"),
    "environment.lower_case": ("yes", "no"),
    "hpc.queue": ("long", "0123"),
    "hpc.walltime": ("10:00:00", "1-00:00:00"),
}
"""Leaves and values that are sound together, whoever says which of them."""

WRONG: dict[str, Any] = {
    "image": "two\nlines",
    "worker_cores": "many",
    "worker_memory": "4 X",
    "fallback": "cloud",
    "lease_timeout": "-1",
    "strict": "perhaps",
    "gateway_url": "somewhere",
    "public_url": "ftp://x",
    "env.image": "PATH",
    "environment.AWS_REGION": "two\nlines",
    "environment.MY-VAR": "x",
    "hpc.queue": "two words",
    "hpc.acount": "x",
}

Said = dict[str, dict[str, Any]]
"""Source → leaf → value."""


@st.composite
def said(draw: st.DrawFn) -> Said:
    found: Said = {}
    for source in SOURCES:
        known = ADDRESSES if source == "Dask" else RIGHT
        names = draw(st.lists(st.sampled_from([*known]), unique=True, max_size=6))
        found[source] = {name: draw(st.sampled_from(RIGHT[name])) for name in names}
    return found


def nested(fields: dict[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for name, value in fields.items():
        field, entry, key = name.partition(".")
        if entry:
            whole.setdefault(field, {})[key] = value
        else:
            whole[field] = value
    return whole


def say_all(found: Said, site: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return flags and environment that say all this."""
    of_dask = {"gateway_url": "ADDRESS", "proxy_url": "PROXY_ADDRESS"}
    of_dask["public_url"] = "PUBLIC_ADDRESS"
    whole = nested(found["site"])
    if found["profile"]:
        whole |= {"profile": "large", "profiles": {"large": nested(found["profile"])}}
    write(site, whole)
    environ = {
        "DASK_CLAIM_SITE": str(site),
        "DASK_CLAIM": json.dumps(nested(found["DASK_CLAIM"])),
        "HOME": "/nonexistent",
        "DASK_ROOT_CONFIG": "/nonexistent",
        **{variable(name): str(value) for name, value in found["variables"].items()},
        **{f"DASK_GATEWAY__{of_dask[name]}": value for name, value in found["Dask"].items()},
    }
    return nested(found["flags"]), environ


def variable(name: str) -> str:
    field, entry, key = name.partition(".")
    return f"DASK_CLAIM_{field.upper()}" + (entry and "__" + key)


def place(source: str, name: str, site: Path) -> str:
    """Return what a source is called."""
    if source == "flags":
        return "--" + name.partition(".")[0].replace("_", "-")
    if source == "variables":
        return variable(name)
    if source == "Dask":
        key = {"gateway_url": "address", "proxy_url": "proxy-address"}.get(name, "public-address")
        return f"Dask's configuration (gateway.{key})"
    return {"site": str(site), "profile": f"{site}, profile large"}.get(source, source)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site") / "claim.yaml"


@settings(max_examples=100, deadline=None)
@given(said())
def test_all_that_is_said_is_there_or_overruled(site: Path, found: Said) -> None:
    """By somebody stronger, or with another gateway."""
    resolved = load(*say_all(found, site))
    overruled = {(one.field, one.source): one for one in resolved.overruled}
    effective = dict(leaves(resolved.claim.to_dict()))
    for strength, source in enumerate(SOURCES):
        for name, value in found[source].items():
            at = place(source, name, site)
            if resolved.sources[name] == at:
                assert same(resolved, name, value), (name, at)
                gateway = found[source].get("gateway_url", resolved.claim.gateway_url)
                assert name not in ADDRESSES or gateway == resolved.claim.gateway_url
            if resolved.sources[name] == at or same(resolved, name, value):
                continue
            one = overruled.pop((name, at))
            stronger = [found[each] for each in SOURCES[:strength]]
            if name in ADDRESSES and "which names another gateway" in one.by:
                assert resolved.claim.gateway_url != found[source].get("gateway_url")
                assert any("gateway_url" in each for each in stronger)
            else:
                assert any(name in each for each in stronger)
                assert one.by == resolved.sources[name]
    # Nothing else is there, and nothing else is told.
    assert {name for name, at in overruled} <= {*ADDRESSES}
    every = {name for leaves_of in found.values() for name in leaves_of}
    assert {name for name in effective if resolved.sources[name] != "default"} <= {
        *every,
        "profile",
    }


def same(resolved: Resolved, name: str, value: Any) -> bool:
    said_alone = dict(leaves(Claim.model_validate(nested({name: value})).to_dict()))[name]
    return bool(dict(leaves(resolved.claim.to_dict())).get(name) == said_alone)


@settings(max_examples=100, deadline=None)
@given(said(), st.data())
def test_whatever_is_wrong_is_named_and_nothing_else(
    site: Path, found: Said, data: st.DataObject
) -> None:
    pairs = st.tuples(st.sampled_from(SOURCES[:-1]), st.sampled_from([*WRONG]))
    wrong = data.draw(st.lists(pairs, min_size=1, max_size=3, unique=True))
    for source, name in wrong:
        found[source][name] = WRONG[name]
    with pytest.raises(ClaimError) as caught:
        load(*say_all(found, site))
    named = {(fault.source, fault.path) for fault in caught.value.faults}
    assert named == {(place(source, name, site), name) for source, name in wrong}
