"""``python -m bai_example``: two STAC items in, a burned-area map out.

Exit status 0: the three files are written; 1: an input cannot be used (one line for each problem);
2: wrong usage; 75 or 78: no cluster, as `dask-claim` itself says.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

import dask_claim
from bai_example.errors import InputError

if TYPE_CHECKING:
    from bai_example.write import Result


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; wrong usage ends the program with status 2."""
    parser = argparse.ArgumentParser(
        prog="python -m bai_example",
        description="Burned-area intensity (dNBR) from a pre-event and a post-event scene.",
    )
    item = "STAC item, a URL or a path: Sentinel-2 L2A"
    parser.add_argument(
        "--pre-event", "--pre_fire_url", "--pre-fire-url", dest="pre_event", metavar="ITEM",
        required=True, help=f"{item} before the fire",
    )  # fmt: skip
    parser.add_argument(
        "--post-event", "--post_fire_url", "--post-fire-url", dest="post_event", metavar="ITEM",
        required=True, help=f"{item} after it",
    )  # fmt: skip
    parser.add_argument(
        "--items", type=Path, metavar="DIR",
        help="folder that relative paths of the items are in (default: here)",
    )  # fmt: skip
    parser.add_argument(
        "--output-dir", type=Path, default=Path("."), metavar="DIR",
        help="where bai.tif, bai.json and bai.png go; made if needed (default: here)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.items:
        options.pre_event = in_folder(options.items, options.pre_event)
        options.post_event = in_folder(options.items, options.post_event)
    return options


def in_folder(folder: Path, item: str) -> str:
    """An item's path, relative ones below `folder`; a URL stays as it is."""
    return item if "://" in item else str(folder / item)


def run(pre_event: str, post_event: str, folder: Path) -> Result:
    """Make the map: items, grid, cluster, index, files.

    Everything that can be wrong with the input is found before a cluster is claimed.

    Args:
        pre_event: STAC item before the event, a URL or a path.
        post_event: STAC item after it.
        folder: where the files go; made if it is not there.

    Raises:
        InputError: an input cannot be used.
    """
    # Not at the top: these take a second, which a mistyped option need not wait for.
    from bai_example.bai import burned_area_intensity
    from bai_example.blocks import compute_blocks
    from bai_example.load import open_pair
    from bai_example.stac import read_pair
    from bai_example.write import prepare, write_result

    logger.info("pre event {}", pre_event)
    logger.info("post event {}", post_event)
    pre, post = read_pair(pre_event, post_event)
    pair = open_pair(pre, post)
    prepare(folder)
    intensity = burned_area_intensity(pair)
    logger.info("Burnt area intensity shape: {}", intensity.shape)
    logger.info("Burnt area intensity dims: {}", intensity.dims)
    with dask_claim.connect() as client:
        logger.info("Writing the result to a COG file")
        blocks = compute_blocks(intensity.data, client)
        return write_result(folder, pair.grid, blocks, pre, post)


def report(result: Result, seconds: float) -> None:
    """Log what was burned, where the files are and how long it took."""
    statistics = result.statistics
    logger.info("{:<24} {:>14} {:>8}", "burn severity", "hectares", "%")
    for area in reversed(statistics.areas):
        logger.info("{:<24} {:>14,.1f} {:>8.2f}", area.severity.name, area.hectares, area.percent)
    logger.info(
        "dNBR {:.3f} to {:.3f}, mean {:.3f}; {:.1f} % of the pixels have a value",
        statistics.minimum, statistics.maximum, statistics.mean, statistics.valid_percent,
    )  # fmt: skip
    for path in (result.map, result.quicklook, result.item):
        logger.info("{}", path)
    logger.info("done in {:.1f} s", seconds)


def main(arguments: list[str] | None = None) -> int:
    """Run the program and turn what a user may have caused into one line each."""
    begin = time.monotonic()
    options = parse(arguments)
    # A plain SIGTERM would end Python on the spot and leave half-written files behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        result = run(options.pre_event, options.post_event, options.output_dir)
    except InputError as error:
        for problem in error.problems:
            logger.error("{}", problem)
        return 1
    except dask_claim.DaskClaimError as error:
        for line in str(error).splitlines():
            logger.error("{}", line)
        return error.exit_status
    report(result, time.monotonic() - begin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
