"""The burned-area index itself: pure functions on arrays, and the table of severity classes.

* ``NBR  = (NIR - SWIR2) / (NIR + SWIR2)``, the normalized burn ratio, between -1 and 1;
* ``dNBR = NBR before the event - NBR after it``, between -2 and 2: the higher, the more burned.

Source: Key, C. H. and Benson, N. C. (2006), "Landscape Assessment (LA)", in FIREMON, USDA Forest
Service RMRS-GTR-164-CD. (The name "burned-area intensity" for this difference is the reference
program's; it is not the index called BAI that uses red and NIR.)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

    from bai_example.load import Pair

#: Reflectance below which NIR + SWIR2 counts as 0. A thirtieth of the smallest step of any sensor
#: here (2.75e-5), far above the rounding of DN * scale + offset.
DARK = 1e-6


class Severity(NamedTuple):
    """A burn-severity class: ``lower <= dNBR < upper``."""

    name: str
    lower: float
    upper: float
    color: str


#: Classes of the USGS (Key and Benson 2006), as UN-SPIDER's recommended practice "Burn severity
#: mapping" gives them. There the outer two end at -0.5 and 1.3; here they are open, so that every
#: pixel has a class. Colours: ours, green for regrowth, sand for unburned, yellow to dark red.
SEVERITIES: tuple[Severity, ...] = (
    Severity("Enhanced regrowth, high", -math.inf, -0.25, "#1b7837"),
    Severity("Enhanced regrowth, low", -0.25, -0.10, "#7fbf7b"),
    Severity("Unburned", -0.10, 0.10, "#eee8d2"),
    Severity("Low severity", 0.10, 0.27, "#fee08b"),
    Severity("Moderate-low severity", 0.27, 0.44, "#fdae61"),
    Severity("Moderate-high severity", 0.44, 0.66, "#e8603c"),
    Severity("High severity", 0.66, math.inf, "#8e0f2c"),
)


def nbr(nir: np.ndarray, swir2: np.ndarray) -> np.ndarray:
    """Normalized burn ratio of two reflectance arrays of one shape.

    Negative reflectance (possible over water and shadow once the offset is applied) is taken as
    0. Data before processing baseline 04.00 have such pixels cut off by ESA already, so the same
    surface gives the same value before and after, and NBR stays between -1 and 1.

    Returns:
        float64; NaN where either input is NaN or where both are 0 (no light, no ratio).
    """
    nir = np.maximum(nir, 0.0, dtype=np.float64)  # NaN stays NaN
    swir2 = np.maximum(swir2, 0.0, dtype=np.float64)
    total = nir + swir2
    # NaN first and then division, rather than a division by zero and its warning.
    total[total < DARK] = np.nan
    index: np.ndarray = (nir - swir2) / total
    return index


def dnbr(pre: np.ndarray, post: np.ndarray) -> np.ndarray:
    """Difference of two NBR arrays of one shape; NaN where either is NaN."""
    return pre - post


def dnbr_of_bands(
    pre_nir: np.ndarray, pre_swir2: np.ndarray, post_nir: np.ndarray, post_swir2: np.ndarray
) -> np.ndarray:
    """dNBR of one block from the four reflectance arrays. Runs on a worker.

    Returns:
        float32, exact to 2.4e-7; computed in float64.
    """
    return dnbr(nbr(pre_nir, pre_swir2), nbr(post_nir, post_swir2)).astype(np.float32)


def burned_area_intensity(pair: Pair) -> xr.DataArray:
    """The lazy dNBR map of a pair: float32, dims ``(y, x)``, NaN where it is not known."""
    swir2_and_post = (pair.pre_swir2.data, pair.post_nir.data, pair.post_swir2.data)
    data = pair.pre_nir.data.map_blocks(dnbr_of_bands, *swir2_and_post, dtype=np.float32)
    return pair.pre_nir.copy(data=data).rename("dnbr")
