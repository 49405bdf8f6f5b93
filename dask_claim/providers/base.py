"""What every provider is asked with, keeps to, and leaves behind to be reclaimed."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim, Resolved
    from dask_claim.claim.plan import Plan
    from dask_claim.claim.site_sections import GatewayOptions

DASK_CONFIG = "DASK_CONFIG"

# Importing dask_gateway copies a configuration file to DASK_CONFIG, by default ~/.config/dask,
# and HOME is the output directory of a CWL tool. Nothing can be copied into /dev/null, and it
# reads as an empty configuration; ~/.config/dask is still read besides.
NOWHERE = "/dev/null"


@dataclass(frozen=True)
class Request:
    """What a provider is asked for."""

    claim: Claim
    plan: Plan
    environ: Mapping[str, str]
    """The launcher's own variables."""

    start_timeout: float = 600.0
    """Seconds in which the cluster must be running."""

    stop_timeout: float = 30.0
    """Seconds in which it must be confirmed gone."""

    credentials: bool = True
    """Whether an operator named this gateway, so that it may see the configured credentials."""

    gateway_options: GatewayOptions | None = None
    """What the site's file says of its gateway's options."""

    for_command: bool = False
    """Whether a command finds its names (`env`) in its environment; a program's own block does
    not."""

    run_id: str = field(default_factory=lambda: uuid4().hex)
    """Random: it marks the processes of this run and of no other."""

    @classmethod
    def of(
        cls,
        resolved: Resolved,
        start_timeout: float,
        stop_timeout: float,
        *,
        for_command: bool = False,
    ) -> Request:
        """What a resolved claim asks for in this process's environment."""
        return cls(
            resolved.claim,
            resolved.plan(),
            dict(os.environ),
            start_timeout,
            stop_timeout,
            resolved.credentials_allowed,
            resolved.site.gateway_options if resolved.site else None,
            for_command,
        )

    def size(self) -> str:
        """What is claimed, in words."""
        claim, plan = self.claim, self.plan
        minimum, maximum = plan.min_workers, plan.max_workers
        count = f"{maximum}" if minimum == maximum else f"{minimum} to {maximum}"
        parts = []
        if claim.worker_cores is not None:
            parts.append(f"cores: {claim.worker_cores}")
        if claim.worker_memory is not None:
            parts.append(f"memory: {claim.worker_memory}")
        if claim.image is not None:
            parts.append(f"image: {claim.image}")
        workers = f" of {count} {'worker' if maximum == 1 else 'workers'}"
        if plan.provider == "local" and claim.says_nothing_of_workers():
            workers = ""
        return f"a Dask cluster{workers}" + (f" ({', '.join(parts)})" if parts else "")


@dataclass(frozen=True)
class Addresses:
    """Where a gateway is."""

    gateway_url: str | None
    proxy_url: str | None
    public_url: str | None


@dataclass(frozen=True)
class Cluster:
    """Where a cluster is, as far as it is known."""

    scheduler_address: str | None = None
    """`tcp://host:port`, or `gateway://host:port/name`; None: the program makes its own."""

    cluster_name: str | None = None
    """The gateway's name for the cluster."""

    dashboard_url: str | None = None
    """The dashboard as a browser reaches it."""

    gateway_url: str | None = None
    proxy_url: str | None = None
    public_url: str | None = None
    """The gateway's addresses; None where no gateway is used."""

    gateway_user: str | None = None
    """The name to log in with, where this system has none for the user."""

    gateway_password: str | None = field(default=None, repr=False)
    """The password of a gateway that is this run's own."""

    gateway_credentials: bool = True
    """Whether the program may show the configured credentials to this gateway."""

    option_defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults for the options of clusters that the program itself asks this gateway for."""

    tls_folder: str | None = None
    """Where the keys of this run lie; None where the scheduler wants none, or a gateway's."""


@dataclass(frozen=True)
class Ticket:
    """What must be reclaimed. Written before it is asked for, and again when more is known.

    A ticket crosses to the guard as JSON, and is all that anybody needs to reclaim what it names.
    """

    provider: str
    id: str = field(default_factory=lambda: uuid4().hex)

    gateway_url: str | None = None
    proxy_url: str | None = None
    public_url: str | None = None
    credentials: bool = True

    requested: Mapping[str, Any] | None = None
    """The request under way, as `lost.LostRequest` finds its cluster again."""

    made: Mapping[str, Any] | None = None
    """How the clusters are told that a command makes itself, see `gateway.program`."""

    cluster_name: str | None = None

    process: int | None = None
    """The leader of the process group of a local cluster."""

    jobs: Mapping[str, Any] | None = None
    """The `name` of a batch system's jobs, and the process that submits them (`host`)."""

    folder: str | None = None
    """Where the keys of this run lie."""

    @classmethod
    def of_gateway(cls, claim: Claim, credentials: bool, **known: Any) -> Ticket:
        """What there is at the gateway of `claim`; `credentials`: whether it may see them."""
        return cls(
            "gateway",
            gateway_url=claim.gateway_url,
            proxy_url=claim.proxy_url,
            public_url=claim.public_url,
            credentials=credentials,
            **known,
        )

    def with_(self, **known: Any) -> Ticket:
        """Return the same ticket with more known."""
        return replace(self, **known)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Outcome(Enum):
    """What became of a ticket."""

    GONE = "gone"
    NOT_CONFIRMED = "not confirmed"
    NOTHING = "nothing was made"


class Provider(ABC):
    """One cluster of one backend, from the request until the scheduler has its workers.

    The methods are called once each, in their order here, inside one event loop; `close` may
    follow any of them, also one that failed or was cancelled half-way. Ending the cluster is not
    a provider's task: whatever it makes it writes a ticket for first, and `reclaim` takes that,
    in this process or in another one.
    """

    name: ClassVar[str]
    """As in the claim's `provider` field."""

    makes_cluster: ClassVar[bool] = True
    """Whether the cluster is ours to watch and to end."""

    outlives_launcher: ClassVar[bool] = False
    """Whether the cluster could stay when the launcher's machine is gone, so needs a lease."""

    asks_with_dask: ClassVar[bool] = True
    """Whether the request itself needs Dask's libraries in this process."""

    description: str
    """Where the cluster is claimed from, for the log."""

    notice: str | None = None
    """One line for the log on what the cluster will be, once that is known."""

    obstacle: str | None = None
    """What the cluster is being waited for, where that is no ordinary start."""

    idle_timeout: float | None = None
    """Seconds without a task after which the cluster ends by itself, if no lease keeps it."""

    def __init__(
        self, request: Request, write: Callable[[Ticket], None], warn: Callable[[str], None]
    ) -> None:
        """`write` keeps a ticket, `warn` tells the user what the run goes on in spite of."""
        self.request = request
        self.cluster = Cluster()
        self._write = write
        self._warn = warn

    def check(self) -> None:  # noqa: B027  # most need no more than dask-claim itself
        """Raise ConfigurationError or ClaimError where it cannot work here; asks nobody."""

    @abstractmethod
    async def submit(self) -> None:
        """Ask for the cluster; `cluster` says enough for the command afterwards."""

    @abstractmethod
    async def wait_until_running(self) -> None:
        """Return when the scheduler can be reached."""

    async def scale(self) -> tuple[int, int] | None:
        """Ask for the plan's workers; the bounds that were asked for, None if not ours."""
        return None

    def security(self) -> Any:
        """Credentials for a `distributed.Client`, None where none are needed."""
        return None

    async def close(self) -> None:  # noqa: B027  # most have nothing to let go of
        """Let go of connections and pipes; the cluster itself is reclaimed by its ticket."""

    @classmethod
    async def reclaim(cls, ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> Outcome:
        """End what `ticket` names and confirm that it is gone, within `timeout` seconds."""
        raise NotImplementedError


def dask_config(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that keeps Dask's libraries from writing files below HOME on import."""
    return {} if DASK_CONFIG in environ else {DASK_CONFIG: NOWHERE}


_importing = threading.Lock()


def import_quietly(module: str) -> Any:
    """Import one of Dask's libraries, or what imports it, without a file appearing below HOME.

    One thread at a time: Dask's packages import one another in circles, which two threads break.
    """
    with _importing:
        added = dask_config(os.environ)
        os.environ.update(added)
        try:
            return import_module(module)
        finally:
            for name in added:
                del os.environ[name]
