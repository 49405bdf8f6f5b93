"""The workflow and its steps under real runners, without and with containers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from tests.cwl.landsat.conftest import DOCUMENT, Server, Store
from tests.cwl.support import CWLTOOL
from tests.cwl.test_cwl_container import with_user
from tests.support.gateway import GatewayServer, clean_environment, free_port
from tests.support.launcher import Launcher, wait_for

pytestmark = pytest.mark.slow

STEPS = ("stage_in", "process", "stage_out")


class Done:
    """A finished run: its status, log and outputs (name → path)."""

    def __init__(self, status: int, out: str, log: str) -> None:
        self.status, self.log = status, log
        found = json.loads(out) if out.strip() else {}
        self.outputs = {name: Path(value["path"]) for name, value in found.items() if value}

    def text(self, name: str) -> str:
        return self.outputs[name].read_text()


def run(
    step: str, inputs: dict[str, Any], folder: Path, runner: list[Any] | None = None, **more: str
) -> Done:
    """Run the workflow, or one step of it alone; outputs go to `folder`/outputs."""
    (folder / "job.json").write_text(json.dumps(inputs))
    command = runner or [CWLTOOL, "--no-container"]
    command = [*command, "--outdir", folder / "outputs", f"{DOCUMENT}#{step}", folder / "job.json"]
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder, env=clean_environment(**more), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def located(path: Path, kind: str = "File") -> dict[str, str]:
    return {"class": kind, "location": path.as_uri()}


@contextmanager
def watched(secret: str) -> Iterator[Counter[str]]:
    """Look at all processes' arguments and variables as they come and go.

    Counts those of the step that needs the secret, and those that show it.
    """
    seen: Counter[str] = Counter()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            for entry in Path("/proc").iterdir():
                for name in ("cmdline", "environ") if entry.name.isdecimal() else ():
                    try:
                        content = (entry / name).read_bytes()
                    except OSError:
                        continue
                    seen["shown"] += secret.encode() in content
                    seen["step"] += name == "cmdline" and b"\0stage_out.py\0" in content

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def check_product(band: Path, folder: Path, factor: int, method: str = "mode") -> None:
    """Each cell has the most frequent or mean of its pixels' values, and lies where they lie."""
    name = f"{band.stem}_downsampled"
    assert folder.name == name
    assert set(files(folder)) == {f"{name}.TIF", f"{name}.browse.png", f"{name}.met.json"}
    with rasterio.open(band) as file, rasterio.open(folder / f"{name}.TIF") as product:
        pixels, cells = file.read(1), product.read(1)
        assert (product.crs, product.dtypes, product.nodata) == (file.crs, file.dtypes, file.nodata)
        assert product.transform.almost_equals(file.transform @ rasterio.Affine.scale(factor))
    rows, columns = pixels.shape
    assert cells.shape == (-(-rows // factor), -(-columns // factor))
    for (row, column), value in np.ndenumerate(cells):
        of_it = pixels[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
        of_it = of_it[of_it != file.nodata]
        if of_it.size == 0:
            assert value == file.nodata
        elif method == "average":
            assert abs(value - of_it.mean()) <= 0.51, (row, column)
        else:
            values, counts = np.unique(of_it, return_counts=True)
            assert value in values[counts == counts.max()], (row, column)
    about = json.loads((folder / f"{name}.met.json").read_text())
    assert about["source"]["bytes"] == band.stat().st_size
    assert about["product"]["shape"] == [1, *cells.shape]
    assert about["product"]["maximum"] == cells.max()
    scene = about["scene"] and (about["scene"]["satellite"], about["scene"]["row"])
    assert scene == (("LC08", name[13:16]) if name.startswith("LC08") else None)


def check_workflow(done: Done, server: Server, store: Store, prefix: str, factor: int) -> None:
    """All outputs, and in the store the dataset with the right bytes."""
    assert done.status == 0, done.log
    assert set(done.outputs) == {
        "image", "dataset", "notebook",
        *(f"{step}_{stream}" for step in STEPS for stream in ("stdout", "stderr")),
    }  # fmt: skip
    image, dataset = done.outputs["image"], done.outputs["dataset"]
    assert image.read_bytes() == server.content
    check_product(image, dataset, factor)
    sent = {f"{prefix}/{dataset.name}/{name}": data for name, data in files(dataset).items()}
    assert store.objects(prefix) == sent
    assert set(done.text("stage_out_stdout").split()) == {f"s3://maps/{key}" for key in sent}
    notebook = json.loads(done.text("notebook"))
    assert any("image/png" in out.get("data", {}) for cell in notebook["cells"]
               for out in cell.get("outputs", []))  # fmt: skip
    assert "The command ended with status 0" in done.text("process_stderr")


@pytest.mark.parametrize("runner", ["cwltool", "toil"])
def test_workflow(
    runner: str, band: Path, server: Server, store: Store, request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:  # fmt: skip
    """And the credentials are in no command line, variable, log, output or provenance."""
    command: list[Any] = [CWLTOOL, "--no-container", "--provenance", tmp_path / "provenance"]
    more = {}
    if runner == "toil":
        folder = request.getfixturevalue("toil")
        # Behind this Python: the tool's `python` is the one that has what the steps need.
        more["PATH"] = os.pathsep.join([str(Path(CWLTOOL).parent), str(folder), os.environ["PATH"]])
        command = [folder / "toil-cwl-runner", "--workDir", tmp_path, "--clean", "always"]
        command += ["--no-container"]
    inputs = {"url": server.url(band.name), "factor": 20, **store.inputs(runner)}
    with watched(store.secret) as seen:
        done = run("landsat", inputs, tmp_path, command, **more)
    check_workflow(done, server, store, runner, 20)
    assert seen["step"] and not seen["shown"]
    (tmp_path / "job.json").unlink()
    written = {"log": done.log.encode(), **files(tmp_path)}
    assert [name for name, data in written.items() if store.secret.encode() in data] == []
    assert (runner == "toil") or any(name.startswith("provenance/") for name in written)


@pytest.mark.container
def test_workflow_in_containers(
    podman: dict[str, str], server: Server, store: Store, band: Path, tmp_path: Path
) -> None:
    """In the image that holds only what the programs need, as a user that it does not know."""
    command = [CWLTOOL, "--disable-pull", "--custom-net", "host"]
    inputs = {"url": server.url(band.name), "factor": 20, **store.inputs("containers")}
    with watched(store.secret) as seen:
        user = with_user(podman, "48213:39911", tmp_path)
        done = run("landsat", inputs, tmp_path, command, **user)
    check_workflow(done, server, store, "containers", 20)
    assert seen["step"] and not seen["shown"]


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("gdalcubes_L8NY18/LC08_L1TP_013032_20180131_BQA.TIF", "mode"),
        ("LC08_L2SP_001062_20201031/SR_B5.TIF", "average"),  # has nodata
    ],
)
def test_a_real_band(name: str, method: str, realdata: Path, tmp_path: Path) -> None:
    """The notebook's step alone."""
    band = realdata / "rasters" / name
    done = run("process", {"image": located(band), "factor": 7, "method": method}, tmp_path)
    assert done.status == 0, done.log
    check_product(band, done.outputs["dataset"], 7, method)


VRT = """<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="UInt16" band="1">
<SimpleSource><SourceFilename>{}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""


@pytest.mark.parametrize("content", ["no raster", VRT])
def test_a_cell_that_raises(content: str, band: Path, tmp_path: Path) -> None:
    """The executed notebook tells which and why; no dataset, least of all one of another file."""
    broken = tmp_path / "broken.TIF"
    broken.write_text(content.format(band))
    done = run("process", {"image": located(broken)}, tmp_path)
    assert "completed permanentFail" in done.log and done.status == 1
    assert set(done.outputs) == {"notebook", "stdout", "stderr"}
    assert "broken.TIF' not recognized as being in a supported file format" in done.text("stderr")
    cells = {cell["id"]: cell for cell in json.loads(done.text("notebook"))["cells"]}
    assert cells["open"]["outputs"][-1]["output_type"] == "error"
    assert not cells["write"]["outputs"]


def test_no_cluster_now(band: Path, tmp_path: Path) -> None:
    """A gateway that cannot be reached within the start timeout: the step may be tried again."""
    variables = {
        "DASK_CLAIM_GATEWAY_URL": f"http://127.0.0.1:{free_port()}",
        "DASK_CLAIM_START_TIMEOUT": "3",
    }
    kept = [word for name in variables for word in ("--preserve-environment", name)]
    runner = [CWLTOOL, "--no-container", *kept]
    done = run("process", {"image": located(band)}, tmp_path, runner, **variables)
    assert "completed temporaryFail" in done.log and done.status != 0
    assert set(done.outputs) == {"stdout", "stderr"}


@pytest.mark.parametrize(("how", "kind"), [("404", "permanentFail"), ("cut", "temporaryFail")])
def test_nothing_to_process(
    how: str, kind: str, server: Server, store: Store, band: Path, tmp_path: Path
) -> None:
    """The workflow ends with its first step, which says why."""
    done = run("landsat", {"url": server.url(band.name, how), **store.inputs(how)}, tmp_path)
    assert f"Final process status is {kind}" in done.log and done.status != 0
    assert set(done.outputs) == {"stage_in_stdout", "stage_in_stderr"}
    assert f"/{how}/{band.name}: " in done.text("stage_in_stderr")
    assert "passw0rd" not in done.text("stage_in_stderr")


def test_the_store_refuses(store: Store, tmp_path: Path) -> None:
    """Permanently, by the step alone; one that is away is no reason to give up."""
    dataset = tmp_path / "x_downsampled"
    dataset.mkdir()
    (dataset / "x_downsampled.met.json").write_text("{}")
    inputs = {"dataset": located(dataset, "Directory"), **store.inputs("refused")}
    for changed, kind, words in (
        ({"aws_secret_access_key": "wr0ng"}, "permanentFail", "(SignatureDoesNotMatch)"),
        ({"endpoint": f"http://127.0.0.1:{free_port()}"}, "temporaryFail", "(EndpointConnection"),
    ):
        done = run("stage-out", {**inputs, **changed}, tmp_path)
        assert f"completed {kind}" in done.log and done.status != 0
        assert words in done.text("stderr")
    assert store.objects("refused") == {}


def test_on_a_gateway(gateway: GatewayServer, band: Path, tmp_path: Path) -> None:
    """The notebook's own `Client()` reaches the gateway's cluster, which is gone afterwards."""
    runner = [CWLTOOL, "--no-container", "--preserve-environment", "DASK_CLAIM_GATEWAY_URL"]
    inputs = {"image": located(band), "factor": 20, "method": "average"}
    done = run("process", inputs, tmp_path, runner, DASK_CLAIM_GATEWAY_URL=gateway.url)
    assert done.status == 0, done.log
    check_product(band, done.outputs["dataset"], 20, "average")
    assert "gateway://" in done.text("stderr")
    assert gateway.clusters() == []


def test_ended_in_a_cell(launcher: Launcher, tmp_path: Path) -> None:
    """SIGTERM ends papermill, the notebook's kernel (in a session of its own) and the cluster."""
    cells = [
        {"id": "wait", "cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None,
         "source": "import pathlib, time\npathlib.Path('ready').touch()\ntime.sleep(300)"},
    ]  # fmt: skip
    notebook = json.loads((DOCUMENT.parent / "process.ipynb").read_text()) | {"cells": cells}
    (tmp_path / "process.ipynb").write_text(json.dumps(notebook))
    command = ("papermill", "process.ipynb", "executed.ipynb", "--no-progress-bar")
    running = launcher.start(*command, claim={"max_workers": 1}, cwd=tmp_path)
    wait_for((tmp_path / "ready").exists, "the cell", 60, lambda: running.err)
    running.process.terminate()
    done = running.finish()
    assert done.status == 128 + signal.SIGTERM
    assert done.receipt and done.receipt["gone"] is True
