"""What a site allows: bounds that claims keep to, and profiles that they may choose."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import jsonschema
import pytest

import dask_claim
from dask_claim.claim.model import Resolved, load
from dask_claim.claim.site_sections import Policy, gateway_allowed
from dask_claim.errors import ClaimError
from tests.support.claims import Fields, environ_with, write
from tests.support.gateway import GatewayServer
from tests.support.here import dask_claim as dask_claim_here
from tests.support.launcher import PYTHON, Launcher

POLICY = """
worker_cores: 1
profiles:
  large: {worker_cores: 4, workerMemory: 8G, max_workers: 4}
policy:
  max_workers: 4
  max_cores: 8
  max_memory: 20G
  worker_cores: 4
  worker_memory: 8G
  max_lifetime: 3600
  images: ["registry.example.org/eo/*"]
  gateways: ["https://*.example.org", "http://localhost:*"]
  providers: [gateway, local]
"""


def test_every_bound_that_is_passed_is_named(tmp_path: Path) -> None:
    claim = {
        "worker_cores": 8, "worker_cores_limit": 9, "worker_memory": "16 G", "max_workers": 9,
        "max_lifetime": 7200, "image": "elsewhere/eo/x", "provider": "slurm",
        "gateway_url": "https://evil.com/.example.org", "options": {"Worker_Cores": 64},
        "env": {"gateway_url": "GW"},
    }  # fmt: skip
    with pytest.raises(ClaimError) as caught:
        load(environ=environ_with(tmp_path, POLICY, **claim))
    assert sorted(fault.where for fault in caught.value.faults) == [
        "gateway_url", "image", "max_lifetime", "max_workers", "max_workers", "max_workers",
        "options.Worker_Cores", "provider", "worker_cores", "worker_cores_limit", "worker_memory",
    ]  # fmt: skip
    assert caught.value.exit_status == 78
    allowed = f"policy.max_cores in {tmp_path}/claim.yaml (allowed: at most 8; 81 = 9 workers × 9)"
    assert f"exceeds {allowed}" in str(caught.value)
    assert "DASK_CLAIM: worker_cores = 9: exceeds policy.worker_cores" in str(caught.value)
    with pytest.raises(ClaimError, match="allowed: at most 8; 9 = 1 worker × 9"):
        load(environ=environ_with(tmp_path, POLICY, worker_cores=9))
    # It means nothing without `share`.
    bounded = environ_with(tmp_path, "policy: {keep: 10}")
    assert load(environ=bounded).claim.keep == 60


def test_gateway_of_a_cluster_that_is_there(tmp_path: Path) -> None:
    """A runner's cluster is no way round the bounds of gateways."""
    text = "policy: {gateways: ['https://gw.example.org'], foreign_gateways: false}\n"
    for url, bounds in (
        ("https://gw.example.org", ["foreign_gateways"]),
        ("https://else.example.org", ["gateways", "foreign_gateways"]),
    ):
        env = environ_with(tmp_path, text) | {"DASK_CLUSTER": "x", "DASK_GATEWAY_URL": url}
        with pytest.raises(ClaimError) as caught:
            load(environ=env)
        assert [fault.where for fault in caught.value.faults] == ["gateway_url"] * len(bounds)
        assert all(f"policy.{bound}" in str(caught.value) for bound in bounds)
    operators = {"DASK_CLAIM_GATEWAY_URL": "https://gw.example.org"}
    for named in (operators, {"DASK_GATEWAY__ADDRESS": "https://gw.example.org"}):
        cluster = {"DASK_CLUSTER": "x", "DASK_GATEWAY_URL": "https://gw.example.org"}
        assert load(environ=environ_with(tmp_path, text) | cluster | named).plan()


GATEWAY = "https://gw.example.org"
NAMED = "policy: {options: [queue, 'cluster_*']}\n"
LONG = "profiles: {long: {options: {queue: long}}}\npolicy: {options: []}\n"
OWN = "policy: {foreign_gateways: false}\n"
ITS_OWN = f"gateway_url: {GATEWAY}/own/../services/dask\n{OWN}"


@pytest.mark.parametrize(
    ("text", "claim", "refused"),
    [
        (POLICY, {"worker_cores": 8}, r"policy\.worker_cores"),
        # The claim's own value, the profile's, not the site's own.
        (POLICY, {"profile": "large", "max_workers": 2}, None),
        (POLICY, {"profile": "huge"}, "unknown profile; this site has: large"),
        ("", {"profile": "large"}, "has: none"),
        (NAMED, {"options": {"queue": "x", "cluster_name_prefix": "y"}}, None),
        (NAMED, {"options": {"account": "other"}},
         r"options\.account.*policy\.options.*queue, cluster_\*"),
        (LONG, {"profile": "long", "options": {}}, None),
        (LONG, {"options": {"queue": "long"}}, r"options\.queue"),
        (OWN, {"gateway_url": GATEWAY}, "foreign_gateways"),
        (ITS_OWN, {"gateway_url": f"{GATEWAY}/services/dask/x"}, None),
        (ITS_OWN, {"gateway_url": f"{GATEWAY}/services/dask2"}, "foreign_gateways"),
        # What cannot be cut; a faulty policy lets nothing pass.
        (POLICY + "  excess: cut\n", {"image": "other"}, r"policy\.images"),
        ("policy: {max_worker: 1}", {}, "policy.max_worker"),
        ("policy: {max_workers: some, images: x}", {}, "policy.images"),
        ("policy: [1]", {}, r"claim\.yaml: policy"),
        ("profiles: [1]", {}, r"claim\.yaml: profiles"),
    ],
)  # fmt: skip
def test_what_a_site_allows(tmp_path: Path, text: str, claim: Fields, refused: str | None) -> None:
    """Whoever brings the claim: a runner, or a program."""
    env = environ_with(tmp_path, text, **claim)
    program = partial(Resolved.of, dask_claim.Claim(**claim), environ_with(tmp_path, text))
    for attempt in (partial(load, environ=env), program):
        if refused is None:
            found = attempt().claim
            expected = {**claim, **({"options": {"queue": "long"}} if text == LONG else {})}
            assert {name: getattr(found, name) for name in expected} == expected
            continue
        with pytest.raises(ClaimError, match=refused):
            attempt()
    if "foreign" in (refused or ""):
        # The operator names it, too.
        url = claim["gateway_url"]
        assert load(environ={**env, "DASK_CLAIM_GATEWAY_URL": url}).claim.gateway_url == url


SITES_OWN = """
gateway_url: https://gw.example.org
proxy_url: 8786
options: {queue: long, profile: big}
hpc: {directives: ["--exclusive"]}
profiles: {large: {options: {account: eo}}}
gateway_options:
  choices: {profile: {big: {cores: 64, memory: 512G}}}
policy: {options: [], worker_cores: 4, max_workers: 3, max_lifetime: 60, excess: cut}
"""


def test_a_claim_of_the_environment_keeps_its_sources(tmp_path: Path) -> None:
    said = environ_with(tmp_path, SITES_OWN, profile="large", max_workers=9, image="x")
    said["DASK_CLAIM_WORKER_CORES"] = "2"
    expected, claim = load(environ=said), dask_claim.Claim.from_env(said)
    assert expected.sources["max_lifetime"] == f"{tmp_path}/claim.yaml, policy"
    assert expected.sources["options.account"] == f"{tmp_path}/claim.yaml, profile large"
    found = Resolved.of(claim, said)
    assert found.claim == expected.claim == claim
    # What the policy has cut is within it now: the claim's own.
    cut = {name for name, source in expected.sources.items() if source.endswith(", policy")}
    assert {name: found.sources[name] for name in found.sources if name not in cut} == {
        name: expected.sources[name] for name in expected.sources if name not in cut
    }
    assert {found.sources[name] for name in cut} == {"claim"}
    # What a program changes is its own, nothing else.
    fewer = claim.model_copy(update={"max_workers": 1, "options": {**claim.options}})
    found = Resolved.of(fewer, said)
    assert found.claim == expected.claim.model_copy(update={"max_workers": 1})
    assert (found.sources["max_workers"], found.sources["image"]) == ("claim", "DASK_CLAIM")
    with pytest.raises(ClaimError, match=r"options\.queue"):
        Resolved.of(claim.model_copy(update={"options": {"queue": "other"}}), said)
    # Where the site says so no more, the program does.
    (tmp_path / "claim.yaml").write_text("profiles: {large: {}}\npolicy: {options: []}\n")
    with pytest.raises(ClaimError, match=r"options\.queue"):
        Resolved.of(claim, said)
    (tmp_path / "claim.yaml").write_text("profiles: {large: {}}\n")
    found = Resolved.of(claim, said)
    assert (found.claim, found.sources["options.queue"]) == (claim, "claim")


@pytest.mark.parametrize(
    ("allowed", "urls"),
    [
        (True, ["https://gw.example.org/dask", "https://gw.example.org:443",
                "http://localhost:8000", "HTTPS://GW.example.org/dask",
                "https://hub.org/services/one/api", "http://[::1]:8000"]),
        (False, ["https://gw.example.org:8443", "http://gw.example.org",
                 "https://gw.example.org.evil.com", "https://evil.com/.example.org",
                 "https://evil.com?x=.example.org", "https://hub.org/services",
                 "https://hub.org/services/dask-gateway/../../user/x", "https://hub.org/user/x",
                 "http://[::2]:8000"]),
    ],
)  # fmt: skip
def test_patterns_of_gateways(allowed: bool, urls: list[str]) -> None:
    patterns = ("https://*.example.org", "http://localhost:*", "HTTPS://hub.org/services/*/",
                "http://[::1]:8000")  # fmt: skip
    assert Policy(gateways=[*patterns]).gateways == patterns
    for url in urls:
        assert gateway_allowed(patterns, url) is allowed, url


@pytest.mark.parametrize(
    "pattern", ["gw.example.org", "*", "https://", "https://gw/../x", "https://gw//x",
                "https://user@gw", "https://gw/%41", "https://gw:port"]
)  # fmt: skip
def test_a_pattern_that_matches_no_gateway(pattern: str) -> None:
    with pytest.raises(ValueError, match="matches no gateway; write for example"):
        Policy(gateways=[pattern])


def test_show_and_schema(tmp_path: Path) -> None:
    """Of the policy and of the credentials, without their secrets."""
    login = "{type: basic, gateway: 'https://a.example.org', password: a-secret}"
    site = str(write(tmp_path / "claim.yaml", f"{POLICY}credentials: {login}\n"))

    def printed(*words: str) -> str:
        done = dask_claim_here(*words, DASK_CLAIM_SITE=site)
        assert done.status == 0 and "a-secret" not in done.out + done.err, done.err
        return done.out

    shown, content = printed("show"), json.loads(printed("show", "--json"))
    assert (content["policy"]["source"], content["policy"]["max_workers"]) == (site, 4)
    gateway = "https://a.example.org:443"
    assert content["credentials"] == {"type": "basic", "gateway": gateway, "source": site}
    assert "Policy of" in shown and f"basic, for {gateway} alone" in shown
    schema = json.loads(printed("schema", "--site"))
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema)
    for policy, credentials, valid in (
        ({"max_workers": 4, "images": ["x/*"]}, {"type": "basic", "password_file": "x"}, True),
        ({"max_worker": 4}, {"type": "basic"}, False),
        ({}, {"password_file": "x"}, False),
    ):
        said = {"policy": policy, "profiles": {}, "credentials": credentials}
        assert checker.is_valid(said) is valid


BOUNDED = "policy: {max_workers: 1, max_cores: 1, max_memory: 512M, providers: [gateway, local]}\n"

SIZE = """
from distributed import Client
client = Client()
client.wait_for_workers(1)
workers = client.scheduler_info(n_workers=-1)["workers"].values()
print(*(sum(one[name] for one in workers) for name in ("nthreads", "memory_limit")))
"""


@pytest.mark.parametrize("where", ["gateway", "fallback"])
def test_a_run_is_within_the_policy(
    launcher: Launcher, gateway: GatewayServer, tmp_path: Path, where: str
) -> None:
    """What a claim leaves open, the gateway's default and this machine's size, is bounded, too."""
    claim: Fields = {"gateway_url": gateway.url, "fallback": "local"}
    if where == "fallback":
        claim["gateway_url"] = "http://127.0.0.1:9"
    site = str(write(tmp_path / "claim.yaml", BOUNDED))
    run = launcher(PYTHON, "-c", SIZE, claim=claim, env={"DASK_CLAIM_SITE": site})
    assert run.status == 0, run.err
    threads, memory = map(int, run.out.split())
    assert threads == 1 and 0 < memory <= 2**29
    away = "cannot be reached" in run.err and "Falling back to a local cluster" in run.err
    assert (run.receipt["provider"], away) == (
        ("local", True) if where == "fallback" else ("gateway", False)
    )
