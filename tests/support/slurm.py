"""A real Slurm, beside any other that the machine may have.

Its configuration, sockets, state, spool and logs stand below one folder, its daemons listen on
loopback and on ports that were free, and its commands are told of all that by wrappers.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.gateway import clean_environment, free_port
from tests.support.launcher import processes_with, wait_for
from tests.support.missing import PATH, need

COMMANDS = ("salloc", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
# Node → its cores. Those of the partition `frail` have room for three jobs and for one.
NODES = {"node0": 16, "node1": 16, "frail0": 3, "frail1": 1}

# Everything that would need cgroups, accounts or other machines is off. More cores and memory are
# promised than the machine may have: what the tests start sleeps most of the time.
CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/none
CredType=cred/none
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
DebugFlags=NO_CONF_HASH
# Seconds from SIGTERM to SIGKILL for a job that is cancelled: enough for a busy machine.
KillWait={kill_wait}
{nodes}
PartitionName=all Nodes=node[0-1] Default=YES
# Its jobs have three seconds.
PartitionName=frail Nodes=frail[0-1]
# Its jobs wait for good.
PartitionName=closed Nodes=ALL State=DOWN
"""
NODE = "NodeName={} NodeHostname={} NodeAddr=127.0.0.1 Port={} CPUs={} RealMemory=32000"

# How a gateway uses it. Whoever asks, the jobs are those of the account that runs the tests.
GATEWAY = """
from dask_gateway_server.auth import SimpleAuthenticator
from dask_gateway_server.backends.jobqueue.slurm import SlurmBackend
from dask_gateway_server.models import User

class OneAccount(SimpleAuthenticator):
    async def authenticate(self, request):
        await super().authenticate(request)
        return User("root")

class LoopbackSlurmBackend(SlurmBackend):
    default_host = "127.0.0.1"

c.DaskGateway.authenticator_class = OneAccount
c.DaskGateway.backend_class = LoopbackSlurmBackend
# Nodes are other machines: like clients, they know the gateway's public address.
c.LoopbackSlurmBackend.api_url = f"http://{{c.Proxy.address}}/api"
c.LoopbackSlurmBackend.submit_command = "{bin}/sbatch"
c.LoopbackSlurmBackend.cancel_command = "{bin}/scancel"
c.LoopbackSlurmBackend.status_command = "{bin}/squeue"
c.SlurmClusterConfig.staging_directory = c.UnsafeLocalBackend.clusters_directory
# A job has none of the server's variables: the command's whole path, and nothing in root's home.
c.ClusterConfig.scheduler_cmd = ["{dask}", "scheduler"]
c.ClusterConfig.worker_cmd = ["{dask}", "worker"]
c.ClusterConfig.environment = {{"DASK_CONFIG": "/dev/null"}}
c.Backend.cluster_options = Options(
    String("partition", default="all"), handler=lambda options: {{"partition": options.partition}}
)
"""


class Slurm:
    """One controller, four nodes, and the commands to speak to them."""

    def __init__(self) -> None:
        self.folder = folder = Path(tempfile.mkdtemp(prefix="dask-claim-slurm-"))
        host, port = socket.gethostname().split(".")[0], free_port()
        nodes = "\n".join(NODE.format(name, host, free_port(), NODES[name]) for name in NODES)
        for kind, kill_wait in ("node", 20), ("frail", 3):
            (folder / f"{kind}.conf").write_text(
                CONFIG.format(
                    host=host, folder=folder, controller_port=port, nodes=nodes, kill_wait=kill_wait
                )
            )
        for name in ("bin", "state", *(f"spool-{node}" for node in NODES)):
            (folder / name).mkdir()
        for name in COMMANDS:
            real = shutil.which(name, path=PATH)
            self.command(name).write_text(
                f'#!/bin/sh\nSLURM_CONF={folder}/node.conf exec {real} "$@"\n'
            )
            self.command(name).chmod(0o755)
        scripts = Path(sys.executable).parent
        self.variables = {"PATH": os.pathsep.join(map(str, (folder / "bin", scripts, PATH)))}
        """Those with which its commands are found."""

        self._daemons: list[subprocess.Popen[bytes]] = []
        try:
            self._daemon("slurmctld", "node")
            for node in NODES:
                self._daemon("slurmd", node[:-1], "-N", node)
            wait_for(self._idle, "idle nodes", 40, self.logs)
        except BaseException:
            self.stop()
            raise

    def _daemon(self, name: str, kind: str, *arguments: str) -> None:
        with (self.folder / f"{name}{''.join(arguments)}.log").open("wb") as output:
            config = f"{self.folder}/{kind}.conf"
            process = subprocess.Popen(
                # It ends with its tests, also where those are killed.
                ["setpriv", "--pdeathsig", "TERM", shutil.which(name, path=PATH) or name, "-D",
                 "-f", config, *arguments],
                env=clean_environment(SLURM_CONF=f"{self.folder}/node.conf"),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._daemons.append(process)

    def logs(self) -> str:
        """What the daemons have written, for the message of a failure."""
        return "\n".join(f"{log}:\n{log.read_text()}" for log in self.folder.glob("*.log"))

    def command(self, name: str) -> Path:
        """One of the `COMMANDS`, for this Slurm."""
        return self.folder / "bin" / name

    def run(self, command: str, *arguments: str, check: bool = True) -> str:
        """What one of the `COMMANDS` prints."""
        done = subprocess.run(
            [self.command(command), *arguments],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not check, f"{command}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def _idle(self) -> bool:
        # Nothing before the controller listens.
        said = self.run("sinfo", "-h", "-N", "--format=%T", "-p", "all,frail", check=False)
        return said.split() == ["idle"] * len(NODES)

    def jobs(self) -> list[str]:
        """State of every job that is not over yet: PENDING, RUNNING, COMPLETING."""
        return self.run("squeue", "--noheader", "--format=%T").split()

    def gateway_options(self) -> str:
        """Configuration of a gateway whose clusters are jobs of this Slurm."""
        dask = Path(sys.executable).with_name("dask")
        return GATEWAY.format(bin=self.folder / "bin", dask=dask)

    def stop(self) -> None:
        """End the daemons, and jobs and their keepers, which outlive them."""
        for pid in processes_with(f"SLURM_CONF={self.folder}"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for daemon in self._daemons:
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _slurm() -> Iterator[Slurm]:
    need("root", "Slurm")
    made = Slurm()
    yield made
    made.stop()


@pytest.fixture
def slurm(_slurm: Slurm) -> Iterator[Slurm]:
    """Has no job before a test; fails where one is left 40 s after it."""
    yield _slurm
    try:
        wait_for(lambda: not _slurm.jobs(), "end of all jobs", 40, _slurm.logs)
    finally:
        _slurm.run("scancel", "--user=root")
