"""The map's blocks, computed on the cluster and handed over one by one.

The whole map is in memory nowhere: a bounded number of blocks is under way, and a block is
released as soon as it has been handed over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from itertools import islice
from typing import TYPE_CHECKING, Any

from loguru import logger

from bai_example.grid import Box
from bai_example.tiles import BLOCK

if TYPE_CHECKING:
    from distributed import Client

    from bai_example.block import Block

#: Blocks under way at once: enough work in sight that an adaptive cluster grows, and at most
#: 32 x 16 MB of results that wait in the workers' memory.
UNDER_WAY = 32
#: Seconds between two lines of progress.
EVERY = 5.0


def boxes(shape: tuple[int, int]) -> list[Box]:
    """The blocks of a map of so many rows and columns.

    The largest first: so the small ones at the edges fill the time in which some workers would
    have nothing left to do.
    """
    rows, columns = shape
    all_boxes = [
        Box(top, left, min(top + BLOCK, rows), min(left + BLOCK, columns))
        for top in range(0, rows, BLOCK)
        for left in range(0, columns, BLOCK)
    ]
    return sorted(all_boxes, key=lambda box: -box.shape[0] * box.shape[1])


def compute_blocks(
    compute: Callable[[Box], Block], shape: tuple[int, int], client: Client
) -> Generator[Block, None, None]:
    """Compute a map block by block on the client's cluster.

    Args:
        compute: computes a block; runs on the workers.
        shape: rows and columns of the map.
        client: a connected, synchronous client.

    Yields:
        Every block once, in the order in which they are done.

    Raises:
        InputError: a worker could not read an input; what else fails on a worker, as it is.
    """
    from distributed import as_completed

    # From workers of this machine without the detour by the scheduler, which would copy every
    # block twice. Others may not be reachable: a gateway lets nobody but the scheduler through.
    near = client.scheduler.address.startswith("tcp://127.")
    all_boxes = boxes(shape)
    waiting = iter(all_boxes)
    under_way: dict[Any, Any] = {}

    def submit(box: Box) -> Any:
        # Not pure: two runs on one scheduler must not share results. One retry of Dask's would
        # not help, for reading has its own.
        future = client.submit(compute, box, pure=False)
        under_way[future.key] = future
        return future

    with Progress(len(all_boxes)) as progress:
        try:
            done = as_completed([submit(box) for box in islice(waiting, UNDER_WAY)])
            for future in done:
                # One by one: blocks that come faster than they are written wait on the workers.
                block = client.gather(future, direct=near)
                del under_way[future.key], future  # the last reference: the worker forgets it
                for box in islice(waiting, 1):
                    done.add(submit(box))
                progress.step()
                yield block
        finally:
            # After an error, or where the caller stops early, nothing is left running.
            client.cancel(list(under_way.values()), force=True)


class Progress:
    """Logs "NN % of M blocks" every few seconds, from a thread of its own.

    From a thread, so that a run that waits for workers says so too; as lines, because the output
    is a log, not a terminal.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._report, name="progress", daemon=True)

    def step(self) -> None:
        """Count one block."""
        self.done += 1

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _report(self) -> None:
        begin = time.monotonic()
        while not self._over.wait(EVERY):
            logger.info(
                "{:.0f} % of {} blocks after {:.0f} s",
                100 * self.done / self.total,
                self.total,
                time.monotonic() - begin,
            )
