"""The guard's own process. The launcher runs this file, and imports only `lives` from it.

It holds a pipe to the launcher and does nothing, in ten megabytes, until that pipe closes without
a good-bye: then the launcher was killed, and the guard ends what it left: the command, what the
command started, the local cluster, and, through a second process with Dask's client, the cluster
of a gateway. After a good-bye it ends only what the command has left behind. Nothing but what
every Python has is imported here.
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

Known = dict[str, Any]  # fact → value, as the launcher tells them


def main() -> None:
    # The launcher's terminal and its signals are none of the guard's business.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(signum, signal.SIG_IGN)
    known: Known = {}
    taken_over = False
    for line in sys.stdin:
        fact = json.loads(line)
        if fact == "good-bye":
            end_marked(known)
            return
        if fact == "take over":
            taken_over = True
            end_marked(known)
            continue
        known.update(fact)
    if taken_over:
        # The launcher has told what is left. Nobody may wait for the end of its standard error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    else:
        say("the launcher has vanished: its cluster and its command are ended")
    tickets = known.get("tickets", [])
    first = [each for each in tickets if each["process"] is None and not each.get("made")]
    deletion = reclaim(known, first)
    end_groups(known)
    end_marked(known)
    # What the command makes itself is all there only now, and what a local cluster's process, if it
    # was killed, too, has left of files.
    last = reclaim(known, [each for each in tickets if each.get("made") or left_files(each)])
    for process in (deletion, last):
        if process is not None:
            process.wait()


def left_files(ticket: Known) -> bool:
    return ticket["process"] is not None and os.path.isdir(ticket.get("folder") or "")


def reclaim(known: Known, tickets: list[Known]) -> subprocess.Popen[str] | None:
    """Start the process that asks gateways to end what these open tickets name."""
    if not tickets:
        return None
    process = subprocess.Popen([sys.executable, known["reclaim"]], stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    with process.stdin as pipe:
        json.dump({"tickets": tickets, "patience": known["patience"]}, pipe)
    return process


def end_groups(known: Known) -> None:
    """End the command's process group, and the local cluster's where it does not end by itself."""
    command = known.get("command")
    hosts = [ticket["process"] for ticket in known.get("tickets", []) if ticket["process"]]
    deadline = time.monotonic() + known.get("grace", 15)
    signal_group(command, signal.SIGTERM)
    signal_group(command, signal.SIGCONT)
    host_deadline = time.monotonic() + 10
    while lives(command) or any(map(lives, hosts)):
        now = time.monotonic()
        if now > deadline:
            signal_group(command, signal.SIGKILL)
        if now > host_deadline:
            for host in hosts:
                signal_group(host, signal.SIGKILL)
        if now > max(deadline, host_deadline) + 5:
            return
        time.sleep(0.05)


def end_marked(known: Known) -> None:
    """End what left the command's group, found by the variables that only this run has set."""
    markers = {marker.encode() for marker in known.get("markers", [])}
    if not markers:
        return
    for signum, patience in ((signal.SIGTERM, known.get("grace", 15)), (signal.SIGKILL, 5)):
        deadline = time.monotonic() + patience
        left = marked(markers)
        for pid in left:
            say(f"process {pid} of the command still runs: {signum.name}")
            with contextlib.suppress(OSError):
                os.kill(pid, signum)
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = [pid for pid in left if state_and_group(str(pid))[0] not in ("Z", "X", "")]
        if not left:
            return


def marked(markers: set[bytes]) -> list[int]:
    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if name.isdecimal() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as environ:
                    if markers <= set(environ.read().split(b"\0")):
                        found.append(int(name))
            except OSError:
                continue
    return found


def signal_group(group: int | None, signum: int) -> None:
    with contextlib.suppress(OSError):
        if group:
            os.killpg(group, signum)


def lives(group: int | None) -> bool:
    """Whether a process of the group runs; zombies that nobody has reaped count for nothing."""
    if not group:
        return False
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    if not os.path.isdir("/proc"):  # no Linux: there is one, perhaps a zombie
        return True
    for name in os.listdir("/proc"):
        if name.isdecimal():
            state, member = state_and_group(name)
            if member == group and state not in ("Z", "X"):
                return True
    return False


def state_and_group(name: str) -> tuple[str, int]:
    try:
        with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
            return fields[0], int(fields[2])
    except OSError:
        return "", 0


def say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"dask-claim guard: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
