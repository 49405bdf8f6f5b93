"""What the tests start begins as after a login, whatever they were started by."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys

from tests.support.start import DASK_CONFIG

SHOW = """
# A nanny of Dask leaves the seed in a process that has started workers, as some tests do.
KEPT = ("PYTHONPATH", "PYTHONHASHSEED")
import json, os, resource, sys
status = dict(line.split(":\\t") for line in open("/proc/self/status") if ":\\t" in line)
umask = os.umask(0)
print(json.dumps({
    "ignored": int(status["SigIgn"], 16), "blocked": int(status["SigBlk"], 16), "umask": umask,
    "locale": [os.environ.get(name) for name in ("LANG", "LC_ALL", "LC_MESSAGES")],
    "dask": {name: value for name, value in os.environ.items() if name.startswith("DASK_")},
    "python": [name for name in os.environ if name.startswith("PYTHON") and name not in KEPT],
    "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
    "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    "memory": len(set(resource.getrlimit(resource.RLIMIT_AS))),
    "open": [os.path.exists(f"/proc/self/fd/{number}") for number in range(3)],
    "terminal": open("/proc/self/stat").read().rpartition(")")[2].split()[4],
}))
"""


def test_as_after_a_login() -> None:
    """Run here, and below in a child that is started otherwise."""
    seen = json.loads(subprocess.check_output([sys.executable, "-c", SHOW]))
    # Two more are the C library's own, which ignores them in what it spawns, as make does.
    signals = signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}  # ignored by Python itself
    assert seen.pop("ignored") & sum(1 << signum - 1 for signum in signals) == 0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert seen == {
        "blocked": 0, "umask": 0o022, "core": 0, "files": min(4096, hard), "memory": 1,
        "locale": ["C.UTF-8", "C.UTF-8", None], "dask": {"DASK_CONFIG": DASK_CONFIG},
        "python": [],
        "open": [True] * 3, "terminal": "0",
    }  # fmt: skip
