"""A first burned-area map: dNBR of two Sentinel-2 scenes, computed on a claimed Dask cluster.

    dask-claim -- python examples/first_map.py scenes/pre.json scenes/post.json dnbr.tif

Items are URLs or paths. Workers write the map, so they share a disk with this program.
"""

import sys
from pathlib import Path

import rasterio
import rioxarray
import xarray as xr
from distributed import Lock
from pystac import Asset, Item
from pystac_client.stac_api_io import StacApiIO

import dask_claim


def offset(item: Item, asset: Asset) -> int:
    """ESA adds 1000 to every count from baseline 04.00 on; some catalogues take it off again."""
    said, names = item.properties, ("earthsearch", "sentinel")
    baseline = said.get("s2:processing_baseline") or said.get("sentinel:processing_baseline") or 0
    applied = any(said.get(f"{name}:boa_offset_applied") for name in names)
    return -1000 if float(baseline) >= 4 and not (applied and asset.href.endswith(".tif")) else 0


def nbr(item: Item) -> xr.DataArray:
    """Normalized burn ratio of a scene at 10 m, lazily; NaN where a band has no data (0)."""
    bands = []
    for keys in (("B08", "nir"), ("B12", "swir22")):
        asset = next(item.assets[key] for key in keys if key in item.assets)
        counts = rioxarray.open_rasterio(asset.get_absolute_href(), chunks=2048)[0]
        # Noise can make the reflectance of dark pixels negative.
        bands.append((counts.where(counts != 0) + offset(item, asset)).clip(0))
    nir, swir = bands[0], bands[1].reindex_like(bands[0], method="nearest")
    return (nir - swir) / (nir + swir)


if __name__ == "__main__":
    *items, out = sys.argv[1:]
    pre, post = (Item.from_file(i, stac_io=StacApiIO(max_retries=3, timeout=30)) for i in items)
    out = Path(out).absolute()
    with dask_claim.connect():
        dnbr = (nbr(pre) - nbr(post)).astype("float32").rio.write_nodata(float("nan"))
        # The chunks are written one after the other, by whichever worker has them.
        dnbr.rio.to_raster(out, tiled=True, compress="deflate", predictor=3, lock=Lock(str(out)))
    with rasterio.open(out, "r+") as file:
        file.build_overviews([2, 4, 8, 16], rasterio.enums.Resampling.average)
