"""What the burned-area map costs: `python -m benchmarks.bai` prints its tables.

Full tiles of `bai_example.sample`, every run in a fresh process on two fresh workers of one thread
each, the rivals in turn so that a slow moment meets all alike; medians of the rounds, wall time of
the whole process, which for workers counts from when they are there. Parts:

* pair: `bai_example` beside the reference program's way and beside the machine's limit;
* size: two by two tiles beside one; one round;
* http: rasters over HTTP with range requests, 20 ms away, beside local files; one round.

Exits with status 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.bai_http import full_resolution_bytes, served
from benchmarks.bai_runs import Run, claimed, example, measure, median, module, on_cluster

#: How far the maps may differ.
AGREEMENT = 1e-6


class Goal(NamedTuple):
    """A figure and what it must not exceed."""

    name: str
    limit: float
    figure: float

    @property
    def met(self) -> bool:
        return self.figure <= self.limit

    def row(self) -> str:
        verdict = "met" if self.met else "**missed**"
        return f"| {self.name} | ≤ {self.limit:g} | {self.figure:.4g} | {verdict} |"


def memory(name: str, run: Run) -> list[Goal]:
    """The goals for memory, whatever the size of the map."""
    return [
        Goal(f"{name}: client's peak, MB", 300, run.client),
        Goal(f"{name}: each worker's peak, MB", 1000, run.worker),
    ]


class Sample(NamedTuple):
    """The pair of items of a size."""

    folder: Path
    pre: Path
    post: Path


class Bench:
    """The rounds, and where their files are."""

    def __init__(self, size: int, rounds: int, folder: Path) -> None:
        self._size = size
        self._rounds = rounds
        self._folder = folder

    def sample(self, times: int = 1) -> Sample:
        """The pair with `times` tiles along a side, made if it is not there."""
        size = times * self._size
        folder = self._folder / f"sample-{size}"
        if not (folder / "pre.json").exists():
            say(f"making the sample of {size} × {size} pixels")
            measure(module("bai_example.sample", folder, "--size", size))
        for raster in folder.glob("*.tif"):
            raster.read_bytes()  # into the page cache, for whoever comes first
        return Sample(folder, folder / "pre.json", folder / "post.json")

    def in_turn(
        self, rows: Mapping[str, Callable[[Path], Run]], rounds: int = 1
    ) -> dict[str, list[Run]]:
        """Run each row once in each round; it gets an empty folder for its files."""
        runs: dict[str, list[Run]] = {name: [] for name in rows}
        for number in range(rounds):
            for name, row in rows.items():
                with tempfile.TemporaryDirectory(dir=self._folder, prefix="run-") as out:
                    runs[name].append(row(Path(out)))
                say(f"round {number + 1}: {name}: {runs[name][-1].seconds:.1f} s")
        return runs

    def pair(self) -> list[Goal]:
        """`bai_example` beside its rivals."""
        sample = self.sample()
        items = (sample.pre, sample.post)
        maps: dict[str, np.ndarray] = {}

        def rival(name: str, out: Path) -> Run:
            command = module(f"benchmarks.bai_{name}", *items, out / "map.tif")
            run = on_cluster(command) if name == "reference" else measure(command)
            keep(name, out / "map.tif")
            return run

        def ours(out: Path) -> Run:
            run = on_cluster(example(*items, out))
            keep("bai_example", out / "bai.tif")
            return run

        def keep(name: str, path: Path) -> None:
            if name not in maps:
                maps[name] = thinned(path)

        runs = self.in_turn({
            "reference program's way": lambda out: rival("reference", out),
            "the limit: one process, no cluster": lambda out: rival("limit", out),
            "`bai_example`": ours,
            "`dask-claim -- …`, with its own cluster": lambda out: measure(
                claimed(example(*items, out))
            )._replace(client=0.0),  # the launcher's memory, not the program's
        }, self._rounds)  # fmt: skip
        for name, values in maps.items():
            off = farthest(values, maps["limit"])
            say(f"{name} differs from the limit's map by at most {off:.2g}")
            if not off <= AGREEMENT:
                raise SystemExit(f"the map of {name} is another one: it differs by {off:.3g}")
        reference, limit, own, _ = map(median, runs.values())
        heading("one tile", "× reference", "× limit")
        for name, row in runs.items():
            run = median(row)
            print(
                f"| {name} | {run.columns} | "
                f"{run.seconds / reference.seconds:.2f} | {run.seconds / limit.seconds:.2f} |"
            )
        return [
            Goal("wall time, × reference program's way", 0.45, own.seconds / reference.seconds),
            Goal("wall time, × limit", 1.45, own.seconds / limit.seconds),
            *memory("one tile", own),
        ]

    def size(self) -> list[Goal]:
        """Two by two tiles beside one."""
        samples = {"one tile": self.sample(), "2 × 2 tiles": self.sample(2)}
        runs = self.in_turn({
            name: lambda out, s=sample: on_cluster(example(s.pre, s.post, out))
            for name, sample in samples.items()
        })  # fmt: skip
        one, four = map(median, runs.values())
        heading("size", "× one tile")
        for name, run in zip(runs, (one, four), strict=True):
            print(f"| {name} | {run.columns} | {run.seconds / one.seconds:.2f} |")
        ratio = four.seconds / one.seconds
        return [Goal("2 × 2 tiles, × one", 4.4, ratio), *memory("2 × 2 tiles", four)]

    def http(self) -> list[Goal]:
        """Rasters over HTTP beside local files."""
        sample = self.sample()
        with served(sample.folder) as site:
            urls = f"{site.url}/pre.json", f"{site.url}/post.json"
            runs = self.in_turn({
                "local files": lambda out: on_cluster(example(sample.pre, sample.post, out)),
                "HTTP, 20 ms away": lambda out: on_cluster(example(*urls, out)),
            })  # fmt: skip
        local, remote = map(median, runs.values())
        more = site.bytes / sum(map(full_resolution_bytes, sample.folder.glob("*.tif")))
        heading("rasters", "requests", "MB", "× bands")
        print(f"| local files | {local.columns} | – | – | – |")
        asked = f"{site.requests} | {site.bytes / 1e6:.1f} | {more:.3f}"
        print(f"| HTTP, 20 ms away | {remote.columns} | {asked} |")
        return [
            Goal("over HTTP, × local files", 1.3, remote.seconds / local.seconds),
            Goal("bytes fetched, × the bands'", 1.05, more),
        ]


def thinned(path: Path) -> np.ndarray:
    """Every fourth strip of 64 rows of a map: enough to compare, little enough to keep."""
    with rasterio.open(path) as raster:
        strips = [
            raster.read(1, window=Window(0, row, raster.width, min(64, raster.height - row)))
            for row in range(0, raster.height, 256)
        ]
    return np.concatenate(strips)


def farthest(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two maps; infinite where only one has a value."""
    if one.shape != other.shape or not np.array_equal(np.isnan(one), np.isnan(other)):
        return float("inf")
    return float(np.nanmax(np.abs(one.astype(np.float64) - other)))


def heading(runs: str, *columns: str) -> None:
    """The head of a table of runs."""
    names = [runs, "seconds", "CPU s", "client MB", "worker MB", *columns]
    print(f"| {' | '.join(names)} |")
    print(f"| --- |{' ---: |' * (len(names) - 1)}")


def say(what: str) -> None:
    """A line of progress."""
    print(what, file=sys.stderr, flush=True)


PARTS = ("pair", "size", "http")


def run(parts: tuple[str, ...], size: int, rounds: int, folder: Path) -> int:
    """Print the tables of some parts and the verdicts; the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(size, rounds, folder)
    versions = f"Python {sys.version.split()[0]}, GDAL {rasterio.__gdal_version__}"
    print(f"{os.cpu_count()} cores, {versions}, {size} × {size} pixels, {rounds} rounds\n")
    goals = []
    for part in parts:
        goals += getattr(bench, part)()
        print(flush=True)
    print("| goal | | measured | |\n| --- | ---: | ---: | --- |")
    print("\n".join(goal.row() for goal in goals))
    return 0 if all(goal.met for goal in goals) else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=10980, help="pixels along a tile's side")
    parser.add_argument("--rounds", type=int, default=3, help="of the pair")
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="where the samples stay, for the next time"
    )
    arguments = parser.parse_args()
    parts = PARTS if arguments.part == "all" else (arguments.part,)
    with tempfile.TemporaryDirectory(prefix="bai-bench-") as temporary:
        folder = arguments.keep or Path(temporary)
        return run(parts, arguments.size, arguments.rounds, folder)


if __name__ == "__main__":
    sys.exit(main())
