"""The first example of the README makes the map that it says."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio

from bai_example.scenes import read_scene
from tests.bai.maps import assert_map, counts, nbr_of

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "first_map.py"
ITEMS = Path(__file__).with_name("items")


def run(pre: Path, post: Path, out: Path, client: Any) -> np.ndarray:
    subprocess.run(
        [sys.executable, PROGRAM, pre, post, out], check=True, timeout=60,
        env={**os.environ, "DASK_SCHEDULER_ADDRESS": client.scheduler.address},
    )  # fmt: skip
    with rasterio.open(out) as file:
        assert np.isnan(file.nodata)
        assert file.overviews(1) == [2, 4, 8, 16]
    return counts(out, None)


@pytest.mark.slow
def test_first_map(sample: Path, client: Any, tmp_path: Path) -> None:
    """The same dNBR as by hand, in a program that fits on a screen; and of a later pair, both of
    whose scenes have the 1000 added."""
    pre, post = nbr_of(sample, -0.1)
    made = run(sample / "pre.json", sample / "post.json", tmp_path / "dnbr.tif", client)
    assert_map(made, pre - post)
    assert np.isfinite(pre).any()
    earlier = json.loads((sample / "post.json").read_text())
    for asset in earlier["assets"].values():
        asset["href"] = str(sample / asset["href"])
    (tmp_path / "earlier.json").write_text(json.dumps(earlier))
    same = run(tmp_path / "earlier.json", sample / "post.json", tmp_path / "same.tif", client)
    assert np.nanmax(np.abs(same)) == 0
    text = PROGRAM.read_text()
    assert len(text.splitlines()) <= 50
    assert "bai_example" not in text


@pytest.mark.parametrize("path", sorted(ITEMS.glob("S2*.json")), ids=lambda path: path.stem)
def test_offsets_of_real_items(path: Path) -> None:
    """Of 2018 to 2024, of Earth Search v0 and v1, Planetary Computer and stactools: the offset that
    `bai_example` takes, too."""
    spec = importlib.util.spec_from_file_location("first_map", PROGRAM)
    assert spec and spec.loader
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    item = pystac.Item.from_file(str(path))
    for keys in (("B08", "nir"), ("B12", "swir22")):
        asset = next(item.assets[key] for key in keys if key in item.assets)
        assert program.offset(item, asset) * 1e-4 == pytest.approx(read_scene(str(path)).nir.offset)
