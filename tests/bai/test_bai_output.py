"""What is written: a map, its classes and a picture that agree; and the client's side of blocks."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from bai_items import item
from loguru import logger
from raster_server import rasters_over_http
from rio_cogeo.cogeo import cog_validate

from bai_example import bai, blocks
from bai_example.block import Block, compute_block
from bai_example.blocks import compute_blocks
from bai_example.errors import InputError
from bai_example.grid import Box, Grid
from bai_example.inputs import read_scenes
from bai_example.load import open_pair
from bai_example.mask import REASONS
from bai_example.output.write import ALL, NAMES, write_maps
from bai_example.pair import Pair
from bai_example.scene import Scene
from bai_example.stac import to_scene
from bai_example.stats import Statistics
from bai_example.tiles import pyramid

MAP, SEVERITY, PICTURE, ITEM, _ = ALL


class Result(NamedTuple):
    folder: Path
    statistics: Statistics
    pair: Pair


def make(pre: str, post: str, client: Any, folder: Path) -> Result:
    scenes = read_scenes([pre], [post])
    pair = open_pair(*scenes)
    compute = functools.partial(compute_block, pair, index="dnbr", masked=True)
    computed = compute_blocks(compute, pair.grid.shape, client)
    return Result(folder, write_maps(folder, pair, "dnbr", computed, *scenes), pair)


@pytest.fixture(scope="module")
def result(sample: Path, client: Any, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("result")
    return make(str(sample / "pre.json"), str(sample / "post.json"), client, folder)


def read(result: Result, name: str) -> np.ndarray:
    with rasterio.open(result.folder / name) as file:
        return file.read(1)


def test_files(result: Result) -> None:
    assert {path.name for path in result.folder.iterdir()} == {*ALL} - {ITEM}


def test_map(result: Result, sample: Path) -> None:
    valid, errors, warnings = cog_validate(result.folder / MAP, strict=True)
    assert valid, errors + warnings
    with rasterio.open(result.folder / MAP) as file, rasterio.open(sample / "pre_B08.tif") as nir:
        assert (file.count, file.dtypes) == (1, ("float32",))
        assert np.isnan(file.nodata)
        assert (file.crs, file.transform, file.shape) == (nir.crs, nir.transform, nir.shape)
        assert file.descriptions == ("dNBR",)
        tags = file.tags()
        assert tags["PRE_EVENT"] == "S2B_MSIL2A_20210713_SAMPLE"
        assert tags["POST_EVENT"] == "S2A_MSIL2A_20210807_SAMPLE"
        assert tags["TIFFTAG_IMAGEDESCRIPTION"].startswith("Differenced normalized burn ratio")
        values = file.read(1)
        said = {key: float(value) for key, value in file.tags(1).items()}
    assert said["STATISTICS_MINIMUM"] == pytest.approx(np.nanmin(values))
    assert said["STATISTICS_MAXIMUM"] == pytest.approx(np.nanmax(values))
    assert said["STATISTICS_MEAN"] == pytest.approx(np.nanmean(values, dtype=float))
    assert said["STATISTICS_STDDEV"] == pytest.approx(np.nanstd(values, dtype=float))
    known = 100 * np.mean(~np.isnan(values))
    assert said["STATISTICS_VALID_PERCENT"] == pytest.approx(known, rel=1e-3)


def test_severity_is_that_of_the_map(result: Result) -> None:
    valid, errors, warnings = cog_validate(result.folder / SEVERITY, strict=True)
    assert valid, errors + warnings
    values, classes = read(result, MAP), read(result, SEVERITY)
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


def test_names_of_the_classes(result: Result) -> None:
    """In GDAL's own form: the text of category n is the nth, from 0."""
    root = ElementTree.parse(result.folder / NAMES).getroot()
    assert f"{SEVERITY}.aux.xml" == NAMES
    assert root.tag == "PAMDataset"
    (band,) = root.findall("PAMRasterBand")
    assert band.get("band") == "1"
    names = [category.text for category in band.findall("CategoryNames/Category")]
    assert names == ["No data", *(severity.name for severity in bai.SEVERITIES)]


def test_statistics_and_areas(result: Result) -> None:
    """As computed from the files."""
    values, classes = read(result, MAP), read(result, SEVERITY)
    known = values[~np.isnan(values)].astype(np.float64)
    said = result.statistics
    assert (said.pixels, said.valid) == (values.size, known.size)
    assert (said.minimum, said.maximum) == (known.min(), known.max())
    assert said.mean == pytest.approx(known.mean(), rel=1e-9)
    assert said.deviation == pytest.approx(known.std(), rel=1e-9)
    hectares = [0.01 * np.count_nonzero(classes == code) for code in range(1, 8)]
    assert [area.hectares for area in said.areas] == pytest.approx(hectares)
    assert [area.severity for area in said.areas] == [*bai.SEVERITIES]
    assert sum(area.percent for area in said.areas) == pytest.approx(100)
    assert min(hectares) > 0, "the sample shows every class"
    # The sample's only gaps are its swaths' edges, and the later one's are within the earlier's
    # nowhere and everywhere: a pixel lacks one, the other or both.
    missing = said.pixels - said.valid
    pre, post = (sum(counts.values()) for counts in said.masked.values())
    assert max(pre, post) <= missing <= pre + post


def test_statistics_do_not_depend_on_the_parts() -> None:
    """All at once, part by part, and merged from parts, some of them empty."""
    rng = np.random.default_rng(4)
    values = rng.normal(0.2, 0.4, (60, 40)).astype(np.float32)
    values[7:9] = np.nan
    classes = bai.classify(values)
    codes = rng.integers(0, len(REASONS), (60, 40)).astype(np.uint8)
    whole, parts, merged = Statistics(100), Statistics(100), Statistics(100)
    whole.add(values, classes)
    whole.add_reasons("pre_event", codes)
    merged.merge(Statistics(100))
    for row in range(0, 60, 2):
        rows = slice(row, row + 2)
        part = Statistics(100)
        for statistics in (parts, part):
            statistics.add(values[rows], classes[rows])
            statistics.add_reasons("pre_event", codes[rows])
        merged.merge(part)
    for other in (parts, merged):
        assert (other.pixels, other.valid) == (whole.pixels, whole.valid)
        assert (other.minimum, other.maximum) == (whole.minimum, whole.maximum)
        assert other.mean == pytest.approx(whole.mean, rel=1e-12)
        assert other.deviation == pytest.approx(whole.deviation, rel=1e-12)
        assert other.areas == whole.areas
        assert other.masked == whole.masked
    expected = {name: np.count_nonzero(codes == code) for code, name in enumerate(REASONS) if code}
    assert whole.masked == {"pre_event": expected, "post_event": dict.fromkeys(REASONS[1:], 0)}


def test_statistics_of_nothing() -> None:
    nothing = Statistics(100)
    assert nothing.valid_percent == 0
    assert np.isnan(nothing.deviation)
    assert {area.percent for area in nothing.areas} == {0}


def test_quicklook(result: Result) -> None:
    """Severity colours where the map has them, grey where it has nothing."""
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    picture = imread(result.folder / PICTURE)[..., :3]
    assert picture.shape[0] > 600
    assert picture.shape[1] > 900

    def share(color: str) -> float:
        return float(np.mean(np.all(np.abs(picture - to_rgb(color)) < 0.01, axis=-1)))

    for area in result.statistics.areas:
        assert share(area.severity.color) > 0.0005
    assert share("#d4d4d4") > 0.02


def block_of(values: np.ndarray, top: int = 0, left: int = 0) -> Block:
    """A block of given values of the index."""
    classes, statistics = bai.classify(values), Statistics(100)
    statistics.add(values, classes)
    box = Box(top, left, top + values.shape[0], left + values.shape[1])
    return Block(box, pyramid(values), pyramid(classes), statistics)


@pytest.fixture
def scenes(sample: Path) -> tuple[tuple[Scene, ...], tuple[Scene, ...]]:
    return read_scenes([str(sample / "pre.json")], [str(sample / "post.json")])


@pytest.mark.parametrize("shape", [(1, 1), (6, 5), (60, 900), (900, 60)])
def test_quicklook_of_any_shape(tmp_path: Path, scenes: Any, shape: tuple[int, int]) -> None:
    with rasterio.open(scenes[0][0].nir.href) as file:
        pair = Pair(Grid(file.crs, file.transform, shape), (), ())
    values = np.linspace(-0.5, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    write_maps(tmp_path, pair, "dnbr", (b for b in [block_of(values)]), *scenes)
    assert (tmp_path / PICTURE).stat().st_size > 10_000


def test_same_input_same_map(result: Result, sample: Path, client: Any, tmp_path: Path) -> None:
    again = make(str(sample / "pre.json"), str(sample / "post.json"), client, tmp_path)
    for name in (MAP, SEVERITY, NAMES, PICTURE):
        assert (tmp_path / name).read_bytes() == (result.folder / name).read_bytes()
    assert again.statistics.areas == result.statistics.areas


def test_over_http(sample: Path, client: Any, result: Result, tmp_path: Path) -> None:
    """Items and rasters on a web server give the same map, and pixels are sent once."""
    with rasters_over_http(sample) as server:
        made = make(f"{server.url}/pre.json", f"{server.url}/post.json", client, tmp_path)
        assert made.pair.post[0].swir2.band.href == f"{server.url}/post_B12.tif"
        headers = 2 * 32_768  # by the client, and by the worker
        for path in sample.glob("*.tif"):
            assert server.sent[path.name] <= path.stat().st_size + headers
    for name in (MAP, SEVERITY):
        assert (tmp_path / name).read_bytes() == (result.folder / name).read_bytes()


def test_empty_map(make_raster: Callable[..., Path], tmp_path: Path) -> None:
    """Nothing is written, and what the masks took is said for each event."""
    near = make_raster("B08.tif", np.full((8, 8), 3000, np.uint16))
    coarse = make_raster("B12.tif", np.full((4, 4), 2000, np.uint16), 20)
    classes = np.full((4, 4), 9, np.uint8)
    classes[3] = 3
    cloudy = make_raster("SCL.tif", classes, 20)
    clear = to_scene(item("clear", {"B08": near, "B12": coarse}), "/item.json")
    assets = {"B08": near, "B12": coarse, "SCL": cloudy}
    hidden = to_scene(item("hidden", assets), "/item.json")
    pair = open_pair([clear], [hidden])
    made = (compute_block(pair, box, "dnbr", True) for box in blocks.boxes((8, 8)))
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError) as caught:
        write_maps(tmp_path / "out", pair, "dnbr", made, [clear], [hidden])
    (problem,) = caught.value.problems
    assert problem.startswith("the map is empty: no pixel has a value in both events")
    assert "post-event: 75 % cloud, 25 % shadow" in problem
    assert "pre-event" not in problem
    assert "--no-mask" in problem
    assert not [*(tmp_path / "out").iterdir()]


def test_failure_in_the_middle(tmp_path: Path, scenes: Any) -> None:
    """The blocks are closed, so that the cluster is given back, and no map is there."""
    with rasterio.open(scenes[0][0].nir.href) as file:
        pair = Pair(Grid(file.crs, file.transform, file.shape), (), ())
    closed = []

    def broken() -> Iterator[Block]:
        try:
            yield block_of(np.zeros((128, 128), np.float32))
            raise RuntimeError("worker lost")
        finally:
            closed.append(True)

    with pytest.raises(RuntimeError, match="worker lost"):
        write_maps(tmp_path, pair, "dnbr", broken(), *scenes)
    assert closed
    assert not [*tmp_path.iterdir()]


# The client's side of the blocks


@pytest.mark.parametrize("shape", [(1, 1), (2048, 2048), (2049, 4097), (5000, 300)])
def test_boxes_cover_the_map_once(shape: tuple[int, int]) -> None:
    seen = np.zeros(shape, np.uint8)
    sizes = []
    for box in blocks.boxes(shape):
        assert box.top % 2048 == box.left % 2048 == 0
        assert max(box.shape) <= 2048
        seen[box.top : box.bottom, box.left : box.right] += 1
        sizes.append(box.shape[0] * box.shape[1])
    assert seen.min() == seen.max() == 1
    assert sizes == sorted(sizes, reverse=True)


def slow_block(box: Box) -> Any:
    """As much of a block as the client looks at; runs on the workers."""
    time.sleep(0.005)
    return box


def broken_block(box: Box) -> Any:
    if box.top == 4096:
        raise InputError(f"block {box.top}: cannot be read")
    return box


SHAPE = (2048 * 6, 2048 * 4)


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    try:
        yield lines
    finally:
        logger.remove(sink)


def test_every_block_once_and_progress(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More blocks than may be under way at once, slow enough for a line of progress."""
    monkeypatch.setattr(blocks, "UNDER_WAY", 5)
    monkeypatch.setattr(blocks, "EVERY", 0.02)
    with logged() as lines:
        handed_over = [*compute_blocks(slow_block, SHAPE, client)]
    assert sorted(handed_over) == sorted(blocks.boxes(SHAPE))
    assert any(" % of 24 blocks after " in line for line in lines)


def test_a_bounded_number_of_blocks_is_under_way(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "UNDER_WAY", 3)
    for _ in compute_blocks(slow_block, SHAPE, client):
        assert tasks(client) <= 3 + 1


def tasks(client: Any) -> int:
    """How many tasks the scheduler knows of, results in memory included."""
    return int(client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))


def assert_idle(client: Any) -> None:
    deadline = time.monotonic() + 10
    while tasks(client):
        assert time.monotonic() < deadline, "tasks are left on the cluster"
        time.sleep(0.02)


def test_nothing_stays_on_the_cluster(client: Any) -> None:
    """Neither after the last block, nor when the caller stops early, nor after an error."""
    assert len([*compute_blocks(slow_block, SHAPE, client)]) == 24
    assert_idle(client)
    some = compute_blocks(slow_block, SHAPE, client)
    next(some)
    some.close()
    assert_idle(client)
    with pytest.raises(InputError, match="block 4096: cannot be read"):
        list(compute_blocks(broken_block, SHAPE, client))
    assert_idle(client)


def test_two_runs_on_one_cluster_share_nothing(client: Any) -> None:
    """One that stops early takes nothing from the other, which computes the same."""
    first, second = (compute_blocks(slow_block, SHAPE, client) for _ in range(2))
    next(first)
    next(second)
    first.close()
    assert len([*second]) == 23
    assert_idle(client)


def test_blocks_are_computed_elsewhere(client: Any) -> None:
    assert os.getpid() not in compute_blocks(worker_of, (10, 10), client)


def worker_of(box: Box) -> Any:
    return os.getpid()
