"""``python -m bai_example.sample DIR``: a small synthetic pair, to try the map without internet.

Two STAC items in the manner of Planetary Computer and four COGs: B08 at 10 m and B12 at 20 m, like
Sentinel-2 L2A. The pre-event scene is of processing baseline 03.01, the post-event scene of 05.00,
whose counts carry 1000 more; the map is right only where that is taken into account.

The burn scar is known: `burn` gives the dNBR it was made with. The same arguments always give the
same files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import rasterio
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping

#: Satellite, time, processing baseline, what that adds to every count, and where the swath ends:
#: 0 to 1 across the scene, at its top and at its bottom.
EVENTS = {
    "pre": ("2b", "2021-07-13T11:21:09Z", "03.01", 0, (0.955, 0.885)),
    "post": ("2a", "2021-08-07T11:21:11Z", "05.00", 1000, (1.005, 0.855)),
}
#: Upper left corner, metres: hills in the middle of Portugal.
CORNER, CRS = (560_000, 4_430_000), "EPSG:32629"
#: dNBR in the scar's heart; standard deviation of map - `burn`, at most (where the ground is dark).
CORE, NOISE = 0.85, 0.03


def write_sample(folder: Path, size: int = 1024) -> None:
    """Write ``pre.json``, ``post.json`` and their rasters, ``size`` pixels along a side of B08."""
    folder.mkdir(parents=True, exist_ok=True)
    for event in EVENTS:
        for band, counts in scene(event, size).items():
            pixel = 10 * size // len(counts)
            with rasterio.Env(GDAL_CACHEMAX=64), rasterio.open(
                folder / f"{event}_{band}.tif", "w", driver="COG", count=1, dtype="uint16",
                width=len(counts), height=len(counts), nodata=0, crs=CRS,
                transform=rasterio.Affine(pixel, 0, CORNER[0], 0, -pixel, CORNER[1]),
                blocksize=512, num_threads="ALL_CPUS", compress="DEFLATE", predictor="STANDARD",
            ) as file:  # fmt: skip
                file.write(counts, 1)
        (folder / f"{event}.json").write_text(json.dumps(_item(event, size), indent=2) + "\n")


def scene(event: str, size: int) -> dict[str, np.ndarray]:
    """Counts of the bands by name, uint16; 0 is "no data"."""
    nir, swir = _landscape(event, positions(size // 2))
    bands = {"B08": nir.repeat(2, axis=0).repeat(2, axis=1), "B12": swir}
    _, _, _, added, (top, bottom) = EVENTS[event]
    rng = np.random.default_rng(added)
    for counts in bands.values():
        # Noise of 12 in single bytes: a full tile takes less than 1 GB.
        counts += rng.integers(0, 41, counts.shape, np.uint8)
        counts += np.uint16(added)
        at = positions(len(counts))
        counts[at > top + (bottom - top) * at[:, np.newaxis]] = 0
    return bands


def _landscape(event: str, at: np.ndarray) -> list[np.ndarray]:
    """NIR and SWIR, 20 below the counts that the noise makes of them: forest, then what burned.

    Both are made at 20 m, so that their ratio is that of the landscape everywhere.
    """
    change = burn(at) if event == "post" else np.float32(0)
    nbr = 0.53 + 0.13 * texture(at, 1) - change
    total = (3600 + 1000 * texture(at, 2)) * (1 - 0.3 * np.clip(change, 0, 1))
    return [np.rint(total * (1 + sign * nbr) / 2 - 20).astype(np.uint16) for sign in (1, -1)]


def burn(at: np.ndarray) -> np.ndarray:
    """The dNBR at positions down and across: the scar, and elsewhere fields that changed."""
    # 1 in the middle and 0 at the edge, which frays; the heart is exactly CORE.
    depth = 1 - np.hypot(at - 0.46, 1.3 * (at[:, np.newaxis] - 0.47)) / 0.36 + 0.35 * texture(at, 3)
    green = texture(at, 4)  # or dry
    return np.where(depth > 0, CORE * np.clip(depth / 0.6, 0, 1), -0.1 * green**2 - 0.25 * green**3)


def texture(at: np.ndarray, seed: int) -> np.ndarray:
    """Smooth noise, -1 to 1, at positions down and across: waves, the shorter the weaker."""
    length = 0.5 / 1.06 ** np.arange(90, dtype=np.float32)[:, np.newaxis]
    angle, phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, (2, 90, 1))
    down = 2 * np.pi * np.sin(angle) * at / length + phase
    across = 2 * np.pi * np.cos(angle) * at / length
    # The cosine of a sum, as a product of matrices.
    left = np.vstack([length * np.cos(down), -length * np.sin(down)]).astype(np.float32)
    right = np.vstack([np.cos(across), np.sin(across)]).astype(np.float32)
    return np.clip(left.T @ right / 1.5, -1, 1)


def positions(size: int) -> np.ndarray:
    """The centres of the pixels along a side, 0 to 1."""
    return (np.arange(size, dtype=np.float32) + 0.5) / size


def _item(event: str, size: int) -> dict[str, Any]:
    """The STAC item of one event, without calibration: the baseline is all there is to go by."""
    satellite, when, baseline, *_ = EVENTS[event]
    left, top = CORNER
    bounds = transform_bounds(CRS, "EPSG:4326", left, top - 10 * size, left + 10 * size, top)
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
        "assets": {band: cog | {"href": f"./{event}_{band}.tif"} for band in ("B08", "B12")},
    }  # fmt: skip


@click.command
@click.argument("folder", metavar="DIR", type=Path)
@click.option("--size", type=click.IntRange(64), default=1024, show_default=True,
              help="Pixels along a side, at 10 m; even; a full tile has 10980.")  # fmt: skip
def main(folder: Path, size: int) -> None:
    """Write a synthetic pair of scenes into a folder and print how to map it."""
    write_sample(folder, size // 2 * 2)
    items = " ".join(f"--{event}-event {folder / event}.json" for event in EVENTS)
    print(f"dask-claim -- python -m bai_example {items} --output-dir {folder}")


if __name__ == "__main__":
    main()
