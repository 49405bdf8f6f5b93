"""``python -m bai_example``: satellite scenes in, a burned-area map out.

Exit status 0: the files are written; 1: an input cannot be used (one line for each problem);
2: wrong usage; 75: an input or a cluster is not available now, and the same may succeed later;
78: the claim is wrong, as `dask-claim` itself says; 128 + n: ended by signal n.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path
from typing import Any

from loguru import logger
from shapely.geometry.base import BaseGeometry

import dask_claim
from bai_example.access import InputError, Signer, Unavailable, public, signer
from bai_example.blocks import Statistics, compute_blocks
from bai_example.describe import draw, make_item, write_item
from bai_example.index import CLASSES, INDICES, SEVERITIES
from bai_example.outputs import ALL, destination, staging, write_maps
from bai_example.pair import EVENTS, Pair, open_pair
from bai_example.scenes import Scene, read_scene, to_scene
from bai_example.search import area_of, search
from dask_claim.redact import redact

#: What is masked before and after the event: a fresh burn may pass for water.
MASKED = (frozenset({"saturated", *CLASSES}), frozenset({"saturated", *CLASSES} - {"water"}))


def run(options: argparse.Namespace) -> None:
    """Make the map; the input is checked before a cluster is claimed."""
    location = destination(options.output_dir)
    sign = signer(options.sign)
    area = area_of(options.bbox, options.geometry)
    pre, post = (searched_scenes if options.api else named_scenes)(options, area, sign)
    days = (min(s.datetime for s in post) - max(s.datetime for s in pre)).total_seconds() / 86400
    logger.log("INFO" if days > 0 else "WARNING", "{:.1f} days between the scenes", days)
    pair = open_pair(pre, post, options.masked, area, exact=bool(options.geometry))
    with staging(location, options.overwrite) as stage:
        logger.info("Burnt area intensity shape: {}", tuple(pair.grid.shape))
        logger.info("Burnt area intensity dims: {}", ("y", "x"))
        with dask_claim.connect() as client:
            logger.info("Writing the result to a COG file")
            blocks = compute_blocks(pair, options.index, client, options.progress)
            statistics = write_maps(stage, pair, options.index, blocks)
        draw(stage, pair, options.index, statistics)
        write_item(stage, make_item(pair, options.index, statistics, location, _claim()))
    report(pair, statistics)
    for name in ALL:
        logger.info("{}/{}", location, name)


def named_scenes(
    options: argparse.Namespace, area: BaseGeometry | None, sign: Signer
) -> list[list[Scene]]:
    """The scenes of the items that are named, before and after the event."""
    events: list[list[Scene]] = [[], []]
    problems: list[InputError] = []
    for scenes, event in zip(events, ("pre", "post"), strict=True):
        for item in dict.fromkeys(getattr(options, f"{event}_event")):  # named twice, counted once
            logger.info("{} event {}", event, public(item))
            location = item if "://" in item else str(options.items / item)
            try:
                scenes.append(read_scene(location, sign, options.offset.get(event)))
            except InputError as problem:
                problems.append(problem)
    if problems:  # of every item; temporary only where all of them are
        lasting = any(not isinstance(problem, Unavailable) for problem in problems)
        lines = (line for problem in problems for line in problem.args)
        raise (InputError if lasting else Unavailable)(*lines)
    return events


def searched_scenes(
    options: argparse.Namespace, area: BaseGeometry, sign: Signer
) -> list[list[Scene]]:
    """The least cloudy scenes before and after the event, one for each tile of the area."""
    choice = search(
        options.api, options.collection, area, options.event, options.window, options.max_cloud
    )
    for reason in choice.reasons:
        logger.info("{}", reason)
    return [
        [to_scene(one.document, one.href, sign, options.offset.get(event)) for one in taken]
        for event, taken in (("pre", choice.pre), ("post", choice.post))
    ]


def report(pair: Pair, statistics: Statistics) -> None:
    """Log what was burned, what was masked and has no value, and what looks wrong."""
    for severity, hectares in zip(SEVERITIES[::-1], statistics.hectares[::-1], strict=True):
        logger.info("{:<24} {:>14,.1f} ha", severity.name, hectares)
    for n, event in enumerate(EVENTS):
        logger.info("{}: masked: {}", event, ", ".join(pair.masked_classes[n]) or "nothing")
        logger.info("{}: no value: {}", event, statistics.shares(n) or "none")
        negative, there = statistics.negative[n]
        if negative > there / 2:
            logger.warning(
                "{}: {:.0f} % of the pixels have a negative reflectance; where the counts are "
                "without the item's offset already, use --offset {}=0",
                event, 100 * negative / there, event.removesuffix("-event"),
            )  # fmt: skip


def _claim() -> dict[str, Any]:
    """The claim in the environment, without secrets; none where the launcher's flags mend it."""
    try:
        return dict(redact(dask_claim.Claim.from_env().to_dict()))
    except dask_claim.ClaimError:
        return {}


def classes(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """The value of `--mask`."""
    names = frozenset(text.split(","))
    if not names <= {*CLASSES}:
        raise ValueError
    return names | {"saturated"}, names | {"saturated"}


def offset(text: str) -> dict[str, float]:
    """The value of `--offset`: NUMBER for both sides, or pre=NUMBER, post=NUMBER or both."""
    both = text if "=" in text else f"pre={text},post={text}"
    sides = dict(part.split("=") for part in both.split(","))
    if not sides.keys() <= {"pre", "post"}:
        raise ValueError
    return {side: float(number) for side, number in sides.items()}


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m bai_example",
        description="Burned-area map from scenes before and after a fire: Sentinel-2 L2A, "
        "Landsat 8/9 Collection 2 Level-2.",
        epilog="Name the items, or have the least cloudy pair searched with --api.",
    )
    # fmt: off
    add = made.add_argument_group("scenes by name").add_argument
    for event, when in (("pre", "before"), ("post", "after")):
        add(f"--{event}-event", f"--{event}_fire_url", f"--{event}-fire-url", metavar="ITEM",
            dest=f"{event}_event", action="append", default=[],
            help=f"STAC item {when} the fire, a URL or path; again for each tile of a mosaic")
    add("--items", type=Path, default=".", metavar="DIR", help="folder of relative paths of items")
    add = made.add_argument_group("scenes by search (with --bbox or --geometry)").add_argument
    add("--api", metavar="URL", help="STAC API")
    add("--collection", metavar="ID", help="such as sentinel-2-l2a")
    add("--event", metavar="WHEN",
        help="when it burned: 2021-07-14, a time, or an interval 2021-07-06/2021-08-14")
    add("--before", metavar="DATE", help="in place of --event: the first day of the fire")
    add("--after", metavar="DATE", help="and the last one")
    add("--window", type=int, default=30, metavar="DAYS",
        help="days to search before and after the event (default: %(default)s)")
    add("--max-cloud", type=float, metavar="PERCENT", help="most cloud of a scene (default: any)")
    add = made.add_argument_group("area").add_mutually_exclusive_group().add_argument
    add("--bbox", nargs=4, type=float, metavar=("W", "S", "E", "N"), help="only this box, degrees")
    add("--geometry", type=Path, metavar="FILE", help="only the polygons in this GeoJSON file")
    group = made.add_argument_group("pixels")
    group.add_argument("--sign", metavar="NAME",
        help="sign the rasters' URLs: planetary-computer, or module:function")
    group.add_argument("--offset", type=offset, default={}, metavar="[SIDE=]NUMBER",
        help="reflectance of the count 0, where the items are wrong: 0, or post=-0.1")
    add = group.add_mutually_exclusive_group().add_argument
    add("--mask", dest="masked", type=classes, default=MASKED, metavar="CLASSES",
        help="what to leave out, of cloud,shadow,snow,water (default: all; no water post-event)")
    add("--no-mask", dest="masked", action="store_const", const=(frozenset(), frozenset()),
        help="leave out none of these, and no saturated pixels")
    add = made.add_argument_group("result").add_argument
    add("--index", choices=INDICES, default="dnbr", help="what the map shows (default: dnbr)")
    add("--output-dir", default=".", metavar="DIR", help="folder, or s3://bucket/prefix")
    add("--overwrite", action="store_true", help="replace files that are there")
    add("--progress", type=Path, metavar="FILE", help="how many blocks are done, as JSON")
    # fmt: on
    return made


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; wrong usage ends the program with status 2."""
    options = (made := parser()).parse_args(arguments)
    if bool(options.before) != bool(options.after) or (options.before and options.event):
        made.error("give --event, or both --before and --after")
    options.event = options.event or (options.before and f"{options.before}/{options.after}")
    items = options.pre_event, options.post_event
    wanted = options.api, options.collection, options.event
    named = all(items) and not any(wanted)
    searched = all(wanted) and (options.bbox or options.geometry) and not any(items)
    if not (named or searched):
        made.error(
            "give --pre-event and --post-event; or --api, --collection, --event, and --bbox or "
            "--geometry"
        )
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the program and turn what a user may have caused into one line each."""
    options = parse(arguments)
    launcher = logging.getLogger("dask_claim")  # where the program claims a cluster itself
    launcher.handlers = [logging.StreamHandler()]
    launcher.setLevel(logging.INFO)
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
