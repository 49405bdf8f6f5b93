"""This machine or container: what a run needs of it."""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import AsyncIterator

from dask_claim.claim.addresses import is_loopback
from dask_claim.doctor.finding import TEMPORARY, Examined, Finding, fail, fail_with, ok, warn
from dask_claim.errors import DaskClaimError
from dask_claim.launch.first_process import deaf_parent
from dask_claim.launch.own_job import seconds_left
from dask_claim.providers.local.size import describe, here

SMALL_MEMORY = 512 * 2**20
NO_NETWORK = (
    "a CWL tool has none without the requirement NetworkAccess: {networkAccess: true}; a container "
    "started with --network none has none either"
)


async def check(seen: Examined) -> AsyncIterator[Finding]:
    """Everything but the cluster, in order."""
    provider, environ = seen.provider, seen.provider.request.environ
    try:
        provider.check()
        if not provider.request.plan.choice.warnings:
            yield ok("provider", f"{provider.request.plan.provider}: {provider.description}")
    except DaskClaimError as error:
        yield fail_with("provider", error, "or choose another --provider")
    yield _check_user()
    yield _check_temporary(environ.get("TMPDIR") or "/tmp")
    yield _check_resources(seen)
    # A signal to the container may not reach us.
    deaf = deaf_parent()
    yield warn("first process", deaf) if deaf else ok("first process", "signals reach this process")
    yield _check_network(seen)


def _check_network(seen: Examined) -> Finding:
    """Whether there is a network but this machine's own; not every site has a default route."""
    import psutil  # of distributed

    if any(name != "lo" and its.isup for name, its in psutil.net_if_stats().items()):
        return ok("network", "this machine has a network")
    if seen.uses_gateway and not is_loopback(str(seen.resolved.claim.gateway_url)):
        message = "there is no network here, and a gateway is claimed"
        return fail("network", message, NO_NETWORK, TEMPORARY)
    return warn("network", "there is no network here: only this machine can be reached", NO_NETWORK)


def _check_user() -> Finding:
    """Dask Gateway's client wants a name for the user."""
    uid = os.getuid()
    try:
        return ok("user", f"{getpass.getuser()} (uid {uid})")
    except (KeyError, OSError):
        hint = "set USER to the name for the gateway, or give the uid a line in /etc/passwd"
        return warn("user", f"uid {uid} has no name here: gateways see uid-{uid}", hint)


def _check_temporary(named: str) -> Finding:
    """Workers spill there, and a run keeps its keys there."""
    hint = "set TMPDIR to a folder that can be written to, or mount one at /tmp"
    try:
        # Python takes the first of several that it can write a file to.
        used = tempfile.gettempdir()
    except OSError as error:
        return fail("temporary files", f"no folder can be written to: {error.strerror}", hint)
    if os.path.realpath(used) == os.path.realpath(named):
        return ok("temporary files", f"{used} can be written to")
    return warn("temporary files", f"{named} cannot be written to; {used} is used", hint)


def _check_resources(seen: Examined) -> Finding:
    """What the machine has, control groups allow and a batch system granted."""
    environ = seen.provider.request.environ
    cores, memory = here(environ)
    shown = describe(cores, memory)
    if (left := seconds_left(environ)) is not None:
        shown += f", walltime: {left:.0f} s"
    if memory.amount < SMALL_MEMORY:
        hint = "raise this container's memory limit (CWL: ResourceRequirement ramMin)"
        return warn("resources", f"{shown}: little for Dask's client alone", hint)
    return ok("resources", shown)
