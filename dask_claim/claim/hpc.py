"""What a claim may say to batch systems, under `hpc`."""

from __future__ import annotations

import re
from difflib import get_close_matches

ENTRIES = ("queue", "account", "walltime", "interface", "directives")
_WORD = re.compile(r"[\w.:@/+=,-]+\Z")


def entry_refusal(name: str, value: object) -> str | None:
    """Return why the entry `name` cannot have this value; None if it may.

    It becomes a line of a job's script, which a shell reads, and the claim is a stranger's: what
    could begin another line or command is refused.
    """
    if name not in ENTRIES:
        near = get_close_matches(name, ENTRIES, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(ENTRIES)}"
        return f"is not known; {hint}"
    if name == "directives":
        lines = value if isinstance(value, list | tuple) else [None]
        if not all(isinstance(line, str) and line.isprintable() for line in lines):
            return 'is not a list of one-line texts; write for example ["--exclusive"]'
    elif isinstance(value, bool) or not isinstance(value, str | int) or not _WORD.match(str(value)):
        return "is no single word of letters, digits and . : @ / + = , - _; write it as text"
    return None
