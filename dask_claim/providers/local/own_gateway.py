"""A Dask Gateway of this run on this machine, for programs that speak only Gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.errors import ClusterFailed, ConfigurationError, GatewayUnreachable
from dask_claim.files import letters
from dask_claim.imports import import_dask
from dask_claim.providers.gateway.asking import Patience
from dask_claim.providers.gateway.reports import status_of
from dask_claim.providers.local.local_provider import LocalProvider, server_missing
from dask_claim.providers.local.size import fit_here
from dask_claim.providers.values import Cluster, Ended, Request, Warn, Write

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport

    from dask_claim.providers.gateway.api import GatewayApi


class OwnGatewayProvider(LocalProvider):
    """`create: false`: the gateway alone; the program makes its clusters on it.

    They end with the process that holds the gateway, so no ticket needs to name them.
    """

    makes_cluster = False
    starts_gateway = True
    title = "the Dask Gateway of this run"
    reports_usage = False
    host = Path(__file__).with_name("gateway_host.py")
    content = "gateway"
    description = (
        "a Dask Gateway on this machine, for clusters that the program makes (create: false)"
    )

    def announcement(self) -> str:
        return f"Claiming {self.description}"

    def check(self) -> None:
        super().check()
        if missing := server_missing(self.request.claim):
            raise ConfigurationError(missing)

    def _host_request(self) -> dict[str, Any]:
        claim, self._password = self.request.claim, letters()
        return {
            "password": self._password,
            "size": asdict(self._size()),
            "worker_memory": claim.worker_memory and str(claim.worker_memory),
            "image": claim.image,
            "environment": dict(claim.environment),
            "options": dict(claim.options),
        }

    async def _use(self, event: Mapping[str, Any]) -> None:
        url, proxy = event["gateway_url"], event["proxy_url"]
        self.cluster = Cluster(gateway=GatewayAddress(url, proxy, url, password=self._password))

    async def wait_until_running(self) -> None:
        """It runs: there is nothing else of it."""


class OwnGatewayClusterProvider(OwnGatewayProvider):
    """The gateway, and the claimed cluster on it."""

    makes_cluster = True
    of_gateway = True
    description = "this machine, through a Dask Gateway of this run"

    announcement = LocalProvider.announcement

    def __init__(self, request: Request, write: Write, warn: Warn) -> None:
        super().__init__(request, write, warn)
        self._api: GatewayApi | None = None
        self._report: ClusterReport | None = None

    async def _use(self, event: Mapping[str, Any]) -> None:
        await super()._use(event)
        # In a thread, for the import may have to wait for another one.
        api_module = await asyncio.to_thread(import_dask, "dask_claim.providers.gateway.api")
        size = self._fitted = await asyncio.to_thread(fit_here, self._size())
        claim = self.request.claim
        self._api = api = api_module.GatewayApi(self.cluster.gateway)
        options = await api.options()
        options.update(
            worker_cores=claim.worker_cores or claim.worker_cores_limit or size.threads,
            worker_cores_limit=claim.worker_cores_limit or claim.worker_cores or size.threads,
            worker_memory=str(size.memory),
            environment=dict(claim.environment),
        )
        self._set_cluster(await api.create(options))

    def _set_cluster(self, name: str) -> None:
        assert self._api is not None
        cluster = self._api.cluster(name, self._report)
        # Any user of this machine could look at the dashboard.
        self.cluster = replace(cluster, dashboard_url=None)

    async def wait_until_running(self) -> None:
        api, name = self._api, self.cluster.cluster_name
        assert api is not None and name is not None
        self._report = await api.settled(name)
        if status_of(self._report) != "RUNNING":
            raise ClusterFailed("the cluster did not start; its own messages are above")
        self._set_cluster(name)

    async def scale(self) -> tuple[int, int]:
        api, size, name = self._api, self._fitted, self.cluster.cluster_name
        assert api is not None and name is not None
        minimum, maximum = size.min_workers, size.max_workers
        plan = replace(
            self.request.plan,
            min_workers=minimum,
            max_workers=maximum,
            scaling="scale" if minimum == maximum else "adapt",
        )
        await Patience(self).ask(lambda: api.resize(name, plan), GatewayUnreachable)
        self.notice = size.notice
        if size.shortfall:
            self._warn(size.shortfall)
        return minimum, maximum

    def security(self) -> Any:
        assert self._report is not None
        return self._report.security

    async def ended(self, patience: float = 0.0) -> Ended | None:
        ended = await super().ended(patience)
        if ended is None and self._api is not None and (name := self.cluster.cluster_name):
            return await self._api.ended(name)
        return ended

    async def close(self) -> None:
        if self._api is not None:
            await self._api.close()
        await super().close()
