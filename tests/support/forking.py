"""Dask's own `dask scheduler` and `dask worker`, forked from a process that has imported Dask.

The import costs more than all else that a small cluster does. A gateway of the tests runs this file
in the place of `dask`: it hands its arguments, environment, folder and output to the process that
serves them. That forks a process which forks Dask's, and tells how it ends; and which ends it where
whoever asked has been killed. Who asks passes signals on, and ends as Dask's process does.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

# Room for the command line that a forked process shows in the place of its parent's.
ROOM = 500
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ForkedDask:
    """The process that forks, and what stands for `dask` with a gateway that uses it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._path = str(folder / "socket")
        arguments = [sys.executable, __file__, "serve", self._path, "x" * ROOM]
        self._process = subprocess.Popen(
            arguments, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout.read(1)

    def __call__(self, *arguments: str) -> list[str]:
        # A worker without its nanny is one process less.
        alone = ("--no-nanny",) if arguments[0] == "worker" else ()
        return [sys.executable, "-I", "-S", __file__, "ask", self._path, *arguments, *alone]

    def stop(self) -> None:
        self._process.communicate()


def ask(served_at: str, arguments: list[str]) -> int:
    """Have the process forked, and end as it ends."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.connect(served_at)
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    umask = os.umask(0)
    start = {"arguments": arguments, "env": dict(os.environ), "cwd": os.getcwd(), "umask": umask}
    output = array.array("i", [0, 1, 2])
    server.sendmsg(
        [json.dumps(start).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, output.tobytes())]
    )
    forked = int(server.recv(100) or b"0")
    if not forked:
        return 1
    for number in PASSED_ON:
        signal.signal(number, lambda number, _: os.kill(forked, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    status = int(server.recv(100) or b"1")
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


def serve(path: str) -> dict[str, Any] | None:
    """Return what a forked process has to do, in that process; None when stdin ends."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(100)
    # Whoever was forked is not waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print(end=".", flush=True)
    while True:
        readable, _, _ = select.select([listener, 0], [], [])
        if listener not in readable:
            return None
        asking, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return fork_for(asking)
        asking.close()


def fork_for(asking: socket.socket) -> dict[str, Any]:
    """Return what there is to do in a forked process, whose end the socket is told."""
    message, output, *_ = socket.recv_fds(asking, 1_000_000, 3)
    if not message:
        os._exit(0)
    if (forked := os.fork()) == 0:
        for number, end in enumerate(output):
            os.dup2(end, number)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        start: dict[str, Any] = json.loads(message)
        return start
    with contextlib.suppress(OSError):
        asking.send(str(forked).encode())
    os.closerange(0, 3)
    for end in output:
        os.close(end)
    ended = os.pidfd_open(forked)
    if ended not in select.select([ended, asking], [], [])[0]:
        os.kill(forked, signal.SIGKILL)
    _, status = os.waitpid(forked, 0)
    with contextlib.suppress(OSError):
        asking.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def run(start: dict[str, Any]) -> None:
    """Be the `dask` that was asked for."""
    import dask.config

    os.setsid()
    os.chdir(start["cwd"])
    os.umask(start["umask"])
    os.environ.clear()
    os.environ.update(start["env"])
    dask.config.refresh()
    sys.argv = ["dask", *start["arguments"]]
    _show(sys.argv)
    from dask.cli import run_cli

    run_cli()


def _show(arguments: list[str]) -> None:
    """Write this command line over the one that the process was started with."""
    import ctypes

    with open("/proc/self/stat") as stat:
        begin, end = map(int, stat.read().rpartition(")")[2].split()[45:47])
    shown = "\0".join(arguments).encode()[: end - begin - 1]
    ctypes.memmove(begin, shown.ljust(end - begin, b"\0"), end - begin)


if __name__ == "__main__":
    role, path, *rest = sys.argv[1:]
    if role == "ask":
        sys.exit(ask(path, rest))
    # Not this file's folder, whose modules are not for Dask.
    del sys.path[0]
    for name in (
        "dask_gateway.scheduler_preload",
        *(f"distributed.cli.dask_{command}" for command in ("scheduler", "ssh", "worker")),
        *(f"distributed.dashboard.{role}" for role in ("scheduler", "worker")),
    ):
        importlib.import_module(name)
    # What is there already stays in the memory that forked processes share.
    gc.freeze()
    if told := serve(path):
        run(told)
