"""What is written: a clean COG, a valid STAC item, a picture; all three or none."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from bai_items import item
from pystac.validation import validate_dict
from rio_cogeo.cogeo import cog_validate

from bai_example import bai, blocks
from bai_example.blocks import Block, compute_blocks
from bai_example.errors import InputError
from bai_example.grid import Grid
from bai_example.load import open_pair
from bai_example.stac import Scene, read_pair, to_scene
from bai_example.stats import Statistics
from bai_example.write import Result, prepare, write_result


@pytest.fixture(scope="module")
def result(sample: Path, client: Any, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return make(sample, client, tmp_path_factory.mktemp("result"))


def make(sample: Path, client: Any, folder: Path) -> Result:
    pre, post = read_pair(str(sample / "pre.json"), str(sample / "post.json"))
    pair = open_pair(pre, post, block=128)
    lazy = bai.burned_area_intensity(pair)
    return write_result(folder, pair.grid, compute_blocks(lazy.data, client), pre, post)


def test_cog(result: Result, sample: Path) -> None:
    valid, errors, warnings = cog_validate(result.map, strict=True)
    assert valid, errors + warnings
    with rasterio.open(result.map) as file, rasterio.open(sample / "pre_B08.tif") as nir:
        assert (file.count, file.dtypes) == (1, ("float32",))
        assert np.isnan(file.nodata)
        assert (file.crs, file.transform, file.shape) == (nir.crs, nir.transform, nir.shape)
        assert file.compression.value == "DEFLATE"
        assert file.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"
        assert file.block_shapes == [(512, 512)]
        assert file.descriptions == ("dNBR",)
        assert file.tags()["PRE_EVENT"] == "S2B_MSIL2A_20210713_SAMPLE"
        values = file.read(1)
        assert float(file.tags(1)["STATISTICS_MEAN"]) == pytest.approx(
            np.nanmean(values, dtype=float)
        )


def test_overviews_of_a_larger_map(tmp_path: Path, sample: Path) -> None:
    """More than one tile, no side a multiple of one; parts in any order; NaN does not spread."""
    values = np.random.default_rng(3).normal(0, 0.3, (1100, 700)).astype(np.float32)
    values[:, :300] = np.nan
    parts = [
        Block(r, c, values[r : r + 512, c : c + 512]) for r in (1024, 0, 512) for c in (512, 0)
    ]
    pre, post = read_pair(str(sample / "pre.json"), str(sample / "post.json"))
    with rasterio.open(pre.nir.href) as file:
        grid = Grid(file.crs, file.transform, (1100, 700))
    written = write_result(tmp_path, grid, (part for part in parts), pre, post)
    valid, errors, warnings = cog_validate(written.map, strict=True)
    assert valid, errors + warnings
    with rasterio.open(written.map) as file:
        assert file.overviews(1) == [2, 4]
        np.testing.assert_array_equal(file.read(1), values)
        half = file.read(1, out_shape=(550, 350))
    assert np.array_equal(np.isnan(half), np.isnan(values[::2, ::2]))


def test_statistics_and_areas(result: Result) -> None:
    with rasterio.open(result.map) as file:
        values = file.read(1)
    known = values[~np.isnan(values)].astype(np.float64)
    said = result.statistics
    assert (said.pixels, said.valid) == (values.size, known.size)
    assert (said.minimum, said.maximum) == (known.min(), known.max())
    assert said.mean == pytest.approx(known.mean(), rel=1e-9)
    assert said.deviation == pytest.approx(known.std(), rel=1e-9)
    edges = [-0.25, -0.1, 0.1, 0.27, 0.44, 0.66]
    hectares = [
        0.01 * np.count_nonzero((known >= lower) & (known < upper))
        for lower, upper in zip([-9, *edges], [*edges, 9], strict=True)
    ]
    assert [area.hectares for area in said.areas] == pytest.approx(hectares)
    assert sum(area.percent for area in said.areas) == pytest.approx(100)
    assert min(hectares) > 0, "the sample shows every class"


def test_statistics_do_not_depend_on_the_blocks() -> None:
    values = np.random.default_rng(4).normal(0.2, 0.4, (60, 40)).astype(np.float32)
    values[7:9] = np.nan
    whole, parts = Statistics(100), Statistics(100)
    whole.add(values)
    for row in range(0, 60, 7):
        parts.add(values[row : row + 7])
    assert parts.mean == pytest.approx(whole.mean, rel=1e-12)
    assert parts.deviation == pytest.approx(whole.deviation, rel=1e-12)
    assert parts.areas == whole.areas
    assert Statistics(100).valid_percent == 0


def test_a_limit_belongs_to_the_class_above() -> None:
    statistics = Statistics(10_000)
    statistics.add(np.array([[-0.25, -0.1, 0.1, 0.27, 0.44, 0.66]], dtype=np.float32))
    assert [area.hectares for area in statistics.areas] == [0, 1, 1, 1, 1, 1, 1]


def test_item(result: Result, sample: Path) -> None:
    document = json.loads(result.item.read_text())
    validate(document)
    made = pystac.Item.from_file(str(result.item))
    properties = made.properties
    with rasterio.open(result.map) as file:
        assert properties["proj:code"] == "EPSG:32629"
        assert properties["proj:shape"] == [*file.shape]
        assert properties["proj:transform"] == [*file.transform][:6]
        assert properties["proj:bbox"] == [*file.bounds]
        west, south, east, north = rasterio.warp.transform_bounds(
            file.crs, "EPSG:4326", *file.bounds
        )
    assert made.bbox == pytest.approx([west, south, east, north], abs=1e-4)
    assert properties["start_datetime"] == "2021-07-13T11:21:09Z"
    assert properties["end_datetime"] == "2021-08-07T11:21:11Z"
    (band,) = document["assets"]["bai"]["bands"]
    assert band["nodata"] == "nan"
    assert band["statistics"]["mean"] == result.statistics.mean
    severity = properties["bai:severity"]
    assert [s["area_ha"] for s in severity] == pytest.approx(
        [area.hectares for area in result.statistics.areas], abs=1e-3
    )
    assert ("lower" in severity[0], "upper" in severity[-1]) == (False, False)
    for asset in made.assets.values():
        assert not Path(asset.href).is_absolute()
        assert Path(asset.get_absolute_href()).is_file()
    links = made.get_links("derived_from")
    assert [Path(link.get_absolute_href()) for link in links] == [
        sample / "pre.json", sample / "post.json",
    ]  # fmt: skip


def validate(document: dict[str, Any]) -> None:
    """Against the STAC schemas that pystac brings along; those of extensions are on the network."""
    assert validate_dict(document | {"stac_extensions": []})


def test_footprint_across_the_antimeridian(result: Result, sample: Path) -> None:
    """A tile of UTM zone 60 reaches over 180 degrees: two polygons, west greater than east."""
    from bai_example.item import bounding_box, footprint

    grid = Grid(
        rasterio.crs.CRS.from_epsg(32760), rasterio.Affine(10, 0, 499980, 0, -10, 1200040),
        (10980, 10980),
    )  # fmt: skip
    west, _, east, _ = bounding_box(grid)
    outline = footprint(grid)
    if west > east:
        assert outline["type"] == "MultiPolygon"
    rings = (
        outline["coordinates"] if outline["type"] == "MultiPolygon" else [outline["coordinates"]]
    )
    for (ring,) in rings:
        longitudes = [point[0] for point in ring]
        assert max(longitudes) - min(longitudes) < 10


def test_quicklook(result: Result) -> None:
    """Severity colours where the map has them, grey where it has nothing."""
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    picture = imread(result.quicklook)[..., :3]
    assert picture.shape[0] > 600
    assert picture.shape[1] > 900

    def share(color: str) -> float:
        return float(np.mean(np.all(np.abs(picture - to_rgb(color)) < 0.01, axis=-1)))

    for area in result.statistics.areas:
        assert share(area.severity.color) > 0.0005
    assert share("#d4d4d4") > 0.02


@pytest.mark.parametrize("shape", [(1, 1), (6, 5), (60, 900), (900, 60)])
def test_quicklook_of_any_shape(tmp_path: Path, sample: Path, shape: tuple[int, int]) -> None:
    pre, post = read_pair(str(sample / "pre.json"), str(sample / "post.json"))
    with rasterio.open(pre.nir.href) as file:
        grid = Grid(file.crs, file.transform, shape)
    values = np.linspace(-0.5, 1, shape[0] * shape[1], dtype=np.float32).reshape(shape)
    written = write_result(tmp_path, grid, (b for b in [Block(0, 0, values)]), pre, post)
    assert written.quicklook.stat().st_size > 10_000


def test_same_input_same_map(result: Result, sample: Path, client: Any, tmp_path: Path) -> None:
    assert make(sample, client, tmp_path).map.read_bytes() == result.map.read_bytes()


def scenes(folder: Path, sample: Path, **hrefs: str) -> tuple[Scene, Scene]:
    """The sample's scenes, with other files for some bands."""
    pair = []
    for event in ("pre", "post"):
        document = json.loads((sample / f"{event}.json").read_text())
        for band in ("B08", "B12"):
            href = hrefs.get(f"{event}_{band}", str(sample / f"{event}_{band}.tif"))
            document["assets"][band]["href"] = href
        pair.append(to_scene(document, str(folder / f"{event}.json")))
    return pair[0], pair[1]


def test_raster_that_is_cut_off(sample: Path, client: Any, tmp_path: Path) -> None:
    """The worker's error names the file, in one line; older files stay, no new ones appear."""
    whole = (sample / "post_B12.tif").read_bytes()
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole[: len(whole) // 2])
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "bai.tif").write_text("older")
    pre, post = scenes(tmp_path, sample, post_B12=str(cut))
    pair = open_pair(pre, post, block=128)
    lazy = bai.burned_area_intensity(pair)
    with pytest.raises(InputError, match=r"cut\.tif: cannot be read") as caught:
        write_result(folder, pair.grid, compute_blocks(lazy.data, client), pre, post)
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["bai.tif"]
    assert (folder / "bai.tif").read_text() == "older"


def test_raster_that_vanishes(sample: Path, client: Any, tmp_path: Path) -> None:
    gone = tmp_path / "gone.tif"
    gone.write_bytes((sample / "pre_B08.tif").read_bytes())
    pre, post = scenes(tmp_path, sample, pre_B08=str(gone))
    pair = open_pair(pre, post)
    gone.unlink()
    lazy = bai.burned_area_intensity(pair)
    with pytest.raises(InputError, match=r"gone\.tif: cannot be read .*No such file"):
        list(compute_blocks(lazy.data, client))


def test_rasters_that_cannot_be_opened(sample: Path, tmp_path: Path) -> None:
    """All of them are reported at once."""
    text = tmp_path / "text.tif"
    text.write_text("no raster")
    pre, post = scenes(
        tmp_path, sample, pre_B08="missing.tif", post_B12=str(text),
        post_B08="http://127.0.0.1:9/B08.tif",
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        open_pair(pre, post)
    first, second, third = caught.value.problems
    assert first.startswith(f"pre-event NIR: {tmp_path / 'missing.tif'}: cannot be opened (")
    assert "http://127.0.0.1:9/B08.tif: cannot be opened" in second
    assert third.startswith(f"post-event SWIR2: {text}: cannot be opened (")
    assert not any("\n" in problem for problem in caught.value.problems)


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Serves parts of files, as object stores do."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        whole = path.read_bytes()
        first, last = 0, len(whole) - 1
        if wanted := self.headers.get("Range"):
            first, last = (int(n or last) for n in wanted.removeprefix("bytes=").split("-"))
        part = whole[first : last + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(whole)}")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_over_http(sample: Path, client: Any, result: Result, tmp_path: Path) -> None:
    """Items and rasters on a web server give the same map; a raster it lacks is named."""
    handler = functools.partial(Ranges, directory=str(sample))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            pre, post = read_pair(f"{url}/pre.json", f"{url}/post.json")
            assert post.swir2.href == f"{url}/post_B12.tif"
            pair = open_pair(pre, post, block=128)
            lazy = bai.burned_area_intensity(pair)
            made = write_result(tmp_path, pair.grid, compute_blocks(lazy.data, client), pre, post)
            lacking = scenes(tmp_path, sample, pre_B08=f"{url}/none.tif")
            with pytest.raises(InputError, match=r"none\.tif: cannot be opened .*404"):
                open_pair(*lacking)
        finally:
            server.shutdown()
            thread.join()
    assert made.map.read_bytes() == result.map.read_bytes()
    links = pystac.Item.from_file(str(made.item)).get_links("derived_from")
    assert [link.href for link in links] == [f"{url}/pre.json", f"{url}/post.json"]


def test_empty_map(make_raster: Callable[..., Path], client: Any, tmp_path: Path) -> None:
    nothing = make_raster("B08.tif", np.zeros((8, 8), np.uint16))
    coarse = make_raster("B12.tif", np.zeros((4, 4), np.uint16), 20)
    scene = to_scene(item("scene", {"B08": nothing, "B12": coarse}), "/item.json")
    pair = open_pair(scene, scene)
    lazy = bai.burned_area_intensity(pair)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="no pixel has a value"):
        write_result(tmp_path / "out", pair.grid, compute_blocks(lazy.data, client), scene, scene)
    assert not [*(tmp_path / "out").iterdir()]


def test_failure_in_the_middle_leaves_nothing(sample: Path, tmp_path: Path) -> None:
    """An error of any kind, also after the map itself is written."""
    pre, post = read_pair(str(sample / "pre.json"), str(sample / "post.json"))
    with rasterio.open(pre.nir.href) as file:
        grid = Grid(file.crs, file.transform, file.shape)
    closed = []

    def broken() -> Iterator[Block]:
        try:
            yield Block(0, 0, np.zeros((128, 128), np.float32))
            raise RuntimeError("worker lost")
        finally:
            closed.append(True)

    with pytest.raises(RuntimeError, match="worker lost"):
        write_result(tmp_path, grid, broken(), pre, post)
    assert closed
    whole = (Block(0, 0, np.zeros(grid.shape, np.float32)) for _ in range(1))
    (tmp_path / "bai.png").mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError, match=r"bai\.png"):
        write_result(tmp_path, grid, whole, pre, post)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_output_folder(tmp_path: Path) -> None:
    prepare(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: cannot be written to"):
        prepare(tmp_path / "file")


def test_all_blocks_of_many_and_progress(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More blocks than may be under way at once, slow enough for a line of progress."""
    import dask.array as da
    from loguru import logger

    monkeypatch.setattr(blocks, "UNDER_WAY", 5)
    monkeypatch.setattr(blocks, "EVERY", 0.02)
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    array = da.arange(30 * 20, chunks=600).reshape(30, 20).rechunk((4, 7))
    actual = np.zeros((30, 20), dtype=int)
    try:
        for block in compute_blocks(array, client):
            rows, columns = block.values.shape
            actual[block.row : block.row + rows, block.column : block.column + columns] += (
                block.values
            )
    finally:
        logger.remove(sink)
    assert np.array_equal(actual, np.arange(600).reshape(30, 20))
    assert any(" % of 24 blocks after " in line for line in lines)


def test_nothing_stays_on_the_cluster(client: Any) -> None:
    """Neither after the last block nor when the caller stops early."""
    import dask.array as da

    array = da.ones((64, 64), chunks=8)
    list(compute_blocks(array, client))
    some = compute_blocks(array + 1, client)
    next(some)
    some.close()

    def idle() -> bool:
        return not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))

    import time

    deadline = time.monotonic() + 5
    while not idle() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert idle()
