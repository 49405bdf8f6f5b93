"""Credentials go to the gateways that the operator names, and to nobody that only a claim names."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import GatewayServer
from tests.support.launcher import ONE_TASK, PYTHON, Launcher
from tests.support.proxy import Proxy

SECRET = "site-secret-1234"

BASIC = {"DASK_GATEWAY__AUTH__TYPE": "basic", "DASK_GATEWAY__AUTH__KWARGS__PASSWORD": SECRET}
HUB = {"DASK_GATEWAY__AUTH__TYPE": "jupyterhub", "JUPYTERHUB_API_TOKEN": SECRET}

# As programs that make their own cluster begin.
OWN = "from dask_gateway import Gateway\nprint(len(Gateway().list_clusters()))"


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


@pytest.mark.parametrize("credentials", [BASIC, HUB], ids=["basic", "jupyterhub"])
@pytest.mark.parametrize("named_in", ["site file", "Dask"])
@pytest.mark.parametrize("create", [True, False])
def test_stranger_is_shown_nothing(
    launcher: Launcher,
    stranger: Proxy,
    tmp_path: Path,
    create: bool,
    named_in: str,
    credentials: dict[str, str],
) -> None:
    own = "https://gateway.example.org"
    env = dict(credentials)
    if named_in == "Dask":
        env["DASK_GATEWAY__ADDRESS"] = own
    else:
        (tmp_path / "claim.yaml").write_text(f"gateway_url: {own}\n")
        env["DASK_CLAIM_SITE"] = str(tmp_path / "claim.yaml")
    program = f"{OWN}\n{ONE_TASK}" if create else OWN
    run = launcher(PYTHON, "-c", program, claim=stranger.claim(create=create), env=env)
    assert run.status == 0, run.err
    assert stranger.shown and secrets(stranger.shown) == []
    [warning] = run.receipt["warnings"]
    assert f"{own}:443" in warning and "DASK_CLAIM_GATEWAY_URL" in warning
    assert SECRET not in run.err + str(run.receipt)


def test_operator_may_send_them_there(launcher: Launcher, stranger: Proxy) -> None:
    env = {**BASIC, "DASK_CLAIM_GATEWAY_URL": stranger.url}
    run = launcher(PYTHON, "-c", OWN, claim=stranger.claim(create=False), env=env)
    assert (run.status, run.receipt["warnings"]) == (0, []), run.err
    assert secrets(stranger.shown)


def test_nothing_is_kept_where_there_is_nothing(launcher: Launcher, stranger: Proxy) -> None:
    run = launcher(PYTHON, "-c", OWN, claim=stranger.claim(create=False))
    assert (run.status, run.receipt["warnings"]) == (0, []), run.err


@pytest.mark.parametrize(
    ("operator", "shown"),
    [(None, False), ("DASK_CLAIM_GATEWAY_URL", True), ("DASK_GATEWAY__ADDRESS", True)],
)
def test_gateway_of_a_cluster_that_is_there(
    launcher: Launcher, stranger: Proxy, operator: str | None, shown: bool
) -> None:
    """A runner's variable is no operator's source: a document of the tool sets it as well."""
    env = {**BASIC, "DASK_CLUSTER": "0" * 32, "DASK_GATEWAY_URL": stranger.url}
    env |= {operator: stranger.url} if operator else {}
    run = launcher("true", env=env)
    assert run.status == 75 and stranger.shown, run.err
    assert bool(secrets(stranger.shown)) is shown
    told = "Only DASK_GATEWAY_URL names the gateway" in "".join(run.receipt["warnings"])
    assert told is not shown
