"""Jobs of HTCondor: each is a description and no script, and the whole pool can read it.

So keys and variables are in a private file that HTCondor sends to the job, which reads it first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dask_claim.errors import ConfigurationError

SETUP = "dask-claim-worker.sh"
"""Name of that file."""

_WALLTIME = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)|(\d+)")
_LINE = re.compile(r"\s*([\w.+]+)\s*=\s*(\S.*)")

# A held job needs nothing but a place in the list, where its reason can be read.
_HELD = "(JobStatus == 5 && time() - EnteredCurrentStatus > 3600)"
_LONGER = "(JobStatus == 2 && time() - JobCurrentStartDate > {})"
# A site's or claim's value of these, joined with the run's own.
_JOINED = {"transfer_input_files": "{}, {}", "periodic_remove": "({}) || {}"}


def commands(hpc: Mapping[str, Any], name: str) -> list[str]:
    """Return the commands of a job's description for entries of `hpc`, and for the run's `name`.

    Raises
    ------
    ConfigurationError
        HTCondor has no such thing, or cannot read it.
    """
    if "queue" in hpc:
        raise ConfigurationError(
            "hpc.queue: HTCondor has no queues; say which machines will do with a directive, "
            "such as 'requirements = …'"
        )
    lines = list(hpc.get("directives", ()))
    if wrong := next((line for line in lines if not _LINE.fullmatch(line)), None):
        raise ConfigurationError(f"hpc.directives: {wrong!r} is not an HTCondor 'name = value'")
    if "account" in hpc:
        lines.append(f"accounting_group = {hpc['account']}")
    ends = _HELD
    if walltime := str(hpc.get("walltime", "")):
        ends = f"{_LONGER.format(_seconds(walltime))} || {_HELD}"
    return [
        *lines,
        f"batch_name = {name}",
        f'MY.DaskClaimRun = "{name}"',
        "transfer_executable = False",
        "should_transfer_files = YES",
        "when_to_transfer_output = ON_EXIT",
        'transfer_output_files = ""',
        f"periodic_remove = {ends}",
    ]


def _seconds(walltime: str) -> int:
    if (match := _WALLTIME.fullmatch(walltime)) is None:
        raise ConfigurationError(
            f"hpc.walltime: {walltime!r} is neither hours:minutes:seconds nor a number of seconds"
        )
    days, hours, minutes, seconds, alone = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds + alone


def as_description(arguments: dict[str, Any], exports: Iterable[str], folder: Path) -> None:
    """Change the arguments of dask-jobqueue's class: `exports` come with a file from `folder`."""
    import dask.config

    file = folder / SETUP
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.writelines(f"{line}\n" for line in exports)
    arguments["job_script_prologue"].append(f". ./{SETUP}")
    # Names are the same in any case, and the last of a name counts.
    pairs: dict[str, str] = {}
    for line in [*arguments["job_extra_directives"], f"transfer_input_files = {file}"]:
        name, _, value = line.partition("=")
        name, value = name.strip().lower(), value.strip()
        if name in pairs and name in _JOINED:
            value = _JOINED[name].format(pairs[name], value)
        pairs[name] = value
    arguments["job_extra_directives"] = pairs
    if not dask.config.get("jobqueue.htcondor.disk", None):
        # What does not fit into a worker's memory is spilled there.
        arguments.setdefault("disk", arguments["memory"])
