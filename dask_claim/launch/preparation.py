"""What can be wrong with a run before anything is made for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dask_claim.credentials.login import withheld_warning
from dask_claim.errors import CommandNotExecutable, CommandNotFound
from dask_claim.launch.events import Events
from dask_claim.launch.first_process import deaf_parent
from dask_claim.launch.handoff import check_variables
from dask_claim.launch.run_options import RunOptions
from dask_claim.providers.values import Request

if TYPE_CHECKING:
    from dask_claim.claim.model import Resolved


def prepare(
    command: Sequence[str], resolved: Resolved, options: RunOptions, emit: Events
) -> Request:
    """Return the request for the run's cluster.

    Raises
    ------
    CommandNotFound, CommandNotExecutable, ClaimError
    """
    places = dict.fromkeys(resolved.sources.values())
    if named := [place for place in places if place != "default"]:
        emit.note(f"The claim comes from {', '.join(named)}")
    if command:
        check_command(command, os.environ)
    check_variables(resolved.claim, resolved.plan(), os.environ)
    request = Request.of(resolved, options.start_timeout, options.stop_timeout)
    withheld = withheld_warning(resolved)
    for warning in (*resolved.warnings(), withheld, deaf_parent()):
        if warning:
            emit.warn(warning)
    return request


def check_command(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raise `CommandNotFound` or `CommandNotExecutable` before anything is created for it."""
    name = command[0]
    path = environment.get("PATH", os.defpath)
    if shutil.which(name, path=path):
        return
    if os.sep not in name:
        if shutil.which(name, mode=os.F_OK, path=path):
            raise CommandNotExecutable(f"{name}: the file found on PATH is not executable")
        raise CommandNotFound(f"{name}: command not found on PATH")
    if os.path.isdir(name):
        raise CommandNotExecutable(f"{name}: is a directory")
    if os.path.exists(name):
        raise CommandNotExecutable(f"{name}: the file is not executable (chmod +x)")
    raise CommandNotFound(f"{name}: no such file")
