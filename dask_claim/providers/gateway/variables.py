"""Variables that a request sets on its scheduler and workers: the run's mark, the end when idle.

The gateway's list repeats the options of a request, so a cluster whose name was lost is found by
equality of the mark.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_claim.claim.site_sections import GatewayOptions
from dask_claim.providers.gateway.option import Option, own_names

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport

    from dask_claim.claim.model import Claim

MARK = "CLAIMED_BY_RUN"
"""Not one of Dask's variables, and not the one of the command's own processes (`choice.RUN_ID`):
on a gateway's own machine a guard would take scheduler and workers for the command."""

VERSION = "1"

IDLE_TIMEOUT = "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT"
_IDLE = {"idle_timeout": 1, "idle_timeout_seconds": 1, "idle_timeout_minutes": 60}
"""Options for the same, in lower case, and the seconds that they count in."""


@dataclass(frozen=True)
class Mark:
    """Which run has requested a cluster, and how it is to be held."""

    run_id: str

    leased: bool
    """Whether a lease ends the cluster with its launcher; a program's own cluster has none."""

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


def status_of(report: ClusterReport | None) -> str:
    """Return the gateway's word for a cluster's state, such as RUNNING; UNKNOWN: it has none."""
    return str(report.status.name) if report else "UNKNOWN"


def mark_on(report: ClusterReport) -> str | None:
    """Return the mark on a cluster, as it was written; None where there is none."""
    for value in report.options.values():
        if isinstance(value, Mapping) and isinstance(mark := value.get(MARK), str):
            return mark
    return None


def variables_option(
    options: MutableMapping[str, Any], site: GatewayOptions | None, claim: Claim | None = None
) -> str | None:
    """Return the option that takes variables of scheduler and workers; None: there is none.

    With a `claim`, nor is there where that sets it by its own name.
    """
    own = own_names(options, claim)
    offered = [name for name in options if name not in own]
    name = (site or GatewayOptions()).option_for("environment", offered)
    return name if name and Option.of(options, name).kind == "mapping" else None


def end_when_idle(
    options: MutableMapping[str, Any],
    claim: Claim,
    seconds: float,
    site: GatewayOptions | None = None,
) -> bool:
    """Have a cluster that nobody uses end by itself; whether the gateway has an option for it.

    From its request on, without anything of ours in its image: a launcher whose whole container
    ends before its lease is placed leaves nothing else. The lease counts as use.
    """
    offered = False
    own = own_names(options, claim)
    if name := variables_option(options, site, claim):
        options[name] = {IDLE_TIMEOUT: f"{seconds:g}s", **(options[name] or {})}
        offered = True
    for name in options:
        # Never, by default; a time that the site has chosen stays.
        if (unit := _IDLE.get(name.lower())) and name not in own and not options[name]:
            with contextlib.suppress(TypeError, ValueError):
                options[name] = math.ceil(seconds / unit)
                offered = True
    return offered
