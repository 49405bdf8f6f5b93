"""What a site allows: bounds that claims keep to, and profiles that they may choose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

import dask_claim
from dask_claim.claim.model import Resolved, load
from dask_claim.claim.site_sections import Policy, gateway_allowed
from dask_claim.cli.main import cli
from dask_claim.errors import ClaimError
from tests.support.claims import NOWHERE, Env, Fields, write
from tests.support.gateway import GatewayServer
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


def environ(folder: Path, text: str = POLICY, **claim: Any) -> Env:
    site = write(folder / "claim.yaml", text)
    return {**NOWHERE, "DASK_CLAIM_SITE": str(site), "DASK_CLAIM": json.dumps(claim)}


def test_within_the_bounds(tmp_path: Path) -> None:
    found = load(environ=environ(tmp_path, worker_cores=2, max_workers=4, worker_memory="5G"))
    assert found.claim.max_lifetime == 3600
    assert found.sources["max_lifetime"] == f"{tmp_path}/claim.yaml, policy"
    assert found.warnings() == []


def test_every_bound_that_is_passed_is_named(tmp_path: Path) -> None:
    claim = {
        "worker_cores": 8, "worker_cores_limit": 9, "worker_memory": "16 G", "max_workers": 9,
        "max_lifetime": 7200, "image": "elsewhere/eo/x", "provider": "slurm",
        "gateway_url": "https://evil.com/.example.org", "options": {"Worker_Cores": 64},
    }  # fmt: skip
    with pytest.raises(ClaimError) as caught:
        load(environ=environ(tmp_path, **claim))
    assert sorted(fault.path for fault in caught.value.faults) == [
        "gateway_url", "image", "max_lifetime", "max_workers", "max_workers", "max_workers",
        "options.Worker_Cores", "provider", "worker_cores", "worker_cores_limit", "worker_memory",
    ]  # fmt: skip
    assert caught.value.exit_status == 78
    allowed = f"policy.max_cores in {tmp_path}/claim.yaml (allowed: at most 8 cores, 2 workers"
    assert f"exceeds {allowed}" in str(caught.value)


def test_gateway_of_a_cluster_that_is_there(tmp_path: Path) -> None:
    """A runner's cluster is no way round the bounds of gateways."""
    text = "policy: {gateways: ['https://gw.example.org'], foreign_gateways: false}\n"
    for url, bounds in (
        ("https://gw.example.org", ["foreign_gateways"]),
        ("https://else.example.org", ["gateways", "foreign_gateways"]),
    ):
        env = environ(tmp_path, text) | {"DASK_CLUSTER": "x", "DASK_GATEWAY_URL": url}
        with pytest.raises(ClaimError) as caught:
            load(environ=env)
        assert [fault.path for fault in caught.value.faults] == ["gateway_url"] * len(bounds)
        assert all(f"policy.{bound}" in str(caught.value) for bound in bounds)
    operators = {"DASK_CLAIM_GATEWAY_URL": "https://gw.example.org"}
    for named in (operators, {"DASK_GATEWAY__ADDRESS": "https://gw.example.org"}):
        cluster = {"DASK_CLUSTER": "x", "DASK_GATEWAY_URL": "https://gw.example.org"}
        assert load(environ=environ(tmp_path, text) | cluster | named).plan(cluster)


OFFERED = """
gateway_options:
  names: {worker_memory: RamMB, image: tag}
  choices:
    size:
      small: {cores: 2, memory: 4G}
      large: {cores: 16, memory: 64G}
options: {size: large, queue: long}
hpc: {directives: ["--exclusive"]}
"""


@pytest.mark.parametrize(
    ("claim", "refused"),
    [
        ({}, []),
        ({"options": {"size": "small", "ramgb": 1}}, []),
        ({"options": {"size": "large"}}, [("options.size", "worker_cores"),
                                          ("options.size", "worker_memory")]),
        ({"options": {"Size": "huge"}}, [("options.Size", "worker_cores"),
                                         ("options.Size", "worker_memory")]),
        ({"options": {"rammb": 1, "tag": "x"}}, [("options.rammb", "worker_memory"),
                                                 ("options.tag", "images")]),
        ({"hpc": {"directives": ["--nodes=9"]}}, [("hpc.directives", "worker_cores")]),
    ],
)  # fmt: skip
def test_what_is_passed_on(tmp_path: Path, claim: Fields, refused: list[tuple[str, str]]) -> None:
    """In the words of a gateway or batch system, too; the site's own file may say anything."""
    environment = environ(tmp_path, POLICY + OFFERED, **claim)
    if not refused:
        assert load(environ=environment).claim.options["queue"] == "long"
        return
    with pytest.raises(ClaimError) as caught:
        load(environ=environment)
    found = [(one.path, one.hint.partition("policy.")[2].split()[0]) for one in caught.value.faults]
    assert found == refused


def test_options_by_name(tmp_path: Path) -> None:
    text = "policy: {options: [queue, 'cluster_*']}\n"
    allowed = {"options": {"queue": "x", "cluster_name_prefix": "y"}}
    assert load(environ=environ(tmp_path, text, **allowed)).claim.options == allowed["options"]
    with pytest.raises(ClaimError, match=r"options\.account.*policy\.options.*queue, cluster_\*"):
        load(environ=environ(tmp_path, text, options={"account": "other"}))


def test_cut_with_a_warning(tmp_path: Path) -> None:
    text = POLICY + "  excess: cut\n"
    claim = {"worker_cores": 8, "worker_memory": "16G", "max_workers": 9}
    found = load(environ=environ(tmp_path, text, **claim))
    assert (found.claim.worker_cores, str(found.claim.worker_memory)) == (4, "8G")
    assert found.claim.plan({}).max_workers == 2
    assert len(found.warnings()) == 5
    assert any("max_workers 9 is cut to 2" in warning for warning in found.warnings())
    # An image cannot be cut.
    with pytest.raises(ClaimError):
        load(environ=environ(tmp_path, text, image="other"))


def test_a_claim_of_a_program_keeps_to_it(tmp_path: Path) -> None:
    environment = environ(tmp_path)
    with pytest.raises(ClaimError, match=r"policy\.worker_cores"):
        Resolved.of(dask_claim.Claim(worker_cores=8), environment)
    found = Resolved.of(dask_claim.Claim(profile="large", max_workers=1), environment)
    assert (found.claim.worker_cores, found.claim.max_workers) == (4, 1)
    assert found.sources["worker_cores"].endswith("profile large")
    with pytest.raises(ClaimError, match="it has large"):
        Resolved.of(dask_claim.Claim(profile="huge"), environment)
    text = "profiles: {long: {options: {queue: long}}}\npolicy: {options: []}\n"
    found = Resolved.of(dask_claim.Claim(profile="long"), environ(tmp_path, text))
    assert found.claim.options == {"queue": "long"}
    with pytest.raises(ClaimError, match=r"options\.queue"):
        Resolved.of(dask_claim.Claim(options={"queue": "long"}), environ(tmp_path, text))


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
    said = environ(tmp_path, SITES_OWN, profile="large", max_workers=9, image="x")
    said["DASK_CLAIM_WORKER_CORES"] = "2"
    expected, claim = load(environ=said), dask_claim.Claim.from_env(said)
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


def test_foreign_gateways(tmp_path: Path) -> None:
    gateway, policy = "https://gw.example.org", "policy: {foreign_gateways: false}\n"
    site = f"gateway_url: {gateway}/own/../services/dask\n"
    for text, url, allowed in (
        (policy, gateway, False),
        (site + policy, f"{gateway}/services/dask/x", True),
        (site + policy, f"{gateway}/user/x", False),
        (site + policy, f"{gateway}/services/dask2", False),
    ):
        env = environ(tmp_path, text, gateway_url=url)
        if allowed:
            assert load(environ=env).claim.gateway_url == url
            continue
        with pytest.raises(ClaimError, match="foreign_gateways"):
            load(environ=env)
        named = {**env, "DASK_CLAIM_GATEWAY_URL": url}
        assert load(environ=named).claim.gateway_url == url


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


def test_profiles(tmp_path: Path) -> None:
    found = load(environ=environ(tmp_path, profile="large", max_workers=2))
    # The claim's own value, the profile's, not the site's own.
    assert (found.claim.max_workers, found.claim.worker_cores) == (2, 4)
    assert found.sources["worker_memory"] == f"{tmp_path}/claim.yaml, profile large"
    with pytest.raises(ClaimError, match="is no profile of this site; it has large"):
        load(environ=environ(tmp_path, profile="huge"))
    with pytest.raises(ClaimError, match="it has none"):
        load(environ=environ(tmp_path, "", profile="large"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy: {max_worker: 1}", "policy.max_worker"),
        ("policy: {max_workers: some, images: x}", "policy.images"),
        ("policy: [1]", "policy"),
        ("profiles: [1]", "profiles"),
    ],
)
def test_a_faulty_policy_lets_nothing_pass(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ClaimError, match=said):
        load(environ=environ(tmp_path, text))
    with pytest.raises(ClaimError, match=said):
        Resolved.of(dask_claim.Claim(), environ(tmp_path, text))


def test_show_and_schema(tmp_path: Path) -> None:
    def printed(*command: str) -> str:
        done = CliRunner().invoke(cli, command, env=environ(tmp_path), standalone_mode=False)
        assert done.return_value == 0, done.output
        return done.stdout

    policy = json.loads(printed("show", "--json"))["policy"]
    assert policy["source"] == f"{tmp_path}/claim.yaml" and policy["max_workers"] == 4
    assert "Policy of" in printed("show")
    schema = json.loads(printed("schema", "--site"))
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema)
    assert checker.is_valid({"policy": {"max_workers": 4, "images": ["x/*"]}, "profiles": {}})
    assert not checker.is_valid({"policy": {"max_worker": 4}})


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
    claim: Fields = {"gateway_url": gateway.url}
    if where == "fallback":
        claim = {"gateway_url": "http://127.0.0.1:9", "fallback": "local"}
    site = str(write(tmp_path / "claim.yaml", BOUNDED))
    run = launcher(PYTHON, "-c", SIZE, claim=claim, env={"DASK_CLAIM_SITE": site})
    assert run.status == 0, run.err
    threads, memory = map(int, run.out.split())
    assert threads == 1 and 0 < memory <= 2**29
