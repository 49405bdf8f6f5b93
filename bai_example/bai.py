"""The burn indices and the table of severity classes: pure functions on NumPy arrays.

All are unscaled (many products and papers give them times 1000) and NaN where an input is NaN:

* ``NBR   = (NIR - SWIR2) / (NIR + SWIR2)``, the normalized burn ratio, between -1 and 1;
* ``dNBR  = NBR before the event - NBR after it``, between -2 and 2: the higher, the more burned;
* ``RdNBR = dNBR / sqrt(|NBR before|)``, relative to how much vegetation there was to burn;
* ``RBR   = dNBR / (NBR before + 1.001)``, relative, too, without a pole among usual values.

None has the mean dNBR of unburned land around the fire taken off (the "dNBR offset" of some
studies): it needs an expert who says which land that is.

Sources: Key, C. H. and Benson, N. C. (2006), "Landscape Assessment (LA)", in FIREMON, USDA Forest
Service RMRS-GTR-164-CD (NBR, dNBR); Miller, J. D. and Thode, A. E. (2007), Remote Sensing of
Environment 109, 66-80 (RdNBR; there the NBR under the root is divided by 1000 because theirs is
times 1000); Parks, S. A., Dillon, G. K. and Miller, C. (2014), Remote Sensing 6, 1827-1844 (RBR).
(The name "burned-area intensity" for dNBR is the reference program's; it is not the index called
BAI that uses red and NIR.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

#: Reflectance below which NIR + SWIR2 counts as 0. A thirtieth of the smallest step of any sensor
#: here (2.75e-5), far above the rounding of DN * scale + offset.
DARK = 1e-6
#: Smallest |NBR before| under RdNBR's root. The quotient grows without bound where NBR goes to 0
#: (bare soil); 0.001 is the step of an NBR stored times 1000, for which RdNBR was defined, so the
#: smallest value other than 0 there. It bounds |RdNBR| by 32 |dNBR|.
SMALLEST_NBR = 0.001


class Severity(NamedTuple):
    """A burn-severity class: ``lower <= dNBR < upper``."""

    name: str
    lower: float
    upper: float
    color: str


#: Classes of the USGS (Key and Benson 2006), as UN-SPIDER's recommended practice "Burn severity
#: mapping" gives them, to three decimals: -0.500 to -0.251, -0.250 to -0.101, -0.100 to 0.099,
#: 0.100 to 0.269, 0.270 to 0.439, 0.440 to 0.659, 0.660 to 1.300. The outer two are open here, so
#: that every pixel has a class. Colours: ours, green for regrowth, sand for unburned, yellow to
#: dark red. The thresholds are dNBR's; for the relative indices there are none that fit all land.
SEVERITIES: tuple[Severity, ...] = (
    Severity("Enhanced regrowth, high", -math.inf, -0.25, "#1b7837"),
    Severity("Enhanced regrowth, low", -0.25, -0.10, "#7fbf7b"),
    Severity("Unburned", -0.10, 0.10, "#eee8d2"),
    Severity("Low severity", 0.10, 0.27, "#fee08b"),
    Severity("Moderate-low severity", 0.27, 0.44, "#fdae61"),
    Severity("Moderate-high severity", 0.44, 0.66, "#e8603c"),
    Severity("High severity", 0.66, math.inf, "#8e0f2c"),
)
_LOWER = tuple(np.float32(severity.lower) for severity in SEVERITIES)


def nbr(nir: np.ndarray, swir2: np.ndarray, *, overwrite: bool = False) -> np.ndarray:
    """Normalized burn ratio of two reflectance arrays of one shape.

    Negative reflectance (possible over water and shadow once the offset is applied) is taken as
    0. Data before processing baseline 04.00 have such pixels cut off by ESA already, so the same
    surface gives the same value before and after, and NBR stays between -1 and 1.

    Args:
        nir: reflectance, float.
        swir2: reflectance, float.
        overwrite: compute within the two arrays, which must be float64, instead of new ones. The
            result is then ``nir``, and ``swir2`` is left with no meaning.

    Returns:
        float64; NaN where either input is NaN or where both are 0 (no light, no ratio).
    """
    index: np.ndarray = np.maximum(nir, 0.0, out=nir if overwrite else None, dtype=np.float64)
    swir2 = np.maximum(swir2, 0.0, out=swir2 if overwrite else None, dtype=np.float64)
    total = index + swir2  # NaN where either was: np.maximum keeps it
    # NaN first and then division, rather than a division by zero and its warning.
    np.copyto(total, np.nan, where=total < DARK)
    index -= swir2
    index /= total
    return index


def dnbr(pre: np.ndarray, post: np.ndarray) -> np.ndarray:
    """dNBR of the NBR before and after the event, two arrays of one shape; between -2 and 2."""
    difference: np.ndarray = pre - post
    return difference


def rdnbr(dnbr: np.ndarray, pre: np.ndarray) -> np.ndarray:
    """RdNBR of dNBR and the NBR before the event, two arrays of one shape.

    The NBR's magnitude counts as `SMALLEST_NBR` at least; its sign is lost under the root, so
    RdNBR has the sign of dNBR.
    """
    root: np.ndarray = np.abs(pre)
    np.maximum(root, SMALLEST_NBR, out=root)
    np.sqrt(root, out=root)
    np.divide(dnbr, root, out=root)
    return root


def rbr(dnbr: np.ndarray, pre: np.ndarray) -> np.ndarray:
    """RBR of dNBR and the NBR before the event, two arrays of one shape.

    1.001 rather than 1 keeps the divisor above 0 where that NBR is -1.
    """
    divisor: np.ndarray = pre + 1.001
    np.divide(dnbr, divisor, out=divisor)
    return divisor


class Index(NamedTuple):
    """A burn index that the map can show."""

    name: str
    """What the command line calls it."""
    title: str
    """As papers write it."""
    description: str
    """What it says, and by whom."""
    formula: str
    """In terms of the NBR before (``NBRpre``) and after the event (``NBRpost``)."""
    function: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(NBR before, NBR after), float64 arrays of one shape -> the index, a new float64 array."""


INDICES: dict[str, Index] = {
    index.name: index
    for index in (
        Index(
            "dnbr",
            "dNBR",
            "Differenced normalized burn ratio: absolute change, the higher the more burned "
            "(Key and Benson 2006)",
            "NBRpre - NBRpost",
            dnbr,
        ),
        Index(
            "rdnbr",
            "RdNBR",
            "Relative differenced normalized burn ratio: change relative to the vegetation before "
            "the event, for sparse vegetation (Miller and Thode 2007)",
            f"(NBRpre - NBRpost) / sqrt(max(|NBRpre|, {SMALLEST_NBR}))",
            lambda pre, post: rdnbr(dnbr(pre, post), pre),
        ),
        Index(
            "rbr",
            "RBR",
            "Relativized burn ratio: change relative to the vegetation before the event, without "
            "extreme values where there was little (Parks, Dillon and Miller 2014)",
            "(NBRpre - NBRpost) / (NBRpre + 1.001)",
            lambda pre, post: rbr(dnbr(pre, post), pre),
        ),
    )
}


def classify(dnbr: np.ndarray) -> np.ndarray:
    """Severity class of each pixel of a dNBR array.

    Args:
        dnbr: float32. Thresholds are rounded to float32, too: a dNBR of 0.27 in the file is 0.27.

    Returns:
        uint8 of the same shape: 0 where dNBR is NaN, else 1 to 7 in the order of `SEVERITIES`.
    """
    # A class's number is how many lower bounds are reached; NaN reaches none, not even -inf.
    # Summing seven comparisons takes a twentieth of the time of np.searchsorted.
    classes: np.ndarray = (dnbr >= _LOWER[0]).view(np.uint8)
    reached = np.empty(dnbr.shape, dtype=bool)
    for lower in _LOWER[1:]:
        np.greater_equal(dnbr, lower, out=reached)
        classes += reached.view(np.uint8)
    return classes
