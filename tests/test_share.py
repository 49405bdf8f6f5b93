"""Runs that share one cluster: how they come together, what each may do, and how it ends."""

from __future__ import annotations

from tests.support.gateway import GatewayServer
from tests.support.launcher import ONE_TASK, PYTHON, Launcher, wait_for

ONE = {"min_workers": 1, "max_workers": 1}


def test_second_run_joins_and_the_cluster_ends_after_keep(
    launcher: Launcher, variables_gateway: GatewayServer
) -> None:
    claim = {"gateway_url": variables_gateway.url, **ONE, "keep": 4}
    env = {"DASK_CLAIM_SHARE": "workflow"}
    first = launcher(PYTHON, "-c", ONE_TASK, claim=claim, env=env)
    assert (first.status, first.out) == (0, b"42\n"), first.err
    assert "it stays for 4 s (keep)" in first.err
    second = launcher(PYTHON, "-c", ONE_TASK, claim=claim, env=env)
    assert (second.status, second.out) == (0, b"42\n"), second.err
    assert first.receipt and second.receipt
    assert first.receipt["cluster_name"] == second.receipt["cluster_name"]
    assert first.receipt["gone"] == second.receipt["gone"] == "kept"
    assert (second.receipt["tasks"]["done"], second.receipt["shared"]["key"]) == (1, "workflow")
    wait_for(lambda: not variables_gateway.clusters(), "end of the cluster after keep")
