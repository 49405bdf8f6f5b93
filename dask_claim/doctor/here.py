"""This machine or container: what a run needs of it."""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from dask_claim.doctor.finding import TEMPORARY, Examined, Finding, fail, ok, warn
from dask_claim.errors import DaskClaimError
from dask_claim.launch.first_process import deaf_parent
from dask_claim.launch.own_job import seconds_left
from dask_claim.providers.local.size import here

SMALL_SHM = 64 * 2**20
"""Bytes that container engines give where nobody asks for more."""

SMALL_MEMORY = 512 * 2**20
NO_NETWORK = (
    "a CWL tool has none without the requirement NetworkAccess: {networkAccess: true}; a container "
    "started with --network none has none either"
)


def check_network(seen: Examined) -> Finding:
    """Whether there is a route to anywhere but this machine itself."""
    if has_route():
        return ok("network", "there is a route to other machines")
    url = seen.resolved.claim.gateway_url
    if seen.uses_gateway and not _is_loopback(str(url)):
        return fail(
            "network", "there is no network here, and a gateway is claimed", NO_NETWORK, TEMPORARY
        )
    return warn("network", "there is no network here: only this machine can be reached", NO_NETWORK)


def has_route(proc: Path = Path("/proc/net")) -> bool:
    """Whether the kernel knows a route that is not loopback's, of IPv4 or IPv6."""
    devices = []
    for name, column in (("route", 0), ("ipv6_route", -1)):
        try:
            lines = (proc / name).read_text().splitlines()
        except OSError:
            continue
        devices += [line.split()[column] for line in lines if line.strip()]
    return any(device not in ("lo", "Iface") for device in devices)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_user(seen: Examined) -> Finding:
    """Dask Gateway's client wants a name for the user."""
    try:
        return ok("user", f"{getpass.getuser()} (uid {os.getuid()})")
    except (KeyError, OSError):
        return warn(
            "user",
            f"uid {os.getuid()} has no name here: gateways are told uid-{os.getuid()}",
            "set USER to the name by which the gateway is to know you, or give the uid a line in "
            "/etc/passwd",
        )


def check_home(seen: Examined) -> Finding:
    """Libraries write caches below it."""
    home = os.path.expanduser("~")
    if _writable(home):
        return ok("HOME", f"{home} can be written to")
    return warn("HOME", f"{home} cannot be written to", "set HOME to a folder that can: HOME=/tmp")


def check_temporary(seen: Examined) -> Finding:
    """Workers spill there, and keys of a run lie there."""
    hint = "set TMPDIR to a folder that can be written to, or mount one at /tmp"
    wanted = seen.environ.get("TMPDIR") or "/tmp"
    try:
        found = tempfile.gettempdir()
    except OSError as error:
        return fail("temporary files", f"no folder can be written to: {error.strerror}", hint)
    if os.path.realpath(found) == os.path.realpath(wanted) and _writable(found):
        return ok("temporary files", f"{found} can be written to")
    return warn("temporary files", f"{wanted} cannot be written to; {found} is used", hint)


def _writable(folder: str) -> bool:
    # Asking for the permission alone says yes to root on a file system that takes nothing.
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            return True
    except OSError:
        return False


def check_shared_memory(seen: Examined) -> Finding:
    """Programs that start processes or threads of their own share data there."""
    hint = (
        "give the container more: --shm-size 1g for docker and podman, an emptyDir with medium "
        "Memory at /dev/shm on Kubernetes"
    )
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return warn("/dev/shm", "is missing", hint)
    size = found.f_blocks * found.f_frsize
    shown = f"{size / 2**20:.0f} MiB"
    if size <= SMALL_SHM:
        return warn("/dev/shm", f"has {shown}: little for programs that share memory", hint)
    return ok("/dev/shm", shown)


def check_resources(seen: Examined) -> Finding:
    """What the machine has, control groups allow and a batch system granted."""
    cores, memory = here(seen.environ)
    shown = (
        f"cores: {round(cores.amount, 2):g} ({cores.owner}), "
        f"memory: {memory.amount / 2**30:.1f} GiB ({memory.owner})"
    )
    if (left := seconds_left(seen.environ)) is not None:
        shown += f", walltime: {left:.0f} s"
    if memory.amount < SMALL_MEMORY:
        return warn(
            "resources",
            f"{shown}: little for Dask's client alone",
            "raise this container's memory limit (CWL: ResourceRequirement ramMin)",
        )
    return ok("resources", shown)


def check_first_process(seen: Examined) -> Finding:
    """Whether a signal to the container would reach us."""
    if deaf := deaf_parent():
        message, _, hint = deaf.partition(": ")
        return warn("first process", message, hint)
    return ok("first process", "signals reach this process")


def check_extras(seen: Examined) -> Finding | None:
    """Packages that the provider needs beyond dask-claim's own, and its commands."""
    if seen.provider is None:
        return None
    try:
        seen.provider.check()
    except DaskClaimError as error:
        message, _, hint = str(error).partition(": ")
        return fail("provider", message, hint or "choose another --provider", error.exit_status)
    if seen.plan.choice.warnings:
        return None  # they are told already
    return ok("provider", f"{seen.plan.provider}: {seen.provider.description}")


CHECKS: tuple[Callable[[Examined], Finding | None], ...] = (
    check_extras,
    check_user,
    check_home,
    check_temporary,
    check_shared_memory,
    check_resources,
    check_first_process,
    check_network,
)
