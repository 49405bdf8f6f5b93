"""The library (contract §7): cheap to import, `connect()` and `run()` as a program uses them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dask_claim
from tests.support.gateway import GatewayServer, clean_environment
from tests.support.launcher import PYTHON, Launcher, wait_for

# As a user writes it: no `if __name__ == "__main__"`, no arguments.
PROGRAM = """
import dask_claim
with dask_claim.connect() as client:
    print(client.submit(sum, [20, 22]).result(), flush=True)
    {more}
print("after", flush=True)
"""


def program(folder: Path, more: str = "pass") -> str:
    path = folder / "program.py"
    path.write_text(PROGRAM.format(more=more))
    return str(path)


def test_import_costs_and_does_nothing() -> None:
    code = (
        "import sys, signal, threading; before = set(sys.modules)\n"
        "import dask_claim; dir(dask_claim)\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new & {'dask', 'distributed', 'dask_gateway', 'pydantic', 'loguru',"
        " 'pydantic_settings', 'asyncio', 'click', 'yaml', 'logging'}), threading.active_count())"
    )
    out = subprocess.check_output([PYTHON, "-c", code], text=True)
    assert out == "[] 1\n"


def test_every_public_name_is_there() -> None:
    for name in dask_claim.__all__:
        assert getattr(dask_claim, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = dask_claim.nonsense


def test_connect_under_the_launcher(launcher: Launcher, gateway: GatewayServer, tmp_path: Path):
    run = launcher(PYTHON, program(tmp_path), claim={"gateway_url": gateway.url})
    assert (run.status, run.out) == (0, b"42\nafter\n"), run.err
    assert run.err.count("Claiming") == 1


@pytest.mark.parametrize("place", ["gateway", "local"])
def test_connect_alone(gateway: GatewayServer, tmp_path: Path, place: str) -> None:
    env = clean_environment(HOME=str(tmp_path))
    if place == "gateway":
        env["DASK_CLAIM"] = json.dumps({"GatewayUrl": gateway.url})
    run = subprocess.run(
        [PYTHON, program(tmp_path)], env=env, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, "42\nafter\n"), run.stderr
    assert "stopped after" in run.stderr
    assert gateway.clusters() == []


def test_connect_gives_back_when_the_block_raises(gateway: GatewayServer, tmp_path: Path) -> None:
    env = clean_environment(DASK_CLAIM_GATEWAY_URL=gateway.url)
    run = subprocess.run(
        [PYTHON, program(tmp_path, "raise KeyError('mine')")],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (1, "42\n")
    assert "KeyError: 'mine'" in run.stderr
    assert gateway.clusters() == []


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 1)])
def test_connect_gives_back_on_signals(
    gateway: GatewayServer, tmp_path: Path, signum: int, status: int
) -> None:
    process = subprocess.Popen(
        [PYTHON, program(tmp_path, "import time; time.sleep(60)")],
        env=clean_environment(DASK_CLAIM_GATEWAY_URL=gateway.url),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout.readline() == b"42\n"
    process.send_signal(signum)
    process.communicate(timeout=30)
    assert process.returncode in (status, -signum)
    assert gateway.clusters() == []


def test_run_is_what_the_command_does(
    gateway: GatewayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_CONFIG", "/dev/null")
    claim = dask_claim.Claim.model_validate({"gatewayUrl": gateway.url})
    receipt = tmp_path / "receipt.json"
    result = dask_claim.run([PYTHON, program(tmp_path)], claim=claim, receipt=receipt)
    assert result.exit_status == 0
    assert json.loads(receipt.read_text()) == result.receipt
    assert result.receipt["gone"] is True
    assert dask_claim.run(["sh", "-c", "exit 3"], claim=claim).exit_status == 3


def test_run_where_a_loop_runs_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_CONFIG", "/dev/null")

    async def notebook() -> int:
        return dask_claim.run(["sh", "-c", "exit 4"], claim=dask_claim.Claim()).exit_status

    assert asyncio.run(notebook()) == 4


def test_run_raises_what_kept_the_command_from_starting(
    stuck_gateway: GatewayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_CONFIG", "/dev/null")
    claim = dask_claim.Claim(gateway_url=stuck_gateway.url)
    with pytest.raises(dask_claim.TemporaryError, match="--start-timeout"):
        dask_claim.run(["true"], claim=claim, start_timeout=1)
    with pytest.raises(dask_claim.DaskClaimError, match="not found"):
        dask_claim.run(["no-such-command"], claim=claim)


def test_signal_handlers_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_CONFIG", "/dev/null")
    signums = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTSTP)
    before = [signal.getsignal(signum) for signum in signums]
    dask_claim.run(["true"], claim=dask_claim.Claim())
    assert [signal.getsignal(signum) for signum in signums] == before


def test_show_agrees_with_the_library() -> None:
    claim = {"worker_cores": 0.5, "max_cores": 10, "min_cores": 4, "worker_cores_limit": 1}
    env = clean_environment(DASK_CLAIM=json.dumps(claim), DASK_CLAIM_WORKER_MEMORY="4 G")
    shown = json.loads(
        subprocess.check_output([PYTHON, "-m", "dask_claim", "show", "--json"], env=env)
    )
    assert shown["claim"]["worker_memory"] == "4 G"
    assert shown["sources"]["worker_memory"] == "DASK_CLAIM_WORKER_MEMORY"
    assert shown["sources"]["max_cores"] == "DASK_CLAIM"
    assert shown["sources"]["image"] == "default"
    plan = dask_claim.Claim.from_env(env).plan(env)
    assert shown["plan"] == plan.to_dict()
    assert (plan.min_workers, plan.max_workers, plan.scaling) == (8, 10, "adapt")
    text = subprocess.check_output(
        [PYTHON, "-m", "dask_claim", "show", "--max-cores", "9"], env=env, text=True
    )
    assert "--max-cores" in text
    assert "8 to 9" in text


def test_every_field_is_a_flag() -> None:
    from dask_claim.claim.model import Claim
    from dask_claim.cli.options import FIELDS

    elsewhere = {"version", "env", "options", "create", "environment", "hpc", "strict"}
    assert set(FIELDS) == set(Claim.model_fields) - elsewhere


def test_flags_reach_the_claim() -> None:
    shown = json.loads(
        subprocess.check_output(
            [
                PYTHON, "-m", "dask_claim", "show", "--json", "--gateway-url", "http://g",
                "--env", "gateway_url=URL", "--option", "queue=long", "--option", "nodes=3",
                "--no-create", "--environment", "A=1", "--hpc", "queue=all", "--no-strict",
            ],
            env=clean_environment(),
        )
    )["claim"]  # fmt: skip
    assert shown["env"] == {"gateway_url": "URL"}
    assert shown["options"] == {"queue": "long", "nodes": 3}
    assert shown["create"] is False and shown["strict"] is False
    assert (shown["environment"], shown["hpc"]) == ({"A": "1"}, {"queue": "all"})


@pytest.mark.slow
def test_local_cluster_honours_this_containers_limits(launcher: Launcher) -> None:
    code = (
        "from distributed import Client\nwith Client() as c:\n"
        "    c.wait_for_workers(1)\n"
        "    workers = c.scheduler_info()['workers'].values()\n"
        "    print([(w['nthreads'], w['memory_limit']) for w in workers])"
    )
    claim = {"worker_cores": 2, "worker_memory": "4 G", "min_workers": 3, "max_workers": 4}
    run = launcher(
        PYTHON, "-c", code, claim=claim, before=("taskset", "-c", "0", "prlimit", f"--rss={2**30}")
    )
    assert run.out.decode().strip() == f"[(1, {2**30})]", run.err
    assert run.err.count("This machine gives") == 1
    assert "1 of 4 workers, 1 of 2 cores per worker, 1.0 GiB of 4.0 GiB per worker" in run.err


def test_worker_output_stays_off_the_commands(launcher: Launcher) -> None:
    code = (
        "from distributed import Client\n"
        "with Client() as c: c.submit(print, 'from a worker').result()"
    )
    run = launcher(PYTHON, "-c", code)
    assert run.out == b""
    wait_for(lambda: "from a worker" in run.err, "the worker's words on stderr")


def test_python_dash_m(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "dask_claim", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == f"dask-claim, version {dask_claim.__version__}\n"
    assert os.listdir(tmp_path) == []


def test_connect_to_a_scheduler_that_is_named_after_dask_was_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dask reads the variable at its import; `connect` must not end up on a cluster of its own."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        with dask_claim.connect() as client:
            assert client.scheduler.address == cluster.scheduler_address
