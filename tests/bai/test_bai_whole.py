"""From an event and an area to the map: a real API server, rasters over HTTP, two tiles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from tests.bai.servers import rasters_over_http, stac_api

#: Pixels along a side of a tile of the sample, and their size in metres.
PIXELS, METRES = 256, 10


def tiles(sample: Path, folder: Path, url: str) -> list[dict[str, Any]]:
    """The sample's pair as two tiles side by side, with a cloudy scene that is not to be taken."""
    items = []
    for tile, shift in (("29TNE", 0), ("29TPE", PIXELS * METRES)):
        for event, cloud in (("pre", 2), ("post", 3), ("cloudy", 90)):
            source = "pre" if event == "cloudy" else event
            item = json.loads((sample / f"{source}.json").read_text())
            for band, asset in item["assets"].items():
                name = f"{tile}_{source}_{band}.tif"
                asset["href"] = f"{url}/{name}"
                with rasterio.open(sample / f"{source}_{band}.tif") as file:
                    profile = file.profile
                    profile["transform"] = rasterio.Affine.translation(shift, 0) @ file.transform
                    with rasterio.open(folder / name, "w", **profile) as moved:
                        moved.write(file.read())
            degrees = shift / 85_000  # a degree of longitude at 40 degrees north, nearly
            west, south, east, north = item["bbox"]
            item["bbox"] = [west + degrees, south, east + degrees, north]
            for point in item["geometry"]["coordinates"][0]:
                point[0] += degrees
            when = "2021-07-16T11:21:09Z" if event == "cloudy" else item["properties"]["datetime"]
            item |= {"id": f"{tile}_{event}", "collection": "sentinel-2-l2a"}
            item["properties"] |= {
                "datetime": when, "eo:cloud_cover": cloud, "grid:code": f"MGRS-{tile}",
                "sat:relative_orbit": 37,
            }  # fmt: skip
            items.append(item)
    return items


@pytest.mark.needs("Python 3.11")  # rustac, the API server
def test_from_a_search_to_the_map_of_two_tiles(
    sample: Path, program: Callable[..., Any], tmp_path: Path
) -> None:
    rasters = tmp_path / "rasters"
    rasters.mkdir()
    with rasters_over_http(rasters) as server:
        items = tiles(sample, rasters, server.url)
        boxes = np.array([item["bbox"] for item in items])
        box = *boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)
        with stac_api(tmp_path, items) as api:
            status, lines = program(
                "--api", api.url, "--collection", "sentinel-2-l2a", "--event", "2021-07-20",
                "--bbox", *box, "--output-dir", "map",
            )  # fmt: skip
    assert status == 0
    taken = [f"{tile}_{event}" for tile in ("29TNE", "29TPE") for event in ("pre", "post")]
    for name in taken:
        assert any(name in line for line in lines)
    with rasterio.open(tmp_path / "map" / "bai.tif") as file:
        assert file.shape == (PIXELS, 2 * PIXELS)
        first, second = np.hsplit(file.read(1), 2)
    assert np.isfinite(first).mean() > 0.8
    assert np.array_equal(first, second, equal_nan=True)
    document = json.loads((tmp_path / "map" / "bai.json").read_text())
    links = [link["href"] for link in document["links"] if link["rel"] == "derived_from"]
    assert sorted(link.rsplit("/", 1)[-1] for link in links) == sorted(taken)
