"""Which pixels the map leaves out, and why: masks' numbers -> reason codes.

Each class below is left out because what the satellite saw there was not the ground, or because
its NBR says nothing about fire.

**Sentinel-2 scene classification** (``scl``; one class per pixel, made by Sen2Cor):

=======  =======================================  ==========================================
class    meaning                                  here
=======  =======================================  ==========================================
0        no data                                  no data
1        saturated or defective                   saturated
2        dark area (before baseline 04.00),       kept: fresh char is dark, and much burned
         topographic shadow (since)               ground is put here
3        cloud shadow                             shadow
4, 5     vegetation, not vegetated                kept
6        water                                    water
7        unclassified (low cloud probability)     kept: bare, burned and smoky ground is here
8, 9     cloud of medium and high probability     cloud
10       thin cirrus                              cloud
11       snow or ice                              snow
others   not defined                              no data
=======  =======================================  ==========================================

**Landsat Collection 2 pixel quality** (``qa_pixel``; a bit each, made by CFMask; the same for
Landsat 4 to 9, but before 8 bit 2 is not used):

=======  =======================================  ==========================================
bit      meaning                                  here
=======  =======================================  ==========================================
0        fill                                     no data
1, 3     dilated cloud, cloud                     cloud
2        cirrus (high confidence)                 cloud
4        cloud shadow                             shadow
5        snow                                     snow
6        clear (neither cloud nor dilated cloud)  says nothing that bits 1 and 3 do not
7        water                                    water
8 to 15  confidence of each                       not used: the bits above are CFMask's verdict
=======  =======================================  ==========================================

**Landsat Collection 2 radiometric saturation** (``qa_radsat``; a bit per band): bits 4 and 6 say
that bands 5 (NIR) and 7 (SWIR2) of OLI, of Landsat 8 and 9, were saturated. Bit 11 (hidden by
terrain) is not used: CFMask's shadow is of clouds, and SCL's topographic shadow is kept, too.

Where several apply, the first of `REASONS` counts: what makes a number void (no data, saturated)
before what hides the ground (cloud, then its shadow), before what the ground is.

Sources: ESA, "Sentinel-2 Products Specification Document" and Sen2Cor's "Level-2A Algorithm
Theoretical Basis Document" (scene classification); USGS, "Landsat 8-9 Collection 2 Level 2 Science
Product Guide" (LSDS-1619), tables of QA_PIXEL and QA_RADSAT, and LSDS-1618 for Landsat 4-7.
"""

from __future__ import annotations

import functools

import numpy as np

from bai_example.errors import InputError

#: What each code stands for. In order of precedence, too.
REASONS: tuple[str, ...] = ("kept", "no data", "saturated", "cloud", "shadow", "snow", "water")
KEPT, NO_DATA, SATURATED, CLOUD, SHADOW, SNOW, WATER = range(len(REASONS))

_SCL_CLASSES = {
    0: NO_DATA, 1: SATURATED, 2: KEPT, 3: SHADOW, 4: KEPT, 5: KEPT,
    6: WATER, 7: KEPT, 8: CLOUD, 9: CLOUD, 10: CLOUD, 11: SNOW,
}  # fmt: skip
_BITS = {
    "qa_pixel": {0: NO_DATA, 1: CLOUD, 2: CLOUD, 3: CLOUD, 4: SHADOW, 5: SNOW, 7: WATER},
    "qa_radsat": {4: SATURATED, 6: SATURATED},
}


@functools.cache
def lookup(kind: str) -> np.ndarray:
    """The reason code of every value that a mask may hold.

    Args:
        kind: ``scl``, ``qa_pixel`` or ``qa_radsat``.

    Returns:
        uint8, read-only, indexed by the value: 256 codes for ``scl``, else 65536.
    """
    if kind == "scl":
        table = np.full(256, NO_DATA, dtype=np.uint8)
        table[list(_SCL_CLASSES)] = list(_SCL_CLASSES.values())
    else:
        values = np.arange(65536)
        table = np.zeros(65536, dtype=np.uint8)
        # What comes first is written last.
        for bit, reason in sorted(_BITS[kind].items(), key=lambda item: -item[1]):
            table[values >> bit & 1 == 1] = reason
    table.flags.writeable = False
    return table


def reasons(counts: np.ndarray, kind: str) -> np.ndarray:
    """Why each pixel of a mask is left out.

    Args:
        counts: the mask's numbers, uint8 or uint16. (Never interpolated: classes and bits have
            no mean.)
        kind: ``scl``, ``qa_pixel`` or ``qa_radsat``.

    Returns:
        uint8 of the same shape, codes of `REASONS`.

    Raises:
        InputError: the numbers are of another type, so this is no such mask.
    """
    if counts.dtype not in (np.uint8, np.uint16):
        raise InputError(f"a mask of kind {kind} holds uint8 or uint16, not {counts.dtype}")
    # Clipping matters to SCL in uint16 only, where 255 and all above are not defined.
    return np.take(lookup(kind), counts, mode="clip")


def merge(codes: np.ndarray, others: np.ndarray) -> None:
    """Put two arrays of reason codes into the first: of two reasons, the one that comes first.

    Args:
        codes: uint8; changed in place.
        others: uint8 of the same shape.
    """
    # Less 1, "kept" wraps round to 255 and is the largest, so the minimum is the first reason.
    codes -= np.uint8(1)
    np.minimum(codes, others - np.uint8(1), out=codes)
    codes += np.uint8(1)
