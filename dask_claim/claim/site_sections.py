"""What the site's file says beside a claim: the policy, and what its gateway's options mean."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from dask_claim.claim import units
from dask_claim.claim.fields import Cores, Count, Lifetime
from dask_claim.claim.memory import Memory


def _patterns(value: object) -> object:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError('is not a list of texts; write for example ["registry.example.org/*"]')
    return tuple(value)


Patterns = Annotated[tuple[str, ...], BeforeValidator(_patterns)]


class Policy(BaseModel):
    """What a claim may ask for at a site. A bound that is None does not exist."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Policy")

    max_workers: Count | None = Field(None, title="Workers", description="Of one cluster.")
    max_cores: Cores | None = Field(None, title="Cores", description="Of all workers together.")
    max_memory: Memory | None = Field(None, title="Memory", description="Of all workers together.")
    worker_cores: Cores | None = Field(
        None, title="Cores of a worker", description="Also what it may burst to."
    )
    worker_memory: Memory | None = Field(
        None, title="Memory of a worker", description='For example "16G".'
    )
    gpus: Count | None = Field(None, title="GPUs", description="Of each worker.")
    max_lifetime: Lifetime | None = Field(
        None,
        title="Lifetime",
        description="Seconds; a claim that names none has this one.",
    )
    images: Patterns | None = Field(
        None, title="Images", description="Patterns of the whole name, with * and ?."
    )
    gateways: Patterns | None = Field(
        None,
        title="Gateways",
        description="Patterns of scheme://host or scheme://host:port, with * and ?.",
    )
    providers: Patterns | None = Field(
        None, title="Providers", description="Where clusters may come from."
    )
    options: Patterns | None = Field(
        None,
        title="Options of the gateway",
        description="Patterns of the names that a claim may set under options, with * and ?.",
    )
    foreign_gateways: bool = Field(
        True,
        title="Foreign gateways",
        description="Whether a gateway that only the claim names may be used, without credentials.",
    )
    excess: Literal["refuse", "cut"] = Field(
        "refuse",
        title="Beyond a bound",
        description="Status 78, or (cut) the bound with a warning. Images, gateways, providers and "
        "options beyond what is allowed are always refused.",
    )

    def bounds(self) -> dict[str, Any]:
        """Return the bounds that exist, fit for JSON."""
        return self.model_dump(mode="json", exclude_unset=True)


class WorkerSize(BaseModel):
    """What one worker has."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Size of a worker")

    cores: Cores = Field(title="Cores")
    memory: Memory = Field(title="Memory", description='For example "16G".')
    gpus: Count = Field(default=0, title="GPUs")


class GatewayOptions(BaseModel):
    """What the options of the site's gateway mean, where their names and texts do not say it."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Options of the gateway")

    names: dict[
        Literal[
            "image",
            "worker_cores",
            "worker_cores_limit",
            "worker_memory",
            "gpus",
            "environment",
        ],
        str,
    ] = Field(
        default={}, title="Names", description="Field of a claim → the option that stands for it."
    )
    units: dict[str, Literal["bytes", "GiB", "MiB", "GB", "MB"]] = Field(
        default={}, title="Units", description="Option → what it counts memory in."
    )
    choices: dict[str, dict[str, WorkerSize]] = Field(
        default={},
        title="Choices",
        description="Option → each of its values → the worker that it stands for. The smallest "
        "that is enough is taken.",
    )
    default: WorkerSize | None = Field(
        default=None,
        title="Default worker",
        description="What a worker has where the gateway does not let it be chosen: a claim for "
        "more is status 78 unless strict is false.",
    )

    def said(self) -> dict[str, Any]:
        """Return what the site's file says, fit for JSON."""
        return self.model_dump(mode="json", exclude_unset=True)


def matches(patterns: tuple[str, ...], text: str) -> bool:
    """Whether one of the patterns is that of the whole text."""
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def gateway_allowed(patterns: tuple[str, ...], url: str) -> bool:
    """Whether the origin of a gateway is that of one of the patterns.

    Only origins are compared: in a whole address `*` would reach over the end of the host.
    """
    here = units.origin(url)
    return any(fnmatchcase(here, origin) for origin in _origins(patterns))


def _origins(patterns: tuple[str, ...]) -> Iterator[str]:
    for pattern in patterns:
        scheme, _, rest = pattern.rstrip("/").partition("://")
        has_port = rest.rpartition(":")[2].rstrip("*?").isdigit() or rest.endswith(":*")
        port = {"http": ":80", "https": ":443"}.get(scheme, "")
        yield f"{scheme}://{rest}{'' if has_port else port}".lower()
