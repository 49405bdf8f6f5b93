"""The library: `connect()` for a program's Dask client, `run()` for what the command line does.

Both keep the three phases of a run (see `launch.launcher`): while the cluster is pending a signal
ends the opening, in the block or while the command runs it is the program's or the command's, and
while the cluster is being stopped it waits until that is done.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_claim.claim.choice import SCHEDULER_ADDRESS
from dask_claim.launch.interrupts import ENDING, Signals, leave, to_the_end
from dask_claim.launch.launcher import Launcher
from dask_claim.launch.options import Start, run_options
from dask_claim.launch.session_thread import SessionThread
from dask_claim.providers.base import import_quietly
from dask_claim.threads import run_loop

if TYPE_CHECKING:
    from distributed import Client

    from dask_claim.claim.model import Claim, Resolved


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    exit_status: int
    """The command's own, or 128 + n where signal n ended it."""

    receipt: Mapping[str, Any]
    """The receipt as it is (or would be) written."""


def run(
    command: Sequence[str],
    claim: Claim | None = None,
    *,
    start: Start | None = None,
    start_timeout: float | None = None,
    stop_timeout: float | None = None,
    grace: float | None = None,
    receipt: str | os.PathLike[str] | None = None,
) -> Result:
    """Run `command` on a claimed cluster and stop the cluster, as `dask-claim -- …` does.

    SIGTERM, SIGINT and the other signals that this process gets meanwhile go to the command. If
    the run was interrupted, `KeyboardInterrupt` or `SystemExit` follows when all is stopped, where
    the program has no handler of its own for the signal.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    claim : Claim, optional
        By default what the environment says, as for the command line.
    start, start_timeout, stop_timeout, grace, receipt
        See `RunOptions`; times in seconds. By default what the environment says, too.

    Returns
    -------
    Result
        The command ran, whatever its exit status is.

    Raises
    ------
    ClaimError, ConfigurationError
        The claim or the site's configuration is wrong; nothing was created.
    TemporaryError
        The cluster could not be had now.
    CommandNotFound, CommandNotExecutable
        From `dask_claim.launch.child`; no cluster is left behind.
    """
    options = run_options(
        start=start,
        start_timeout=start_timeout,
        stop_timeout=stop_timeout,
        grace=grace,
        receipt=receipt,
    )
    launcher = Launcher(command, _resolved(claim), options, owns_process=False)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if threading.current_thread() is threading.main_thread():
            return Result(_run_here(launcher), launcher.receipt.to_dict())
    return Result(_run_in_thread(launcher), launcher.receipt.to_dict())


def _run_here(launcher: Launcher) -> int:
    """The launcher catches the signals itself, and the command gets them."""
    handlers = {signum: signal.getsignal(signum) for signum in ENDING}
    try:
        return run_loop(launcher.run())
    finally:
        if launcher.signum in handlers:
            leave(launcher.signum, handlers[launcher.signum])


def _run_in_thread(launcher: Launcher) -> int:
    """Where a loop runs in this thread already (a notebook), or signals go to another one."""
    outcome: Future[int] = Future()

    def work() -> None:
        try:
            outcome.set_result(run_loop(launcher.run()))
        except BaseException as error:
            outcome.set_exception(error)

    signals = Signals(lambda: launcher.interrupt(signals.first or signal.SIGINT))
    signals.catch()
    try:
        threading.Thread(target=work, name="dask-claim-run", daemon=True).start()
        return to_the_end(outcome, lambda: launcher.interrupt(signal.SIGINT))
    finally:
        signals.restore()


@contextmanager
def connect(
    claim: Claim | None = None,
    *,
    start_timeout: float | None = None,
    stop_timeout: float | None = None,
    grace: float | None = None,
    **client_options: Any,
) -> Iterator[Client]:
    """A connected client, for the length of a `with` block.

    Under the launcher, or wherever `DASK_SCHEDULER_ADDRESS` names a scheduler, it is connected to
    that one. Alone, the claim is fulfilled here and the cluster stopped at the end of the block,
    also when the block raises, or the process gets SIGTERM or Ctrl-C at any moment, or is killed.
    In a job of Slurm the program gets SIGTERM `grace` seconds before its walltime ends.

    Parameters
    ----------
    claim : Claim, optional
        What to claim when alone; by default what the environment says.
    start_timeout, stop_timeout, grace : float
        Seconds, as for `run()`.
    **client_options
        For `distributed.Client`.

    Yields
    ------
    distributed.Client

    Raises
    ------
    ClaimError, ConfigurationError
        The claim or the site's configuration is wrong; nothing was created.
    TemporaryError
        The cluster could not be had now.
    """
    address = os.environ.get(SCHEDULER_ADDRESS, "").strip()
    if claim is None and address:
        Client = import_quietly("distributed").Client
        # By name: Dask reads this variable only once, when it is imported, and a client that knows
        # of no scheduler would start a cluster of its own.
        with Client(address, **client_options) as client:
            yield client
        return
    options = run_options(start_timeout=start_timeout, stop_timeout=stop_timeout, grace=grace)
    with SessionThread(_resolved(claim), options) as session:
        Client = import_quietly("distributed").Client
        client_options.setdefault("security", session.provider.security())
        with Client(session.cluster.scheduler_address, **client_options) as client:
            yield client


def _resolved(claim: Claim | None) -> Resolved:
    from dask_claim.claim.model import Resolved, load

    return load() if claim is None else Resolved.of(claim)
