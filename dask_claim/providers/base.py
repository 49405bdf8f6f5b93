"""The protocol that every provider keeps, and what it is asked with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dask_claim.handoff import DASK_CONFIG, NOWHERE, Handoff

if TYPE_CHECKING:
    from dask_claim.claim import Claim
    from dask_claim.plan import Plan


@dataclass(frozen=True)
class Order:
    """What a provider is asked for."""

    claim: Claim
    plan: Plan
    environ: Mapping[str, str]
    """The launcher's own variables."""

    start_timeout: float
    """Seconds in which the cluster must be running."""

    stop_timeout: float
    """Seconds in which it must be confirmed gone."""

    warn: Callable[[str], None]
    """Tells the user something the run goes on in spite of."""

    note: Callable[..., None] = lambda **facts: None
    """Tells the guard what there is to end, should the launcher vanish (see `guard`)."""

    def size(self) -> str:
        """What is claimed, in words."""
        claim, plan = self.claim, self.plan
        least, most = plan.min_workers, plan.max_workers
        count = f"{most}" if least == most else f"{least} to {most}"
        parts = []
        if claim.worker_cores is not None:
            parts.append(f"cores: {claim.worker_cores}")
        if claim.worker_memory is not None:
            parts.append(f"memory: {claim.worker_memory}")
        if claim.image is not None:
            parts.append(f"image: {claim.image}")
        workers = "worker" if most == 1 else "workers"
        return f"a Dask cluster of {count} {workers}" + (f" ({', '.join(parts)})" if parts else "")


class Provider(Protocol):
    """One cluster of one backend, from the request until it is confirmed gone.

    The methods are called once each, in this order, inside one event loop; `stop` may follow any
    of them, also one that failed or was cancelled half-way.
    """

    name: str
    """As in the claim's `provider` field."""

    description: str
    """Where the cluster is claimed from, for the log."""

    owns_cluster: bool
    """Whether the cluster is ours to watch and to give back."""

    needs_lease: bool
    """Whether it could outlive the launcher."""

    handoff: Handoff
    """What is known of the cluster so far; complete enough for the command after `submit`."""

    obstacle: str | None
    """What the cluster is being waited for, where that is no ordinary start."""

    async def submit(self) -> None:
        """Ask for the cluster; its address is known afterwards."""

    async def wait_until_running(self) -> None:
        """Return when the scheduler can be reached."""

    async def size(self) -> tuple[int, int] | None:
        """Ask for the plan's workers; the least and most that were asked for, None if not ours."""

    def security(self) -> Any:
        """Credentials for a `distributed.Client`, None where none are needed."""

    async def stop(self) -> bool | None:
        """Give the cluster back; whether it is confirmed gone, None where none was made.

        Keeps asking within the stop timeout, and never raises for what the backend answers.
        """


def without_files_in_home() -> None:
    """Keep Dask's libraries from writing configuration files below HOME on import."""
    os.environ.setdefault(DASK_CONFIG, NOWHERE)
