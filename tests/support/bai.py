"""Fixtures of the tests of bai_example: a Dask cluster, the sample pair, rasters, the program."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import numpy as np


# First: pytest-xdist reads the groups in a hook of its own.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One cluster is enough for all processes of pytest-xdist."""
    for item in items:
        if "client" in getattr(item, "fixturenames", ()) and "/bai/" in item.nodeid:
            item.add_marker(pytest.mark.xdist_group("bai"))


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    """A client of a worker process with two threads.

    Not a thread of this process: the example goes to the workers by value, and would arrive here as
    other functions under the same classes.
    """
    import dask
    from distributed import Client, LocalCluster

    quiet = {
        "distributed.worker.profile.enabled": False,
        "distributed.admin.system-monitor.interval": "10s",
    }
    with (
        dask.config.set(quiet),
        LocalCluster(
            n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield client


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample pair, 256 pixels. Tests must not write into it."""
    from bai_example.sample import write_sample

    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, 256)
    return folder


@pytest.fixture
def make_raster(tmp_path: Path) -> Callable[..., Path]:
    """Writes a raster of counts; the defaults are those of B08 at 10 m."""
    import rasterio

    def make(
        name: str,
        counts: np.ndarray,
        pixel: float = 10,
        corner: tuple[float, float] = (600_000, 4_500_000),
        epsg: int = 32629,
        nodata: float | None = 0,
        **options: Any,
    ) -> Path:
        path = tmp_path / name
        profile = {
            "driver": "GTiff", "height": counts.shape[0], "width": counts.shape[1], "count": 1,
            "dtype": counts.dtype, "crs": rasterio.crs.CRS.from_epsg(epsg), "nodata": nodata,
            "transform": rasterio.Affine(pixel, 0, corner[0], 0, -pixel, corner[1]),
        }  # fmt: skip
        with rasterio.open(path, "w", **(profile | options)) as file:
            file.write(counts, 1)
        return path

    return make


@contextmanager
def logged(format: str = "{message}", level: str = "DEBUG") -> Iterator[list[str]]:
    """What the program logs, line by line."""
    from loguru import logger

    lines: list[str] = []
    sink = logger.add(lines.append, format=format, level=level)
    try:
        yield lines
    finally:
        logger.remove(sink)


@pytest.fixture
def program(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[int, list[str]]]]:
    """Runs the program, in this process and `tmp_path`; its exit status and what it logged."""
    from bai_example.__main__ import main

    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", client.scheduler.address)
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> tuple[int, list[str]]:
        with logged() as lines:
            status = main([*map(str, arguments)])
        return status, [line.strip() for line in lines]

    yield run
    signal.signal(signal.SIGTERM, before)
