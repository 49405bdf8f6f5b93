"""A lazy array -> its blocks, computed on the cluster and handed over one by one.

The whole array is in memory nowhere: a bounded number of blocks is under way, and a block is
released as soon as it has been handed over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from loguru import logger

if TYPE_CHECKING:
    import dask.array as da
    from distributed import Client

#: Blocks under way at once: enough work in sight that an adaptive cluster grows, and at most
#: 64 x 4 MB of results that wait in the workers' memory.
UNDER_WAY = 64
#: Seconds between two lines of progress.
EVERY = 5.0


class Block(NamedTuple):
    """A computed part of the array."""

    row: int
    """First row in the whole array."""
    column: int
    """First column in the whole array."""
    values: np.ndarray
    """The values, 2-D."""


def compute_blocks(array: da.Array, client: Client) -> Generator[Block, None, None]:
    """Compute a 2-D array block by block on the client's cluster.

    Args:
        array: the lazy array.
        client: a connected, synchronous client.

    Yields:
        Every block once, in the order in which they are done.

    Raises:
        InputError: a worker could not read an input; what else fails on a worker, as it is.
    """
    from distributed import as_completed

    rows, columns = (list(accumulate((0, *sizes)))[:-1] for sizes in array.chunks)
    # The graph is optimised once, so that a block's four reads and its index are one task.
    delayed = array.to_delayed(optimize_graph=True)
    waiting = iter(
        [(r, c, delayed[i, j]) for i, r in enumerate(rows) for j, c in enumerate(columns)]
    )
    under_way: dict[Any, tuple[Any, int, int]] = {}

    def submit(row: int, column: int, block: Any) -> Any:
        future = client.compute(block, optimize_graph=False)
        under_way[future.key] = (future, row, column)
        return future

    done = as_completed([submit(*task) for task in islice(waiting, UNDER_WAY)], with_results=True)
    with Progress(delayed.size) as progress:
        try:
            for future, values in done:
                _, row, column = under_way.pop(future.key)
                del future  # the last reference: the worker forgets the block
                for task in islice(waiting, 1):
                    done.add(submit(*task))
                progress.step()
                yield Block(row, column, values)
        finally:
            # After an error, or where the caller stops early, nothing is left running.
            client.cancel([future for future, _, _ in under_way.values()], force=True)


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
