"""Whatever fails on the way, also in dask-claim itself, the cluster is stopped."""

from __future__ import annotations

from tests.support.gateway import GatewayServer
from tests.support.launcher import Launcher, wait_for

# Where a run can break: while the lease is placed, between two phases, while it is released.
LEASE_PLACED = "lifetime.lease.Lease.place"
LEASE_RELEASED = "lifetime.lease.Lease.release"
PHASE_CHANGES = "launch.launcher.variables"
COMMAND_SPAWNED = "launch.child.Child.spawn"
CONNECTIONS_CLOSED = "providers.gateway.provider.GatewayProvider.close"
EVENT_TOLD = "launch.receipt.Receipt.__call__"

MAIN = """
from pydoc import locate
def broken(*_, **__): raise {error}
for place in {places}:
    owner, _, name = place.rpartition(".")
    owner = locate("dask_claim." + owner)
    assert hasattr(owner, name), place
    setattr(owner, name, broken)
locate("dask_claim.launch.opening").REPORT_EVERY = 0.5
from dask_claim.cli.main import main
main()
"""


def main(*places: str, error: str = "ZeroDivisionError('broken on purpose')") -> str:
    return MAIN.format(places=places, error=error)


def test_cluster_is_stopped(launcher: Launcher, gateway: GatewayServer) -> None:
    statuses = {
        (LEASE_PLACED, CONNECTIONS_CLOSED): 5,
        (LEASE_RELEASED, EVENT_TOLD): 5,
        (PHASE_CHANGES,): 70,
        (COMMAND_SPAWNED,): 70,
    }
    env = {"DASK_CLAIM_GATEWAY_URL": gateway.url}
    command = ("--", "sh", "-c", "exit 5")
    runs = [launcher.program(main(*places), *command, env=env) for places in statuses]
    ended = [run.finish() for run in runs]
    assert [run.status for run in ended] == list(statuses.values()), ended
    assert gateway.clusters() == [], ended


def test_long_wait_is_told(launcher: Launcher, stuck_gateway: GatewayServer) -> None:
    env = {"DASK_CLAIM_GATEWAY_URL": stuck_gateway.url}
    run = launcher.program(main(), "--", "true", env=env)
    run.until("Waiting for cluster ")
    run.process.terminate()
    assert run.finish().status == 143


def test_task_that_ends_python(launcher: Launcher, gateway: GatewayServer) -> None:
    """SystemExit in a task ends the loop, whatever waits there: what is left is the guard's."""
    code = main(LEASE_PLACED, error="SystemExit(3)")
    run = launcher.program(code, "--", "sleep", "60", env={"DASK_CLAIM_GATEWAY_URL": gateway.url})
    assert run.finish().status == 70, run.err
    wait_for(lambda: not gateway.clusters(), "end of the cluster")
