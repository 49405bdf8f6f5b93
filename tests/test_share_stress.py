"""Runs that share clusters while others of them, schedulers and the gateway are killed.

What happened for a seed, which is printed, happens again with SHARE_STRESS_SEED, as far as the
machine lets it; SHARE_STRESS_SECONDS says how long the deep test goes on.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.support.forking import ForkedDask
from tests.support.gateway import GatewayServer
from tests.support.launcher import ONE_TASK, PYTHON, Launcher, wait_for
from tests.support.sharing import FATES, KEEP, LONG, RECONNECT, Stress

SECONDS = float(os.environ.get("SHARE_STRESS_SECONDS", "600"))
"""How long runs are begun in the deep test."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seconds", "fates"), [(30, FATES), pytest.param(SECONDS, LONG, marks=pytest.mark.deep)]
)
def test_runs_that_share_through_all_that_is_killed(
    tmp_path: Path, forked_dask: ForkedDask, seconds: float, fates: dict[str, int]
) -> None:
    """Those that are not killed end with their own status; one cluster at a time; none is left."""
    seed = int(os.environ.get("SHARE_STRESS_SEED") or secrets.randbelow(10**6))
    print(f"SHARE_STRESS_SEED={seed}", flush=True)
    # One of four gateways in the long test takes no variables.
    stress = Stress(tmp_path, seed, forked_dask, fates, marked=fates is FATES or seed % 4 != 0)
    stress.run(seconds)
    print(dict(stress.happened))
    assert not stress.problems, f"seed {seed}: " + "\n".join(stress.problems)
    assert stress.happened["joined"] and stress.happened["ended well"]


@pytest.mark.deep
def test_eight_steps_at_once_where_one_cluster_is_allowed(
    launcher: Launcher, limited_gateway: GatewayServer
) -> None:
    claim = {
        "gateway_url": limited_gateway.url, "min_workers": 1, "max_workers": 1,
        "keep": KEEP, "reconnect_timeout": RECONNECT,
    }  # fmt: skip
    env = {"DASK_CLAIM_SHARE": "scatter"}
    runs = [launcher.start(PYTHON, "-c", ONE_TASK, claim=claim, env=env) for _ in range(8)]
    ended = [run.finish(300) for run in runs]
    assert [(run.status, run.out) for run in ended] == [(0, b"42\n")] * 8, ended[0].err
    receipts = [run.receipt for run in ended if run.receipt]
    assert len({receipt["cluster_name"] for receipt in receipts}) == 1
    assert sum(not receipt["shared"]["joined"] for receipt in receipts) == 1
    wait_for(lambda: not limited_gateway.clusters(), "end of the cluster after keep", 60)
