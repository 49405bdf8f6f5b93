"""STAC items of every catalogue -> the right files with the right scale and offset."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bai_items import item

from bai_example import source
from bai_example.errors import InputError
from bai_example.inputs import read_scenes
from bai_example.scene import Scene
from bai_example.stac import read_scene, to_scene

# Catalogue, file, NIR and SWIR2 file name, scale, offset.
CATALOGUES = [
    ("earth-search-v0", "odc-stac__S2A_28QCH_20200714_0_L2A.json",
     "B08.tif", "B12.tif", 1e-4, 0.0),
    ("earth-search-v1-old", "rio-tiler-pds__S2A_29RKH_20200219_0_L2A.json",
     "B08.tif", "B12.tif", 1e-4, 0.0),
    # Declares -0.1 although boa_offset_applied says that it is in the pixels already.
    ("earth-search-v1-applied",
     "pystac-client-cassette__S2A_13TDE_20231008_0_L2A__sentinel-2-l2a.json",
     "B08.tif", "B12.tif", 1e-4, 0.0),
    ("planetary-computer", "odc-stac__S2B_MSIL2A_20190629T212529_R043_T06VVN.json",
     "T06VVN_20190629T212529_B08_10m.tif", "T06VVN_20190629T212529_B12_20m.tif",
     1e-4, 0.0),
    # raster:bands without scale and offset.
    ("planetary-computer-raster",
     "odc-stac__S2B_MSIL2A_20190629T212529_R043_T06VVN_raster_ext.json",
     "T06VVN_20190629T212529_B08_10m.tif", "T06VVN_20190629T212529_B12_20m.tif",
     1e-4, 0.0),
    ("stactools-old", "stactools-sentinel2__S2A_T07HFE_20190212_L2A.json",
     "T07HFE_20190212T192651_B08_10m.tif", "T07HFE_20190212T192651_B12_20m.tif",
     1e-4, 0.0),
    ("stactools-new", "stactools-sentinel2__S2A_T60CWS_20240109_L2A.json",
     "B08.jp2", "B12.jp2", 1e-4, -0.1),
    ("usgs-landsat", "odc-stac__LC08_L2SP_028030_20200114_SR.json",
     "LC08_L2SP_028030_20200114_20200824_02_T1_SR_B5.TIF",
     "LC08_L2SP_028030_20200114_20200824_02_T1_SR_B7.TIF", 2.75e-5, -0.2),
    ("earth-search-v1-landsat",
     "pystac-client-cassette__LC08_L2SP_033032_20231008_02_T1__landsat-c2-l2.json",
     "LC08_L2SP_033032_20231008_20231017_02_T1_SR_B5.TIF",
     "LC08_L2SP_033032_20231008_20231017_02_T1_SR_B7.TIF", 2.75e-5, -0.2),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "nir", "swir2", "scale", "offset"),
    [row[1:] for row in CATALOGUES],
    ids=[row[0] for row in CATALOGUES],
)
def test_catalogues(
    realdata: Path, file: str, nir: str, swir2: str, scale: float, offset: float
) -> None:
    scene = read_scene(str(realdata / "stac" / file))
    assert scene.nir.href.rsplit("/", 1)[-1] == nir
    assert scene.swir2.href.rsplit("/", 1)[-1] == swir2
    for band in (scene.nir, scene.swir2):
        assert (band.scale, band.offset, band.nodata) == (scale, offset, 0)
        assert band.href.startswith(("/", "https://", "s3://usgs"))
    assert scene.datetime.tzinfo is not None


def test_every_real_item_is_in_the_table(realdata: Path) -> None:
    assert {row[1] for row in CATALOGUES} == {p.name for p in (realdata / "stac").iterdir()}


# File, saturated from, and the masks' kinds and file names.
BESIDES = {
    "odc-stac__S2A_28QCH_20200714_0_L2A.json": (32767, {"scl": "SCL.tif"}),
    "rio-tiler-pds__S2A_29RKH_20200219_0_L2A.json": (32767, {"scl": "SCL.tif"}),
    "pystac-client-cassette__S2A_13TDE_20231008_0_L2A__sentinel-2-l2a.json":
        (31767, {"scl": "SCL.tif"}),
    "odc-stac__S2B_MSIL2A_20190629T212529_R043_T06VVN.json":
        (32767, {"scl": "T06VVN_20190629T212529_SCL_20m.tif"}),
    "odc-stac__S2B_MSIL2A_20190629T212529_R043_T06VVN_raster_ext.json":
        (32767, {"scl": "T06VVN_20190629T212529_SCL_20m.tif"}),
    "stactools-sentinel2__S2A_T07HFE_20190212_L2A.json":
        (32767, {"scl": "T07HFE_20190212T192651_SCL_20m.tif"}),
    # Its SCL is listed at 20 m and at 60 m, under one name.
    "stactools-sentinel2__S2A_T60CWS_20240109_L2A.json":
        (32767, {"scl": "R20m/SCL.jp2"}),
    "odc-stac__LC08_L2SP_028030_20200114_SR.json":
        (65455, {"qa_pixel": "LC08_L2SP_028030_20200114_20200824_02_T1_QA_PIXEL.TIF",
                           "qa_radsat": "LC08_L2SP_028030_20200114_20200824_02_T1_QA_RADSAT.TIF"}),
    "pystac-client-cassette__LC08_L2SP_033032_20231008_02_T1__landsat-c2-l2.json":
        (65455, {"qa_pixel": "LC08_L2SP_033032_20231008_20231017_02_T1_QA_PIXEL.TIF",
                           "qa_radsat": "LC08_L2SP_033032_20231008_20231017_02_T1_QA_RADSAT.TIF"}),
}  # fmt: skip


@pytest.mark.parametrize("file", [row[1] for row in CATALOGUES])
def test_catalogues_masks(realdata: Path, file: str) -> None:
    saturated, masks = BESIDES[file]
    scene = read_scene(str(realdata / "stac" / file))
    assert scene.nir.saturated == scene.swir2.saturated == saturated
    assert [mask.kind for mask in scene.masks] == list(masks)
    for mask in scene.masks:
        assert mask.href.endswith(f"/{masks[mask.kind]}")


def test_catalogue_resolution_of_the_chosen_band(realdata: Path) -> None:
    """Where one band is listed at 10, 20 and 60 m, the finest is taken."""
    file = realdata / "stac" / "stactools-sentinel2__S2A_T60CWS_20240109_L2A.json"
    scene = read_scene(str(file))
    assert scene.nir.href == str(file.parent / "R10m" / "B08.jp2")
    assert scene.swir2.href == str(file.parent / "R20m" / "B12.jp2")


def bands(nir: dict[str, Any] | None = None, **extra: Any) -> dict[str, Any]:
    return {
        "B08": {"href": "B08.tif"} | (nir or {}),
        "B12": {"href": "B12.tif"},
    } | extra


def scene_of(document: dict[str, Any]) -> Scene:
    return to_scene(document, "/data/item.json")


BASELINES = [
    ({"s2__processing_baseline": "02.14"}, 0.0),
    ({"s2__processing_baseline": "03.01"}, 0.0),
    ({"s2__processing_baseline": "04.00"}, -0.1),
    ({"s2__processing_baseline": "05.11"}, -0.1),
    ({"s2__processing_baseline": 4.0}, -0.1),
    ({"s2__processing_baseline": None, "processing__version": "05.10"}, -0.1),
    ({"s2__processing_baseline": None, "sentinel__processing_baseline": "03.01"}, 0.0),
    # Earth Search v0 in the first weeks of baseline 04.00.
    ({"s2__processing_baseline": None, "sentinel__processing_baseline": "04.00"}, -0.1),
    ({"s2__processing_baseline": None, "sentinel__processing_baseline": "04.00",
      "sentinel__boa_offset_applied": True}, 0.0),
    ({"s2__processing_baseline": "04.00", "earthsearch__boa_offset_applied": True}, 0.0),
    ({"s2__processing_baseline": "04.00", "earthsearch__boa_offset_applied": False}, -0.1),
    ({"s2__processing_baseline": None,
      "s2__product_uri": "S2A_MSIL2A_20231008T175231_N0509_R141_T13TDE_20231008T233154.SAFE"},
     -0.1),
    ({"s2__processing_baseline": None,
      "sentinel__product_id": "S2A_MSIL2A_20200714T115221_N0214_R123_T28QCH_20200714T191310"},
     0.0),
    ({"s2__processing_baseline": None, "s2__tile_id": "S2A_OPER_MSI_A044654_T60CWS_N05.10"}, -0.1),
]  # fmt: skip


@pytest.mark.parametrize(("properties", "offset"), BASELINES)
def test_offset_by_baseline(properties: dict[str, Any], offset: float) -> None:
    scene = scene_of(item("scene", bands(), **properties))
    for band in (scene.nir, scene.swir2):
        assert (band.scale, band.offset, band.nodata) == (1e-4, offset, 0)


DECLARED = {"scale": 2e-4, "offset": -0.2, "nodata": 7}


@pytest.mark.parametrize(
    "fields",
    [
        {"raster:bands": [DECLARED]},
        {"bands": [DECLARED]},
        {"bands": [{"raster:scale": 2e-4, "raster:offset": -0.2, "nodata": 7}]},
        {"raster:scale": 2e-4, "raster:offset": -0.2, "nodata": 7},
        {"raster:bands": [{"scale": "2e-4", "offset": "-0.2", "nodata": "7"}]},
    ],
)
def test_what_the_item_declares_wins(fields: dict[str, Any]) -> None:
    band = scene_of(item("scene", bands(fields), s2__processing_baseline="03.01")).nir
    assert (band.scale, band.offset, band.nodata) == (2e-4, -0.2, 7)


def test_jpeg2000_keeps_its_offset_where_the_cog_does_not() -> None:
    """boa_offset_applied speaks of the catalogue's COGs, not of ESA's own files beside them."""
    declared = {"raster:bands": [{"scale": 1e-4, "offset": -0.1, "nodata": 0}]}
    jp2 = declared | {"href": "B08.jp2", "type": "image/jp2", "eo:bands": [{"common_name": "nir"}]}
    cog = declared | {"href": "B08.tif", "eo:bands": [{"common_name": "nir"}]}
    swir2 = declared | {"href": "B12.tif"}
    said = {"s2__processing_baseline": "05.00", "earthsearch__boa_offset_applied": True}
    both = scene_of(item("a", {"nir-jp2": jp2, "nir-tif": cog, "swir22": swir2}, **said))
    assert both.nir.href == "/data/B08.tif"
    assert both.nir.offset == 0
    only = scene_of(item("a", {"nir-jp2": jp2, "swir22": swir2}, **said))
    assert only.nir.href == "/data/B08.jp2"
    assert only.nir.offset == -0.1


def test_bands_by_common_name() -> None:
    named = {
        "five": {"href": "5.tif", "bands": [{"name": "B8A", "eo:common_name": "nir08"}], "gsd": 20},
        "four": {"href": "4.tif", "bands": [{"name": "B08", "eo:common_name": "nir"}], "gsd": 60},
        "six": {"href": "6.tif", "bands": [{"name": "B08", "eo:common_name": "nir"}], "gsd": 10},
        "rgb": {"href": "7.tif", "eo:bands": [{"common_name": "nir"}, {"common_name": "red"}]},
        "two": {"href": "2.tif", "eo:bands": [{"name": "B12", "common_name": "swir22"}]},
    }
    scene = scene_of(item("scene", named))
    assert (scene.nir.href, scene.swir2.href) == ("/data/6.tif", "/data/2.tif")
    del named["four"], named["six"]
    assert scene_of(item("scene", named)).nir.href == "/data/5.tif"


def test_planetary_computer_narrow_nir_is_a_fallback() -> None:
    scene = scene_of(item("scene", {"B8A": "B8A.tif", "B12": "B12.tif"}))
    assert scene.nir.href == "/data/B8A.tif"


@pytest.mark.parametrize(
    ("href", "base", "expected"),
    [
        ("B08.tif", "/data/a/item.json", "/data/a/B08.tif"),
        ("./x/../B08.tif", "/data/a/item.json", "/data/a/B08.tif"),
        ("/else/B08.tif", "/data/a/item.json", "/else/B08.tif"),
        ("file:///else/B%2008.tif", "/data/a/item.json", "/else/B 08.tif"),
        ("B08.tif", "https://host/c/item?f=json", "https://host/c/B08.tif"),
        ("/B08.tif", "https://host/c/item", "https://host/B08.tif"),
        ("https://other/B08.tif?sig=1", "/data/a/item.json", "https://other/B08.tif?sig=1"),
        ("s3://bucket/B08.tif", "https://host/c/item", "s3://bucket/B08.tif"),
    ],
)
def test_hrefs(href: str, base: str, expected: str) -> None:
    assert source.resolve(href, base) == expected


def test_relative_and_file_locations(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = read_scene(str(sample / "pre.json"))
    assert read_scene((sample / "pre.json").as_uri()) == absolute
    monkeypatch.chdir(sample.parent)
    assert read_scene(f"{sample.name}/pre.json") == absolute
    assert Path(absolute.nir.href).is_absolute()


BROKEN = [
    ("not JSON", "{", "not JSON"),
    ("an array", "[]", "not a STAC item (a JSON list)"),
    ("a collection", '{"type": "Collection", "stac_version": "1.0.0"}', "type 'Collection'"),
    ("a search's reply", '{"type": "FeatureCollection", "features": []}', "a FeatureCollection"),
    ("no item", '{"type": "Feature", "stac_version": "1.0.0"}', "not a STAC item"),
    ("nested", "[" * 100_000, "not a STAC item (nested too deeply)"),
    ("binary", b"\xff\xfe\x00", "not JSON"),
]


@pytest.mark.parametrize(("text", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_items(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "item.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read_scene(str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("href", [None, 5, ["B08.tif"]])
def test_href_that_is_no_text(href: Any) -> None:
    with pytest.raises(InputError, match="not a STAC item"):
        scene_of(item("scene", bands({"href": href})))


@pytest.mark.parametrize(
    ("assets", "href"),
    [
        ({"SCL": "SCL.jp2", "scl": "SCL.tif"}, "/data/SCL.tif"),
        ({"scl-jp2": "SCL.jp2"}, "/data/SCL.jp2"),
        ({"SCL_60m": "a.jp2", "SCL_20m": "b.jp2"}, "/data/b.jp2"),
        ({"scl_60m": "a.tif", "scl": "b.tif"}, "/data/b.tif"),
        ({"scl_60m": "a.tif", "scl-jp2": "b.jp2"}, "/data/a.tif"),
        ({"a": "T29TNE_SCL_60m.tif", "b": "T29TNE_SCL_20m.tif"}, "/data/T29TNE_SCL_20m.tif"),
        ({"classes": "https://host/T29TNE_20230101T112301_SCL_20m.tif?sig=1"},
         "https://host/T29TNE_20230101T112301_SCL_20m.tif?sig=1"),
        ({"scl_preview": "scl.png", "muscl": "muscl.tif", "MSK": "MSK_CLDPRB_20m.jp2"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_scene_classification(assets: dict[str, str], href: str | None) -> None:
    masks = scene_of(item("scene", bands() | {k: {"href": v} for k, v in assets.items()})).masks
    assert [(mask.kind, mask.href) for mask in masks] == ([("scl", href)] if href else [])


def landsat(name: str, folder: str = "", **properties: Any) -> dict[str, Any]:
    """A Landsat item whose files have the name of their band only."""
    files = {"nir08": "SR_B5.TIF", "swir22": "SR_B7.TIF", "qa_pixel": "QA_PIXEL.TIF",
             "qa_radsat": "QA_RADSAT.TIF"}  # fmt: skip
    nothing = {"s2__product_type": None, "s2__processing_baseline": None}
    assets = {key: folder + file for key, file in files.items()}
    return item(name, assets, **(nothing | {"platform": "landsat-8"} | properties))


PLANETARY_COMPUTER = (
    "https://host/landsat-c2/level-2/standard/oli-tirs/2023/204/032/"
    "LC09_L2SP_204032_20230803_20230805_02_T1/LC09_L2SP_204032_20230803_20230805_02_T1_"
)


@pytest.mark.parametrize(
    "document",
    [
        landsat("local"),
        landsat("local", platform="LANDSAT_9", instruments=["OLI", "TIRS"]),
        landsat("LC09_L2SP_204032_20230803_02_T1", PLANETARY_COMPUTER, platform="landsat-9"),
        landsat("local", platform=None) | {"collection": "landsat-c2-l2"},
        landsat("local", platform=None) | {"collection": "landsat-c2l2-sr"},
        landsat("LC08_L2SP_204032_20230803_02_T1", platform=None),
        landsat("local", landsat__correction="L2SR"),
        landsat("local", landsat__correction="L2SP", platform=None),
    ],
)
def test_landsat_by_file_item_or_collection(document: dict[str, Any]) -> None:
    scene = scene_of(document)
    for band in (scene.nir, scene.swir2):
        assert (band.scale, band.offset, band.nodata) == (2.75e-5, -0.2, 0)
        assert band.saturated == 65455


def test_landsat_files_without_a_name_of_their_own() -> None:
    """Renamed files need an item that says what they are."""
    document = landsat("local", landsat__correction="L2SP")
    for key in ("nir08", "swir22"):
        document["assets"][key]["href"] = f"{key}.tif"
    assert scene_of(document).nir.offset == -0.2
    del document["properties"]["landsat:correction"]
    with pytest.raises(InputError, match="declares no scale"):
        scene_of(document)
    # What such an item declares is taken: it may be another producer's reflectance.
    for key in ("nir08", "swir22"):
        document["assets"][key]["raster:bands"] = [{"scale": 1e-4, "nodata": -999}]
    nir = scene_of(document).nir
    assert (nir.scale, nir.offset, nir.nodata, nir.saturated) == (1e-4, 0, -999, None)


def test_landsat_masks() -> None:
    scene = scene_of(landsat("LC09_L2SP_204032_20230803_02_T1", PLANETARY_COMPUTER))
    assert [mask.kind for mask in scene.masks] == ["qa_pixel", "qa_radsat"]


def test_saturation_bits_of_other_sensors_are_not_read() -> None:
    """In Landsat 5's QA_RADSAT, bit 4 is SWIR1."""
    scene = scene_of(landsat("LT05_L2SP_204032_19950803_02_T1", platform="landsat-5"))
    assert [mask.kind for mask in scene.masks] == ["qa_pixel"]


DECLARES = {"raster:bands": [{"scale": 2e-5, "offset": -0.1}]}


@pytest.mark.parametrize(
    ("name", "nir", "properties", "message"),
    [
        ("local", "LC08_L1TP_204032_20230803_20230805_02_T1_B5.TIF", {}, "is Landsat L1TP"),
        ("LC08_L2SP_204032_20230803_02_T1", "LC08_L1TP_204032_20230803_20230805_02_T1_B5.TIF",
         {"landsat__correction": "L2SP"}, "is Landsat L1TP"),
        ("LC08_L1GT_204032_20230803_02_T2", "B5.TIF", {}, "is Landsat L1GT"),
        ("local", "B5.TIF", {"landsat__correction": "L1TP"}, "is Landsat L1TP"),
        ("LC08_L2SP_204032_20230803_02_T1",
         "LC08_L2SP_204032_20230803_20230805_02_T1_ST_B10.TIF?sig=secret", {},
         "is Landsat surface temperature"),
        ("local", "ST_B10.TIF", {"landsat__correction": "L2SP"}, "is Landsat surface temperature"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("declares", [{}, DECLARES])
def test_landsat_that_is_no_reflectance(
    name: str, nir: str, properties: dict[str, Any], message: str, declares: dict[str, Any]
) -> None:
    document = landsat(name, **properties)
    document["assets"]["nir08"] = {"href": nir} | declares
    with pytest.raises(InputError, match=message) as caught:
        scene_of(document)
    assert "asset 'nir08'" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_signer_is_given_every_raster(tmp_path: Path) -> None:
    asked: list[str] = []

    def sign(href: str) -> str:
        asked.append(href)
        return f"{href}?sig=1"

    assets = {"B08": "B08.tif", "B12": "https://host/B12.tif", "SCL": "SCL.tif", "B04": "B04.tif"}
    for name in ("pre", "post"):
        (tmp_path / f"{name}.json").write_text(json.dumps(item(name, assets)))
    locations = [[str(tmp_path / f"{name}.json")] for name in ("pre", "post")]
    scenes = [scene for event in read_scenes(*locations, sign) for scene in event]
    rasters = [str(tmp_path / "B08.tif"), "https://host/B12.tif", str(tmp_path / "SCL.tif")]
    assert asked == rasters * 2
    for scene in scenes:
        opened = [scene.nir.href, scene.swir2.href, *(mask.href for mask in scene.masks)]
        assert opened == [f"{raster}?sig=1" for raster in rasters]


@pytest.mark.parametrize(
    ("document", "messages"),
    [
        ({"assets": {"B04": "B04.tif"}},
         ["no NIR band; looked for the assets B08, nir", "no SWIR2 band; looked for"]),
        ({"assets": {"B08": "B08.tif"}}, ["no SWIR2 band", "the item has B08"]),
        ({"s2__product_type": None, "platform": "other"}, ["declares no scale"]),
        ({"s2__processing_baseline": None}, ["asset 'B08' declares no offset", "asset 'B12'"]),
        ({"assets": bands({"raster:bands": [{"scale": "x"}]})},
         ["asset 'B08' declares scale 'x', which is no number"]),
        ({"assets": bands({"raster:bands": [{"scale": 0}]})}, ["declares scale 0.0"]),
        ({"datetime": None}, ["not a STAC item", "datetime"]),
    ],
)  # fmt: skip
def test_items_that_do_not_do(document: dict[str, Any], messages: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        scene_of(item("scene", **({"assets": bands()} | document)))
    for message in messages:
        assert message in str(caught.value)
    assert all("\n" not in problem for problem in caught.value.problems)


@pytest.mark.parametrize(
    "odd",
    [
        {"raster:bands": None},
        {"raster:bands": {"scale": 1}},
        {"raster:bands": ["x"]},
        {"eo:bands": 3},
        {"bands": [None]},
        {"gsd": "ten"},
    ],
)
def test_odd_fields_are_ignored(odd: dict[str, Any]) -> None:
    assert scene_of(item("scene", bands(odd))).nir.scale == 1e-4


def test_both_items_problems_at_once(tmp_path: Path) -> None:
    (tmp_path / "post.json").write_text("{")
    with pytest.raises(InputError) as caught:
        read_scenes([str(tmp_path / "pre.json")], [str(tmp_path / "post.json")])
    first, second = caught.value.problems
    assert first.startswith("pre-event item: ")
    assert "no such file" in first
    assert second.startswith("post-event item: ")
    assert "not JSON" in second


class Server(http.server.BaseHTTPRequestHandler):
    """Serves an item, and what a server does wrong."""

    def do_GET(self) -> None:
        counts: dict[str, int] = self.server.counts  # type: ignore[attr-defined]
        counts[self.path] = counts.get(self.path, 0) + 1
        if self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                while counts[self.path] < 64:
                    self.wfile.write(b" " * 2**20)
                    counts[self.path] += 1
            return
        status, body = 200, json.dumps(item("scene", bands())).encode()
        if self.path == "/missing":
            status = 404
        elif self.path == "/busy" or (self.path == "/twice" and counts[self.path] < 3):
            status = 503
        elif self.path == "/page":
            body = b"<html>"
        elif self.path == "/large":
            body = b" " * (source.MAX_BYTES + 2)
        elif self.path == "/local":
            body = json.dumps(item("scene", bands({"href": "file:///etc/B08.tif"}))).encode()
        elif self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/items/scene")
            self.end_headers()
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that has read enough
            self.wfile.write(body[:10] if self.path == "/cut" else body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, int]]]:
    monkeypatch.setattr(source, "PAUSES", (0.01, 0.01))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as http_server:
        http_server.counts = {}  # type: ignore[attr-defined]
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http_server.server_port}", http_server.counts  # type: ignore[attr-defined]
        http_server.shutdown()
        thread.join()


def test_item_over_http(server: tuple[str, dict[str, int]]) -> None:
    url, counts = server
    scene = read_scene(f"{url}/items/scene")
    assert scene.nir.href == f"{url}/items/B08.tif"
    assert read_scene(f"{url}/twice").id == "scene"
    assert counts["/twice"] == 3
    assert read_scene(f"{url}/moved").id == "scene"


@pytest.mark.parametrize(
    ("path", "message", "asked"),
    [
        ("/missing", "the server answered 404", 1),
        ("/busy", "the server answered 503", 3),
        ("/page", "not JSON", 1),
        ("/large", "larger than 16 MiB", 1),
        ("/cut", "the reply was cut short", 3),
        ("/local", "may not point at file:///etc/B08.tif", 1),
    ],
)
def test_http_trouble(
    server: tuple[str, dict[str, int]], path: str, message: str, asked: int
) -> None:
    url, counts = server
    with pytest.raises(InputError) as caught:
        read_scene(url + path)
    assert message in str(caught.value)
    assert url in str(caught.value)
    assert counts[path] == asked


def test_endless_reply(server: tuple[str, dict[str, int]]) -> None:
    """It is given up as soon as it is too large."""
    url, counts = server
    with pytest.raises(InputError, match="larger than 16 MiB"):
        read_scene(f"{url}/endless")
    assert counts["/endless"] < 40


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("s3://bucket/item.json", "'s3:' is not understood"),
        ("file://host/item.json", "must name a file of this machine"),
        ("http://127.0.0.1:9/item", "cannot be reached"),
        ("http://[", "not a usable URL"),
        ("", "cannot be read"),
    ],
)
def test_locations_that_do_not_do(
    location: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PAUSES", (0.0,))
    with pytest.raises(InputError, match=message):
        read_scene(location)
