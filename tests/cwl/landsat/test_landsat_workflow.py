"""The workflow and its steps under real runners, without and with containers."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from tests.support.cwl import Calrissian, Cwltool, Done, Toil
from tests.support.gateway import GatewayServer, free_port
from tests.support.images import LANDSAT, Podman
from tests.support.landsat import DOCUMENT, FOLDER, Server, Store
from tests.support.launcher import Launcher, wait_for
from tests.support.missing import need

pytestmark = pytest.mark.slow

STEPS = ("stage_in", "process", "stage_out")


def words(step: str, inputs: dict[str, Any], folder: Path) -> list[Any]:
    """The workflow, or one step of it alone, as a runner's last words; outputs go to `folder`."""
    need("node")
    (folder / "job.json").write_text(json.dumps(inputs))
    return ["--outdir", folder / "outputs", f"{DOCUMENT}#{step}", folder / "job.json"]


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


def check_workflow(done: Done, server: Server, store: Store, prefix: str, method: str) -> None:
    """All outputs, and in the store the dataset with the right bytes."""
    assert done.status == 0, done.err
    assert set(done.outputs) == {
        "image", "dataset", "notebook",
        *(f"{step}_{stream}" for step in STEPS for stream in ("stdout", "stderr")),
    }  # fmt: skip
    image, dataset = done.path("image"), done.path("dataset")
    assert image.read_bytes() == server.content
    check_product(image, dataset, 20, method)
    sent = {f"{prefix}/{dataset.name}/{name}": data for name, data in files(dataset).items()}
    assert store.objects(prefix) == sent
    assert set(done.text("stage_out_stdout").split()) == {f"s3://maps/{key}" for key in sent}
    notebook = json.loads(done.text("notebook"))
    assert any("image/png" in out.get("data", {}) for cell in notebook["cells"]
               for out in cell.get("outputs", []))  # fmt: skip
    assert "The command ended with status 0" in done.text("process_stderr")


Check = Callable[..., Done]


@pytest.fixture
def check(band: Path, band_server: Server, store: Store, tmp_path: Path) -> Check:
    """Run the workflow; the credentials are in no command line, variable, log or file."""

    def run(runner: Callable[..., Done], *flags: Any, method: str = "mode", **more: str) -> Done:
        prefix = tmp_path.name
        inputs = {"url": band_server.url(band.name), "factor": 20, "method": method}
        last = words("landsat", inputs | store.inputs(prefix), tmp_path)
        with watched(store.secret) as seen:
            done = runner(*flags, *last, folder=tmp_path, **more)
        check_workflow(done, band_server, store, prefix, method)
        assert seen["step"] and not seen["shown"]
        (tmp_path / "job.json").unlink()
        written = {"log": done.err.encode(), **files(tmp_path)}
        assert [name for name, data in written.items() if store.secret.encode() in data] == []
        return done

    return run


def test_cwltool(check: Check, cwltool: Cwltool, gateway: GatewayServer, tmp_path: Path) -> None:
    """With its provenance; the notebook's own `Client()` reaches the gateway's cluster."""
    name = "DASK_CLAIM_GATEWAY_URL"
    flags = ["--no-container", "--provenance", tmp_path / "provenance", "--preserve-environment"]
    done = check(cwltool, *flags, name, method="average", **{name: gateway.url})
    assert (tmp_path / "provenance" / "bagit.txt").exists()
    assert "gateway://" in done.text("process_stderr")


@pytest.mark.deep
def test_toil(check: Check, toil: Toil) -> None:
    check(toil, "--no-container")


@pytest.mark.deep
@pytest.mark.container
def test_containers(check: Check, cwltool: Cwltool, podman: Podman, tmp_path: Path) -> None:
    """As a user that the image does not know."""
    docker = podman.docker(tmp_path, "48213:39911")
    check(cwltool, "--disable-pull", "--custom-net", "host", **docker)


@pytest.mark.deep
def test_calrissian(calrissian: Calrissian, band: Path, tmp_path: Path) -> None:
    """Its pinned cwltool makes the three jobs; no secret is in what becomes a pod."""
    dataset = tmp_path / "x_downsampled"
    dataset.mkdir()
    inputs: dict[str, dict[str, Any]] = {
        "stage-in": {"url": "https://example.org/x.TIF"},
        "process": {"image": {"class": "File", "location": band.as_uri()}},
        "stage-out": {
            "dataset": {"class": "Directory", "location": dataset.as_uri()},
            "destination": "s3://maps/x", "aws_access_key_id": "s3cret-id",
            "aws_secret_access_key": "s3cret-key", "aws_session_token": "s3cret-token",
        },
    }  # fmt: skip
    made = calrissian.jobs(*((f"{DOCUMENT}#{step}", inputs[step]) for step in inputs))
    jobs = {step: job for step, (job,) in zip(inputs, made, strict=True)}
    assert {job["image"] for job in jobs.values()} == {LANDSAT}
    assert all(job["temporary"] == [75] for job in jobs.values())
    assert jobs["process"]["command"][:3] == ["dask-claim", "--", "papermill"]
    for name, step in (("stage_in.py", "stage-in"), ("process.ipynb", "process"),
                       ("stage_out.py", "stage-out")):  # fmt: skip
        assert jobs[step]["files"][name] == (FOLDER / name).read_text()
    assert jobs["stage-out"]["files"]["credentials"].count("(secret-") == 3
    assert "s3cret" not in json.dumps(made)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("gdalcubes_L8NY18/LC08_L1TP_013032_20180131_BQA.TIF", "mode"),
        ("LC08_L2SP_001062_20201031/SR_B5.TIF", "average"),  # has nodata
    ],
)
def test_a_real_band(
    name: str, method: str, realdata: Path, cwltool: Cwltool, tmp_path: Path
) -> None:
    """The notebook's step alone."""
    band = realdata / "rasters" / name
    inputs = {"image": located(band), "factor": 7, "method": method}
    done = cwltool("--no-container", *words("process", inputs, tmp_path), folder=tmp_path)
    assert done.status == 0, done.err
    check_product(band, done.path("dataset"), 7, method)


VRT = """<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="UInt16" band="1">
<SimpleSource><SourceFilename>{}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""


@pytest.mark.deep
def test_a_cell_that_raises(band: Path, cwltool: Cwltool, tmp_path: Path) -> None:
    """The executed notebook tells which and why; no dataset, least of all one of another file."""
    broken = tmp_path / "broken.TIF"
    broken.write_text(VRT.format(band))
    last = words("process", {"image": located(broken)}, tmp_path)
    done = cwltool("--no-container", *last, folder=tmp_path)
    assert "completed permanentFail" in done.err and done.status == 1
    assert {name for name, value in done.outputs.items() if value} == {
        "notebook", "stdout", "stderr"
    }  # fmt: skip
    assert "broken.TIF' not recognized as being in a supported file format" in done.text("stderr")
    cells = {cell["id"]: cell for cell in json.loads(done.text("notebook"))["cells"]}
    assert cells["open"]["outputs"][-1]["output_type"] == "error"
    assert not cells["write"]["outputs"]


def test_what_fails_now_and_for_good(
    band: Path, band_server: Server, store: Store, cwltool: Cwltool, tmp_path: Path
) -> None:
    """The first step, by which the workflow ends; no cluster now; and the store's answers."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    dataset = tmp_path / "x_downsampled"
    dataset.mkdir()
    (dataset / "x_downsampled.met.json").write_text("{}")
    given = {"dataset": located(dataset, "Directory"), **store.inputs("refused")}
    first = {"stage_in_stdout", "stage_in_stderr"}
    step = {"stdout", "stderr"}
    for name, inputs, kind, outputs, text in (
        ("landsat", {"url": band_server.url(band.name, "404")}, "permanentFail", first, "/404/"),
        ("landsat", {"url": band_server.url(band.name, "cut")}, "temporaryFail", first, "/cut/"),
        ("process", {"image": located(band)}, "temporaryFail", step, f"{nowhere} was not ready"),
        ("stage-out", given | {"aws_secret_access_key": "wr0ng"}, "permanentFail", step,
         "(SignatureDoesNotMatch)"),
        ("stage-out", given | {"endpoint": nowhere}, "temporaryFail", step, "(EndpointConnection"),
    ):  # fmt: skip
        variables = {"DASK_CLAIM_GATEWAY_URL": nowhere, "DASK_CLAIM_START_TIMEOUT": "1"}
        kept = [word for each in variables for word in ("--preserve-environment", each)]
        if name == "landsat":
            inputs = inputs | store.inputs("refused")
        last = words(name, inputs, tmp_path)
        done = cwltool("--no-container", *kept, *last, folder=tmp_path, **variables)
        assert f"completed {kind}" in done.err and done.status == 1, done.err
        assert {each for each, value in done.outputs.items() if value} == outputs
        shown = done.text(next(each for each in outputs if each.endswith("stderr")))
        assert text in shown and "passw0rd" not in shown
    assert store.objects("refused") == {}


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
