"""Blocks -> COG files: layout, values at every resolution, colours, names, more than 4 GB."""

from __future__ import annotations

import itertools
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from bai_example import tiles
from bai_example.blocks import boxes
from bai_example.grid import Grid
from bai_example.output import tiff
from bai_example.output.cog import CogWriter, Description, level_shapes


def grid(*shape: int) -> Grid:
    transform = rasterio.Affine(10, 0, 600_000, 0, -10, 4_500_000)
    return Grid(CRS.from_epsg(32629), transform, (shape[0], shape[1]))


def write(
    path: Path, values: np.ndarray, description: Description | None = None, seed: int = 0
) -> Path:
    """Write an array, its blocks in a random order."""
    nodata = np.nan if values.dtype.kind == "f" else 0
    order = boxes(values.shape)
    random.Random(seed).shuffle(order)
    with CogWriter(path, grid(*values.shape), values.dtype.name, nodata) as writer:
        for box in order:
            part = values[box.top : box.bottom, box.left : box.right]
            writer.add(box.top, box.left, tiles.pyramid(np.ascontiguousarray(part)))
        writer.finish(description or Description())
    return path


def floats(*shape: int) -> np.ndarray:
    """Values like an index's, as many digits as the map has, and gaps: pixels and an area."""
    rng = np.random.default_rng(6)
    values = rng.normal(0.1, 0.3, shape)
    if values.size > 1:
        values[rng.random(shape) < 0.1] = np.nan
        values[: shape[0] // 3, : shape[1] // 4] = np.nan
    return tiles.rounded(values).astype(np.float32)


def codes(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 8, shape).astype(np.uint8)


def halved(values: np.ndarray) -> np.ndarray:
    """Mean of the two by two values that are there, by NumPy's own nanmean, in float64."""
    rows, columns = values.shape
    padded = np.pad(
        values.astype(np.float64), ((0, rows % 2), (0, columns % 2)), constant_values=np.nan
    )
    quarters = np.stack([padded[i::2, j::2] for i, j in itertools.product((0, 1), repeat=2)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "mean of empty slice": that is NaN, as it should be
        return np.nanmean(quarters, axis=0)


SIZES = [
    (1, 1), (1, 600), (511, 511), (512, 512), (513, 513), (700, 1100),
    (2048, 2048), (2049, 2049), (4097, 64), (30, 8200),
]  # fmt: skip


@pytest.mark.parametrize("shape", SIZES)
def test_every_size(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Valid, and with the right values at full resolution and in each overview."""
    values = floats(*shape)
    path = write(tmp_path / "bai.tif", values)
    assert [file.name for file in tmp_path.iterdir()] == ["bai.tif"], "its helper file is gone"
    valid, errors, warned = cog_validate(path, strict=True)
    assert valid, errors + warned
    with rasterio.open(path) as file:
        assert (file.count, file.dtypes, file.shape) == (1, ("float32",), shape)
        assert (file.crs, file.transform) == (grid(*shape).crs, grid(*shape).transform)
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


@pytest.mark.parametrize("shape", [(1, 1), (513, 700), (2049, 4100)])
def test_classes(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Of codes, the first of two by two; colours and metadata in the header."""
    values = codes(*shape)
    colors = {0: (0, 0, 0, 0), 1: (27, 120, 55, 255), 7: (142, 15, 44, 255)}
    described = Description({"PRE_EVENT": "ä & <b>"}, "Burn severity", {"CLASS_1": "low"}, colors)
    path = write(tmp_path / "severity.tif", values, described)
    valid, errors, warned = cog_validate(path, strict=True)
    assert valid, errors + warned
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


def test_blocks_in_any_order_give_the_same_file(tmp_path: Path) -> None:
    values = codes(2100, 4200)
    files = [write(tmp_path / f"{n}.tif", values, seed=n).read_bytes() for n in range(3)]
    assert files[0] == files[1] == files[2]


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="worker lost"),
        CogWriter(tmp_path / "bai.tif", grid(10, 10), "float32", np.nan) as writer,
    ):
        writer.add(0, 0, tiles.pyramid(floats(10, 10)))
        raise RuntimeError("worker lost")
    assert not [*tmp_path.iterdir()]


def test_overviews_keep_the_mean(tmp_path: Path) -> None:
    """Without gaps, and with sides that halve evenly, the last overview has the map's mean."""
    values = np.random.default_rng(8).random((1024, 2048)).astype(np.float32)
    path = write(tmp_path / "bai.tif", values)
    with rasterio.open(path, overview_level=1) as file:
        assert file.shape == (256, 512)
        assert file.read(1).mean(dtype=float) == pytest.approx(values.mean(dtype=float), abs=1e-6)


def test_more_than_4_gb(tmp_path: Path) -> None:
    """A BigTIFF whose tiles lie beyond 2³² bytes; in a sparse file, which takes no room."""
    shape = (40_000, 60_000)
    first, last = floats(512, 512), floats(512, 512) + 1
    data = {name: tiles.encode(array)[0, 0] for name, array in (("first", first), ("last", last))}
    shapes = level_shapes(shape)
    levels = [
        tiff.Level((rows, columns), [500_000] * (-(-rows // 512) * -(-columns // 512)))
        for rows, columns in shapes
    ]
    levels[0].sizes[-1] = len(data["last"])
    levels[-1].sizes[0] = len(data["first"])
    path = tmp_path / "big.tif"
    with CogWriter(path, grid(*shape), "float32", np.nan) as writer:
        template = writer._template(Description({"PRE_EVENT": "before"}, "dNBR"))
    header = tiff.header(template, levels)
    assert header[:4] == b"II+\0"
    total = len(header) + sum(sum(level.sizes) for level in levels)
    assert total > 2**32
    with path.open("wb") as file:
        file.write(header + data["first"])
        file.seek(total - len(data["last"]))
        file.write(data["last"])
    assert path.stat().st_size == total
    assert path.stat().st_blocks * 512 < 10_000_000
    valid, errors, warned = cog_validate(path, strict=True)
    assert valid, errors + warned
    with rasterio.open(path) as big:
        assert (big.shape, big.descriptions, big.tags()["PRE_EVENT"]) == (
            shape,
            ("dNBR",),
            "before",
        )
        assert big.transform == grid(*shape).transform
        assert big.overviews(1) == [2**level for level in range(1, len(shapes))]
        corner = Window(60_000 // 512 * 512, 40_000 // 512 * 512, 60_000 % 512, 40_000 % 512)
        np.testing.assert_array_equal(
            big.read(1, window=corner), last[: int(corner.height), : int(corner.width)]
        )
    with rasterio.open(path, overview_level=len(shapes) - 2) as coarsest:
        np.testing.assert_array_equal(coarsest.read(1), first[: shapes[-1][0], : shapes[-1][1]])


def test_classic_only_where_every_offset_fits(tmp_path: Path) -> None:
    """Around the limit, with the header's own length."""
    with CogWriter(tmp_path / "x.tif", grid(512, 1024), "uint8", 0) as writer:
        template = writer._template(Description())
    found = []
    for short in range(4000, -1000, -7):
        sizes = [2**31 - short, 2**31 - 200]
        levels = [tiff.Level((512, 1024), sizes), tiff.Level((256, 512), [100])]
        header = tiff.header(template, levels)
        end = len(header) + sum(sum(level.sizes) for level in levels)
        classic = header[:4] == b"II*\0"
        assert not classic or end <= 2**32
        found.append(classic)
    assert found == sorted(found, reverse=True)
    assert found[0]
    assert not found[-1]


def test_a_template_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="not a little-endian classic TIFF"):
        tiff.read(b"MM\0*" + bytes(100))


def test_the_largest_map_there_may_be(tmp_path: Path) -> None:
    """8.6 gigapixels, 35 GB without compression: GDAL writes its header without complaint."""
    with CogWriter(tmp_path / "x.tif", grid(92_681, 92_681), "float32", np.nan) as writer:
        template = writer._template(Description())
    levels = [
        tiff.Level((rows, columns), [1_000_000] * (-(-rows // 512) * -(-columns // 512)))
        for rows, columns in level_shapes((92_681, 92_681))
    ]
    header = tiff.header(template, levels)
    path = tmp_path / "header.tif"
    path.write_bytes(header)
    with rasterio.open(path) as file:
        assert file.shape == (92_681, 92_681)
