"""What the burned-area map costs: `python -m benchmarks.bai` prints the tables of docs/bai.md.

Full tiles of `bai_example.sample`, every run in a fresh process on two fresh workers of one thread
each, the rivals in turn so that a slow moment meets all alike; medians of the rounds, wall time of
the whole process, which for workers counts from when they are there. Parts:

* pair: `bai_example` beside the reference program's way and beside the machine's limit;
* writers: ways to write the same lazy array as a COG;
* size: two by two tiles beside one;
* http: rasters over HTTP with range requests, 20 ms away, beside local files.

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

from benchmarks import bai_goals
from benchmarks.bai_goals import Goal, memory
from benchmarks.bai_http import Fetched, served
from benchmarks.bai_maps import described, farthest, full_resolution_bytes, thinned
from benchmarks.bai_runs import Run, claimed, example, measure, median, module, on_cluster
from benchmarks.bai_writers import WRITERS

#: How far the maps may differ.
AGREEMENT = 1e-6

WRITER_NAMES = {
    "nothing": "compute only, no map",
    "gathered": "rioxarray `to_raster`, on the client",
    "raw": "raw GeoTIFF, then GDAL's COG driver",
    "odc-geo": "odc-geo `save_cog_with_dask`",
}


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

    def in_turn(self, rows: Mapping[str, Callable[[Path], Run]]) -> dict[str, list[Run]]:
        """Run each row once in each round; it gets an empty folder for its files."""
        runs: dict[str, list[Run]] = {name: [] for name in rows}
        for number in range(self._rounds):
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
        })  # fmt: skip
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
            Goal("wall time, × reference program's way", own.seconds / reference.seconds,
                 bai_goals.TIMES_REFERENCE),
            Goal("wall time, × limit", own.seconds / limit.seconds, bai_goals.TIMES_LIMIT),
            *memory("one tile", own),
        ]  # fmt: skip

    def writers(self) -> list[Goal]:
        """The same lazy array, written in each way."""
        sample = self.sample()
        facts: dict[str, str] = {}

        def run(writer: str, out: Path) -> Run:
            path = out / "map.tif"
            command = module("benchmarks.bai_writers", writer, sample.pre, sample.post, path)
            taken = on_cluster(command)
            facts[writer] = described(path)
            return taken

        runs = self.in_turn({name: lambda out, n=name: run(n, out) for name in WRITERS})
        heading("one array", "map MB", "rio-cogeo")
        for name, row in runs.items():
            print(f"| {WRITER_NAMES[name]} | {median(row).columns} | {facts[name]} |")
        return []

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
        return [
            Goal("2 × 2 tiles, × one", ratio, bai_goals.TIMES_TILE),
            *memory("2 × 2 tiles", four),
        ]

    def http(self) -> list[Goal]:
        """Rasters over HTTP beside local files."""
        sample = self.sample()
        fetched: list[Fetched] = []
        with served(sample.folder) as site:
            urls = f"{site.url}/pre.json", f"{site.url}/post.json"

            def far(out: Path) -> Run:
                site.fetched()
                run = on_cluster(example(*urls, out))
                fetched.append(site.fetched())
                return run

            runs = self.in_turn({
                "local files": lambda out: on_cluster(example(sample.pre, sample.post, out)),
                "HTTP, 20 ms away": far,
            })  # fmt: skip
        local, remote = map(median, runs.values())
        size = sum(map(full_resolution_bytes, sample.folder.glob("*.tif")))
        most = max(fetched, key=lambda one: one.bytes)
        heading("rasters", "requests", "MB", "× bands")
        for name, run, asked in (("local files", local, None), ("HTTP, 20 ms away", remote, most)):
            counts = "– | – | –" if asked is None else (
                f"{asked.requests} | {asked.bytes / 1e6:.1f} | {asked.bytes / size:.3f}"
            )  # fmt: skip
            print(f"| {name} | {run.columns} | {counts} |")
        return [
            Goal("over HTTP, × local files", remote.seconds / local.seconds, bai_goals.TIMES_LOCAL),
            Goal("bytes fetched, × the bands'", most.bytes / size, bai_goals.TIMES_BYTES),
        ]


def heading(runs: str, *columns: str) -> None:
    """The head of a table of runs."""
    names = [runs, "seconds", "CPU s", "client MB", "worker MB", *columns]
    print(f"| {' | '.join(names)} |")
    print(f"| --- |{' ---: |' * (len(names) - 1)}")


def say(what: str) -> None:
    """A line of progress."""
    print(what, file=sys.stderr, flush=True)


PARTS = ("pair", "writers", "size", "http")


def run(parts: tuple[str, ...], size: int, rounds: int, folder: Path) -> int:
    """Print the tables of some parts and the verdicts; the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(size, rounds, folder)
    versions = f"Python {sys.version.split()[0]}, GDAL {rasterio.__gdal_version__}"
    print(f"{os.cpu_count()} cores, {versions}, {size} × {size} pixels, {rounds} rounds, medians\n")
    goals = []
    for part in parts:
        goals += getattr(bench, part)()
        print(flush=True)
    if goals:
        print("| goal | | measured | |\n| --- | ---: | ---: | --- |")
        print("\n".join(goal.row() for goal in goals))
    return 0 if all(goal.met for goal in goals) else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=10980, help="pixels along a tile's side")
    parser.add_argument("--rounds", type=int, default=3)
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
