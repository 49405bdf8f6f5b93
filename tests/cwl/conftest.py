"""Runners, each in an environment of its own, and the sample pair."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cwl.running import pixels
from tests.cwl.support import built_image
from tests.support.gateway import clean_environment

_KEPT = os.environ.get("CLAIM_TEST_ENVIRONMENTS")
"""A folder that keeps the runners' environments, for whoever runs these tests often."""

LARGEST = 700
"""MB. Twice the base and half of it rasterio, pandas and matplotlib; nobody should double it."""


def _installed(factory: pytest.TempPathFactory, name: str, package: str) -> Path:
    """The `bin` of a virtual environment with one runner."""
    folder = Path(_KEPT) / name if _KEPT else factory.mktemp("environments") / name
    if not (folder / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", package], check=True)
        (folder / "done").touch()
    return folder / "bin"


@pytest.fixture(scope="session")
def toil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _installed(tmp_path_factory, "toil", "toil[cwl]>=9")


@pytest.fixture(scope="session")
def calrissian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calrissian, with the cwltool that it is pinned to."""
    return _installed(tmp_path_factory, "calrissian", "calrissian==0.18.1")


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample pair."""
    from bai_example.sample import write_sample

    folder = tmp_path_factory.mktemp("pair")
    write_sample(folder, 256)
    return folder


@pytest.fixture(scope="session")
def expected(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The map without any runner."""
    folder = tmp_path_factory.mktemp("expected")
    command = ["dask-claim", "--max-workers", "1", "--", "python", "-m", "bai_example"]
    command += ["--pre-event", str(pair / "pre.json"), "--post-event", str(pair / "post.json")]
    subprocess.run(
        [*command, "--output-dir", str(folder)],
        env=clean_environment(), check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return pixels(folder / "bai.tif")


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables with which podman runs here; the image is built."""
    folder = tmp_path_factory.mktemp("image")
    variables = built_image(folder)
    assert int((folder / "size").read_text()) < LARGEST * 1_000_000
    return variables
