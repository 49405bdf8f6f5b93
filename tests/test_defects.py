"""Whatever fails on the way, also in dask-claim itself, the cluster is stopped."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.gateway import GatewayServer, clean_environment
from tests.support.launcher import PYTHON, Launcher, processes_with, wait_for

# Where a run can break: while the lease is placed, between two phases, while it is released.
BROKEN = {
    "lease made": "from dask_claim.lifetime import lease; lease.Lease.__init__ = broken",
    "lease placed": "from dask_claim.lifetime import lease; lease.Lease.place = broken",
    "lease released": "from dask_claim.lifetime import lease; lease.Lease.release = broken",
    "phase changes": "from dask_claim.launch import launcher; launcher.variables = broken",
    "command spawned": "from dask_claim.launch.child import Child; Child.spawn = broken",
    "connections closed": (
        "from dask_claim.providers.gateway.provider import GatewayProvider as P; P.close = broken"
    ),
    "event told": "from dask_claim.launch.receipt import Receipt; Receipt.__call__ = broken",
}

MAIN = """
import sys
def broken(*_, **__): raise ZeroDivisionError("broken on purpose")
{how}
from dask_claim.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", BROKEN)
def test_cluster_is_stopped(launcher: Launcher, gateway: GatewayServer, where: str) -> None:
    run = subprocess.run(
        [PYTHON, "-c", MAIN.format(how=BROKEN[where]), "--", "sh", "-c", "exit 5"],
        env=clean_environment(
            DASK_CLAIM_GATEWAY_URL=gateway.url, **dict([launcher.marker.split("=")])
        ),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    before_the_command = where in ("phase changes", "command spawned")
    assert run.returncode == (70 if before_the_command else 5), run.stderr
    assert gateway.clusters() == [], run.stderr
    wait_for(lambda: not processes_with(launcher.marker), "end of all processes", 20)


@pytest.mark.slow
def test_long_wait_is_told(launcher: Launcher, stuck_gateway: GatewayServer) -> None:
    often = "from dask_claim.launch import session; session.WAIT_TOLD_EVERY = 1.0"
    run = subprocess.run(
        [PYTHON, "-c", MAIN.format(how=often), "--start-timeout", "8", "--", "true"],
        env=clean_environment(
            DASK_CLAIM_GATEWAY_URL=stuck_gateway.url, **dict([launcher.marker.split("=")])
        ),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert run.returncode == 75, run.stderr
    assert "Waiting for cluster " in run.stderr


@pytest.mark.slow
def test_task_that_ends_python(launcher: Launcher, gateway: GatewayServer) -> None:
    """SystemExit in a task ends the loop, whatever waits there: what is left is the guard's."""
    code = MAIN.replace('ZeroDivisionError("broken on purpose")', "SystemExit(3)")
    run = launcher.program(
        code.format(how=BROKEN["lease placed"]).replace(
            "main()", "sys.argv[1:] = ['--', 'sleep', '60']; main()"
        ),
        env={"DASK_CLAIM_GATEWAY_URL": gateway.url},
    )
    assert run.finish(60).status == 70, run.err
    wait_for(lambda: not gateway.clusters(), "end of the cluster", 40)
