"""The first example of the tutorials makes the map that it says."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio

from bai_example.scenes import read_scene, to_scene
from tests.bai.maps import assert_map, counts, nbr_of

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "first_map.py"
ITEMS = Path(__file__).with_name("items")


@pytest.fixture(scope="module")
def program() -> Any:
    """Its functions."""
    spec = importlib.util.spec_from_file_location("first_map", PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_first_map(sample: Path, client: Any, program: Any, tmp_path: Path) -> None:
    """The same dNBR as by hand, in a program that fits on a screen; and of a later pair, both of
    whose scenes have the 1000 added."""
    out = tmp_path / "dnbr.tif"
    subprocess.run(
        [sys.executable, PROGRAM, sample / "pre.json", sample / "post.json", out],
        check=True, timeout=60,
        env={**os.environ, "DASK_SCHEDULER_ADDRESS": client.scheduler.address},
    )  # fmt: skip
    with rasterio.open(out) as file:
        assert np.isnan(file.nodata)
        assert file.overviews(1) == [2, 4, 8, 16]
    pre, post = nbr_of(sample, -0.1)
    assert_map(counts(out, None), pre - post)
    assert np.isfinite(pre).any()
    later = program.nbr(pystac.Item.from_file(str(sample / "post.json"))).compute()
    np.testing.assert_allclose(later, post, atol=1e-6)
    text = PROGRAM.read_text()
    assert len(text.splitlines()) <= 50
    assert "bai_example" not in text


@pytest.mark.parametrize("path", sorted(ITEMS.glob("S2*.json")), ids=lambda path: path.stem)
def test_offsets_of_real_items(program: Any, path: Path) -> None:
    """Of 2019 to 2024, of Earth Search v0 and v1, Planetary Computer and stactools: the offset that
    `bai_example` takes, too. And of an item of 2018, of 2021 and of 2022, by the baseline."""
    item = pystac.Item.from_file(str(path))
    for keys in (("B08", "nir"), ("B12", "swir22")):
        asset = next(item.assets[key] for key in keys if key in item.assets)
        assert program.offset(item, asset) * 1e-4 == pytest.approx(read_scene(str(path)).nir.offset)
    for baseline in ("02.08", "03.01", "04.00") if "planetary" in path.stem else ():
        item.properties["s2:processing_baseline"] = baseline
        expected = to_scene(item.to_dict(transform_hrefs=False), "/item.json").nir.offset
        assert program.offset(item, asset) * 1e-4 == expected
