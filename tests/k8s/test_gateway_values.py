"""The values for the gateway's chart, loaded into a real server: claims run on the very options."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.k8s.objects import ROOT, container, variables
from tests.support.forking import ForkedDask
from tests.support.gateway import GatewayServer, clean_environment
from tests.support.launcher import ONE_TASK

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("values_gateway")]

BACKEND = yaml.safe_load((ROOT / "k8s" / "gateway" / "values.yaml").read_text())["gateway"]
# As the chart does it, part by part in alphabetical order.
CODE = {name: text for name, text in sorted(BACKEND["extraConfig"].items())}

# The clusters are processes here, but their settings are those of the backend for Kubernetes, which
# so are held to its types.
KUBERNETES = """
c.UnsafeLocalBackend.cluster_config_class = (
    "dask_gateway_server.backends.kubernetes.backend.KubeClusterConfig"
)
"""


def forwarded() -> str:
    """The chart's own way from values to settings."""
    lines = []
    for role in ("scheduler", "worker"):
        said = BACKEND["backend"][role]
        for kind in ("cores", "memory"):
            lines.append(f"c.KubeClusterConfig.{role}_{kind} = {said[kind]['request']!r}")
            lines.append(f"c.KubeClusterConfig.{role}_{kind}_limit = {said[kind]['limit']!r}")
        for field, key in (("pod", "extraPodConfig"), ("container", "extraContainerConfig")):
            lines.append(f"c.KubeClusterConfig.{role}_extra_{field}_config = {said[key]!r}")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def server(forked_dask: ForkedDask) -> Iterator[GatewayServer]:
    for name, text in CODE.items():
        compile(text, f"gateway.extraConfig.{name}", "exec")
    options = "\n".join([KUBERNETES, forwarded(), *CODE.values()])
    made = GatewayServer(options=options, dask=forked_dask)
    try:
        yield made
    finally:
        made.stop()


def run(
    gateway: GatewayServer, folder: str, name: str, command: list[str], **more: str
) -> subprocess.CompletedProcess[str]:
    """A pod's command with the pod's variables, but for where the gateway is."""
    given = variables(folder, name) | {"DASK_CLAIM_GATEWAY_URL": gateway.url} | more
    return subprocess.run(
        command, env=clean_environment(**given), capture_output=True, text=True, timeout=180
    )


def clusters(gateway: GatewayServer) -> list[str]:
    """The clusters of the user that all pods of ours are."""
    listed = run(gateway, "tool", "map", ["dask-claim", "clusters", "--json"])
    assert listed.returncode == 0, listed.stderr
    return [each["name"] for each in json.loads(listed.stdout)]


def test_the_tools_job(server: GatewayServer, tmp_path: Path) -> None:
    """Nothing that it claims is refused, changed or warned of."""
    receipt = tmp_path / "receipt.json"
    command = [*container("tool", "map")["command"], "python", "-c", ONE_TASK]
    done = run(server, "tool", "map", command, DASK_CLAIM_RECEIPT=str(receipt))
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    said = json.loads(receipt.read_text())
    assert said["provider"] == "gateway" and said["leased"] and said["gone"]
    assert [text for text in said["warnings"] if "offer" in text] == []
    assert said["workers"]["threads"] == 1 and said["workers"]["memory"] == 2 * 2**30


def test_limits_and_bounds(server: GatewayServer, tmp_path: Path) -> None:
    """`worker_cores_limit` is offered; beyond what is offered a claim is refused with the limit."""
    receipt = {"DASK_CLAIM_RECEIPT": str(tmp_path / "receipt.json")}
    claim = '{"worker_cores": 0.5, "worker_cores_limit": 2, "worker_memory": "512 M"}'
    command = ["dask-claim", "--", "python", "-c", ONE_TASK]
    done = run(server, "tool", "map", command, DASK_CLAIM=claim, **receipt)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
    assert "worker_cores_limit" not in done.stderr and "WARNING" not in done.stderr
    claim = '{"worker_cores": 9}'
    done = run(server, "tool", "map", ["dask-claim", "--", "true"], DASK_CLAIM=claim, **receipt)
    assert done.returncode == 78 and "0.1 to 8" in done.stderr


def test_doctor_and_clean_up(server: GatewayServer) -> None:
    done = run(server, "doctor", "doctor", container("doctor", "doctor")["command"])
    assert done.returncode == 0, done.stdout
    assert "fail" not in {line.split(" ")[0] for line in done.stdout.splitlines()}

    # Made by hand, under the same user: nobody holds it, and nobody but a person may end it.
    code = "from dask_gateway import Gateway; print(Gateway().submit())"
    address = {"DASK_GATEWAY__ADDRESS": server.url}
    made = run(server, "tool", "map", ["python", "-c", code], **address).stdout.strip()
    assert clusters(server) == [made]
    command = container("tool", "end-orphaned-clusters")["command"]
    command = [*command, "--pending-after", "0"]
    done = run(server, "tool", "end-orphaned-clusters", command)
    assert (done.returncode, done.stdout) == (0, "nothing to stop\n"), done.stderr
    assert clusters(server) == [made]
    done = run(server, "tool", "map", ["dask-claim", "clusters", "stop", made])
    assert clusters(server) == [], done.stderr
