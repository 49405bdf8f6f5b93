"""The project's image: what it promises, and that its tools end with whoever runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from dask_claim.cwl.translate import translate
from tests.support.cwl import BIN, DOCUMENTS, Cwltool
from tests.support.gateway import GatewayServer, clean_environment
from tests.support.images import IMAGE, LARGEST, Podman
from tests.support.launcher import ONE_TASK, wait_for
from tests.support.scenes import until_gone, until_leased

pytestmark = [pytest.mark.slow, pytest.mark.container]

USER = "48213:39911"
"""One that the image does not know."""


def test_environment(
    podman: Podman, cwltool: Cwltool, gateway: GatewayServer, tmp_path: Path
) -> None:
    """What the contract promises, on a gateway's cluster; and only what the tool wrote is left."""
    path = tmp_path / "environment.cwl"
    path.write_text(translate(DOCUMENTS / "run" / "environment.cwl", gateway_url=gateway.url))
    outputs = tmp_path / "outputs"
    done = cwltool(
        "--disable-pull", "--custom-net", "host", "--outdir", outputs, path, "--cores", 1,
        folder=tmp_path, **podman.docker(tmp_path, USER),
    )  # fmt: skip
    assert done.status == 0, done.err
    (top,) = outputs.iterdir()
    (file,) = top.rglob("*") if top.is_dir() else [top]  # nor an empty folder
    found = json.loads(file.read_text())
    assert file.name == "found.json" and found["answer"] == 42
    assert f"{found['uid']}:{found['gid']}" == USER
    environment = found["environment"]
    cluster = environment["DASK_CLUSTER"]
    assert environment["DASK_SCHEDULER_ADDRESS"] == f"gateway://127.0.0.1:{gateway.port}/{cluster}"
    names = ("MODE", "CORES", "MEMORY", "THE_GATEWAY", "IMAGE", "CLUSTER", "DASK_GATEWAY__ADDRESS")
    expected = ["fast", "1", "512M", gateway.url, IMAGE, cluster, gateway.url]
    assert [environment[name] for name in names] == expected
    assert environment["HOME"] == found["cwd"]


def test_image(podman: Podman) -> None:
    """It says what it is, is its own user's, and has what a gateway starts."""
    about = json.loads(podman("image", "inspect", IMAGE, check=True).stdout)[0]
    assert about["Size"] < LARGEST * 1_000_000
    assert about["Config"]["User"] == "1000:1000"
    assert not about["Config"].get("Entrypoint")
    assert about["Config"]["Labels"]["org.opencontainers.image.title"] == "dask-claim"
    script = """
set -e
id -un
dask-scheduler --version
dask-worker --version
test ! -w /opt/dask-claim
test -s /opt/dask-claim/constraints.txt
python - <<'END'
import importlib.util, pathlib
for name in ("dask_claim.cli.main", "bai_example.index", "distributed", "numpy", "json"):
    assert pathlib.Path(importlib.util.find_spec(name).cached).exists(), name
END
"""
    done = podman("run", "--rm", IMAGE, "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "dask"


def test_read_only(podman: Podman) -> None:
    """Client, scheduler and workers on a root that nothing can be written to."""
    words = ("--read-only", "--user", USER, "--tmpfs", "/work", "--workdir", "/work", IMAGE)
    command = ("dask-claim", "--max-workers", "1", "--", "python", "-c", ONE_TASK)
    done = podman("run", "--rm", *words, *command)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


def test_shell_as_first_process(podman: Podman) -> None:
    """As Calrissian starts tools: SIGTERM reaches dask-claim, which releases its cluster."""
    containers = []
    try:
        for redirection in ("", " > /tmp/out"):
            line = f"dask-claim --max-workers 1 -- sleep 300{redirection}"
            done = podman("run", "--detach", IMAGE, "/bin/sh", "-c", line, check=True)
            containers.append(done.stdout.strip())

        def log(container: str) -> str:
            done = podman("logs", container)
            return done.stdout + done.stderr

        for each in containers:
            wait_for(lambda e=each: "Running sleep" in log(e), "command", 60, lambda e=each: log(e))
        podman("kill", "--signal", "TERM", *containers, check=True)
        # Far less than its grace and its lease, which a shell that keeps the signal costs.
        wait_for(lambda: not {*containers} & {*podman.running("--no-trunc")}, "their end", 14)
        assert podman("wait", *containers).stdout.split() == ["143", "143"]
        assert all(" stopped after " in log(container) for container in containers)
    finally:
        podman("rm", "--force", "--time", "0", *containers)


ENDLESS = """
cwlVersion: v1.2
class: CommandLineTool
requirements:
  DockerRequirement: {dockerPull: "%s"}
  NetworkAccess: {networkAccess: true}
  EnvVarRequirement:
    envDef:
      DASK_CLAIM: '{"gateway_url": "%s", "worker_memory": "512M", "lease_timeout": 3}'
      # The user whose clusters the test looks at.
      DASK_GATEWAY__AUTH__KWARGS__USERNAME: tester
baseCommand: [dask-claim, --, sleep, "300"]
inputs: {}
outputs: {}
"""


def test_ended_runner_leaves_nothing(
    podman: Podman, gateway: GatewayServer, tmp_path: Path
) -> None:
    """Ctrl-C and SIGTERM to the runner, which ends its containers with `docker kill`."""
    (tmp_path / "endless.cwl").write_text(ENDLESS % (IMAGE, gateway.url))
    words = ("--disable-pull", "--custom-net", "host", "endless.cwl")
    environment = clean_environment(**podman.docker(tmp_path))
    with (tmp_path / "log").open("wb") as log:
        runners = [
            subprocess.Popen(
                [BIN / "cwltool", *words],
                cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )
            for _ in range(2)
        ]  # fmt: skip
    try:
        read = (tmp_path / "log").read_text
        wait_for(lambda: len(gateway.clusters()) == 2, "a cluster of each", 60, read)
        until_leased(gateway)
        os.killpg(runners[0].pid, signal.SIGINT)  # a terminal sends it to the whole foreground
        runners[1].send_signal(signal.SIGTERM)
        for runner in runners:
            runner.wait(timeout=60)
        until_gone(gateway, 30)
        wait_for(lambda: not podman.running(), "end of the containers")
    finally:
        for runner in runners:
            runner.kill()
            runner.wait()
        if left := podman.running():
            podman("kill", *left)
