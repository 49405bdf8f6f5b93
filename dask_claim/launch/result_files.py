"""Files that tell a command where its cluster is, for programs that read it from there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from dask_claim.files import private_folder, write_whole
from dask_claim.providers.values import Cluster, Ticket

RESULT_FILES = {"scheduler_file": "scheduler.json", "cluster_name_file": "cluster-name"}
"""Field of the claim's `env` → name of the file."""


def contents(cluster: Cluster) -> dict[str, str]:
    """Return field → text of its file, without what this cluster does not have."""
    found = {}
    if cluster.scheduler_address is not None:
        # What clients read of the file that `dask scheduler --scheduler-file` writes.
        scheduler = {"type": "Scheduler", "address": cluster.scheduler_address}
        found["scheduler_file"] = json.dumps(scheduler, indent=2)
    if cluster.cluster_name is not None:
        # No newline: not every program strips it.
        found["cluster_name_file"] = cluster.cluster_name
    return found


def write_result_files(
    cluster: Cluster, env: Mapping[str, str], write: Callable[[Ticket], None]
) -> dict[str, str]:
    """Write the files that `env` has names for; return field → path.

    They lie in a folder of this run that only this user can look into. `write` keeps the ticket
    by which it is removed, also where the launcher is killed.
    """
    texts = {field: text for field, text in contents(cluster).items() if field in env}
    if not texts:
        return {}
    folder = private_folder("files")
    write(Ticket("none", folder=str(folder)))
    paths = {field: folder / RESULT_FILES[field] for field in texts}
    for field, path in paths.items():
        write_whole(path, texts[field])
    return {field: str(path) for field, path in paths.items()}
