"""``python -m bai_example``: satellite scenes in, a burned-area map out.

Exit status 0: the files are written; 1: an input cannot be used (one line for each problem);
2: wrong usage; 75: an input or a cluster cannot be had just now, and the same may succeed later;
78: the claim is wrong, as `dask-claim` itself says; 128 + n: ended by signal n.
"""

from __future__ import annotations

import functools
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from loguru import logger

import dask_claim
from bai_example.arguments import Request, parse
from bai_example.errors import InputError
from dask_claim.redact import redact

if TYPE_CHECKING:
    from bai_example.output.destination import Destination
    from bai_example.stats import Statistics


def run(request: Request) -> tuple[Statistics, Destination]:
    """Make the map: items, grid, cluster, index, files.

    Everything that can be wrong with the input is found before a cluster is claimed.

    Returns:
        The map's statistics, and where its files are.

    Raises:
        InputError: an input cannot be used, or the files cannot be written.
    """
    # Not at the top: these take a second, which a mistyped option need not wait for.
    from bai_example.bai import INDICES
    from bai_example.block import compute_block
    from bai_example.blocks import compute_blocks
    from bai_example.inputs import find_inputs
    from bai_example.load import open_pair
    from bai_example.output import item, provenance
    from bai_example.output.destination import destination
    from bai_example.output.write import ALL, write_maps

    place = destination(request.output)
    pre, post, crop = find_inputs(request)
    pair = open_pair(pre, post, crop, request.masked)
    place.prepare(ALL, request.overwrite)
    masked = any(source.masks for source in (*pair.pre, *pair.post))
    if request.masked and not masked:
        logger.info("no item has a mask (SCL, QA_PIXEL): clouds and the like are not masked")
    logger.info("Burnt area intensity shape: {}", pair.grid.shape)
    logger.info("Burnt area intensity dims: {}", ("y", "x"))
    compute = functools.partial(compute_block, pair, index=request.index, masked=request.masked)
    with place.staging() as stage:
        with dask_claim.connect() as client:
            logger.info("Writing the result to a COG file")
            blocks = compute_blocks(compute, pair.grid.shape, client)
            statistics = write_maps(stage, pair, request.index, blocks, pre, post)
        described = item.make(
            grid=pair.grid,
            index=INDICES[request.index],
            statistics=statistics,
            pre=pre,
            post=post,
            masked=masked,
            provenance=provenance.collect(pre, post, command=_command(), claim=_claim()),
            location=place.location,
        )
        item.write(stage / item.FILES.item, described)
    return statistics, place


def _command() -> list[str]:
    """The command line, without secrets."""
    return ["python", "-m", "bai_example", *redact(sys.argv[1:])]


def _claim() -> dict[str, Any] | None:
    """The cluster that was asked for, as the environment says it, without secrets."""
    try:
        return redact(dask_claim.Claim.from_env().to_dict())
    except dask_claim.ClaimError:
        # Flags of the launcher, which a program does not see, can mend what the environment says;
        # without a launcher, `connect` refuses it.
        return None


def report(request: Request, statistics: Statistics, place: Destination, seconds: float) -> None:
    """Log what was burned, where the files are and how long it took."""
    from bai_example.bai import INDICES
    from bai_example.output.write import ALL

    logger.info("{:<24} {:>14} {:>8}", "burn severity", "hectares", "%")
    for area in reversed(statistics.areas):
        logger.info("{:<24} {:>14,.1f} {:>8.2f}", area.severity.name, area.hectares, area.percent)
    for event, counts in statistics.masked.items():
        shares = [
            f"{name} {100 * pixels / statistics.pixels:.1f} %"
            for name, pixels in counts.items()
            if pixels
        ]
        logger.info("no value {}: {}", event.replace("_", "-"), ", ".join(shares) or "none")
    logger.info(
        "{} {:.3f} to {:.3f}, mean {:.3f}; {:.1f} % of the pixels have a value",
        INDICES[request.index].title, statistics.minimum, statistics.maximum, statistics.mean,
        statistics.valid_percent,
    )  # fmt: skip
    for name in ALL:
        logger.info("{}", place.url(name))
    logger.info("done in {:.1f} s", seconds)


def main(arguments: list[str] | None = None) -> int:
    """Run the program and turn what a user may have caused into one line each."""
    begin = time.monotonic()
    request = parse(arguments)
    # A plain SIGTERM would end Python on the spot and leave half-written files behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        statistics, place = run(request)
    except InputError as error:
        for problem in error.problems:
            logger.error("{}", problem)
        return error.exit_status
    except dask_claim.DaskClaimError as error:
        for line in str(error).splitlines():
            logger.error("{}", line)
        return error.exit_status
    report(request, statistics, place, time.monotonic() - begin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
