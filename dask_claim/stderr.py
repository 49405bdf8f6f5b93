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
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TextIO

from dask_claim.redact import redact, redact_text

VERSION = 1
"""Of the JSON lines: raised when a field changes its meaning or goes."""

LOG_FORMAT = "DASK_CLAIM_LOG_FORMAT"
GUARD_LINE = "DASK_CLAIM_GUARD_LINE"
"""A variable of a run's guard, which has no options: what its JSON lines begin with."""


@dataclass
class State:
    """How this process writes."""

    as_json: bool = False
    run: str | None = None
    """The run's id."""

    trace_id: str | None = None
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
        begins = json.loads(environ.get(GUARD_LINE) or "{}")
        return cls(bool(begins), begins.get("run"), begins.get("trace_id"))

    def begin(self) -> dict[str, Any]:
        """Return what every JSON line has, whatever it tells."""
        trace = {"trace_id": self.trace_id} if self.trace_id else {}
        return {"version": VERSION, "run": self.run, **trace}


state = State()

writing = threading.RLock()
"""Held while a line is written."""


class _Objects(io.TextIOBase):
    """In the place of `sys.stderr`: what is written there is a JSON object, too."""

    _begun = ""

    def write(self, text: str) -> int:
        with writing:
            self._begun += text
            if text.endswith("\n"):
                lines, self._begun = self._begun.strip("\n"), ""
                write(json_line("log", "WARNING", lines))
        return len(text)


@contextlib.contextmanager
def written_by(how: State) -> Iterator[None]:
    """Write as `how` says; as JSON also what libraries and Python itself write to `sys.stderr`."""
    global state
    before, state = state, how
    try:
        if how.as_json and sys.stderr is not None:
            # Not looked up later: click wraps `sys.stderr` where nobody reads stdout any more.
            how.stream = sys.stderr
            with contextlib.redirect_stderr(_Objects()):
                yield
        else:
            yield
    finally:
        state = before


def write(text: str) -> None:
    """Write whole lines. Where nobody reads them any more, that changes nothing else."""
    stream = state.stream or sys.stderr
    if stream is not None:
        with writing, contextlib.suppress(OSError):
            state.clear()
            stream.write(text)
            stream.flush()


def tell(text: str, event: str = "log", level: str = "WARNING", **own: Any) -> None:
    """Write a line of what is no part of a run's log; the parameters are those of `json_line`."""
    trace = own.get("traceback") or ""
    plain = redact_text(f"{trace}dask-claim: {text}\n")
    write(json_line(event, level, text, **own) if state.as_json else plain)


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
        **state.begin(),
        "at": moment.isoformat(timespec="milliseconds"),
        "event": event,
        "level": level,
        "message": redact_text(message),
        **{name: redact(value, name) for name, value in own.items()},
    }
    try:
        text = json.dumps(line, allow_nan=False, default=str)
    except ValueError:  # a scheduler's figures may be NaN, which JSON does not have
        text = json.dumps(json.loads(json.dumps(line, default=str), parse_constant=lambda _: None))
    return text + "\n"
