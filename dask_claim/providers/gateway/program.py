"""Clusters that a program makes itself on a gateway (`create: false`): how they are recognised.

Where the gateway takes variables among its options, the program's own requests carry the run's mark
as one of them, by the defaults for options in Dask's configuration, and the gateway's list repeats
it. Elsewhere clusters that are new and that no launcher holds are only named in a warning.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace

from dask_claim.errors import AuthenticationError
from dask_claim.imports import import_dask
from dask_claim.providers.existing import NoProvider
from dask_claim.providers.gateway.asking import Patience
from dask_claim.providers.gateway.connection import check_proxy_address
from dask_claim.providers.gateway.filling import variables_option
from dask_claim.providers.gateway.reports import MARK, Mark
from dask_claim.providers.values import Request, Ticket, Warn, Write
from dask_claim.redact import redact

ASK_TIMEOUT = 10.0


class MarkingProvider(NoProvider):
    """Writes the ticket by which clusters of the program are recognised."""

    may_fall_back = True

    def __init__(self, request: Request, write: Write, warn: Warn) -> None:
        super().__init__(request, write, warn)
        assert request.gateway is not None
        self._gateway = request.gateway
        where = redact(request.gateway.url)
        self.description = f"the Dask Gateway at {where}: {NoProvider.description}"

    async def submit(self) -> None:
        await asyncio.to_thread(import_dask, "dask_gateway")
        module = import_dask("dask_claim.providers.gateway.api")
        request = self.request
        check_proxy_address(self._gateway)
        patience = Patience(self)
        try:
            api = module.GatewayApi(self._gateway, ASK_TIMEOUT)
            try:
                options = await patience.ask(lambda: api.options(for_program=True))
                before = [report.name for report in await patience.ask(api.clusters)]
            finally:
                await api.close()
        except AuthenticationError as error:
            # The program may have credentials of its own.
            self._warn(f"cannot track clusters that the command creates: {error}")
            return
        mark = str(Mark(request.run_id, leased=False))
        name = variables_option(options, request.gateway_options)
        if name is not None and name != name.lower():
            name = None  # Dask's configuration, the way to the program, has lower case only
        self._write(
            Ticket(
                "gateway",
                {
                    "gateway": asdict(self._gateway),
                    "made": {"option": name, "mark": mark, "before": before},
                },
                after_command=True,
                login=api.login,
            )
        )
        defaults = {name: {**(options[name] or {}), MARK: mark}} if name else {}
        self.cluster = replace(self.cluster, option_defaults=defaults)
