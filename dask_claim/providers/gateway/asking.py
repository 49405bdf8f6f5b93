"""Repeating requests to a gateway in trouble: for how long, and with which messages."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from loguru import logger

from dask_claim.errors import DaskClaimError, GatewayUnreachable, NoGatewayThere, TemporaryError
from dask_claim.providers.base import Provider
from dask_claim.threads import in_time

T = TypeVar("T")

SOON = 10.0
"""Seconds for an address that is more likely wrong than late, and where there is a fallback."""

# Seconds: a gateway restarts within some; a place under a limit takes until somebody's run ends.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0
LONGEST_RETRY_AFTER = 60.0

STOP_REQUEST_TIMEOUT = 8.0
"""Seconds for one request while a cluster is being stopped: one that hangs leaves time for more."""


async def repeat(
    step: Callable[[], Awaitable[T]],
    on_error: Callable[[DaskClaimError, float], float],
    first: float = 0.1,
    longest: float = 1.0,
) -> T:
    """Repeat a step until it raises no error any more, and return its result.

    Parameters
    ----------
    step : callable
    on_error : callable
        Given an error of the step and the pause until the next one, in seconds; it raises what is
        not to be repeated, else returns how long to wait.
    first, longest : float
        Of the pauses.
    """
    pause = first
    while True:
        try:
            return await step()
        except DaskClaimError as error:
            wait = on_error(error, pause)
        await asyncio.sleep(wait)
        pause = min(pause * 1.5, longest)


class Patience:
    """Repeats a provider's requests. What ends it at last is the caller's start timeout.

    The first trouble is logged at once; from then on it is the provider's `obstacle`.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._hurried = provider.request.plan.choice.fallback is not None
        self.lasting = False
        """Whether there is a cluster already, so that trouble is borne until the start timeout."""

    async def ask(self, question: Callable[[], Awaitable[T]], *passing: type[DaskClaimError]) -> T:
        """Return the answer; repeat the question after `passing` errors (default: temporary).

        With `passing` it may make something, so it is not cut off.
        """
        provider, time = self._provider, asyncio.get_running_loop().time
        limit, since = 0.0, 0.0  # for how many seconds the present trouble is borne, and since when

        def bear(error: DaskClaimError, pause: float) -> float:
            nonlocal limit, since
            if not isinstance(error, passing or TemporaryError):
                raise error
            if (seconds := self._limit(error)) != limit:
                limit, since = seconds, time()
            if provider.obstacle is None:
                end = "" if str(error).endswith(("?", ".")) else "."
                for_seconds = min(limit, provider.request.start_timeout)
                logger.warning(f"{error}{end} Trying again for up to {for_seconds:g} s")
            provider.obstacle, provider.obstacle_reason = str(error), error.reason
            if (left := since + limit - time()) <= 0:
                raise error
            # Many who were refused together must not all come back together.
            retry_after = min(getattr(error, "retry_after", 0.0), LONGEST_RETRY_AFTER)
            return min(max(pause * random.uniform(0.5, 1.5), retry_after), left)

        step = question if passing else lambda: self._once(question)
        answer = await repeat(step, bear, first=FIRST_PAUSE, longest=LONGEST_PAUSE)
        if limit:
            provider.obstacle = provider.obstacle_reason = None
        return answer

    def _limit(self, error: DaskClaimError) -> float:
        soon = self._hurried or isinstance(error, NoGatewayThere)
        return SOON if soon and not self.lasting else math.inf

    async def _once(self, question: Callable[[], Awaitable[T]]) -> T:
        if not self._hurried:
            return await question()
        try:
            return await in_time(question(), SOON)
        except asyncio.TimeoutError as error:
            raise GatewayUnreachable(
                f"{self._provider.description} does not answer within {SOON:g} s"
            ) from error
