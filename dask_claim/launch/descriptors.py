"""Standard descriptors that the launcher was started without (`>&-`).

The next file or connection to be opened would get the number of a closed one, and everybody would
take it for stdin, stdout or stderr: the command, workers, C libraries. /dev/null keeps the place,
for the launcher and all that it starts; only the command finds them closed, as the runner meant.
"""

from __future__ import annotations

import os
import sys

_NAMES = ("stdin", "stdout", "stderr")

_closed: set[int] = set()


def hold_closed() -> None:
    """Open /dev/null in the place of closed standard descriptors. Call it before all else."""
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number, so this one: those below it are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            _closed.add(number)
            if getattr(sys, name) is None:
                stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115
                setattr(sys, name, stream)
                setattr(sys, f"__{name}__", stream)


def found_closed() -> frozenset[int]:
    """Those that were closed when the launcher started."""
    return frozenset(_closed)
