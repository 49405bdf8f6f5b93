"""Resamples scenes to one grid, in parallel, as COGs: `python -m job_service.processor JOB INPUTS`.

An ordinary Dask program, which knows nothing of who claimed its cluster. Run as a module its
functions travel to the workers by value, so they need rasterio and odc-geo, and not this package;
what they do need is the shared volume, at the same path.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

# Others read more than the one file: a VRT that somebody put among the scenes names any other.
DRIVER = "GTiff"


def resample(
    path: str, inputs: str, grid: dict[str, Any], how: str, work: str, out: str
) -> dict[str, str]:
    """Write `path`, on the grid, to `out`; `work` is the warped raster in between.

    Returns the scene's state (done, missing, failed) and, unless done, its `detail`.
    """
    import rasterio.shutil
    from odc.geo.geobox import GeoBox
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    source = os.path.realpath(path)
    if not source.startswith(os.path.realpath(inputs) + os.sep):
        return {"state": "failed", "detail": "the scene lies outside of the inputs"}
    if not os.path.exists(source):
        return {"state": "missing", "detail": "there is no such file"}
    left, bottom, right, top = grid["bounds"]
    box = GeoBox.from_bbox(
        (left, bottom, right, top), crs=grid["crs"], resolution=grid["resolution"], tight=True
    )
    height, width = box.shape
    part = f"{out}.part"
    try:
        with (
            rasterio.open(source, driver=DRIVER) as scene,
            WarpedVRT(
                scene,
                crs=grid["crs"],
                transform=box.affine,
                width=width,
                height=height,
                resampling=Resampling[how],
                # Outside of the scene; 0 where the scene itself has no such value.
                nodata=0 if scene.nodata is None else scene.nodata,
            ) as warped,
        ):
            rasterio.shutil.copy(warped, work, driver="GTiff", tiled=True, bigtiff="if_safer")
        rasterio.shutil.copy(work, part, driver="COG", compress="deflate", bigtiff="if_safer")
        # A name without .part is a whole file.
        os.replace(part, out)
    except (OSError, rasterio.errors.RasterioError) as error:
        if os.path.exists(part):
            os.remove(part)
        return {"state": "failed", "detail": str(error)}
    return {"state": "done"}


def write_status(folder: Path, scenes: dict[str, dict[str, str]]) -> None:
    """Write `status.json`, whole or not at all."""
    ended = sum(scene["state"] != "waiting" for scene in scenes.values())
    status = {
        "progress": ended / len(scenes),
        "dashboard": os.environ.get("JOB_DASHBOARD"),
        "scenes": scenes,
    }
    part = folder / "status.json.part"
    part.write_text(json.dumps(status))
    part.replace(folder / "status.json")


def main(folder: Path, inputs: Path) -> int:
    """0 if any scene was written, else 1."""
    from distributed import Client, as_completed

    request = json.loads((folder / "request.json").read_text())
    for name in ("work", "out"):
        (folder / name).mkdir(exist_ok=True)
    scenes = {scene["name"]: {"state": "waiting"} for scene in request["scenes"]}
    write_status(folder, scenes)
    with Client() as client:
        futures = {
            client.submit(
                resample,
                str(inputs / scene["path"]),
                str(inputs),
                request["grid"],
                request["resampling"],
                str(folder / "work" / f"{scene['name']}.tif"),
                str(folder / "out" / f"{scene['name']}.tif"),
                pure=False,
            ): scene["name"]
            for scene in request["scenes"]
        }
        for future in as_completed(futures):
            # One scene's defect, or a worker lost too often, is that scene's, not the job's.
            error = future.exception()
            name = futures[future]
            scenes[name] = future.result() if error is None else _failed(error)
            print(name, scenes[name]["state"], scenes[name].get("detail", ""), flush=True)
            write_status(folder, scenes)
    return 0 if any(scene["state"] == "done" for scene in scenes.values()) else 1


def _failed(error: BaseException) -> dict[str, str]:
    return {"state": "failed", "detail": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
