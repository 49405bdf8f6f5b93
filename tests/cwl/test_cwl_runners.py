"""Real runners, each on the same documents: the results are the same, and no cluster is left.

The Landsat workflow's own tests (tests/cwl/landsat) have its part of the table in docs/cwl.md.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dask_claim.cwl.translate import translate
from tests.support.cwl import DOCUMENTS, ROOT, Calrissian, Cwltool, Done, Toil
from tests.support.gateway import GatewayServer, clean_environment
from tests.support.images import Podman
from tests.support.missing import need

pytestmark = pytest.mark.slow

PUBLISHED = ROOT / "cwl" / "bai.cwl"
SPELLINGS = {
    "map": """
        EnvVarRequirement:
          worker_cores: DASK_WORKER_CORES
        RuntimeRequirement:
          worker_cores: $(inputs.cores)
          worker_memory: $(inputs.memory)
          max_cores: 2""",
    "pairs": """
        cores_min: {value: $(inputs.cores)}
        cores_max: {value: "${ return 2 * inputs.cores; }"}
        worker_cores: {name: DASK_WORKER_CORES, value: $(inputs.cores)}
        worker_memory: {name: DASK_WORKER_MEMORY, value: $(inputs.memory)}""",
    "camels": """
        workerCores: $(inputs.cores)
        workerCoresLimit: 1
        workerMemory: $(inputs.memory)
        clusterMaxCore: 2
        clusterMaxMemory: 2G""",
}


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The sample pair, as inputs."""
    from bai_example.sample import write_sample

    folder = tmp_path_factory.mktemp("pair")
    write_sample(folder, 256)
    folder.chmod(0o755)
    items = {"class": "Directory", "location": folder.as_uri()}
    return {"items": items, "pre_event": "pre.json", "post_event": "post.json"}


def pixels(path: Path) -> np.ndarray:
    import rasterio

    with rasterio.open(path) as file:
        return np.asarray(file.read())


@pytest.fixture(scope="session")
def expected(pair: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The map without any runner."""
    folder = tmp_path_factory.mktemp("expected")
    command = ["dask-claim", "--max-workers", "1", "--", "python", "-m", "bai_example"]
    command += ["--items", pair["items"]["location"].removeprefix("file://")]
    command += ["--pre-event", "pre.json", "--post-event", "post.json"]
    subprocess.run(
        [*command, "--output-dir", str(folder)],
        env=clean_environment(), check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return pixels(folder / "bai.tif")


def written(folder: Path, spelling: str, url: str) -> Path:
    """The documents as their developers wrote them, translated; the one that runs them all."""
    for name, gateway_url in (("bai", None), ("workers", url), ("conditional", url)):
        text = (DOCUMENTS / "run" / f"{name}.cwl").read_text()
        original, path = folder / f"{name}.original.cwl", folder / f"{name}.cwl"
        original.write_text(text.replace(" CLAIM", SPELLINGS[spelling]))
        path.write_text(translate(original, gateway_url=gateway_url))
    path = folder / "all.cwl"
    text = (DOCUMENTS / "run" / "all.cwl").read_text()
    path.write_text(text.replace("PUBLISHED", PUBLISHED.as_uri()))
    return path


FILES = {
    "catalog.json", "bai.json", "bai.tif", "bai-severity.tif", "bai-severity.tif.aux.xml",
    "bai.png",
}  # fmt: skip
INPUTS = {"cores": 1, "memory": "1 G", "sizes": [1, 2], "number": 7}


@pytest.fixture
def words(pair: dict[str, Any], tmp_path: Path) -> list[Any]:
    """What follows a runner's options, but for the document."""
    need("node")
    (tmp_path / "job.json").write_text(json.dumps({**pair, **INPUTS}))
    return ["--outdir", tmp_path / "outputs"]


def check(done: Done, expected: np.ndarray) -> None:
    assert done.status == 0, done.err
    # The published package, and one in each spelling: the declared files and no other.
    maps = {Path(each["path"]).name: Path(each["path"]) for each in done.outputs["maps"]}
    assert sorted(maps) == ["bai.json", "bai.png", "bai.tif"]
    assert {path.name for path in done.path("burned_area").iterdir()} == FILES
    for path in (maps["bai.tif"], done.path("burned_area") / "bai.tif"):
        assert np.array_equal(pixels(path), expected, equal_nan=True)
    # Each job of a scatter has a cluster of its own, as large as the expression says.
    threads = [Path(each["path"]).read_text() for each in done.outputs["threads"]]
    assert threads == ["1\n", "2\n"]
    # What a condition leaves out claims nothing.
    assert done.text("large") == "49\n" and done.outputs["small"] is None


def test_cwltool(
    cwltool: Cwltool, words: list[Any], expected: np.ndarray, gateway: GatewayServer, tmp_path: Path
) -> None:
    path = written(tmp_path, "map", gateway.url)
    done = cwltool("--no-container", *words, path, "job.json", folder=tmp_path)
    check(done, expected)
    # Without a gateway a cluster is within what the runner grants the tool.
    assert "1 core (local_cores)" in done.err


@pytest.mark.deep
def test_toil(
    toil: Toil, words: list[Any], expected: np.ndarray, gateway: GatewayServer, tmp_path: Path
) -> None:
    path = written(tmp_path, "pairs", gateway.url)
    check(toil("--no-container", *words, path, "job.json", folder=tmp_path), expected)


@pytest.mark.container
def test_cwltool_with_containers(
    podman: Podman, cwltool: Cwltool, words: list[Any], expected: np.ndarray,
    gateway: GatewayServer, tmp_path: Path,
) -> None:  # fmt: skip
    """As the image's own user, one that it does not know, and root."""
    path = written(tmp_path, "camels", gateway.url)
    words = ["--disable-pull", "--custom-net", "host", *words, path, "job.json"]
    docker = podman.docker(tmp_path, "1000:1000", "48213:39911", "0:0")
    check(cwltool(*words, folder=tmp_path, **docker), expected)


def test_calrissian(calrissian: Calrissian, pair: dict[str, Any], tmp_path: Path) -> None:
    """It makes the same jobs: as many as there are, each with its claim."""
    url = "http://gateway.example.org"
    inputs = {**pair, **INPUTS}
    documents = []
    for spelling in SPELLINGS:
        (tmp_path / spelling).mkdir()
        path = written(tmp_path / spelling, spelling, url)
        documents.append((path, inputs) if not documents else (f"{path.parent}/bai.cwl#main",
                         {**pair, "cores": 1, "memory": "1 G"}))  # fmt: skip
    first, *others = calrissian.jobs(*documents)
    assert [len(first), *map(len, others)] == [5, 1, 1]
    for job in (*first, *others[0], *others[1]):
        assert job["command"][:2] == ["dask-claim", "--"]
        assert job["temporary"] == [75] and job["permanent"] == [64, 70, 78, 124, 126, 127]
        claim = json.loads(job["environment"]["DASK_CLAIM"])
        assert claim["image"] == job["image"] == "dask-claim:0.1.0"
        example = job["command"][2:5] == ["python", "-m", "bai_example"]
        operator = job["environment"].get("DASK_CLAIM_GATEWAY_URL")
        assert operator == (None if example else url)
        if example and "--output-dir" not in job["command"]:
            assert (claim["worker_cores"], claim["worker_memory"]) == (1, "1 G")
        assert not example or claim["max_cores"] == 2
    cores = [json.loads(job["environment"]["DASK_CLAIM"])["worker_cores"] for job in first]
    assert sorted(cores) == [1, 1, 1, 1, 2]


def test_shell_command(cwltool: Cwltool, tmp_path: Path) -> None:
    """Pipes, `cd` and all: every part of the line runs on the cluster."""
    document = DOCUMENTS / "good" / "shell.expected.cwl"
    done = cwltool("--no-container", document, "--words", "a b", "--words", "$c", folder=tmp_path)
    assert done.status == 0, done.err
    assert (tmp_path / "out.txt").read_text() == "tls://\na b|$c|"


def test_shell_builtin(cwltool: Cwltool, tmp_path: Path) -> None:
    """With ShellCommandRequirement a builtin is a command."""
    text = (
        "cwlVersion: v1.2\nclass: CommandLineTool\nrequirements:\n  ShellCommandRequirement: {}\n"
        "  DaskGatewayRequirement: {worker_cores: 1}\narguments: [exit, '7']\nsuccessCodes: [7]\n"
        "inputs: []\noutputs: []\n"
    )
    (tmp_path / "tool.cwl").write_text(text)
    (tmp_path / "done.cwl").write_text(translate(tmp_path / "tool.cwl"))
    done = cwltool("--no-container", "done.cwl", folder=tmp_path)
    assert done.status == 0 and "ended with status 7" in done.err, done.err
