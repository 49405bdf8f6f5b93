"""Whether the command can be started, and whether its Python can reach a gateway's cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping, Sequence
from pathlib import Path

from dask_claim.errors import CommandNotExecutable, CommandNotFound
from dask_claim.threads import in_time

PATIENCE = 3.0
"""Seconds for an interpreter to start."""

# No program of the user's whose name merely begins so: it would be started a second time.
_PYTHON = re.compile(r"python(\d+(\.\d+)*t?)?")

# A Python without Dask needs nothing else, either.
_LOOK = (
    "import sys; sys.path[:] = filter(None, sys.path)\n"  # not the working directory
    "from importlib.util import find_spec as find\n"
    "if find('distributed'): print(*(n for n in ('dask_claim', 'dask_gateway') if not find(n)))"
)


def check_command(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raise `CommandNotFound` or `CommandNotExecutable` before anything is created for it."""
    name = command[0]
    path = environment.get("PATH", os.defpath)
    if shutil.which(name, path=path):
        return
    # `which` with F_OK passes folders over.
    if os.path.exists(name) if os.sep in name else shutil.which(name, os.F_OK, path):
        raise CommandNotExecutable(f"{name}: not an executable file (chmod +x)")
    raise CommandNotFound(f"{name}: command not found")


async def cannot_connect(command: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Return a warning where `distributed.Client()` will fail in the command; else None.

    Dask's client gets its security for a gateway's cluster from `dask_claim`, by name. A command
    that is no Python, or starts another one itself, is not looked into.
    """
    interpreter = interpreter_of(command[0], environ)
    if interpreter is None or interpreter.parent == Path(sys.executable).parent:
        return None
    try:
        look = await asyncio.create_subprocess_exec(
            interpreter, "-c", _LOOK, env=environ, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL
        )
    except (OSError, ValueError):
        return None
    try:
        printed, _ = await in_time(look.communicate(), PATIENCE)
    except asyncio.TimeoutError:
        return None
    finally:
        # Also where the run ends first: one that hangs would stay.
        with contextlib.suppress(ProcessLookupError):
            look.kill()
        await look.wait()
    if look.returncode or not (missing := printed.decode(errors="replace").split()):
        return None
    return (
        f"{interpreter}, which runs the command, has no {' and no '.join(missing)}: "
        "distributed.Client() cannot connect to a gateway's cluster there. Install dask-claim into "
        "that environment, too, or run the command with one that has it"
    )


def interpreter_of(name: str, environ: Mapping[str, str]) -> Path | None:
    """Return the Python that runs a command, by its name or first line; None where neither says."""
    path = environ.get("PATH", os.defpath)
    if (found := shutil.which(name, path=path)) is None:
        return None
    if _PYTHON.fullmatch(Path(found).name):
        return Path(os.path.abspath(found))
    try:
        with Path(found).open("rb") as file:
            first = file.readline(512).decode()
    except (OSError, UnicodeDecodeError):
        return None
    words = first[2:].split() if first.startswith("#!") else []
    if words and Path(words[0]).name == "env":
        words = [word for word in words[1:] if not word.startswith("-")]
    if not words or not _PYTHON.fullmatch(Path(words[0]).name):
        return None
    found = shutil.which(words[0], path=path)
    return Path(os.path.abspath(found)) if found else None
