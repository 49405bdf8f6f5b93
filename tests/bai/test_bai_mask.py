"""Masks' numbers -> reasons, against the tables that USGS and ESA publish and on real masks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio

from bai_example.errors import InputError
from bai_example.mask import REASONS, lookup, merge, reasons

# QA_PIXEL values that occur, and what USGS' table of values (LSDS-1619) says of each.
QA_PIXEL_VALUES = {
    1: "no data",  # fill
    21824: "kept",  # clear, all confidences low
    21826: "cloud",  # dilated cloud over land
    21888: "water",  # water, the clear bit not set
    21890: "cloud",  # dilated cloud over water
    21952: "water",  # clear water
    22080: "kept",  # mid confidence cloud: the cloud bit is not set
    22144: "water",  # mid confidence cloud over water
    22280: "cloud",  # high confidence cloud
    23888: "shadow",  # high confidence cloud shadow
    23952: "shadow",  # shadow over water
    24088: "cloud",  # mid confidence cloud with shadow
    24216: "cloud",  # the same over water
    24344: "cloud",  # high confidence cloud with shadow
    24472: "cloud",  # the same over water
    30048: "snow",  # high confidence snow or ice
    54596: "cloud",  # high confidence cirrus
    54852: "cloud",  # cirrus, mid confidence cloud
    55052: "cloud",  # cirrus, high confidence cloud
}


@pytest.mark.parametrize(("value", "reason"), QA_PIXEL_VALUES.items())
def test_qa_pixel_values(value: int, reason: str) -> None:
    assert REASONS[lookup("qa_pixel")[value]] == reason


def test_qa_pixel_by_the_bits_the_catalogue_declares(realdata: Path) -> None:
    """Every value, bit by bit, with the names and positions that a real item gives the bits."""
    because = {
        "fill": "no data", "cloud": "cloud", "dilated_cloud": "cloud", "cirrus": "cloud",
        "cloud_shadow": "shadow", "snow": "snow", "water": "water",
    }  # fmt: skip
    bits = declared_bits(realdata, "qa_pixel")
    rank = {name: REASONS.index(reason) for name, reason in because.items()}
    for value in range(65536):
        set_bits = [rank[name] for name in because if value // 2 ** bits[name] % 2]
        assert lookup("qa_pixel")[value] == min(set_bits, default=0), f"{value:016b}"


def test_qa_radsat_by_the_bits_the_catalogue_declares(realdata: Path) -> None:
    bits = declared_bits(realdata, "qa_radsat")
    table = lookup("qa_radsat")
    for name, bit in bits.items():
        expected = "saturated" if name in ("band5", "band7") else "kept"
        assert REASONS[table[2**bit]] == expected, name
    assert np.count_nonzero(table) == 65536 * 3 // 4
    assert set(np.unique(table)) == {0, REASONS.index("saturated")}


def declared_bits(realdata: Path, key: str) -> dict[str, int]:
    file = "pystac-client-cassette__LC08_L2SP_033032_20231008_02_T1__landsat-c2-l2.json"
    document = json.loads((realdata / "stac" / file).read_text(encoding="utf-8"))
    fields = document["assets"][key]["classification:bitfields"]
    return {field["name"]: field["offset"] for field in fields}


def test_scl_by_the_classes_the_catalogue_declares(realdata: Path) -> None:
    because = {
        "no_data": "no data", "saturated_or_defective": "saturated", "dark_area_pixels": "kept",
        "cloud_shadows": "shadow", "vegetation": "kept", "not_vegetated": "kept",
        "water": "water", "unclassified": "kept", "cloud_medium_probability": "cloud",
        "cloud_high_probability": "cloud", "thin_cirrus": "cloud", "snow": "snow",
    }  # fmt: skip
    file = "stactools-sentinel2__S2A_T07HFE_20190212_L2A.json"
    document = json.loads((realdata / "stac" / file).read_text(encoding="utf-8"))
    classes = document["assets"]["scl"]["raster:bands"][0]["classification:classes"]
    assert {entry["value"] for entry in classes} == set(range(12))
    for entry in classes:
        assert REASONS[lookup("scl")[entry["value"]]] == because[entry["name"]], entry["name"]
    assert {REASONS[code] for code in lookup("scl")[12:]} == {"no data"}


def counted(codes: np.ndarray) -> dict[str, int]:
    return {REASONS[code]: int(n) for code, n in enumerate(np.bincount(codes.ravel())) if n}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_real_scene_classification(realdata: Path, dtype: type) -> None:
    with rasterio.open(realdata / "rasters" / "S2A_29RKH_20200219_0_L2A" / "SCL.tif") as file:
        classes = file.read(1).astype(dtype)
    codes = reasons(classes, "scl")
    assert (codes.dtype, codes.shape) == (np.uint8, classes.shape)
    # Classes 8, 9 and 10 are cloud; 2, 5 and 7 are kept; others do not occur.
    number = Counter(classes.ravel().tolist())
    assert counted(codes) == {
        "kept": number[2] + number[5] + number[7],
        "cloud": number[8] + number[9] + number[10],
    }
    assert counted(codes)["cloud"] == 12238


def test_real_pixel_quality(realdata: Path) -> None:
    folder = realdata / "rasters" / "LC08_L2SP_001062_20201031"
    with rasterio.open(folder / "QA_PIXEL.TIF") as file:
        quality = file.read(1)
    codes = reasons(quality, "qa_pixel")
    assert counted(codes) == {"no data": 44854, "cloud": 24286 + 77092, "shadow": 62}
    # Fill is where the bands have none, which the bands say themselves.
    with rasterio.open(folder / "SR_B5.TIF") as file:
        nir = file.read(1)
    fill = codes == REASONS.index("no data")
    # Not to the pixel: the rasters were decimated one by one.
    assert (nir[fill] == 0).mean() > 0.99
    assert (nir[~fill] != 0).mean() > 0.99


def test_scl_in_uint16() -> None:
    values = np.array([0, 4, 11, 255, 256, 260, 65535], dtype=np.uint16)
    names = [REASONS[code] for code in reasons(values, "scl")]
    assert names == ["no data", "kept", "snow", "no data", "no data", "no data", "no data"]


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.int64, np.bool_])
def test_numbers_that_are_no_mask(dtype: type) -> None:
    with pytest.raises(InputError, match="a mask of kind scl holds uint8 or uint16, not"):
        reasons(np.zeros((2, 2), dtype), "scl")


def test_tables_are_made_once_and_cannot_be_changed() -> None:
    for kind, size in (("scl", 256), ("qa_pixel", 65536), ("qa_radsat", 65536)):
        assert lookup(kind) is lookup(kind)
        assert lookup(kind).shape == (size,)
        with pytest.raises(ValueError, match="read-only"):
            lookup(kind)[0] = 1


def test_merge_takes_the_first_reason() -> None:
    codes = np.arange(len(REASONS), dtype=np.uint8)
    first, second = (grid.copy() for grid in np.meshgrid(codes, codes))
    expected = [
        [min((code for code in (a, b) if code), default=0) for a, b in zip(*rows, strict=True)]
        for rows in zip(first.tolist(), second.tolist(), strict=True)
    ]
    untouched = second.copy()
    merge(first, second)
    assert first.tolist() == expected
    assert (second == untouched).all()
