"""Several tiles, two UTM zones, masks and crops: which pixel of which file is in the map."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.features import geometry_mask
from rasterio.warp import transform, transform_bounds, transform_geom
from shapely.geometry import Polygon

from bai_example.access import InputError
from bai_example.scenes import Scene, to_scene
from bai_example.search import area_of
from tests.bai.maps import assert_map, computed, expected_nbr, finer, item, opened
from tests.bai.servers import rasters_over_http

MakeRaster = Callable[..., Path]
WEST, NORTH = 600_000, 4_500_000


class Tile:
    """A scene of random counts, with its NBR at hand."""

    def __init__(
        self, make_raster: MakeRaster, name: str, seed: int, *,
        shape: tuple[int, int] = (40, 40), right: int = 0, down: int = 0,
        scl: np.ndarray | None = None, empty: tuple[slice, slice] | None = None, **options: Any,
    ) -> None:  # fmt: skip
        rng = np.random.default_rng(seed)
        near = rng.integers(1000, 9000, shape).astype(np.uint16)
        short = rng.integers(1000, 9000, (shape[0] // 2, shape[1] // 2)).astype(np.uint16)
        if empty:
            near[empty] = 0
        corner = (WEST + 10 * right, NORTH - 10 * down)
        options = {"corner": corner} | options
        self.near, self.short = near, short
        self.nbr = expected_nbr(near, finer(short), 1e-4, 0)
        self.rows = slice(down, down + shape[0])
        self.columns = slice(right, right + shape[1])
        assets = {
            "B08": make_raster(f"{name}_B08.tif", near, **options),
            "B12": make_raster(f"{name}_B12.tif", short, 20, **options),
        }
        self.hidden = np.zeros(shape, bool)
        if scl is not None:
            assets["SCL"] = make_raster(f"{name}_SCL.tif", scl.astype(np.uint8), 20, **options)
            self.hidden = np.isin(finer(scl), [0, 1, 3, 6, 8, 9, 10, 11])
        self.scene: Scene = to_scene(item(name, assets), f"/{name}.json")


def mosaic(shape: tuple[int, int], *tiles: Tile) -> np.ndarray:
    """What the first tile with a value has at each pixel, by a loop over tiles, last first."""
    whole = np.full(shape, np.nan)
    for tile in reversed(tiles):
        values = np.where(tile.hidden, np.nan, tile.nbr)
        part = whole[tile.rows, tile.columns]
        whole[tile.rows, tile.columns] = np.where(np.isnan(values), part, values)
    return whole


def clear(*shape: int) -> np.ndarray:
    return np.full(shape, 4)


def test_two_tiles_that_overlap(make_raster: MakeRaster) -> None:
    """The first with a value counts: cloud and missing data in it are filled from the second."""
    cloudy, other = clear(20, 20), clear(20, 20)
    cloudy[4:10, 12:] = 9
    cloudy[:3, :3] = 3
    other[6:12, :6] = 10
    first = Tile(make_raster, "a", 1, scl=cloudy, empty=(slice(30, 34), slice(None)))
    second = Tile(make_raster, "b", 2, right=24, scl=other)
    later = Tile(make_raster, "post", 3, shape=(40, 64))
    pair = opened([first.scene, second.scene], [later.scene])
    assert pair.grid.shape == (40, 64)
    made = computed(pair)
    before = mosaic((40, 64), first, second)
    assert_map(made.index, before - later.nbr)
    # Cloud of the first, where the second has nothing or cloud too, and of the second alone.
    took, gaps = made.statistics.without_value(0), np.count_nonzero(np.isnan(before))
    assert sum(took.values()) == gaps == made.statistics.pixels - made.statistics.valid
    assert took == dict.fromkeys(took, 0) | {
        "shadow": 36, "no data": 4 * 24, "cloud": gaps - 36 - 4 * 24,
    }  # fmt: skip
    assert took["cloud"] > 0
    assert made.statistics.without_value(1)["cloud"] == 0


@pytest.mark.parametrize(
    ("shape", "second", "whole"),
    [
        ((40, 40), {"right": 50, "down": 10}, (50, 90)),
        # Across blocks: either has pixels in both; and each has them in one only.
        ((60, 2060), {"right": 2040, "shape": (60, 200)}, (60, 2240)),
        ((60, 2040), {"right": 2060, "shape": (60, 40)}, (60, 2100)),
    ],
)
def test_two_tiles_apart_and_across_blocks(
    make_raster: MakeRaster, shape: tuple[int, int], second: dict[str, Any], whole: tuple[int, int]
) -> None:
    tiles = Tile(make_raster, "a", 1, shape=shape), Tile(make_raster, "b", 2, **second)
    later = Tile(make_raster, "post", 3, shape=(60, whole[1] + 10))
    pair = opened([tile.scene for tile in tiles], [later.scene])
    assert pair.grid.shape == whole
    made = computed(pair)
    before = mosaic(whole, *tiles)
    assert_map(made.index, before - later.nbr[: whole[0], : whole[1]])
    assert made.statistics.without_value(0)["no data"] == np.count_nonzero(np.isnan(before))


def border() -> tuple[tuple[float, float], tuple[float, float]]:
    """In zones 29 and 30, a point of 6° W, where one ends and the other begins."""
    return tuple(
        tuple(value for (value,) in transform("EPSG:4326", f"EPSG:{epsg}", [-6.0], [40.0]))
        for epsg in (32629, 32630)
    )


def corner(x: float, y: float) -> tuple[float, float]:
    return round(x / 20) * 20.0, round(y / 20) * 20.0


def test_two_zones(make_raster: MakeRaster) -> None:
    """A tile of the next zone is brought onto the grid: every value is one of its own pixels',
    from where the pixel lies, to within a pixel."""
    (x29, y29), (x30, y30) = border()
    home = Tile(make_raster, "a", 1, shape=(200, 200), corner=corner(x29 - 1900, y29 + 1000))
    # Counts that say where they are: NIR 1000 + column, SWIR 1000 + row, of the source.
    rows, columns = np.mgrid[:200, :200]
    # Its files do not say which count means "no data": nothing may come from beyond their corners.
    side = {"corner": corner(x30 - 100, y30 + 1000), "epsg": 32630, "nodata": None}
    assets = {
        "B08": make_raster("b_B08.tif", (1000 + 20 * columns).astype(np.uint16), **side),
        "B12": make_raster("b_B12.tif", (1000 + 20 * rows[::2, ::2]).astype(np.uint16), 20, **side),
    }
    away = to_scene(item("b", assets), "/b.json")
    west, north = corner(x29 - 1900, y29 + 1500)
    flat = Tile(make_raster, "post", 3, shape=(300, 500), corner=(west, north))
    pair = opened([home.scene, away], [flat.scene])
    grid = pair.grid
    assert (grid.crs.to_epsg(), grid.resolution.x) == (32629, 10)
    with rasterio.open(home.scene.nir.href) as file:
        own, bounds = file.transform, file.bounds
    assert (grid.affine.c - own.c) % 10 == (grid.affine.f - own.f) % 10 == 0
    made = computed(pair)
    # The same pixels by hand: centre of each map pixel -> zone 30 -> pixel of the source.
    down, across = np.mgrid[: grid.shape[0], : grid.shape[1]]
    x = grid.affine.c + 10 * (across + 0.5)
    y = grid.affine.f - 10 * (down + 0.5)
    there = transform("EPSG:32629", "EPSG:32630", x.ravel(), y.ravel())
    column = (np.array(there[0]).reshape(x.shape) - side["corner"][0]) / 10
    row = (side["corner"][1] - np.array(there[1]).reshape(x.shape)) / 10
    assert grid.affine.c == west
    after = flat.nbr[round((north - grid.affine.f) / 10) :][: grid.shape[0], : grid.shape[1]]
    nbr = made.index + after
    # Inside the tile, away from its edges and from the other tile.
    inside = (column > 3) & (column < 196) & (row > 3) & (row < 196)
    inside &= (x > bounds.right) | (y > bounds.top) | (y < bounds.bottom)
    assert np.count_nonzero(inside) > 10_000
    assert not np.isnan(nbr[inside]).any()
    candidates = []
    for shift_down, shift_across in itertools.product((-1, 0, 1), repeat=2):
        near = 1000 + 20 * (np.floor(column[inside]) + shift_across)
        # The SWIR pixel: one of the 20 m pixels around.
        short = 1000 + 20 * (np.floor(row[inside] / 2) * 2 + 2 * shift_down)
        candidates.append(np.abs((near - short) / (near + short) - nbr[inside]))
    assert np.min(candidates, axis=0).max() < 2e-6, "a value that no pixel nearby has"
    exact = candidates[4] < 2e-6
    assert exact.mean() > 0.4, "off by a pixel everywhere"
    # Nothing where neither has a pixel, and all of the tile at home.
    outside = (column < -2) | (column > 202) | (row < -2) | (row > 202)
    at_home = (x > bounds.left) & (x < bounds.right) & (y > bounds.bottom) & (y < bounds.top)
    assert np.isnan(nbr[outside & ~at_home]).all()
    assert np.count_nonzero(outside & ~at_home) > 500
    assert not np.isnan(nbr[at_home]).any()


def test_scenes_that_are_refused(make_raster: MakeRaster) -> None:
    """Only tiles of a mosaic are brought onto the grid: a pair's pixels are compared one by one.
    A scene far away is a mistake, not a map of a continent. An area beside the scenes, nearby or
    where the map's projection ends."""
    near, post = Tile(make_raster, "a", 1).scene, Tile(make_raster, "post", 2).scene
    zone30 = Tile(make_raster, "b", 2, epsg=32630).scene
    with pytest.raises(InputError, match=r"pixels .* in EPSG:32630"):
        opened([near], [zone30])
    far = Tile(make_raster, "c", 2, corner=(WEST + 2_000_000, NORTH - 2_000_000)).scene
    with pytest.raises(InputError, match=r"200040 x 200040 pixels.*--bbox"):
        opened([near, far], [near, far])
    for west, exact in ((-8, False), (100, True), (179.8, True)):
        area = area_of((west, 0, west + 0.1, 0.1), None)
        with pytest.raises(InputError, match=r"do not overlap: .*the area covers west"):
            opened([near], [post], area, exact)


@pytest.mark.parametrize(("rows", "nodata"), [(14, 0), (26, 4)])
def test_a_mask_of_another_extent(make_raster: MakeRaster, rows: int, nodata: int) -> None:
    """Where a mask has no pixel, nothing is known to be clear, whatever its nodata value."""
    pre, post = Tile(make_raster, "a", 1), Tile(make_raster, "post", 3)
    classes = np.full((rows, 20), 4, np.uint8)
    assets = {
        "B08": pre.scene.nir.href, "B12": pre.scene.swir.href,
        "SCL": make_raster("SCL.tif", classes, 20, (WEST + 40, NORTH + 60), nodata=nodata),
    }  # fmt: skip
    scene = to_scene(item("a", assets), "/a.json")
    made = computed(opened([scene], [post.scene]))
    expected = pre.nbr - post.nbr
    expected[:, :4] = np.nan
    expected[2 * rows - 6 :] = np.nan
    assert_map(made.index, expected)
    assert made.statistics.without_value(0)["no data"] == np.count_nonzero(np.isnan(expected))


# Crops


def degrees(scene: Scene, left: int, top: int, right: int, bottom: int) -> tuple[float, ...]:
    """The box around pixels of a scene in degrees."""
    with rasterio.open(scene.nir.href) as file:
        west, north = file.xy(top, left, offset="ul")
        east, south = file.xy(bottom, right, offset="ul")
        return transform_bounds(file.crs, "EPSG:4326", west, south, east, north)


@pytest.mark.parametrize("box", [(13, 7, 101, 55), (0, 0, 3, 3), (150, 100, 999, 999)])
def test_crop_by_a_box(make_raster: MakeRaster, box: tuple[int, int, int, int]) -> None:
    """Covers the box, on the grid of the reference, with the values of the whole map."""
    pre, post = (Tile(make_raster, n, i, shape=(160, 200)) for i, n in enumerate(("a", "post")))
    bounds = degrees(pre.scene, *box)
    whole = opened([pre.scene], [post.scene])
    pair = opened([pre.scene], [post.scene], area_of(bounds, None))
    top = (whole.grid.affine.f - pair.grid.affine.f) / 10
    left = (pair.grid.affine.c - whole.grid.affine.c) / 10
    assert (top, left) == (round(top), round(left)), "on the reference's grid"
    rows, columns = pair.grid.shape
    # The pixels that the box's sides, which are curves on the map, touch: as far as there are any.
    west, south, east, north = bounds
    along = np.linspace(0, 1, 201)
    x = np.concatenate([west + (east - west) * along] * 2 + [west + 0 * along, east + 0 * along])
    y = south + (north - south) * np.concatenate([0 * along, 0 * along + 1, along, along])
    xs, ys = transform("EPSG:4326", "EPSG:32629", x, y)
    across, down = (np.array(xs) - WEST) / 10, (NORTH - np.array(ys)) / 10
    assert (top, left) == (max(0, np.floor(down.min())), max(0, np.floor(across.min())))
    assert (top + rows, left + columns) == (
        min(160, np.ceil(down.max())), min(200, np.ceil(across.max())),
    )  # fmt: skip
    assert top <= box[1] and left <= box[0]
    part = (slice(int(top), int(top) + rows), slice(int(left), int(left) + columns))
    made = computed(pair)
    assert_map(made.index, (pre.nbr - post.nbr)[part])
    np.testing.assert_array_equal(made.index, computed(whole).index[part])


def test_crop_by_a_polygon(make_raster: MakeRaster, tmp_path: Path) -> None:
    """Pixels outside have no value, and are not counted, neither as pixels nor as masked."""
    classes = clear(80, 100)
    classes[:, 25:] = 9
    pre = Tile(make_raster, "a", 0, shape=(160, 200), scl=classes)
    post = Tile(make_raster, "post", 1, shape=(160, 200))
    # No pixel's centre lies on a side.
    ring = [(20.2, 10.1), (79.7, 22.3), (62.4, 69.9), (40.6, 40.8), (20.2, 10.1)]
    corners = [(WEST + 10 * column, NORTH - 10 * row) for column, row in ring]
    on_map = {"type": "Polygon", "coordinates": [corners]}
    file = tmp_path / "area.geojson"
    file.write_text(json.dumps(transform_geom("EPSG:32629", "EPSG:4326", on_map, precision=12)))
    pair = opened([pre.scene], [post.scene], area_of(None, file), exact=True)
    assert pair.grid.shape == (60, 60)
    made = computed(pair)
    outside = geometry_mask([on_map], (60, 60), pair.grid.affine)
    part = (slice(10, 70), slice(20, 80))
    expected = np.where(outside | pre.hidden[part], np.nan, (pre.nbr - post.nbr)[part])
    assert_map(made.index, expected)
    assert np.array_equal(made.severity == 0, np.isnan(expected))
    assert made.statistics.pixels == np.count_nonzero(~outside)
    assert made.statistics.valid == np.count_nonzero(~np.isnan(expected))
    cloud = np.count_nonzero(~outside & pre.hidden[part])
    assert made.statistics.without_value(0)["cloud"] == cloud > 0
    assert made.statistics.without_value(1)["no data"] == 0


def test_a_side_of_the_polygon_is_a_line_in_degrees(make_raster: MakeRaster) -> None:
    """As GeoJSON has it (RFC 7946, 3.1.1): along a parallel of 36 km, 21 m off the straight line
    on the map."""
    pixel = {"corner": (480_000, 4_430_000)}
    scene = Tile(make_raster, "a", 1, shape=(8, 4000), **pixel).scene
    north, west, east = 40.0199, -9.2, -8.78
    box = [[west, 39.9], [east, 39.9], [east, north], [west, north], [west, 39.9]]
    pair = opened([scene], [scene], Polygon(box), exact=True)
    made = computed(pair)
    rows, columns = np.mgrid[: pair.grid.shape[0], : pair.grid.shape[1]]
    x = pair.grid.affine.c + 10 * (columns.ravel() + 0.5)
    y = pair.grid.affine.f - 10 * (rows.ravel() + 0.5)
    longitude, latitude = transform("EPSG:32629", "EPSG:4326", x, y)
    inside = (
        (np.array(latitude) < north) & (west < np.array(longitude)) & (np.array(longitude) < east)
    )
    wrong = np.isnan(made.index).ravel() == inside
    assert np.count_nonzero(wrong) <= 2
    assert 0.1 < inside.mean() < 0.9


def test_a_crop_reads_only_what_it_needs(make_raster: MakeRaster, tmp_path: Path) -> None:
    """Of large tiled rasters on a server: their headers, and the tiles under the crop."""
    rng = np.random.default_rng(9)
    tiled = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "lzw"}
    files = {
        "B08": make_raster("B08.tif", rng.integers(1, 9000, (2048, 2048), np.uint16), **tiled),
        "B12": make_raster("B12.tif", rng.integers(1, 9000, (1024, 1024), np.uint16), 20, **tiled),
    }
    local = to_scene(item("a", files), "/a.json")
    area = area_of(degrees(local, 1000, 900, 1020, 920), None)
    with rasters_over_http(tmp_path) as server:
        hrefs = {band: f"{server.url}/{path.name}" for band, path in files.items()}
        scene = to_scene(item("a", hrefs), "/a.json")
        pair = opened([scene], [scene], area)
        made = computed(pair)
        size = sum(path.stat().st_size for path in files.values())
        sent = sum(server.sent.values())
    assert np.abs(made.index).max() == 0
    # Two of 64 tiles of NIR and one or two of 16 of SWIR, and the headers.
    assert sent < 0.15 * size
