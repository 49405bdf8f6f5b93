"""A real dask-gateway-server on loopback, as the tests and benchmarks start it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONFIG = """
from dask_gateway_server.options import Options, Float, Integer, Mapping, Select, String

c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.address = "127.0.0.1:{api_port}"
c.UnsafeLocalBackend.api_url = "http://127.0.0.1:{api_port}/api"
c.Proxy.address = "{host}:{port}"
c.Proxy.tcp_address = "{host}:{port}"
c.SimpleAuthenticator.password = {password!r}
c.ClusterConfig.scheduler_cmd = {scheduler!r}
c.ClusterConfig.worker_cmd = {worker!r}
c.UnsafeLocalBackend.clusters_directory = {directory!r}
c.UnsafeLocalBackend.sigint_timeout = 3

{options}
"""

# As the reference deployment offers them.
REFERENCE = """
def handler(options):
    return {
        "worker_cores": max(1, int(options.worker_cores_limit)),
        "worker_memory": options.worker_memory,
    }

c.Backend.cluster_options = Options(
    Float("worker_cores_limit", default=1),
    Float("worker_cores", default=1, min=0.1, max=8),
    String("worker_memory", default="1 G"),
    String("image", default="daskgateway/dask-gateway:latest"),
    handler=handler,
)
"""

# As another site offers them: memory in GiB, no limit besides the cores, a queue of its own.
OTHER_SITE = """
def handler(options):
    return {
        "worker_cores": 1,
        "worker_memory": int(options.worker_memory * 2**30),
        "environment": {"SITE_QUEUE": options.queue, "SITE_MEMORY": str(options.worker_memory)},
    }

c.Backend.cluster_options = Options(
    Integer("worker_cores", default=2, min=2, max=8),
    Float("worker_memory", default=2, min=2, max=16, label="Worker Memory (GiB)"),
    Select("queue", options=["short", "long"], default="short"),
    handler=handler,
)
"""

STUCK = """
# The gateway appends the scheduler's own arguments, which `sleep` would refuse.
c.ClusterConfig.scheduler_cmd = ["sh", "-c", "exec sleep 600"]
# However slow the machine is, the gateway itself does not give up.
c.UnsafeLocalBackend.cluster_start_timeout = 600
"""

FAILING = """
c.ClusterConfig.scheduler_cmd = ["false"]
c.UnsafeLocalBackend.check_timeouts_period = 0.5
"""

# No version of the server limits clusters per user by itself; sites do it like this.
LIMITED = """
from dask_gateway_server.backends.base import PublicException
from dask_gateway_server.backends.local import UnsafeLocalBackend

class LimitedBackend(UnsafeLocalBackend):
    async def start_cluster(self, user, cluster_options):
        active = await self.list_clusters(username=user.name)
        if len(active) >= LIMIT:
            raise PublicException(f"User {user.name} has reached the limit of {LIMIT} clusters")
        return await super().start_cluster(user, cluster_options)

c.DaskGateway.backend_class = LimitedBackend
c.LimitedBackend.clusters_directory = c.UnsafeLocalBackend.clusters_directory
LIMIT = 1
"""


# Its clusters outlive a restart.
PERSISTENT = """
import base64
c.UnsafeLocalBackend.db_url = "sqlite:///gateway.sqlite"
c.UnsafeLocalBackend.db_encrypt_keys = [base64.b64encode(bytes(32))]
c.UnsafeLocalBackend.stop_clusters_on_shutdown = False
"""

ONE_WORKER = """
c.ClusterConfig.cluster_max_workers = 1
"""

IDLE = """
c.ClusterConfig.idle_timeout = 4
"""

# Takes variables for the scheduler and the workers, as many sites do.
VARIABLES = """
c.Backend.cluster_options = Options(
    Mapping("environment", {}), handler=lambda options: {"environment": options.environment}
)
"""

# Its schedulers take no code of a client's, as those of older Dask can be told by
# distributed.scheduler.pickle.
NO_PLUGINS = """
from pathlib import Path

Path("refusing.py").write_text(
    "def dask_setup(scheduler):\\n"
    "    def refuse(**_):\\n"
    "        raise ValueError('Cannot register a scheduler plugin: explicitly disallowed')\\n"
    "    scheduler.handlers['register_scheduler_plugin'] = refuse\\n"
)
c.ClusterConfig.scheduler_cmd = [
    "dask", "scheduler", "--preload", str(Path("refusing.py").absolute())
]
"""


# Straight to this machine, whatever HTTP proxy a test sets.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Dask = Callable[..., list[str]]
"""From the arguments of `dask` to what is started for them."""


def real_dask(*arguments: str) -> list[str]:
    # distributed 2026.6 dropped the dask-scheduler and dask-worker scripts.
    return ["dask", *arguments]


class GatewayServer:
    """One server with its proxy and clusters, all below a temporary folder and one session.

    Clients reach it at `host`, a loopback address; its clusters and this class at another one, so
    that the way of the clients can be cut.
    """

    def __init__(
        self,
        options: str = REFERENCE,
        password: str | None = None,
        host: str = "127.0.0.1",
        dask: Dask = real_dask,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gateway-"))
        self.log = self.folder / "gateway.log"
        self.password = password
        (self.folder / "clusters").mkdir()
        self.port, api_port = free_port(), free_port()
        self.url = f"http://{host}:{self.port}"
        self.private_url = f"http://127.0.0.1:{api_port}"
        self._config = config = self.folder / "dask_gateway_config.py"
        config.write_text(
            CONFIG.format(
                host=host,
                port=self.port,
                api_port=api_port,
                password=password,
                directory=str(self.folder / "clusters"),
                scheduler=dask("scheduler"),
                worker=dask("worker"),
                options=options,
            )
        )
        self._process = self._start(config)

    def _start(self, config: Path) -> subprocess.Popen[bytes]:
        scripts = Path(sys.executable).parent
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                # A pytest that is ended by a signal runs no fixture to its end.
                ["setpriv", "--pdeathsig", "TERM", scripts / "dask-gateway-server", "-f", config],
                cwd=self.folder,
                env=clean_environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                self.clusters()
                # The proxy learns its routes a moment after the server is there.
                with DIRECT.open(f"{self.url}/api/health", timeout=5):
                    return process
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("the gateway did not start:\n" + self.log.read_text())

    def clusters(self) -> list[str]:
        """Names of all clusters that are not gone yet, whoever's they are in these tests."""
        return [*self._ask("GET", "?status=pending,running,stopping")]

    def clear(self) -> None:
        """End what a failed test has left, so that the next one fails only for its own reasons."""
        deadline = time.monotonic() + 20
        for name in self.clusters():
            with contextlib.suppress(urllib.error.HTTPError):  # it is gone meanwhile
                self._ask("DELETE", name)
        while self.clusters() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _ask(self, method: str, path: str) -> Any:
        """Ask the server itself, without Dask Gateway's client, whose import takes a second."""
        request = urllib.request.Request(
            f"{self.private_url}/api/v1/clusters/{path}", method=method
        )
        login = base64.b64encode(f"tester:{self.password or ''}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
        with DIRECT.open(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def kill(self) -> None:
        """End the server at once, as a crash of its machine would; its clusters stay."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def restart(self) -> None:
        """Start it again after `kill`."""
        self._process = self._start(self._config)

    def stop(self) -> None:
        """End server, proxy and whatever clusters are left."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> list[int]:
        """Processes that work below this server's folder: schedulers and workers."""
        found = set()
        for link in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                if os.readlink(link).startswith(str(self.folder)):
                    found.add(int(link.parent.name))
        return sorted(found - {self._process.pid})


# Dask's nanny leaves these in a process that has started workers, as some tests' own has.
OF_A_NANNY = ("MALLOC_TRIM_", "MKL_NUM_", "OMP_NUM_", "OPENBLAS_NUM_", "PYTHONHASHSEED")


def clean_environment(**more: str) -> dict[str, str]:
    """This process's variables without those that speak to Dask, and with this Python first."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DASK_", "COV_", "PYTEST_", *OF_A_NANNY))
    }
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    kept["USER"] = "tester"
    kept["DASK_CONFIG"] = os.environ.get("DASK_CONFIG", "/dev/null")
    return {**kept, **more}


def free_port() -> int:
    """A port on which a server that is started next can listen.

    Not one that the kernel would choose: until the server listens, any connection of the tests that
    run beside this one could be given it, and while a killed server is restarted, too.
    """
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    lowest = min(10_000, ephemeral // 2)
    while True:
        port = lowest + secrets.randbelow(ephemeral - lowest)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
