"""Credentials go to the gateways that the operator names, and to nobody that only a claim names."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.model import Resolved, load
from dask_claim.credentials.login import choose, describe_withheld
from dask_claim.errors import ClaimError, ConfigurationError
from dask_claim.launch.handoff import variables
from dask_claim.providers.values import Cluster, Request
from tests.support.claims import NOWHERE
from tests.support.gateway import GatewayServer
from tests.support.launcher import PYTHON, Launcher
from tests.support.proxy import Proxy

SECRET = "site-secret-1234"
BASIC = {"DASK_GATEWAY__AUTH__TYPE": "basic", "DASK_GATEWAY__AUTH__KWARGS__PASSWORD": SECRET}

# As programs that make their own cluster begin.
PROGRAM = "from dask_gateway import Gateway\nprint(len(Gateway().list_clusters()))"
OWN = "https://gateway.example.org"


@pytest.fixture
def stranger(gateway: GatewayServer) -> Iterator[Proxy]:
    """A gateway that lets everybody in, and remembers what it was shown."""
    with Proxy(gateway) as proxy:
        yield proxy


def secrets(shown: set[str]) -> list[str]:
    """What was shown, as it reads in plain text, where it holds the site's secret."""
    texts = [*shown]
    for header in shown:
        kind, _, content = header.partition(" ")
        if kind.lower() == "basic":
            texts.append(base64.b64decode(content).decode())
    return [text for text in texts if SECRET in text]


@pytest.mark.parametrize(
    ("create", "credentials", "env"),
    [(True, "", BASIC), (False, f"credentials: {{type: basic, password: {SECRET}}}\n", {})],
    ids=["Dask's", "of the site"],
)
def test_stranger_is_shown_nothing(
    launcher: Launcher, stranger: Proxy, tmp_path: Path,
    create: bool, credentials: str, env: dict[str, str],
) -> None:  # fmt: skip
    (tmp_path / "claim.yaml").write_text(f"gateway_url: {OWN}\n{credentials}")
    env = {**env, "DASK_CLAIM_SITE": str(tmp_path / "claim.yaml")}
    run = launcher(PYTHON, "-c", PROGRAM, claim=stranger.claim(create=create), env=env)
    assert (run.status, run.out) == (0, b"1\n" if create else b"0\n"), run.err
    assert stranger.shown and not secrets(stranger.shown)
    [warning] = run.receipt["warnings"]
    assert f"{OWN}:443" in warning and "DASK_CLAIM_GATEWAY_URL" in warning
    assert SECRET not in run.err + str(run.receipt)


@pytest.mark.parametrize("operator", [None, "DASK_GATEWAY__ADDRESS"])
def test_gateway_of_a_cluster_that_is_there(
    launcher: Launcher, stranger: Proxy, operator: str | None
) -> None:
    """A runner's variable is no operator's source: a document of the tool sets it as well."""
    env = {**BASIC, "DASK_CLUSTER": "0" * 32, "DASK_GATEWAY_URL": stranger.url}
    env |= {operator: stranger.url} if operator else {}
    run = launcher("true", env=env)
    assert run.status == 75 and stranger.shown, run.err
    assert "0" * 32 in run.err.splitlines()[-1]
    assert bool(secrets(stranger.shown)) is (operator is not None)
    told = "No operator's source names the gateway" in "".join(run.receipt["warnings"])
    assert told is (operator is None)


@pytest.mark.parametrize("provider", ["attach", "slurm", "allocation"])
def test_address_without_a_cluster_of_that_gateway(tmp_path: Path, provider: str) -> None:
    """What `env.gateway_url` names is as foreign to the program as it would be to the launcher."""
    env = {**NOWHERE, **BASIC, "DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:1"}
    claim = {"provider": provider, "gateway_url": "http://evil.example.org"}
    handing = json.dumps({**claim, "env": {"gateway_url": "GW"}})

    def given(text: str, **more: str) -> tuple[dict[str, str], str | None]:
        resolved: Resolved = load(environ={**env, **more, "DASK_CLAIM": text})
        gateway = Request.of(resolved, 1, 1).gateway
        cluster = Cluster("tcp://127.0.0.1:1")
        found = variables(cluster, resolved.claim, resolved.environ, "id", gateway=gateway)
        return found, describe_withheld(resolved)

    found, warning = given(handing)
    assert found["GW"] == claim["gateway_url"] and "evil" in (warning or "")
    assert found["DASK_GATEWAY__AUTH__TYPE"].endswith("name_only")
    for text, more in (
        (handing, {"DASK_CLAIM_GATEWAY_URL": claim["gateway_url"]}),
        (json.dumps(claim), {}),
    ):
        found, warning = given(text, **more)
        assert warning is None and "DASK_GATEWAY__AUTH__TYPE" not in found
        assert ("GW" in found) == (text == handing)
    # A policy, too, is about gateways that are used.
    (tmp_path / "site.yaml").write_text(
        "policy: {foreign_gateways: false, gateways: ['https://gateway.example.org']}\n"
    )
    site = {"DASK_CLAIM_SITE": str(tmp_path / "site.yaml")}
    assert given(json.dumps(claim), **site)[1] is None
    with pytest.raises(ClaimError, match="foreign_gateways"):
        given(handing, **site)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gateway: http://x", "gateway.auth in Dask's configuration"),
        ("gateway: {auth: basic}", "gateway.auth in Dask's configuration"),
        ("gateway: {auth: {kwargs: [password]}}", "or its kwargs: must be a mapping"),
        ("gateway: {auth: {kwargs: {password: 'x'}", "cannot be read"),
    ],
)
def test_malformed_authentication_of_dask(tmp_path: Path, text: str, words: str) -> None:
    """It is wrong where it is needed, and may be a secret everywhere else."""
    (tmp_path / "dask.yaml").write_text(text)
    env = {**NOWHERE, "DASK_CONFIG": str(tmp_path)}
    with pytest.raises(ConfigurationError, match=words):
        choose(GatewayAddress(OWN, trusted=True), env)
    assert choose(GatewayAddress(OWN), env).source is None
