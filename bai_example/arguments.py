"""The command line: what map is asked for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

#: What `--index` offers; named here too, since the table of the indices needs numpy.
INDICES = ("dnbr", "rdnbr", "rbr")


@dataclass(frozen=True)
class Search:
    """The pair is to be found in a catalogue."""

    api: str
    collection: str
    event: str
    window: int
    max_cloud: float | None


@dataclass(frozen=True)
class Request:
    """A map that is asked for."""

    pre_event: tuple[str, ...]
    """Items before the event, URLs or paths; empty where a search is to find them."""
    post_event: tuple[str, ...]
    """Items after it."""
    search: Search | None
    """How to find the items; None: they are named."""
    bbox: tuple[float, float, float, float] | None
    """West, south, east, north of the map, degrees; None: not cropped so."""
    geometry: Path | None
    """GeoJSON file with the map's outline; None: not cropped so."""
    sign: str | None
    """Name of a signer of hrefs."""
    index: str
    masked: bool
    output: str
    """A folder, or s3://bucket/prefix."""
    overwrite: bool


def parse(arguments: list[str] | None = None) -> Request:
    """Read the command line; wrong usage ends the program with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m bai_example",
        description="Burned-area map from scenes before and after a fire: Sentinel-2 L2A, "
        "Landsat 8/9 Collection 2 Level-2.",
        epilog="Name the items, or have the least cloudy pair searched with --api.",
    )
    _add_scenes(parser)
    _add_search(parser)
    area = parser.add_argument_group("area").add_mutually_exclusive_group()
    area.add_argument(
        "--bbox", nargs=4, type=float, metavar=("W", "S", "E", "N"),
        help="make the map of this box only, degrees",
    )  # fmt: skip
    area.add_argument(
        "--geometry", type=Path, metavar="FILE",
        help="make the map of the polygons in this GeoJSON file only",
    )  # fmt: skip
    result = parser.add_argument_group("result")
    result.add_argument(
        "--index", choices=INDICES, default="dnbr",
        help="what the map shows (default: %(default)s); severity classes are always by dNBR",
    )  # fmt: skip
    result.add_argument(
        "--no-mask", dest="masked", action="store_false",
        help="keep clouds, shadows, snow, water and saturated pixels",
    )  # fmt: skip
    result.add_argument(
        "--output-dir", default=".", metavar="DIR",
        help="folder for the files, made if needed, or s3://bucket/prefix (default: here)",
    )  # fmt: skip
    result.add_argument("--overwrite", action="store_true", help="replace files that are there")
    options = parser.parse_args(arguments)
    return _request(parser, options)


def _add_scenes(parser: argparse.ArgumentParser) -> None:
    scenes = parser.add_argument_group("scenes by name")
    scenes.add_argument(
        "--pre-event", "--pre_fire_url", "--pre-fire-url", dest="pre_event", metavar="ITEM",
        action="append", default=[],
        help="STAC item before the fire, a URL or a path; again for each tile of a mosaic",
    )  # fmt: skip
    scenes.add_argument(
        "--post-event", "--post_fire_url", "--post-fire-url", dest="post_event", metavar="ITEM",
        action="append", default=[], help="STAC item after it, likewise",
    )  # fmt: skip
    scenes.add_argument(
        "--items", type=Path, metavar="DIR",
        help="folder that relative paths of the items are in (default: here)",
    )  # fmt: skip
    scenes.add_argument(
        "--sign", metavar="NAME",
        help="sign the rasters' URLs: planetary-computer, or module:function",
    )  # fmt: skip


def _add_search(parser: argparse.ArgumentParser) -> None:
    search = parser.add_argument_group("scenes by search (with --bbox or --geometry)")
    search.add_argument("--api", metavar="URL", help="STAC API, or a static catalogue's file")
    search.add_argument("--collection", metavar="ID", help="such as sentinel-2-l2a")
    search.add_argument("--event", metavar="DATE", help="when it burned: 2021-07-14, or a time")
    search.add_argument(
        "--window", type=int, default=30, metavar="DAYS",
        help="days to search before and after the event (default: %(default)s)",
    )  # fmt: skip
    search.add_argument(
        "--max-cloud", type=float, metavar="PERCENT", help="most cloud of a scene (default: any)"
    )


def _request(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Request:
    search = None
    if options.api:
        if options.pre_event or options.post_event:
            parser.error("give the items, or --api to search them, not both")
        if missing := [name for name in ("collection", "event") if not getattr(options, name)]:
            parser.error(f"--api needs --{' and --'.join(missing)}")
        if not (options.bbox or options.geometry):
            parser.error("--api needs --bbox or --geometry: the area of the map")
        search = Search(
            options.api, options.collection, options.event, options.window, options.max_cloud
        )
    elif not (options.pre_event and options.post_event):
        parser.error("give --pre-event and --post-event, or --api to search them")
    elif options.collection or options.event:
        parser.error("--collection and --event need --api")

    def located(items: list[str]) -> tuple[str, ...]:
        if options.items:
            items = [in_folder(options.items, item) for item in items]
        return tuple(items)

    return Request(
        located(options.pre_event),
        located(options.post_event),
        search,
        tuple(options.bbox) if options.bbox else None,
        options.geometry,
        options.sign,
        options.index,
        options.masked,
        options.output_dir,
        options.overwrite,
    )


def in_folder(folder: Path, item: str) -> str:
    """An item's path, relative ones below ``folder``; a URL stays as it is."""
    return item if "://" in item else str(folder / item)
