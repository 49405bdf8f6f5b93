"""What the command finds in its environment: the only owner of those variable names.

The launcher turns a `Handoff` into variables; inside the command `load_security` turns them back
into what an unmodified `distributed.Client()` needs.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dask_claim.claim import Claim

SCHEDULER_ADDRESS = "DASK_SCHEDULER_ADDRESS"
CLUSTER_NAME = "DASK_CLUSTER"
GATEWAY_ADDRESS = "DASK_GATEWAY__ADDRESS"
GATEWAY_PROXY = "DASK_GATEWAY__PROXY_ADDRESS"
GATEWAY_PUBLIC = "DASK_GATEWAY__PUBLIC_ADDRESS"
GATEWAY_USER = "DASK_GATEWAY__AUTH__KWARGS__USERNAME"
SECURITY_LOADER = "DASK_DISTRIBUTED__CLIENT__SECURITY_LOADER"
DASK_CONFIG = "DASK_CONFIG"

# Importing dask_gateway copies a configuration file to DASK_CONFIG, by default ~/.config/dask,
# and HOME is the output directory of a CWL tool. Nothing can be copied into /dev/null, and it
# reads as an empty configuration; ~/.config/dask is still read besides.
NOWHERE = "/dev/null"


@dataclass(frozen=True)
class Handoff:
    """Where the claimed cluster is, as far as it is known when the command starts."""

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
    """The name to log in with, where this system has none for the user (see `nameless_user`)."""

    def variables(self, claim: Claim, inherited: Mapping[str, str]) -> dict[str, str]:
        """The variables to add to those `inherited`; nothing else changes for the command."""
        found = {
            SCHEDULER_ADDRESS: self.scheduler_address,
            CLUSTER_NAME: self.cluster_name,
            GATEWAY_ADDRESS: self.gateway_url,
            GATEWAY_PROXY: self.proxy_url,
            GATEWAY_PUBLIC: self.public_url,
            GATEWAY_USER: self.gateway_user,
        }
        if self.cluster_name is not None:
            found[SECURITY_LOADER] = f"{load_security.__module__}.{load_security.__qualname__}"
        if DASK_CONFIG not in inherited:
            found[DASK_CONFIG] = NOWHERE
        for field, name in claim.env.items():
            found[name] = _text(self._value(claim, field))
        return {name: value for name, value in found.items() if value is not None}

    def markers(self, variables: Mapping[str, str]) -> list[str]:
        """Of the command's `variables` those that together mark the processes of one run."""
        names = (SCHEDULER_ADDRESS, CLUSTER_NAME, SECURITY_LOADER, DASK_CONFIG)
        return [f"{name}={variables[name]}" for name in names if name in variables]

    def _value(self, claim: Claim, field: str) -> object:
        if field in ("cluster_name", "scheduler_address", "dashboard_url"):
            return getattr(self, field)
        if field == "gateway_url" and self.gateway_url is not None:
            return self.gateway_url
        return getattr(claim, field)


def _text(value: object) -> str | None:
    """A value as a program reads it from a variable: `4`, `0.5`, `4 G`, `true`, or JSON."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    return str(value)


def nameless_user() -> str | None:
    """A name for the user where the system has none, else None.

    A container may run under a uid without a passwd entry, and Dask Gateway's basic
    authentication then fails with a KeyError. The launcher and the command must agree on the name.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
    return None


def load_security(info: Mapping[str, Any]) -> Any:
    """Dask's security loader: TLS credentials of a gateway's cluster, asked from the gateway.

    Called by `distributed.Client()` inside the command, whether it is synchronous or not. While
    the cluster is still starting (`--start eager`) it waits; the launcher bounds that wait.

    Parameters
    ----------
    info : mapping
        With the scheduler's `address`. One that is no gateway's needs nothing: None is returned.

    Raises
    ------
    RuntimeError
        The cluster is stopped or was refused.
    """
    address = info["address"]
    if not address.startswith("gateway://"):
        return None
    outcome: list[Any] = []

    def ask() -> None:
        try:
            outcome.append(asyncio.run(_ask_gateway(address.rpartition("/")[2])))
        except BaseException as error:
            outcome.append(error)

    # A thread: the caller may stand inside a running event loop.
    thread = threading.Thread(target=ask, name="dask-claim-security", daemon=True)
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


async def _ask_gateway(name: str) -> Any:
    from dask_gateway import Gateway

    async with Gateway(asynchronous=True) as gateway:
        while True:
            report = await gateway.get_cluster(name, wait=True)
            if report.status.name == "RUNNING":
                return report.security
            if report.status.name != "PENDING":
                raise RuntimeError(
                    f"the claimed cluster {name} cannot be used: the gateway at "
                    f"{gateway.address} says it is {report.status.name}"
                )
            await asyncio.sleep(0.1)
