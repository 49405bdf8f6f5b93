"""The process that hosts a Dask Gateway of this run: dask-gateway-server, as one run needs it.

As with a local cluster, the pipe from the launcher ends it, with everything that the gateway has
started (see `host_process`). Its one event tells where the gateway is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Modules lying beside this file must not shadow anybody's.
    sys.path[0:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[3]))

from dask_gateway_server.app import DaskGateway
from dask_gateway_server.backends.local import UnsafeLocalBackend
from dask_gateway_server.options import Bool, Field, Float, Integer, Mapping, Options, String
from traitlets.config import Config

from dask_claim.claim.memory import Memory
from dask_claim.files import remove_private_folder
from dask_claim.processes import members
from dask_claim.providers.host_process import launcher_left, serve, tell
from dask_claim.providers.local.size import UNBOUNDED, LocalRequest, fit_here
from dask_claim.threads import in_time

HOST = "127.0.0.1"
# The server ends its clusters in order, usually within a second; what is left is killed.
STOPS_WITHIN, POLL = 4.0, 0.02

# Schedulers and workers find the program's modules, as those of a LocalCluster do, after all
# installed ones, and end without a word where they are stopped before Dask is imported: SIGINT is
# blocked until Python has this handler, see `start_process`. The scripts that the gateway calls by
# default are gone from newer Dask.
RUN_DASK = (
    "import os, signal, sys; signal.signal(signal.SIGINT, lambda *_: os._exit(1)); "
    "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT]); "
    "sys.path[0:1] = []; sys.path.append(sys.argv.pop(1)); "
    "from dask.cli import run_cli; sys.exit(run_cli())"
)

# Their web pages would answer everybody on the machine.
VARIABLES = {
    "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": "[]",
    "DASK_DISTRIBUTED__WORKER__HTTP__ROUTES": "[]",
}
QUIET = ""
if not any(name.startswith("DASK_LOGGING") for name in os.environ):
    # Their messages are the launcher's: as quiet as a LocalCluster, unless more is configured. The
    # gateway's own part of a scheduler heeds no setting.
    VARIABLES["DASK_LOGGING__DISTRIBUTED"] = "warning"
    QUIET = "import logging; logging.disable(logging.INFO); "

PATIENCE = 86400.0
"""Seconds after which the server itself gives something up."""


class Server(DaskGateway):  # type: ignore[misc]
    """The launcher alone decides when it ends."""

    def handle_shutdown_signal(self, sig: Any) -> None:
        pass


class Backend(UnsafeLocalBackend):  # type: ignore[misc]
    """Clusters as processes of this run: of its user, with its variables, in its session."""

    def get_env(self, cluster: Any) -> dict[str, str]:
        return {**os.environ, **VARIABLES, **super().get_env(cluster)}

    async def start_process(
        self, cluster: Any, cmd: list[str], env: dict[str, str], name: str
    ) -> int:
        """In the group of the process that holds this gateway, which ends them all at once.

        The gateway's own way gives each a session of its own, and their messages to a file.
        """
        process = await asyncio.create_subprocess_exec(
            *cmd,
            cwd=cluster.state["workdir"],
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]),
        )
        return process.pid


async def hold(request: dict[str, Any], events: Any) -> None:
    """Start the gateway and keep it until standard input closes."""
    left = launcher_left()
    # The server handles the others: what it starts has signals as usual, not ignored ones.
    signal.signal(signal.SIGHUP, lambda *_: None)
    request["cwd"] = "/"
    with contextlib.suppress(FileNotFoundError):  # it was deleted
        request["cwd"] = os.getcwd()
    os.chdir(request["folder"])
    port = free_port()
    server = make_server(request, f"{HOST}:{port}", f"{HOST}:{free_port()}")

    async def start() -> None:
        await server.setup()
        while not await asyncio.to_thread(answers, port):
            await asyncio.sleep(POLL)
        tell(events, gateway_url=f"http://{HOST}:{port}", proxy_url=f"gateway://{HOST}:{port}")

    starting = asyncio.ensure_future(start())
    leaving = asyncio.ensure_future(left.wait())
    try:
        await asyncio.wait({starting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
        await leaving
    finally:
        starting.cancel()
        with contextlib.suppress(Exception):
            await in_time(stop(server), STOPS_WITHIN)
        for pid in members(os.getpgrp()):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        remove_private_folder(request["folder"])


async def stop(server: Any) -> None:
    """End all clusters while their schedulers can still report to the server; then that."""
    with contextlib.suppress(Exception):  # a server that was not up yet
        clusters = server.backend.db.name_to_cluster
        for name in [*clusters]:
            await server.backend.stop_cluster(name)
        # Also of those that the program has stopped just before.
        await asyncio.gather(*(cluster.shutdown for cluster in clusters.values()))
    await server.cleanup()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def answers(port: int) -> bool:
    """Whether the gateway answers through its proxy."""
    # Programs show their password to whichever process listens there.
    if not own_child_listens(port):
        return False
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    health = f"http://{HOST}:{port}/api/health"
    with contextlib.suppress(OSError), direct.open(health, timeout=5):
        return True
    return False


def own_child_listens(port: int) -> bool:
    import psutil

    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            # Its name before psutil 6.
            connections = getattr(child, "net_connections", None) or child.connections
            if any(each.laddr[1:] == (port,) and not each.raddr for each in connections("tcp")):
                return True
    return False


def make_server(request: dict[str, Any], address: str, api: str) -> DaskGateway:
    """Return the server for a request of `own_gateway`, to listen on loopback alone.

    Its settings are in no file, variable or argument: the password is one of them.
    """
    config, here = Config(), request["cwd"]
    config.DaskGateway.update(backend_class=Backend, address=api, log_level="ERROR")
    config.Proxy.update(address=address, tcp_address=address, log_level="error")
    config.SimpleAuthenticator.password = request["password"]
    config.ClusterConfig.update(
        scheduler_cmd=[sys.executable, "-c", QUIET + RUN_DASK, here, "scheduler", "--no-dashboard"],
        worker_cmd=[sys.executable, "-c", RUN_DASK, here, "worker", "--no-dashboard"],
    )
    config.Backend.update(
        api_url=f"http://{api}/api",
        clusters_directory=request["folder"],
        cluster_options=options(request),
        sigint_timeout=3,
        # The launcher decides how long is waited; and a laptop may sleep in between.
        cluster_start_timeout=PATIENCE,
        worker_start_timeout=PATIENCE,
        cluster_heartbeat_timeout=PATIENCE,
        # How soon it sees that a scheduler or worker has died.
        check_timeouts_period=1.0,
    )
    server = Server(config=config)
    # No file of the working directory is read for more settings.
    server.initialize(["--config", os.devnull])
    return server


def options(request: dict[str, Any]) -> Options:
    """What programs may set: as the reference deployment offers it, and what the claim names."""
    base = LocalRequest(**{**request["size"], "unsaid": False, "min_workers": 1})
    cores = base.worker_cores or base.worker_cores_limit or 1
    fields = [
        Float("worker_cores", default=cores, min=0.01),
        Float("worker_cores_limit", default=base.worker_cores_limit or cores, min=0.01),
        String("worker_memory", default=request["worker_memory"] or ""),
        String("image", default=request["image"] or ""),
        Mapping("environment", default=request["environment"]),
    ]
    names = {field.field for field in fields}
    claimed = request["options"].items()
    fields += [_field(name, value) for name, value in claimed if name not in names]
    return Options(*fields, handler=functools.partial(worker, base))


def _field(name: str, value: Any) -> Field:
    """A site's own option, which means nothing on this machine."""
    kinds = ((bool, Bool), (int, Integer), (float, Float), (dict, Mapping))
    kind = next((kind for type_, kind in kinds if isinstance(value, type_)), None)
    return kind(name, default=value) if kind else String(name, default=str(value))


def worker(base: LocalRequest, options: Any) -> dict[str, Any]:
    """Return what the gateway makes of a program's options, within this container's limits."""
    written, cores = options.worker_memory, options.worker_cores
    asked = replace(
        base,
        max_workers=UNBOUNDED,
        worker_cores=cores,
        worker_cores_limit=max(options.worker_cores_limit, cores),
        worker_memory=Memory(written).bytes if written else None,
    )
    size = fit_here(asked)
    return {
        "worker_cores": size.threads,
        "worker_memory": size.memory,
        "cluster_max_workers": size.max_workers,
        "environment": options.environment,
    }


if __name__ == "__main__":
    serve(hold)
