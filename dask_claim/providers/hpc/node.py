"""What `srun` runs on each other node of an allocation: that node's workers. Nobody imports it.

Its arguments are the scheduler's address, a JSON object (node → what is asked of it), and what else
`dask worker` is to have. The keys are in its environment.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

# As with a local cluster: what lies beside this file shadows nothing, and neither does what lies in
# the working directory.
sys.path[0:1] = []
sys.path.append(str(Path(__file__).resolve().parents[3]))
sys.path.append(os.getcwd())

# Whoever is not heard of for so long has lost its scheduler; seconds.
DEATH_TIMEOUT = 60


def main() -> None:
    from dask.cli import run_cli

    from dask_claim.providers.local.size import LocalRequest, fit_here

    scheduler, asked, *more = sys.argv[1:]
    node = os.environ["SLURMD_NODENAME"]
    # The job's grant is in it; the variables here tell that of the step, which takes all of it.
    size = fit_here(LocalRequest(**json.loads(asked)[node]), {})
    sys.argv[1:] = [
        "worker", scheduler, f"--name={node}", f"--nworkers={size.max_workers}",
        f"--nthreads={size.threads}", f"--memory-limit={size.memory}", "--no-dashboard",
        f"--death-timeout={DEATH_TIMEOUT}", *more,
    ]  # fmt: skip
    run_cli()


if __name__ == "__main__":
    main()
