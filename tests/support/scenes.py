"""What several tests of the giving back share: small claims, commands, and a look at processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.gateway import GatewayServer, clean_environment
from tests.support.launcher import DASK_CLAIM, Launcher, Run, Running, processes_with, wait_for

SMALL = {"min_workers": 0, "max_workers": 1}

# In which a command is the first process, as in a container.
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")

# Tells that it is ready, and ends with status 5 when it is told to.
# Before the launcher: tasks that wait in vain are told every half of a second, not each minute.
HURRY = (
    sys.executable, "-c",
    "import runpy, sys; import dask_claim.launch.waiting as it; it.REMIND_EVERY = 0.5; "
    "sys.argv[:1] = []; runpy.run_path(sys.argv[0], run_name='__main__')",
)  # fmt: skip

WAITING = ("sh", "-c", "echo ready; read line; exit 5")


# Prints one result; another user is refused by scheduler and worker, and cannot read the keys. A
# connection in clear, one with keys of another authority, and the web servers.
NOBODY_ELSE = """
import asyncio, os, sys, urllib.error, urllib.request
from distributed import Client, Security
from distributed.comm import connect
from distributed.core import send_recv

async def other(address, port):
    security = Security.temporary()
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    if key := os.environ.get("DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY"):
        try:
            open(key).read()
            return 3
        except PermissionError:
            pass
    for target, args in (
        (address, security.get_connection_args("client")),
        (address.replace("tls:", "tcp:"), {}),
    ):
        try:
            comm = await connect(target, timeout=3, **args)
            await asyncio.wait_for(send_recv(comm, op="identity"), 3)
            return 4
        except (OSError, asyncio.TimeoutError):
            pass
    for page in ("", "status", "sitemap.json", "health", "metrics", "info/main/workers.html"):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=9) as answer:
                if page != "sitemap.json" or b"status" in answer.read():
                    return 6
        except urllib.error.HTTPError as error:
            if error.code != 404:
                return 7
    return 0

with Client() as client:
    print(client.submit(sum, [20, 22]).result(), flush=True)
    info = client.scheduler_info()
    for address, port in [
        # The dashboard's token goes with its port.
        (info["address"], str(info["services"]["dashboard"]).partition("/")[0]),
        *((worker, known["services"]["dashboard"]) for worker, known in info["workers"].items()),
    ]:
        assert address.startswith("tls:"), address
        child = os.fork()
        if child == 0:
            status = 5
            try:
                status = asyncio.new_event_loop().run_until_complete(other(address, port))
            finally:
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), end=" ")
"""


def until_ready(run: Running) -> None:
    assert run.process.stdout.readline() == b"ready\n", run.err


def waiting(
    launcher: Launcher, gateway: GatewayServer, *flags: str, leased: bool = True, **claim: Any
) -> Running:
    """A command that waits for a line of input, on a small cluster whose lease is placed."""
    claim = {"gateway_url": gateway.url, **SMALL, **claim}
    run = launcher.start(*WAITING, claim=claim, flags=flags, stdin=subprocess.PIPE)
    until_ready(run)
    if leased:
        until_leased(gateway)
    return run


def let_go(run: Running) -> Run:
    """Give it that line; it has ended with its own status."""
    run.process.stdin.write(b"\n")
    run.process.stdin.flush()
    ended = run.finish()
    assert ended.status == 5, ended.err
    return ended


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
    from tests.support.here import dask_claim

    def leased() -> bool:
        answer = dask_claim("clusters", "--gateway-url", gateway.url, "--json")
        return {row["lease"] for row in json.loads(answer.out)} == {"live"}

    wait_for(leased, "a lease on every cluster", 30)


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
