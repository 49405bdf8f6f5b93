"""The tickets of one process, and the guard that holds copies of them.

The lease covers a cluster once it is placed. The guard covers what comes before, from the request
for a cluster on, and is faster after: it sees the launcher's death at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from dask_claim import stderr
from dask_claim.claim.choice import RUN_ID
from dask_claim.lifetime.reclaim import reclaim
from dask_claim.providers.values import Outcome, Ticket

PROCESS = Path(__file__).with_name("guard_process.py")
RECLAIM = Path(__file__).with_name("reclaim.py")


class Tickets:
    """What is still to be reclaimed; the guard's process starts with the first one or a command."""

    def __init__(self, run_id: str, grace: float, patience: float) -> None:
        """Times in seconds.

        `grace`: what the guard leaves a command between SIGTERM and SIGKILL; `patience`: how long
        it asks a gateway in trouble before it leaves the rest to the lease.
        """
        self._open: dict[str, Ticket] = {}
        self._grace, self._patience = grace, patience
        self._mark = f"{RUN_ID}={run_id}"
        self._guard: subprocess.Popen[str] | None = None

    @property
    def open(self) -> list[Ticket]:
        """Those that are not settled."""
        return list(self._open.values())

    def write(self, ticket: Ticket) -> None:
        """Keep a ticket, or more of one, before what it names is requested."""
        self._open[ticket.id] = ticket
        self._send_tickets()

    def settle(self, ticket: Ticket) -> None:
        """Nothing of it is left, or it was refused."""
        self._open.pop(ticket.id, None)
        self._send_tickets()

    async def reclaim(self, timeout: float, warn: Callable[[str], None]) -> Outcome:
        """End all that is open, together, within `timeout` seconds."""

        async def end(ticket: Ticket) -> Outcome:
            outcome = await reclaim(ticket, timeout, warn)
            if outcome is not Outcome.NOT_CONFIRMED:
                self.settle(ticket)
            return outcome

        return Outcome.of_all(await asyncio.gather(*map(end, self.open)))

    def expect_command(self) -> None:
        """Have a guard for a command that is about to start, also where no cluster needs one.

        Until its group is sent, the guard recognizes the command by the run's variable.
        """
        self._send_facts(command=None)

    def command_started(self, group: int) -> None:
        """There is a command to end, should this process vanish."""
        self._send_facts(command=group)

    def command_ended(self) -> None:
        self._send_facts(command=None)

    def close(self) -> None:
        """Let the guard go if all is settled; else it takes over what is left.

        It ends what the command has left behind first.
        """
        guard = self._guard
        if guard is None:
            return
        self._send("take over" if self._open else "good-bye")
        with contextlib.suppress(OSError):
            assert guard.stdin is not None
            guard.stdin.close()
        if not self._open:
            with contextlib.suppress(subprocess.TimeoutExpired):
                guard.wait(timeout=self._grace + 10)

    def _send_tickets(self) -> None:
        self._send_facts(tickets=[ticket.to_dict() for ticket in self.open])

    def _send_facts(self, **facts: object) -> None:
        if self._guard is None:
            self._guard = subprocess.Popen(
                # Neither site-packages nor the user's variables: it starts in milliseconds.
                [sys.executable, "-I", "-S", str(PROCESS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
                bufsize=1,
                # No signal to the launcher's group or terminal reaches it.
                start_new_session=True,
                env=self._guard_environment(),
            )
            terms = {"grace": self._grace, "patience": self._patience}
            self._send({**terms, "reclaim": str(RECLAIM), "markers": [self._mark]})
        self._send(facts)

    def _guard_environment(self) -> dict[str, str]:
        # Below another run's command it is no part of that: the other run's guard would end it in
        # the middle of its work.
        inherited = {name: value for name, value in os.environ.items() if name != RUN_ID}
        state = stderr.state
        return {**inherited, stderr.GUARD_LINE: json.dumps(state.begin()) if state.as_json else ""}

    def _send(self, message: object) -> None:
        # Without a guard, if it was killed, there are the lease and the launcher itself.
        with contextlib.suppress(OSError, ValueError):
            assert self._guard is not None and self._guard.stdin is not None
            self._guard.stdin.write(json.dumps(message) + "\n")
