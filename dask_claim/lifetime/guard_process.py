"""The guard's own process. The launcher runs this file; nobody imports it.

It holds a pipe to the launcher and does nothing, in ten megabytes, until that pipe closes without
a good-bye: then the launcher was killed, and the guard ends what it left: the command, what the
command started, the local cluster, and, through a second process with Dask's client, the cluster
of a gateway. After a good-bye it ends only what the command has left behind. It uses only what
every Python has, and `processes`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

# It runs without site-packages: this package is searched last, by its place.
sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from dask_claim.processes import ended, group_runs, kill_group, others, signal_group

Facts = dict[str, Any]  # as the launcher sends them, see `tickets`


def main() -> None:
    # Signals to the launcher or from its terminal do not concern the guard.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(signum, signal.SIG_IGN)
    facts: Facts = {}
    taken_over = False
    for line in sys.stdin:
        message = json.loads(line)
        if message == "good-bye":
            end_marked(facts)
            return
        if message == "take over":
            taken_over = True
            end_marked(facts)
            continue
        facts.update(message)
    if taken_over:
        # The launcher has reported what is left, and no reader of the launcher's standard error
        # should wait for this process to close it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    else:
        log("the launcher has vanished: ending its cluster and its command")
    tickets = facts.get("tickets", [])
    first = [each for each in tickets if each["process"] is None and not each["after_command"]]
    deletion = reclaim(facts, first)
    end_groups(facts)
    end_marked(facts)
    # Only now has the command made all that it makes, and has a local cluster's process, if it was
    # killed as well, left its files.
    last = reclaim(facts, [each for each in tickets if each["after_command"] or left_files(each)])
    for process in (deletion, last):
        if process is not None:
            process.wait()


def left_files(ticket: Facts) -> bool:
    return ticket["process"] is not None and os.path.isdir(ticket.get("folder") or "")


def reclaim(facts: Facts, tickets: list[Facts]) -> subprocess.Popen[str] | None:
    """Start the process that ends what these open tickets name."""
    if not tickets:
        return None
    process = subprocess.Popen([sys.executable, facts["reclaim"]], stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    with process.stdin as pipe:
        json.dump({"tickets": tickets, "patience": facts["patience"]}, pipe)
    return process


def end_groups(facts: Facts) -> None:
    """End the command's process group, and the local cluster's where it does not end by itself."""
    command = facts.get("command")
    hosts = [ticket["process"] for ticket in facts.get("tickets", []) if ticket["process"]]
    deadline = time.monotonic() + facts.get("grace", 15)
    signal_group(command, signal.SIGTERM)
    signal_group(command, signal.SIGCONT)
    host_deadline = time.monotonic() + 10
    while group_runs(command) or any(map(group_runs, hosts)):
        now = time.monotonic()
        if now > deadline:
            kill_group(command)
        if now > host_deadline:
            for host in hosts:
                kill_group(host)
        if now > max(deadline, host_deadline) + 5:
            return
        time.sleep(0.05)


def end_marked(facts: Facts) -> None:
    """End what left the command's group, by the variables that only this run has set."""
    markers = {marker.encode() for marker in facts.get("markers", [])}
    if not markers:
        return
    for signum, patience in ((signal.SIGTERM, facts.get("grace", 15)), (signal.SIGKILL, 5)):
        deadline = time.monotonic() + patience
        left = marked(markers)
        for pid in left:
            log(f"process {pid} of the command still runs: {signum.name}")
            with contextlib.suppress(OSError):
                os.kill(pid, signum)
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = [pid for pid in left if not ended(pid)]
        if not left:
            return


def marked(markers: set[bytes]) -> list[int]:
    """The processes that have all these variables."""
    pids = []
    for pid in others():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as environ:
            if markers <= set(environ.read().split(b"\0")):
                pids.append(pid)
    return pids


def log(text: str) -> None:
    line = f"dask-claim guard: {text}"
    if begins := os.environ.get("DASK_CLAIM_GUARD_LINE"):
        at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        own = {"at": at, "event": "log", "level": "WARNING", "message": text}
        line = json.dumps({**json.loads(begins), **own})
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
