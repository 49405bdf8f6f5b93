"""``python -m bai_example.sample DIR``: a small synthetic pair, to try the map without internet.

Two STAC items in the manner of Planetary Computer and four COGs: B08 at 10 m and B12 at 20 m, like
Sentinel-2 L2A. The pre-event scene is of processing baseline 03.01, the post-event scene of 05.00,
whose counts carry 1000 more; the map is right only where that is taken into account.

The burn scar is known: `burn` gives the dNBR it was made with, at positions (u, v), 0 to 1 across
and down the scene. The same arguments always give the same files.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

#: Size of a pixel of B08, metres, and of the default scene, pixels (a full tile has 10980).
PIXEL, SIZE = 10, 1024
#: Upper left corner, metres: hills in the middle of Portugal.
CORNER, CRS = (560_000, 4_430_000), "EPSG:32629"
#: Standard deviation of map - `burn`, at most (it is largest where the ground is dark).
NOISE = 0.03
#: dNBR in the scar's heart, and how far in that begins (0 at the scar's edge, 1 in the middle).
CORE, HEART = 0.85, 0.6
#: Satellite, time, processing baseline, and what the baseline adds to every count.
EVENTS = {
    "pre": ("2b", "2021-07-13T11:21:09Z", "03.01", 0),
    "post": ("2a", "2021-08-07T11:21:11Z", "05.00", 1000),
}
_SEED = 20210713
_LATTICE = np.random.default_rng(_SEED).random((64, 64))
#: Rows of B12 made at once: bounds the memory, and sets which random numbers a row gets.
_STRIP = 256


def write_sample(folder: Path, size: int = SIZE) -> None:
    """Write ``pre.json``, ``post.json`` and their rasters, ``size`` pixels along a side of B08."""
    import rasterio  # here, so that a mistyped option need not wait for it
    from rasterio.transform import from_origin

    folder.mkdir(parents=True, exist_ok=True)
    for event in EVENTS:
        for band, pixels in (("B08", size), ("B12", size // 2)):
            pixel = PIXEL * size // pixels
            with rasterio.open(
                folder / f"{event}_{band}.tif", "w", driver="COG", count=1, dtype="uint16",
                width=pixels, height=pixels, nodata=0, crs=CRS,
                transform=from_origin(*CORNER, pixel, pixel), blocksize=512, num_threads="ALL_CPUS",
                compress="DEFLATE", predictor="STANDARD", overview_resampling="NEAREST",
            ) as file:  # fmt: skip
                file.write(counts(event, band, size), 1)
        text = json.dumps(_item(event, size), indent=2) + "\n"
        (folder / f"{event}.json").write_text(text, encoding="utf-8")


def counts(event: str, band: str, size: int) -> np.ndarray:
    """The counts of a band: uint16, (size, size) for B08, half of that for B12; 0 is "no data"."""
    half, times = size // 2, 2 if band == "B08" else 1
    made = np.empty((half * times, half * times), np.uint16)
    for strip, first in enumerate(range(0, half, _STRIP)):
        rows = range(first, min(first + _STRIP, half))
        # Both bands are made at 20 m, so that their ratio is that of the landscape everywhere.
        nir, swir = _reflectance(event, *positions(rows, half))
        ideal = finer(nir * 1e4) if times == 2 else swir * 1e4
        # A generator for each strip, so that what a row gets does not depend on other strips.
        seed = [_SEED, [*EVENTS].index(event), times, strip]
        noise = np.random.default_rng(seed).standard_normal(ideal.shape, dtype=np.float32)
        noisy = np.clip(np.rint(ideal + 12 * noise) + EVENTS[event][-1], 1, 65535)
        fine = range(rows.start * times, rows.stop * times)
        gone = outside(event, *positions(fine, half * times))
        made[fine.start : fine.stop] = np.where(gone, 0, noisy)
    return made


def _item(event: str, size: int) -> dict[str, Any]:
    """The STAC item of one event, without calibration: the baseline is all there is to go by."""
    from rasterio.warp import transform_bounds
    from shapely.geometry import box, mapping

    satellite, when, baseline, _ = EVENTS[event]
    (left, top), side = CORNER, size * PIXEL
    bounds = transform_bounds(CRS, "EPSG:4326", left, top - side, left + side, top)
    cog = {"type": "image/tiff; application=geotiff; profile=cloud-optimized", "roles": ["data"]}
    return {
        "type": "Feature", "stac_version": "1.1.0", "stac_extensions": [], "links": [],
        "id": f"S{satellite.upper()}_MSIL2A_{when[:10].replace('-', '')}_SAMPLE",
        "geometry": mapping(box(*bounds)), "bbox": bounds,
        "properties": {
            "title": f"Synthetic {event}-event scene, not a satellite image", "datetime": when,
            "platform": f"sentinel-{satellite}", "constellation": "sentinel-2",
            "s2:product_type": "S2MSI2A", "s2:processing_baseline": baseline,
        },
        "assets": {
            band: cog | {"href": f"./{event}_{band}.tif", "gsd": metres}
            for band, metres in (("B08", PIXEL), ("B12", 2 * PIXEL))
        },
    }  # fmt: skip


def burn(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The dNBR at (u, v): the scar, cut and growing fields, and little change elsewhere."""
    across, down = (u - 0.47) * 0.95, (v - 0.47) * 1.25
    angle = np.arctan2(down, across)
    lobes = 0.24 * np.sin(2 * angle + 0.7) + 0.14 * np.sin(3 * angle - 1.0)
    lobes = lobes + 0.09 * np.sin(5 * angle + 2.0) + 0.05 * np.sin(9 * angle)
    depth = 1 - np.hypot(across, down) / (0.34 * (1 + lobes))  # 1 in the middle, 0 at the edge
    rough = _texture(u, v, 6, 3)
    # The flanks burned unevenly, the edge frays out; the heart is exactly CORE.
    frayed = depth + (rough - 0.5) * np.where(depth < HEART, 1.6, 0)
    burned = np.clip(frayed / 0.62, 0, 1) * np.clip(depth / 0.12, 0, 1)
    scar = CORE * np.where(depth > HEART, 1.0, burned)
    # Fields are squares: each has the texture of its centre and one of the lattice's numbers.
    row, column = np.floor(v * 38), np.floor(u * 38)
    farmed = _texture((column + 0.5) / 38, (row + 0.5) / 38, 2, 9) > 0.62
    grown = _LATTICE[row.astype(int) % 64, column.astype(int) // 2 % 64] * 0.55 - 0.33
    elsewhere = np.where(farmed & (grown < 0.12), grown, 0.18 * rough - 0.11)
    return np.where((depth > 0) & (scar > elsewhere), scar, elsewhere)


def positions(rows: range, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The (u, v) of the pixels' centres in some rows of a scene of ``size`` pixels a side."""
    u, v = (np.arange(size) + 0.5) / size, (np.arange(rows.start, rows.stop) + 0.5) / size
    return u[np.newaxis, :], v[:, np.newaxis]


def _reflectance(event: str, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance (NIR, SWIR2) of one event: forest and scrub, then what the fire left."""
    nbr = 0.40 + 0.26 * _texture(u, v, 5, 1)
    total = 0.26 + 0.20 * _texture(u, v, 4, 6)
    if event == "post":
        change = burn(u, v)
        nbr, total = nbr - change, total * (1 - 0.3 * np.clip(change, 0, 1))
    return total * (1 + nbr) / 2, total * (1 - nbr) / 2


def outside(event: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Where the swath of an event ends: the slanted edge of an orbit."""
    return u > (0.955 - 0.07 * v if event == "pre" else 1.005 - 0.15 * v)


def finer(array: np.ndarray) -> np.ndarray:
    """Each 20 m pixel as its four 10 m pixels."""
    return array.repeat(2, axis=0).repeat(2, axis=1)


def _texture(u: np.ndarray, v: np.ndarray, octaves: int, salt: int) -> np.ndarray:
    """Smooth noise, 0 to 1: random lattices (by salt), each twice as fine and half as strong."""
    total, strength, scale = np.zeros(np.broadcast_shapes(u.shape, v.shape)), 1.0, 5.0
    for octave in range(octaves):
        down, across = (
            v * scale + salt * 11.3 + octave * 5.7,
            u * scale + salt * 7.9 + octave * 3.1,
        )
        i, j = (np.floor(position).astype(int).ravel() for position in (down, across))
        # How far through its cell a position is, eased so that no edges show.
        a, b = (t * t * (3 - 2 * t) for t in (down % 1, across % 1))
        strip = _LATTICE[i % 64] * (1 - a) + _LATTICE[(i + 1) % 64] * a
        total += strength * (strip[:, j % 64] * (1 - b) + strip[:, (j + 1) % 64] * b)
        strength, scale = strength / 2, scale * 2.1
    return total / (2 - 2 * strength)


def main(arguments: list[str] | None = None) -> int:
    """Write the pair and say what to do with it."""
    parser = argparse.ArgumentParser(prog="python -m bai_example.sample", description=__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path, help="where to write; made if needed")
    size = f"pixels along a side, at 10 m (default {SIZE}; a full tile has 10980)"
    parser.add_argument("--size", type=int, default=SIZE, metavar="N", help=size)
    options = parser.parse_args(arguments)
    if options.size < 64 or options.size % 2:
        parser.error("--size: must be even and at least 64")
    try:
        write_sample(options.folder, options.size)
    except OSError as error:  # rasterio's, too
        print(f"{options.folder}: cannot be written ({error.strerror or error})", file=sys.stderr)
        return 1
    items = " ".join(f"--{event}-event {options.folder / event}.json" for event in EVENTS)
    print(f"dask-claim -- python -m bai_example {items} --output-dir {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
