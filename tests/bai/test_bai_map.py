"""The map's values, compared with NBR computed here from the same pixels, in float64."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from bai_items import item

from bai_example import bai
from bai_example.blocks import compute_blocks
from bai_example.errors import InputError
from bai_example.load import Pair, open_pair
from bai_example.stac import read_pair, to_scene


def counts(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1).astype(np.float64)


def expected_nbr(nir: np.ndarray, swir2: np.ndarray, scale: float, offset: float) -> np.ndarray:
    """NBR from counts, 0 being nodata; SWIR2 already on the NIR grid."""
    known = (nir != 0) & (swir2 != 0)
    nir, swir2 = (np.clip(band * scale + offset, 0, None) for band in (nir, swir2))
    total = nir + swir2
    known &= total > 1e-9
    return np.where(known, (nir - swir2) / np.where(known, total, 1), np.nan)


def finer(swir2: np.ndarray, ratio: int = 2) -> np.ndarray:
    return np.kron(swir2, np.ones((ratio, ratio)))


def computed(pair: Pair) -> np.ndarray:
    return bai.burned_area_intensity(pair).compute(scheduler="threads").to_numpy()


def assert_map(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    assert np.array_equal(np.isnan(actual), np.isnan(expected))
    assert np.nanmax(np.abs(actual - expected)) <= 1e-6
    assert np.isfinite(expected).mean() > 0


def test_sample_on_the_cluster(sample: Path, client: Any) -> None:
    """Blocks computed by other processes, put together, are the map; the block size is odd."""
    pair = open_pair(*read_pair(str(sample / "pre.json"), str(sample / "post.json")), block=99)
    lazy = bai.burned_area_intensity(pair)
    assert lazy.dims == ("y", "x")
    actual = np.full(lazy.shape, 9, dtype=np.float32)
    for block in compute_blocks(lazy.data, client):
        rows, columns = block.values.shape
        place = actual[block.row : block.row + rows, block.column : block.column + columns]
        assert np.all(place == 9), "computed twice"
        place[:] = block.values
    pre = expected_nbr(
        counts(sample / "pre_B08.tif"), finer(counts(sample / "pre_B12.tif")), 1e-4, 0
    )
    post = expected_nbr(
        counts(sample / "post_B08.tif"), finer(counts(sample / "post_B12.tif")), 1e-4, -0.1
    )
    assert_map(actual, pre - post)
    assert 0 < np.isnan(actual).mean() < 0.2, "the sample has an edge without data"


def test_a_block_is_one_task(sample: Path) -> None:
    """Four reads and the index: nothing of a block travels between workers."""
    pair = open_pair(*read_pair(str(sample / "pre.json"), str(sample / "post.json")), block=64)
    (lazy,) = bai.burned_area_intensity(pair).data.to_delayed(optimize_graph=True)[0, :1]
    graph = lazy.__dask_graph__().cull(lazy.__dask_keys__()).to_dict()
    # Older versions of Dask keep a task as a tuple, and its arguments as entries of their own.
    tasks = [t for t in graph.values() if callable(t[0] if isinstance(t, tuple) else t)]
    assert len(tasks) == 1


SENTINEL2 = "rio-tiler-pds__S2A_29RKH_20200219_0_L2A.json"


def test_real_sentinel2_across_the_baseline_change(
    realdata: Path, make_raster: Callable[..., Path], client: Any
) -> None:
    """A real scene and item of baseline 02.14; after it the same pixels, changed, as 05.00."""
    rasters = realdata / "rasters" / "S2A_29RKH_20200219_0_L2A"
    document = json.loads((realdata / "stac" / SENTINEL2).read_text())
    for key, name in (("nir", "B08.tif"), ("swir22", "B12.tif")):
        document["assets"][key]["href"] = str(rasters / name)
    pre = to_scene(document, "/item.json")
    nir, swir2 = counts(rasters / "B08.tif"), counts(rasters / "B12.tif")
    factor = np.random.default_rng(1).uniform(0.3, 1.2, nir.shape)
    later_nir, later_swir2 = np.rint(nir * factor) + 1000, np.rint(swir2 * 1.1) + 1000
    later_nir[:40], later_swir2[:, :30] = 0, 0
    west_north = (199980, 2800020)
    assets = {
        "B08": make_raster("B08.tif", later_nir.astype(np.uint16), 100, west_north),
        "B12": make_raster("B12.tif", later_swir2.astype(np.uint16), 200, west_north),
    }
    post = to_scene(item("post", assets, s2__processing_baseline="05.00"), "/item.json")
    pair = open_pair(pre, post, block=512)
    with rasterio.open(rasters / "B08.tif") as file:
        assert pair.grid.transform == file.transform
        assert pair.grid.shape == file.shape
        assert pair.grid.crs == file.crs
    before = expected_nbr(nir, finer(swir2), 1e-4, 0)
    after = expected_nbr(later_nir, finer(later_swir2), 1e-4, -0.1)
    actual = bai.burned_area_intensity(pair).data.compute(scheduler=client)
    assert_map(actual, before - after)


def test_real_landsat(realdata: Path, make_raster: Callable[..., Path]) -> None:
    """NIR and SWIR2 on one grid, calibrated as Landsat, with real nodata."""
    rasters = realdata / "rasters" / "LC08_L2SP_001062_20201031"
    name = "LC08_L2SP_001062_20201031_20201106_02_T2_SR_"
    with rasterio.open(rasters / "SR_B5.TIF") as file:
        profile = {"transform": file.transform, "crs": file.crs}
    nir, swir2 = counts(rasters / "SR_B5.TIF"), counts(rasters / "SR_B7.TIF")
    later = np.where(nir == 0, 0, np.rint(7000 + 0.3 * nir))
    scenes = []
    for event, (near, short) in {"pre": (nir, swir2), "post": (later, swir2)}.items():
        assets = {
            key: make_raster(f"{event}_{name}{band}.TIF", data.astype(np.uint16), **profile)
            for key, band, data in (("nir08", "B5", near), ("swir22", "B7", short))
        }
        landsat = {"s2__product_type": None, "platform": "landsat-8"}
        scenes.append(to_scene(item(event, assets, **landsat), "/item.json"))
    assert (scenes[0].nir.scale, scenes[0].nir.offset) == (2.75e-5, -0.2)
    before = expected_nbr(nir, swir2, 2.75e-5, -0.2)
    after = expected_nbr(later, swir2, 2.75e-5, -0.2)
    assert_map(computed(open_pair(*scenes, block=128)), before - after)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("20180131", "20180405", "pixel sizes do not fit: pre-event NIR has 3020.13 x 3031.56, "
         "post-event NIR has 3024.08 x 3031.56"),
        ("20180405", "20180710", r"pixels do not line up \(off by -0.00796 across, \+0 down"),
        ("20180710", "20180827", r"pixels do not line up \(off by -0.0992 across, \+0 down"),
    ],
)  # fmt: skip
def test_real_grids_that_differ(realdata: Path, first: str, second: str, message: str) -> None:
    """Five Landsat dates with one shape and five grids."""
    scenes = []
    for date in (first, second):
        path = realdata / "rasters" / "gdalcubes_L8NY18" / f"LC08_L1TP_013032_{date}"
        fields = {"raster:bands": [{"scale": 2e-5, "offset": -0.1, "nodata": 0}]}
        assets = {
            "nir08": fields | {"href": f"{path}_B5.TIF"},
            "swir22": fields | {"href": f"{path}_B7.TIF"},
        }
        scenes.append(to_scene(item(date, assets), "/item.json"))
    with pytest.raises(InputError, match=message) as caught:
        open_pair(*scenes)
    assert len(caught.value.problems) == 2  # NIR and SWIR2


def pair_of(
    make_raster: Callable[..., Path],
    pre: dict[str, Any] | None = None,
    post: dict[str, Any] | None = None,
    size: int = 8,
    block: int = 1024,
) -> Pair:
    """A pair of rasters of random counts; keywords of `make_raster` by event, ``swir2_…`` too."""
    rng = np.random.default_rng(2)
    scenes = []
    for event, options in (("pre", pre or {}), ("post", post or {})):
        shared = {k: v for k, v in options.items() if not k.startswith("swir2_")}
        own = {k.removeprefix("swir2_"): v for k, v in options.items() if k.startswith("swir2_")}
        near = {"counts": rng.integers(1000, 5000, (size, size)).astype("uint16")} | shared
        short = {"counts": rng.integers(1000, 5000, (size // 2, size // 2)).astype("uint16")}
        assets = {
            "B08": make_raster(f"{event}_B08.tif", **near),
            "B12": make_raster(f"{event}_B12.tif", **(short | shared | {"pixel": 20} | own)),
        }
        scenes.append(to_scene(item(event, assets), "/item.json"))
    return open_pair(*scenes, block=block)


def test_no_half_pixel_shift(make_raster: Callable[..., Path]) -> None:
    """Each SWIR2 pixel fills exactly its four NIR pixels, and coordinates are the NIR centres."""
    numbered = np.arange(1, 17, dtype=np.uint16).reshape(4, 4) * 100
    pair = pair_of(make_raster, {"swir2_counts": numbered})
    swir2 = np.rint(pair.pre_swir2.compute(scheduler="sync").to_numpy() * 1e4)
    for row in range(8):
        for column in range(8):
            assert swir2[row, column] == numbered[row // 2, column // 2]
    with rasterio.open(pair_path(make_raster)) as file:
        x, _ = file.xy(0, range(8))
        _, y = file.xy(range(8), 0)
    assert np.array_equal(pair.pre_swir2.x, x)
    assert np.array_equal(pair.pre_swir2.y, y)
    assert pair.pre_swir2.spatial_ref.GeoTransform == "600000.0 10.0 0.0 4500000.0 0.0 -10.0"


def pair_path(make_raster: Callable[..., Path]) -> Path:
    return make_raster("again.tif", np.ones((8, 8), dtype=np.uint16))


@pytest.mark.parametrize("block", [3, 5, 1024])
@pytest.mark.parametrize(("right", "down"), [(0, 0), (2, 4), (3, 1), (-1, -3)])
def test_scenes_that_overlap_in_part(
    make_raster: Callable[..., Path], right: int, down: int, block: int
) -> None:
    """Cropped to what both cover, also where that begins within a SWIR2 pixel."""
    corner = (600_000 + 10 * right, 4_500_000 - 10 * down)
    pair = pair_of(make_raster, post={"corner": corner}, size=12, block=block)
    top, left = max(down, 0), max(right, 0)
    shape = (12 - abs(down), 12 - abs(right))
    assert pair.grid.shape == shape
    assert (pair.grid.transform.c, pair.grid.transform.f) == (
        600_000 + 10 * left, 4_500_000 - 10 * top,
    )  # fmt: skip
    folder = Path(make_raster("x.tif", np.ones((1, 1), np.uint8))).parent
    nbr = {}
    for event, (row, column) in {"pre": (top, left), "post": (top - down, left - right)}.items():
        whole = expected_nbr(
            counts(folder / f"{event}_B08.tif"), finer(counts(folder / f"{event}_B12.tif")), 1e-4, 0
        )
        nbr[event] = whole[row : row + shape[0], column : column + shape[1]]
    assert_map(computed(pair), nbr["pre"] - nbr["post"])


def test_odd_nir_size_ends_where_swir2_ends(make_raster: Callable[..., Path]) -> None:
    wide = {"counts": np.full((9, 9), 3000, np.uint16), "swir2_counts": np.ones((4, 4), np.uint16)}
    assert pair_of(make_raster, wide).grid.shape == (8, 8)


def test_swir2_three_times_as_coarse(make_raster: Callable[..., Path]) -> None:
    """20 m and 60 m, say: any whole ratio nests."""
    coarse = np.arange(1, 17, dtype=np.uint16).reshape(4, 4)
    pair = pair_of(make_raster, {"swir2_counts": coarse, "swir2_pixel": 30}, size=12)
    values = np.rint(pair.pre_swir2.compute(scheduler="sync").to_numpy() * 1e4)
    assert np.array_equal(values, finer(coarse, 3))


REFUSED = [
    ({"epsg": 32630}, "the CRS differ: pre-event NIR has EPSG:32629, post-event NIR has EPSG:3263"),
    ({"corner": (700_000, 4_500_000)}, "do not overlap: pre-event NIR covers west 600000, "
     "south 4499920, east 600080, north 4500000;"),
    ({"corner": (600_005, 4_500_000)}, r"do not line up \(off by \+0.5 across, \+0 down"),
    ({"pixel": 20, "swir2_pixel": 40}, "pixel sizes differ: pre-event NIR has 10 x 10, "
     "post-event NIR has 20 x 20"),
    ({"pixel": 10.5, "swir2_pixel": 21}, "pixel sizes do not fit"),
    ({"swir2_pixel": 15}, "pixel sizes do not fit: pre-event NIR has 10 x 10, "
     "post-event SWIR2 has 15 x 15"),
    ({"swir2_pixel": 5}, "pixel sizes do not fit"),
    ({"swir2_corner": (600_005, 4_500_000)}, "post-event SWIR2 has its corner at"),
    ({"epsg": 4326, "pixel": 0.0001, "corner": (-8, 40)}, "needs a projected CRS"),
    ({"transform": rasterio.Affine(10, 1, 600_000, 0, -10, 4_500_000)}, "is not north up"),
    ({"transform": rasterio.Affine(10, 0, 600_000, 0, 10, 4_500_000)}, "is not north up"),
]  # fmt: skip


@pytest.mark.parametrize(("post", "message"), REFUSED)
def test_pairs_that_do_not_fit(
    make_raster: Callable[..., Path], post: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        pair_of(make_raster, post=post)
    assert all("\n" not in problem for problem in caught.value.problems)


def test_nodata_of_each_band_is_unknown(make_raster: Callable[..., Path]) -> None:
    """The raster's own nodata value, else the item's, else 0; a NIR pixel or a SWIR2 four."""
    near, short = np.full((8, 8), 3000, np.uint16), np.full((4, 4), 1500, np.uint16)
    near[0, 0], short[3, 3] = 7, 7
    later, tagless = near.copy(), short.copy()
    later[0, 1], tagless[3, 2] = 0, 0
    pre = {"counts": near, "swir2_counts": short, "nodata": 7}
    post = {"counts": later, "swir2_counts": tagless, "nodata": None}
    unknown = np.isnan(computed(pair_of(make_raster, pre, post)))
    expected = np.zeros((8, 8), dtype=bool)
    expected[0, :2] = True
    expected[6:, 4:] = True
    assert np.array_equal(unknown, expected)


def test_the_same_ground_before_and_after_baseline_0400(make_raster: Callable[..., Path]) -> None:
    near = np.arange(1, 65, dtype=np.uint16).reshape(8, 8) * 90
    short = np.arange(1, 17, dtype=np.uint16).reshape(4, 4) * 250
    scenes = []
    for baseline, shift in (("03.01", 0), ("04.00", 1000)):
        assets = {
            "B08": make_raster(f"{baseline}_B08.tif", (near + shift).astype(np.uint16)),
            "B12": make_raster(f"{baseline}_B12.tif", (short + shift).astype(np.uint16), 20),
        }
        document = item(baseline, assets, s2__processing_baseline=baseline)
        scenes.append(to_scene(document, "/item.json"))
    assert np.abs(computed(open_pair(*scenes))).max() < 1e-6


def test_index_of_dark_and_negative_reflectance() -> None:
    """No warning, no infinity, never beyond -1 and 1."""
    nir = np.array([0.3, 0.0, -0.02, 0.01, -0.01, np.nan, 1e-4, 1e-17])
    swir2 = np.array([0.1, 0.0, -0.01, -0.01, 0.02, 0.1, 1e-4, -1e-17])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        actual = bai.nbr(nir, swir2)
    np.testing.assert_allclose(actual, [0.5, np.nan, np.nan, 1, -1, np.nan, 0, np.nan], atol=1e-15)
    assert nir[2] == -0.02, "the input is left as it is"


def test_severity_table() -> None:
    """The classes follow each other without gap or overlap and cover everything."""
    limits = [(s.lower, s.upper) for s in bai.SEVERITIES]
    assert limits[0][0] == -np.inf
    assert limits[-1][1] == np.inf
    assert all(a[1] == b[0] for a, b in itertools.pairwise(limits))
    assert len({s.name for s in bai.SEVERITIES}) == len({s.color for s in bai.SEVERITIES}) == 7
