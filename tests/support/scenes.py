"""What several tests of the giving back share: small claims, commands, and a look at processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.support.gateway import GatewayServer, clean_environment
from tests.support.launcher import DASK_CLAIM, Launcher, Running, processes_with, wait_for

SMALL = {"min_workers": 0, "max_workers": 1}

# Tells that it is ready, and ends with status 5 when it is told to.
WAITING = ("sh", "-c", "echo ready; read line; exit 5")


def until_ready(run: Running) -> None:
    assert run.process.stdout.readline() == b"ready\n", run.err


def until_gone(gateway: GatewayServer, timeout: float) -> None:
    wait_for(lambda: not gateway.clusters(), "end of the cluster", timeout)


def clusters_command(
    gateway: GatewayServer, *arguments: str, **popen: Any
) -> subprocess.CompletedProcess[str]:
    """`dask-claim clusters` with these arguments."""
    popen.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(
        [DASK_CLAIM, "clusters", "--gateway-url", gateway.url, *arguments],
        capture_output=True, text=True, check=False, env=clean_environment(), **popen,
    )  # fmt: skip


def leases(gateway: GatewayServer) -> dict[str, str]:
    """Cluster → what `dask-claim clusters` says of its lease."""
    answer = clusters_command(gateway, "--json")
    assert answer.returncode == 0, answer.stderr
    return {row["name"]: row["lease"] for row in json.loads(answer.stdout)}


def until_leased(gateway: GatewayServer) -> None:
    wait_for(lambda: set(leases(gateway).values()) == {"live"}, "a lease on every cluster", 30)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def processes_of(gateway: GatewayServer, name: str) -> list[int]:
    """Its clusters' schedulers, or workers."""
    return [pid for pid in gateway.processes() if f"dask {name}" in command_line(pid)]


def guards(launcher: Launcher) -> list[int]:
    return [pid for pid in processes_with(launcher.marker) if "guard_process" in command_line(pid)]


def kill(run: Running) -> None:
    """SIGKILL for the launcher alone; returns when nobody holds the command's output any more."""
    run.process.kill()
    run.process.communicate(timeout=60)


def end_all(launcher: Launcher) -> None:
    """As the end of a container, a virtual machine or a node does it: nobody can clean up."""
    first = guards(launcher)
    for pid in [*first, *processes_with(launcher.marker)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
