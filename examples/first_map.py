"""A first burned-area map: dNBR of two Sentinel-2 scenes, computed on a claimed Dask cluster.

    python -m bai_example.sample scenes
    dask-claim -- python examples/first_map.py scenes dnbr.tif

The folder holds NIR (B08, 10 m) and SWIR (B12, 20 m) before and after the fire, as `pre_B08.tif`,
`post_B12.tif` and so on. Workers read and write the files, so they share a disk with this program;
`bai_example` does without, masks clouds, and takes offset and scale from STAC items.
"""

import sys
from pathlib import Path

import rioxarray
import xarray as xr
from distributed import Lock

import dask_claim

# From processing baseline 04.00 on, ESA adds 1000 to every count.
OFFSET = {"pre": 0, "post": -1000}


def band(folder: Path, event: str, name: str) -> xr.DataArray:
    """Counts of a band, lazily, NaN where there are no data."""
    path = folder / f"{event}_{name}.tif"
    return rioxarray.open_rasterio(path, chunks=2048, masked=True)[0] + OFFSET[event]


def nbr(folder: Path, event: str) -> xr.DataArray:
    """Normalized burn ratio of one scene at 10 m."""
    nir = band(folder, event, "B08")
    swir = band(folder, event, "B12").reindex_like(nir, method="nearest")
    return (nir - swir) / (nir + swir)


def main(folder: Path, out: Path) -> None:
    """Write dNBR, NBR before minus NBR after the fire: the higher, the more burned."""
    with dask_claim.connect():
        dnbr = (nbr(folder, "pre") - nbr(folder, "post")).astype("float32")
        # The chunks are written one after the other, by whichever worker has them.
        dnbr.rio.to_raster(out, tiled=True, compress="deflate", predictor=3, lock=Lock(str(out)))


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
