"""Clusters that others make: a running scheduler, a runner's cluster, the program's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_claim.claim.addresses import is_loopback
from dask_claim.claim.choice import CLUSTER_NAMES, SCHEDULER_ADDRESS
from dask_claim.errors import ClusterFailed, ConfigurationError, DaskClaimError, TemporaryError
from dask_claim.files import remove_private_folder
from dask_claim.imports import import_dask
from dask_claim.providers.base import Provider
from dask_claim.providers.values import Cluster, Outcome, Request, Ticket, Warn, Write
from dask_claim.providers.versions import differences_of_client
from dask_claim.redact import redact
from dask_claim.threads import in_time, run_loop

if TYPE_CHECKING:
    from dask_gateway.client import ClusterReport

    from dask_claim.claim.addresses import GatewayAddress
    from dask_claim.claim.model import Resolved

CONNECT_TIMEOUT = 10.0
"""Seconds for a scheduler, which may be starting, to write its file and to take a connection."""


class AttachProvider(Provider):
    """A cluster of others: checked before the command depends on it, never ended."""

    name = "attach"
    makes_cluster = False
    adopts = True

    def __init__(self, request: Request, write: Write, warn: Warn) -> None:
        super().__init__(request, write, warn)
        self._report: ClusterReport | None = None
        self._timeout = min(request.start_timeout, CONNECT_TIMEOUT)
        existing = request.plan.choice.existing
        if existing is None:
            raise ConfigurationError(
                f"provider 'attach' needs the address of a running scheduler in "
                f"{SCHEDULER_ADDRESS}, or a gateway and the name of its cluster in "
                f"{CLUSTER_NAMES[0]}; neither is set"
            )
        self._variable, self._name = existing.variable, existing.cluster_name
        self._run = existing.run
        self._file = existing.scheduler_file
        if self._name is None:
            where = f"of {self._file}" if self._file else f"at {existing.scheduler_address}"
            self.description = f"the running scheduler {where}"
            self.cluster = Cluster(scheduler_address=existing.scheduler_address)
            return
        assert request.gateway is not None
        self.of_gateway, self._gateway = True, request.gateway
        where = f"the Dask Gateway at {redact(self._gateway.url)}"
        self.description = f"cluster {self._name} of {where}, named by {self._variable}"

    def announcement(self) -> str:
        using = f"sing {self.description}; it will not be stopped"
        return f"Attached to run {self._run}: u{using}" if self._run else f"U{using}"

    async def submit(self) -> None:
        if self._name is not None:
            await self._find_on_gateway(self._name)
        elif self._file is not None:
            try:
                address = await self._soon(self._read_address, DaskClaimError)
            except OSError as error:
                where = f"{self._variable} = {self._file}"
                raise ConfigurationError(f"{where}: cannot be read: {error.strerror}") from None
            self.cluster = Cluster(scheduler_address=address)

    async def _read_address(self) -> str:
        """The address in the scheduler file, which its scheduler may be about to write."""
        where = f"{self._variable} = {self._file}"
        try:
            address = json.loads(Path(str(self._file)).read_bytes())["address"]
            if isinstance(address, str):
                return address
        except FileNotFoundError:
            raise TemporaryError(
                f"{where}: there is no such file; does its scheduler run?"
            ) from None
        except (ValueError, LookupError, TypeError):
            pass
        raise ConfigurationError(f"{where}: this is not a scheduler file: no address")

    async def _soon(self, step: Callable[[], Awaitable[str]], kind: type[DaskClaimError]) -> str:
        """Repeat what fails with such an error, for a scheduler that may be starting.

        Dask, too, tries again, but gives up too soon where its clock jumps.
        """
        now = asyncio.get_running_loop().time
        # Where all of the start may last no longer, its own end tells what was in the way.
        end = now() + CONNECT_TIMEOUT
        while True:
            try:
                return await step()
            except kind as error:
                if now() > end - 1.0:  # both clocks are not exact
                    raise
                self.obstacle = str(error)
            await asyncio.sleep(0.1)

    async def _find_on_gateway(self, name: str) -> None:
        from dask_claim.providers.gateway.api import GatewayApi
        from dask_claim.providers.gateway.asking import Patience
        from dask_claim.providers.gateway.connection import check_proxy_address
        from dask_claim.providers.gateway.reports import status_of

        check_proxy_address(self._gateway)
        api = GatewayApi(self._gateway)
        try:
            self._report = report = await Patience(self).ask(lambda: api.settled(name))
            if (status := status_of(report)) != "RUNNING":
                raise ClusterFailed(f"{self.description}: the gateway says it is {status}")
            self.cluster = api.cluster(name, report)
        finally:
            await api.close()

    async def wait_until_running(self) -> None:
        from dask_claim.providers.gateway.asking import Patience

        strict = self.request.claim.versions == "strict"
        if self._name and not strict:
            return

        async def connect() -> str:
            async with self._client() as client:
                return differences_of_client(await client.get_versions()) if strict else ""

        # A platform names a scheduler whose pod may have yet to start; here it would be there.
        address = self.cluster.scheduler_address or ""
        late = not is_loopback(address)
        if not late:  # Dask tries again until its own timeout, and does not say why
            self.obstacle = f"no scheduler answers at {address} ({self._variable})"
        trying = Patience(self).ask(connect) if late else self._soon(connect, TemporaryError)
        if differences := await trying:
            raise ConfigurationError(f"{differences} (versions: strict)")
        self.obstacle = None

    def security(self) -> Any:
        return self._report.security if self._report else None

    async def wait_for_workers(self, count: int) -> None:
        if not count:
            return
        async with self._client() as client:
            await client.wait_for_workers(count)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        """A client of the scheduler; a `DaskClaimError` where that is not reached, or lost."""
        Client = import_dask("distributed").Client
        address = self.cluster.scheduler_address
        where = address if self._name else f"{self._variable} = {address}"
        try:
            client = Client(
                address, security=self.security(), asynchronous=True, timeout=self._timeout
            )
            try:
                await client
                yield client
            finally:
                await client.close()
        except (TypeError, ValueError) as error:
            why = str(error)
            if "TLS" in why:  # Dask's TypeError where it has no keys
                why = (
                    "this scheduler speaks TLS, and there are no keys for it here: set "
                    "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__CLIENT__CERT and …__CLIENT__KEY, "
                    "as the command of a run has them"
                )
            raise ConfigurationError(f"{where}: {why}") from error
        except (OSError, asyncio.TimeoutError) as error:
            named = "through the gateway's proxy, proxy_url" if self._name else self._variable
            raise TemporaryError(
                f"no scheduler answers at {address} ({named}): {error}. Is it running, and "
                "reachable from here?"
            ) from error


def outside_ended_run(resolved: Resolved) -> Resolved:
    """Return a claim as it is outside a run whose cluster has ended, as its gateway says.

    A gateway that does not answer says nothing: the cluster may run.
    """
    choice, gateway = resolved.plan().choice, resolved.gateway()
    existing = choice.existing if choice.run else None
    if existing is None or existing.cluster_name is None or gateway is None:
        return resolved
    status = run_loop(_status(gateway, existing.cluster_name))
    if status in (None, "PENDING", "RUNNING"):
        return resolved
    return resolved.outside(existing, f"is {status}, as its gateway says")


async def _status(gateway: GatewayAddress, name: str) -> str | None:
    """Return the gateway's word for the state of a cluster; None where it does not answer."""
    from dask_claim.providers.gateway.api import GatewayApi
    from dask_claim.providers.gateway.reports import status_of

    api = GatewayApi(gateway)
    try:
        return status_of(await in_time(api.report(name), CONNECT_TIMEOUT))
    except (DaskClaimError, asyncio.TimeoutError):
        return None
    finally:
        await api.close()


class NoProvider(Provider):
    """`create: false`: the program makes its own cluster; the claim only maps names."""

    name = "none"
    uses_gateway = True
    asks_with_dask = False
    makes_cluster = False
    description = "the program makes its own cluster (create: false)"
    title = "what the command has made itself"

    def __init__(self, request: Request, write: Write, warn: Warn) -> None:
        super().__init__(request, write, warn)
        self.cluster = Cluster(gateway=request.gateway)

    def announcement(self) -> str:
        return self.description[0].upper() + self.description[1:]

    async def submit(self) -> None: ...

    async def wait_until_running(self) -> None: ...

    @classmethod
    async def reclaim(cls, ticket: Ticket, timeout: float, warn: Callable[[str], None]) -> Outcome:
        """Take away the files that a command was given; there is no cluster of ours."""
        if ticket.folder is not None:
            remove_private_folder(ticket.folder)
        return Outcome.NOTHING
