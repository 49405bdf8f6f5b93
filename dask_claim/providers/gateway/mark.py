"""The mark of a run on the clusters that it asks a gateway for: one of their variables.

It stands in the options of the request, which the gateway's list repeats, so a cluster whose name
nobody was told is found by equality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport

MARK = "CLAIMED_BY_RUN"
"""The variable of scheduler and workers. Not one of Dask's, and not the one of the command's own
processes (`tickets.RUN_ID`): on a gateway's own machine a guard would take them for the command."""

VERSION = "1"


@dataclass(frozen=True)
class Mark:
    """Which run has asked for a cluster, and how it wanted it held."""

    run_id: str

    leased: bool
    """Whether the run wanted a lease that ends the cluster; a program's own cluster has none."""

    def __str__(self) -> str:
        return f"{VERSION}:{'lease' if self.leased else 'no-lease'}:{self.run_id}"

    @classmethod
    def parse(cls, text: str) -> Mark | None:
        """Read a mark; None where it is not understood, as that of another version."""
        version, _, rest = text.partition(":")
        kind, _, run_id = rest.partition(":")
        if version != VERSION or kind not in ("lease", "no-lease"):
            return None
        return cls(run_id, kind == "lease")


def marked(variables: Mapping[str, str] | None, mark: str) -> dict[str, str]:
    """Return the variables of a request with the run's mark among them."""
    return {**(variables or {}), MARK: mark}


def mark_on(report: ClusterReport) -> str | None:
    """Return the mark on a cluster, as it was written; None where there is none."""
    for value in report.options.values():
        if isinstance(value, Mapping) and isinstance(found := value.get(MARK), str):
            return found
    return None
