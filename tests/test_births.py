"""The launcher is started in odd ways: it does its work, and the command is started like that, too.

Most rows attach to one scheduler, for what is odd here concerns the launcher and not its cluster.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.launcher import Launcher, Running, processes_with, wait_for
from tests.support.missing import need
from tests.support.scenes import until_ready

# What Python sets for itself, which nobody can see afterwards; glibc's own.
NOT_SEEN = {signal.SIGPIPE, signal.SIGXFSZ, 32, 33}

# Whatever is not below the test's own folder ($0) cannot be written to.
READ_ONLY = (
    'mount --bind "$0" "$0" && mount -o remount,ro,bind / && cd "$0" && '
    '{ mount -o remount,ro,bind /tmp 2>/dev/null; exec "$@"; }'
)
READ_ONLY_ROOT = ("unshare", "-m", "sh", "-c", READ_ONLY, "{folder}")
GONE = 'folder=$(mktemp -d) && cd "$folder" && rmdir "$folder" && exec "$@"'
CAPABILITIES = "+dac_override,+dac_read_search"
UNKNOWN_USER = (
    "setpriv", "--reuid=54321", "--clear-groups", f"--inh-caps={CAPABILITIES}",
    f"--ambient-caps={CAPABILITIES}",
)  # fmt: skip
JUMPING_CLOCK = """
import itertools, time
jumps, real = itertools.cycle([0, 86400, -86400, 3e7]), time.time
time.time = lambda: real() + next(jumps)
"""
# Several things are odd at a time.
BIRTHS = {
    "SIGCHLD ignored, 64 descriptors": (
        "sh", "-c", 'ulimit -n 64; exec "$@"', "-", "env", "--ignore-signal=CHLD"
    ),
    "all signals ignored, no HOME, locale C": (
        "env", "--ignore-signal", "-u", "HOME", "LANG=C", "LC_ALL=C"
    ),
    "all signals blocked, HOME is not there, clock jumps": (
        "env", "--block-signal", "HOME=/no/such/home", "PYTHONPATH={folder}"
    ),
    "working directory is gone": ("sh", "-c", GONE, "-"),
    "read-only root, user without an entry": (*READ_ONLY_ROOT, *UNKNOWN_USER),
}  # fmt: skip


def start(
    launcher: Launcher, birth: tuple[str, ...], *command: str, folder: Path = Path(), **more: Any
) -> Running:
    if birth[0] in ("unshare", "setpriv"):
        need("root")
    before = [word.replace("{folder}", str(folder)) for word in birth]
    return launcher.start(*command, before=before, **more)


def signals(status: str) -> list[set[int]]:
    """Those that are ignored, and those that are blocked."""
    found = dict(line.split(":") for line in status.splitlines() if line.startswith("Sig"))
    return [
        {n for n in range(1, 65) if int(found[kind], 16) >> (n - 1) & 1} - NOT_SEEN
        for kind in ("SigIgn", "SigBlk")
    ]


@pytest.mark.parametrize("name", BIRTHS)
def test_run(launcher: Launcher, scheduler: dict[str, str], name: str, tmp_path: Path) -> None:
    """The status and the signals are the command's own, and nothing is left."""
    folders = [tmp_path / "tmp", tmp_path / "work"]
    for folder in folders:
        folder.mkdir()
    (tmp_path / "sitecustomize.py").write_text(JUMPING_CLOCK)
    # Ends with 2, for one of them is not there. A shell would have a mask of its own.
    command = ("grep", "-hs", "Sig", "/proc/self/status", "/no/such/file")
    run = start(
        launcher, BIRTHS[name], *command, folder=tmp_path, cwd=folders[1],
        env={**scheduler, "TMPDIR": str(folders[0])},
        # Which is on in the tests, and has handlers of its own.
        unset=("PYTHONFAULTHANDLER",),
    ).finish()  # fmt: skip
    assert (run.status, run.receipt["exit_status"]) == (2, 2), run.err
    assert run.receipt["warnings"] == []
    assert "Traceback" not in run.err
    assert [list(folder.iterdir()) for folder in folders] == [[], []]
    if "ignored" in name or "blocked" in name:
        without = subprocess.run((*BIRTHS[name], *command), stdout=subprocess.PIPE, text=True)
        assert signals(run.out.decode()) == signals(without.stdout), run.err


@pytest.mark.parametrize(
    "name", [name for name in BIRTHS if "SIGCHLD" in name or "blocked" in name]
)
def test_sigterm(launcher: Launcher, scheduler: dict[str, str], name: str) -> None:
    """It reaches the launcher, and the command unless that was to ignore or block it."""
    flags = ("--grace", "0.5")
    run = start(launcher, BIRTHS[name], "sleep", "60", env=scheduler, flags=flags)
    run.until("Running sleep")
    run.process.send_signal(signal.SIGTERM)
    ended = run.finish()
    assert ended.status == (137 if "blocked" in name else 143), ended.err
    assert "SIGTERM goes to the command" in ended.err


# A name that the resolver looks for as long as a nameserver is away.
SLOW_RESOLVER = """
import socket, time
def slow(host, *arguments, found=socket.getaddrinfo, **named):
    if host == "slow.example" and not named.get("flags", 0) & socket.AI_NUMERICHOST:
        print("looking for slow.example", file=__import__("sys").stderr, flush=True)
        time.sleep(600)
    return found(host, *arguments, **named)
socket.getaddrinfo = slow
"""


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("DASK_SCHEDULER_ADDRESS", "tcp://slow.example:1"),
        ("DASK_CLAIM_GATEWAY_URL", "http://slow.example"),
    ],
)
def test_sigterm_while_a_name_is_resolved(
    launcher: Launcher, tmp_path: Path, variable: str, address: str
) -> None:
    """Nobody waits for the resolver, which cannot be interrupted."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_RESOLVER)
    run = launcher.start("true", env={"PYTHONPATH": str(tmp_path), variable: address})
    run.until("looking for slow.example")
    run.process.send_signal(signal.SIGTERM)
    ended = run.finish()
    assert ended.status == 143, ended.err
    assert "SIGTERM" in ended.receipt["error"]


@pytest.mark.parametrize(
    ("library", "env"),
    [("distributed", {}), ("dask_gateway", {"DASK_CLAIM_GATEWAY_URL": "http://127.0.0.1:1"})],
)
def test_library_that_ends_python(
    launcher: Launcher, tmp_path: Path, library: str, env: dict[str, str]
) -> None:
    """A script of the user's in a library's place: the run ends, and says what it was."""
    tmp, path = tmp_path / "tmp", tmp_path / "path"
    for folder in (tmp, path):
        folder.mkdir()
    (path / f"{library}.py").write_text("import sys; sys.exit(3)")
    run = launcher("true", env={"PYTHONPATH": str(path), "TMPDIR": str(tmp), **env})
    assert run.status == 78, run.err
    assert f"{path / library}.py ends Python" in run.err, run.err
    assert list(tmp.iterdir()) == []


def test_command_has_a_guard_whosever_the_cluster_is(
    launcher: Launcher, scheduler: dict[str, str]
) -> None:
    program = "setsid sleep 300 & echo ready; sleep 300"
    run = launcher.start("sh", "-c", program, flags=("--grace", "1"), env=scheduler)
    until_ready(run)
    run.process.kill()
    wait_for(lambda: not processes_with(launcher.marker), "end of all processes")


def test_no_place_for_temporary_files(launcher: Launcher, tmp_path: Path) -> None:
    """A local cluster needs one."""
    birth = (*READ_ONLY_ROOT, "env", "--chdir=/", "TMPDIR=/no/such/folder")
    run = start(launcher, birth, "true", folder=tmp_path).finish()
    assert run.status == 78, run.err
    assert "set TMPDIR" in run.err and "set TMPDIR" in run.receipt["error"]


def test_only_the_working_directory_can_be_written_to(launcher: Launcher, tmp_path: Path) -> None:
    """Nothing of Dask's or the launcher's stays among a program's files."""
    work = tmp_path / "work"
    work.mkdir()
    birth = (*READ_ONLY_ROOT, "env", "-u", "TMPDIR", f"--chdir={work}", "HOME=/")
    run = start(launcher, birth, "true", folder=tmp_path, flags=("--start", "workers")).finish()
    assert (run.status, run.receipt["workers"]["peak"] > 0) == (0, True), run.err
    assert list(work.iterdir()) == []


def test_empty_environment(launcher: Launcher, scheduler: dict[str, str]) -> None:
    """The command finds the launcher's variables there, and no others."""
    [address] = [f"{name}={value}" for name, value in scheduler.items()]
    run = launcher("env", before=("env", "-i", address))
    assert run.status == 0, run.err
    names = {line.split("=")[0] for line in run.out.decode().splitlines()}
    assert "DASK_SCHEDULER_ADDRESS" in names
    assert [name for name in names if not name.startswith("DASK_")] == []


def test_no_more_processes(launcher: Launcher, scheduler: dict[str, str]) -> None:
    """What cannot be started now may be started later."""
    # OpenBLAS sends itself SIGINT where it gets no thread.
    birth = (*UNKNOWN_USER, "prlimit", "--nproc=1", "env", "OPENBLAS_NUM_THREADS=1")
    run = start(launcher, birth, "true", env=scheduler).finish()
    assert run.status == 75, run.err
    assert "process" in run.err.splitlines()[-1]
