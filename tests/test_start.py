"""What the tests start begins as after a login, whatever they were started by."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import resource
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

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
        "locale": ["C.UTF-8", "C.UTF-8", None], "dask": {"DASK_CONFIG": "/dev/null"},
        "python": [],
        "open": [True] * 3, "terminal": "0",
    }  # fmt: skip


@pytest.mark.slow
def test_wherever_the_tests_are_started(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()

    def otherwise() -> None:
        """As scripts and services start things, and worse."""
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(signum, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        os.umask(0o077)
        for name, soft in (("CORE", None), ("NOFILE", 200), ("AS", 2**32)):
            limit = getattr(resource, f"RLIMIT_{name}")
            hard = resource.getrlimit(limit)[1]
            resource.setrlimit(limit, (hard if soft is None else soft, hard))
        os.close(0)

    test = f"{__file__}::{test_as_after_a_login.__name__}"
    stray = {
        "PYTHONUNBUFFERED": "1",
        "DASK_X": "1",
        "DASK_CLAIM_IMAGE": "x",
        "LC_ALL": "POSIX",
        "LC_MESSAGES": "de_DE",
    }
    with open(tmp_path / "log", "w+b") as log:
        status = subprocess.call(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", test],
            cwd=Path(__file__).parent.parent, env={**os.environ, **stray},
            stdout=log, stderr=log, start_new_session=True, preexec_fn=otherwise,
        )  # fmt: skip
        log.seek(0)
        told = log.read().decode()
    os.close(controller)
    os.close(terminal)
    assert status == 0 and "1 passed" in told, told
