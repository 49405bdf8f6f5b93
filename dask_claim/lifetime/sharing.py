"""A lease that several runs hold together: the scheduler admits them, and counts for each its part.

It stands in the place of the plain lease where a run shares its cluster, and crosses by value, too.
All is decided on the scheduler's one event loop, so there is nothing to lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from math import inf
from time import monotonic
from typing import Any

from dask_claim.lifetime.lease_plugin import Holder
from dask_claim.lifetime.parts import Part, PartedLease

LEAVE = "leave"
"""A run's last message: it is out, and the cluster stays for the others."""

RESIZE = "dask_claim_resize"
"""The call after which the bounds of all runs hold again, where a gateway has set one's own."""

REFUSED = "refused"
"""The one key of an answer to a run that cannot join, with the reason."""

# From a client's shutdown() until the scheduler hears that this client is gone.
CLOSES_WITHIN = 5.0

WARM_FOR = 10.0
"""Seconds for which the minimum of workers stays after the last run."""

REFUSAL = (
    "dask-claim: {what} is refused, for {count} runs share this cluster and it would end the "
    "tasks of all of them. Restart or retire single workers, or run without share"
)


class SharedLease(PartedLease):
    """Ends the cluster some time after the last run on it is gone.

    Parameters
    ----------
    share : mapping
        Of the run that places it: `key` and `digest`; `minimum` and `maximum` of its workers, and
        the site's own bound for them, `most` (None: there is none); `keep`, in seconds, for how
        long the cluster stays after this run, should it be the last one; `longest`, the seconds
        after which the cluster takes no run any more (None: there is no end); whether it `joined`
        a cluster that another run has requested.

    The others as for `LeasePlugin`.
    """

    def __init__(self, *first: Any, share: Mapping[str, Any], **terms: Any) -> None:
        super().__init__(*first, **terms)
        self._share = dict(share)

    def start(self, scheduler: Any) -> None:
        self._most_runs = 0
        self._began = monotonic()
        self._keep = float(self._share["keep"])
        self._ends_at: float | None = None
        self._given_up: dict[str, Part] = {}
        self._bounds = 0, 0
        self._warm_until = 0.0
        self._shut_down_at = -CLOSES_WITHIN
        super().start(scheduler)
        handlers = scheduler.handlers
        handlers["terminate"], handlers[RESIZE] = self.terminate, self.resize
        for name in ("restart", "restart_workers", "retire_workers"):
            if name in handlers:
                handlers[name] = self._unless_shared(name, handlers[name])

    # Who is in

    async def hold(self, comm: Any, holder: str, **terms: Any) -> None:
        """As of a plain lease, for runs with the same key and request.

        `terms`: also `share`, as for the first one.
        """
        share = terms.pop("share", {})
        if refusal := self._refusal(holder, share):
            await comm.read()
            await comm.write({REFUSED: refusal})
            return
        self._holder(holder, **terms)
        known = self._parts.get(holder) or self._given_up.pop(holder, None)
        await self._admit(holder, known or Part(share, self._scheduler))
        await super().hold(comm, holder, **terms)

    async def _admit(self, name: str, part: Part) -> None:
        self._count()
        self._parts[name] = part
        self._ends_at = None
        self._most_runs = max(self._most_runs, len(self._parts))
        await self.resize()

    async def _heard_again(self, name: str, holder: Holder) -> None:
        await super()._heard_again(name, holder)
        if name in self._holders and name in self._given_up:
            await self._admit(name, self._given_up.pop(name))

    def _refusal(self, holder: str, share: Mapping[str, Any]) -> str | None:
        """Return why a run cannot join; None where it can."""
        if self._ending:
            return "it is ending"
        if any(share.get(name) != self._share[name] for name in ("key", "digest")):
            return "it was made for another request"
        # Those that are in may connect again, also after a long cut.
        if not self._takes_runs_for() and holder not in self._holders | self._given_up:
            return f"it is older than the {self._share['longest']:g} s that its site allows"
        return None

    def _takes_runs_for(self) -> float:
        longest = self._share.get("longest")
        return inf if longest is None else max(0.0, self._began + float(longest) - monotonic())

    async def answer(self, holder: str, message: str) -> dict[str, Any]:
        reply = {**self.usage_of(holder), "shared": self._told(self._parts.get(holder))}
        if message == LEAVE:
            held = self._holders.pop(holder, None)
            await self._leave(holder, "it has left", binds=held is None or held.binds)
            reply["shared"].update(others=len(self._parts), keep=self._seconds_left())
        return reply

    def _told(self, part: Part | None) -> dict[str, Any]:
        """Return what a run learns of the others."""
        told: dict[str, Any] = {
            "key": self._share["key"],
            "runs": self._most_runs,
            "bounds": self._bounds,
        }
        if part is not None:
            told |= {"joined": part.joined, "lost_by_others": part.lost_by_others}
            told["shut_down"], part.shut_down = part.shut_down, False
        return told

    async def given_up(self, name: str, holder: Holder, reason: str) -> None:
        if name in self._parts:
            # Its launcher may come back, if it was only stopped, with all that it has used.
            self._given_up[name] = self._parts[name]
        await self._leave(name, reason, holder.binds)

    async def _leave(self, name: str, reason: str, binds: bool) -> None:
        self._count()
        part = self._parts.pop(name, None)
        if part is not None:
            self._keep = part.keep
        if binds and not self._holders:
            self._keep = min(self._keep, self._takes_runs_for())
            self._ends_at = monotonic() + self._keep
            self._warm_until = monotonic() + WARM_FOR
            log = logging.getLogger("distributed.scheduler")
            log.info("dask-claim: this cluster stays for %g s: %s", self._keep, reason)
        await self.resize()

    async def check(self, deaf: float) -> None:
        if self._ends_at is not None:
            self._ends_at += deaf
        await super().check(deaf)
        if self._ends_at is not None:
            self._count_as_use()  # keep is the lease's, not that of a gateway's idle timeout
        if not self._parts and self._bounds != self.bounds():
            await self.resize()
        if self._ends_at is not None and monotonic() >= self._ends_at:
            await self._end(f"no run has used it for {self._keep:g} s")

    def _seconds_left(self) -> float | None:
        return None if self._ends_at is None else max(0.0, self._ends_at - monotonic())

    async def look(self) -> dict[str, Any]:
        shared = {name: self._share[name] for name in ("key", "digest")}
        ending = self._ending or not self._takes_runs_for()
        shared |= {"ends_in": self._seconds_left(), "ending": ending}
        return {**await super().look(), "shared": shared}

    # How many workers

    def bounds(self) -> tuple[int, int]:
        """Return the minimum and the maximum of workers: the largest, and the sum, of all runs."""
        parts = self._parts.values()
        if not parts:
            # The next step of a workflow may be seconds away.
            minimum, maximum = self._bounds
            return minimum if monotonic() < self._warm_until else 0, maximum
        minimum = max(part.minimum for part in parts)
        limits = [part.most for part in parts if part.most is not None]
        maximum = min([sum(part.maximum for part in parts), *limits])
        return minimum, max(minimum, maximum, *(part.maximum for part in parts))

    async def resize(self) -> None:
        """Have the bounds of all runs hold; workers are retired before they are closed."""
        self._bounds = self.bounds()
        try:
            await adapt_workers(self._scheduler, *self._bounds)
        except Exception:
            # Names of dask-gateway's own: what lacks one still ends its cluster.
            log = logging.getLogger("distributed.scheduler")
            log.exception("dask-claim: the number of workers stays as it is")

    # What one run must not do to the others

    async def terminate(self, **_: Any) -> None:
        """Take a client's shutdown(), the last line of many notebooks, for its leaving."""
        self._shut_down_at = monotonic()

    def remove_client(self, scheduler: Any, client: str) -> None:
        if monotonic() - self._shut_down_at < CLOSES_WITHIN:
            run = self._run_of(client)
            if run is not None:
                self._parts[run].shut_down = True
                self._shut_down_at = -CLOSES_WITHIN

    def _unless_shared(self, name: str, handler: Callable[..., Any]) -> Callable[..., Any]:
        async def guarded(**terms: Any) -> Any:
            if len(self._parts) > 1 and self._is_of_all(terms):
                what = f"{name}() of all workers" if name != "restart" else "restart()"
                raise RuntimeError(REFUSAL.format(what=what, count=len(self._parts)))
            return await handler(**terms)

        return guarded

    def _is_of_all(self, terms: Mapping[str, Any]) -> bool:
        """Whether a call is for all workers: it names all of them, or leaves them open."""
        states = self._scheduler.workers.values()
        chosen = set(terms.get("workers") or ()), set(terms.get("names") or ())
        left = [s for s in states if s.address not in chosen[0] and s.name not in chosen[1]]
        return not any(chosen) or not left


async def adapt_workers(scheduler: Any, minimum: int, maximum: int) -> None:
    """Have at least `minimum` workers at once, and at most `maximum` as tasks need them.

    Fewer than before only after the gateway's own adaptation has seen for some seconds that no
    more are needed; it retires them, their data moved, before they are closed. This uses what
    `dask_gateway.scheduler_preload` has on a scheduler, which is no public interface.
    """
    service = getattr(scheduler, "services", {}).get("gateway")
    if service is not None and hasattr(service, "adapt"):
        await service.adapt(minimum=minimum, maximum=maximum, active=True)
        if minimum > service.count:
            await service._scale(minimum)
