"""What is wrong with a CWL document, each fault with its file and line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dask_claim.errors import ConfigurationError


@dataclass(frozen=True)
class Place:
    """A line of a file, counted from 1; 0 for the file as a whole."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class CwlError(ConfigurationError):
    """A document cannot be translated. Carries every fault that was found (status 78)."""

    def __init__(self, faults: Iterable[tuple[Place, str]]) -> None:
        # The same tool may have been looked at once for each step that runs it.
        self.faults = tuple(dict.fromkeys(faults))
        super().__init__(self.faults)

    def __str__(self) -> str:
        return "\n".join(f"{place}: {reason}" for place, reason in self.faults)


def line_of(node: Any, key: object = None) -> int:
    """Return the line, from 1, of a node as it was read, or of one of its entries; 0: unknown."""
    position = getattr(node, "lc", None)
    if position is None:
        return 0
    if key is not None:
        entry = (position.data or {}).get(key)
        if entry:
            return int(entry[0]) + 1
    return 0 if position.line is None else int(position.line) + 1


def line_at(node: Any, path: str) -> int:
    """Return the line of the entry that `path` (`options.queue`, `envDef[1]`) leads to."""
    line = line_of(node)
    while path:
        if isinstance(node, Mapping):
            found = [
                key for key in node if path == str(key) or path.startswith((f"{key}.", f"{key}["))
            ]
            if not found:
                return line
            key = max(found, key=lambda name: len(str(name)))
            line, node = line_of(node, key) or line, node[key]
            path = path[len(str(key)) :].lstrip(".")
        elif path.startswith("[") and isinstance(node, list):
            number, _, rest = path[1:].partition("]")
            if not number.isdigit() or int(number) >= len(node):
                return line
            line, node = line_of(node, int(number)) or line, node[int(number)]
            path = rest.lstrip(".")
        else:
            return line
    return line
