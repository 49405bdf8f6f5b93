"""Lines on stderr, each for people or a JSON object (docs/events.md). Secrets are masked."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TextIO

from dask_claim.redact import redact, redact_text

VERSION = 1
"""Of the JSON lines: raised when a field changes its meaning or goes."""

LOG_FORMAT = "DASK_CLAIM_LOG_FORMAT"
GUARDED_RUN = "DASK_CLAIM_GUARDED_RUN"
GUARDED_TRACE = "DASK_CLAIM_GUARDED_TRACE"
"""Variables of a run's guard, which has no options."""


@dataclass
class State:
    """How this process writes."""

    as_json: bool = False
    run: str | None = None
    """The run's id."""

    context: dict[str, str] = field(default_factory=dict)
    """Further fields of every JSON line."""

    stream: TextIO | None = None
    """Where lines go; `sys.stderr` where that is not set."""

    clear: Callable[[], None] = lambda: None
    """Clears the terminal's last line, where it is to make room for others."""

    @classmethod
    def by(cls, arguments: Sequence[str], environ: Mapping[str, str]) -> State:
        """Return what a command line asks for, whatever else is wrong with it."""
        own = " ".join(itertools.takewhile(lambda word: word != "--", arguments))
        given: list[str] = re.findall(r"(?<!\S)--log-format[ =](\S+)", own)
        return cls((given[-1] if given else environ.get(LOG_FORMAT)) == "json")

    @classmethod
    def of_guard(cls, environ: Mapping[str, str]) -> State:
        """Return that of the launcher whose guard has these variables."""
        trace = environ.get(GUARDED_TRACE)
        run, context = environ.get(GUARDED_RUN) or None, {"trace_id": trace} if trace else {}
        return cls(environ.get(LOG_FORMAT) == "json", run, context)

    def for_guard(self) -> dict[str, str]:
        """Return the variables for the guard."""
        return {
            LOG_FORMAT: "json" if self.as_json else "text",
            GUARDED_RUN: self.run or "",
            GUARDED_TRACE: self.context.get("trace_id", ""),
        }


state = State()

writing = threading.RLock()
"""Held while a line is written."""


class _Objects(io.TextIOBase):
    """In the place of `sys.stderr`: what is written there is a JSON object, too."""

    def __init__(self, below: TextIO) -> None:
        self.below = below
        self._begun = ""

    def write(self, text: str) -> int:
        with writing:
            self._begun += text
            if text.endswith("\n"):
                self.finish()
        return len(text)

    def finish(self) -> None:
        """Write what there is, though its line may not have ended."""
        lines, self._begun = self._begun.strip("\n"), ""
        if lines:
            write(json_line("log", "WARNING", lines))

    def isatty(self) -> bool:
        return self.below.isatty()

    def fileno(self) -> int:
        return self.below.fileno()


@contextlib.contextmanager
def written_by(how: State) -> Iterator[None]:
    """Write as `how` says; as JSON also what libraries and Python itself write to `sys.stderr`."""
    global state
    before, stream = state, sys.stderr
    state = how
    objects = _Objects(stream) if how.as_json and stream is not None else None
    if objects is not None:
        # Not looked up later: click wraps `sys.stderr` where nobody reads stdout any more.
        how.stream, sys.stderr = stream, objects
    try:
        yield
    finally:
        if objects is not None:
            objects.finish()
        state, sys.stderr = before, stream


def write(text: str) -> None:
    """Write whole lines. Where nobody reads them any more, that changes nothing else."""
    stream = state.stream or sys.stderr
    if stream is not None:
        with writing, contextlib.suppress(OSError):
            state.clear()
            stream.write(text)
            stream.flush()


def json_line(event: str, level: str, message: str, at: float | None = None, **own: Any) -> str:
    """Return a JSON object on a line of its own.

    Parameters
    ----------
    event : str
        Its word, such as `claimed`.
    level : str
    message : str
        What a person reads.
    at : float, optional
        Seconds since the epoch; now by default.
    **own
        The event's own fields, of JSON types.
    """
    moment = datetime.now(timezone.utc) if at is None else datetime.fromtimestamp(at, timezone.utc)
    line: Any = {
        "version": VERSION,
        "at": moment.isoformat(timespec="milliseconds"),
        "run": state.run,
        "event": event,
        "level": level,
        "message": redact_text(message),
        **state.context,
        **{name: redact(value, name) for name, value in own.items()},
    }
    try:
        text = json.dumps(line, allow_nan=False, default=str)
    except ValueError:  # a scheduler's figures may be NaN, which JSON does not have
        text = json.dumps(json.loads(json.dumps(line, default=str), parse_constant=lambda _: None))
    return text + "\n"
