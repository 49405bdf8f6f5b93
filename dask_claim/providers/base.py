"""What every provider keeps to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

from dask_claim.errors import Reason
from dask_claim.providers.usage import Usage
from dask_claim.providers.values import Cluster, Ended, Outcome, Request, Ticket, Warn, Write

if TYPE_CHECKING:
    from dask_claim.claim.fields import ClaimFields
    from dask_claim.providers.dask_report import DaskReport


class Provider(ABC):
    """One cluster of one backend, from the request until the scheduler has its workers.

    The methods are called once each, in their order here, inside one event loop; `close` may
    follow any of them, also one that failed or was cancelled half-way. Ending the cluster is not
    a provider's task: whatever it makes it writes a ticket for first, and `reclaim` takes that,
    in this process or in another one.
    """

    name: ClassVar[str]
    """As in the claim's `provider` field."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Fields of the claim without which it cannot serve."""

    makes_cluster: ClassVar[bool] = True
    """Whether the cluster is ours to watch and to end."""

    adopts: ClassVar[bool] = False
    """Whether it uses a cluster that others have made, and never ends it."""

    outlives_launcher: ClassVar[bool] = False
    """Whether the cluster could stay when the launcher's machine is gone, so needs a lease."""

    reports_usage: ClassVar[bool] = False
    """Whether `listen` reports what the cluster does; else a lease on its scheduler does."""

    asks_with_dask: ClassVar[bool] = True
    """Whether the request itself needs Dask's libraries in this process."""

    may_fall_back: ClassVar[bool] = False
    """Whether a local cluster can take its place (`fallback`)."""

    of_gateway: bool = False
    """Whether the cluster may be a gateway's, to which only dask-claim's own client connects."""

    uses_gateway: ClassVar[bool] = False
    """Whether it, or the command in its place, speaks to the claim's gateway."""

    starts_gateway: ClassVar[bool] = False
    """Whether a gateway of the run's own comes with it."""

    same_machine: ClassVar[bool] = False
    """Whether the workers are started on this machine, with this Python."""

    whole_cores: ClassVar[bool] = False
    """Whether its workers are batch jobs, which have no part of a core."""

    shares: ClassVar[bool] = False
    """Whether several runs can use one cluster of it, whose scheduler outlives each of them."""

    joined: bool = False
    """Whether the cluster is one that another run has requested."""

    description: str
    """Where the cluster is claimed from, for the log."""

    title: ClassVar[str] = ""
    """What a sentence calls a cluster that has no name."""

    notice: str | None = None
    """One line for the log on what the cluster will be, once that is certain."""

    obstacle: str | None = None
    """What stands in the way of the cluster or of its workers; None: nothing but time."""

    obstacle_reason: Reason | None = None
    """In one word, where that alone would end the run for a reason of its own."""

    no_workers: str = "Their own messages are above"
    """A sentence on where to look where no worker comes."""

    dask_report: DaskReport | None = None
    """Dask's own report, once this is closed; None where a lease has it, or it is not needed."""

    idle_timeout: float | None = None
    """Seconds without a task after which the cluster ends by itself, if no lease keeps it."""

    def __init__(self, request: Request, write: Write, warn: Warn) -> None:
        if not hasattr(type(self), "description"):
            self.description = f"provider {self.name}"
        self.request = request
        self.cluster = Cluster()
        self._write = write
        self._warn = warn

    def check(self) -> None:  # noqa: B027  # most need no more than dask-claim itself
        """Raise ConfigurationError or ClaimError where it cannot work here; sends nothing."""

    @classmethod
    def serves_with(cls, claim: ClaimFields) -> tuple[str, str | None]:
        """Return the registry's name of the class that serves a claim, and a warning or None.

        Another one takes its place where the program makes the cluster itself (`create: false`).
        """
        return cls.name if claim.create else "none", None

    def shared_ticket(self) -> Ticket | None:
        """Return what is settled once the cluster is shared, for its scheduler ends it then."""
        return None

    def announcement(self) -> str:
        """Return the line of the log that says what is about to be requested."""
        return f"Claiming {self.request.size()} from {self.description}"

    def called(self) -> str:
        """Return what a sentence calls the cluster."""
        name = self.cluster.cluster_name
        return f"cluster {name}" if name else self.title or f"the cluster of {self.description}"

    @abstractmethod
    async def submit(self) -> None:
        """Request the cluster; `cluster` has enough for the command afterwards."""

    @abstractmethod
    async def wait_until_running(self) -> None:
        """Return when the scheduler can be reached."""

    async def agree(self) -> None:  # noqa: B027  # most clusters are one run's own
        """Use the same running cluster as all runs that share it, where two were requested."""

    async def scale(self) -> tuple[int, int] | None:
        """Request the plan's workers; return the requested bounds, None if not ours."""
        return None

    async def wait_for_workers(self, count: int) -> None:  # noqa: B027  # the lease counts ours
        """Return when a cluster of others has so many workers."""

    def security(self) -> Any:
        """Credentials for a `distributed.Client`, None where none are needed."""
        return None

    def listen(  # noqa: B027  # of most a lease reports
        self, on_usage: Callable[[Usage], None], on_end: Callable[[Ended], None]
    ) -> None:
        """Report what the cluster does from now on, and how it ends without the launcher."""

    async def ended(self, patience: float = 0.0) -> Ended | None:
        """How the cluster has ended without the launcher; None while it runs, or if unknown.

        `patience`: seconds for which the news may still be on the way.
        """
        return None

    def hurry(self) -> None:  # noqa: B027  # most make no report
        """Have `close` lose no time with `dask_report`."""

    async def close(self) -> None:  # noqa: B027  # most have nothing to let go of
        """Let go of connections and pipes; the cluster itself is reclaimed by its ticket."""

    @classmethod
    async def reclaim(cls, ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> Outcome:
        """End what `ticket` names and confirm that it is gone, within `timeout` seconds."""
        raise NotImplementedError


NO_WORKERS_TIMEOUT = "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT"
"""Dask's own setting for tasks that no worker could run, as a variable of a scheduler."""


def tells_of_no_workers() -> bool:
    """Whether the installed scheduler fails such tasks; an older one would end its cluster."""
    return [int(part) for part in version("distributed").split(".")[:2]] >= [2024, 8]
