"""One line on the terminal while a cluster starts and stops, in the place where the log goes on.

Not while the command runs: its output goes to the same terminal. The library is the extra `rich`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING

from dask_claim import stderr
from dask_claim.amounts import counted, gib
from dask_claim.launch import events
from dask_claim.launch.reports import Summary
from dask_claim.providers.usage import Usage

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 0.5
"""Seconds between two looks at what there is to show."""

ERASE = "\r\x1b[2K"
"""Takes the cursor's line away."""

PHASES: Mapping[type[events.Event], str | None] = {
    events.Claimed: "Starting the cluster",
    events.Running: "Waiting for the workers",
    events.CommandStarted: None,
    events.CommandEnded: "Stopping the cluster",
    Summary: None,
}
"""What is shown from an event on; None: nothing."""


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether stderr is a terminal that can show such a line, and the extra is there."""
    # At the other end of a pipe there may be a pager, which has the terminal for itself.
    piped = stat.S_ISFIFO(os.fstat(1).st_mode)
    able = environ.get("TERM", "") not in ("", "dumb", "unknown")
    return able and not piped and os.isatty(2) and find_spec("rich") is not None


class StatusLine:
    """A listener that shows how far the run is. Call it inside a running event loop."""

    def __init__(self) -> None:
        self._begun = monotonic()
        self._phase: str | None = None
        self._command_runs = False
        self._usage: Usage | None = None
        self._wanted: int | None = None
        self._console: Console | None = None
        self._shown = False
        self._next: asyncio.TimerHandle | None = None

    def __call__(self, event: events.Event) -> None:
        """Note an event; what follows it finds the terminal clear."""
        stderr.state.clear = self.clear
        self.clear()
        if isinstance(event, events.Reported):
            self._usage = event.usage
        elif isinstance(event, events.Scaled):
            self._wanted = event.maximum
        elif isinstance(event, events.Running) and self._command_runs:
            return  # --start eager: the terminal is the command's already
        elif type(event) in PHASES:
            self._command_runs = isinstance(event, events.CommandStarted)
            self._phase = PHASES[type(event)]
            if self._next is not None:
                self._next.cancel()
            if self._phase is not None:
                self._again()

    def clear(self) -> None:
        """Take the line away."""
        with stderr.writing, contextlib.suppress(OSError):
            if self._shown:
                self._shown = False
                sys.stderr.write(ERASE)
                sys.stderr.flush()

    def _again(self) -> None:
        self._next = asyncio.get_running_loop().call_later(EVERY, self._refresh)

    def _refresh(self) -> None:
        self._again()
        with stderr.writing, contextlib.suppress(OSError):
            self.clear()
            # Not in the background, where a shell has its prompt there.
            if os.tcgetpgrp(2) == os.getpgrp():
                self._draw()

    def _draw(self) -> None:
        from rich.console import Console
        from rich.text import Text

        if self._console is None:
            plain = bool(os.environ.get("NO_COLOR"))
            self._console = Console(
                file=sys.stderr, force_terminal=True, color_system=None if plain else "auto"
            )
        console = self._console
        text = Text(self._phase or "", style="bold")
        text.append(f" · {' · '.join(self._figures())}", style="not bold dim")
        self._shown = True
        # The last column would wrap.
        console.print(text, end="", no_wrap=True, overflow="ellipsis", width=console.width - 1)
        console.file.flush()

    def _figures(self) -> list[str]:
        usage, figures = self._usage, list[str]()
        if usage is not None or self._wanted is not None:
            up = usage.workers if usage else 0
            of = f"{up} of " if self._wanted else ""
            figures.append(of + counted(self._wanted or up, "worker"))
        if usage is not None and usage.tasks_total:
            figures.append(f"{usage.tasks_done} of {counted(usage.tasks_total, 'task')}")
        if usage is not None and usage.memory_used:
            figures.append(gib(usage.memory_used))
        return [*figures, f"{monotonic() - self._begun:.0f} s"]
