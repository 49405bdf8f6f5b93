"""`dask-claim` in this process: for whatever needs none of its own."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

import dask.config
from distributed import Scheduler

from dask_claim.cli.main import run_cli
from tests.support.gateway import clean_environment


@dataclass
class Answer:
    status: int
    out: str
    err: str


def dask_claim(*arguments: str, **variables: str) -> Answer:
    """The command with these arguments, in an environment that holds nothing else of Dask."""
    # click writes bytes, too.
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with environment(variables), redirect_stdout(out), redirect_stderr(err):
        status = run_cli(arguments)
    out.seek(0)
    err.seek(0)
    return Answer(status, out.read(), err.read())


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """What this process has instead of its own variables; also Dask, which reads them once."""
    try:
        with mock.patch.dict(os.environ, clean_environment(**variables), clear=True):
            dask.config.refresh()
            yield
    finally:
        dask.config.refresh()


@asynccontextmanager
async def scheduled() -> AsyncIterator[Scheduler]:
    """A scheduler in this process's loop, without a dashboard."""
    async with Scheduler(
        host="127.0.0.1", port=0, dashboard=False, dashboard_address="127.0.0.1:0"
    ) as scheduler:
        yield scheduler
