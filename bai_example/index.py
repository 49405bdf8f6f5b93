"""The burn indices, the severity classes, and the pixels that are left out: NumPy arrays only.

All indices are unscaled (many products give them times 1000) and NaN where an input is NaN. None
has the mean dNBR of unburned land around the fire taken off (the "dNBR offset" of some studies):
it needs an expert who says which land that is.

Sources: Key, C. H. and Benson, N. C. (2006), "Landscape Assessment (LA)", in FIREMON, USDA Forest
Service RMRS-GTR-164-CD (NBR, dNBR); Miller, J. D. and Thode, A. E. (2007), Remote Sensing of
Environment 109, 66-80 (RdNBR; there the NBR under the root is divided by 1000 because theirs is
times 1000); Parks, S. A., Dillon, G. K. and Miller, C. (2014), Remote Sensing 6, 1827-1844 (RBR);
ESA, "Sentinel-2 Products Specification Document" and Sen2Cor's "Level-2A Algorithm Theoretical
Basis Document" (SCL); USGS, "Landsat 8-9 Collection 2 Level 2 Science Product Guide" (LSDS-1619;
QA_PIXEL, QA_RADSAT).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np

#: Reflectance below which NIR + SWIR counts as 0. A thirtieth of the smallest step of any sensor
#: here (2.75e-5), far above the rounding of count * scale + offset.
LEAST_LIGHT = 1e-6
#: Smallest |NBR before| under RdNBR's root, the step of an NBR stored times 1000, for which RdNBR
#: was defined. It bounds |RdNBR| by 32 |dNBR| where NBR goes to 0 (bare soil).
SMALLEST_NBR = 0.001
#: Indices are rounded to multiples of this, 9.5e-7: far below what a sensor tells apart (the noise
#: of dNBR is about 0.01), and a quarter less to compress and to store.
STEP = 2.0**-20


def nbr(nir: np.ndarray, swir: np.ndarray) -> np.ndarray:
    """Normalized burn ratio, ``(NIR - SWIR) / (NIR + SWIR)``, between -1 and 1.

    Negative reflectance (possible over water and shadow once the offset is applied) is taken as
    0: data before processing baseline 04.00 have such pixels cut off by ESA already, so the same
    surface gives the same value before and after.

    Both are reflectance, float64, and are overwritten, since new arrays take longer than the
    arithmetic. NaN where either is NaN or where both are 0 (no light, no ratio).
    """
    for band in (nir, swir):
        np.maximum(band, 0.0, out=band)  # keeps NaN
    total = nir + swir
    # NaN first and then division, rather than a division by zero and its warning.
    total[total < LEAST_LIGHT] = np.nan
    nir -= swir
    nir /= total
    return nir


class Index(NamedTuple):
    """A burn index that the map can show."""

    title: str  #: As papers write it.
    description: str  #: What it says, and by whom.
    formula: str  #: In terms of the NBR before (``NBRpre``) and after the event (``NBRpost``).
    #: (NBR before, NBR after), float64 arrays of one shape -> the index, a new float64 array.
    function: Callable[[np.ndarray, np.ndarray], np.ndarray]


#: By what the command line calls them.
INDICES: dict[str, Index] = {
    "dnbr": Index(
        "dNBR",
        "Differenced normalized burn ratio: absolute change, the higher the more burned "
        "(Key and Benson 2006)",
        "NBRpre - NBRpost",
        lambda pre, post: pre - post,
    ),
    "rdnbr": Index(
        "RdNBR",
        "Relative dNBR, for sparse vegetation (Miller and Thode 2007)",
        f"(NBRpre - NBRpost) / sqrt(max(|NBRpre|, {SMALLEST_NBR}))",
        lambda pre, post: (pre - post) / np.sqrt(np.maximum(np.abs(pre), SMALLEST_NBR)),
    ),
    "rbr": Index(
        "RBR",
        "Relativized burn ratio, without RdNBR's extreme values (Parks, Dillon and Miller 2014)",
        "(NBRpre - NBRpost) / (NBRpre + 1.001)",  # 1.001: above 0 where that NBR is -1, too
        lambda pre, post: (pre - post) / (pre + 1.001),
    ),
}


def rounded(values: np.ndarray) -> np.ndarray:
    """Values as float32, rounded to multiples of `STEP`."""
    steps = values * (1 / STEP)
    np.rint(steps, out=steps)
    return np.multiply(steps, STEP, dtype=np.float32, casting="same_kind")


class Severity(NamedTuple):
    """A burn-severity class: ``lower <= dNBR < upper``; ``color`` as in CSS."""

    name: str
    lower: float
    upper: float
    color: str


#: Classes of the USGS (Key and Benson 2006), as UN-SPIDER's recommended practice "Burn severity
#: mapping" gives them; there the outer two end at -0.500 and 1.300, here they are open, so that
#: every pixel has a class. The thresholds are dNBR's; for the relative indices none fit all land.
SEVERITIES: tuple[Severity, ...] = (
    Severity("Enhanced regrowth, high", -math.inf, -0.25, "#1b7837"),
    Severity("Enhanced regrowth, low", -0.25, -0.10, "#7fbf7b"),
    Severity("Unburned", -0.10, 0.10, "#eee8d2"),
    Severity("Low severity", 0.10, 0.27, "#fee08b"),
    Severity("Moderate-low severity", 0.27, 0.44, "#fdae61"),
    Severity("Moderate-high severity", 0.44, 0.66, "#e8603c"),
    Severity("High severity", 0.66, math.inf, "#8e0f2c"),
)


def classify(dnbr: np.ndarray) -> np.ndarray:
    """Severity class of each pixel: uint8, 0 where dNBR is NaN, else 1 to 7 as in `SEVERITIES`.

    Thresholds are rounded to float32, as ``dnbr`` is: a dNBR of 0.27 in the file is 0.27.
    """
    # A class's number is how many lower bounds are reached; NaN reaches none, not even -inf.
    # Summing seven comparisons takes a twentieth of the time of np.searchsorted.
    classes = np.zeros(dnbr.shape, np.uint8)
    for severity in SEVERITIES:
        classes += (dnbr >= np.float32(severity.lower)).view(np.uint8)
    return classes


#: Why a pixel is left out. Where several reasons apply the first counts: what makes a number void
#: before what hides the ground (cloud, then its shadow), before what the ground is. Last, what no
#: mask says: neither band has any light (reflectance of 0 or less).
REASONS = ("kept", "no data", "saturated", "cloud", "shadow", "snow", "water", "dark")
KEPT, NO_DATA, SATURATED, CLOUD, SHADOW, SNOW, WATER, DARK = range(len(REASONS))
#: Those that a user can choose.
CLASSES = REASONS[CLOUD : WATER + 1]
#: Kind of mask -> reason -> the numbers, or the bits of a number, that say it.
#:
#: Sentinel-2's scene classification, a class per pixel by Sen2Cor. Kept are 2 (dark area before
#: baseline 04.00, topographic shadow since: fresh char is dark, and much burned ground is put
#: here), 4 and 5 (vegetation or not) and 7 (low cloud probability: bare, burned and smoky ground).
#: 8, 9: cloud of medium and high probability, 10: thin cirrus. From 12 on nothing is defined.
#:
#: Landsat Collection 2. QA_PIXEL by CFMask: fill; dilated cloud, cirrus, cloud; its other bits are
#: "clear" and the confidences that led to the verdict. QA_RADSAT: OLI's bands 5 (NIR), 7 (SWIR2).
MASKS: dict[str, dict[int, tuple[int, ...]]] = {
    "scl": {
        NO_DATA: (0, *range(12, 256)), SATURATED: (1,), CLOUD: (8, 9, 10), SHADOW: (3,),
        SNOW: (11,), WATER: (6,),
    },
    "qa_pixel": {NO_DATA: (0,), CLOUD: (1, 2, 3), SHADOW: (4,), SNOW: (5,), WATER: (7,)},
    "qa_radsat": {SATURATED: (4, 6)},
}  # fmt: skip
#: Kind of mask -> the number taken where it has no pixel: "no data"; QA_RADSAT says nothing there.
OUTSIDE = {"scl": 0, "qa_pixel": 1, "qa_radsat": 0}


def reasons(mask: np.ndarray, kind: str, masked: Collection[str] = REASONS) -> np.ndarray:
    """Why each pixel of a mask is left out: uint8, codes of `REASONS`.

    Args:
        mask: its numbers, uint8 or uint16, never interpolated: classes and bits have no mean.
        kind: one of `MASKS`.
        masked: the `REASONS` that count; "no data" always does.

    Raises:
        TypeError: the numbers are of another type, so this is no such mask.
    """
    if mask.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"a mask of kind {kind} holds uint8 or uint16, not {mask.dtype}")
    numbers = np.arange(256 if kind == "scl" else 65536)
    table = np.zeros(numbers.size, np.uint8)
    for code, said in sorted(MASKS[kind].items(), reverse=True):  # the first reason is written last
        if code == NO_DATA or REASONS[code] in masked:
            bits = sum(1 << n for n in said)
            table[np.isin(numbers, said) if kind == "scl" else numbers & bits > 0] = code
    # Clipping matters to SCL in uint16 only, where 255 and all above are not defined.
    return np.take(table, mask, mode="clip")


def merged(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Two arrays of reason codes in one: of two reasons, the one that comes first."""
    # Less 1, "kept" wraps round to 255 and is the largest, so the minimum is the first reason.
    one = np.uint8(1)
    return np.minimum(codes - one, others - one) + one
