"""The indices and classes, against plain arithmetic done here, on made and on real counts."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
from bai_items import item

from bai_example.bai import DARK, INDICES, SEVERITIES, classify, dnbr, nbr, rbr, rdnbr
from bai_example.scene import Band
from bai_example.stac import to_scene

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


def test_nbr_leaves_its_inputs_alone_unless_told() -> None:
    nir, swir2 = np.array([0.4, -0.1, NAN]), np.array([0.1, 0.2, 0.3])
    before = nir.copy(), swir2.copy()
    result = nbr(nir, swir2)
    np.testing.assert_array_equal(nir, before[0])
    np.testing.assert_array_equal(swir2, before[1])
    assert nbr(nir, swir2, overwrite=True) is nir
    np.testing.assert_array_equal(nir, result)


def test_nbr_of_float32_is_computed_in_float64() -> None:
    nir, swir2 = np.float32([0.3141592]), np.float32([0.2718281])
    assert nbr(nir, swir2)[0] == nbr(nir.astype(np.float64), swir2.astype(np.float64))[0]


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
    np.testing.assert_array_equal(rdnbr(dnbr(pre, post), pre), INDICES["rdnbr"].function(pre, post))
    np.testing.assert_array_equal(rbr(dnbr(pre, post), pre), INDICES["rbr"].function(pre, post))
    np.testing.assert_array_equal(pre, before[0])
    np.testing.assert_array_equal(post, before[1])


def test_indices_are_described() -> None:
    assert list(INDICES) == ["dnbr", "rdnbr", "rbr"]
    for name, index in INDICES.items():
        assert index.name == name == index.title.lower()
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
    return scene.nir, scene.swir2


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


def test_same_surface_before_and_after_the_baseline_change(
    sentinel2: tuple[np.ndarray, np.ndarray],
) -> None:
    values = [
        nbr(
            *(
                reflectance(counts + added, band)
                for counts, band in zip(sentinel2, bands, strict=True)
            )
        )
        for added, bands in ((0, scene_bands("03.01")), (1000, scene_bands("04.00")))
    ]
    assert np.abs(dnbr(*values)).max() < 1e-12


def test_real_landsat(realdata: Path) -> None:
    folder = realdata / "rasters" / "LC08_L2SP_001062_20201031"
    assets = {"nir08": folder / "SR_B5.TIF", "swir22": folder / "SR_B7.TIF"}
    said = {"s2__product_type": None, "platform": "landsat-8", "landsat__correction": "L2SP"}
    scene = to_scene(item("LC08_L2SP_001062_20201031_02_T2", assets, **said), "/data/item.json")
    nir, swir2 = (band_counts(Path(band.href)) for band in (scene.nir, scene.swir2))
    result = nbr(reflectance(nir, scene.nir), reflectance(swir2, scene.swir2))
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
