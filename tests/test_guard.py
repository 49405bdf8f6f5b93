"""The launcher is killed: its guard, or else the lease, ends what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from dask_claim.claim.choice import RUN_ID
from dask_claim.lifetime import guard_process
from dask_claim.lifetime.tickets import Tickets
from tests.support.gateway import GatewayServer
from tests.support.launcher import Launcher, processes_with, wait_for
from tests.support.proxy import CREATION, GIVING_BACK, Proxy
from tests.support.proxy import WAITING as WAITING_FOR_IT
from tests.support.scenes import (
    NAMESPACE,
    SMALL,
    WAITING,
    children,
    command_line,
    guards,
    kill,
    let_go,
    until_gone,
    until_leased,
    until_ready,
    waiting,
)


def test_launcher_is_killed(launcher: Launcher, gateway: GatewayServer) -> None:
    """At any moment. Its receipt tells how far it came, and what there was to reclaim."""
    deaf = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    moments = {
        "is requested": ("true", "claiming"),
        "Running sh": (deaf, "running"),
        "The command ended": ("true", "running", "releasing"),
    }
    runs = {}
    for moment, (command, *_) in moments.items():
        runs[moment] = run = launcher.start(
            "sh", "-c", command, claim={"gateway_url": gateway.url, **SMALL}, flags=("--grace", "1")
        )
        run.until(moment)
        if command == deaf:
            until_ready(run)
            wait_for(lambda run=run: run.receipt()["state"] == "running", "running command")
        kill(run)
    # Much sooner than the lease, whose timeout is 60 s.
    wait_for(lambda: not processes_with(launcher.marker), "end of all processes")
    assert gateway.clusters() == []
    for moment, run in runs.items():
        left = run.finish().receipt
        assert left["state"] in moments[moment]
        assert (left["exit_status"], left["gone"]) == (None, None)
        (ticket,) = (one for one in left["tickets"] if one["provider"] == "gateway")
        assert ticket["cluster_name"] == left["cluster_name"] in run.err


def test_launcher_is_killed_before_the_answer(launcher: Launcher, gateway: GatewayServer) -> None:
    """Nobody knows the cluster's name: the guard finds it among those of the user."""
    with Proxy(gateway) as proxy:
        proxy.fault("withhold", CREATION, times=1)
        run = launcher.start("true", claim=proxy.claim())
        wait_for(lambda: proxy.struck("withhold"), "request for a cluster")
        # The guard is there already, and small.
        [guard] = guards(launcher)
        status = Path(f"/proc/{guard}/status").read_text()
        assert int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) < 15 * 1024
        assert os.getsid(guard) == guard != os.getsid(run.process.pid)
        # Made in the meantime with the same options, and held by a lease.
        other = waiting(launcher, gateway, leased=False, **proxy.claim())
        assert len(gateway.clusters()) == 2
        kill(run)
        wait_for(lambda: len(guards(launcher)) == 1, "end of the guard")
        assert gateway.clusters() == [other.until(r"Cluster (\w+) is requested").group(1)]
        assert let_go(other).receipt["gone"] is True


@pytest.mark.needs("root")
@pytest.mark.parametrize(("shell", "line"), [("sh", '"$@" > "$OUT"'), ("bash", '"$@"')])
def test_shell_is_the_first_process(
    launcher: Launcher, gateway: GatewayServer, tmp_path: Path, shell: str, line: str
) -> None:
    """As a kubelet ends a pod: SIGTERM to its first process, and SIGKILL after a grace."""
    run = launcher.start(
        "sleep", "60", claim={"gateway_url": gateway.url, **SMALL, "lease_timeout": 3},
        before=(*NAMESPACE, shell, "-c", line, "-"), env={"OUT": str(tmp_path / "out")},
    )  # fmt: skip
    run.until("Running sleep")
    until_leased(gateway)
    [first] = children(run.process.pid)
    os.kill(first, signal.SIGTERM)
    try:
        run.process.wait(3)
    except subprocess.TimeoutExpired:
        os.kill(first, signal.SIGKILL)
    run.process.communicate(timeout=120)
    until_gone(gateway, 40)


@pytest.mark.parametrize("killed", ["launcher", "host", "both"])
def test_local_cluster_and_its_keys_do_not_stay(
    launcher: Launcher, tmp_path: Path, killed: str
) -> None:
    """The launcher is killed, the process that holds its cluster, or both."""
    run = launcher.start(
        *WAITING, claim={"max_workers": 1}, env={"TMPDIR": str(tmp_path)}, stdin=subprocess.PIPE,
        flags=("--start", "workers", "--grace", "1"),
    )  # fmt: skip
    until_ready(run)
    assert list(tmp_path.glob("dask-claim-keys-*"))
    [host] = [pid for pid in children(run.process.pid) if "host.py" in command_line(pid)]
    assert children(host)
    if killed != "launcher":
        os.kill(host, signal.SIGKILL)
    if killed != "host":
        kill(run)
    else:
        run.process.communicate(b"\n", timeout=120)
    wait_for(lambda: not processes_with(launcher.marker), "end of all processes")
    assert not list(tmp_path.glob("dask-claim-*"))


@pytest.mark.needs("root")
def test_first_process_waits_for_its_guard(launcher: Launcher, gateway: GatewayServer) -> None:
    """The container's end would be the guard's, in the middle of its work."""
    with Proxy(gateway) as proxy:
        run = launcher.start(
            *WAITING, claim=proxy.claim(lease_timeout=0), stdin=subprocess.PIPE,
            before=NAMESPACE, flags=("--stop-timeout", "3"),
        )  # fmt: skip
        until_ready(run)
        for phase in (GIVING_BACK, WAITING_FOR_IT):
            proxy.fault("502", phase)
        run.process.stdin.write(b"\n")
        run.process.stdin.flush()
        run.until("NOT confirmed gone")
        proxy.heal()
        ended = run.finish()
    assert (ended.status, ended.receipt["gone"]) == (5, False), ended.err
    assert gateway.clusters() == []


DAEMONS = """
sleeps="echo; exec sleep 300"
(setsid sh -c "$sleeps" & trap "" TERM; setsid sh -c "$sleeps" &) | (read a; read b)
"""


def test_what_daemonised_is_ended_and_reported(
    launcher: Launcher, scheduler: dict[str, str]
) -> None:
    """By SIGTERM, and by SIGKILL where that is ignored."""
    run = launcher("sh", "-c", DAEMONS, env=scheduler, flags=("--grace", "1"))
    assert run.status == 0, run.err
    told = re.findall(r"process (\d+) of the command still runs: (SIG\w+)", run.err)
    assert [name for _, name in sorted(told, key=lambda each: each[1])] == [
        "SIGKILL", "SIGTERM", "SIGTERM"
    ]  # fmt: skip
    assert processes_with(launcher.marker) == []


def test_guard_of_a_nested_run_is_no_part_of_the_outer_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outer = uuid.uuid4().hex
    monkeypatch.setenv(RUN_ID, outer)
    tickets = Tickets("inner", grace=0, patience=1)
    tickets.expect_command()
    below = subprocess.Popen(["sleep", "60"])
    try:
        assert guard_process.marked({f"{RUN_ID}={outer}".encode()}) == [below.pid]
    finally:
        tickets.close()
        below.kill()
        below.wait()


def test_guard_spares_strangers() -> None:
    """Only processes with exactly this run's id are ended, whatever else they have in common."""
    common = {"DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:1", "DASK_CONFIG": "/dev/null"}
    run = "DASK_CLAIM_RUN_ID=4f1d"
    own, *strangers = [
        subprocess.Popen(["sleep", "60"], env={**os.environ, **common, **more})
        for more in (
            {"DASK_CLAIM_RUN_ID": "4f1d"},
            {},
            {"DASK_CLAIM_RUN_ID": "4f1d0"},
            {"DASK_CLAIM_RUN_ID": "4f1"},
            {"NOT_DASK_CLAIM_RUN_ID": "4f1d"},
            {"TEXT": f"a {run}"},
        )
    ]
    try:
        told = json.dumps({"grace": 5, "markers": [run]}) + '\n"good-bye"\n'
        subprocess.run(
            [sys.executable, "-I", "-S", guard_process.__file__],
            input=told.encode(), check=True, timeout=30,
        )  # fmt: skip
        assert own.wait(10) == -signal.SIGTERM
        assert [stranger.poll() for stranger in strangers] == [None] * len(strangers)
    finally:
        for process in (own, *strangers):
            process.kill()
            process.wait()
