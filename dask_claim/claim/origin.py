"""Where the values of a claim came from, kept beside one that was read from an environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dask_claim.claim.validation import leaves

CLAIM = "claim"
"""The source of what a program says by itself."""


@dataclass(frozen=True)
class Origin:
    """Where each value of one claim came from, as far as no program has changed it.

    All are equal, as claims that say the same are.
    """

    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Field, or `options.X` and the like → source. Of a claim that a program made: empty."""

    def of(self, name: str) -> str:
        """Return the source of a field, or of an entry such as `options.X`."""
        return self.sources.get(name, CLAIM)

    def unchanged(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Origin:
        """Return the origin of the values `after`, made of those `before`."""
        old = dict(leaves(before))
        same = (name for name, value in leaves(after) if name in old and old[name] == value)
        return Origin({name: self.of(name) for name in same})

    def divided(
        self, fields: Mapping[str, Any], said: Iterable[tuple[str, Mapping[str, Any]]]
    ) -> dict[str, dict[str, Any]]:
        """Return source → fields: those of a program, and those of the text in DASK_CLAIM.

        Left out is what came from another source that still says so; `said` has (source, values) of
        each. Where it says so no more, that is the program's own.
        """
        others = {
            (source, name): value for source, values in said for name, value in leaves(values)
        }
        found: dict[str, dict[str, Any]] = {}
        for name, value in leaves(fields):
            source = self.of(name)
            if (source, name) in others and others[source, name] == value:
                continue
            parent, _, child = name.partition(".")
            of_source = found.setdefault(source if source == "DASK_CLAIM" else CLAIM, {})
            if child:
                of_source.setdefault(parent, {})[child] = value
            else:
                of_source[name] = value
        return found
