"""Wherever the tests are started, they and all that they start begin as after a login.

`nohup … &` in a script, a CI system, cron or a batch job hand down ignored signals, masks, limits,
closed descriptors, and variables that Dask or dask-claim would read.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import sys
import termios
import threading
from pathlib import Path

# Python ignores these itself, and `subprocess` sets them to their default again.
IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}

# Who reads them: Dask and dask-claim, the C library, whoever looks for a batch job, Python, bash.
STRAY = (
    "DASK_", "LC_", "LANG", "SLURM_", "PBS_", "LSB_", "OAR_", "_CONDOR_", "JOB_ID", "JUPYTERHUB_",
    "TRACEPARENT", "PYTHON", "BASH_ENV",
)  # fmt: skip
DASK_CONFIG = str(Path(__file__).with_name("dask.yaml"))
KNOWN = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "DASK_CONFIG": DASK_CONFIG}

# The soft limits; whatever is not here is raised to the hard one.
LIMITS = {
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: 4096,
    resource.RLIMIT_STACK: 8 * 2**20,
    resource.RLIMIT_MEMLOCK: 8 * 2**20,
}
RAISED = ("AS", "CPU", "DATA", "FSIZE", "NPROC", "RSS")


def as_after_a_login() -> None:
    """Make this process so; once, in the main thread, before it starts any other."""
    _open_standard_descriptors()
    _leave_the_terminal()
    if threading.current_thread() is threading.main_thread():
        for signum in signal.valid_signals() - IGNORED_BY_PYTHON:
            if signal.getsignal(signum) is signal.SIG_IGN:
                interrupt = signum == signal.SIGINT
                signal.signal(signum, signal.default_int_handler if interrupt else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    for name in [name for name in os.environ if name.startswith(STRAY)]:
        if name != "PYTHONPATH":
            del os.environ[name]
    # Without it each process compiles this package and the tests anew.
    sys.dont_write_bytecode = False
    os.environ.update(KNOWN)
    for limit, wanted in LIMITS.items():
        _limit(limit, wanted)
    for name in RAISED:
        _limit(getattr(resource, f"RLIMIT_{name}"), resource.RLIM_INFINITY)


def _limit(limit: int, wanted: int) -> None:
    hard = resource.getrlimit(limit)[1]
    if hard != resource.RLIM_INFINITY:
        wanted = hard if wanted == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(limit, (wanted, hard))


def _open_standard_descriptors() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free


def _leave_the_terminal() -> None:
    """Let go of the controlling terminal: a launcher would hand its foreground to a command.

    Ctrl-C still comes to this process, whose group stays the foreground.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    # Where this process leads the session, it gets SIGHUP.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        fcntl.ioctl(terminal, termios.TIOCNOTTY)
    finally:
        signal.signal(signal.SIGHUP, before)
        os.close(terminal)
