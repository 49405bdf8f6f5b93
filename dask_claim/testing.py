"""What every provider keeps to, as tests: subclass `ProviderContract` in a package that brings one.

    class TestMine(ProviderContract):
        claim = {"provider": "mine", "max_workers": 1}

        def made(self) -> set[str]:
            return {...}  # what the backend itself lists

Each test makes real clusters, and gives them back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Set
from typing import Any, ClassVar
from urllib.parse import urlsplit

from dask_claim.claim.model import Resolved, load
from dask_claim.errors import DaskClaimError
from dask_claim.imports import import_quietly
from dask_claim.providers.base import Provider
from dask_claim.providers.values import Outcome, Request, Ticket
from dask_claim.registry import is_provider, provider_class
from dask_claim.threads import in_time

STOP_TIMEOUT = 30.0


class Refused(Exception):
    """What a `write` raises that cannot keep a ticket."""


class Kept:
    """The tickets of one provider, as the guard has them: after JSON, each replaced by newer ones.

    From the ticket of number `refuse` on none can be kept any more.
    """

    def __init__(self, refuse: int | None = None) -> None:
        self.warnings: list[str] = []
        self._written: dict[str, str] = {}
        self._count, self._refuse = 0, refuse

    def write(self, ticket: Ticket) -> None:
        if self._count == self._refuse:
            raise Refused
        self._count += 1
        self._written[ticket.id] = json.dumps(ticket.to_dict())

    def tickets(self) -> list[Ticket]:
        return [Ticket.from_dict(json.loads(text)) for text in self._written.values()]


class ProviderContract:
    """Tests of one provider; see above."""

    claim: ClassVar[Mapping[str, Any]]
    """A claim that it serves, of one worker or more."""

    timeout: ClassVar[float] = 120.0
    """Seconds in which a cluster is up, with the worker."""

    cancel_after: ClassVar[tuple[float, ...]] = (0.0, 0.1, 0.5, 2.0)
    """Seconds from the request on after which it is cancelled, one try each."""

    def made(self) -> Set[str]:
        """Return what there is of this provider's making, as the backend itself lists it.

        A name or number of each cluster, job or process; what the tests did not make, too.
        """
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return the variables of the launcher."""
        return os.environ

    @contextlib.contextmanager
    def out_of_reach(self, ticket: Ticket) -> Iterator[Ticket | None]:
        """Put the backend out of reach, and yield a ticket that names the same cluster.

        None where the backend always answers, as the processes of this machine do.
        """
        yield None

    # -- what the tests use

    def resolved(self) -> Resolved:
        return load(environ={**self.environment(), "DASK_CLAIM": json.dumps(dict(self.claim))})

    def provider(self, kept: Kept) -> Provider:
        request = Request.of(self.resolved(), self.timeout, STOP_TIMEOUT)
        return provider_class(request.plan.choice.backend)(
            request, kept.write, kept.warnings.append
        )

    async def reclaimed(self, kept: Kept, timeout: float = STOP_TIMEOUT) -> list[Outcome]:
        """Reclaim all there is, as another process does."""
        return [
            await provider_class(ticket.provider).reclaim(ticket, timeout, kept.warnings.append)
            for ticket in kept.tickets()
        ]

    async def gone(self, kept: Kept, before: Set[str]) -> None:
        """Reclaim, and look whether all is really gone."""
        outcomes = await self.reclaimed(kept)
        assert Outcome.NOT_CONFIRMED not in outcomes, kept.warnings
        # In a thread: it may run a loop of its own.
        left = await asyncio.to_thread(self.made) - before
        assert not left, f"confirmed gone, and still there: {left}"

    # -- the tests

    def test_name_and_attributes(self) -> None:
        """The registry has it, and constructing it requests nothing."""
        plan = self.resolved().plan()
        assert is_provider(plan.provider)
        assert provider_class(plan.provider).name == plan.provider
        kept, before = Kept(), self.made()
        provider = self.provider(kept)
        assert provider.description
        assert not (provider.adopts and provider.makes_cluster)
        assert not (provider.outlives_launcher and not provider.makes_cluster)
        provider.check()
        asyncio.run(provider.close())
        assert kept.tickets() == []
        assert self.made() <= before

    def test_life(self) -> None:
        """Requested, up, used, let go, ended; ended once more; nothing is claimed too early."""
        kept, before = Kept(), self.made()

        async def live() -> None:
            provider = self.provider(kept)
            try:
                await in_time(self._use(provider, kept, before), self.timeout)
            finally:
                await provider.close()
            if provider.makes_cluster:
                too_early = await self.reclaimed(kept, 0.0)
                left = await asyncio.to_thread(self.made) - before
                assert not (left and Outcome.GONE in too_early)
            await self.gone(kept, before)
            started = time.monotonic()
            await self.gone(kept, before)
            assert time.monotonic() - started < STOP_TIMEOUT
            if provider.makes_cluster:
                await self._answers_no_more(provider)

        asyncio.run(live())

    async def _use(self, provider: Provider, kept: Kept, before: Set[str]) -> None:
        await provider.submit()
        cluster = provider.cluster
        if provider.makes_cluster:
            assert kept.tickets(), "nothing could end this cluster"
            assert cluster.scheduler_address or cluster.cluster_name
        await provider.wait_until_running()
        if provider.makes_cluster:
            if bounds := await provider.scale():
                assert 0 <= bounds[0] <= bounds[1]
            listed = await asyncio.to_thread(self.made) - before
            assert listed, "made() does not list this cluster"
            assert await provider.ended() is None
        if (address := provider.cluster.scheduler_address) is None:
            return
        Client = import_quietly("distributed").Client
        async with Client(
            address, security=provider.security(), asynchronous=True, set_as_default=False
        ) as client:
            assert await client.submit(sum, [40, 2], pure=False) == 42
        if provider.adopts:
            await provider.wait_for_workers(1)

    async def _answers_no_more(self, provider: Provider) -> None:
        address = urlsplit(provider.cluster.scheduler_address or "")
        if address.scheme in ("tcp", "tls"):
            try:
                _, writer = await asyncio.open_connection(address.hostname, address.port)
            except OSError:
                return
            writer.close()
            raise AssertionError("its scheduler still answers")

    def test_a_ticket_comes_before_what_it_names(self) -> None:
        """Where none can be kept nothing is made; where no second one can, the first is enough."""
        for refuse in (0, 1):
            kept, before = Kept(refuse), self.made()

            async def request(kept: Kept = kept) -> None:
                provider = self.provider(kept)
                try:
                    with contextlib.suppress(Refused):
                        await in_time(provider.submit(), self.timeout)
                finally:
                    await provider.close()

            asyncio.run(request())
            if refuse == 0:
                assert self.made() <= before, "it was made before its ticket was kept"
            asyncio.run(self.gone(kept, before))

    def test_cancelled_half_way(self) -> None:
        """Then `close` alone follows, and nothing is left that no ticket names."""

        async def cancel(kept: Kept, after: float) -> None:
            provider = self.provider(kept)
            opening = asyncio.ensure_future(self._open(provider))
            await asyncio.wait({opening}, timeout=after)
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError, DaskClaimError):
                await opening
            await in_time(provider.close(), STOP_TIMEOUT * 2)

        for after in self.cancel_after:
            kept, before = Kept(), self.made()
            asyncio.run(cancel(kept, after))
            asyncio.run(self.gone(kept, before))

    async def _open(self, provider: Provider) -> None:
        await provider.submit()
        await provider.wait_until_running()
        if provider.makes_cluster:
            await provider.scale()

    def test_unknown_is_not_gone(self) -> None:
        """A backend that does not answer confirms nothing, and nothing is raised."""
        kept, before = Kept(), self.made()

        async def reclaim_from_afar() -> None:
            provider = self.provider(kept)
            try:
                await in_time(self._open(provider), self.timeout)
                for ticket in kept.tickets():
                    with self.out_of_reach(ticket) as far:
                        if far is not None:
                            kind = provider_class(far.provider)
                            outcome = await kind.reclaim(far, 3.0, kept.warnings.append)
                            assert outcome is Outcome.NOT_CONFIRMED
            finally:
                await provider.close()

        asyncio.run(reclaim_from_afar())
        asyncio.run(self.gone(kept, before))
