"""What the command finds in its environment: the only owner of those variable names.

`variables` turns a cluster into them; inside the command `load_security` turns them back into
what an unmodified `distributed.Client()` needs.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.choice import RUN_ID, SCHEDULER_ADDRESS
from dask_claim.claim.dask_config import goes_direct
from dask_claim.claim.names import find_conflicts
from dask_claim.credentials.login import choose
from dask_claim.errors import ClaimError
from dask_claim.files import make_private_folder, private_path, write_whole
from dask_claim.imports import dask_config
from dask_claim.providers import tls
from dask_claim.providers.values import Cluster, Ticket
from dask_claim.registry import provider_class
from dask_claim.threads import run_loop

if TYPE_CHECKING:
    from dask_claim.claim.model import Claim
    from dask_claim.claim.plan import Plan

CLUSTER_NAME = "DASK_CLUSTER"
GATEWAY_ADDRESS = "DASK_GATEWAY__ADDRESS"
GATEWAY_PROXY = "DASK_GATEWAY__PROXY_ADDRESS"
GATEWAY_PUBLIC = "DASK_GATEWAY__PUBLIC_ADDRESS"
GATEWAY_HTTP_PROXY = "DASK_GATEWAY__HTTP_CLIENT__PROXY"
GATEWAY_OPTION = "DASK_GATEWAY__CLUSTER__OPTIONS__"
DASHBOARD_LINK = "DASK_DISTRIBUTED__DASHBOARD__LINK"
CLIENT_NAME = "DASK_CLIENT_NAME"
"""A part of the ids of Dask's clients, which tells a shared scheduler whose they are."""

SECURITY_LOADER = "DASK_DISTRIBUTED__CLIENT__SECURITY_LOADER"

RESULT_FILES = {"scheduler_file": "scheduler.json", "cluster_name_file": "cluster-name"}
"""Field of the claim's `env` → name of the file."""


def variables(
    cluster: Cluster,
    claim: Claim,
    inherited: Mapping[str, str],
    run_id: str,
    files: Mapping[str, str] | None = None,
    gateway: GatewayAddress | None = None,
    shares: bool = False,
) -> dict[str, str]:
    """Return the variables to add to those `inherited`; nothing else changes for the command.

    `files` are the paths of `result_files`, by field. `gateway` is the one whose address
    `env.gateway_url` gives to a command whose cluster is not a gateway's. `shares`: whether the run
    is one of several that share the cluster.

    Raises
    ------
    ClaimError
        Dask could not read the environment that the command would have.
    """
    values: dict[str, str | None] = {
        RUN_ID: run_id,
        SCHEDULER_ADDRESS: cluster.scheduler_address,
        CLUSTER_NAME: cluster.cluster_name,
        **dask_config(inherited),
    }
    if cluster.tls_folder is not None:
        values |= _keys(cluster, cluster.tls_folder)
    if cluster.cluster_name is not None:
        values[SECURITY_LOADER] = f"{load_security.__module__}.{load_security.__qualname__}"
    shown = cluster.gateway or (gateway if "gateway_url" in claim.env else None)
    if shown is not None:
        # Whatever else the command is configured with, it could send to that address.
        values |= choose(shown, inherited).variables
    # A name that the user has chosen stays; so does that of a run around this one, unless this one
    # has a part of its own.
    if shares and inherited.get(CLIENT_NAME) in (None, inherited.get(RUN_ID)):
        values[CLIENT_NAME] = run_id
    if cluster.gateway is not None:
        values |= _addresses(cluster.gateway, inherited)
    for option, value in cluster.option_defaults.items():
        values[GATEWAY_OPTION + option.upper()] = repr(value)
    set_by = dict.fromkeys(values, "dask-claim")
    for field, name in claim.env.items():
        values[name] = _text(_value(cluster, claim, field, files or {}, shown))
        set_by[name] = f"env.{field} of the claim"
    added = {name: value for name, value in values.items() if value is not None}
    if faults := find_conflicts({**inherited, **added}, set_by):
        raise ClaimError(faults)
    return added


def _keys(cluster: Cluster, folder: str) -> dict[str, str | None]:
    keys: dict[str, str | None] = {**tls.in_folder(folder, "client")}
    if _host(cluster.dashboard_url) != _host(cluster.scheduler_address):
        # Where Dask would look for it. All clusters of the program get this link.
        keys[DASHBOARD_LINK] = cluster.dashboard_url
    return keys


def _addresses(gateway: GatewayAddress, inherited: Mapping[str, str]) -> dict[str, str | None]:
    direct = {GATEWAY_HTTP_PROXY: "False"} if goes_direct(gateway, inherited) else {}
    return {
        GATEWAY_ADDRESS: gateway.url,
        GATEWAY_PROXY: gateway.proxy_url,
        GATEWAY_PUBLIC: gateway.public_url,
        **direct,
    }


def check_variables(claim: Claim, plan: Plan, inherited: Mapping[str, str]) -> None:
    """Raise `ClaimError`, before anything is made, where Dask could not read the environment."""
    # Names decide, not values: any cluster of a gateway stands for the one to come.
    own = provider_class(plan.choice.backend).starts_gateway
    password = "password" if own else None
    gateway = GatewayAddress("url", password=password) if own or claim.gateway_url else None
    name = "name" if gateway and claim.create else None
    cluster = Cluster("gateway://host/name", name, "url", gateway, tls_folder="folder")
    variables(cluster, claim, inherited, "id", _contents(cluster))


def _value(
    cluster: Cluster,
    claim: Claim,
    field: str,
    files: Mapping[str, str],
    gateway: GatewayAddress | None,
) -> object:
    if field in RESULT_FILES:
        return files.get(field)
    if field in ("cluster_name", "scheduler_address", "dashboard_url"):
        return getattr(cluster, field)
    if field == "gateway_url":
        # No address without its login: the claim's field alone would tell no trust.
        return gateway and gateway.url
    return getattr(claim, field)


def _host(url: str | None) -> str | None:
    return urlsplit(url or "").hostname


def _text(value: object) -> str | None:
    """A value as a program reads it from a variable: `4`, `0.5`, `4 G`, `true`, or JSON."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    return str(value)


def _contents(cluster: Cluster) -> dict[str, str]:
    """Return field → text of its file, without what this cluster does not have."""
    texts = {}
    if cluster.scheduler_address is not None:
        # What clients read of the file that `dask scheduler --scheduler-file` writes.
        scheduler = {"type": "Scheduler", "address": cluster.scheduler_address}
        texts["scheduler_file"] = json.dumps(scheduler, indent=2)
    if cluster.cluster_name is not None:
        # No newline: not every program strips it.
        texts["cluster_name_file"] = cluster.cluster_name
    return texts


def write_result_files(
    cluster: Cluster, env: Mapping[str, str], write: Callable[[Ticket], None]
) -> dict[str, str]:
    """Write the files that `env` has names for; return field → path.

    They lie in a folder of this run that only this user can look into. `write` keeps the ticket
    by which it is removed, also where the launcher is killed.
    """
    texts = {field: text for field, text in _contents(cluster).items() if field in env}
    if not texts:
        return {}
    folder = private_path("files")
    write(Ticket("none", folder=folder))
    make_private_folder(folder)
    paths = {field: Path(folder, RESULT_FILES[field]) for field in texts}
    for field, path in paths.items():
        write_whole(path, texts[field])
    return {field: str(path) for field, path in paths.items()}


def load_security(info: Mapping[str, Any]) -> Any:
    """Dask's security loader: TLS credentials of a gateway's cluster, from the gateway.

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
            outcome.append(run_loop(_ask_gateway(address.rpartition("/")[2])))
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
