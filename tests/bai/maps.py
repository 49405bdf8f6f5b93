"""Items made for tests; maps computed in this process, by the pipeline and by hand in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from rasterio.windows import Window

from bai_example import blocks
from bai_example.blocks import Block, Statistics, compute_block
from bai_example.index import REASONS
from bai_example.pair import Pair, open_pair
from bai_example.rasters import windows_of
from bai_example.scenes import Scene, read_scene, to_scene


def item(name: str, assets: dict[str, Any], **properties: Any) -> dict[str, Any]:
    """The JSON of a Sentinel-2 L2A item; an asset given as a path or text is its href."""
    said = {
        "datetime": "2021-07-13T11:21:09Z", "platform": "sentinel-2b",
        "s2:product_type": "S2MSI2A", "s2:processing_baseline": "03.01",
    } | {key.replace("__", ":"): value for key, value in properties.items()}  # fmt: skip
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "properties": said, "links": [],
        "geometry": {"type": "Point", "coordinates": [-8.0, 40.0]},
        "bbox": [-8.0, 40.0, -8.0, 40.0],
        "assets": {
            key: value if isinstance(value, dict) else {"href": str(value)}
            for key, value in assets.items()
        },
    }  # fmt: skip


def opened(
    pre: Sequence[Scene], post: Sequence[Scene], area: Any = None, exact: bool = False,
    masked: bool = True,
) -> Pair:  # fmt: skip
    """A pair of which everything or nothing is masked, on both sides."""
    classes = frozenset(REASONS if masked else ())
    return open_pair(pre, post, (classes, classes), area, exact)


def sample_pair(folder: Path) -> Pair:
    """The pair whose items lie in a folder."""
    return opened(*([read_scene(str(folder / f"{event}.json"))] for event in ("pre", "post")))


class Map(NamedTuple):
    """A map put together."""

    index: np.ndarray
    severity: np.ndarray
    statistics: Statistics


def computed(pair: Pair, index: str = "dnbr") -> Map:
    """The map of a pair, every block computed in this process."""
    return assembled(pair, (compute_block(pair, index, w) for w in windows(pair.grid.shape)))


def windows(shape: tuple[int, int]) -> list[Window]:
    """The blocks of a map."""
    return [*windows_of(shape, blocks.BLOCK)]


def assembled(pair: Pair, blocks: Iterable[Block]) -> Map:
    """The map that some blocks make."""
    values, classes = np.empty(pair.grid.shape, np.float32), np.empty(pair.grid.shape, np.uint8)
    statistics = Statistics()
    for one in blocks:
        values[one.window.toslices()], classes[one.window.toslices()] = one.values, one.classes
        statistics.merge(one.statistics)
    return Map(values, classes, statistics)


def counts(path: Path, dtype: type | None = np.float64) -> np.ndarray:
    """The numbers in a raster."""
    with rasterio.open(path) as file:
        return file.read(1) if dtype is None else file.read(1).astype(dtype)


def expected_nbr(nir: np.ndarray, swir2: np.ndarray, scale: float, offset: float) -> np.ndarray:
    """NBR from counts, 0 being nodata; SWIR2 already on the NIR grid."""
    known = (nir != 0) & (swir2 != 0)
    nir, swir2 = (np.clip(band * scale + offset, 0, None) for band in (nir, swir2))
    total = nir + swir2
    known &= total > 1e-9
    return np.where(known, (nir - swir2) / np.where(known, total, 1), np.nan)


def finer(swir2: np.ndarray, ratio: int = 2) -> np.ndarray:
    """Each pixel as ``ratio`` by ``ratio``."""
    return np.kron(swir2, np.ones((ratio, ratio)))


def nbr_of(folder: Path, post_offset: float = 0, ratio: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """NBR before and after, of the rasters in a folder; ``ratio`` is that of the earlier SWIR2."""
    pre, post = (
        expected_nbr(
            counts(folder / f"{event}_B08.tif"), finer(counts(folder / f"{event}_B12.tif"), ratio),
            1e-4, offset,
        )
        for event, offset, ratio in (("pre", 0, ratio), ("post", post_offset, 2))
    )  # fmt: skip
    return pre, post


def assert_map(actual: np.ndarray, expected: np.ndarray, tolerance: float = 1e-6) -> None:
    """The same values and the same gaps, and values at all."""
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    assert np.array_equal(np.isnan(actual), np.isnan(expected))
    assert np.nanmax(np.abs(actual - expected)) <= tolerance


def assert_cog(path: Path) -> None:
    """A valid COG, by rio-cogeo."""
    from rio_cogeo.cogeo import cog_validate

    valid, errors, warnings = cog_validate(path, strict=True)
    assert valid, errors + warnings


def pair_of(
    make_raster: Callable[..., Path],
    pre: dict[str, Any] | None = None,
    post: dict[str, Any] | None = None,
    size: int = 8,
    masked: bool = True,
    offset: float | None = None,
) -> Pair:
    """A pair of rasters of random counts; keywords of `make_raster` by event, ``swir2_…`` too."""
    rng = np.random.default_rng(2)
    scenes = []
    for event, options in (("pre", pre or {}), ("post", post or {})):
        shared = {k: v for k, v in options.items() if not k.startswith("swir2_")}
        own = {k.removeprefix("swir2_"): v for k, v in options.items() if k.startswith("swir2_")}
        near = {"counts": rng.integers(1000, 5000, (size, size)).astype("uint16")} | shared
        short = {"counts": rng.integers(1000, 5000, (size // 2, size // 2)).astype("uint16")}
        assets = {
            "B08": make_raster(f"{event}_B08.tif", **near),
            "B12": make_raster(f"{event}_B12.tif", **(short | shared | {"pixel": 20} | own)),
        }
        scenes.append(to_scene(item(event, assets), "/item.json", offset=offset))
    return opened(scenes[:1], scenes[1:], masked=masked)
