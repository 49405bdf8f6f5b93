"""The trace that a run belongs to, in the form of W3C's Trace Context."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

TRACEPARENT = "TRACEPARENT"

_FORM = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)


def new_id(size: int) -> str:
    """Return the id of a trace (16 bytes) or span (8)."""
    return secrets.randbits(8 * size).to_bytes(size, "big").hex()


@dataclass(frozen=True)
class Trace:
    """A trace, and the spans of it that are around the run and around its command."""

    trace_id: str = field(default_factory=lambda: new_id(16))
    parent: str | None = None
    """The span around the run; None: the trace begins with the run."""

    flags: str = "01"
    command: str = field(default_factory=lambda: new_id(8))
    """The command's span."""

    invalid: str | None = None
    """What the environment has in the place of a trace."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Trace:
        """Return the trace that the environment names, else another one."""
        given = environ.get(TRACEPARENT, "").strip()
        form = _FORM.fullmatch(given)
        # What later versions add follows a dash.
        if form is None or (form[1] == "00" and form[5]):
            return cls(invalid=given or None)
        return cls(form[2], form[3], form[4])

    @property
    def received(self) -> str | None:
        """The launcher's `TRACEPARENT`; None where it has none."""
        return self.parent and f"00-{self.trace_id}-{self.parent}-{self.flags}"

    def variables(self) -> dict[str, str]:
        """Return the command's `TRACEPARENT`; nothing where the launcher has none."""
        if self.parent is None:
            return {}
        return {TRACEPARENT: f"00-{self.trace_id}-{self.command}-{self.flags}"}
