"""What a provider gets and returns, and what is left behind to be reclaimed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from dask_claim.claim.addresses import GatewayAddress, OperatorGateways
from dask_claim.files import letters
from dask_claim.providers.share import Share

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim, Resolved
    from dask_claim.claim.plan import Plan
    from dask_claim.claim.site import Site
    from dask_claim.claim.site_sections import GatewayOptions, Policy
    from dask_claim.credentials.login import Login


@dataclass(frozen=True)
class Request:
    """What a provider has to provide."""

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

    site: Site | None = None
    """The site's file: what its gateway's options mean, and the policy."""

    site_fields: frozenset[str] = frozenset()
    """What that file itself sets: fields, and entries such as `options.X`."""

    run_id: str = field(default_factory=letters)
    """Random: it marks the processes of this run and of no other."""

    report: bool = False
    """Whether Dask's own report of what the cluster has done is to be had at the end."""

    def __post_init__(self) -> None:
        if self.gateway is None:
            gateway = GatewayAddress.of(self.claim, OperatorGateways())
            object.__setattr__(self, "gateway", gateway)

    @classmethod
    def of(
        cls,
        resolved: Resolved,
        start_timeout: float,
        stop_timeout: float,
        run_id: str | None = None,
    ) -> Request:
        """What a resolved claim asks for; `run_id` is random by default."""
        site = resolved.site
        return cls(
            resolved.claim,
            resolved.plan(),
            resolved.environ,
            start_timeout,
            stop_timeout,
            resolved.gateway(),
            site,
            site.asks_for(resolved.sources),
            run_id or letters(),
        )

    avoid: frozenset[str] = frozenset()
    """Names of clusters that others share and that were of no use to this run."""

    @property
    def share(self) -> Share | None:
        """With which other runs it may use one cluster; None: with none."""
        return Share.of(self.claim)

    @property
    def gateway_options(self) -> GatewayOptions | None:
        return self.site.gateway_options if self.site else None

    @property
    def policy(self) -> Policy | None:
        return self.site.policy if self.site else None

    def size(self) -> str:
        """What is claimed, in words."""
        claim, plan = self.claim, self.plan
        minimum, maximum = plan.min_workers, plan.max_workers
        count = f"{maximum}" if minimum == maximum else f"{minimum} to {maximum}"
        workers = f" of {count} {'worker' if maximum == 1 else 'workers'}"
        sizes = {"cores": claim.worker_cores, "memory": claim.worker_memory, "image": claim.image}
        parts = [f"{name}: {value}" for name, value in sizes.items() if value is not None]
        shown = f" ({', '.join(parts)})" if parts else ""
        return f"a Dask cluster{'' if plan.fills_machine else workers}{shown}"


@dataclass(frozen=True)
class Cluster:
    """Where a cluster is, as far as that is settled."""

    scheduler_address: str | None = None
    """`tcp://host:port`, or `gateway://host:port/name`; None: the program makes its own."""

    cluster_name: str | None = None
    """The gateway's name for the cluster."""

    dashboard_url: str | None = None
    """The dashboard as a browser reaches it."""

    gateway: GatewayAddress | None = None
    """None where no gateway is used."""

    option_defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults for the options of clusters that the program itself requests from this gateway."""

    tls_folder: str | None = None
    """Where the keys of this run lie; None where the scheduler needs none, or a gateway's."""


TICKET_VERSION = 2


@dataclass(frozen=True)
class Ticket:
    """What must be reclaimed. Written before it is requested, and again with each new fact.

    A ticket crosses to the guard as JSON, and is all that it takes to reclaim what it names.
    """

    provider: str
    """Whose `reclaim` takes it."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """What that provider alone reads: JSON types, and no secret."""

    cluster_name: str | None = None
    """For messages."""

    process: int | None = None
    """The leader of a process group here that holds the cluster, and ends when the launcher does.
    The guard kills it where it does not, before it reclaims the ticket."""

    folder: str | None = None
    """A private folder of this run, to be removed."""

    after_command: bool = False
    """Whether it names what the command itself makes, so is reclaimed when that has ended."""

    login: Login | None = field(default=None, repr=False, compare=False)
    """What a gateway has accepted; it stays in this process."""

    id: str = field(default_factory=letters)

    version: int = TICKET_VERSION
    """Of the form in which it crosses; raised when something in it changes its meaning."""

    def with_(self, facts: Mapping[str, Any] | None = None, **changed: Any) -> Ticket:
        """Return the same ticket with more facts, or other fields."""
        return replace(self, facts={**self.facts, **(facts or {})}, **changed)

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Ticket:
        """Read the form in which it crosses, also that of another dask-claim.

        One is replaced by another while a run lasts, and its guard starts what is there then.
        Fields unknown here are left out.

        Raises
        ------
        ValueError
            It may not mean what it seems to, so nothing may be ended for it.
        """
        name = written.get("provider")
        if written.get("version", 1) != TICKET_VERSION or not isinstance(name, str):
            raise ValueError("a ticket of another version of dask-claim")
        own = {each.name for each in fields(cls)} - {"login"}
        return cls(**{name: value for name, value in written.items() if name in own})

    def to_dict(self) -> dict[str, Any]:
        """Return the form in which it crosses to the guard, with no secret in it."""
        written = asdict(replace(self, login=None, facts=dict(self.facts)))
        del written["login"]
        return written


Write = Callable[[Ticket], None]
"""Keeps a ticket, or more of one."""

Warn = Callable[[str], None]
"""Warns the user of what the run goes on in spite of."""


@dataclass(frozen=True)
class Ended:
    """How a cluster has ended where the launcher did not end it."""

    how: str
    """In words that follow the cluster's name: `was ended by somebody else: …`."""

    ordinary: bool = False
    """Whether the program itself did it, which needs no warning."""

    killed: bool = False
    """Whether a process of it got SIGKILL, as the kernel gives it where memory runs out."""


class Outcome(Enum):
    """What became of a ticket, or of several; its value is the `gone` of log and receipt."""

    NOT_CONFIRMED = False
    KEPT = "kept"
    """It is a cluster that other runs share, or may still join: its scheduler ends it."""

    GONE = True
    NOTHING = None

    @classmethod
    def of_all(cls, outcomes: Sequence[Outcome]) -> Outcome:
        """Return the first of these, in their order above, that is among `outcomes`."""
        return next((outcome for outcome in cls if outcome in outcomes), cls.NOTHING)
