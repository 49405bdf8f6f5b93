"""The sample pair: the same every time, valid, and of known values."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from pystac.validation import validate_dict

from bai_example.sample import (
    CORE,
    EVENTS,
    NOISE,
    burn,
    finer,
    main,
    outside,
    positions,
    write_sample,
)
from bai_example.scenes import read_scene
from tests.bai.maps import assert_cog, computed, sample_pair

SIZE = 512
FILES = ["post.json", "post_B08.tif", "post_B12.tif", "pre.json", "pre_B08.tif", "pre_B12.tif"]


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_same_files_every_time(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "new"), "--size", "256"]) == 0
    out, err = capsys.readouterr()
    assert [*hashes(tmp_path / "new")] == FILES
    assert hashes(tmp_path / "new") == hashes(sample)
    assert f"--pre-event {tmp_path / 'new' / 'pre.json'}" in out
    assert err == ""


def known_dnbr(size: int) -> np.ndarray:
    """The dNBR the pair was made with, before noise: NaN where there is no data."""
    coarse, fine = positions(range(size // 2), size // 2), positions(range(size), size)
    known = finer(burn(*coarse))
    for event in EVENTS:
        known[outside(event, *fine) | finer(outside(event, *coarse))] = np.nan
    return known


def test_values_are_known(tmp_path: Path) -> None:
    """The map of the sample is the dNBR it was made with, but for its noise."""
    write_sample(tmp_path, SIZE)
    actual = computed(sample_pair(tmp_path)).index
    known = known_dnbr(SIZE)
    assert actual.shape == known.shape == (SIZE, SIZE)
    assert np.array_equal(np.isnan(actual), np.isnan(known))
    difference = actual - known
    assert abs(np.nanmean(difference)) < 1e-3
    assert np.nanstd(difference) < NOISE
    heart = known == CORE
    assert 0.02 < heart.mean() < 0.3
    assert actual[heart].mean() == pytest.approx(CORE, abs=1e-3)
    assert actual[heart].std() < NOISE
    assert known[0, 0] < 0.66, "the corner is outside the scar"


def test_scenes(sample: Path) -> None:
    for event, baseline, offset in (("pre", "03.01", 0.0), ("post", "05.00", -0.1)):
        for band, pixel in (("B08", 10), ("B12", 20)):
            path = sample / f"{event}_{band}.tif"
            assert_cog(path)
            with rasterio.open(path) as file:
                assert (file.res, file.dtypes, file.nodata) == ((pixel, pixel), ("uint16",), 0)
                counts = file.read(1)
            known = counts[counts > 0]
            assert 0.03 < np.mean(counts == 0) < 0.2
            assert known.min() > (1000 if event == "post" else 0)
        item = pystac.Item.from_file(str(sample / f"{event}.json"))
        assert validate_dict(item.to_dict(transform_hrefs=False))
        assert item.properties["s2:processing_baseline"] == baseline
        scene = read_scene(str(sample / f"{event}.json"))
        assert scene.nir.offset == scene.swir.offset == offset


def test_sizes_and_folders_that_do_not_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for size in ("62", "65", "x"):
        with pytest.raises(SystemExit) as caught:
            main([str(tmp_path), f"--size={size}"])
        assert caught.value.code == 2
        assert "--size" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
    (tmp_path / "file").touch()
    assert main([str(tmp_path / "file"), "--size", "64"]) == 1
    assert "cannot be written" in capsys.readouterr().err
