"""Blocks -> COG files: layout, values at every resolution, colours, names, more than 4 GB."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from bai_example.cog import BLOCK, Cog, _Writer, encode, write_cogs
from bai_example.cog.header import header
from bai_example.cog.tiles import tiles_of
from tests.bai.maps import assert_cog

TRANSFORM = rasterio.Affine(10, 0, 600_000, 0, -10, 4_500_000)


def cog(path: Path, dtype: str, *shape: int, describe: Any = str) -> Cog:
    profile = {
        "height": shape[0], "width": shape[1], "crs": "EPSG:32629", "transform": TRANSFORM,
        "dtype": dtype, "nodata": 0 if dtype == "uint8" else np.nan,
    }  # fmt: skip
    return Cog(path, profile, describe)


def write(path: Path, values: np.ndarray, seed: int = 0, describe: Any = str) -> Path:
    """Write an array, its blocks in a random order."""
    corners = [*itertools.product(*(range(0, side, BLOCK) for side in values.shape))]
    random.Random(seed).shuffle(corners)
    encoded = ((i, j, [encode(values[i : i + BLOCK, j : j + BLOCK])]) for i, j in corners)
    write_cogs(encoded, [cog(path, values.dtype.name, *values.shape, describe=describe)])
    return path


def floats(*shape: int) -> np.ndarray:
    """Values like an index's, as many digits as the map has, and gaps: pixels and an area."""
    rng = np.random.default_rng(6)
    values = rng.normal(0.1, 0.3, shape)
    if values.size > 1:
        values[rng.random(shape) < 0.1] = np.nan
        values[: shape[0] // 3, : shape[1] // 4] = np.nan
    return (np.rint(values * 2**20) / 2**20).astype(np.float32)


def codes(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 8, shape).astype(np.uint8)


def halved(values: np.ndarray) -> np.ndarray:
    """Mean of the two by two values that are there, by NumPy's own nanmean, in float64."""
    odd = [(0, side % 2) for side in values.shape]
    padded = np.pad(values.astype(np.float64), odd, constant_values=np.nan)
    quarters = np.stack([padded[i::2, j::2] for i, j in itertools.product((0, 1), repeat=2)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "mean of empty slice": that is NaN, as it should be
        return np.nanmean(quarters, axis=0)


SIZES = [(1, 1), (512, 512), (513, 700), (2049, 2049), (100, 4096), (30, 8200)]


@pytest.mark.parametrize("shape", SIZES)
def test_every_size(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Valid, and with the right values at full resolution and in each overview."""
    values = floats(*shape)
    path = write(tmp_path / "bai.tif", values)
    assert [file.name for file in tmp_path.iterdir()] == ["bai.tif"], "its helper file is gone"
    assert_cog(path)
    with rasterio.open(path) as file:
        assert (file.count, file.dtypes, file.shape) == (1, ("float32",), shape)
        assert (file.crs.to_epsg(), file.transform) == (32629, TRANSFORM)
        assert np.isnan(file.nodata)
        assert file.compression.value == "DEFLATE"
        assert file.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"
        assert file.block_shapes == [(512, 512)]
        levels = len(file.overviews(1))
        assert file.overviews(1) == [2 ** (level + 1) for level in range(levels)]
        np.testing.assert_array_equal(file.read(1), values)
    # As COGs should: the coarsest is one tile, and none is coarser than that.
    assert levels == max(0, int(np.ceil(np.log2(max(shape) / 512))))
    for level in range(levels):
        with rasterio.open(path, overview_level=level) as file:
            actual = file.read(1)
        expected = halved(values)
        assert np.array_equal(np.isnan(actual), np.isnan(expected)), "NaN spreads"
        assert np.nanmax(np.abs(actual - expected)) < 1e-6
        values = actual


@pytest.mark.parametrize("shape", [(1, 1), (513, 700), (600, 4100)])
def test_classes(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Of codes, the first of two by two; colours and metadata in the header; blocks in any order
    give the same file."""
    values = codes(*shape)
    colors = {0: (0, 0, 0, 0), 1: (27, 120, 55, 255), 7: (142, 15, 44, 255)}

    def describe(file: Any) -> None:
        file.update_tags(PRE_EVENT="ä & <b>")
        file.update_tags(1, CLASS_1="low")
        file.set_band_description(1, "Burn severity")
        file.write_colormap(1, colors)

    path = write(tmp_path / "severity.tif", values, describe=describe)
    for seed in (1, 2):
        other = write(tmp_path / f"{seed}.tif", values, seed, describe)
        assert other.read_bytes() == path.read_bytes()
    assert_cog(path)
    with rasterio.open(path) as file:
        assert (file.nodata, file.dtypes) == (0, ("uint8",))
        assert file.tags()["PRE_EVENT"] == "ä & <b>"
        assert file.tags(1)["CLASS_1"] == "low"
        assert file.descriptions == ("Burn severity",)
        assert {code: file.colormap(1)[code] for code in colors} == colors
        assert file.colorinterp[0].name == "palette"
        np.testing.assert_array_equal(file.read(1), values)
        levels = len(file.overviews(1))
    for level in range(levels):
        values = values[::2, ::2]
        with rasterio.open(path, overview_level=level) as file:
            np.testing.assert_array_equal(file.read(1), values)
            assert file.colormap(1)[7] == colors[7]


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Any]:
        yield 0, 0, [encode(floats(10, 10))]
        raise RuntimeError("worker lost")

    with pytest.raises(RuntimeError, match="worker lost"):
        write_cogs(broken(), [cog(tmp_path / "bai.tif", "float32", 10, 10)])
    assert not [*tmp_path.iterdir()]


def test_more_than_4_gb(tmp_path: Path) -> None:
    """A BigTIFF whose tiles lie beyond 2³² bytes; in a sparse file, which takes no room."""
    shape = (40_000, 60_000)
    low, high = floats(512, 512), floats(512, 512) + 1
    first, last = (tiles_of(values)[0, 0] for values in (low, high))
    path = tmp_path / "big.tif"
    file = cog(path, "float32", *shape, describe=lambda f: f.set_band_description(1, "dNBR"))
    with _Writer(file) as writer:
        plain, shapes = writer._template(), writer._shapes
    sizes = [[500_000] * (-(-rows // 512) * -(-columns // 512)) for rows, columns in shapes]
    sizes[0][-1], sizes[-1][0] = len(last), len(first)
    head = header(plain, [*zip(shapes, sizes, strict=True)])
    assert head[:4] == b"II+\0"
    total = len(head) + sum(map(sum, sizes))
    assert total > 2**32
    with path.open("wb") as file:
        file.write(head + first)
        file.seek(total - len(last))
        file.write(last)
    assert path.stat().st_blocks * 512 < 10_000_000
    assert_cog(path)
    with rasterio.open(path) as big:
        assert (big.shape, big.descriptions, big.transform) == (shape, ("dNBR",), TRANSFORM)
        assert big.overviews(1) == [2**level for level in range(1, len(shapes))]
        corner = Window(60_000 // 512 * 512, 40_000 // 512 * 512, 60_000 % 512, 40_000 % 512)
        expected = high[: int(corner.height), : int(corner.width)]
        np.testing.assert_array_equal(big.read(1, window=corner), expected)
    with rasterio.open(path, overview_level=len(shapes) - 2) as coarsest:
        np.testing.assert_array_equal(coarsest.read(1), low[: shapes[-1][0], : shapes[-1][1]])


def test_classic_only_where_every_offset_fits(tmp_path: Path) -> None:
    """Around the limit, with the header's own length."""
    with _Writer(cog(tmp_path / "x.tif", "uint8", 512, 1024)) as writer:
        plain = writer._template()
    found = []
    for short in range(4000, -1000, -7):
        sizes = [2**31 - short, 2**31 - 200]
        head = header(plain, [((512, 1024), sizes), ((256, 512), [100])])
        classic = head[:4] == b"II*\0"
        assert not classic or len(head) + sum(sizes) + 100 <= 2**32
        found.append(classic)
    assert found == sorted(found, reverse=True)
    assert found[0] and not found[-1]
    with pytest.raises(ValueError, match="not a little-endian classic TIFF"):
        header(b"MM\0*" + bytes(100), [])


def test_a_lazy_array(tmp_path: Path) -> None:
    """A Dask array in whatever chunks."""
    import dask
    import dask.array as da

    values = floats(BLOCK + 10, BLOCK + 30)
    file = cog(tmp_path / "values.tif", "float32", *values.shape)
    with dask.config.set(scheduler="sync"):
        write_cogs(da.from_array(values, 1500), [file])
    assert_cog(file.path)
    with rasterio.open(file.path) as raster:
        np.testing.assert_array_equal(raster.read(1), values)
