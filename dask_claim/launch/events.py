"""What happens in a run, as values: the log and the receipt are made of them.

The first line of a class's docstring says when; `event_log` turns them into lines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from loguru import logger

from dask_claim.amounts import counted
from dask_claim.providers.usage import Usage
from dask_claim.providers.values import Cluster, Outcome, Ticket

Listener = Callable[["Event"], None]

PLACE = ("cluster_name", "scheduler_address", "dashboard_url")
"""What log and receipt have of a cluster."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened; `str()` is its line for people, empty where there is none."""

    word: ClassVar[str] = ""
    """What JSON lines call it; empty: it is not logged."""

    at: float = field(default_factory=time.time)
    """Seconds since the epoch."""

    level: str = "INFO"

    def __str__(self) -> str:
        return str(getattr(self, "text", ""))


@dataclass(frozen=True)
class Note(Event):
    """Information for a person."""

    word = "note"
    text: str


@dataclass(frozen=True)
class Warned(Note):
    """A problem that does not end the run; the receipt has it, too."""

    word = "warning"
    level: str = field(default="WARNING", kw_only=True)


@dataclass(frozen=True)
class Claimed(Event):
    """The cluster is about to be requested."""

    word = "claimed"
    text: str
    provider: str
    adopted: bool
    """Whether it was there before the run."""


@dataclass(frozen=True)
class TicketsWritten(Event):
    """What remains to be reclaimed has changed."""

    word = "tickets"
    tickets: Sequence[Ticket]
    level: str = field(default="DEBUG", kw_only=True)

    def __str__(self) -> str:
        named = [f"{each.provider} {each.cluster_name or each.id}" for each in self.tickets]
        return f"To be reclaimed: {', '.join(named) or 'nothing'}"


@dataclass(frozen=True)
class Submitted(Event):
    """The cluster is requested, and has an address."""

    word = "submitted"
    provider: str
    cluster: Cluster
    text: str = ""


@dataclass(frozen=True)
class Running(Event):
    """The scheduler is up, and workers are requested."""

    word = "running"
    provider: str
    cluster: Cluster
    seconds: float
    """Since the claim."""

    def __str__(self) -> str:
        address = self.cluster.scheduler_address
        return f"Scheduler is up at {address} ({self.seconds:.1f} s)" if address else ""


@dataclass(frozen=True)
class Scaled(Event):
    """Workers are requested."""

    word = "scaled"
    minimum: int
    maximum: int

    def __str__(self) -> str:
        if self.minimum == self.maximum:
            return f"Scaling cluster: workers={self.maximum}"
        return f"Adapting cluster: minimum={self.minimum}, maximum={self.maximum}"


@dataclass(frozen=True)
class Leased(Event):
    """The scheduler has accepted the lease."""

    word = "leased"
    ends_cluster: bool
    """Whether the scheduler itself ends an abandoned cluster."""


@dataclass(frozen=True)
class Reported(Event):
    """The cluster reports what it does; where workers came or went, `WorkersChanged` follows."""

    usage: Usage


@dataclass(frozen=True)
class WorkersChanged(Event):
    """Workers came or went."""

    word = "workers"
    usage: Usage

    def __str__(self) -> str:
        usage = self.usage
        return (
            f"{counted(usage.workers, 'worker')} up (threads: {usage.cores}, "
            f"memory: {usage.memory / 2**30:.1f} GiB)"
        )


@dataclass(frozen=True)
class CommandStarted(Event):
    """The command runs."""

    word = "command_started"


@dataclass(frozen=True)
class CommandEnded(Event):
    """The command has ended."""

    word = "command_ended"
    status: int
    seconds: float

    def __str__(self) -> str:
        return f"The command ended with status {self.status} after {self.seconds:.1f} s"


@dataclass(frozen=True)
class Released(Event):
    """The run's resources are released; `gone` says whether that is confirmed."""

    word = "released"
    outcome: Outcome
    provider: str
    cluster: Cluster
    usage: Usage | None
    seconds: float
    lease_timeout: float | None
    """Seconds after which a lease ends an abandoned cluster; None where there is none."""

    by_itself: bool
    """Whether the cluster had ended before."""

    text: str


@contextmanager
def harmless() -> Iterator[None]:
    """Log an error of the records about a run, which is to end as it would without them."""
    try:
        yield
    except Exception:
        logger.exception("A defect in dask-claim's own records; please report it")


class Events:
    """Passes every event to every listener, in order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = list(listeners)

    def __call__(self, event: Event) -> None:
        for listener in self._listeners:
            with harmless():
                listener(event)

    def add(self, listener: Listener) -> None:
        """Have another one listen from now on."""
        self._listeners.append(listener)

    def note(self, text: str) -> None:
        self(Note(text))

    def warn(self, text: str) -> None:
        self(Warned(text))
