"""How a worker gets its memory from the system, for arrays that come and go by the hundred.

Dask's nanny sets ``MALLOC_TRIM_THRESHOLD_`` for its workers, so that they give freed memory back.
A side effect: glibc then no longer adapts its other threshold, above which each array is mapped
from the system and unmapped again, and stays at 128 kB. Every strip computed and every tile encoded
is then made of pages that the kernel has to clear first, which doubles the time of a block.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools

#: Parameters of glibc's ``mallopt``, from malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
#: Bytes. Larger arrays than these are made once for a block, and mapped.
MAPPED_FROM = 32 * 2**20
#: Bytes kept free at the heap's end before they are given back: less than the arrays of a block.
KEPT = 256 * 2**20


@functools.cache
def keep_freed() -> None:
    """Keep what is freed for the next array, as far as `KEPT`; once for a process, glibc only."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, MAPPED_FROM)
        mallopt(M_TRIM_THRESHOLD, KEPT)
