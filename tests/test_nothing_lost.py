"""Whatever a source says is in the effective claim, overruled by a stronger source, or a fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_claim.claim.fields import leaves
from dask_claim.claim.model import Claim, Resolved, load
from dask_claim.cli.show import as_json, as_text
from dask_claim.errors import ClaimError
from tests.support.claims import NOWHERE, Env, Fields, write


def test_null_is_absent() -> None:
    entries = {"options": {"X": None}, "environment": {"X": None}, "hpc": {"queue": None}}
    claim = Claim.model_validate({**entries, "env": {"image": None}, "gpus": None, "image": "x"})
    assert claim == Claim(image="x")


ADDRESSES = {
    "gateway_url": "http://a:8000",
    "proxy_url": "gateway://a:8786",
    "public_url": "http://a.example.org",
}
OF_DASK = {"gateway_url": "address", "proxy_url": "proxy-address", "public_url": "public-address"}
SOURCES = ("flags", "variables", "DASK_CLAIM", "profile", "site", "Dask")

Said = dict[str, Fields]
"""Source → leaf → value."""


def loaded(found: Said, site: Path) -> Resolved:
    return load(*say(found, site))


def say(found: Said, site: Path) -> tuple[Fields, Env]:
    """Return flags and environment that say all this."""
    said = {source: nested(found.get(source, {})) for source in SOURCES}
    if said["profile"]:
        said["site"] |= {"profile": "large", "profiles": {"large": said["profile"]}}
    write(site, said["site"])
    variables = found.get("variables", {})
    of_dask = {OF_DASK[name].upper().replace("-", "_"): said["Dask"][name] for name in said["Dask"]}
    return said["flags"], {
        **NOWHERE,
        "DASK_CLAIM_SITE": str(site),
        "DASK_CLAIM": json.dumps(said["DASK_CLAIM"]),
        **{variable(name): str(value) for name, value in variables.items()},
        **{f"DASK_GATEWAY__{name}": value for name, value in of_dask.items()},
    }


def nested(fields: Fields) -> Fields:
    whole: Fields = {}
    for name, value in fields.items():
        field, entry, key = name.partition(".")
        if entry:
            whole.setdefault(field, {})[key] = value
        else:
            whole[field] = value
    return whole


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
        return f"Dask's configuration (gateway.{OF_DASK[name]})"
    return {"site": str(site), "profile": f"{site}, profile large"}.get(source, source)


@pytest.mark.parametrize(
    ("strong", "weak"), [("flags", "Dask"), ("variables", "DASK_CLAIM"), ("DASK_CLAIM", "site")]
)
def test_only_another_gateway_takes_its_addresses(site: Path, strong: str, weak: str) -> None:
    """A source's three addresses belong together."""
    resolved = loaded({weak: ADDRESSES, strong: {"gateway_url": "http://b"}}, site)
    claim = resolved.claim
    assert (claim.gateway_url, claim.proxy_url, claim.public_url) == ("http://b", None, None)
    told = {one.field: one for one in resolved.overruled}
    assert {name: told[name].value for name in ADDRESSES} == ADDRESSES
    shown = as_text(resolved, resolved.plan())
    for name, value in ADDRESSES.items():
        assert f"{name} {value} of {told[name].source}: by {told[name].by}" in shown
    content = json.loads(as_json(resolved, resolved.plan()))
    assert [one["field"] for one in content["overruled"]] == list(told)
    # The same or no gateway keeps them.
    for url in ({"gateway_url": "http://a:8000/"}, {"gateway_url": "HTTP://A:8000"}, {}):
        own = {name: value for name, value in ADDRESSES.items() if name != "gateway_url"}
        strongest = {"gateway_url": ADDRESSES["gateway_url"]}
        claim = loaded({weak: {**url, **own}, strong: strongest}, site).claim
        assert {name: getattr(claim, name) for name in own} == own


@pytest.mark.parametrize("where", ["flags", "variables", "DASK_CLAIM", "site"])
def test_profile_that_is_none(site: Path, where: str) -> None:
    def chosen(name: object) -> Claim:
        found: Said = {"site": {"profiles": {"large": {"worker_cores": 2}}}}
        found.setdefault(where, {})["profile"] = name
        return loaded(found, site).claim

    others = () if where in ("flags", "variables") else (["large"], {"a": 1}, 7)
    for name in ("", "small", *others):
        if where == "variables" and not name:
            assert chosen(name).profile is None
            continue
        with pytest.raises(ClaimError, match="profile"):
            chosen(name)
    claim = chosen(" large ")
    assert (claim.profile, claim.worker_cores) == ("large", 2)


RIGHT: dict[str, tuple[Any, ...]] = {
    "gateway_url": ("http://a:8000", "http://b"),
    "proxy_url": ("gateway://a:8786", "gateway://b:8786"),
    "public_url": ("http://a.example.org", "http://b.example.org"),
    "image": ("bai:1.10", "2024.10"), "worker_cores": (1, 2), "worker_memory": ("1 G", "2Gi"),
    "min_workers": (1, 2), "max_workers": (8, 9), "fallback": ("local", "fail"),
    "lease_timeout": (30, 90), "strict": ("true", "false"), "options.queue": ("long", "0123"),
    "options.tag": ("1.10", "x"), "env.image": ("IMAGE", "PROGRAM_IMAGE"),
    "env.worker_cores": ("CORES", "PROGRAM_CORES"), "environment.AWS_REGION": ("eu", "007"),
    "environment.lower_case": ("yes", "no"), "hpc.queue": ("long", "0123"),
    "hpc.walltime": ("10:00:00", "1-00:00:00"),
}  # fmt: skip
"""Leaves and values that are sound together, whoever says which of them."""

WRONG: Fields = {
    "image": "two\nlines", "worker_cores": "many", "worker_memory": "4 X", "fallback": "cloud",
    "lease_timeout": "-1", "strict": "perhaps", "gateway_url": "somewhere",
    "proxy_url": "no where", "public_url": "ftp://x", "env.image": "PATH",
    "environment.AWS_REGION": "two\nlines", "environment.MY-VAR": "x",
    "hpc.queue": "two words", "hpc.acount": "x",
}  # fmt: skip


@st.composite
def said(draw: st.DrawFn) -> Said:
    found: Said = {}
    for source in SOURCES:
        known = ADDRESSES if source == "Dask" else RIGHT
        names = draw(st.lists(st.sampled_from([*known]), unique=True, max_size=6))
        found[source] = {name: draw(st.sampled_from(RIGHT[name])) for name in names}
    return found


@pytest.fixture(scope="module")
def one_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site") / "claim.yaml"


@given(said())
def test_every_value_is_there_or_overruled(one_site: Path, found: Said) -> None:
    """By somebody stronger, or with another gateway."""
    resolved = loaded(found, one_site)
    overruled = {(one.field, one.source): one for one in resolved.overruled}
    effective = by_name(resolved.claim)
    for strength, source in enumerate(SOURCES):
        for name, value in found[source].items():
            at = place(source, name, one_site)
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
    not_default = {name for name in effective if resolved.sources[name] != "default"}
    assert not_default <= {*every, "profile"}


def same(resolved: Resolved, name: str, value: Any) -> bool:
    said_alone = by_name(Claim.model_validate(nested({name: value})))[name]
    return bool(by_name(resolved.claim).get(name) == said_alone)


def by_name(claim: Claim) -> Fields:
    return {".".join(path): value for path, value in leaves(claim.to_dict()).items()}


@given(said(), st.data())
def test_whatever_is_wrong_is_named_and_nothing_else(
    one_site: Path, found: Said, data: st.DataObject
) -> None:
    pairs = st.tuples(st.sampled_from(SOURCES[:-1]), st.sampled_from([*WRONG]))
    wrong = data.draw(st.lists(pairs, min_size=1, max_size=3, unique=True))
    for source, name in wrong:
        found[source][name] = WRONG[name]
    with pytest.raises(ClaimError) as caught:
        loaded(found, one_site)
    named = {(fault.source, fault.where) for fault in caught.value.faults}
    assert named == {(place(source, name, one_site), name) for source, name in wrong}
