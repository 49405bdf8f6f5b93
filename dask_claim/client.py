"""The library: `connect()` for a program's Dask client, `run()` for what the command line does."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_claim.handoff import SCHEDULER_ADDRESS
from dask_claim.launch import conduct
from dask_claim.options import RunOptions, Start
from dask_claim.providers.base import Order, without_files_in_home
from dask_claim.receipt import Receipt
from dask_claim.session import Session
from dask_claim.timeline import Timeline

if TYPE_CHECKING:
    from distributed import Client

    from dask_claim.claim import Claim


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
    start: Start = "ready",
    start_timeout: float = 600.0,
    stop_timeout: float = 30.0,
    grace: float = 15.0,
    receipt: str | os.PathLike[str] | None = None,
) -> Result:
    """Run `command` on a claimed cluster and give the cluster back, as `dask-claim -- …` does.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    claim : Claim, optional
        By default what the environment says, as for the command line.
    start, start_timeout, stop_timeout, grace
        See `RunOptions`; times in seconds.
    receipt : path, optional
        Where to write the receipt.

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
        From `dask_claim.child`; no cluster is left behind.
    """
    from dask_claim.claim import Effective, load

    effective = load() if claim is None else Effective(claim, {})
    options = RunOptions(
        start, start_timeout, stop_timeout, grace, Path(receipt) if receipt else None
    )
    written = Receipt(command)
    status = _in_own_loop(conduct(command, effective, options, written, owns_process=False))
    return Result(status, written.to_dict())


@contextmanager
def connect(
    claim: Claim | None = None,
    *,
    start_timeout: float = RunOptions.start_timeout,
    stop_timeout: float = RunOptions.stop_timeout,
    **client_options: Any,
) -> Iterator[Client]:
    """A connected client, for the length of a `with` block.

    Under the launcher, or wherever `DASK_SCHEDULER_ADDRESS` names a scheduler, it is connected to
    that one. Alone, the claim is fulfilled here and given back at the end of the block, also when
    the block raises or the process gets SIGTERM.

    Parameters
    ----------
    claim : Claim, optional
        What to claim when alone; by default what the environment says.
    start_timeout, stop_timeout : float
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
    without_files_in_home()
    from distributed import Client

    address = os.environ.get(SCHEDULER_ADDRESS, "").strip()
    if claim is None and address:
        # By name: Dask reads this variable only once, when it is imported, and a client that knows
        # of no scheduler would start a cluster of its own.
        with Client(address, **client_options) as client:
            yield client
        return
    with ExitStack() as stack:
        stack.enter_context(_sigterm_unwinds())
        session = stack.enter_context(_opened(claim, start_timeout, stop_timeout))
        client_options.setdefault("security", session.provider.security())
        yield stack.enter_context(Client(session.handoff.scheduler_address, **client_options))


@contextmanager
def _opened(claim: Claim | None, start_timeout: float, stop_timeout: float) -> Iterator[Session]:
    """A session on an event loop in a thread of its own, for the caller's code is synchronous."""
    from loguru import logger

    if claim is None:
        from dask_claim.claim import load

        claim = load().claim
    order = Order(claim, claim.plan(), os.environ, start_timeout, stop_timeout, warn=logger.warning)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="dask-claim", daemon=True)
    thread.start()

    def on_loop(step: Any) -> Any:
        future = asyncio.run_coroutine_threadsafe(step, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def make() -> Session:
        return Session(order, Timeline())

    try:
        session: Session = on_loop(make())
        try:
            on_loop(session.submit())
            on_loop(session.wait_until_running())
            yield session
        finally:
            what = session.handoff.cluster_name or "the local cluster"
            if on_loop(session.give_back()) is False:
                logger.error(f"{what} is NOT confirmed gone after {stop_timeout:g} s")
            else:
                logger.info(f"{what} is given back")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM leave the `with` block like an exit, where nobody else handles it."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(signum: int, frame: object) -> None:
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _in_own_loop(main: Any) -> int:
    """Run a coroutine to its end, also where a loop runs in this thread already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return int(asyncio.run(main))
    outcome: list[int | BaseException] = []

    def work() -> None:
        try:
            outcome.append(asyncio.run(main))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work, name="dask-claim-run")
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]
