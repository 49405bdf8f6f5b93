"""What is written: a map, its classes and a picture that agree; and the client's side of blocks."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from bai_example import blocks
from bai_example import index as bai
from bai_example.access import InputError
from bai_example.blocks import Block, Statistics, compute_blocks
from bai_example.describe import draw
from bai_example.outputs import (
    ALL,
    CATALOG,
    ITEM,
    MAP,
    NAMES,
    QUICKLOOK,
    SEVERITY,
    write_maps,
)  # fmt: skip
from bai_example.pair import Layers, Pair
from bai_example.rasters import pack, unpacked
from bai_example.scenes import read_scene
from tests.bai.maps import (
    assert_cog,
    assert_map,
    counts,
    expected_nbr,
    finer,
    item,
    opened,
    windows,
)
from tests.bai.servers import rasters_over_http
from tests.support.bai import logged
from tests.support.launcher import wait_for

pytestmark = pytest.mark.xdist_group("bai")  # Matplotlib is imported once


class Result(NamedTuple):
    folder: Path
    statistics: Statistics
    pair: Pair


def make(pre: str, post: str, client: Any, folder: Path) -> Result:
    pair = opened([read_scene(pre)], [read_scene(post)])
    statistics = write_maps(folder, pair, "dnbr", compute_blocks(pair, "dnbr", client))
    draw(folder, pair, "dnbr", statistics)
    return Result(folder, statistics, pair)


@pytest.fixture(scope="module")
def result(sample: Path, client: Any, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("result")
    return make(str(sample / "pre.json"), str(sample / "post.json"), client, folder)


def test_map(result: Result, sample: Path) -> None:
    assert {path.name for path in result.folder.iterdir()} == {*ALL} - {ITEM, CATALOG}
    assert_cog(result.folder / MAP)
    with rasterio.open(result.folder / MAP) as file, rasterio.open(sample / "pre_B08.tif") as nir:
        assert (file.count, file.dtypes, file.descriptions) == (1, ("float32",), ("dNBR",))
        assert np.isnan(file.nodata)
        assert (file.crs, file.transform, file.shape) == (nir.crs, nir.transform, nir.shape)
        tags = file.tags()
        assert tags["PRE_EVENT"] == "S2B_MSIL2A_20210713_SAMPLE"
        assert tags["POST_EVENT"] == "S2A_MSIL2A_20210807_SAMPLE"
        values = file.read(1)
        said = {key: float(value) for key, value in file.tags(1).items()}
    assert said == pytest.approx({
        "STATISTICS_MINIMUM": np.nanmin(values),
        "STATISTICS_MAXIMUM": np.nanmax(values),
        "STATISTICS_MEAN": np.nanmean(values, dtype=float),
        "STATISTICS_STDDEV": np.nanstd(values, dtype=float),
    }, rel=1e-3)  # fmt: skip


def test_severity_is_that_of_the_map(result: Result) -> None:
    """And names of the classes in GDAL's own form: the text of category n is the nth, from 0."""
    assert_cog(result.folder / SEVERITY)
    values, classes = (counts(result.folder / name, None) for name in (MAP, SEVERITY))
    edges = np.array([-0.25, -0.1, 0.1, 0.27, 0.44, 0.66], np.float32)
    expected = np.where(np.isnan(values), 0, 1 + np.searchsorted(edges, values, side="right"))
    assert np.array_equal(classes, expected)
    with rasterio.open(result.folder / SEVERITY) as file, rasterio.open(result.folder / MAP) as own:
        assert (file.dtypes, file.nodata) == (("uint8",), 0)
        assert (file.crs, file.transform, file.shape) == (own.crs, own.transform, own.shape)
        for code, severity in enumerate(bai.SEVERITIES, 1):
            assert "#{:02x}{:02x}{:02x}".format(*file.colormap(1)[code][:3]) == severity.color
        assert file.colormap(1)[0] == (0, 0, 0, 0)
    root = ElementTree.parse(result.folder / NAMES).getroot()
    assert (f"{SEVERITY}.aux.xml", root.tag) == (NAMES, "PAMDataset")
    (band,) = root.findall("PAMRasterBand")
    assert band.get("band") == "1"
    names = [category.text for category in band.findall("CategoryNames/Category")]
    assert names == ["No value", *(severity.name for severity in bai.SEVERITIES)]


def test_statistics_and_areas(result: Result) -> None:
    """As computed from the files."""
    values, classes = (counts(result.folder / name, None) for name in (MAP, SEVERITY))
    known = values[~np.isnan(values)].astype(np.float64)
    said = result.statistics
    assert (said.pixels, said.valid) == (values.size, known.size)
    assert (said.minimum, said.maximum) == (known.min(), known.max())
    assert (said.mean, said.deviation) == pytest.approx((known.mean(), known.std()), rel=1e-9)
    # A pixel of 10 m on the map is larger on the ground by 1 / 0.99966², here in its zone.
    pixels = np.bincount(classes.ravel(), minlength=8)
    assert np.array_equal(said.classes, pixels)
    assert said.hectares == pytest.approx(pixels[1:] / 100 / 0.99966**2, rel=1e-4)
    assert pixels.min() > 0, "the sample shows every class"
    # The sample's only gaps are its swaths' edges: a pixel lacks one event, the other or both.
    missing = said.pixels - said.valid
    pre, post = (sum(said.without_value(event).values()) for event in (0, 1))
    assert max(pre, post) <= missing <= pre + post


def test_quicklook(result: Result) -> None:
    """Severity colours where the map has them, grey where it has nothing."""
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    picture = imread(result.folder / QUICKLOOK)[..., :3]
    assert picture.shape[0] > 600
    assert picture.shape[1] > 900

    def share(color: str) -> float:
        return float(np.mean(np.all(np.abs(picture - to_rgb(color)) < 0.01, axis=-1)))

    for severity in bai.SEVERITIES:
        assert share(severity.color) > 0.0005
    assert share("#d4d4d4") > 0.02


def block_of(values: np.ndarray, top: int = 0, left: int = 0) -> Block:
    """A block of given values of the index."""
    classes, statistics = bai.classify(values), Statistics(pixels=values.size)
    statistics.add(values)
    statistics.classes += np.bincount(classes.ravel(), minlength=8)
    window = Window(left, top, values.shape[1], values.shape[0])
    return Block(window, values, classes, statistics)


@pytest.fixture
def pair_of_shape(sample: Path) -> Callable[[tuple[int, int]], Pair]:
    """A pair of the sample's scenes whose map has another shape."""
    sides = [[Layers(read_scene(str(sample / f"{e}.json")), {})] for e in ("pre", "post")]
    corner = rasterio.Affine(10, 0, 600_000, 0, -10, 4_500_000)
    nothing = frozenset[str](), frozenset[str]()
    return lambda shape: Pair(GeoBox(shape, corner, "EPSG:32629"), sides, nothing)


@pytest.mark.parametrize("shape", [(1, 1), (512, 512), (514, 1702), (900, 60)])
def test_cogs_of_every_size(
    tmp_path: Path, pair_of_shape: Any, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    """Blocks in any order: the values at full resolution, their means in the overviews, and no
    class there that the pixels below do not have."""
    rng = np.random.default_rng(6)
    values = rng.normal(0.1, 0.3, shape).astype(np.float32)
    values[: shape[0] // 3, : shape[1] // 4] = np.nan
    monkeypatch.setattr(blocks, "BLOCK", 512)
    parts = [block_of(values[w.toslices()], w.row_off, w.col_off) for w in windows(shape)]
    pair, classes = pair_of_shape(shape), bai.classify(values)
    statistics = write_maps(tmp_path, pair, "dnbr", iter(parts[::-1]))
    draw(tmp_path, pair, "dnbr", statistics)
    assert {path.name for path in tmp_path.iterdir()} == {MAP, SEVERITY, NAMES, QUICKLOOK}
    levels = max(0, int(np.ceil(np.log2(max(shape) / 512))))
    for name, expected in ((MAP, values), (SEVERITY, classes)):
        assert_cog(tmp_path / name)
        assert np.array_equal(counts(tmp_path / name, None), expected, equal_nan=name == MAP)
        with rasterio.open(tmp_path / name) as file:
            assert file.overviews(1) == [2 ** (level + 1) for level in range(levels)]
            assert (file.compression.value, file.block_shapes) == ("DEFLATE", [(512, 512)])
    if levels:
        with rasterio.open(tmp_path / MAP, overview_level=0) as file:
            overview = file.read(1)
        with rasterio.open(tmp_path / SEVERITY, overview_level=0) as file:
            coarser = file.read(1)
            assert file.colormap(1)[7][:3] == (142, 15, 44)
        fours = [np.stack([of[i::2, j::2] for i in (0, 1) for j in (0, 1)]) for of in
                 (values, classes)]  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "mean of empty slice": that is NaN, as it should be
            means = np.nanmean(fours[0], axis=0)
        assert np.allclose(overview, means, atol=1e-5, equal_nan=True), "NaN spreads"
        assert (fours[1] == coarser).any(axis=0).all(), "a class that no pixel below has"


def test_blocks_that_travel_compressed() -> None:
    """Where the scheduler's proxy is between: every value, and less to send."""
    rng = np.random.default_rng(1)
    values = (np.rint(rng.normal(0, 0.3, (300, 2048)) * 2**20) / 2**20).astype(np.float32)
    values[:9] = np.nan
    for array in (values, bai.classify(values)):
        data = pack(array)
        assert len(data) < 0.85 * array.nbytes
        assert np.array_equal(unpacked(data), array, equal_nan=array.dtype.kind == "f")


def test_over_http(sample: Path, client: Any, result: Result, tmp_path: Path) -> None:
    """Items and rasters on a web server give the same map, and pixels are sent once."""
    with rasters_over_http(sample) as server:
        made = make(f"{server.url}/pre.json", f"{server.url}/post.json", client, tmp_path)
        assert made.pair.events[1][0].rasters["SWIR"].href == f"{server.url}/post_B12.tif"
        headers = 2 * 32_768  # by the client, and by the worker
        for path in sample.glob("*.tif"):
            assert server.sent[path.name] <= path.stat().st_size + headers
    for name in (MAP, SEVERITY):
        assert (tmp_path / name).read_bytes() == (result.folder / name).read_bytes()


def test_rasters_in_degrees(
    make_raster: Callable[..., Path], program: Callable[..., Any], tmp_path: Path
) -> None:
    """The same index; hectares of the ellipsoid; coordinates in degrees in item and picture."""
    rng = np.random.default_rng(3)
    arguments, nbr = [], []
    for event in ("pre", "post"):
        near = rng.integers(1000, 5000, (300, 400)).astype(np.uint16)
        short = rng.integers(1000, 5000, (150, 200)).astype(np.uint16)
        place = {"corner": (-8.0, 40.0), "epsg": 4326}
        assets = {
            "B08": make_raster(f"{event}_B08.tif", near, 0.0001, **place),
            "B12": make_raster(f"{event}_B12.tif", short, 0.0002, **place),
        }
        (tmp_path / f"{event}.json").write_text(json.dumps(item(event, assets)))
        arguments += [f"--{event}-event", f"{event}.json"]
        nbr.append(expected_nbr(near.astype(float), finer(short), 1e-4, 0))
    status, _ = program(*arguments, "--output-dir", "out")
    assert status == 0
    assert_map(counts(tmp_path / "out" / MAP, None), nbr[0] - nbr[1])
    document = json.loads((tmp_path / "out" / ITEM).read_text())
    hectares = sum(area["area_ha"] for area in document["properties"]["bai:severity"])
    # 0.03 x 0.04 degrees at 39.985° N, by the radii of curvature there (WGS84).
    assert hectares == pytest.approx(3330.96 * 3415.61 / 1e4, rel=2e-3)
    assert document["properties"]["proj:code"] == "EPSG:4326"
    assert document["bbox"] == pytest.approx([-8, 39.97, -7.96, 40])
    assert (tmp_path / "out" / QUICKLOOK).stat().st_size > 10_000


# The client's side of the blocks


SHAPE = (2048 * 6, 2048 * 4)


def empty_block(pair: Any, index: str, window: Any, compress: bool) -> Any:
    """As much of a block as the client looks at; runs on the workers."""
    import time

    time.sleep(0.005)
    return Block(window, None, None, Statistics())


def broken_block(pair: Any, index: str, window: Any, compress: bool) -> Any:
    if window.row_off == 4096:
        raise InputError(f"block {window.row_off}: cannot be read")
    return Block(window, None, None, Statistics())


@pytest.fixture
def large(client: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Computes blocks of a large map that have nothing in them."""

    def run(compute: Any = empty_block) -> Any:
        monkeypatch.setattr(blocks, "compute_block", compute)
        grid = GeoBox(SHAPE, rasterio.Affine.scale(1, -1), "EPSG:32629")
        pair = Pair(grid, ((), ()), (frozenset(), frozenset()))
        return compute_blocks(pair, "dnbr", client)

    return run


def tasks(client: Any) -> int:
    """How many tasks the scheduler knows of, results in memory included."""
    return int(client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))


def test_blocks_under_way(client: Any, large: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block once, a bounded number at a time, and lines of progress."""
    monkeypatch.setattr(blocks, "UNDER_WAY", 3)
    seen = []
    with logged() as lines:
        for made in large():
            seen.append(str(made.window))
            assert tasks(client) <= 3 + 1
    assert sorted(seen) == sorted(str(window) for window in windows(SHAPE))
    assert any(" of 24 blocks after " in line for line in lines)


def test_nothing_stays_on_the_cluster(client: Any, large: Any) -> None:
    """Neither after the last block, nor when the caller stops early, nor after an error; two runs
    at once share nothing: one that stops early takes nothing from the other."""

    def assert_idle() -> None:
        wait_for(lambda: not tasks(client), "end of the tasks on the cluster")

    first, second = large(), large()
    next(first)
    next(second)
    first.close()
    assert len([*second]) == 23
    assert_idle()
    some = large()
    next(some)
    some.close()
    assert_idle()
    with pytest.raises(InputError, match="block 4096: cannot be read"):
        list(large(broken_block))
    assert_idle()
