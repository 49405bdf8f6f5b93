"""What the environment already has of Dask: a scheduler, or a cluster that a runner has made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dask_claim.errors import ConfigurationError

SCHEDULER_ADDRESS = "DASK_SCHEDULER_ADDRESS"

CLUSTER_NAMES = ("DASK_CLUSTER", "DASK_GATEWAY_CLUSTER")
CLUSTER_NAME_FILE = "DASK_CLUSTER_NAME_PATH"
"""Where runners' own extensions put the name of a cluster that they have made."""

GATEWAY_ADDRESSES = ("DASK_GATEWAY__ADDRESS", "DASK_GATEWAY_URL")
"""Where they put their gateway's address."""


@dataclass(frozen=True)
class Existing:
    """A gateway's cluster that a runner has made for this tool."""

    name: str
    variable: str
    """Which one says it."""

    gateway_url: str | None
    """Its gateway; None where the runner leaves that to Dask's configuration or the claim."""


def existing_cluster(environ: Mapping[str, str]) -> Existing | None:
    """Return the runner's own cluster, None if there is none.

    Raises
    ------
    ConfigurationError
        The file that holds the name cannot be read.
    """
    said = [environ.get(variable, "").strip() for variable in GATEWAY_ADDRESSES]
    url = next((address.rstrip("/") for address in said if address), None)
    for variable in CLUSTER_NAMES:
        if name := environ.get(variable, "").strip():
            return Existing(name, variable, url)
    if path := environ.get(CLUSTER_NAME_FILE, "").strip():
        try:
            name = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{CLUSTER_NAME_FILE} = {path}: the name of the runner's cluster cannot be read: "
                f"{getattr(error, 'strerror', None) or error}"
            ) from None
        if name:
            return Existing(name, CLUSTER_NAME_FILE, url)
    return None
