"""The run (contract §4): exit statuses, streams, what the command finds."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from unittest.mock import ANY

import pytest

import dask_claim
from tests.support.gateway import GatewayServer
from tests.support.launcher import ONE_TASK, PYTHON, RUNS, Launcher

ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"
ONE_LINE = "from distributed import Client; print(Client().submit(sum, [20, 22]).result())"

# Copies its input, tells by files what else it finds, and ends with 3.
PROGRAM = """
import json, os, sys
sys.stdout.buffer.write(sys.stdin.buffer.read())
print("its own words", file=sys.stderr)
if "WRITER" in os.environ:
    os.write(int(os.environ["WRITER"]), b"through")
with open(os.environ["TOLD"], "w") as file:
    json.dump([os.getcwd(), dict(os.environ)], file)
sys.exit(3)
"""


def test_program_finds_what_it_would_find(way_in: Launcher, tmp_path: Path) -> None:
    """Streams, working directory, variables and open files are its own, and so is the status."""
    (tmp_path / "work").mkdir()
    reader, writer = os.pipe()
    env = {
        "HOME": str(tmp_path), "TOLD": str(tmp_path / "told"), "KEPT": "as it was \n",
        "DASK_CONFIG": str(tmp_path),
    }  # fmt: skip
    if way_in.way in RUNS:
        env["WRITER"] = str(writer)
    run = way_in.start(
        PYTHON, "-c", PROGRAM, env=env,
        cwd=tmp_path / "work", pass_fds=[writer], stdin=subprocess.PIPE,
    )  # fmt: skip
    os.close(writer)
    data = bytes(range(256)) * 4096
    out, _ = run.process.communicate(data, timeout=120)
    assert out == data
    assert run.process.returncode == 3
    assert "its own words\n" in run.err
    os.set_blocking(reader, False)  # who else has the other end is found, not waited for
    assert os.read(reader, 100) == (b"through" if way_in.way in RUNS else b"")
    os.close(reader)
    where, found = json.loads((tmp_path / "told").read_text())
    assert where == str(tmp_path / "work")
    added = {} if way_in.way == "connect()" else {"DASK_CLAIM_RUN_ID": ANY}
    assert found == {**run.environment, **added}
    receipt = run.finish().receipt
    if way_in.way in RUNS:
        assert [receipt[name] for name in ("exit_status", "provider", "gone")] == [
            3, "attach", None,
        ]  # fmt: skip


STATUSES = {
    ("sh", "-c", "exit 255"): (255, "command_failed"),
    ("sh", "-c", "kill -KILL $$"): (137, "command_killed"),
    ("sh", "-c", "kill -SEGV $$"): (139, "command_killed"),
    # With SIGPIPE ignored, as Python has it, `yes` would report an error and end with 1.
    ("bash", "-c", "yes | head -n 1; exit ${PIPESTATUS[0]}"): (141, "command_failed"),
    ("./no-such-file",): (127, "command_not_found"),
    ("./no-interpreter",): (126, "command_not_executable"),
}


def test_exit_status_of_the_command(attached: Launcher, tmp_path: Path) -> None:
    script = tmp_path / "no-interpreter"
    script.write_text("echo hello\n")
    script.chmod(0o755)
    runs = [attached.start(*command, cwd=tmp_path) for command in STATUSES]
    ended = [run.finish() for run in runs]
    assert [run.status for run in ended] == [status for status, _ in STATUSES.values()], ended
    for run, (status, reason) in zip(ended, STATUSES.values(), strict=True):
        receipt = run.receipt
        assert (receipt["exit_status"], receipt["reason"]) == (status, reason), run.err
        assert receipt["warnings"] == []
    assert "#!/bin/sh" in ended[-1].err


def test_exit_status_of_run(
    attached_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a folder each run has a file, also one that does not come to a request.
    folder = tmp_path / "receipts"
    result = dask_claim.run(["sh", "-c", "kill -KILL $$"], receipt=f"{folder}/")
    [file] = folder.iterdir()
    assert (result.exit_status, result.receipt) == (137, json.loads(file.read_text()))
    receipt = tmp_path / "receipt"
    with pytest.raises(dask_claim.DaskClaimError) as raised:
        dask_claim.run(["/etc/passwd"], receipt=receipt)
    assert raised.value.exit_status == json.loads(receipt.read_text())["exit_status"] == 126
    with pytest.raises(dask_claim.ClaimError):
        monkeypatch.setenv("DASK_CLAIM", '{"worker_core": 1}')
        dask_claim.run(["true"], receipt=folder)
    written = {json.loads(path.read_text())["run"]: path.name for path in folder.iterdir()}
    assert len(written) == 2
    assert all(name == f"dask-claim-{run}.json" for run, name in written.items())


@pytest.mark.parametrize("start", [pytest.param("workers", marks=pytest.mark.deep), "eager"])
def test_unmodified_client_on_a_gateway(
    launcher: Launcher, gateway: GatewayServer, start: str
) -> None:
    run = launcher(
        PYTHON,
        "-c",
        ONE_TASK,
        claim={"gateway_url": gateway.url, "worker_memory": "1 G", "max_workers": 2},
        flags=("--start", start),
    )
    assert (run.status, run.out) == (0, b"42\n"), run.err
    assert "Adapting cluster: minimum=1, maximum=2" in run.err
    assert f"Dask Dashboard: {gateway.url}/clusters/{run.cluster}/status" in run.err
    assert "1 worker up" in run.err
    receipt = run.receipt
    assert receipt["gone"] is True
    assert receipt["cluster_name"] == run.cluster
    assert receipt["workers"]["peak"] == 1
    assert receipt["workers"]["core_hours"] > 0
    assert receipt["tasks"] == {"done": 1, "failed": 0}
    assert None not in receipt["timeline"].values()
    stages = receipt["timeline"]
    # What a command in a hurry (`eager`) has of a worker the launcher may hear of after its end.
    for order in (
        ["claimed", "submitted", "running", "command_end", "gone"],
        ["claimed", "submitted", "running", "first_worker", "gone"],
    ):
        moments = [stages[stage] for stage in order]
        assert moments == sorted(moments)


def test_unmodified_client_on_a_local_cluster(launcher: Launcher) -> None:
    """Which another run may use, and does not end."""
    outer = launcher.start(
        PYTHON, "-u", "-c", f"{ENVIRONMENT}; input(); {ONE_LINE}",
        claim={"max_workers": 1}, stdin=subprocess.PIPE,
    )  # fmt: skip
    found = json.loads(outer.process.stdout.readline())
    there = {
        name: value
        for name, value in found.items()
        if name.startswith("DASK_") and not name.startswith("DASK_CLAIM_")
    }
    tls = {f"DASK_DISTRIBUTED__COMM__TLS__{name}" for name in ("CA_FILE", "CLIENT__CERT")}
    tls.add("DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY")
    added = {"DASK_SCHEDULER_ADDRESS", "DASK_CLAIM_RUN_ID", *tls}
    assert set(found) - set(outer.environment) == added

    workers = ("--start", "workers")
    more = {"min_workers": 2}
    address = {"DASK_SCHEDULER_ADDRESS": there["DASK_SCHEDULER_ADDRESS"]}
    runs = [
        launcher.start(PYTHON, "-c", ONE_TASK, env=there, claim={"min_workers": 1}, flags=workers),
        launcher.start("true", env=there, claim=more, flags=(*workers, "--start-timeout", "3")),
        launcher.start("true", env=address),
    ]
    inner, too_few, without_keys = [run.finish() for run in runs]
    assert (inner.status, inner.out) == (0, b"42\n"), inner.err
    assert (inner.receipt["provider"], inner.receipt["gone"]) == ("attach", None)
    assert too_few.status == 75 and "was not ready within 3 s" in too_few.err
    assert without_keys.status == 78 and "speaks TLS" in without_keys.err

    outer.process.stdin.write(b"\n")
    run = outer.finish()
    assert (run.status, run.out) == (0, b"42\n"), run.err
    assert (run.receipt["provider"], run.receipt["gone"]) == ("local", True)
    assert run.receipt["scheduler_address"].startswith("tls://127.0.0.1:")
    assert run.receipt["dashboard_url"].startswith("http://127.0.0.1:")
    assert "still run" not in run.err, "the cluster's own processes are none of the command's"


def test_program_written_for_calrissian(launcher: Launcher, gateway: GatewayServer) -> None:
    """Which finds the names that its developer has chosen."""
    program = (
        "import json, os\n"
        "from dask_gateway import Gateway\n"
        "cluster = Gateway().connect(os.environ['DASK_CLUSTER'])\n"
        "client = cluster.get_client()\n"
        "print(client.submit(sum, [20, 22]).result())\n"
        "client.close()\n"
        "print(json.dumps(dict(os.environ)))\n"
    )
    requirement = {
        "class": "calrissian:DaskGatewayRequirement",
        "workerCores": 1, "workerCoresLimit": 1, "workerMemory": "1G",
        "clusterMaxCores": 2, "clusterMaxMemory": "20G",
    }  # fmt: skip
    names = {
        "gateway_url": "DASK_GATEWAY_URL", "worker_memory": "MEMORY", "workerCoresLimit": "LIMIT",
        "max_cores": "MOST", "min_cores": "LEAST", "cluster_name": "NAME",
        "scheduler_address": "ADDRESS", "dashboard_url": "DASHBOARD",
    }  # fmt: skip
    env = {f"DASK_CLAIM_ENV__{field}": name for field, name in names.items()}
    env["DASK_CLAIM_GATEWAY_URL"] = gateway.url
    run = launcher(PYTHON, "-c", program, claim=requirement, env=env)
    assert run.status == 0, run.err
    *_, result, printed = run.out.splitlines()
    assert (result, run.receipt["plan"]["max_workers"]) == (b"42", 2)
    found = json.loads(printed)
    assert found["DASK_GATEWAY_URL"] == found["DASK_GATEWAY__ADDRESS"] == gateway.url
    assert (found["MEMORY"], found["LIMIT"], found["MOST"]) == ("1G", "1", "2")
    assert "LEAST" not in found
    assert found["NAME"] == found["DASK_CLUSTER"] == run.cluster
    assert found["ADDRESS"] == found["DASK_SCHEDULER_ADDRESS"]
    assert found["DASHBOARD"] == f"{gateway.url}/clusters/{run.cluster}/status"


def test_create_false_only_maps_names(launcher: Launcher, gateway: GatewayServer) -> None:
    names = ("gateway_url", "scheduler_file", "cluster_name_file", "cluster_name")
    env = {name: name.upper() for name in names}
    claim = {"gateway_url": gateway.url, "create": False, "env": env}
    run = launcher(PYTHON, "-c", ENVIRONMENT, claim=claim)
    found = json.loads(run.out)
    assert found["GATEWAY_URL"] == found["DASK_GATEWAY__ADDRESS"] == gateway.url
    assert not {"DASK_SCHEDULER_ADDRESS", "DASK_CLUSTER", *map(str.upper, names[1:])} & set(found)
    assert run.receipt["gone"] is None


@pytest.mark.parametrize("place", ["gateway", pytest.param("local", marks=pytest.mark.deep)])
def test_unknown_user_whose_home_stays_empty(
    launcher: Launcher, gateway: GatewayServer, tmp_path: Path, place: str
) -> None:
    folder = tmp_path / "output"
    folder.mkdir()
    program = f"import dask_gateway, os; assert os.getuid() == 54321\n{ONE_TASK}"
    if place == "gateway":
        program += "\nprint(len(dask_gateway.Gateway().list_clusters()))"
    run = launcher(
        PYTHON, "-c", program, claim={"gateway_url": gateway.url} if place == "gateway" else {},
        # A user namespace of its own: the files stay readable whoever runs the tests.
        before=("unshare", "--map-user=54321", "--map-group=54321", "--"),
        cwd=folder, env={"HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        unset=["DASK_CONFIG", "USER", "LOGNAME", "LNAME", "USERNAME"],
    )  # fmt: skip
    assert run.status == 0, run.err
    assert run.out.split() == ([b"42", b"1"] if place == "gateway" else [b"42"])
    assert list(folder.iterdir()) == []


def test_standard_input_is_not_read_ahead(attached: Launcher) -> None:
    # The shell's next command finds what ours did not read.
    run = attached.start(
        "head", "-c", "3", before=("sh", "-c", '"$@"; cat', "-"), stdin=subprocess.PIPE
    )
    out, _ = run.process.communicate(b"abcdef", timeout=120)
    assert out == b"abcdef"


ON_SIGTERM = "trap '{}' TERM; echo ready; while :; do sleep 0.1; done"


def test_command_that_the_launcher_ends(attached: Launcher) -> None:
    """It has not done its work: never status 0, and the receipt says why."""
    lifetime = {"DASK_CLAIM_MAX_LIFETIME": "30"}
    walltime = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(time.time()) + 36)}
    cases = [(lifetime, "exit 0", 124), (walltime, "exit 0", 75), (lifetime, "exit 3", 3)]
    runs = [
        attached.start("sh", "-c", ON_SIGTERM.format(answer), env=env, flags=("--grace", "2"))
        for env, answer, _ in cases
    ]
    for run, (env, _, status) in zip(runs, cases, strict=True):
        cause = "max_lifetime" if env is lifetime else "walltime"
        ended = run.finish()
        assert ended.status == ended.receipt["exit_status"] == status, ended.err
        assert cause in ended.receipt["error"]
        assert ended.receipt["reason"] == cause.removeprefix("max_")
        assert any(cause in warning for warning in ended.receipt["warnings"])


def test_eager_command_is_told_why_it_is_ended(
    launcher: Launcher, stuck_gateway: GatewayServer
) -> None:
    claim = {"gateway_url": stuck_gateway.url}
    flags = ("--start", "eager", "--start-timeout", "20", "--grace", "2")
    statuses = {"exit 0": 75, "exit 3": 3}
    runs = [
        launcher.start("sh", "-c", ON_SIGTERM.format(answer), claim=claim, flags=flags)
        for answer in statuses
    ]
    for run, status in zip(runs, statuses.values(), strict=True):
        ended = run.finish()
        assert ended.status == status, ended.err
        before, _, end = ended.err.partition("The command ended")
        assert "was not ready within 20 s" in before and end, ended.err
        assert "was not ready within 20 s" in ended.receipt["error"]
        assert ended.receipt["reason"] == "start_timeout"
        assert ended.receipt["timeline"]["command_end"]
