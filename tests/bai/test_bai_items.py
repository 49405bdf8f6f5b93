"""STAC items of every catalogue -> the right files with the right scale and offset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bai_example import access
from bai_example.__main__ import named_scenes, parse
from bai_example.access import InputError, resolve
from bai_example.scenes import Scene, read_scene, to_scene
from tests.bai.maps import item
from tests.bai.servers import rasters_over_http

LC08 = "LC08_L2SP_028030_20200114_20200824_02_T1"
S2 = "/B08.tif /B12.tif scl=/SCL.tif"
S2_T06, S2_T07 = (
    f"/{tile}_B08_10m.tif /{tile}_B12_20m.tif scl=/{tile}_SCL_20m.tif"
    for tile in ("T06VVN_20190629T212529", "T07HFE_20190212T192651")
)
LANDSAT = "_SR_B5.TIF _SR_B7.TIF qa_pixel=_QA_PIXEL.TIF qa_radsat=_QA_RADSAT.TIF"
# File, the ends of the hrefs of NIR, SWIR and masks, scale, offset, saturated from.
CATALOGUES = [
    ("odc-stac__S2A_28QCH_20200714_0_L2A", S2, 1e-4, 0.0, 32767),
    ("rio-tiler-pds__S2A_29RKH_20200219_0_L2A", S2, 1e-4, 0.0, 32767),
    # Declares -0.1 although boa_offset_applied says that it is in the pixels already.
    ("pystac-client-cassette__S2A_13TDE_20231008_0_L2A__sentinel-2-l2a", S2, 1e-4, 0.0, 31767),
    ("odc-stac__S2B_MSIL2A_20190629T212529_R043_T06VVN", S2_T06, 1e-4, 0.0, 32767),
    # raster:bands without scale and offset.
    ("odc-stac__S2B_MSIL2A_20190629T212529_R043_T06VVN_raster_ext", S2_T06, 1e-4, 0.0, 32767),
    ("stactools-sentinel2__S2A_T07HFE_20190212_L2A", S2_T07, 1e-4, 0.0, 32767),
    # Each band is listed at 10, 20 and 60 m; relative hrefs.
    ("stactools-sentinel2__S2A_T60CWS_20240109_L2A",
     "/stac/R10m/B08.jp2 /stac/R20m/B12.jp2 scl=/R20m/SCL.jp2", 1e-4, -0.1, 32767),
    ("odc-stac__LC08_L2SP_028030_20200114_SR", LANDSAT, 2.75e-5, -0.2, 65455),
    ("pystac-client-cassette__LC08_L2SP_033032_20231008_02_T1__landsat-c2-l2",
     LANDSAT, 2.75e-5, -0.2, 65455),
]  # fmt: skip


def test_catalogues(realdata: Path) -> None:
    """Every real item is in the table."""
    assert {row[0] for row in CATALOGUES} == {p.stem for p in (realdata / "stac").iterdir()}
    for file, ends, scale, offset, saturated in CATALOGUES:
        scene = read_scene(str(realdata / "stac" / f"{file}.json"))
        assert_files(scene, ends)
        for band in (scene.nir, scene.swir):
            assert band.href.startswith(("/", "https://", "s3://usgs"))
            numbers = (band.scale, band.offset, band.nodata, band.saturated)
            assert numbers == (scale, offset, 0, saturated), file
        assert scene.datetime.tzinfo is not None


def bands(nir: dict[str, Any] | None = None, **extra: Any) -> dict[str, Any]:
    return {"B08": {"href": "B08.tif"} | (nir or {}), "B12": {"href": "B12.tif"}} | extra


def scene_of(document: Any) -> Scene:
    return to_scene(document, "/data/item.json")


def landsat(file: str, name: str = "local", **properties: Any) -> dict[str, Any]:
    """A Landsat item; the files' names end with their band's."""
    bands = {"nir08": "SR_B5", "swir22": "SR_B7", "qa_pixel": "QA_PIXEL", "qa_radsat": "QA_RADSAT"}
    assets = {key: f"{file}_{band}.TIF" for key, band in bands.items()}
    return item(name, assets, **({"s2__product_type": None, **NONE} | properties))


NONE = {"s2__processing_baseline": None}
BASELINES = [
    ({"s2__processing_baseline": "02.14"}, 0.0),
    ({"s2__processing_baseline": "03.01"}, 0.0),
    ({"s2__processing_baseline": "04.00"}, -0.1),
    ({"s2__processing_baseline": "05.11"}, -0.1),
    ({"s2__processing_baseline": 4.0}, -0.1),
    (NONE | {"processing__version": "05.10"}, -0.1),
    (NONE | {"sentinel__processing_baseline": "03.01"}, 0.0),
    # Earth Search v0 in the first weeks of baseline 04.00.
    (NONE | {"sentinel__processing_baseline": "04.00"}, -0.1),
    (NONE | {"sentinel__processing_baseline": "04.00", "sentinel__boa_offset_applied": True}, 0.0),
    ({"s2__processing_baseline": "04.00", "earthsearch__boa_offset_applied": True}, 0.0),
    ({"s2__processing_baseline": "04.00", "earthsearch__boa_offset_applied": False}, -0.1),
    (NONE | {"s2__product_uri": "S2A_MSIL2A_20231008T175231_N0509_R141_T13TDE_2023.SAFE"}, -0.1),
    (NONE | {"sentinel__product_id": "S2A_MSIL2A_20200714T115221_N0214_R123_T28QCH_2020"}, 0.0),
    (NONE | {"s2__tile_id": "S2A_OPER_MSI_A044654_T60CWS_N05.10"}, -0.1),
]
DECLARED = {"scale": 1e-4, "offset": -0.1, "nodata": 0}
OTHER = {"scale": 2e-4, "offset": -0.2, "nodata": 7}
PREFIXED = {"raster:scale": 2e-4, "raster:offset": -0.2}
MINUS = {"raster:bands": [{"scale": 1e-4, "nodata": -999}]}
APPLIED = {"s2__processing_baseline": "05.00", "earthsearch__boa_offset_applied": True}
JP2 = {"raster:bands": [DECLARED], "href": "B08.jp2", "type": "image/jp2"}
# Items, and scale, offset, nodata of NIR, and the count from which on it is saturated.
NUMBERS: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    *((item("scene", bands(), **said),
       (1e-4, offset, 0, 31767 if True in said.values() else 32767)) for said, offset in BASELINES),
    # What the item declares wins, wherever it does.
    *((item("scene", bands(fields)), (2e-4, -0.2, 7, 32767)) for fields in (
        {"raster:bands": [OTHER]}, {"bands": [OTHER]}, {"bands": [PREFIXED | {"nodata": 7}]},
        PREFIXED | {"nodata": "7"})),
    # boa_offset_applied speaks of the catalogue's COGs, not of ESA's own files beside them.
    (item("a", bands({"raster:bands": [DECLARED]}), **APPLIED), (1e-4, 0, 0, 31767)),
    (item("a", bands(JP2), **APPLIED), (1e-4, -0.1, 0, 32767)),
    # Landsat Level-2 by file, id or correction.
    *((document, (2.75e-5, -0.2, 0, 65455)) for document in (
        landsat(LC08, platform="landsat-8"), landsat("renamed", LC08, platform=None),
        landsat("renamed", platform="LANDSAT_9", landsat__correction="L2SR"))),
    # Another producer's.
    (item("local", {"nir08": MINUS | {"href": "5.tif"}, "swir22": MINUS | {"href": "7.tif"}},
          s2__product_type=None, **NONE), (1e-4, 0, -999, None)),
]  # fmt: skip


def test_what_the_counts_mean() -> None:
    for document, numbers in NUMBERS:
        band = scene_of(document).nir
        assert (band.scale, band.offset, band.nodata, band.saturated) == numbers, document
    scene = to_scene(item("a", bands(), **APPLIED), "/a.json", offset=-0.05)
    assert (scene.nir.offset, scene.swir.offset, scene.nir.scale) == (-0.05, -0.05, 1e-4)


def test_saturation_bits_of_other_sensors_are_not_read() -> None:
    """In Landsat 5's QA_RADSAT, bit 4 is SWIR1."""
    for sensor, name, masks in (
        ("landsat-5", LC08.replace("LC08", "LT05"), ["qa_pixel"]),
        ("landsat-8", LC08, ["qa_pixel", "qa_radsat"]),
    ):
        assert [*scene_of(landsat(name, name, platform=sensor)).masks] == masks


FOLDER = "s3://eodata/Sentinel-2/MSI/L2A/2023/10/08/S2A.SAFE/IMG_DATA/"
USGS_BANDS = ("coastal", "blue", "green", "red", "nir08", "swir16", "swir22")
USGS_FILES = ("SR_B5.TIF", "SR_B7.TIF", "QA_PIXEL.TIF", "QA_RADSAT.TIF")
USGS = {key: {"href": f"https://example.org/{LC08}_{key}"} for key in USGS_FILES}


def usgs(nir: Any, swir: Any) -> dict[str, Any]:
    """As of 2020 and 2021: assets are called after files, bands by their number in the item."""
    own = {"SR_B5.TIF": [nir], "SR_B7.TIF": [swir]}
    assets = USGS | {key: USGS[key] | {"eo:bands": bands} for key, bands in own.items()}
    of_item = [{"name": f"SR_B{n}", "common_name": c} for n, c in enumerate(USGS_BANDS, 1)]
    said = {"platform": "LANDSAT_8", "eo__bands": of_item, "s2__product_type": None} | NONE
    return item(LC08, assets, **said)


# Items, and the ends of the hrefs of NIR, SWIR and masks.
FILES = [
    # Copernicus Data Space: keys hold the resolution.
    (item("S2A_MSIL2A_20231008T175231", {
        key: f"{FOLDER}{key}.jp2"
        for key in ("B08_10m", "B8A_20m", "B8A_60m", "B12_20m", "B12_60m", "SCL_20m", "SCL_60m")
    }), "B08_10m.jp2 B12_20m.jp2 scl=SCL_20m.jp2"),
    *((usgs(*named), LANDSAT) for named in (
        ({"common_name": "nir08"}, {"common_name": "swir22"}), (4, 6))),
]  # fmt: skip


def assert_files(scene: Scene, ends: str) -> None:
    nir, swir, *masks = ends.split()
    assert scene.nir.href.endswith(nir) and scene.swir.href.endswith(swir)
    assert [*scene.masks] == [mask.split("=")[0] for mask in masks]
    for href, mask in zip(scene.masks.values(), masks, strict=True):
        assert href.endswith(mask.split("=")[1])


def test_which_files_are_read() -> None:
    for document, ends in FILES:
        assert_files(scene_of(document), ends)
    assert scene_of(item("scene", bands()) | {"id": 7}).id == "7"


HREFS = [
    ("./x/../B08.tif", "/data/a #1/item.json", "/data/a #1/B08.tif"),
    ("/else/B08.tif", "/data/a/item.json", "/else/B08.tif"),
    ("file:///else/B%2008.tif", "/data/a/item.json", "/else/B 08.tif"),
    ("/vsicurl/https://host/B08.tif", "/data/item.json", "/vsicurl/https://host/B08.tif"),
    ("B08.tif", "https://host/c/item?f=json", "https://host/c/B08.tif"),
    ("/vsizip//etc/B08.zip", "https://host/c/item", "https://host/vsizip//etc/B08.zip"),
    ("https://other/B08.tif?sig=1", "/data/a/item.json", "https://other/B08.tif?sig=1"),
    ("s3://bucket/B08.tif", "https://host/c/item", "s3://bucket/B08.tif"),
]


def test_hrefs() -> None:
    """An item from the network names no local file."""
    for href, base, expected in HREFS:
        assert resolve(href, base) == expected
    for href in ("file:///etc/B08.tif", "NETCDF:/etc/B08.nc", "zip:///etc/B.zip"):
        with pytest.raises(InputError, match=r"https://host/c/item: may not point at"):
            to_scene(item("scene", bands({"href": href})), "https://host/c/item?sig=1")


def test_relative_and_file_locations(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = read_scene(str(sample / "pre.json"))
    assert read_scene((sample / "pre.json").as_uri()) == absolute
    monkeypatch.chdir(sample.parent)
    assert read_scene(f"{sample.name}/pre.json") == absolute
    assert Path(absolute.nir.href).is_absolute()


L1C = "S2A_MSIL1C_20220720T100031_N0400_R122.SAFE"


@pytest.mark.parametrize("declares", [{}, {"raster:bands": [{"scale": 2e-5, "offset": -0.1}]}])
def test_what_is_no_surface_reflectance(declares: dict[str, Any]) -> None:
    """Level-1 and temperatures are refused, whatever the item declares, without URLs' secrets."""
    for nir, name, said in (
        ("LC08_L1TP_204032_20230803_20230805_02_T1_B5.TIF", LC08, {"landsat__correction": "L2SP"}),
        ("B5.TIF", "LC08_L1GT_204032_20230803_02_T2", {}),
        ("B5.TIF", "local", {"landsat__correction": "L1TP"}),
        (f"{LC08}_ST_B10.TIF?sig=secret", "local", {}),
        ("B08.jp2", "local", {"s2__product_type": "S2MSI1C", "s2__processing_baseline": "03.01"}),
        ("B08.jp2", "local", {"s2__product_type": "S2MSI1C", "s2__processing_baseline": "04.00"}),
        ("B08.jp2", "local", {"s2__product_uri": L1C}),
        ("B08.jp2", "local", {"collection": "sentinel-2-l1c"}),
    ):
        document = landsat(LC08, name, **said) | said
        document["assets"]["nir08"] = {"href": nir} | declares
        with pytest.raises(InputError, match="is no surface reflectance") as caught:
            scene_of(document)
        assert "secret" not in str(caught.value)


def test_signer_is_given_every_raster(tmp_path: Path) -> None:
    asked: list[str] = []

    def sign(href: str) -> str:
        asked.append(href)
        return f"{href}?sig=1"

    assets = {"B08": "B08.tif", "B12": "https://host/B12.tif", "SCL": "SCL.tif", "B04": "B04.tif"}
    (tmp_path / "pre.json").write_text(json.dumps(item("pre", assets)))
    scene = read_scene(str(tmp_path / "pre.json"), sign)
    assert asked == [str(tmp_path / "B08.tif"), "https://host/B12.tif", str(tmp_path / "SCL.tif")]
    opened = [scene.nir.href, scene.swir.href, *scene.masks.values()]
    assert opened == [f"{raster}?sig=1" for raster in asked]


def without(*properties: str) -> dict[str, Any]:
    return item("scene", bands(), **dict.fromkeys(properties))


MALFORMED = [
    "{",
    "[" * 100_000,
    b"\xff\xfe\x00",
    [],
    {"type": "Collection", "stac_version": "1.0.0"},
    {"type": "FeatureCollection", "features": []},
    {"type": "Feature", "stac_version": "1.0.0"},
    without("datetime"),
    item("scene", bands({"href": 5})),
    item("scene", bands({"raster:bands": [{"scale": "x"}]})),
    item("scene", bands({"bands": 3})),
]
UNKNOWN = [
    (item("scene", bands({"raster:bands": [{"scale": 0}]})), "scale 0.0, offset 0.0"),
    (without("s2:product_type"), "scale None, offset 0.0"),
    (without("s2:processing_baseline"), "scale 0.0001, offset None"),
    (item("scene", {"B04": "B04.tif"}), "needs the bands nir (B08, nir, B08_10m, nir08, B8A, "
     "B8A_20m, SR_B5.TIF) and swir (B12, swir22, B12_20m, SR_B7.TIF), but its assets are B04"),
    # Landsat 5's band 5 is not near infrared.
    (item("scene", {f"SR_B{n}.TIF": f"SR_B{n}.TIF" for n in (4, 5, 7)}, platform="LANDSAT_5"),
     "but its assets are SR_B4.TIF, SR_B5.TIF, SR_B7.TIF"),
]  # fmt: skip


def test_items_that_do_not_do(tmp_path: Path) -> None:
    path = tmp_path / "item.json"
    for document, said in [*((each, "no usable STAC item (") for each in MALFORMED), *UNKNOWN]:
        text = document if isinstance(document, (str, bytes)) else json.dumps(document)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(InputError) as caught:
            read_scene(str(path))
        (problem,) = caught.value.args
        assert said in problem and problem.startswith((f"{path}: ", "scene: ")), document
        assert "\n" not in problem and len(problem) < 400
    # Both items' problems at once.
    path.write_text("{")
    arguments = ["--items", str(tmp_path), "--pre-event=pre.json", "--post-event=item.json"]
    with pytest.raises(InputError) as caught:
        named_scenes(parse(arguments), None, str)
    first, second = caught.value.args
    assert "pre.json: no such file" in first and "item.json: no usable STAC item" in second


# --- over HTTP


def test_item_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as an API is: tried again, bounded, and told without the query."""
    monkeypatch.setattr(access, "BACKOFF", 0.01)
    (tmp_path / "item.json").write_text(json.dumps(item("scene", bands())))
    with rasters_over_http(tmp_path) as server:
        server.trouble = lambda name, n: 503 if n < 3 else None
        assert read_scene(f"{server.url}/item.json").nir.href == f"{server.url}/B08.tif"
        assert server.asked["item.json"] == 3
        monkeypatch.setattr(access, "MAX_BYTES", 100)
        with pytest.raises(InputError, match="the answer is too large"):
            read_scene(f"{server.url}/item.json")
        for location, message in (
            (f"{server.url}/no.json?sig=s3cret", f"^{server.url}/no.json: the server answered 404"),
            ("s3://bucket/item.json", "No connection adapters were found for 's3://bucket/item"),
            ("http://127.0.0.1:9/item", "cannot be reached"),
            ("http://[", "Invalid IPv6 URL"),
            ("", "is a directory"),
        ):
            with pytest.raises(InputError, match=message) as caught:
                read_scene(location)
            assert "s3cret" not in str(caught.value)
        assert server.asked["no.json"] == 1
