"""``python -m bai_example``: satellite scenes in, a burned-area map out.

Exit status 0: the files are written; 1: an input cannot be used (one line for each problem);
2: wrong usage; 75: an input or a cluster cannot be had just now, and the same may succeed later;
78: the claim is wrong, as `dask-claim` itself says; 128 + n: ended by signal n.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

import dask_claim
from dask_claim.redact import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shapely.geometry.base import BaseGeometry

    from bai_example.access import Signer
    from bai_example.scenes import Scene
    from bai_example.statistics import Statistics

    Scenes = Sequence[Scene]

#: What `--index` offers; named here too, since the table of the indices needs numpy.
INDICES = ("dnbr", "rdnbr", "rbr")


def run(options: argparse.Namespace) -> None:
    """Make the map: items, grid, cluster, index, files.

    Everything that can be wrong with the input is found before a cluster is claimed.

    Raises:
        InputError: an input cannot be used, or the files cannot be written.
    """
    # Not at the top: these take a second, which a mistyped option need not wait for.
    from bai_example.access import signer
    from bai_example.blocks import compute_blocks
    from bai_example.item import ALL, make_item, write_item
    from bai_example.maps import write_maps
    from bai_example.outputs import destination, staging, url
    from bai_example.pair import open_pair
    from bai_example.search import area_of

    begin, index = time.monotonic(), options.index
    location = destination(options.output_dir)
    sign = signer(options.sign)
    area = area_of(options.bbox, options.geometry)
    find = searched_scenes if options.api else named_scenes
    pre, post = find(options, area, sign)
    pair = open_pair(pre, post, area, exact=bool(options.geometry), masked=options.masked)
    masked = options.masked and any(scene.masks for scene in (*pre, *post))
    with staging(location, ALL, options.overwrite) as stage:
        if options.masked and not masked:
            logger.info("no item has a mask (SCL, QA_PIXEL): clouds and the like are not masked")
        logger.info("Burnt area intensity shape: {}", pair.grid.shape)
        logger.info("Burnt area intensity dims: {}", ("y", "x"))
        with dask_claim.connect() as client:
            logger.info("Writing the result to a COG file")
            blocks = compute_blocks(pair, index, options.masked, client)
            statistics = write_maps(stage, pair.grid, index, blocks, pre, post)
        command = ["python", "-m", "bai_example", *redact(sys.argv[1:])]
        item = make_item(
            pair.grid, index, statistics, pre, post, masked=masked, location=location,
            command=command, claim=_claim(),
        )  # fmt: skip
        write_item(stage, item)
    report(index, statistics)
    for name in ALL:
        logger.info("{}", url(location, name))
    logger.info("done in {:.1f} s", time.monotonic() - begin)


def named_scenes(
    options: argparse.Namespace, area: BaseGeometry | None, sign: Signer
) -> tuple[Scenes, Scenes]:
    """The scenes of the items that are named, before and after the event.

    Raises:
        InputError: with the problems of all.
    """
    from bai_example.access import InputError, merged, public
    from bai_example.scenes import read_scene

    events: list[list[Scene]] = []
    errors = []
    for event in ("pre", "post"):
        events.append([])
        # An item that is named twice counts once.
        for item in dict.fromkeys(getattr(options, f"{event}_event")):
            logger.info("{} event {}", event, public(item))
            location = item if "://" in item else str((options.items or Path()) / item)
            try:
                events[-1].append(read_scene(location, sign))
            except InputError as error:
                lines = (f"{event}-event item: {problem}" for problem in error.problems)
                errors.append(type(error)(*lines))
    if errors:
        raise merged(errors)
    return events[0], events[1]


def searched_scenes(
    options: argparse.Namespace, area: BaseGeometry | None, sign: Signer
) -> tuple[Scenes, Scenes]:
    """The least cloudy scenes before and after the event, one for each tile of the area."""
    from bai_example.scenes import to_scene
    from bai_example.search import search

    choice = search(
        options.api, options.collection, area, options.event, options.window, options.max_cloud
    )
    for reason in choice.reasons:
        logger.info("{}", reason)
    pre, post = (
        [to_scene(found.document, found.href, sign) for found in event]
        for event in (choice.pre, choice.post)
    )
    return pre, post


def report(index: str, statistics: Statistics) -> None:
    """Log what was burned, and what has no value."""
    from bai_example.index import INDICES, SEVERITIES

    logger.info("{:<24} {:>14} {:>8}", "burn severity", "hectares", "%")
    rows = zip(SEVERITIES, statistics.hectares, statistics.classes[1:], strict=True)
    for one, hectares, count in reversed([*rows]):
        percent = 100 * count / statistics.valid
        logger.info("{:<24} {:>14,.1f} {:>8.2f}", one.name, hectares, percent)
    for event, shares in statistics.shares().items():
        logger.info("no value {}: {}", event, shares or "none")
    logger.info(
        "{} {:.3f} to {:.3f}, mean {:.3f}; {:.1f} % of the pixels have a value",
        INDICES[index].title, statistics.minimum, statistics.maximum, statistics.mean,
        statistics.valid_percent,
    )  # fmt: skip


def _claim() -> dict[str, Any] | None:
    """The cluster that was asked for, as the environment says it, without secrets."""
    try:
        return dict(redact(dask_claim.Claim.from_env().to_dict()))
    except dask_claim.ClaimError:
        # Flags of the launcher, which a program does not see, can mend what the environment says;
        # without a launcher, `connect` refuses it.
        return None


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; wrong usage ends the program with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m bai_example",
        description="Burned-area map from scenes before and after a fire: Sentinel-2 L2A, "
        "Landsat 8/9 Collection 2 Level-2.",
        epilog="Name the items, or have the least cloudy pair searched with --api.",
    )
    # fmt: off
    add = parser.add_argument_group("scenes by name").add_argument
    add("--pre-event", "--pre_fire_url", "--pre-fire-url", dest="pre_event", metavar="ITEM",
        action="append", default=[],
        help="STAC item before the fire, a URL or a path; again for each tile of a mosaic")
    add("--post-event", "--post_fire_url", "--post-fire-url", dest="post_event", metavar="ITEM",
        action="append", default=[], help="STAC item after it, likewise")
    add("--items", type=Path, metavar="DIR",
        help="folder that relative paths of the items are in (default: here)")
    add("--sign", metavar="NAME",
        help="sign the rasters' URLs: planetary-computer, or module:function")
    add = parser.add_argument_group("scenes by search (with --bbox or --geometry)").add_argument
    add("--api", metavar="URL", help="STAC API")
    add("--collection", metavar="ID", help="such as sentinel-2-l2a")
    add("--event", metavar="DATE", help="when it burned: 2021-07-14, or a time")
    add("--window", type=int, default=30, metavar="DAYS",
        help="days to search before and after the event (default: %(default)s)")
    add("--max-cloud", type=float, metavar="PERCENT", help="most cloud of a scene (default: any)")
    add = parser.add_argument_group("area").add_mutually_exclusive_group().add_argument
    add("--bbox", nargs=4, type=float, metavar=("W", "S", "E", "N"),
        help="make the map of this box only, degrees")
    add("--geometry", type=Path, metavar="FILE",
        help="make the map of the polygons in this GeoJSON file only")
    add = parser.add_argument_group("result").add_argument
    add("--index", choices=INDICES, default="dnbr",
        help="what the map shows (default: %(default)s); severity classes are always by dNBR")
    add("--no-mask", dest="masked", action="store_false",
        help="keep clouds, shadows, snow, water and saturated pixels")
    add("--output-dir", default=".", metavar="DIR",
        help="folder for the files, made if needed, or s3://bucket/prefix (default: here)")
    add("--overwrite", action="store_true", help="replace files that are there")
    # fmt: on
    options = parser.parse_args(arguments)
    pre, post = options.pre_event, options.post_event
    if options.api:
        if pre or post:
            parser.error("give the items, or --api to search them, not both")
        if not (options.collection and options.event):
            parser.error("--api needs --collection and --event")
        if not (options.bbox or options.geometry):
            parser.error("--api needs --bbox or --geometry: the area of the map")
    elif not (pre and post):
        parser.error("give --pre-event and --post-event, or --api to search them")
    elif options.collection or options.event:
        parser.error("--collection and --event need --api")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the program and turn what a user may have caused into one line each."""
    options = parse(arguments)
    from bai_example.access import InputError

    # A plain SIGTERM would end Python on the spot and leave half-written files behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        run(options)
    except (InputError, dask_claim.DaskClaimError) as error:
        for line in str(error).splitlines():
            logger.error("{}", line)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
