"""Whether scheduler and workers have the packages that the command will speak to them with.

Different versions of Dask or of what it pickles with fail late and with odd messages: a task that
cannot be unpickled, a call that the scheduler does not know.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dask_claim.errors import ConfigurationError, TemporaryError
from dask_claim.launch.events import Events
from dask_claim.launch.leasing import cancelled
from dask_claim.providers.base import Provider, import_quietly
from dask_claim.threads import in_time

COMPARED = ("python", "dask", "distributed", "numpy", "msgpack", "cloudpickle")
"""What crosses between the processes, or decides how it does."""

# Nobody waits longer for an answer that is only to be compared; seconds.
TIMEOUT = 10.0
CANCELLED_TIMEOUT = 0.5
ASK_AGAIN = 0.5

SCHEDULER, WORKERS = "the scheduler", "the workers"


def versions_here() -> dict[str, str | None]:
    """Return the version of each compared package, None where it is not installed.

    Nothing is imported. Of Python the first two numbers: the third changes nothing that is sent.
    """
    found: dict[str, str | None] = {"python": "{}.{}".format(*sys.version_info)}
    for package in COMPARED[1:]:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def differences(
    here: Mapping[str, str | None], there: Mapping[str, str | None], whose: str
) -> list[str]:
    """Return one text for each package whose version `there`, which is `whose`, is another one.

    What is not installed here is not used here. What the scheduler lacks, or has another NumPy of,
    does not matter: it hands data on without looking into it.
    """
    found = []
    for package in COMPARED:
        mine, theirs = here.get(package), there.get(package)
        if mine is None or mine == theirs:
            continue
        if whose == SCHEDULER and (theirs is None or package == "numpy"):
            continue
        found.append(f"{package} {mine} here, {theirs or 'none'} on {whose}")
    return found


async def versions_there(address: str, security: Any) -> dict[str, dict[str, str | None]]:
    """Return what the scheduler has, and its first worker if there is one: `SCHEDULER` and
    `WORKERS` → package → version.

    Parameters
    ----------
    address : str
        Of the scheduler.
    security : distributed.Security or None

    Raises
    ------
    OSError, asyncio.TimeoutError
        It cannot be reached, or does not answer.
    """
    core = await asyncio.to_thread(import_quietly, "distributed.core")
    connect = core.connect
    arguments = security.get_connection_args("client") if security else {}
    opening = asyncio.ensure_future(connect(address, timeout=TIMEOUT, **arguments))
    try:
        comm = await asyncio.shield(opening)
    except asyncio.CancelledError:
        # Dask and Tornado close no connection that is cancelled while it is made.
        await asyncio.wait({opening}, timeout=CANCELLED_TIMEOUT)
        if opening.done() and not opening.exception():
            opening.result().abort()
        opening.cancel()
        raise

    async def ask(**call: Any) -> Any:
        return await in_time(core.send_recv(comm, **call), TIMEOUT)

    try:
        found = {SCHEDULER: _compared(await ask(op="versions"))}
        workers = list((await ask(op="identity"))["workers"])[:1]
        if workers:
            # One speaks for all: they are made of the same image.
            said = await ask(op="broadcast", msg={"op": "versions"}, workers=workers)
            found[WORKERS] = _compared(next(iter(said.values())))
        return found
    finally:
        comm.abort()


def _compared(said: Any) -> dict[str, str | None]:
    packages = dict(said["packages"])
    found = {package: packages.get(package) for package in COMPARED}
    found["python"] = ".".join(str(found["python"]).split(".")[:2])
    return found


class VersionCheck:
    """Compares once for a run what the claim's `versions` wants compared.

    The scheduler is asked when it is up, which with `strict` is before the command starts; a worker
    when the first one is up, which is before the command with `--start workers` alone. What is
    found later is a warning in any case, for a command that runs is not ended by it.
    """

    def __init__(self, wanted: str, emit: Events) -> None:
        """`wanted`: `warn`, `strict` or `ignore`."""
        self._wanted, self._emit = wanted, emit
        self._task: asyncio.Task[None] | None = None
        self._told = False

    def begin(self, provider: Provider) -> None:
        """Compare in a task of its own, as far as nobody waits for it."""
        # A cluster on this machine is started with this very Python.
        there = provider.cluster.scheduler_address is not None and not provider.same_machine
        if self._wanted != "ignore" and there:
            self._task = asyncio.create_task(self._watch(provider))

    async def require(self, provider: Provider) -> None:
        """Raise ConfigurationError where `strict` and what is up now differs.

        TemporaryError where the scheduler does not answer.
        """
        if self._wanted != "strict" or self._task is None:
            return
        try:
            there = await versions_there(_address(provider), provider.security())
        except (OSError, asyncio.TimeoutError) as error:
            raise TemporaryError(f"the versions could not be compared: {error}") from error
        if found := told(there):
            self._told = True
            raise ConfigurationError(f"{found} (versions: strict)")

    async def end(self) -> None:
        """Ask no more."""
        task, self._task = self._task, None
        await cancelled(task)

    async def _watch(self, provider: Provider) -> None:
        """Warn once; return when a worker was compared, too."""
        pause = ASK_AGAIN
        while not self._told:
            try:
                there = await versions_there(_address(provider), provider.security())
            except Exception:
                # The lease tells of a scheduler that is not heard; old ones may not answer this.
                there = {}
            if not self._told and (found := told(there)):
                self._told = True
                self._emit.warn(found)
            if WORKERS in there:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 15.0)


def told(there: Mapping[str, Mapping[str, str | None]]) -> str | None:
    """Return the warning for what `versions_there` has found; None where all are the same."""
    here = versions_here()
    found = [text for whose in there for text in differences(here, there[whose], whose)]
    if not found:
        return None
    return f"different versions: {'; '.join(found)}. Use an image with the same ones on both sides"


def _address(provider: Provider) -> str:
    address = provider.cluster.scheduler_address
    assert address is not None
    return address
