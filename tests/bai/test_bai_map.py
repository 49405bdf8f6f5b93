"""The map's values, compared with NBR computed here from the same pixels, in float64."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from bai_example import index as bai
from bai_example.access import InputError
from bai_example.blocks import compute_blocks
from bai_example.index import REASONS
from bai_example.pair import open_pair
from bai_example.scenes import to_scene
from tests.bai.maps import (
    assembled,
    assert_map,
    computed,
    counts,
    expected_nbr,
    finer,
    item,
    nbr_of,
    opened,
    pair_of,
    sample_pair,
)


def test_across_block_borders_on_the_cluster(
    make_raster: Callable[..., Path], client: Any, tmp_path: Path
) -> None:
    """Four blocks of 2300 by 2100 pixels, computed by another process, put together; three of them
    small. Later counts as baseline 05.00 writes them, 1000 more."""
    rng = np.random.default_rng(5)
    for event, added, baseline in (("pre", 0, "03.01"), ("post", 1000, "05.00")):
        near = rng.integers(0, 6000, (2300, 2100), dtype=np.uint16)
        short = rng.integers(1, 6000, (1150, 1050), dtype=np.uint16) + np.uint16(added)
        near[near > 0] += added
        assets = {
            "B08": make_raster(f"{event}_B08.tif", near, tiled=True),
            "B12": make_raster(f"{event}_B12.tif", short, 20, tiled=True),
        }
        document = item(event, assets, s2__processing_baseline=baseline)
        (tmp_path / f"{event}.json").write_text(json.dumps(document))
    pair = sample_pair(tmp_path)
    made = assembled(pair, compute_blocks(pair, "dnbr", client))
    before, after = nbr_of(tmp_path, -0.1)
    assert_map(made.index, before - after)
    assert np.array_equal(made.severity, bai.classify(made.index))
    assert made.statistics.mean == pytest.approx(np.nanmean(made.index, dtype=float), abs=1e-12)
    assert made.statistics.deviation == pytest.approx(np.nanstd(made.index, dtype=float), rel=1e-9)


SENTINEL2 = "rio-tiler-pds__S2A_29RKH_20200219_0_L2A.json"


@pytest.mark.parametrize("masked", [True, False])
def test_real_sentinel2_across_the_baseline_change(
    realdata: Path, make_raster: Callable[..., Path], masked: bool
) -> None:
    """A real scene, mask and item of baseline 02.14; then the same pixels, changed, as 05.00."""
    rasters = realdata / "rasters" / "S2A_29RKH_20200219_0_L2A"
    document = json.loads((realdata / "stac" / SENTINEL2).read_text())
    for key, name in (("nir", "B08.tif"), ("swir22", "B12.tif"), ("scl", "SCL.tif")):
        document["assets"][key]["href"] = str(rasters / name)
    pre = to_scene(document, "/item.json")
    nir, swir2 = counts(rasters / "B08.tif"), counts(rasters / "B12.tif")
    factor = np.random.default_rng(1).uniform(0.3, 1.2, nir.shape)
    later_nir, later_swir2 = np.rint(nir * factor) + 1000, np.rint(swir2 * 1.1) + 1000
    later_nir[:40], later_swir2[:, :30] = 0, 0
    later_nir[-1, -1] = 32767  # saturated
    west_north = (199980, 2800020)
    assets = {
        "B08": make_raster("B08.tif", later_nir.astype(np.uint16), 100, west_north),
        "B12": make_raster("B12.tif", later_swir2.astype(np.uint16), 200, west_north),
    }
    post = to_scene(item("post", assets, s2__processing_baseline="05.00"), "/item.json")
    pair = opened([pre], [post], masked=masked)
    with rasterio.open(rasters / "B08.tif") as file:
        assert pair.grid.affine == file.transform
        assert pair.grid.shape == file.shape
        assert pair.grid.crs.to_epsg() == file.crs.to_epsg()
    before = expected_nbr(nir, finer(swir2), 1e-4, 0)
    after = expected_nbr(later_nir, finer(later_swir2), 1e-4, -0.1)
    cloud = finer(counts(rasters / "SCL.tif")) >= 8
    if masked:
        before[cloud] = np.nan
        after[-1, -1] = np.nan
    made = computed(pair)
    assert_map(made.index, before - after)
    took = [made.statistics.without_value(event) for event in (0, 1)]
    assert took[0]["cloud"] == (np.count_nonzero(cloud) if masked else 0)
    assert took[1] == {
        **dict.fromkeys(REASONS[1:], 0),
        "no data": 40 * 1098 + 60 * 1098 - 40 * 60,
        "saturated": 1 if masked else 0,
    }


LANDSAT = "pystac-client-cassette__LC08_L2SP_033032_20231008_02_T1__landsat-c2-l2.json"


@pytest.mark.parametrize("masked", [True, False])
def test_real_landsat(realdata: Path, make_raster: Callable[..., Path], masked: bool) -> None:
    """Real bands and QA_PIXEL in an item of the catalogue's shape; NIR and SWIR on one grid."""
    rasters = realdata / "rasters" / "LC08_L2SP_001062_20201031"
    with rasterio.open(rasters / "SR_B5.TIF") as file:
        profile = {"transform": file.transform, "crs": file.crs}
    nir, swir2 = counts(rasters / "SR_B5.TIF"), counts(rasters / "SR_B7.TIF")
    later = np.where(nir == 0, 0, np.rint(7000 + 0.3 * nir))
    quality = counts(rasters / "QA_PIXEL.TIF", np.int64)
    # As USGS delivers it: not decimated, so filled where the bands are. And the day was overcast:
    # half of it is made clear.
    quality[:190] = 21824
    quality[nir == 0] = 1
    mask = make_raster("QA_PIXEL.TIF", quality.astype(np.uint16), nodata=None, **profile)
    radiometric = make_raster("QA_RADSAT.TIF", np.zeros(nir.shape, np.uint16), **profile)
    scenes = []
    for near in (nir, later):
        document = json.loads((realdata / "stac" / LANDSAT).read_text(encoding="utf-8"))
        hrefs = {
            "nir08": make_raster(f"B5_{len(scenes)}.TIF", near.astype(np.uint16), **profile),
            "swir22": rasters / "SR_B7.TIF",
            "qa_pixel": mask,
            "qa_radsat": radiometric,
        }
        for key, href in hrefs.items():
            document["assets"][key]["href"] = str(href)
        scenes.append(to_scene(document, "/item.json"))
    assert list(scenes[0].masks) == ["qa_pixel", "qa_radsat"]
    pair = opened(scenes[:1], scenes[1:], masked=masked)
    # Fill, cloud, dilated cloud, cirrus, shadow, snow, water: bits 0 to 5, and 7.
    clear = (quality & 0b10111111) == 0 if masked else np.ones(nir.shape, bool)
    before = np.where(clear, expected_nbr(nir, swir2, 2.75e-5, -0.2), np.nan)
    after = np.where(clear, expected_nbr(later, swir2, 2.75e-5, -0.2), np.nan)
    made = computed(pair)
    assert_map(made.index, before - after)
    unknown = (nir == 0) | (swir2 == 0)
    for counted in map(made.statistics.without_value, (0, 1)):
        assert counted["no data"] == np.count_nonzero(unknown | (masked & (quality == 1)))
        assert (counted["cloud"] > 10_000) == masked


@pytest.mark.parametrize(("right", "down"), [(0, 0), (2, 4), (3, 1), (-1, -3), (-2, 5)])
def test_scenes_that_overlap_in_part(
    make_raster: Callable[..., Path], tmp_path: Path, right: int, down: int
) -> None:
    """Cropped to what both cover, also where that begins within a SWIR pixel."""
    corner = (600_000 + 10 * right, 4_500_000 - 10 * down)
    pair = pair_of(make_raster, post={"corner": corner}, size=12)
    top, left = max(down, 0), max(right, 0)
    rows, columns = 12 - abs(down), 12 - abs(right)
    assert pair.grid.shape == (rows, columns)
    place = (600_000 + 10 * left, 4_500_000 - 10 * top)
    assert (pair.grid.affine.c, pair.grid.affine.f) == place
    pre, post = nbr_of(tmp_path)
    before = pre[top : top + rows, left : left + columns]
    after = post[top - down : top - down + rows, left - right : left - right + columns]
    assert_map(computed(pair).index, before - after)


@pytest.mark.parametrize("ratio", [1, 3, 4])
def test_other_ratios_of_the_pixels(
    make_raster: Callable[..., Path], tmp_path: Path, ratio: int
) -> None:
    """20 m and 60 m, say: any whole ratio nests."""
    coarse = np.arange(1, (12 // ratio) ** 2 + 1).reshape(12 // ratio, -1) * 20
    pre = {"swir2_counts": coarse.astype(np.uint16), "swir2_pixel": 10 * ratio}
    pair = pair_of(make_raster, pre, size=12)
    before, after = nbr_of(tmp_path, ratio=ratio)
    assert_map(computed(pair).index, before - after)


def test_odd_nir_size_ends_where_swir2_ends(make_raster: Callable[..., Path]) -> None:
    wide = {"counts": np.full((9, 9), 3000, np.uint16), "swir2_counts": np.ones((4, 4), np.uint16)}
    pair = pair_of(make_raster, wide)
    assert pair.grid.shape == computed(pair).index.shape == (8, 8)


REFUSED = [
    ({"epsg": 32630}, "in EPSG:32630; pre-event NIR has pixels .* in EPSG:32629"),
    ({"corner": (700_000, 4_500_000)}, "do not overlap: pre-event covers west 600000, "
     "south 4499920, east 600080, north 4500000;"),
    ({"corner": (600_005, 4_500_000)}, r"it has pixels of 10 x 10 from \(600005, 4500000\)"),
    ({"pixel": 20, "swir2_pixel": 40}, "post-event NIR: .*: the pixels do not line up"),
    ({"swir2_pixel": 15}, "post-event SWIR: .* do not line up: it has pixels of 15 x 15"),
    ({"swir2_pixel": 5}, "post-event SWIR: .* do not line up: it has pixels of 5 x 5"),
    ({"swir2_corner": (600_005, 4_500_000)}, "post-event SWIR: .*: the pixels do not line up"),
    ({"swir2_corner": (700_000, 4_500_000)}, "do not overlap: pre-event covers"),
    ({"crs": None}, "needs a projected or geographic CRS"),
    ({"transform": rasterio.Affine(10, 1, 600_000, 0, -10, 4_500_000)}, "is not north up"),
    ({"transform": rasterio.Affine(10, 0, 600_000, 0, 10, 4_500_000)}, "is not north up"),
]  # fmt: skip


def test_pairs_that_do_not_fit(make_raster: Callable[..., Path]) -> None:
    """Where a file is missing there is no grid to compare the others with."""
    for post, message in REFUSED:
        with pytest.raises(InputError, match=message) as caught:
            pair_of(make_raster, post=post)
        assert all("\n" not in problem for problem in caught.value.args)
    pair = pair_of(make_raster)
    Path(pair.events[0][0].rasters["NIR"].href).unlink()
    with pytest.raises(InputError) as caught:
        opened([pair.events[0][0].scene], [pair.events[1][0].scene])
    (problem,) = caught.value.args
    assert problem.startswith("pre-event NIR: ")


def test_nodata_of_each_band_is_unknown(make_raster: Callable[..., Path]) -> None:
    """The raster's own nodata value, else the item's, else 0; NaN; a NIR pixel or a SWIR four."""
    near, short = np.full((8, 8), 3000, np.uint16), np.full((4, 4), 1500, np.uint16)
    near[0, 0], short[3, 3] = 7, 7
    later, tagless = near.astype(np.float32), short.copy()
    later[0, 1], later[0, 2], tagless[3, 2] = 0, np.nan, 0
    pre = {"counts": near, "swir2_counts": short, "nodata": 7}
    post = {"counts": later, "swir2_counts": tagless, "nodata": None}
    made = computed(pair_of(make_raster, pre, post))
    expected = np.zeros((8, 8), dtype=bool)
    expected[0, :3] = True
    expected[6:, 4:] = True
    assert np.array_equal(np.isnan(made.index), expected)
    assert np.array_equal(made.severity == 0, expected)
    assert [made.statistics.without_value(event)["no data"] for event in (0, 1)] == [5, 6]


@pytest.mark.parametrize("masked", [True, False])
def test_saturated_counts(make_raster: Callable[..., Path], masked: bool) -> None:
    """Left out from the largest count that Sen2Cor gives on, in either band, and counted."""
    near, short = np.full((8, 8), 32766, np.uint16), np.full((4, 4), 1500, np.uint16)
    near[0, :2], short[3, 3] = (32767, 65535), 32767
    counts = {"counts": near, "swir2_counts": short}
    pair = pair_of(make_raster, counts, masked=masked)
    made = computed(pair)
    expected = np.zeros((8, 8), dtype=bool)
    if masked:
        expected[0, :2] = expected[6:, 6:] = True
    assert np.array_equal(np.isnan(made.index), expected)
    assert made.statistics.without_value(0)["saturated"] == (6 if masked else 0)
    assert made.statistics.without_value(1)["saturated"] == 0


def test_dark_pixels_are_a_reason_of_their_own(make_raster: Callable[..., Path]) -> None:
    """Where neither band has any light there is no ratio, and that is told."""
    near, short = np.full((8, 8), 1500, np.uint16), np.full((4, 4), 1500, np.uint16)
    near[:2, :2], short[0, 0] = 990, 1000
    dark = {"counts": near, "swir2_counts": short}
    pair = pair_of(make_raster, {}, dark, offset=-0.1)
    made = computed(pair)
    assert np.count_nonzero(np.isnan(made.index)) == 4
    assert made.statistics.without_value(1) == dict.fromkeys(REASONS[1:], 0) | {"dark": 4}
    assert made.statistics.shares(1) == "dark 6.2 %"


def test_classes_are_masked_by_name_and_by_side(make_raster: Callable[..., Path]) -> None:
    """A fresh burn may pass for water: it is kept after the event, where one says so."""
    near, short = np.full((8, 8), 3000, np.uint16), np.full((4, 4), 1500, np.uint16)
    scl = np.full((4, 4), 4, np.uint8)
    scl[0, 0], scl[1, 1], scl[2, 2], scl[3, 3] = 6, 9, 0, 3
    assets = {
        "B08": make_raster("B08.tif", near), "B12": make_raster("B12.tif", short, 20),
        "SCL": make_raster("SCL.tif", scl, 20, nodata=None),
    }  # fmt: skip
    scene = to_scene(item("a", assets), "/item.json")
    classes = frozenset({"cloud", "shadow", "snow", "water"})
    statistics = computed(open_pair([scene], [scene], (classes, classes - {"water"}))).statistics
    took = dict.fromkeys(REASONS[1:], 0) | {"no data": 4, "cloud": 4, "shadow": 4}
    assert statistics.without_value(0) == took | {"water": 4}
    assert statistics.without_value(1) == took
    only = computed(open_pair([scene], [scene], (frozenset({"cloud"}), frozenset()))).statistics
    assert only.without_value(0) == dict.fromkeys(REASONS[1:], 0) | {"no data": 4, "cloud": 4}
