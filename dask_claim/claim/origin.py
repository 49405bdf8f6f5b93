"""Where the values of a claim came from, kept beside one that was read from an environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dask_claim.claim.fields import Path, leaves

CLAIM = "claim"
"""The source of what a program sets itself."""


@dataclass(frozen=True)
class Origin:
    """Where each value of one claim came from, as far as no program has changed it.

    All are equal, so that claims with equal values are.
    """

    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Field, or `options.X` and the like → source. Of a claim that a program made: empty."""

    def of(self, path: Path) -> str:
        """Return the source of a field or an entry."""
        return self.sources.get(".".join(path), CLAIM)

    def unchanged(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Origin:
        """Return the origin of the values `after`, made of those `before`."""
        old = leaves(before)
        same = [path for path, value in leaves(after).items() if path in old and old[path] == value]
        return Origin({".".join(path): self.of(path) for path in same})
