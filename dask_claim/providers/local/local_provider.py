"""A LocalCluster in this container, held by the launcher through a process of its own."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from dask_claim.claim.plan import GATEWAY_NAMES, speaks_gateway
from dask_claim.files import remove_private_folder
from dask_claim.processes import ended, group_runs, kill_group
from dask_claim.providers.hosted import KILLED_WITHIN, HostedProvider
from dask_claim.providers.local.size import LocalRequest
from dask_claim.providers.values import Cluster, Outcome, Ticket

if TYPE_CHECKING:
    from dask_claim.claim.fields import ClaimFields

INSTALL = "install dask-claim[local-gateway]"

ORPHANS_END_WITHIN = 2.0
"""Seconds in which workers notice that the process that held them is gone."""


class LocalProvider(HostedProvider):
    """Starts and ends the process that holds the cluster (see `cluster_host`)."""

    name = "local"
    same_machine = True
    title = "the local cluster"
    host = Path(__file__).with_name("cluster_host.py")
    description = "this machine (LocalCluster)"

    @classmethod
    def serves_with(cls, claim: ClaimFields) -> tuple[str, str | None]:
        """Start a gateway of this run for a program that speaks to one."""
        missing = server_missing(claim)
        # Without a cluster of ours there is nothing for such a command: its check refuses it.
        needed = missing is not None and claim.strict and not claim.create
        if speaks_gateway(claim) and (has_server() or needed):
            return "local-gateway-cluster" if claim.create else "local-gateway", None
        return super().serves_with(claim)[0], missing

    async def _use(self, event: Mapping[str, Any]) -> None:
        self.cluster = Cluster(
            scheduler_address=event["scheduler_address"],
            dashboard_url=event["dashboard_url"],
            tls_folder=self._folder,
        )
        self._workers = (event["min_workers"], event["max_workers"])
        self.notice = event["notice"]
        if event["shortfall"]:
            self._warn(event["shortfall"])

    def _host_request(self) -> dict[str, Any]:
        return asdict(self._size())

    def _size(self) -> LocalRequest:
        claim, plan = self.request.claim, self.request.plan
        return LocalRequest(
            plan.min_workers,
            plan.max_workers,
            claim.worker_cores,
            claim.worker_cores_limit,
            claim.worker_memory.bytes if claim.worker_memory else None,
            unsaid=claim.leaves_workers_open(),
            local_cores=claim.local_cores,
            local_memory=claim.local_memory.bytes if claim.local_memory else None,
            policy=self.request.policy.amounts() if self.request.policy else {},
        )

    async def scale(self) -> tuple[int, int]:
        return self._workers

    @classmethod
    async def reclaim(cls, ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> Outcome:
        group, gone = ticket.process, True
        if group is not None:
            # What has lost its leader does not end in order.
            patience = min(timeout, ORPHANS_END_WITHIN) if ended(group) else timeout
            if not await group_is_gone(group, patience):
                # What is left of the session: a host that hangs, or workers that outlived it.
                kill_group(group)
            gone = await group_is_gone(group, KILLED_WITHIN)
        if ticket.folder:
            remove_private_folder(ticket.folder)
        if group is None:
            return Outcome.NOTHING
        return Outcome.GONE if gone else Outcome.NOT_CONFIRMED


def has_server() -> bool:
    """Whether dask-gateway-server is installed."""
    return importlib.util.find_spec("dask_gateway_server") is not None


def server_missing(claim: ClaimFields) -> str | None:
    """Return what a command of this claim will miss without a gateway's server, None if nothing."""
    name = next((name for name in GATEWAY_NAMES if name in claim.env), None)
    if name is None or has_server():
        return None
    return (
        f"env.{name} of the claim needs a gateway, and there is none; one on this machine needs "
        f"dask-gateway-server: {INSTALL}"
    )


async def group_is_gone(group: int | None, timeout: float) -> bool:
    """Return whether no process of a group runs any more, after `timeout` seconds at most."""
    deadline = monotonic() + timeout
    while group_runs(group):
        if monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True
