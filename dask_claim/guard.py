"""The guard: a small process that outlives the launcher by as long as it takes to clean up.

The lease covers whatever happens once it is placed. The guard covers what comes before, from the
request for a cluster on, and is faster after: it sees the launcher's death at once.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

PROCESS = Path(__file__).with_name("guard_process.py")
ABANDONED = Path(__file__).with_name("providers") / "abandoned.py"


class Guard:
    """Starts the guard's process; tells it what there is to end; says good-bye."""

    def __init__(self, grace: float) -> None:
        self._process = subprocess.Popen(
            # Neither site-packages nor the user's variables: it starts in milliseconds.
            [sys.executable, "-I", "-S", str(PROCESS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            # No signal to the launcher's group or terminal reaches it.
            start_new_session=True,
        )
        self._grace = grace
        self.tell(grace=grace, abandoned=str(ABANDONED))

    def tell(self, **facts: object) -> None:
        """Add to what is known of the run: what would have to be ended."""
        self._write(facts)

    def dismiss(self) -> None:
        """The cluster is given back: the guard ends what the command has left, and itself."""
        self._write("good-bye")
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=self._grace + 10)

    def _write(self, fact: object) -> None:
        # A guard that somebody has killed leaves the lease, and the launcher itself.
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(fact) + "\n")
