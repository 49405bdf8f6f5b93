"""The example's document in each spelling, and runners at work on it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from dask_claim.cwl.translate import translate
from tests.cwl.support import DOCUMENTS
from tests.support.gateway import clean_environment

CLAIMS = {
    "name-map": """
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
    "calrissian": """
        workerCores: $(inputs.cores)
        workerCoresLimit: 1
        workerMemory: $(inputs.memory)
        clusterMaxCore: 2
        clusterMaxMemory: 2G""",
}


def document(folder: Path, spelling: str) -> Path:
    """The document of the example as its developer wrote it, translated."""
    original = folder / "original.cwl"
    text = (DOCUMENTS / "run" / "bai.cwl").read_text().replace(" CLAIM", CLAIMS[spelling])
    original.write_text(text)
    path = folder / "bai.cwl"
    path.write_text(translate(original))
    return path


def job(folder: Path, pair: Path) -> Path:
    path = folder / "job.json"
    content = {
        "items": {"class": "Directory", "location": pair.as_uri()},
        "pre_event": "pre.json",
        "post_event": "post.json",
        "cores": 1,
        "memory": "1 G",
    }
    path.write_text(json.dumps(content))
    return path


def run(command: list[Any], folder: Path, **more: str) -> dict[str, Any]:
    """Run a runner; return what it says of the outputs."""
    work = folder / "work"
    work.mkdir()
    environment = clean_environment(**more)
    done = subprocess.run(
        [str(word) for word in command],
        cwd=work, env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outputs: dict[str, Any] = json.loads(done.stdout)
    return outputs


def pixels(path: Path) -> np.ndarray:
    import rasterio

    with rasterio.open(path) as file:
        return np.asarray(file.read())


def check_outputs(folder: Path, expected: np.ndarray) -> None:
    """The declared files and no other, and the map as it is without any runner."""
    assert sorted(path.name for path in folder.iterdir()) == ["bai.json", "bai.png", "bai.tif"]
    assert np.array_equal(pixels(folder / "bai.tif"), expected, equal_nan=True)
