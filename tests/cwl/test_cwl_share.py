"""Steps of a workflow that share one cluster: the example of docs/sharing.md under cwltool."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from dask_claim.cwl.translate import translate
from tests.support.cwl import ROOT, Cwltool
from tests.support.gateway import GatewayServer
from tests.support.launcher import wait_for
from tests.support.scenes import clusters_command

TOOL = """
import sys
from distributed import Client
with Client() as client:
    print(sum(client.gather(client.map(abs, range(int(sys.argv[1]))))))
"""


def document(folder: Path) -> Path:
    text = (ROOT / "docs" / "sharing.md").read_text()
    [workflow] = re.findall(r"```yaml\n(cwlVersion.*?)```", text, re.DOTALL)
    tool = {
        "class": "CommandLineTool",
        "id": "sum",
        "baseCommand": ["python", "-c", TOOL],
        "inputs": {"numbers": {"type": "int", "inputBinding": {}}, "after": "File?"},
        "outputs": {"total": {"type": "stdout"}},
    }
    content = yaml.safe_load(workflow)
    version = content.pop("cwlVersion")
    graph = [{**content, "id": "main"}, tool]
    path = folder / "steps.cwl"
    path.write_text(json.dumps({"cwlVersion": version, "$graph": graph}))
    return path


def test_three_steps_share_a_cluster(
    cwltool: Cwltool, variables_gateway: GatewayServer, tmp_path: Path
) -> None:
    steps, receipts = tmp_path / "any.cwl", tmp_path / "receipts"
    receipts.mkdir()
    steps.write_text(translate(document(tmp_path), share=True))
    cwltool.validate(steps)
    assert translate(steps, share=True) == steps.read_text()
    variables = {
        "USER": "tester",
        "DASK_CLAIM_GATEWAY_URL": variables_gateway.url,
        "DASK_CLAIM_RECEIPT": str(receipts),
    }
    kept = [word for name in variables for word in ("--preserve-environment", name)]
    words = [*kept, steps, "--count", "10", "--dask_claim_share", "run-42"]
    done = cwltool("--no-container", *words, folder=tmp_path, **variables)
    assert done.status == 0 and done.text("total") == "45\n", done.err
    written = [json.loads(path.read_text()) for path in receipts.iterdir()]
    assert len(written) == 3 and len({one["cluster_name"] for one in written}) == 1
    assert sorted(one["shared"]["joined"] for one in written) == [False, True, True]
    # The end of the workflow.
    ended = clusters_command(variables_gateway, "stop", "--share", " run-42 ")
    assert ended.returncode == 0 and "is gone" in ended.stdout, ended.stderr
    wait_for(lambda: not variables_gateway.clusters(), "end of the cluster")
