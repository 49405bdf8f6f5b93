"""Indices, classes and masks: against plain arithmetic and the published tables, on real counts."""

from __future__ import annotations

import json
import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio

from bai_example.index import (
    DARK,
    INDICES,
    REASONS,
    SEVERITIES,
    classify,
    merged,
    nbr,
    reasons,
)
from bai_example.scenes import Band, to_scene
from tests.bai.maps import item

NAN = math.nan


def exact_nbr(nir: Fraction, swir2: Fraction) -> Fraction | None:
    nir, swir2 = max(nir, Fraction(0)), max(swir2, Fraction(0))
    return (nir - swir2) / (nir + swir2) if nir + swir2 else None


def exact(name: str, pre: Fraction, post: Fraction) -> float:
    """An index by its paper's formula."""
    change = pre - post
    if name == "rdnbr":
        return float(change) / math.sqrt(max(abs(pre), Fraction(1, 1000)))
    if name == "rbr":
        return float(change / (pre + Fraction(1001, 1000)))
    return float(change)


@pytest.mark.parametrize(
    ("nir", "swir2", "expected"),
    [
        (0.4, 0.1, 0.6),
        (0.1, 0.3, -0.5),
        (0.3, 0.3, 0.0),
        (0.3, 0.0, 1.0),
        (0.0, 0.3, -1.0),
        # Negative reflectance is 0.
        (0.3, -0.02, 1.0),
        (-0.02, 0.3, -1.0),
        (-0.02, -0.01, NAN),
        # No light, no ratio; a rounding error is no light.
        (0.0, 0.0, NAN),
        (1000 * 1e-4 - 0.1, 1e-17, NAN),
        (DARK / 4, DARK / 4, NAN),
        # The darkest pixel that Landsat can tell from none.
        (2.75e-5, 0.0, 1.0),
        (NAN, 0.3, NAN),
        (0.3, NAN, NAN),
        (NAN, NAN, NAN),
    ],
)
def test_nbr_of_a_pixel(nir: float, swir2: float, expected: float) -> None:
    result = nbr(np.array([[nir]]), np.array([[swir2]]))
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, [[expected]], rtol=0, atol=1e-12)


# NBR before, NBR after, dNBR, RdNBR, RBR; worked out by hand.
BY_HAND = [
    (0.64, 0.04, 0.6, 0.75, 0.6 / 1.641),
    (-0.25, -0.5, 0.25, 0.5, 0.25 / 0.751),
    (0.25, 0.5, -0.25, -0.5, -0.25 / 1.251),
    (1.0, -1.0, 2.0, 2.0, 2.0 / 2.001),
    (-1.0, 0.0, -1.0, -1.0, -1000.0),
    (0.0, -0.1, 0.1, 0.1 / math.sqrt(0.001), 0.1 / 1.001),
    (-0.0004, -0.1004, 0.1, 0.1 / math.sqrt(0.001), 0.1 / 1.0006),
    (0.3, 0.3, 0.0, 0.0, 0.0),
    (NAN, 0.3, NAN, NAN, NAN),
    (0.3, NAN, NAN, NAN, NAN),
]


def test_indices_by_hand() -> None:
    pre, post, *expected = (np.array(column) for column in zip(*BY_HAND, strict=True))
    before = pre.copy(), post.copy()
    for index, values in zip(("dnbr", "rdnbr", "rbr"), expected, strict=True):
        result = INDICES[index].function(pre, post)
        assert result.dtype == np.float64
        np.testing.assert_allclose(result, values, rtol=0, atol=1e-9, err_msg=index)
    np.testing.assert_array_equal(pre, before[0])
    np.testing.assert_array_equal(post, before[1])


def test_indices_are_described() -> None:
    assert list(INDICES) == ["dnbr", "rdnbr", "rbr"]
    for name, index in INDICES.items():
        assert name == index.title.lower()
        # The formula is the function.
        python = index.formula.replace("|NBRpre|", "abs(NBRpre)")
        values = {"NBRpre": -0.3, "NBRpost": -0.4, "sqrt": math.sqrt, "abs": abs, "max": max}
        result = index.function(np.array([-0.3]), np.array([-0.4]))
        assert result[0] == pytest.approx(eval(python, values), abs=1e-12)


# USGS' table as UN-SPIDER prints it: first and last value of each class, and its number here.
PRINTED = [
    (-0.500, -0.251, 1), (-0.250, -0.101, 2), (-0.100, 0.099, 3), (0.100, 0.269, 4),
    (0.270, 0.439, 5), (0.440, 0.659, 6), (0.660, 1.300, 7),
]  # fmt: skip


@pytest.mark.parametrize(("first", "last", "number"), PRINTED)
def test_classes_as_printed(first: float, last: float, number: int) -> None:
    values = np.array([first, (first + last) / 2, last], dtype=np.float32)
    assert classify(values).tolist() == [number] * 3


def test_classes_at_their_edges() -> None:
    """Each threshold belongs to the class above it, its float32 neighbour below does not."""
    edges = np.array([severity.lower for severity in SEVERITIES[1:]], dtype=np.float32)
    assert classify(edges).tolist() == [2, 3, 4, 5, 6, 7]
    assert classify(np.nextafter(edges, np.float32(-9))).tolist() == [1, 2, 3, 4, 5, 6]


def test_classes_are_everywhere_but_at_nan() -> None:
    values = np.float32([[-2, -math.inf, NAN], [2, math.inf, 0]])
    result = classify(values)
    assert result.dtype == np.uint8
    assert result.tolist() == [[1, 1, 0], [7, 7, 3]]
    for low, high in pairwise(SEVERITIES):
        assert low.upper == high.lower
    assert classify(np.empty((0, 4), np.float32)).shape == (0, 4)


def band_counts(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        counts: np.ndarray = file.read(1)
    return counts


def reflectance(counts: np.ndarray, band: Band) -> np.ndarray:
    return np.where(counts == band.nodata, NAN, counts * band.scale + band.offset)


@pytest.fixture
def sentinel2(realdata: Path) -> tuple[np.ndarray, np.ndarray]:
    """Real counts of B08 and B12, baseline 02.14, on one grid of 549 x 549 pixels."""
    folder = realdata / "rasters" / "S2A_29RKH_20200219_0_L2A"
    return band_counts(folder / "B08.tif")[::2, ::2], band_counts(folder / "B12.tif")


def scene_bands(baseline: str) -> tuple[Band, Band]:
    document = item("s", {"B08": "B08.tif", "B12": "B12.tif"}, s2__processing_baseline=baseline)
    scene = to_scene(document, "/data/item.json")
    return scene.nir, scene.swir


@pytest.mark.parametrize("name", list(INDICES))
def test_real_pair_across_the_baseline_change(
    sentinel2: tuple[np.ndarray, np.ndarray], name: str
) -> None:
    """Before: real counts. After: another place's, as baseline 04.00 writes them (1000 more)."""
    nir, swir2 = sentinel2
    later_nir, later_swir2 = (np.flipud(c).astype(np.uint16) + np.uint16(1000) for c in sentinel2)
    old_nir, old_swir2 = scene_bands("02.14")
    new_nir, new_swir2 = scene_bands("05.10")
    result = INDICES[name].function(
        nbr(reflectance(nir, old_nir), reflectance(swir2, old_swir2)),
        nbr(reflectance(later_nir, new_nir), reflectance(later_swir2, new_swir2)),
    )
    assert np.isfinite(result).all()
    assert result.std() > 0.001
    # The scale cancels out of NBR, so counts without the added 1000 give it exactly.
    for row, column in np.ndindex(55, 55):
        at = row * 10, column * 10
        pre = exact_nbr(Fraction(int(nir[at])), Fraction(int(swir2[at])))
        post = exact_nbr(Fraction(int(later_nir[at]) - 1000), Fraction(int(later_swir2[at]) - 1000))
        assert pre is not None
        assert post is not None
        assert abs(result[at] - exact(name, pre, post)) < 1e-6


def test_real_landsat(realdata: Path) -> None:
    folder = realdata / "rasters" / "LC08_L2SP_001062_20201031"
    assets = {"nir08": folder / "SR_B5.TIF", "swir22": folder / "SR_B7.TIF"}
    said = {"s2__product_type": None, "platform": "landsat-8", "landsat__correction": "L2SP"}
    scene = to_scene(item("LC08_L2SP_001062_20201031_02_T2", assets, **said), "/data/item.json")
    nir, swir2 = (band_counts(Path(band.href)) for band in (scene.nir, scene.swir))
    result = nbr(reflectance(nir, scene.nir), reflectance(swir2, scene.swir))
    step, offset = Fraction("0.0000275"), Fraction("-0.2")
    seen = 0
    for row, column in np.ndindex(nir.shape[0] // 5, nir.shape[1] // 5):
        at = row * 5, column * 5
        counts = int(nir[at]), int(swir2[at])
        expected = None
        if 0 not in counts:
            expected = exact_nbr(*(count * step + offset for count in counts))
        if expected is None:
            assert math.isnan(result[at])
        else:
            seen += 1
            assert abs(result[at] - float(expected)) < 1e-6
    assert seen > 3000


# Masks

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


def code(kind: str, value: int) -> int:
    return int(reasons(np.array([value], np.uint16), kind)[0])


def test_qa_pixel_values() -> None:
    found = {value: REASONS[code("qa_pixel", value)] for value in QA_PIXEL_VALUES}
    assert found == QA_PIXEL_VALUES


def test_qa_pixel_by_the_bits_the_catalogue_declares(realdata: Path) -> None:
    """Every value, bit by bit, with the names and positions that a real item gives the bits."""
    because = {
        "fill": "no data", "cloud": "cloud", "dilated_cloud": "cloud", "cirrus": "cloud",
        "cloud_shadow": "shadow", "snow": "snow", "water": "water",
    }  # fmt: skip
    bits = declared_bits(realdata, "qa_pixel")
    rank = {name: REASONS.index(reason) for name, reason in because.items()}
    table = reasons(np.arange(65536, dtype=np.uint16), "qa_pixel")
    for value in range(65536):
        set_bits = [rank[name] for name in because if value // 2 ** bits[name] % 2]
        assert table[value] == min(set_bits, default=0), f"{value:016b}"


def test_qa_radsat_by_the_bits_the_catalogue_declares(realdata: Path) -> None:
    bits = declared_bits(realdata, "qa_radsat")
    table = reasons(np.arange(65536, dtype=np.uint16), "qa_radsat")
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
        assert REASONS[code("scl", entry["value"])] == because[entry["name"]], entry["name"]
    assert {code("scl", value) for value in (12, 255, 256, 260, 65535)} == {1}


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


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.int64, np.bool_])
def test_numbers_that_are_no_mask(dtype: type) -> None:
    with pytest.raises(TypeError, match="a mask of kind scl holds uint8 or uint16, not"):
        reasons(np.zeros((2, 2), dtype), "scl")


def test_merge_takes_the_first_reason() -> None:
    codes = np.arange(len(REASONS), dtype=np.uint8)
    first, second = (grid.copy() for grid in np.meshgrid(codes, codes))
    expected = [
        [min((code for code in (a, b) if code), default=0) for a, b in zip(*rows, strict=True)]
        for rows in zip(first.tolist(), second.tolist(), strict=True)
    ]
    assert merged(first, second).tolist() == expected
