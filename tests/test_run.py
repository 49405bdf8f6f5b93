"""The run (contract §4): exit statuses, streams, what the command finds, on real clusters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.gateway import GatewayServer
from tests.support.launcher import ONE_TASK, PYTHON, Launcher
from tests.support.scenes import SMALL

ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 3"), 3),
        (("sh", "-c", "exit 255"), 255),
        (("sh", "-c", "kill -KILL $$"), 137),
        (("sh", "-c", "kill -SEGV $$"), 139),
        (("no-such-command",), 127),
        (("./no-such-file",), 127),
        (("/etc/passwd",), 126),
        (("/",), 126),
    ],
)
def test_exit_status_of_the_command(
    launcher: Launcher, command: tuple[str, ...], status: int
) -> None:
    run = launcher(*command, claim=SMALL)
    assert run.status == status, run.err
    assert run.receipt["exit_status"] == status


def test_script_without_interpreter_line(launcher: Launcher, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo hello\n")
    script.chmod(0o755)
    run = launcher(str(script), claim=SMALL)
    assert run.status == 126
    assert "#!/bin/sh" in run.err


@pytest.mark.parametrize(
    "arguments",
    [[], ["--"], ["true"], ["--nonsense", "--", "true"], ["--grace", "x", "--", "true"]],
)
def test_wrong_usage(arguments: list[str]) -> None:
    run = subprocess.run(
        [PYTHON, "-m", "dask_claim", *arguments], capture_output=True, text=True, check=False
    )
    assert run.returncode == 64
    assert "dask-claim --help" in run.stderr
    assert run.stdout == ""


def test_unsound_claim_creates_nothing(launcher: Launcher, gateway: GatewayServer) -> None:
    run = launcher(
        "true", claim={"gateway_url": gateway.url, "worker_core": 1, "min_cores": "many"}
    )
    assert run.status == 78
    assert "2 faults" in run.err
    assert "did you mean worker_cores?" in run.err
    assert run.receipt["error"].startswith("2 faults")
    assert run.receipt["gone"] is None


@pytest.mark.parametrize("start", ["ready", "workers", "eager"])
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
    run = launcher(PYTHON, "-c", ONE_TASK)
    assert (run.status, run.out) == (0, b"42\n"), run.err
    assert run.receipt["provider"] == "local"
    assert run.receipt["scheduler_address"].startswith("tls://127.0.0.1:")
    assert run.receipt["dashboard_url"].startswith("http://127.0.0.1:")
    assert run.receipt["gone"] is True


def test_attach_uses_and_keeps_the_scheduler(launcher: Launcher) -> None:
    outer = launcher.start(
        PYTHON, "-u", "-c", f"{ENVIRONMENT}; input()", stdin=subprocess.PIPE
    )  # fmt: skip
    found = json.loads(outer.process.stdout.readline())
    names = (name for name in found if name.startswith("DASK_"))
    there = {name: found[name] for name in names if not name.startswith("DASK_CLAIM_")}
    workers = ("--start", "workers")
    inner = launcher(PYTHON, "-c", ONE_TASK, env=there, flags=workers)
    assert (inner.status, inner.out) == (0, b"42\n"), inner.err
    assert "No worker is waited for: the claim says no minimum" in inner.err
    assert inner.receipt["provider"] == "attach"
    assert inner.receipt["gone"] is None
    # Still there, for whoever has its keys.
    again = launcher(PYTHON, "-c", ONE_TASK, env=there, claim={"min_workers": 1}, flags=workers)
    assert again.status == 0, again.err
    # It has one worker for each core.
    more = {"min_workers": (os.cpu_count() or 1) + 1}
    too_few = launcher(
        PYTHON, "-c", ONE_TASK, env=there, claim=more, flags=(*workers, "--start-timeout", "3")
    )
    assert too_few.status == 75 and "was not ready within 3 s" in too_few.err
    address = there["DASK_SCHEDULER_ADDRESS"]
    refused = launcher(PYTHON, "-c", ONE_TASK, env={"DASK_SCHEDULER_ADDRESS": address})
    assert refused.status == 78 and "speaks TLS" in refused.err
    outer.process.stdin.write(b"\n")
    assert outer.finish().status == 0


def test_attach_to_nothing(launcher: Launcher) -> None:
    run = launcher("true", flags=("--start-timeout", "2"),
                   env={"DASK_SCHEDULER_ADDRESS": "tcp://127.0.0.1:1"})  # fmt: skip
    assert run.status == 75
    assert "tcp://127.0.0.1:1" in run.err


def test_program_written_for_calrissian(launcher: Launcher, gateway: GatewayServer) -> None:
    program = (
        "import os\n"
        "from dask_gateway import Gateway\n"
        "cluster = Gateway().connect(os.environ['DASK_CLUSTER'])\n"
        "client = cluster.get_client()\n"
        "print(client.submit(sum, [20, 22]).result())\n"
        "client.close()\n"
    )
    requirement = {
        "class": "calrissian:DaskGatewayRequirement",
        "workerCores": 1, "workerCoresLimit": 1, "workerMemory": "1G",
        "clusterMaxCores": 2, "clusterMaxMemory": "20G",
    }  # fmt: skip
    run = launcher(
        PYTHON, "-c", program, claim=requirement, env={"DASK_CLAIM_GATEWAY_URL": gateway.url}
    )
    assert (run.status, run.out.splitlines()[-1]) == (0, b"42"), run.err
    assert run.receipt["plan"]["max_workers"] == 2


def test_names_chosen_by_the_developer(launcher: Launcher, gateway: GatewayServer) -> None:
    claim = {
        "gateway_url": gateway.url,
        "worker_cores": "0.5", "worker_cores_limit": 1, "worker_memory": "1 G",
        "max_cores": 4, "image": "bai:1",
        "env": {
            "gateway_url": "DASK_GATEWAY_URL", "image": "DASK_WORKER_IMAGE",
            "worker_cores": "DASK_WORKER_CORES", "worker_memory": "DASK_WORKER_MEMORY",
            "workerCoresLimit": "LIMIT", "max_cores": "MOST", "min_cores": "LEAST",
            "cluster_name": "NAME", "scheduler_address": "ADDRESS", "dashboard_url": "DASHBOARD",
        },
    }  # fmt: skip
    run = launcher(PYTHON, "-c", ENVIRONMENT, claim=claim)
    found = json.loads(run.out)
    assert found["DASK_GATEWAY_URL"] == gateway.url
    assert found["DASK_WORKER_IMAGE"] == "bai:1"
    assert found["DASK_WORKER_CORES"] == "0.5"
    assert found["DASK_WORKER_MEMORY"] == "1 G"
    assert (found["LIMIT"], found["MOST"]) == ("1", "4")
    assert "LEAST" not in found
    assert found["NAME"] == found["DASK_CLUSTER"] == run.cluster
    assert found["ADDRESS"] == found["DASK_SCHEDULER_ADDRESS"]
    assert found["DASHBOARD"] == f"{gateway.url}/clusters/{run.cluster}/status"
    assert found["DASK_GATEWAY__ADDRESS"] == gateway.url


def test_nothing_else_changes(launcher: Launcher, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    env = {"HOME": str(folder), "KEPT": "as it was \n", "DASK_CONFIG": str(tmp_path)}
    program = ENVIRONMENT.replace("print", "print(os.getcwd()); print")
    run = launcher(PYTHON, "-c", program, env=env, cwd=folder)
    where, found = run.out.decode().splitlines()
    assert where == str(folder)
    added = {"DASK_SCHEDULER_ADDRESS", "DASK_CLAIM_RUN_ID"}
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    added |= {f"{tls}CA_FILE", f"{tls}CLIENT__CERT", f"{tls}CLIENT__KEY"}
    found = json.loads(found)
    for name, value in env.items():
        assert found[name] == value
    known = {*os.environ, *env, "USER", "DASK_CLAIM_RECEIPT", "TEST_RUN", "PYTHONFAULTHANDLER"}
    assert set(found) - known - {"LC_CTYPE"} == added


def test_create_false_only_maps_names(launcher: Launcher, gateway: GatewayServer) -> None:
    claim = {"gateway_url": gateway.url, "create": False, "env": {"gateway_url": "URL"}}
    run = launcher(PYTHON, "-c", ENVIRONMENT, claim=claim)
    found = json.loads(run.out)
    assert found["URL"] == found["DASK_GATEWAY__ADDRESS"] == gateway.url
    assert "DASK_SCHEDULER_ADDRESS" not in found
    assert "DASK_CLUSTER" not in found
    assert run.receipt["gone"] is None


@pytest.mark.parametrize("place", ["gateway", "local"])
def test_no_file_in_home_or_working_directory(
    launcher: Launcher, gateway: GatewayServer, tmp_path: Path, place: str
) -> None:
    folder = tmp_path / "output"
    folder.mkdir()
    claim = {"gateway_url": gateway.url} if place == "gateway" else {}
    program = f"import dask_gateway; dask_gateway.Gateway\n{ONE_TASK}"
    env = {"HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    run = launcher(
        PYTHON, "-c", program, claim=claim, env=env, cwd=folder, unset=["DASK_CONFIG"]
    )  # fmt: skip
    assert (run.status, run.out) == (0, b"42\n"), run.err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("place", ["gateway", "local"])
def test_uid_without_a_passwd_entry(launcher: Launcher, gateway: GatewayServer, place: str) -> None:
    claim = {"gateway_url": gateway.url} if place == "gateway" else {}
    program = f"import os; assert os.getuid() == 54321\n{ONE_TASK}"
    if place == "gateway":
        program += "\nimport dask_gateway; print(len(dask_gateway.Gateway().list_clusters()))"
    run = launcher(
        PYTHON,
        "-c",
        program,
        claim=claim,
        # A user namespace of its own: the files stay readable whoever runs the tests.
        before=("unshare", "--map-user=54321", "--map-group=54321", "--"),
        env={"HOME": "/nonexistent"},
        unset=["USER", "LOGNAME", "LNAME", "USERNAME"],
    )
    assert run.status == 0, run.err
    assert run.out.split() == ([b"42", b"1"] if place == "gateway" else [b"42"])


def test_streams_are_the_commands_own(launcher: Launcher) -> None:
    data = bytes(range(256)) * 4096
    run = launcher.start("cat", claim=SMALL, stdin=subprocess.PIPE)
    out, _ = run.process.communicate(data, timeout=60)
    assert out == data


def test_standard_input_is_not_read_ahead(tmp_path: Path) -> None:
    # The shell's next command finds what ours did not read.
    script = f"{Path(sys.executable).parent}/dask-claim -q -- head -c 3; cat"
    run = subprocess.run(["sh", "-c", script], input=b"abcdef", capture_output=True, check=True)
    assert run.stdout == b"abcdef"


def test_open_files_are_passed_on(launcher: Launcher) -> None:
    reader, writer = os.pipe()
    program = f"import os; os.write({writer}, b'through')"
    run = launcher(PYTHON, "-c", program, claim=SMALL, pass_fds=[writer])
    os.close(writer)
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert run.status == 0


def test_broken_pipe_ends_the_command_as_always(launcher: Launcher) -> None:
    # With SIGPIPE ignored, as Python has it, `yes` would report an error and end with 1.
    run = launcher("bash", "-c", "yes | head -n 1; exit ${PIPESTATUS[0]}", claim=SMALL)
    assert run.status == 141


def test_log_masks_secrets(launcher: Launcher) -> None:
    run = launcher("true", "--password=hunter2", "https://me:hunter2@example.org/", claim=SMALL)
    assert "hunter2" not in run.err
    assert "hunter2" not in json.dumps(run.receipt)


def test_unwritable_receipt_changes_nothing_else(launcher: Launcher) -> None:
    run = launcher(
        "sh", "-c", "exit 5", claim=SMALL, flags=("--receipt", "/nonexistent/receipt.json")
    )
    assert run.status == 5
    assert "/nonexistent/receipt.json" in run.err


def test_a_defect_is_told_as_one(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import dask_claim.claim.model\ndask_claim.claim.model.load = lambda *_: 1 / 0\n"
    )
    run = launcher("true", env={"PYTHONPATH": str(tmp_path)})
    assert run.status == 70
    assert "ZeroDivisionError" in run.err
    assert "a defect in dask-claim" in run.err.splitlines()[-1]


ON_SIGTERM = "trap '{}' TERM; echo ready; while :; do sleep 0.1; done"


@pytest.mark.parametrize(("answer", "status"), [("exit 0", 0), ("exit 3", 3), ("-", 143)])
@pytest.mark.parametrize("cause", ["max_lifetime", "walltime"])
def test_command_that_the_launcher_ends(
    launcher: Launcher, scheduler: dict[str, str], cause: str, answer: str, status: int
) -> None:
    """It has not done its work: never status 0, and the receipt says why."""
    if cause == "max_lifetime":
        env, instead = {"DASK_CLAIM_MAX_LIFETIME": "3"}, 124
    else:
        end = str(int(time.time()) + 8)
        env, instead = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": end}, 75
    program = ON_SIGTERM.format(answer)
    run = launcher("sh", "-c", program, env={**scheduler, **env}, flags=("--grace", "2"))
    assert run.status == (status or instead), run.err
    assert run.receipt["exit_status"] == run.status
    assert cause in run.receipt["error"]
    assert any(cause in warning for warning in run.receipt["warnings"])


@pytest.mark.parametrize(("answer", "status"), [("exit 0", 75), ("exit 3", 3), ("-", 75)])
def test_eager_command_is_told_why_it_is_ended(
    launcher: Launcher, stuck_gateway: GatewayServer, answer: str, status: int
) -> None:
    claim = {"gateway_url": stuck_gateway.url}
    flags = ("--start", "eager", "--start-timeout", "4", "--grace", "2")
    run = launcher("sh", "-c", ON_SIGTERM.format(answer), claim=claim, flags=flags)
    assert run.status == status, run.err
    assert run.err.index("was not ready within 4 s") < run.err.index("The command ended"), run.err
    assert "was not ready within 4 s" in run.receipt["error"]
    assert run.receipt["timeline"]["command_end"]
