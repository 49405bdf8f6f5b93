"""This machine or container: what a run needs of it."""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from dask_claim.claim.addresses import is_loopback
from dask_claim.doctor.finding import TEMPORARY, Examined, Finding, fail, fail_with, ok, warn
from dask_claim.errors import DaskClaimError
from dask_claim.launch.first_process import deaf_parent
from dask_claim.launch.own_job import seconds_left
from dask_claim.providers.local.size import here

SMALL_SHM = 64 * 2**20
"""Bytes that container engines give by default."""

SMALL_MEMORY = 512 * 2**20
NO_NETWORK = (
    "a CWL tool has none without the requirement NetworkAccess: {networkAccess: true}; a container "
    "started with --network none has none either"
)


async def check(seen: Examined) -> AsyncIterator[Finding]:
    """Everything but the cluster, in order."""
    try:
        seen.provider.check()
        if not seen.plan.choice.warnings:
            yield ok("provider", f"{seen.plan.provider}: {seen.provider.description}")
    except DaskClaimError as error:
        yield fail_with("provider", error, "or choose another --provider")
    yield _check_user()
    yield _check_home()
    yield _check_temporary(seen)
    yield _check_shared_memory()
    yield _check_resources(seen)
    # A signal to the container may not reach us.
    deaf = deaf_parent()
    yield warn("first process", deaf) if deaf else ok("first process", "signals reach this process")
    yield _check_network(seen)


def _check_network(seen: Examined) -> Finding:
    """Whether there is a route to anywhere but this machine itself."""
    if has_route():
        return ok("network", "there is a route to other machines")
    url = seen.resolved.claim.gateway_url
    if seen.uses_gateway and not is_loopback(str(url)):
        message = "there is no network here, and a gateway is claimed"
        return fail("network", message, NO_NETWORK, TEMPORARY)
    return warn("network", "there is no network here: only this machine can be reached", NO_NETWORK)


def has_route(proc: Path = Path("/proc/net")) -> bool:
    """Whether the kernel has a route that is not loopback's, of IPv4 or IPv6."""
    devices = []
    for name, column in (("route", 0), ("ipv6_route", -1)):
        try:
            lines = (proc / name).read_text().splitlines()
        except OSError:
            continue
        devices += [line.split()[column] for line in lines if line.strip()]
    return any(device not in ("lo", "Iface") for device in devices)


def _check_user() -> Finding:
    """Dask Gateway's client wants a name for the user."""
    uid = os.getuid()
    try:
        return ok("user", f"{getpass.getuser()} (uid {uid})")
    except (KeyError, OSError):
        hint = "set USER to the name for the gateway, or give the uid a line in /etc/passwd"
        return warn("user", f"uid {uid} has no name here: gateways see uid-{uid}", hint)


def _check_home() -> Finding:
    """Libraries write caches below it."""
    home = os.path.expanduser("~")
    if _writable(home):
        return ok("HOME", f"{home} can be written to")
    return warn("HOME", f"{home} cannot be written to", "set HOME to a folder that can: HOME=/tmp")


def _check_temporary(seen: Examined) -> Finding:
    """Workers spill there, and a run keeps its keys there."""
    hint = "set TMPDIR to a folder that can be written to, or mount one at /tmp"
    named = seen.environ.get("TMPDIR") or "/tmp"
    try:
        used = tempfile.gettempdir()
    except OSError as error:
        return fail("temporary files", f"no folder can be written to: {error.strerror}", hint)
    if os.path.realpath(used) == os.path.realpath(named) and _writable(used):
        return ok("temporary files", f"{used} can be written to")
    return warn("temporary files", f"{named} cannot be written to; {used} is used", hint)


def _writable(folder: str) -> bool:
    # Root has the permission also on a read-only file system.
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            return True
    except OSError:
        return False


def _check_shared_memory() -> Finding:
    """Programs that start processes or threads of their own share data there."""
    hint = (
        "give the container more: --shm-size 1g for docker and podman, an emptyDir with medium "
        "Memory at /dev/shm on Kubernetes"
    )
    try:
        status = os.statvfs("/dev/shm")
    except OSError:
        return warn("/dev/shm", "is missing", hint)
    size = status.f_blocks * status.f_frsize
    shown = f"{size / 2**20:.0f} MiB"
    if size <= SMALL_SHM:
        return warn("/dev/shm", f"has {shown}: little for programs that share memory", hint)
    return ok("/dev/shm", shown)


def _check_resources(seen: Examined) -> Finding:
    """What the machine has, control groups allow and a batch system granted."""
    cores, memory = here(seen.environ)
    shown = f"cores: {round(cores.amount, 2):g} ({cores.owner}), "
    shown += f"memory: {memory.amount / 2**30:.1f} GiB ({memory.owner})"
    if (left := seconds_left(seen.environ)) is not None:
        shown += f", walltime: {left:.0f} s"
    if memory.amount < SMALL_MEMORY:
        hint = "raise this container's memory limit (CWL: ResourceRequirement ramMin)"
        return warn("resources", f"{shown}: little for Dask's client alone", hint)
    return ok("resources", shown)
