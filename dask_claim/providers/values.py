"""What a provider is asked with, what it answers, and what is left behind to be reclaimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from dask_claim.claim.addresses import GatewayAddress, OperatorGateways
from dask_claim.files import letters

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim, Resolved
    from dask_claim.claim.plan import Plan
    from dask_claim.claim.site_sections import GatewayOptions, Policy
    from dask_claim.credentials.login import Login


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

    gateway: GatewayAddress | None = None
    """The gateway to be used; by default the claim's, as one that no operator names."""

    gateway_options: GatewayOptions | None = None
    """What the site's file says of its gateway's options."""

    policy: Policy | None = None
    """What the site allows, for what only a provider gets to know."""

    site_file: str = ""
    sites: frozenset[str] = frozenset()
    """What that file itself asks for: fields, and entries such as `options.X`."""

    run_id: str = field(default_factory=letters)
    """Random: it marks the processes of this run and of no other."""

    def __post_init__(self) -> None:
        if self.gateway is None:
            found = GatewayAddress.of(self.claim, OperatorGateways())
            object.__setattr__(self, "gateway", found)

    @classmethod
    def of(
        cls,
        resolved: Resolved,
        start_timeout: float,
        stop_timeout: float,
    ) -> Request:
        """What a resolved claim asks for."""
        return cls(
            resolved.claim,
            resolved.plan(),
            resolved.environ,
            start_timeout,
            stop_timeout,
            resolved.gateway(),
            resolved.site.gateway_options if resolved.site else None,
            resolved.site.policy if resolved.site else None,
            resolved.site.path if resolved.site else "",
            resolved.site.asks_for(resolved.sources) if resolved.site else frozenset(),
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
        if plan.fills_machine:
            workers = ""
        return f"a Dask cluster{workers}" + (f" ({', '.join(parts)})" if parts else "")


@dataclass(frozen=True)
class Cluster:
    """Where a cluster is, as far as it is known."""

    scheduler_address: str | None = None
    """`tcp://host:port`, or `gateway://host:port/name`; None: the program makes its own."""

    cluster_name: str | None = None
    """The gateway's name for the cluster."""

    dashboard_url: str | None = None
    """The dashboard as a browser reaches it."""

    gateway: GatewayAddress | None = None
    """None where no gateway is used."""

    gateway_user: str | None = None
    """The name to log in with, where this system has none for the user."""

    gateway_password: str | None = field(default=None, repr=False)
    """The password of a gateway that is this run's own."""

    option_defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults for the options of clusters that the program itself asks this gateway for."""

    tls_folder: str | None = None
    """Where the keys of this run lie; None where the scheduler wants none, or a gateway's."""


TICKET_VERSION = 1


@dataclass(frozen=True)
class Ticket:
    """What must be reclaimed. Written before it is asked for, and again when more is known.

    A ticket crosses to the guard as JSON, and is all that anybody needs to reclaim what it names.
    """

    provider: str
    id: str = field(default_factory=letters)

    version: int = TICKET_VERSION
    """Of the form in which it crosses; raised when something in it changes its meaning."""

    gateway: GatewayAddress | None = None

    login: Login | None = field(default=None, repr=False, compare=False)
    """What the gateway has accepted; it stays in this process."""

    requested: Mapping[str, Any] | None = None
    """The request under way, as `lost.end_lost` finds its cluster again."""

    made: Mapping[str, Any] | None = None
    """How the clusters are told that a command makes itself, see `gateway.program`."""

    cluster_name: str | None = None

    named_at: float | None = None
    """When the gateway has told that name; seconds of this machine's monotonic clock."""

    process: int | None = None
    """The leader of the process group of a local cluster."""

    jobs: Mapping[str, Any] | None = None
    """The `name` of a batch system's jobs, and the process that submits them (`host`)."""

    folder: str | None = None
    """Where the keys of this run lie."""

    def with_(self, **known: Any) -> Ticket:
        """Return the same ticket with more known."""
        return replace(self, **known)

    @classmethod
    def from_dict(cls, known: Mapping[str, Any]) -> Ticket:
        """Read the form in which it crosses, also that of another dask-claim.

        One is replaced by another while a run lasts, and its guard starts what is there then.
        What a ticket has besides is left out.

        Raises
        ------
        ValueError
            It may not mean what it seems to, so nothing may be ended for it.
        """
        if known.get("version", 1) != TICKET_VERSION or not isinstance(known.get("provider"), str):
            raise ValueError("a ticket of another version of dask-claim")
        own = {each.name for each in fields(cls)} - {"login"}
        found = {name: value for name, value in known.items() if name in own}
        if found.get("gateway") is not None:
            found["gateway"] = GatewayAddress(**found["gateway"])
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """Return the form in which it crosses to the guard, with no secret in it."""
        known = asdict(replace(self, login=None))
        del known["login"]
        return known


@dataclass(frozen=True)
class Ended:
    """How a cluster has ended where the launcher did not end it."""

    how: str
    """In words that follow the cluster's name: `was ended by somebody else: …`."""

    ordinary: bool = False
    """Whether the program itself did it, which nobody needs to be warned of."""

    killed: bool = False
    """Whether a process of it got SIGKILL, as the kernel gives it where memory runs out."""


class Outcome(Enum):
    """What became of a ticket, or of several."""

    NOT_CONFIRMED = "not confirmed"
    GONE = "gone"
    NOTHING = "nothing was made"

    @classmethod
    def of_all(cls, found: Sequence[Outcome]) -> Outcome:
        """Return the first of these, in their order above, that is among those `found`."""
        return next((outcome for outcome in cls if outcome in found), cls.NOTHING)
