"""Arguments of dask-jobqueue's clusters: its own configuration at a site, and after it a run's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_configured(cluster: Any, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments for `cluster` that add to what dask-jobqueue is configured with.

    What is given as an argument takes the whole place of `jobqueue.slurm.…` and its like.

    Parameters
    ----------
    cluster : type
        A class of dask-jobqueue's.
    run : mapping
        `worker_extra_args`, `job_script_prologue`, `job_extra_directives` and `scheduler_options`
        of the run, which win where both say the same; and `quiet`, directives that discard the
        jobs' output, for sites that are not configured to keep it.
    """
    import dask.config

    def said(*names: str) -> Any:
        keys = (f"jobqueue.{cluster.job_cls.config_name}.{name}" for name in names)
        return next(filter(None, (dask.config.get(key, None) for key in keys)), [])

    quiet = [] if said("log-directory") else run["quiet"]
    return {
        # The second names are those of older releases.
        "worker_extra_args": [*said("worker-extra-args", "extra"), *run["worker_extra_args"]],
        "job_script_prologue": [
            *said("job-script-prologue", "env-extra"),
            *run["job_script_prologue"],
        ],
        "job_extra_directives": [
            *quiet,
            *said("job-extra-directives", "job-extra"),
            *run["job_extra_directives"],
        ],
        "scheduler_options": {**(said("scheduler-options") or {}), **run["scheduler_options"]},
    }
