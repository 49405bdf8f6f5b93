"""How long a gateway in trouble is asked again, as long as no cluster could have been made."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from loguru import logger

from dask_claim.errors import GatewayUnreachable, NoGatewayThere, TemporaryError
from dask_claim.providers.base import Provider
from dask_claim.threads import in_time

T = TypeVar("T")

SOON = 10.0
"""Seconds for an address that is more likely wrong than late, and where there is a fallback."""

# Seconds: a gateway restarts within some; a place under a limit takes until somebody's run ends.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0


class Patience:
    """Repeats questions to a gateway. What ends it at last is the caller's start timeout.

    The first trouble is told at once; from then on it is the provider's `obstacle`.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._hurried = provider.may_fall_back and provider.request.claim.fallback == "local"
        self._limit, self._since = math.inf, 0.0
        """For how many seconds the present trouble is borne, and the loop's time at its begin."""

    async def ask(self, question: Callable[[], Awaitable[T]], *passing: type[TemporaryError]) -> T:
        """Return the answer; repeat the question after `passing` errors (default: temporary)."""
        from dask_claim.providers.gateway.api import pauses

        troubled = False
        waited_for = passing or (TemporaryError,)
        for pause in pauses(FIRST_PAUSE, LONGEST_PAUSE, growth=1.5):
            try:
                # A request that could make something is not cut off.
                answer = await (question() if passing else self._once(question))
                if troubled:
                    self._provider.obstacle = None
                return answer
            except waited_for as error:
                troubled, left = True, self._bear(error)
            # Many who were refused together must not all come back together.
            await asyncio.sleep(min(pause * random.uniform(0.5, 1.5), left))
        raise AssertionError("pauses never end")

    async def _once(self, question: Callable[[], Awaitable[T]]) -> T:
        if not self._hurried:
            return await question()
        try:
            return await in_time(question(), SOON)
        except asyncio.TimeoutError as error:
            raise GatewayUnreachable(
                f"{self._provider.description} does not answer within {SOON:g} s"
            ) from error

    def _bear(self, error: TemporaryError) -> float:
        """Return for how many seconds the question may still be repeated; raise where none."""
        now, provider = asyncio.get_running_loop().time(), self._provider
        limit = SOON if self._hurried or isinstance(error, NoGatewayThere) else math.inf
        if provider.obstacle is None or limit != self._limit:
            self._limit, self._since = limit, now
        if provider.obstacle is None:
            seconds = min(limit, provider.request.start_timeout)
            end = "" if str(error).endswith(("?", ".")) else "."
            logger.warning(f"{error}{end} Trying again for up to {seconds:g} s")
        provider.obstacle = str(error)
        if now - self._since >= limit:
            raise error
        return limit - (now - self._since)
