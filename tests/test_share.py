"""Runs that share one cluster: how they come together, what each may do, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from dask_claim.claim.model import Claim, Resolved, load
from dask_claim.errors import ClaimError
from dask_claim.providers.gateway.reports import Mark
from dask_claim.providers.share import Share
from tests.support.claims import NOWHERE, write
from tests.support.gateway import GatewayServer
from tests.support.here import dask_claim
from tests.support.launcher import ONE_TASK, PYTHON, Launcher, Running, wait_for
from tests.support.scenes import WAITING, let_go, until_ready

ONE = {"min_workers": 1, "max_workers": 1}
SOON = {"reconnect_timeout": 1, "keep": 3}
KEY = {"DASK_CLAIM_SHARE": "workflow"}

# Evaluates each line of its input with a client, and prints what comes of it.
CALCULATOR = """
import os, signal, sys, time
from distributed import Client
client = Client()
print("ready", flush=True)
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except Exception as error:
        print("error:", " ".join(str(error).split()), flush=True)
"""


class Calculator:
    """A run whose command evaluates what it is told to."""

    def __init__(self, launcher: Launcher, claim: dict[str, Any], **more: Any) -> None:
        self.run: Running = launcher.start(
            PYTHON, "-c", CALCULATOR, claim=claim, env=KEY, stdin=subprocess.PIPE, **more
        )

    def until_ready(self) -> Calculator:
        assert self.line() == "ready", self.run.err
        return self

    def line(self) -> str:
        assert self.run.process.stdout
        return str(self.run.process.stdout.readline().decode().strip())

    def __call__(self, expression: str) -> str:
        assert self.run.process.stdin
        self.run.process.stdin.write(f"{expression}\n".encode())
        self.run.process.stdin.flush()
        return self.line()

    @property
    def cluster(self) -> str:
        return str(self.run.receipt()["cluster_name"])


def listed(gateway: GatewayServer) -> list[dict[str, Any]]:
    return list(json.loads(dask_claim("clusters", "--gateway-url", gateway.url, "--json").out))


def test_second_run_joins_and_the_cluster_ends_after_keep(
    launcher: Launcher, variables_gateway: GatewayServer
) -> None:
    """One with another request has a cluster of its own beside it."""
    claim = {"gateway_url": variables_gateway.url, **ONE, "keep": 20}
    first = launcher("true", claim=claim, env=KEY)
    assert first.status == 0, first.err
    assert "it stays for 20 s (keep)" in first.err
    second = launcher(PYTHON, "-c", ONE_TASK, claim=claim, env=KEY)
    assert (second.status, second.out) == (0, b"42\n"), second.err
    assert first.receipt and second.receipt
    assert first.receipt["cluster_name"] == second.receipt["cluster_name"]
    assert first.receipt["gone"] == second.receipt["gone"] == "kept"
    assert [run.receipt["shared"]["joined"] for run in (first, second)] == [False, True]
    assert second.receipt["tasks"]["done"] == second.receipt["shared"]["tasks"] == 1
    assert second.receipt["tickets"] == []
    other = launcher("true", claim={**claim, "keep": 1, "environment": {"A": "1"}}, env=KEY)
    assert other.receipt and first.receipt["cluster_name"] != other.receipt["cluster_name"]
    assert "is there for another request" in other.err
    wait_for(lambda: not variables_gateway.clusters(), "end of the clusters after keep")


@pytest.mark.parametrize(
    ("server", "count"),
    [
        ("gateway", 2),
        ("limited_gateway", 3),
        pytest.param("variables_gateway", 3, marks=pytest.mark.deep),
        pytest.param("limited_gateway", 8, marks=pytest.mark.deep),
    ],
)
def test_runs_that_begin_at_one_time_use_one_cluster(
    launcher: Launcher, server: str, count: int, request: pytest.FixtureRequest
) -> None:
    """Also where a gateway takes no variables, and where a user may have one cluster only."""
    gateway: GatewayServer = request.getfixturevalue(server)
    claim = {"gateway_url": gateway.url, **ONE, **SOON}
    runs = [
        launcher.start(*WAITING, claim=claim, env=KEY, stdin=subprocess.PIPE) for _ in range(count)
    ]
    for run in runs:
        until_ready(run)
    receipts = [let_go(run).receipt or {} for run in runs]
    assert len({receipt["cluster_name"] for receipt in receipts}) == 1
    assert sorted(receipt["shared"]["joined"] for receipt in receipts)[:2] == [False, True]
    wait_for(lambda: not gateway.clusters(), "end of the cluster after keep")


def test_what_neighbours_do_to_each_other(
    launcher: Launcher, variables_gateway: GatewayServer
) -> None:
    claim = {"gateway_url": variables_gateway.url, **ONE, **SOON}
    one = Calculator(launcher, claim).until_ready()
    # The bounds: the largest minimum, the sum of the maximums.
    two = Calculator(launcher, {**claim, "min_workers": 2, "max_workers": 2}).until_ready()
    assert "minimum=2, maximum=3" in two.run.err
    workers = "len(client.scheduler_info(n_workers=-1)['workers'])"
    wait_for(lambda: one(workers) == "2" or None, "second worker")
    [cluster] = listed(variables_gateway)
    assert (cluster["share"], cluster["runs"], cluster["lease"]) == ("workflow", 2, "live")
    # What would end the tasks of all is refused, a part is not.
    for call in ("restart()", "retire_workers()", "retire_workers(list(client.nthreads()))"):
        assert "2 runs share this cluster" in two(f"client.{call}"), two.run.err
    results = "sum(client.gather(client.map(abs, range(-{0}, 0), pure=False)))"
    assert (one(results.format(10)), two(results.format(4))) == ("55", "10")
    # A worker that is killed at the other's task is told apart.
    two("globals().update(long=client.submit(time.sleep, 12))")
    place = "next((w for w, tasks in client.processing().items() if tasks), '')"
    wait_for(lambda: two(place), "a worker that has the task")
    pid = int(two(f"client.run(os.getpid)[{place}]"))
    os.kill(pid, signal.SIGKILL)
    one.run.until("was lost with tasks of another run")
    assert two("long.result()") == "None"  # done again on the other one
    wait_for(lambda: one(workers) == "2" or None, "another worker in its place")
    # Computed again they would be others.
    made = "lambda number: (time.sleep(0.1), time.time())[1]"
    one(f"globals().update(kept=client.map({made}, range(8), pure=False))")
    before = one("client.gather(kept)")
    # A shutdown is this run's leaving.
    assert two("client.shutdown()") == "None"
    two.run.until("client.shutdown")
    left = two.run.finish()
    assert left.status == 0 and left.receipt, left.err
    assert re.search(r"Left the shared cluster \w+; 1 other run uses it", left.err)
    assert (left.receipt["tasks"]["done"], left.receipt["gone"]) == (5, "kept")
    assert left.receipt["shared"]["runs"] == 2
    assert [one["count"] for one in left.receipt["workers"]["lost"]] == [1]
    # The second worker is retired: what it held is still there.
    wait_for(lambda: one(workers) == "1" or None, "retirement of the second worker")
    assert one("client.gather(kept)") == before
    last = one.run.finish()
    assert last.status == 0 and last.receipt, last.err
    assert last.receipt["tasks"]["done"] == 18
    assert last.receipt["workers"]["lost"] == [] and last.receipt["shared"]["lost_by_others"] == 1
    total = [run.receipt["shared"]["core_seconds"] for run in (left, last)]
    assert all(total)
    wait_for(lambda: not variables_gateway.clusters(), "end of the cluster after keep")


def test_killed_runs(launcher: Launcher, variables_gateway: GatewayServer) -> None:
    """SIGKILL of the one that requested the cluster; then of the other."""
    claim = {"gateway_url": variables_gateway.url, **ONE, **SOON}
    first, second = (launcher.start(*WAITING, claim=claim, env=KEY, stdin=-1) for _ in range(2))
    for run in first, second:
        until_ready(run)
    if second.receipt()["shared"]["joined"] is False:
        first, second = second, first
    first.process.kill()
    wait_for(lambda: [c["runs"] for c in listed(variables_gateway)] == [1] or None, "one run")
    time.sleep(2 * SOON["reconnect_timeout"])
    assert [c["lease"] for c in listed(variables_gateway)] == ["live"]
    second.process.kill()
    wait_for(lambda: not variables_gateway.clusters(), "end of the cluster after lease and keep")


def test_pending_cluster_that_its_run_gives_up(
    launcher: Launcher, stuck_gateway: GatewayServer
) -> None:
    """Those who wait for it request another one, and have no command that could lose it yet."""
    claim = {"gateway_url": stuck_gateway.url, **ONE, **SOON}
    first = launcher.start("true", claim=claim, env=KEY)
    first.until("is requested")
    eager = ("--start", "eager")
    second = launcher.start("sleep", "60", claim=claim, env=KEY, flags=eager)
    second.until("this run joins it")
    first.process.send_signal(signal.SIGTERM)
    second.until("Requesting another cluster[^.]*(.|\n)*is requested")
    second.process.send_signal(signal.SIGTERM)
    assert [first.finish().status, second.finish().status] == [143, 143]
    assert stuck_gateway.clusters() == []


def test_key_and_request(tmp_path: Path) -> None:
    base = {"worker_cores": 1, "worker_memory": "1 G", "options": {"queue": "a"}}

    def share(**changed: Any) -> Share | None:
        flat = load({"share": "k"}, {"DASK_CLAIM": json.dumps({**base, **changed})})
        return Share.of(flat.claim)

    same = share()
    assert same and same == share(worker_memory="1024 M", worker_cores=1.0, max_workers=7, keep=1)
    for changed in (
        {"worker_memory": "2 G"},
        {"options": {"queue": "b"}},
        {"environment": {"TOKEN": "secret"}},
        {"image": "i"},
        {"no_workers_timeout": 5},
        {"versions": "strict"},
    ):
        assert share(**changed) not in (None, same)
    secret = share(environment={"TOKEN": "secret"})
    mark = Mark("abc", True, secret)
    assert Mark.parse(str(mark)) == mark and "secret" not in str(mark)
    assert Share.of(Claim()) is None
    assert Mark.parse("1:lease:abc:d:\x1b[2J") == Mark("abc", True, None)
    with pytest.raises(ClaimError, match="operator's source only"):
        Resolved.of(Claim(share="k"), NOWHERE)
    environ = {**NOWHERE, "DASK_CLAIM_SHARE": "k"}
    assert Resolved.of(Claim.from_env(environ), environ).claim.share == "k"
    site = write(tmp_path / "site.yaml", "share: k\npolicy: {keep: 30}\n")
    environ = {**NOWHERE, "DASK_CLAIM_SITE": str(site)}
    assert (load({}, environ).claim.share, load({}, environ).claim.keep) == ("k", 30)
    with pytest.raises(ClaimError, match=r"policy\.keep"):
        load({"keep": 31}, environ)
    write(site, "policy: {share: false}\n")
    with pytest.raises(ClaimError, match=r"policy\.share"):
        load({"share": "k"}, environ)
    with pytest.raises(ClaimError, match="operator's source only"):
        load({}, {"DASK_CLAIM": json.dumps({**base, "share": "k"})})
    with pytest.raises(ClaimError, match="share"):
        load({"share": "k"}, {"DASK_CLAIM": json.dumps({"lease_timeout": 0})})


def test_only_a_gateways_cluster_is_shared(launcher: Launcher) -> None:
    run = launcher("true", claim={"create": False}, env=KEY)
    assert run.status == 0 and "is not shared" in run.err and run.receipt
    assert run.receipt["shared"] is None
