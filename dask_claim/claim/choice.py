"""Where the cluster comes from: decided here, once, from the claim and what the environment has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dask_claim.claim.units import web_address
from dask_claim.errors import ConfigurationError
from dask_claim.redact import redact
from dask_claim.registry import provider_class

if TYPE_CHECKING:
    from dask_claim.claim.fields import ClaimFields

SCHEDULER_ADDRESS = "DASK_SCHEDULER_ADDRESS"
SCHEDULER_ADDRESSES = (SCHEDULER_ADDRESS, "DASK_SCHEDULER_URI")
SCHEDULER_FILE = "DASK_SCHEDULER_FILE"
"""Where a running scheduler is named: by its address, or by the path of its scheduler file."""

OF_NO_SCHEDULER = "tcp://127.0.0.1:8080"
"""What REANA sets in each job of a workflow that has no Dask cluster."""

CLUSTER_NAMES = ("DASK_CLUSTER", "DASK_GATEWAY_CLUSTER")
CLUSTER_NAME_FILE = "DASK_CLUSTER_NAME_PATH"
"""Where runners' own extensions put the name of a cluster that they have made."""

GATEWAY_ADDRESSES = ("DASK_GATEWAY__ADDRESS", "DASK_GATEWAY_URL")
"""Where they put their gateway's address."""

RUN_ID = "DASK_CLAIM_RUN_ID"
"""The variable that all processes of one run's command have, and no others."""


@dataclass(frozen=True)
class Existing:
    """A scheduler, or a gateway's cluster, that is there already."""

    variable: str
    """The one that names it."""

    scheduler_address: str | None = None
    scheduler_file: str | None = None
    """The path of a file with that address, which its scheduler may have yet to write."""

    cluster_name: str | None = None
    gateway_url: str | None = None
    """The gateway of that cluster."""

    run: str | None = None
    """The id of the run of dask-claim around this one, if that has claimed it."""


@dataclass(frozen=True)
class Choice:
    """Where the cluster comes from."""

    provider: str
    """As the claim's field has it; never `auto`."""

    reason: str

    backend: str
    """The registry's name of the class that serves this claim: `provider`, or its substitute."""

    existing: Existing | None = None
    """What is used where the provider makes no cluster; None: the environment names nothing."""

    fallback: Choice | None = None
    """What takes its place where it cannot serve now and the claim allows that."""

    warnings: tuple[str, ...] = ()

    @property
    def run(self) -> str | None:
        """The id of the run of dask-claim around this one, whose cluster is used."""
        # A program that makes its own cluster (create: false) uses no other.
        existing = self.existing if self.backend == self.provider else None
        return existing.run if existing else None


def choose(
    claim: ClaimFields, environ: Mapping[str, str], *, by_command_line: bool = False
) -> Choice:
    """Return where the cluster of a claim comes from.

    Parameters
    ----------
    claim : ClaimFields
    environ : mapping
        The launcher's variables.
    by_command_line : bool
        Whether the command line itself names the provider: also inside another run.

    Raises
    ------
    ConfigurationError
        A file that names a scheduler or cluster cannot be read, or a package's provider not loaded.
    """
    run = None if by_command_line else environ.get(RUN_ID)
    if run and (outer := _existing(claim, environ)):
        reason = f"inside another run of dask-claim ({RUN_ID})"
        return _chosen(claim, "attach", reason, replace(outer, run=run))
    if claim.provider != "auto":
        adopts = provider_class(claim.provider).adopts
        there = _existing(claim, environ) if adopts else None
        return _chosen(claim, claim.provider, "named by the claim", there)
    cluster = _cluster(environ)
    if cluster and (cluster.gateway_url or claim.gateway_url):
        return _chosen(
            claim, "attach", f"the runner's cluster is there ({cluster.variable})", cluster
        )
    unused = () if cluster is None else (_unused(cluster),)
    if claim.gateway_url:
        return _chosen(claim, "gateway", "gateway_url is set")
    if scheduler := _scheduler(environ):
        return _chosen(claim, "attach", f"{scheduler.variable} is set", scheduler, unused)
    if job := environ.get("SLURM_JOB_ID", "").strip():
        return _chosen(claim, "allocation", f"this is Slurm's job {job}", None, unused)
    reason = f"there is neither gateway_url nor {SCHEDULER_ADDRESS}"
    return _chosen(claim, "local", reason, None, unused)


def _chosen(
    claim: ClaimFields,
    provider: str,
    reason: str,
    existing: Existing | None = None,
    warnings: tuple[str, ...] = (),
) -> Choice:
    kind = provider_class(provider)
    backend, missing = kind.serves_with(claim)
    fallback = None
    if claim.fallback != "fail" and provider_class(backend).may_fall_back:
        fallback = _chosen(claim, claim.fallback, "fallback")
    return Choice(
        provider,
        f"provider {provider}: {reason}",
        backend,
        existing,
        fallback,
        (*warnings, *([missing] if missing else [])),
    )


def _existing(claim: ClaimFields, environ: Mapping[str, str]) -> Existing | None:
    """Return what a provider that makes no cluster uses."""
    cluster = _cluster(environ)
    if cluster and (cluster.gateway_url or claim.gateway_url):
        return cluster
    return _scheduler(environ)


def _cluster(environ: Mapping[str, str]) -> Existing | None:
    """Return the cluster of a gateway that a runner has made for this tool."""
    variable, name = _first(environ, CLUSTER_NAMES)
    if not name and (path := environ.get(CLUSTER_NAME_FILE, "").strip()):
        variable, name = CLUSTER_NAME_FILE, _read(CLUSTER_NAME_FILE, path)
    if not name:
        return None
    place, url = _first(environ, GATEWAY_ADDRESSES)
    try:
        address = web_address(url) if url else None
    except ValueError as error:
        raise ConfigurationError(f"{place} = {redact(url)}: {error}") from None
    return Existing(variable, cluster_name=name, gateway_url=address)


def _scheduler(environ: Mapping[str, str]) -> Existing | None:
    variable, address = _first(environ, SCHEDULER_ADDRESSES)
    if address and not ("REANA_WORKFLOW_UUID" in environ and address == OF_NO_SCHEDULER):
        address = address if "://" in address else f"tcp://{address}"
        return Existing(variable, scheduler_address=address)
    _, path = _first(environ, (SCHEDULER_FILE,))
    return Existing(SCHEDULER_FILE, scheduler_file=path) if path else None


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    """Return the first of these variables that is set, and its value; empty texts if none is."""
    for name in names:
        if value := environ.get(name, "").strip():
            return name, value
    return "", ""


def _read(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{variable} = {path}: cannot be read: {why}") from None


def _unused(cluster: Existing) -> str:
    return (
        f"{cluster.variable} names cluster {cluster.cluster_name}, which is not used: its gateway "
        f"is unknown. Set {GATEWAY_ADDRESSES[0]} to the gateway's address"
    )
