"""The requests to a gateway: its options, clusters and their workers."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dask_claim.claim.dask_config import filled_in
from dask_claim.errors import (
    ClusterGone,
    ConfigurationError,
    GatewayUnreachable,
    LimitReached,
    OptionError,
)
from dask_claim.providers.gateway.answers import Refused, one_line
from dask_claim.providers.gateway.connection import GatewayConnection
from dask_claim.providers.gateway.reports import status_of
from dask_claim.providers.values import Cluster, Ended

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from dask_gateway.client import ClusterReport
    from dask_gateway.options import Options

    from dask_claim.claim.plan import Plan

# Dask's own setting for defaults of a gateway's options.
KEY = "gateway.cluster.options"

# One that has restarted may not know its clusters at once; seconds.
ASK_AGAIN_AFTER = 1.0

# A gateway refuses a creation for whatever reason with 422: only its words tell the number of
# clusters, of which one ends sooner or later, from the size of this one, which stays too large.
_CLUSTERS = re.compile(
    r"\bclusters\b|\b(one|more|another) cluster\b|\bcluster (limit|quota)\b", re.I
)
_LIMIT = re.compile(r"limit|quota|maximum|too many|exceed|at most|more than|only|already", re.I)
_SIZE = re.compile(
    r"worker|memory|\bcores?\b|\bcpus?\b|\bgpus?\b|image|node|\d *[KMGT](i?B)?\b", re.I
)
_IN_USE = re.compile(r"\b(in use|already (us|hav|hold)\w+|already active|used up)\b", re.I)

_CEILING = re.compile(r"limit of (\d+) workers")


class DefaultsError(ConfigurationError):
    """The defaults in Dask's configuration do not fit what the gateway offers."""


class GatewayApi(GatewayConnection):
    """The clusters of one gateway, and what it offers for them."""

    async def version(self) -> str:
        """The gateway's version, which it tells without credentials."""

        async def question() -> str:
            answer = await self.request("GET", f"{self.address}/api/version")
            return str((await answer.json())["version"])

        return await self.ask(question)

    async def options(self, *, for_program: bool = False) -> Options:
        """What the gateway offers, with its defaults.

        Those in Dask's configuration are for gateways that an operator names; a program sends them
        to any, `for_program`.
        """

        async def question() -> Options:
            from dask_gateway.options import Options

            answer = await self.request("GET", f"{self.address}/api/v1/options")
            return Options(*map(_field, (await answer.json())["cluster_options"]))

        options = await self.ask(question)
        if self.gateway.trusted or for_program:
            self._take_defaults(options)
        return options

    def _take_defaults(self, options: MutableMapping[str, Any]) -> None:
        import dask.config

        where = "in Dask's configuration"
        defaults, faults = dask.config.get(KEY, None) or {}, []
        if not isinstance(defaults, Mapping):
            raise DefaultsError(f"{KEY} {where}: must be a mapping of names and values")
        # Variables have given Dask names in lower case.
        offered = {**{name.lower(): name for name in options}, **{name: name for name in options}}
        for name, value in defaults.items():
            try:
                options[offered[name]] = filled_in(value, os.environ)
            except KeyError:
                offers = ", ".join(options) or "none"
                faults.append(f"{KEY}.{name} {where}: unknown option; {self.where} offers {offers}")
            except (TypeError, ValueError) as error:
                faults.append(f"{KEY}.{name} {where}: {error}")
        if faults:
            raise DefaultsError("\n".join(faults))

    async def create(self, options: Options) -> str:
        """Request a cluster; return its name. `LimitReached` where there may be room later."""
        try:
            return str(await self.ask(lambda: self.client.submit(options)))
        except Refused as error:
            if _is_passing_limit(str(error)):
                raise LimitReached(f"{self.where} refuses for now: {error}") from error
            raise OptionError(f"{self.where} refuses the claim: {error}") from error

    async def report(self, name: str, *, wait: bool = False) -> ClusterReport | None:
        """The state of a cluster, None where the gateway does not know it (any more).

        After a restart a gateway may not have read its clusters yet, so it is asked again, and for
        its list. `wait` lets a gateway answer later, when a pending cluster has changed.
        """
        if report := await self._look_up(name, wait):
            return report
        await asyncio.sleep(ASK_AGAIN_AFTER)
        if any(report.name == name for report in await self.clusters()):
            raise GatewayUnreachable(f"{self.where} lists cluster {name}, but has no report of it")
        return await self._look_up(name)

    async def _look_up(self, name: str, wait: bool = False) -> ClusterReport | None:
        try:
            return await self.ask(lambda: self.client.get_cluster(name, wait=wait))
        except Refused as error:
            if error.status == 404 and name in str(error):
                return None
            raise GatewayUnreachable(
                f"{self.where} gives no answer about cluster {name}: {error}"
            ) from error

    async def settled(self, name: str) -> ClusterReport | None:
        """The report of a cluster once it is not pending any more; None where it is unknown."""
        while status_of(report := await self.report(name, wait=True)) == "PENDING":
            await asyncio.sleep(0.1)
        return report

    async def ended(self, name: str) -> Ended | None:
        """How a cluster that was running has ended; None while the gateway says that it runs."""
        status = status_of(await self.report(name))
        if status in ("PENDING", "RUNNING"):
            return None
        how = "has ended by itself" if status == "FAILED" else "was ended by somebody else"
        return Ended(f"{how}: {self.where} says it is {status.lower()}")

    def cluster(self, name: str, report: ClusterReport | None) -> Cluster:
        """The addresses of a cluster that has a name; `report`: once it is running."""
        return Cluster(
            # As the client forms both from a name; its report has them only once it is running.
            scheduler_address=f"{self.proxy_address}/{name}",
            dashboard_url=(report.dashboard_link if report else None)
            or f"{self.public_address}/clusters/{name}/status",
            cluster_name=name,
            gateway=replace(self.gateway, url=self.address, proxy_url=self.proxy_address),
        )

    async def clusters(self) -> list[ClusterReport]:
        """All clusters of this user that are not gone yet."""
        reports: list[ClusterReport] = await self.ask(
            lambda: self.client.list_clusters(status=["PENDING", "RUNNING", "STOPPING"])
        )
        return reports

    async def resize(self, name: str, plan: Plan) -> tuple[int, str | None]:
        """Ask for the plan's workers.

        Returns
        -------
        tuple of int and str or None
            How many workers there will be at most, and the gateway's words where it gives fewer
            than the plan's maximum.

        Raises
        ------
        ClusterGone
            There is no such cluster any more: only another one can help.
        GatewayUnreachable
            The gateway cannot do it now, but later.
        """
        bounds = {"minimum": plan.min_workers, "maximum": plan.max_workers, "active": True}
        how, workers = "adapt", bounds
        if plan.scaling == "scale":
            how, workers = "scale", {"count": plan.max_workers}
        url = f"{self.address}/api/v1/clusters/{name}/{how}"
        try:
            # The client's own methods give the answer as a Python warning only.
            answer = await self.ask(lambda: self.request("POST", url, workers))
            return await _granted(answer, plan.max_workers)
        except (LimitReached, Refused) as error:
            # "is not running" may mean not yet, and not any more.
            if (status := status_of(await self.report(name))) not in ("PENDING", "RUNNING"):
                gone = f"cluster {name} is gone: {self.where} says it is {status}"
                raise ClusterGone(gone) from error
            if isinstance(error, Refused) and error.status != 404:
                raise
            raise GatewayUnreachable(
                f"{self.where} cannot give cluster {name} its workers now: {error}"
            ) from error

    async def delete(self, name: str) -> None:
        """Ask the gateway to end a cluster; an unknown one is no error."""
        await self.ask(lambda: self.client.stop_cluster(name))


def _field(description: Mapping[str, Any]) -> Any:
    """Return an option as its client has it, including those of types that it does not know."""
    from dask_gateway.options import Field

    settings = dict(description["spec"])
    kind = settings.pop("type")
    field_type = Field._field_types.get(kind)
    if field_type is None:
        # Of a newer server, which alone checks its values.
        field_type = type(str(kind), (Field,), {"validate": lambda _, value: value})
        settings = {}
    accepted = inspect.signature(field_type.__init__).parameters
    settings = {name: value for name, value in settings.items() if name in accepted}
    return field_type(
        description["field"], description["default"], label=description["label"], **settings
    )


async def _granted(answer: ClientResponse, maximum: int) -> tuple[int, str | None]:
    """Return how many workers an answer to a resize allows, and its words where these are fewer.

    The server says it in a sentence; where that has no number the plan's `maximum` stays.
    """
    try:
        content = await answer.json()
        words = "" if content.get("ok", True) else one_line(content["msg"] or "")
    except Exception:
        words = ""  # nothing, or nothing understood: the request itself was accepted
    if not words:
        return maximum, None
    limit = _CEILING.search(words)
    return (min(int(limit[1]), maximum) if limit else maximum), words


def _is_passing_limit(words: str) -> bool:
    """Whether a refused request has room once another cluster, of this user or the site, ends."""
    if _IN_USE.search(words):
        return True
    return bool(_CLUSTERS.search(words) and _LIMIT.search(words) and not _SIZE.search(words))
