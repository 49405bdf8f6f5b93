"""What is written: a map, its classes and a picture that agree; and the client's side of blocks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from bai_example import blocks
from bai_example import index as bai
from bai_example.access import InputError
from bai_example.blocks import Block, compute_blocks
from bai_example.cog import encode
from bai_example.grid import Grid
from bai_example.index import REASONS
from bai_example.item import ALL, CATALOG, ITEM
from bai_example.maps import MAP, NAMES, QUICKLOOK, SEVERITY, write_maps
from bai_example.pair import Pair, open_pair
from bai_example.scenes import Scene, read_scene
from bai_example.statistics import Statistics
from tests.bai.maps import assert_cog, assert_map, counts, expected_nbr, finer, item
from tests.bai.servers import rasters_over_http
from tests.support.bai import logged
from tests.support.launcher import wait_for

pytestmark = pytest.mark.xdist_group("bai")  # Matplotlib is imported once
Scenes = tuple[list[Scene], list[Scene]]


class Result(NamedTuple):
    folder: Path
    statistics: Statistics
    pair: Pair


def make(pre: str, post: str, client: Any, folder: Path) -> Result:
    scenes = [read_scene(pre)], [read_scene(post)]
    pair = open_pair(*scenes)
    computed = compute_blocks(pair, "dnbr", True, client)
    return Result(folder, write_maps(folder, pair.grid, "dnbr", computed, *scenes), pair)


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
        assert tags["TIFFTAG_IMAGEDESCRIPTION"].startswith("Differenced normalized burn ratio")
        values = file.read(1)
        said = {key: float(value) for key, value in file.tags(1).items()}
    assert said == pytest.approx({
        "STATISTICS_MINIMUM": np.nanmin(values),
        "STATISTICS_MAXIMUM": np.nanmax(values),
        "STATISTICS_MEAN": np.nanmean(values, dtype=float),
        "STATISTICS_STDDEV": np.nanstd(values, dtype=float),
        "STATISTICS_VALID_PERCENT": 100 * np.mean(~np.isnan(values)),
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
            assert file.tags(1)[f"CLASS_{code}"] == severity.name
        assert file.colormap(1)[0] == (0, 0, 0, 0)
    root = ElementTree.parse(result.folder / NAMES).getroot()
    assert (f"{SEVERITY}.aux.xml", root.tag) == (NAMES, "PAMDataset")
    (band,) = root.findall("PAMRasterBand")
    assert band.get("band") == "1"
    names = [category.text for category in band.findall("CategoryNames/Category")]
    assert names == ["No data", *(severity.name for severity in bai.SEVERITIES)]


def test_statistics_and_areas(result: Result) -> None:
    """As computed from the files."""
    values, classes = (counts(result.folder / name, None) for name in (MAP, SEVERITY))
    known = values[~np.isnan(values)].astype(np.float64)
    said = result.statistics
    assert (said.pixels, said.valid) == (values.size, known.size)
    assert (said.minimum, said.maximum) == (known.min(), known.max())
    assert said.mean == pytest.approx(known.mean(), rel=1e-9)
    assert said.deviation == pytest.approx(known.std(), rel=1e-9)
    hectares = [0.01 * np.count_nonzero(classes == code) for code in range(1, 8)]
    assert said.hectares == pytest.approx(hectares)
    assert np.array_equal(said.classes, np.bincount(classes.ravel(), minlength=8))
    assert min(hectares) > 0, "the sample shows every class"
    # The sample's only gaps are its swaths' edges: a pixel lacks one event, the other or both.
    missing = said.pixels - said.valid
    pre, post = (sum(counts.values()) for counts in said.masked.values())
    assert max(pre, post) <= missing <= pre + post


def test_statistics_do_not_depend_on_the_parts() -> None:
    """All at once, and merged from parts, some of them empty."""
    values = np.random.default_rng(4).normal(0.2, 0.4, (60, 40)).astype(np.float32)
    values[7:9] = np.nan
    known, areas = values[~np.isnan(values)].astype(np.float64), np.linspace(90, 110, 60)
    whole, merged = Statistics(pixels=2400), Statistics()
    whole.add(values, bai.classify(values), areas)
    merged.merge(Statistics())
    for top in range(0, 60, 2):
        rows, part = slice(top, top + 2), Statistics(pixels=80)
        part.add(values[rows], bai.classify(values[rows]), areas[rows])
        part.reasons[0, 3] += top
        merged.merge(part)
    assert (merged.pixels, merged.valid, merged.minimum) == (2400, 58 * 40, whole.minimum)
    for said in (whole, merged):
        assert said.maximum == np.nanmax(values)
        assert said.mean == pytest.approx(known.mean(), rel=1e-12)
        assert said.deviation == pytest.approx(known.std(), rel=1e-12)
        for code, hectares in enumerate(said.hectares, 1):
            there = bai.classify(values) == code
            assert hectares == pytest.approx((areas[:, np.newaxis] * there).sum() / 1e4)
    assert merged.masked["pre_event"] == dict.fromkeys(REASONS[1:], 0) | {"cloud": 30 * 29}


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


def block_of(values: np.ndarray) -> Block:
    """A block of given values of the index."""
    classes, statistics = bai.classify(values), Statistics(pixels=values.size)
    statistics.add(values, classes, np.full(len(values), 100.0))
    window = Window(0, 0, values.shape[1], values.shape[0])
    return Block(window, (encode(values), encode(classes)), statistics)


@pytest.fixture
def scenes(sample: Path) -> Scenes:
    return [read_scene(str(sample / "pre.json"))], [read_scene(str(sample / "post.json"))]


@pytest.mark.parametrize("shape", [(1, 1), (60, 900), (900, 60)])
def test_quicklook_of_any_shape(tmp_path: Path, scenes: Scenes, shape: tuple[int, int]) -> None:
    with rasterio.open(scenes[0][0].nir.href) as file:
        grid = Grid(file.crs, file.transform, shape)
    values = np.linspace(-0.5, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    write_maps(tmp_path, grid, "dnbr", (b for b in [block_of(values)]), *scenes)
    assert (tmp_path / QUICKLOOK).stat().st_size > 10_000


def test_failure_in_the_middle(tmp_path: Path, scenes: Scenes) -> None:
    """The blocks are closed, so that the cluster is given back, and no map is there."""
    with rasterio.open(scenes[0][0].nir.href) as file:
        grid = Grid(file.crs, file.transform, file.shape)
    closed = []

    def broken() -> Iterator[Block]:
        try:
            yield block_of(np.zeros((128, 128), np.float32))
            raise RuntimeError("worker lost")
        finally:
            closed.append(True)

    with pytest.raises(RuntimeError, match="worker lost"):
        write_maps(tmp_path, grid, "dnbr", broken(), *scenes)
    assert closed
    assert not [*tmp_path.iterdir()]


def test_over_http(sample: Path, client: Any, result: Result, tmp_path: Path) -> None:
    """Items and rasters on a web server give the same map, and pixels are sent once."""
    with rasters_over_http(sample) as server:
        made = make(f"{server.url}/pre.json", f"{server.url}/post.json", client, tmp_path)
        assert made.pair.post[0].rasters["SWIR"].href == f"{server.url}/post_B12.tif"
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


def test_windows_cover_the_map_once() -> None:
    for shape in ((1, 1), (2048, 2048), (2049, 4097), (5000, 300)):
        seen, sizes = np.zeros(shape, np.uint8), []
        for window in blocks.windows(shape):
            assert window.row_off % 2048 == window.col_off % 2048 == 0
            assert max(window.height, window.width) <= 2048
            seen[window.toslices()] += 1
            sizes.append(window.height * window.width)
        assert seen.min() == seen.max() == 1
        assert sizes == sorted(sizes, reverse=True)


SHAPE = (2048 * 6, 2048 * 4)


def empty_block(pair: Any, index: str, masked: bool, window: Any) -> Any:
    """As much of a block as the client looks at; runs on the workers."""
    import time

    time.sleep(0.005)
    return window, (None, None), {}


def broken_block(pair: Any, index: str, masked: bool, window: Any) -> Any:
    if window.row_off == 4096:
        return {"problems": [f"block {window.row_off}: cannot be read"], "temporary": True}
    return window, (None, None), {}


@pytest.fixture
def large(client: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Computes blocks of a large map that have nothing in them."""

    def run(compute: Any = empty_block) -> Any:
        monkeypatch.setattr(blocks, "compute_block", compute)
        return compute_blocks(Pair(Grid(None, None, SHAPE), (), ()), "dnbr", True, client)

    return run


def tasks(client: Any) -> int:
    """How many tasks the scheduler knows of, results in memory included."""
    return int(client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))


def test_blocks_under_way(client: Any, large: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block once, a bounded number at a time, and lines of progress."""
    monkeypatch.setattr(blocks, "UNDER_WAY", 3)
    monkeypatch.setattr(blocks, "EVERY", 0.02)
    seen = []
    with logged() as lines:
        for made in large():
            seen.append(str(made.window))
            assert tasks(client) <= 3 + 1
    assert sorted(seen) == sorted(str(window) for window in blocks.windows(SHAPE))
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
