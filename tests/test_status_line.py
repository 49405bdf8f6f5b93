"""The line on a terminal while a cluster starts and stops."""

from __future__ import annotations

import re
import socket

import pexpect
import pytest

from dask_claim import stderr
from dask_claim.launch import events
from dask_claim.launch.status_line import StatusLine
from dask_claim.providers.values import Cluster
from tests.support.launcher import DASK_CLAIM, PROMPT, PYTHON, Launcher

SHOWN, ERASED = "Starting the cluster", "\r\x1b[2K"


def screen(written: str) -> list[str]:
    """What a terminal shows of it in the end, line by line."""
    lines = []
    for line in re.sub(r"\x1b\[[\d;]*m", "", written).split("\n"):
        shown = ""
        for part in re.split(r"(\r\x1b\[2K|\r)", line):
            if part == ERASED:
                shown = ""
            elif part != "\r":
                shown += part
        lines.append(shown)
    return lines


# The line comes sooner than a cluster can start or stop.
IN_A_HURRY = """
from dask_claim.launch import status_line
status_line.EVERY = 0.02
from dask_claim.cli.main import main
main()
"""


@pytest.mark.slow
def test_around_a_command(launcher: Launcher) -> None:
    """It is there before and after, and leaves nothing; what the command writes stays whole."""
    child = launcher.terminal(
        PYTHON, "-c", IN_A_HURRY, "--max-workers", "1",
        "--", "sh", "-c", "echo out; echo err >&2; printf open",
        TERM="xterm", NO_COLOR="1",
    )  # fmt: skip
    child.expect(pexpect.EOF)
    written = child.before
    assert SHOWN in written and "Stopping the cluster · 1 of 1 worker" in written
    assert written.count(ERASED) >= 2 and "\x1b" not in written.replace(ERASED, "")
    during = written.partition("Running sh")[2].partition("The command ended")[0]
    assert ERASED not in during and "cluster ·" not in during
    lines = screen(written)
    own = [line for line in lines if " | dask-claim - " not in line]
    assert own == ["out", "err", ""]
    (ended,) = (line for line in lines if "The command ended" in line)
    assert ended.startswith("open")


def test_a_stop_leaves_the_prompt_alone(launcher: Launcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        shell = launcher.shell(TERM="xterm", DASK_SCHEDULER_ADDRESS=address)
        shell.sendline(f"'{DASK_CLAIM}' -- true")
        written = ""
        for key in ("z", "c"):
            shell.expect_exact(SHOWN)
            shell.expect(r"\d s")
            shell.sendcontrol(key)
            shell.expect_exact(PROMPT)
            written = shell.before
            assert not any(SHOWN in line for line in screen(SHOWN + written)), written
            shell.sendline("fg")
        shell.expect_exact("no such job")


async def test_a_command_that_starts_before_its_cluster() -> None:
    line, phases = StatusLine(), []
    for event in (
        events.Claimed("", "local", False),
        events.CommandStarted(),
        events.Running("local", Cluster(), 1.0),
        events.CommandEnded(0, 1.0),
    ):
        line(event)
        phases.append(line._phase)
    assert phases == [SHOWN, None, None, "Stopping the cluster"]
    stderr.state.clear = lambda: None


ANY_LINE = """
import asyncio, sys
from loguru import logger
from dask_claim import log
from dask_claim.launch import events, status_line
status_line.EVERY = 0.02
line = status_line.StatusLine()
async def shown():
    while not line._shown:
        await asyncio.sleep(0.01)
async def main():
    log.configure("INFO")
    line(events.Claimed("", "local", False))
    await shown()
    logger.warning("of another part")
    await shown()
asyncio.run(main())
line.clear()
"""


def test_it_makes_room_for_any_line(launcher: Launcher) -> None:
    child = launcher.terminal(PYTHON, "-c", ANY_LINE, TERM="xterm")
    child.expect(pexpect.EOF)
    line, end = screen(child.before)
    assert child.before.count(SHOWN) >= 2 and end == ""
    assert re.fullmatch(r"20\d\d-.* \| dask-claim - of another part", line)


WHERE = """
import os
from dask_claim.launch.status_line import is_wanted
print([is_wanted(dict([("TERM", each)])) for each in ("xterm", "dumb", "")])
read, write = os.pipe()
os.dup2(write, 1)
os.write(2, b"%d" % is_wanted({"TERM": "xterm"}))
"""


def test_where_it_is_wanted(launcher: Launcher) -> None:
    """On a terminal that can erase a line, and where no pager may be at the end of a pipe."""
    child = launcher.terminal(PYTHON, "-c", WHERE)
    child.expect_exact("[True, False, False]")
    child.expect_exact("0")
