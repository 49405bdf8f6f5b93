"""Indices, classes and masks: against plain arithmetic and the published tables.

(On real counts: test_bai_map.)
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bai_example.index import (
    INDICES,
    LEAST_LIGHT,
    REASONS,
    SEVERITIES,
    classify,
    merged,
    nbr,
    reasons,
)

NAN = math.nan
# NIR, SWIR, NBR.
PIXELS = [
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
    (LEAST_LIGHT / 4, LEAST_LIGHT / 4, NAN),
    # The darkest pixel that Landsat can tell from none.
    (2.75e-5, 0.0, 1.0),
    (NAN, 0.3, NAN),
    (0.3, NAN, NAN),
    (NAN, NAN, NAN),
]


def test_nbr_of_a_pixel() -> None:
    nir, swir2, expected = np.array(PIXELS).T.copy()
    result = nbr(nir, swir2)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


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


# USGS' table as UN-SPIDER prints it: first and last value of each class, and its number here.
PRINTED = [
    (-0.500, -0.251, 1), (-0.250, -0.101, 2), (-0.100, 0.099, 3), (0.100, 0.269, 4),
    (0.270, 0.439, 5), (0.440, 0.659, 6), (0.660, 1.300, 7),
]  # fmt: skip


def test_classes() -> None:
    """As printed. Each threshold belongs to the class above it, its float32 neighbour below not."""
    for first, last, number in PRINTED:
        values = np.array([first, (first + last) / 2, last], dtype=np.float32)
        assert classify(values).tolist() == [number] * 3
    edges = np.array([severity.lower for severity in SEVERITIES[1:]], dtype=np.float32)
    assert classify(edges).tolist() == [2, 3, 4, 5, 6, 7]
    assert classify(np.nextafter(edges, np.float32(-9))).tolist() == [1, 2, 3, 4, 5, 6]


# Masks


def code(kind: str, value: int) -> int:
    return int(reasons(np.array([value], np.uint16), kind)[0])


def declared(realdata: Path, file: str, key: str) -> dict[str, object]:
    document = json.loads((realdata / "stac" / file).read_text(encoding="utf-8"))
    asset: dict[str, object] = document["assets"][key]
    return asset


@pytest.mark.parametrize("kind", ["qa_pixel", "qa_radsat"])
def test_quality_by_the_bits_the_catalogue_declares(realdata: Path, kind: str) -> None:
    """Every value, bit by bit, with the names and positions that a real item gives the bits."""
    because = {
        "fill": "no data", "cloud": "cloud", "dilated_cloud": "cloud", "cirrus": "cloud",
        "cloud_shadow": "shadow", "snow": "snow", "water": "water",
        "band5": "saturated", "band7": "saturated",
    }  # fmt: skip
    file = "pystac-client-cassette__LC08_L2SP_033032_20231008_02_T1__landsat-c2-l2.json"
    fields = declared(realdata, file, kind)["classification:bitfields"]
    bits = {field["name"]: field["offset"] for field in fields if field["name"] in because}
    assert len(bits) == (7 if kind == "qa_pixel" else 2)
    table = reasons(np.arange(65536, dtype=np.uint16), kind)
    for value in range(65536):
        found = [REASONS.index(because[name]) for name, bit in bits.items() if value >> bit & 1]
        assert table[value] == min(found, default=0), f"{value:016b}"


def test_scl_by_the_classes_the_catalogue_declares(realdata: Path) -> None:
    because = {
        "no_data": "no data", "saturated_or_defective": "saturated", "dark_area_pixels": "kept",
        "cloud_shadows": "shadow", "vegetation": "kept", "not_vegetated": "kept",
        "water": "water", "unclassified": "kept", "cloud_medium_probability": "cloud",
        "cloud_high_probability": "cloud", "thin_cirrus": "cloud", "snow": "snow",
    }  # fmt: skip
    file = "stactools-sentinel2__S2A_T07HFE_20190212_L2A.json"
    (band,) = declared(realdata, file, "scl")["raster:bands"]
    classes = band["classification:classes"]
    assert {entry["value"] for entry in classes} == set(range(12))
    for entry in classes:
        assert REASONS[code("scl", entry["value"])] == because[entry["name"]], entry["name"]
    assert {code("scl", value) for value in (12, 255, 256, 260, 65535)} == {1}


def test_merge_takes_the_first_reason() -> None:
    codes = np.arange(len(REASONS), dtype=np.uint8)
    first, second = (grid.copy() for grid in np.meshgrid(codes, codes))
    expected = [
        [min((code for code in (a, b) if code), default=0) for a, b in zip(*rows, strict=True)]
        for rows in zip(first.tolist(), second.tolist(), strict=True)
    ]
    assert merged(first, second).tolist() == expected
