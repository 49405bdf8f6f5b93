"""Two sections of the site's file: the policy, and what its gateway's options mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dask_claim.claim.addresses import DEFAULT_PORTS, UrlPrefix
from dask_claim.claim.fields import Cores, Count, Lifetime, Seconds
from dask_claim.claim.memory import Memory
from dask_claim.claim.units import Invalid, exact

_PATTERN = re.compile(
    r"https?://(\[[\da-f:*?]+\]|[\w.*?-]+)(:[\d*?]+)?(/(?!\.\.?(/|$))[^/\s%#\\@]+)*/?",
    re.IGNORECASE,
)


def _url_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            hint = (
                "write for example https://*.example.org, http://localhost:* or "
                "https://hub.example.org/services/dask-gateway"
            )
            raise Invalid(f"{pattern} matches no gateway", hint)
    return patterns


Patterns = tuple[str, ...]
UrlPatterns = Annotated[Patterns, AfterValidator(_url_patterns)]


class Section(BaseModel):
    """A part of the site's file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_dict(self) -> dict[str, Any]:
        """Return what the file sets, fit for JSON."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)


WHOLE = {"worker_cores": "max_cores", "worker_memory": "max_memory"}
"""Bound of one worker → bound of all together, which one worker may not exceed either."""


class Limit(NamedTuple):
    """The most that one worker may have of something, and the policy's name for it."""

    amount: Fraction
    bound: str


class Policy(Section):
    """What a claim may request at a site. A bound that is None does not exist."""

    max_workers: Count | None = Field(None, description="Of one cluster.")
    max_cores: Cores | None = Field(None, description="Of all workers together.")
    max_memory: Memory | None = Field(None, description="Of all workers together.")
    worker_cores: Cores | None = Field(None, description="Of a worker; also what it may burst to.")
    worker_memory: Memory | None = Field(None, description='Of a worker, for example "16G".')
    gpus: Count | None = Field(None, description="Of each worker.")
    max_lifetime: Lifetime | None = Field(
        None, description="Seconds; a claim that names none has this one."
    )
    lease_timeout: Lifetime | None = Field(
        None, description="Seconds. A claim for no lease at all (0) exceeds it, too."
    )
    share: bool = Field(True, description="Whether runs may share a cluster (share).")
    keep: Seconds | None = Field(
        None, description="Seconds for which a shared cluster may stay after its last run."
    )
    images: Patterns | None = Field(None, description="Patterns of the whole name, with * and ?.")
    gateways: UrlPatterns | None = Field(
        None,
        description="Patterns of scheme://host, with a port and a path where they matter, with * "
        "and ?. A path stands for all below it.",
    )
    providers: Patterns | None = Field(None, description="Where clusters may come from.")
    options: Patterns | None = Field(
        None, description="Patterns of the names that a claim may set under options."
    )
    foreign_gateways: bool = Field(
        True,
        description="Whether a gateway that only the claim names may be used, without credentials.",
    )
    excess: Literal["refuse", "cut"] = Field(
        "refuse",
        description="Status 78, or (cut) the bound with a warning. Images, gateways, providers and "
        "options beyond what is allowed are always refused.",
    )

    def amounts(self) -> dict[str, float]:
        """Return the bounds of workers that exist, by their names; memory in bytes."""
        names = ("max_workers", "max_cores", "max_memory", "worker_cores", "worker_memory")
        bounds = {name: getattr(self, name) for name in names}
        return {name: bound for name, bound in bounds.items() if bound is not None}

    def limits(self, workers: int = 1) -> dict[str, Limit]:
        """Return field → limit of each of so many workers, where there is one."""
        limits: dict[str, Limit] = {}
        for name in SIZE:
            each, whole = getattr(self, name), WHOLE.get(name, "")
            found = [] if each is None else [Limit(exact(each), name)]
            if (together := getattr(self, whole, None)) is not None:
                amount = exact(together) / workers
                if name == "worker_memory":
                    amount -= amount % 2**20  # every form of text can have whole mebibytes
                found.append(Limit(amount, whole))
            if found:
                limits[name] = min(found)
        return limits | {f"{name}_limit": limits[name] for name in WHOLE if name in limits}


SIZE = ("gpus", "worker_memory", "worker_cores")
"""The fields of a claim that are a worker's size; GPUs are the dearest."""


class WorkerSize(Section):
    """What one worker has."""

    worker_cores: Cores = Field(alias="cores")
    worker_memory: Memory = Field(alias="memory", description='For example "16G".')
    gpus: Count = 0

    @property
    def rank(self) -> tuple[float, ...]:
        """By what sizes are sorted."""
        return tuple(getattr(self, name) for name in SIZE)


OPTION_NAMES: Mapping[str, tuple[str, ...]] = {
    "image": ("image",),
    "worker_cores": ("worker_cores", "cpu"),
    "worker_cores_limit": ("worker_cores_limit",),
    "worker_memory": ("worker_memory", "ram"),
    "gpus": ("gpus", "gpu"),
    "environment": ("environment", "environment_vars"),
    # What some gateways ask for beside a worker's size; no fields of a claim.
    "worker_threads": ("worker_threads",),
    "worker_memory_limit": ("worker_memory_limit",),
    "cluster_max_workers": ("cluster_max_workers",),
    "cluster_max_cores": ("cluster_max_cores",),
    "cluster_max_memory": ("cluster_max_memory",),
    "scheduler_cores": ("scheduler_core_limit", "scheduler_cores"),
    "scheduler_memory": ("scheduler_memory_limit", "scheduler_memory"),
}
"""Field → the usual names of the option for it, in lower case."""


Named = Literal[
    "image", "worker_cores", "worker_cores_limit", "worker_memory", "gpus", "environment"
]


def _lower_keys(entries: dict[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in entries.items()}


class GatewayOptions(Section):
    """What the options of the site's gateway mean, where their names and texts do not say it."""

    names: dict[Named, str] = Field(
        default={}, description="Field of a claim → the option that stands for it."
    )
    units: Annotated[
        dict[str, Literal["bytes", "GiB", "MiB", "GB", "MB"]], AfterValidator(_lower_keys)
    ] = Field(default={}, description="Option → what it counts memory in.")
    choices: Annotated[dict[str, dict[str, WorkerSize]], AfterValidator(_lower_keys)] = Field(
        default={},
        description="Option → each of its values → the worker that it stands for. The smallest "
        "that is enough is taken.",
    )
    default: WorkerSize | None = Field(
        default=None,
        description="What a worker has where the gateway does not let it be chosen: a claim for "
        "more is status 78 unless strict is false.",
    )

    def option_for(self, field: str, offered: Iterable[str]) -> str | None:
        """Return the one of the options `offered` that stands for a field; None: there is none.

        Case does not matter. A name that the site's file gives takes the place of the usual ones.
        """
        own = {name.lower(): name for name in reversed(list(offered))}
        named = self.names.get(field)  # type: ignore[call-overload]
        names = (named.lower(),) if named else OPTION_NAMES[field]
        return next((own[name] for name in names if name in own), None)

    def unit_for(self, option: str) -> str | None:
        """Return the unit of an option for memory, where the site's file gives one."""
        return self.units.get(option.lower())

    def choices_for(self, option: str) -> Mapping[str, WorkerSize]:
        """Return the sizes of an option's choices; empty where the site's file gives none."""
        return self.choices.get(option.lower(), {})

    def field_of(self, option: str) -> str | None:
        """Return the field that an option stands for, by the site's file or by its usual name."""
        fields = {name: field for field, names in OPTION_NAMES.items() for name in names}
        fields |= {name.lower(): field for field, name in self.names.items()}
        return fields.get(option.lower())


def matches(patterns: tuple[str, ...], text: str) -> bool:
    """Whether one of the patterns is that of the whole text."""
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def gateway_allowed(patterns: tuple[str, ...], url: str) -> bool:
    """Whether a gateway is at the address of one of the patterns, or below it."""
    try:
        here = UrlPrefix.of(url)
    except ValueError:
        return False
    whole = "/".join([here.origin, *here.path])
    return any(re.fullmatch(_expression(pattern), whole) for pattern in patterns)


def _expression(pattern: str) -> str:
    scheme, _, rest = pattern.partition("://")
    place, _, path = rest.partition("/")
    origin = f"{scheme}://{place}".lower()
    if not re.search(r":[\d*?]+$", place):
        origin += f":{DEFAULT_PORTS[scheme.lower()]}"
    # Of one part each: it would reach over the end of the host.
    parts = re.escape(f"{origin}/{path}".rstrip("/")).replace(r"\*", "[^/]*")
    return parts.replace(r"\?", "[^/]") + "(/.*)?"
