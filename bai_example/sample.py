"""``python -m bai_example.sample DIR``: a small synthetic pair, to try the map without internet.

Two STAC items in the manner of Planetary Computer and four COGs: B08 at 10 m and B12 at 20 m, like
Sentinel-2 L2A. The pre-event scene is of processing baseline 03.01, the post-event scene of 05.00,
whose counts carry 1000 more; the map is right only where that is taken into account.

The burn scar is known: `known_dnbr` gives the dNBR it was made with. The scenes differ from it by
the noise and the rounding of their counts, `NOISE` of standard deviation and no bias.

The same arguments always give the same files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bai_example import landscape
from bai_example.errors import InputError

if TYPE_CHECKING:
    from bai_example.grid import Grid

#: Size of a pixel of B08, metres, and of the default scene, pixels (a full tile has 10980).
PIXEL, SIZE = 10, 1024
#: Upper left corner, metres in UTM zone 29N (EPSG:32629): hills in the middle of Portugal.
CORNER = (560_000, 4_430_000)
EPSG = 32629
#: Standard deviation of map - `known_dnbr`, at most (it is largest where the ground is dark).
NOISE = 0.03

_SEED = 20210713
#: Counts: standard deviation of the noise of each pixel, and ESA's from baseline 04.00 on.
_COUNT_NOISE, _BASELINE_COUNTS = 12.0, 1000
#: Rows of B12 made at once: bounds the memory, and sets which random numbers a row gets.
_STRIP = 256


class Event(NamedTuple):
    """One of the two scenes."""

    satellite: str
    when: str
    baseline: str
    counts: int
    """What the baseline adds to every count."""


EVENTS = {
    "pre": Event("S2B", "2021-07-13T11:21:09Z", "03.01", 0),
    "post": Event("S2A", "2021-08-07T11:21:11Z", "05.00", _BASELINE_COUNTS),
}


def known_dnbr(size: int = SIZE) -> np.ndarray:
    """The dNBR the pair was made with, before noise: (size, size), NaN where there is no data."""
    coarse = landscape.positions(range(size // 2), size // 2)
    fine = landscape.positions(range(size), size)
    known = _finer(landscape.burn(*coarse))
    for event in EVENTS:
        known[landscape.outside(event, *fine)] = np.nan
        known[_finer(landscape.outside(event, *coarse))] = np.nan
    return known


def write_sample(folder: Path, size: int = SIZE) -> tuple[Path, Path]:
    """Write the pair into ``folder``.

    Args:
        folder: made if it is not there; files of an earlier sample are replaced.
        size: pixels along a side of B08; even, at least 64.

    Returns:
        The paths of the pre-event and the post-event item.
    """
    from bai_example.output.destination import LocalFolder

    place = LocalFolder(folder)
    place.prepare([], overwrite=True)
    with place.staging() as stage:
        for event in EVENTS:
            _write_bands(stage, event, size)
            item = json.dumps(_item(event, size), indent=2) + "\n"
            (stage / f"{event}.json").write_text(item, encoding="utf-8")
    return folder / "pre.json", folder / "post.json"


def _write_bands(stage: Path, event: str, size: int) -> None:
    from bai_example.sample_cog import write_counts

    scene = EVENTS[event]
    for band, pixel in (("B08", PIXEL), ("B12", 2 * PIXEL)):
        grid = _grid(size * PIXEL // pixel, pixel)
        parts = _parts(event, band, size)
        tags = {"PROCESSING_BASELINE": scene.baseline, "BAND": band}
        write_counts(stage / f"{event}_{band}.tif", grid, parts, tags, band)


def _parts(event: str, band: str, size: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """The counts of a band, strip by strip: first row, first column (0), counts as uint16."""
    half = size // 2
    finer = 2 if band == "B08" else 1
    for strip, first in enumerate(range(0, half, _STRIP)):
        rows = range(first, min(first + _STRIP, half))
        # Both bands are made at 20 m, so that their ratio is that of the landscape everywhere.
        nir, swir2 = landscape.reflectance(event, *landscape.positions(rows, half))
        ideal = (nir if band == "B08" else swir2) * 1e4
        ideal = _finer(ideal) if finer == 2 else ideal
        # A generator for each strip, so that what a row gets does not depend on other strips.
        seed = [_SEED, list(EVENTS).index(event), finer, strip]
        noise = np.random.default_rng(seed).standard_normal(ideal.shape, dtype=np.float32)
        counts = np.rint(ideal + _COUNT_NOISE * noise) + EVENTS[event].counts
        # 1 is ESA's lowest count, since 0 means "no data".
        counts = np.clip(counts, 1, 65535).astype(np.uint16)
        fine_rows = range(rows.start * finer, rows.stop * finer)
        counts[landscape.outside(event, *landscape.positions(fine_rows, half * finer))] = 0
        yield fine_rows.start, 0, counts


def _finer(array: np.ndarray) -> np.ndarray:
    """Each 20 m pixel as its four 10 m pixels."""
    return array.repeat(2, axis=0).repeat(2, axis=1)


def _grid(size: int, pixel: int) -> Grid:
    from affine import Affine
    from rasterio.crs import CRS

    from bai_example.grid import Grid

    transform = Affine(pixel, 0, CORNER[0], 0, -pixel, CORNER[1])
    return Grid(CRS.from_epsg(EPSG), transform, (size, size))


def _item(event: str, size: int) -> dict[str, Any]:
    """The STAC item of one event, without calibration: the baseline is all there is to go by."""
    from bai_example.output.footprint import bounding_box, footprint

    satellite, when, baseline, _ = EVENTS[event]
    grid = _grid(size, PIXEL)
    assets = {
        band: {
            "href": f"./{event}_{band}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "title": f"{band} - {name} - {gsd}m",
            "gsd": gsd,
            "roles": ["data"],
        }
        for band, name, gsd in (("B08", "NIR", PIXEL), ("B12", "SWIR2", 2 * PIXEL))
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": f"{satellite}_MSIL2A_{when[:10].replace('-', '')}_SAMPLE",
        "geometry": footprint(grid),
        "bbox": bounding_box(grid),
        "properties": {
            "datetime": when,
            "title": f"Synthetic {event}-event scene, not a satellite image",
            "platform": f"sentinel-{satellite[1:].lower()}",
            "constellation": "sentinel-2",
            "s2:product_type": "S2MSI2A",
            "s2:processing_baseline": baseline,
        },
        "assets": assets,
        "links": [],
    }


def _size(text: str) -> int:
    size = int(text)
    if size < 64 or size % 2:
        raise argparse.ArgumentTypeError(f"{text}: must be even and at least 64")
    return size


def main(arguments: list[str] | None = None) -> int:
    """Write the pair and say what to do with it."""
    parser = argparse.ArgumentParser(
        prog="python -m bai_example.sample",
        description="Write a small synthetic pair of scenes: two STAC items and four COGs.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="where to write; made if needed")
    parser.add_argument(
        "--size", type=_size, default=SIZE, metavar="N",
        help="pixels along a side, at 10 m (default %(default)s; a full tile has 10980)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        pre, post = write_sample(options.folder, options.size)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{options.folder}: cannot be written ({error.strerror})", file=sys.stderr)
        return 1
    for path in sorted(options.folder.glob("*_B??.tif")):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    print(pre)
    print(post)
    print(
        "\nNow make the map:\n  dask-claim -- python -m bai_example "
        f"--pre-event {pre} --post-event {post} --output-dir {options.folder}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
