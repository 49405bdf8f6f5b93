"""Real runners, each on the same documents: the results are the same, and no cluster is left.

The Landsat workflow's own tests (tests/cwl/landsat) have its part of the table in docs/cwl.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import rasterio

from dask_claim.cwl.translate import translate
from tests.support.cwl import DOCUMENTS, ROOT, Calrissian, Cwltool, Done, Toil
from tests.support.gateway import GatewayServer
from tests.support.images import Podman
from tests.support.missing import need

pytestmark = pytest.mark.slow


@pytest.fixture
def inputs(sample: Path) -> dict[str, Any]:
    items = {"class": "Directory", "location": sample.as_uri()}
    pair = {"items": items, "pre_event": "pre.json", "post_event": "post.json"}
    return {**pair, "sizes": [1, 2], "number": 7}


def written(folder: Path, url: str) -> Path:
    """The documents as their developers wrote them, translated; the one that runs them all."""
    for name in ("workers", "conditional"):
        text = translate(DOCUMENTS / "run" / f"{name}.cwl", gateway_url=url)
        (folder / f"{name}.cwl").write_text(text)
    path = folder / "all.cwl"
    text = (DOCUMENTS / "run" / "all.cwl").read_text()
    path.write_text(text.replace("PUBLISHED", (ROOT / "cwl" / "bai.cwl").as_uri()))
    return path


@pytest.fixture
def words(inputs: dict[str, Any], gateway: GatewayServer, tmp_path: Path) -> list[Any]:
    """What follows a runner's options."""
    need("node")
    (tmp_path / "job.json").write_text(json.dumps(inputs))
    return ["--outdir", tmp_path / "outputs", written(tmp_path, gateway.url), "job.json"]


def check(done: Done) -> None:
    assert done.status == 0, done.err
    burned_area = done.path("burned_area")
    assert {path.name for path in burned_area.iterdir()} == {
        "catalog.json", "bai.json", "bai.tif", "bai-severity.tif", "bai-severity.tif.aux.xml",
        "bai.png",
    }  # fmt: skip
    with rasterio.open(burned_area / "bai.tif") as file:
        assert file.read(1, masked=True).count()
    # Each job of a scatter has a cluster of its own, as large as the expression says.
    threads = [Path(each["path"]).read_text() for each in done.outputs["threads"]]
    assert threads == ["1\n", "2\n"]
    # What a condition leaves out claims nothing.
    assert done.text("large") == "49\n" and done.outputs["small"] is None


def test_cwltool(cwltool: Cwltool, words: list[Any], tmp_path: Path) -> None:
    done = cwltool("--no-container", *words, folder=tmp_path)
    check(done)
    # Without a gateway a cluster is within what the runner grants the tool.
    assert "1 core (local_cores)" in done.err


@pytest.mark.deep
def test_toil(toil: Toil, words: list[Any], tmp_path: Path) -> None:
    check(toil("--no-container", *words, folder=tmp_path))


@pytest.mark.deep
@pytest.mark.container
def test_cwltool_with_containers(
    podman: Podman, cwltool: Cwltool, sample: Path, words: list[Any], tmp_path: Path
) -> None:
    """As the image's own user, one that it does not know, and root."""
    sample.chmod(0o755)
    docker = podman.docker(tmp_path, "1000:1000", "48213:39911", "0:0")
    words = ["--disable-pull", "--custom-net", "host", *words]
    check(cwltool(*words, folder=tmp_path, **docker))


def test_calrissian(calrissian: Calrissian, inputs: dict[str, Any], tmp_path: Path) -> None:
    """It makes the same jobs: as many as there are, each with its claim."""
    url = "http://gateway.example.org"
    [made] = calrissian.jobs((written(tmp_path, url), inputs))
    for job in made:
        assert job["command"][:2] == ["dask-claim", "--"]
        assert job["temporary"] == [75] and job["permanent"] == [64, 70, 78, 124, 126, 127]
        claim = json.loads(job["environment"]["DASK_CLAIM"])
        assert claim["image"] == job["image"] == "dask-claim:0.1.0"
        operator = job["environment"].get("DASK_CLAIM_GATEWAY_URL")
        assert operator == (None if "bai_example" in job["command"] else url)
    cores = [json.loads(job["environment"]["DASK_CLAIM"])["worker_cores"] for job in made]
    assert sorted(cores) == [1, 1, 1, 2]


def test_shell_command(cwltool: Cwltool, scheduler: dict[str, str], tmp_path: Path) -> None:
    """Pipes, builtins and all: every part of the line runs on the cluster."""
    document = DOCUMENTS / "good" / "shell.expected.cwl"
    kept = [word for name in scheduler for word in ("--preserve-environment", name)]
    words = [document, "--words", "a b", "--words", "$c"]
    done = cwltool("--no-container", *kept, *words, folder=tmp_path, **scheduler)
    assert done.status == 0 and "ended with status 7" in done.err, done.err
    assert (tmp_path / "out.txt").read_text() == "tcp://\na b|$c|"
