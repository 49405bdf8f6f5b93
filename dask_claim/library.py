"""The library: `connect()` for a program's Dask client, `run()` for what the command line does.

Both start the command line as a child (see `launch.launcher_process`). The program's signals are
its own: whatever becomes of the program, the child sees it and releases the cluster.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dask_claim.errors import DaskClaimError
from dask_claim.launch.launcher_process import LauncherProcess, status_of

if TYPE_CHECKING:
    from distributed import Client

    from dask_claim.claim.model import Claim


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    exit_status: int
    """The command's own, or 128 + n if signal n ended it."""

    receipt: Mapping[str, Any]
    """The receipt, also if it is not written to a file."""


def run(
    command: Sequence[str],
    claim: Claim | Mapping[str, Any] | None = None,
    *,
    start: Literal["ready", "workers", "eager"] | None = None,
    start_timeout: float | None = None,
    stop_timeout: float | None = None,
    grace: float | None = None,
    receipt: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
) -> Result:
    """Run `command` on a claimed cluster and stop the cluster, as `dask-claim -- …` does.

    KeyboardInterrupt, or any exception that a signal raises here, ends the run: the command gets
    SIGINT, and SIGKILL `grace` seconds later. The exception is raised when all is released.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    claim : Claim or mapping, optional
        Replaces `DASK_CLAIM`. What is not given comes from the environment.
    start : "ready", "workers" or "eager", optional
        Start the command with the scheduler, with the minimum of workers, or at once.
    start_timeout, stop_timeout, grace : float, optional
        Seconds to wait for the cluster, for its end, and from SIGTERM to SIGKILL.
    receipt, report : path, optional
        Files, or folders, for the receipt (JSON) and for a page about the run (HTML).

    Returns
    -------
    Result
        Exit status and receipt of a command that ran, whatever its exit status is.

    Raises
    ------
    ClaimError, ConfigurationError, CommandNotFound, CommandNotExecutable
        The claim, the configuration or the command is wrong; nothing was created.
    TemporaryError
        No cluster is available now.
    """
    times = {"start_timeout": start_timeout, "stop_timeout": stop_timeout, "grace": grace}
    options = {"start": start, **times, **_texts(receipt=receipt, report=report)}
    launcher = LauncherProcess()
    try:
        launcher.start(claim, options, list(command))
        ended = launcher.answer()["receipt"]
    finally:
        launcher.end()
    return Result(ended["exit_status"], ended)


def _texts(**paths: str | os.PathLike[str] | None) -> dict[str, str | None]:
    return {name: path if path is None else os.fspath(path) for name, path in paths.items()}


@contextmanager
def connect(
    claim: Claim | Mapping[str, Any] | None = None,
    *,
    start_timeout: float | None = None,
    stop_timeout: float | None = None,
    grace: float | None = None,
    **client_options: Any,
) -> Iterator[Client]:
    """Connect a Dask client for the length of a `with` block.

    Under the launcher, or if `DASK_SCHEDULER_ADDRESS` names a scheduler, the client uses that
    scheduler. Otherwise a cluster is requested as the claim says, and stopped at the end of the
    block, also if the block raises, or the process is ended or killed at any moment. In a Slurm
    job the program gets SIGTERM `grace` seconds before its walltime ends.

    Parameters
    ----------
    claim : Claim or mapping, optional
        Replaces `DASK_CLAIM`.
    start_timeout, stop_timeout, grace : float, optional
        Seconds, as for `run()`.
    **client_options
        Arguments of `distributed.Client`.

    Yields
    ------
    distributed.Client

    Raises
    ------
    ClaimError, ConfigurationError
        The claim or the site's configuration is wrong; nothing was created.
    TemporaryError
        No cluster is available now.
    """
    address = os.environ.get("DASK_SCHEDULER_ADDRESS", "").strip()
    if claim is None and address:
        # By name: Dask reads this variable only once, when it is imported, and a client that knows
        # of no scheduler would start a cluster of its own.
        connection = _client(address, client_options)
    else:
        options = {"start_timeout": start_timeout, "stop_timeout": stop_timeout, "grace": grace}
        connection = _own_cluster(claim, {"start": "ready", **options}, client_options)
    with connection as client:
        yield client


@contextmanager
def _own_cluster(
    claim: Claim | Mapping[str, Any] | None,
    options: Mapping[str, Any],
    client_options: dict[str, Any],
) -> Iterator[Client]:
    """A client of a cluster that is made for the length of a block."""
    launcher, status = LauncherProcess(), 0
    try:
        launcher.start(claim, options)
        # Beside the cluster's start, for it takes most of a second.
        with contextlib.suppress(DaskClaimError):
            _import("distributed")
        cluster = launcher.answer()
        client_options.setdefault("security", _security(**cluster))
        address = cluster["variables"]["DASK_SCHEDULER_ADDRESS"]
        if name := cluster["variables"].get("DASK_CLIENT_NAME"):
            client_options.setdefault("name", name)
        with _client(address, client_options) as client:
            yield client
    except BaseException as error:
        status = status_of(error)
        raise
    finally:
        launcher.end(status)


def _import(module: str) -> Any:
    from dask_claim.imports import import_quietly

    return import_quietly(module)


def _client(address: str, options: Mapping[str, Any]) -> AbstractContextManager[Client]:
    client: AbstractContextManager[Client] = _import("distributed").Client(address, **options)
    return client


def _security(variables: Mapping[str, str], keys: Sequence[str] | None) -> Any:
    """Of a gateway's cluster with its `keys`; None where Dask's own configuration says it all."""
    if keys is not None:
        return _import("dask_gateway.client").GatewaySecurity(*keys)
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    if f"{tls}CA_FILE" not in variables:
        return None
    return _import("distributed.security").Security(
        tls_ca_file=variables[f"{tls}CA_FILE"],
        tls_client_cert=variables[f"{tls}CLIENT__CERT"],
        tls_client_key=variables[f"{tls}CLIENT__KEY"],
        require_encryption=True,
    )
