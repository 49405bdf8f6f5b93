"""The map's STAC item: valid, complete, and without anything secret in it."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import replace
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from pystac.validation import validate_dict
from rasterio.crs import CRS

from bai_example import describe as item
from bai_example.blocks import Statistics
from bai_example.index import CLASSES, INDICES, SEVERITIES, classify
from bai_example.pair import Layers, Pair
from bai_example.rasters import pixel_area
from bai_example.scenes import Band, Scene

DAY = dt.datetime(2021, 7, 13, 11, 21, 9, tzinfo=dt.timezone.utc)
BAND = Band("/data/B08.tif", 1e-4, 0.0, 0.0)
VALUES = np.linspace(-0.5, 1, 600, dtype=np.float32).reshape(20, 30)
VALUES[0, :7] = np.nan


def scene(name: str, href: str = "/data/{}.json", days: int = 0, offset: float = 0) -> Scene:
    when, band = DAY + dt.timedelta(days=days), replace(BAND, offset=offset)
    masks = {"scl": "/data/SCL.tif"}
    return Scene(name, href.format(name), when, nir=band, swir=band, masks=masks)


def grid(epsg: int = 32629) -> GeoBox:
    return GeoBox((20, 30), Affine(10, 0, 600_000, 0, -10, 4_500_000), f"EPSG:{epsg}")


def made(
    pre: list[Scene] | None = None, post: list[Scene] | None = None, **other: Any
) -> dict[str, Any]:
    """The JSON of an item as it is written; keywords replace what it is made of."""
    sides = pre or [scene("before")], post or [scene("after", days=25)]
    statistics = Statistics(pixels=VALUES.size)
    statistics.add(VALUES)
    statistics.classes += np.bincount(classify(VALUES).ravel(), minlength=8)
    statistics.square_metres += 100 * statistics.classes
    statistics.reasons[1] = [9, 1, 0, 2, 0, 0, 0, 0]
    pair = Pair(
        other.pop("grid", grid()), [[Layers(one, {}) for one in side] for side in sides],
        other.pop("masked", (frozenset(CLASSES), frozenset(CLASSES) - {"water"})),
        other.pop("outline", None),
    )  # fmt: skip
    given = {"index": "dnbr", "location": "/data/out", "claim": {"workers": 2}} | other
    document = item.make_item(pair, statistics=statistics, **given)
    return document.to_dict(include_self_link=False, transform_hrefs=False)


def core_schemas() -> dict[str, str]:
    """URL of each schema of STAC's core and of GeoJSON -> its file, which pystac brings along."""
    found = {}
    for file in Path(str(resources.files("pystac.validation.jsonschemas"))).rglob("*.json"):
        said = json.loads(file.read_text(encoding="utf-8"))["$id"].rstrip("#")
        found[said.rpartition("/")[0] + f"/{file.name}"] = str(file)
    return found


def extensions() -> dict[str, str]:
    """The same of the extensions; theirs are here."""
    return {
        f"https://stac-extensions.github.io/{file.stem.replace('_', '/')}/schema.json": str(file)
        for file in Path(__file__).with_name("schemas").glob("*.json")
    }


WRONG = [
    ("properties", "datetime", "yesterday"),
    # One of each extension.
    ("properties", "proj:shape", [20]),
    ("properties", "processing:software", ["numpy"]),
    ("severity", "classification:classes", [{"value": 1, "name": "High severity"}]),
    ("bai", "raster:sampling", "pixel"),
]


def test_it_is_valid() -> None:
    """By stac-validator, in core and extensions (a schema it does not have is a fault, too); and
    each of them would be found wrong."""
    from stac_validator.stac_validator import StacValidate

    def faults(document: dict[str, Any], **options: Any) -> list[str]:
        validator = StacValidate(schema_map=core_schemas() | extensions(), **options)
        validator.validate_dict(document)
        return [m["error_message"] for m in validator.message if not m["valid_stac"]]

    assert extensions().keys() == {*item._EXTENSIONS}
    assert faults(made()) == faults(made(), core=True) == []
    for part, field, value in WRONG:
        document = made()
        (document["assets"].get(part) or document[part])[field] = value
        assert faults(document, core=field == "datetime"), field


def test_what_it_says_of_the_map() -> None:
    """Bands with statistics, areas, what is masked on each side, pixels left out, versions."""
    document = made()
    assets, properties = document["assets"], document["properties"]
    (index,), (severity,) = assets["bai"]["bands"], assets["severity"]["bands"]
    assert (index["name"], index["data_type"], index["nodata"]) == ("dnbr", "float32", "nan")
    assert (severity["data_type"], severity["nodata"]) == ("uint8", 0)
    assert index["raster:spatial_resolution"] == severity["raster:spatial_resolution"] == 10
    known = VALUES[~np.isnan(VALUES)].astype(np.float64)
    assert index["statistics"] == pytest.approx({
        "minimum": known.min(), "maximum": known.max(), "mean": known.mean(),
        "stddev": known.std(), "count": 593, "valid_percent": 100 * 593 / 600,
    })  # fmt: skip
    assert [asset["href"] for asset in assets.values()] == [
        "./bai.tif", "./bai-severity.tif", "./bai.png",
    ]  # fmt: skip
    titles = [each["title"] for each in assets["severity"]["classification:classes"]]
    said = properties["bai:severity"]
    assert titles == ["No value", *(each["name"] for each in said)]
    assert titles[1:] == [severity.name for severity in SEVERITIES]
    codes = np.bincount(classify(VALUES).ravel(), minlength=8)[1:]
    assert [each["area_ha"] for each in said] == pytest.approx(codes / 100)
    assert [(each.get("lower"), each.get("upper")) for each in said[:2]] == [
        (None, -0.25), (-0.25, -0.1),
    ]  # fmt: skip
    before, after = properties["bai:pixels_without_value"].values()
    assert (sum(before.values()), sorted(after.values())[-2:]) == (0, [1, 2])
    for name in ("numpy", "rasterio", "dask-claim", "dask", "distributed"):
        assert properties["processing:software"][name] == version(name)
    assert INDICES["dnbr"].formula in properties["description"]
    assert properties["bai:claim"] == {"workers": 2}
    classes = ["cloud", "shadow", "snow", "water"]
    assert properties["bai:masked"] == {"pre_event": classes, "post_event": classes[:-1]}
    one_bare = [scene("before"), replace(scene("bare"), masks={})]
    assert made(one_bare)["properties"]["bai:masked"]["pre_event"] == []


def test_scenes_make_times_and_id() -> None:
    """The id is the same for scenes in whatever order, and another for another map of theirs."""
    pre = [scene("a", days=2), scene("b"), scene("c", days=1)]
    post = [scene("d", days=20), scene("e", days=30)]
    properties, name = (made(pre, post)[part] for part in ("properties", "id"))
    assert properties["start_datetime"] == "2021-07-13T11:21:09Z"
    assert properties["end_datetime"] == properties["datetime"] == "2021-08-12T11:21:09Z"
    assert re.fullmatch("bai-dnbr-20210713-20210802-[0-9a-f]{8}", name)
    assert made(pre[::-1], post[::-1])["id"] == name
    others = [
        made(pre[:2], [*post, pre[2]]),
        made(pre, post, index="rbr"),
        made(pre, post, grid=grid()[:10, :10]),
        made(pre, post, outline={"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [0, 1]]]}),
        made(pre, post, masked=(frozenset(), frozenset())),
        made([scene("a", days=2, offset=-0.1), *pre[1:]], post),
    ]
    assert len({name, *(other["id"] for other in others)}) == 1 + len(others)


LINKS = [
    ("/data/{}.json", "/data/out", "../before.json"),
    ("/data/{}.json", "s3://bucket/out", "file:///data/before.json"),
    ("https://me:pw@host:1/a/{}?sig=s%2F&b#c", "/data/out", "https://host:1/a/before"),
    ("s3://bucket/{}.json", "s3://bucket/out", "s3://bucket/before.json"),
]


def test_links_hold_no_secret() -> None:
    for href, location, link in LINKS:
        document = made([scene("before", href)], location=location)
        first = document["links"][0]
        assert (first["rel"], first["href"]) == ("derived_from", link)
        assert first["title"] == "pre-event scene before"
        assert not any(secret in json.dumps(document) for secret in ("pw@", "sig=", "s%2F"))


def test_crs_without_a_code() -> None:
    """Given whole, in WKT 2; its code is null."""
    crs = CRS.from_proj4("+proj=laea +lat_0=41 +lon_0=-8 +datum=WGS84 +units=us-ft")
    feet = GeoBox((20, 30), Affine(10, 0, 0, 0, -10, 0), crs.to_wkt())
    properties = made(grid=feet)["properties"]
    assert properties["proj:code"] is None
    assert properties["proj:wkt2"].startswith("PROJCRS")
    assert properties["gsd"] == pytest.approx(3.05), "in metres, not in feet"


def test_footprint_across_the_antimeridian() -> None:
    """A tile of UTM zone 60 reaches over 180 degrees: two polygons, west greater than east."""
    zone60 = GeoBox((10980, 10980), Affine(10, 0, 600_000, 0, -10, 7_700_040), "EPSG:32660")
    document = made(grid=zone60)
    west, _, east, _ = document["bbox"]
    assert west > east
    assert document["geometry"]["type"] == "MultiPolygon"
    for (ring,) in document["geometry"]["coordinates"]:
        longitudes = [point[0] for point in ring]
        assert max(longitudes) - min(longitudes) < 10


def test_write(tmp_path: Path) -> None:
    """Item and catalog point at each other by relative hrefs, and neither at itself."""
    item.write_item(tmp_path, pystac.Item.from_dict(made()))
    written = json.loads((tmp_path / "bai.json").read_text())
    assert str(tmp_path) not in (tmp_path / "bai.json").read_text()
    links = {link["rel"]: link["href"] for link in written["links"]}
    assert links["root"] == links["parent"] == "./catalog.json"
    assert "self" not in links
    text = (tmp_path / "catalog.json").read_text()
    assert str(tmp_path) not in text
    assert {link["rel"]: link["href"] for link in json.loads(text)["links"]} == {
        "root": "./catalog.json", "item": "./bai.json",
    }  # fmt: skip
    assert written["assets"]["bai"]["href"] == "./bai.tif"
    catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    (found,) = catalog.get_items()
    assert found.id == written["id"]
    assert found.get_parent() is catalog
    assert validate_dict(catalog.to_dict(transform_hrefs=False))


AREAS = [
    ("EPSG:4326", (0.001, -8, 40), 111.03 * 85.39),
    ("EPSG:32629", (10, 500_000, 4_500_000), 100 / 0.9996**2),
    # Web Mercator at 60° north, whose metres are half as long.
    ("EPSG:3857", (10, 0, 8_399_738), 25.084),
    # Equal area: as on the map; and where its pixels have no right angles.
    ("EPSG:3035", (10, 4_321_000, 3_210_000), 100),
    ("EPSG:3035", (10, 2_700_000, 1_700_000), 100),
    ("EPSG:2263", (100, 984_000, 200_000), 929.03),  # US survey feet
]


@pytest.mark.parametrize(("crs", "place", "expected"), AREAS)
def test_areas_are_those_of_the_ellipsoid(
    crs: str, place: tuple[float, float, float], expected: float
) -> None:
    """In every CRS. Against an equal-area projection of the same ellipsoid."""
    size, x, y = place
    box = GeoBox((2, 2), Affine(size, 0, x, 0, -size, y), crs)
    area = pixel_area(box)
    assert area == pytest.approx(expected, rel=1e-3)
    to_equal_area = Transformer.from_crs(crs, "ESRI:54034", always_xy=True)
    ring = shapely.segmentize(shapely.box(*box.boundingbox.bbox), size / 8)
    outline = shapely.transform(ring, to_equal_area.transform, interleaved=False)
    assert 4 * area == pytest.approx(outline.area, rel=1e-5)
