"""The map's STAC item: valid, complete, and without anything secret in it."""

from __future__ import annotations

import datetime as dt
import json
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
from affine import Affine
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.validation import validate_dict
from rasterio.crs import CRS
from rasterio.warp import transform_geom
from shapely.geometry import shape

from bai_example import item
from bai_example.grid import Grid
from bai_example.index import INDICES, SEVERITIES, classify
from bai_example.scenes import Band, Scene
from bai_example.statistics import Statistics

DAY = dt.datetime(2021, 7, 13, 11, 21, 9, tzinfo=dt.timezone.utc)
BAND = Band("/data/B08.tif", 1e-4, 0.0, 0.0)
VALUES = np.linspace(-0.5, 1, 600, dtype=np.float32).reshape(20, 30)
VALUES[0, :7] = np.nan


def scene(name: str, href: str = "/data/{}.json", days: int = 0) -> Scene:
    when = DAY + dt.timedelta(days=days)
    return Scene(name, href.format(name), when, nir=BAND, swir=BAND)


def grid(epsg: int = 32629, **place: Any) -> Grid:
    return Grid(CRS.from_epsg(epsg), Affine(10, 0, 600_000, 0, -10, 4_500_000), (20, 30), **place)


def made(
    pre: list[Scene] | None = None, post: list[Scene] | None = None, **other: Any
) -> dict[str, Any]:
    """The JSON of an item as it is written; keywords replace arguments of `item.make`."""
    pre, post = pre or [scene("before")], post or [scene("after", days=25)]
    statistics = Statistics(pixels=VALUES.size)
    statistics.add(VALUES, classify(VALUES), np.full(len(VALUES), 100.0))
    statistics.reasons[1] = [9, 1, 0, 2, 0, 0, 0]
    claim = {"workers": 2, "gateway_url": "https://me:pw@gateway.test/a?token=x"}
    said = {
        "grid": grid(), "index": "dnbr", "statistics": statistics, "pre": pre,
        "post": post, "masked": True, "location": "/data/out",
        "command": ["bai", "--index=dnbr"], "claim": claim,
    }  # fmt: skip
    return item.make_item(**(said | other)).to_dict(include_self_link=False, transform_hrefs=False)


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


def test_pystac_reads_the_extensions_back() -> None:
    read = pystac.Item.from_dict(made())
    projection = ProjectionExtension.ext(read)
    assert (projection.code, projection.shape) == ("EPSG:32629", [20, 30])
    assert projection.transform == [10, 0, 600_000, 0, -10, 4_500_000]
    assert projection.bbox == [600_000, 4_499_800, 600_300, 4_500_000]
    assert ProjectionExtension.ext(read.assets["bai"]).code == "EPSG:32629"
    assert read.assets["quicklook"].to_dict()["proj:code"] is None, "a drawing, not a map"
    classes = ClassificationExtension.ext(read.assets["severity"]).classes
    assert classes is not None
    assert [c.value for c in classes] == list(range(8))
    assert [c.title for c in classes[1:]] == [severity.name for severity in SEVERITIES]
    assert [f"#{c.color_hint}" for c in classes[1:]] == [s.color.upper() for s in SEVERITIES]
    assert [c.nodata for c in classes] == [True] + 7 * [None]
    assert classes[1].name == "enhanced-regrowth-high"


def test_bands() -> None:
    assets = made()["assets"]
    (index,), (severity,) = assets["bai"]["bands"], assets["severity"]["bands"]
    assert (index["name"], index["data_type"], index["nodata"]) == ("dnbr", "float32", "nan")
    assert (severity["data_type"], severity["nodata"]) == ("uint8", 0)
    assert index["raster:spatial_resolution"] == severity["raster:spatial_resolution"] == 10
    assert index["statistics"] == {
        "minimum": pytest.approx(np.nanmin(VALUES)),
        "maximum": pytest.approx(np.nanmax(VALUES)),
        "mean": pytest.approx(np.nanmean(VALUES.astype(np.float64))),
        "stddev": pytest.approx(np.nanstd(VALUES.astype(np.float64))),
        "count": 593,
        "valid_percent": pytest.approx(100 * 593 / 600),
    }
    assert [asset["href"] for asset in assets.values()] == [
        "./bai.tif", "./bai-severity.tif", "./bai.png",
    ]  # fmt: skip


def test_areas_and_masked_pixels() -> None:
    properties = made()["properties"]
    severity = properties["bai:severity"]
    assert [s["name"] for s in severity] == [s.name for s in SEVERITIES]
    codes = np.bincount(classify(VALUES).ravel(), minlength=8)[1:]
    assert [s["area_ha"] for s in severity] == pytest.approx(codes / 100)
    assert ("lower" in severity[0], "upper" in severity[-1]) == (False, False)
    assert (severity[1]["lower"], severity[1]["upper"]) == (-0.25, -0.1)
    left_out = properties["bai:pixels_without_value"]
    assert list(left_out) == ["pre_event", "post_event"]
    assert sorted(left_out["post_event"].values())[-2:] == [1, 2]
    assert properties["bai:masked"] is True


def test_processing() -> None:
    properties = made()["properties"]
    software = properties["processing:software"]
    assert {name: software[name] for name in ("numpy", "rasterio", "dask-claim")} == {
        name: version(name) for name in ("numpy", "rasterio", "dask-claim")
    }
    assert {"dask", "distributed", "GDAL", "Python"} <= set(software)
    assert INDICES["dnbr"].formula in properties["processing:expression"]["expression"]
    assert "before before and after after" in properties["processing:lineage"]
    assert properties["bai:command"] == ["bai", "--index=dnbr"]
    assert properties["bai:claim"] == {"workers": 2, "gateway_url": "https://gateway.test/a"}
    bare = made(command=(), claim=None, masked=False)["properties"]
    assert not {"bai:claim", "bai:command"} & set(bare)
    assert "nothing is masked" in bare["processing:lineage"]


def test_times_and_ids() -> None:
    """Of a mosaic short, however many tiles there are; the same for the same scenes."""
    document = made()
    assert document["id"] == "bai-before-after"
    assert document["properties"]["datetime"] == "2021-08-07T11:21:09Z"
    assert document["properties"]["start_datetime"] == "2021-07-13T11:21:09Z"
    assert document["properties"]["end_datetime"] == "2021-08-07T11:21:09Z"
    pre = [scene("a", days=2), scene("b"), scene("c", days=1)]
    post = [scene("d", days=20), scene("e", days=30)]
    document = made(pre, post)
    name = document["id"]
    assert name.startswith("bai-20210713-20210802-")
    assert len(name) == len("bai-20210713-20210802-12345678")
    assert made(pre[::-1], post[::-1])["id"] == name
    assert made(pre[:2], [*post, pre[2]])["id"] != name
    assert document["properties"]["end_datetime"] == "2021-08-12T11:21:09Z"
    assert len(document["links"]) == 5


LINKS = [
    ("/data/{}.json", "/data/out", "../before.json"),
    ("/data/{}.json", "s3://bucket/out", "file:///data/before.json"),
    ("https://me:pw@host:1/a/{}?sig=s%2F&b#c", "/data/out", "https://host:1/a/before"),
    ("s3://bucket/{}.json", "s3://bucket/out", "s3://bucket/before.json"),
]


def test_links_and_command_hold_no_secret() -> None:
    for href, location, link in LINKS:
        document = made([scene("before", href)], location=location)
        first = document["links"][0]
        assert (first["rel"], first["href"]) == ("derived_from", link)
        assert first["title"] == "pre-event scene before"
        assert not any(secret in json.dumps(document) for secret in ("pw@", "sig=", "s%2F"))
    command = [
        "bai", "--api=https://u:p@host/x?key=1&b", "/vsicurl/https://t@h/y?sig=2", "it's a?b#c",
        "https://h/?q https://k@h/z",
    ]  # fmt: skip
    assert made(command=command)["properties"]["bai:command"] == [
        "bai", "--api=https://host/x", "/vsicurl/https://h/y", "it's a?b#c", "https://h/ https://h/z",
    ]  # fmt: skip


def test_crs_without_a_code() -> None:
    """Given whole, in WKT 2; its code is null."""
    crs = CRS.from_proj4("+proj=laea +lat_0=41 +lon_0=-8 +datum=WGS84 +units=us-ft")
    properties = made(grid=Grid(crs, Affine(10, 0, 0, 0, -10, 0), (20, 30)))["properties"]
    assert properties["proj:code"] is None
    assert properties["proj:wkt2"].startswith("PROJCRS")
    assert properties["gsd"] == pytest.approx(3.048, rel=1e-4), "in metres, not in feet"


def test_footprint_across_the_antimeridian() -> None:
    """A tile of UTM zone 60 reaches over 180 degrees: two polygons, west greater than east."""
    zone60 = Grid(CRS.from_epsg(32660), Affine(10, 0, 600_000, 0, -10, 7_700_040), (10980, 10980))
    west, _, east, _ = zone60.bbox()
    assert west > east
    outline = zone60.footprint()
    assert outline["type"] == "MultiPolygon"
    for (ring,) in outline["coordinates"]:
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


def test_a_geographic_crs() -> None:
    """Degrees are no unit of length or area: the pixel's size is that of the ellipsoid."""
    degrees = Grid(CRS.from_epsg(4326), Affine(0.001, 0, -8, 0, -0.001, 40), (20, 30))
    properties = made(grid=degrees)["properties"]
    assert properties["proj:code"] == "EPSG:4326"
    assert properties["gsd"] == pytest.approx(111.03, abs=0.01)
    # Sum over the grid, by an equal-area projection of the same ellipsoid.
    outline = transform_geom("EPSG:4326", "ESRI:54034", degrees.footprint())
    expected = shape(outline).area
    assert 30 * np.sum(np.multiply(*degrees.metres())) == pytest.approx(expected, rel=1e-6)
    assert np.array_equal(grid().metres(), np.full((2, 20), 10))
