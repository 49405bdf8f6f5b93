"""The project's image, built for real, and cwltool running documents in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_claim.cwl.translate import translate
from tests.cwl.running import CLAIMS, check_outputs, document, job, run
from tests.cwl.support import CWLTOOL, DOCUMENTS
from tests.support.gateway import GatewayServer, clean_environment
from tests.support.launcher import wait_for
from tests.support.scenes import until_gone, until_leased

pytestmark = [pytest.mark.slow, pytest.mark.container]

IMAGE = "dask-claim:0.1.0"
# In place of the docker command: podman, with the user that a runner of that uid would name and
# folders that this user may write. Everything else is as cwltool asks for it.
DOCKER = """#!{python}
import os, re, subprocess, sys
words = [re.sub(r"^--user=.*", "--user={user}", word) for word in sys.argv[1:]]
for word in words:
    mount = re.fullmatch(r"--mount=type=bind,source=([^,]+),target=[^,]+", word)
    if mount:
        subprocess.run(["chown", "-R", "{user}", mount[1]], check=True)
os.execvp("podman", ["podman", *words])
"""


def with_user(podman: dict[str, str], user: str, folder: Path) -> dict[str, str]:
    (folder / "docker").write_text(DOCKER.format(python=sys.executable, user=user))
    (folder / "docker").chmod(0o755)
    return {**podman, "PATH": f"{folder}{os.pathsep}{podman['PATH']}"}


def in_container(podman: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["podman", "run", "--rm", *words],
        env=clean_environment(**podman), capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spelling", "user"), [*zip(CLAIMS, ("1000:1000", "48213:39911", "0:0"), strict=True)]
)
def test_same_map(
    spelling: str, user: str, podman: dict[str, str], pair: Path, expected: np.ndarray,
    tmp_path: Path,
) -> None:  # fmt: skip
    outputs = tmp_path / "outputs"
    pair.chmod(0o755)
    command = [CWLTOOL, "--disable-pull", "--outdir", outputs]
    command += [document(tmp_path, spelling), job(tmp_path, pair)]
    run(command, tmp_path, **with_user(podman, user, tmp_path))
    check_outputs(outputs, expected)


@pytest.mark.parametrize("user", ["1000:1000", "48213:39911"])
def test_environment(
    user: str, podman: dict[str, str], gateway: GatewayServer, tmp_path: Path
) -> None:
    """What the contract promises, on a gateway's cluster; and only what the tool wrote is left."""
    path = tmp_path / "environment.cwl"
    path.write_text(translate(DOCUMENTS / "run" / "environment.cwl", gateway_url=gateway.url))
    outputs = tmp_path / "outputs"
    command: list[Any] = [CWLTOOL, "--disable-pull", "--custom-net", "host", "--outdir", outputs]
    run([*command, path, "--cores", 1], tmp_path, **with_user(podman, user, tmp_path))
    top = next(item for item in outputs.iterdir())
    left = sorted(item.name for item in (top if top.is_dir() else outputs).rglob("*"))
    assert left == ["found.json"]
    found = json.loads(next(outputs.rglob("found.json")).read_text())
    assert found["answer"] == 42
    assert f"{found['uid']}:{found['gid']}" == user
    environment = found["environment"]
    cluster = environment["DASK_CLUSTER"]
    assert environment["DASK_SCHEDULER_ADDRESS"] == f"gateway://127.0.0.1:{gateway.port}/{cluster}"
    names = ("MODE", "CORES", "MEMORY", "THE_GATEWAY", "IMAGE", "CLUSTER", "DASK_GATEWAY__ADDRESS")
    expected = ["fast", "1", "512M", gateway.url, IMAGE, cluster, gateway.url]
    assert [environment[name] for name in names] == expected
    assert environment["HOME"] == found["cwd"]


@pytest.mark.parametrize("user", ["1000:1000", "48213:39911"])
def test_read_only(user: str, podman: dict[str, str]) -> None:
    """Client, scheduler and workers on a root that nothing can be written to."""
    code = (
        "from distributed import Client\nwith Client() as c: print(c.submit(sum, [1, 2]).result())"
    )
    words = ["--read-only", "--user", user, "--tmpfs", "/work", "--workdir", "/work"]
    command = ["dask-claim", "--max-workers", "1", "--", "python", "-c", code]
    done = in_container(podman, *words, IMAGE, *command)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def test_image(podman: dict[str, str]) -> None:
    """It says what it is, is its own user's, and has what a gateway starts."""
    shown = subprocess.run(
        ["podman", "image", "inspect", IMAGE],
        env=clean_environment(**podman), capture_output=True, text=True, check=True,
    )  # fmt: skip
    config = json.loads(shown.stdout)[0]["Config"]
    assert config["User"] == "1000:1000"
    assert not config.get("Entrypoint")
    assert config["Labels"]["org.opencontainers.image.title"] == "dask-claim"
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
    done = in_container(podman, IMAGE, "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "dask"


@pytest.mark.parametrize("redirection", ["", " > /tmp/out"])
def test_shell_as_first_process(redirection: str, podman: dict[str, str]) -> None:
    """As Calrissian starts tools: SIGTERM reaches dask-claim, which releases its cluster."""
    line = "dask-claim --max-workers 1 -- sleep 300" + redirection
    started = subprocess.run(
        ["podman", "run", "--detach", IMAGE, "/bin/sh", "-c", line],
        env=clean_environment(**podman), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    container = started.stdout.strip()

    def asked(*words: str) -> str:
        done = subprocess.run(
            ["podman", *words, container],
            env=clean_environment(**podman), text=True, timeout=60,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.stdout

    try:
        wait_for(lambda: "Running sleep" in asked("logs"), "the command", 60, lambda: asked("logs"))
        asked("kill", "--signal", "TERM")
        # Far less than its grace and its lease, which a shell that keeps the signal costs.
        wait_for(lambda: container not in running(podman, "--no-trunc"), "end of it", 10)
        assert asked("wait").strip() == "143"
        assert " stopped after " in asked("logs")
    finally:
        asked("rm", "--force", "--time", "0")


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


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_ended_runner_leaves_nothing(
    name: str, podman: dict[str, str], gateway: GatewayServer, tmp_path: Path
) -> None:
    """Ctrl-C and SIGTERM to the runner, which ends its containers with `docker kill`."""
    (tmp_path / "endless.cwl").write_text(ENDLESS % (IMAGE, gateway.url))
    command = [CWLTOOL, "--disable-pull", "--custom-net", "host", tmp_path / "endless.cwl"]
    with (tmp_path / "log").open("wb") as log:
        runner = subprocess.Popen(
            [str(word) for word in command],
            cwd=tmp_path, env=clean_environment(**podman), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(gateway.clusters, "a cluster", 60, (tmp_path / "log").read_text)
        until_leased(gateway)
        if name == "SIGINT":  # a terminal sends it to everybody in the foreground
            os.killpg(runner.pid, signal.SIGINT)
        else:
            runner.send_signal(signal.SIGTERM)
        runner.wait(timeout=60)
        until_gone(gateway, 30)
        wait_for(lambda: not running(podman), "end of the container", 30)
    finally:
        runner.kill()
        runner.wait()
        for container in running(podman):
            subprocess.run(["podman", "kill", container], env=clean_environment(**podman))


def running(podman: dict[str, str], *words: str) -> list[str]:
    """Containers of the image that run."""
    command = ["podman", "ps", "--quiet", "--filter", f"ancestor={IMAGE}", *words]
    return subprocess.check_output(command, env=clean_environment(**podman), text=True).split()
