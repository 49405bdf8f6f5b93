"""How a run is to be conducted, as opposed to what it claims."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from dask_claim.errors import ConfigurationError

Start = Literal["ready", "workers", "eager"]
LogFormat = Literal["text", "json"]

PREFIX = "DASK_CLAIM_"


class RunOptions(BaseSettings):
    """The settings of one run, which are also its flags; times in seconds.

    What is not given is taken from the variable `DASK_CLAIM_<NAME>`, then the default. Make it
    with `run_options`, which explains what is wrong. `receipt` and `report` are files, or folders
    if there is one of this name or it ends in `/`.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    start: Start = Field(
        "ready",
        description="Start the command when the scheduler is up, when the minimum of workers is "
        "up, or at once.",
    )
    start_timeout: float = Field(600.0, gt=0, description="Longest wait for the cluster.")
    stop_timeout: float = Field(
        30.0, gt=0, description="Longest wait for confirmation that the cluster has ended."
    )
    grace: float = Field(15.0, ge=0, description="Time from SIGTERM to SIGKILL for the command.")
    receipt: str | None = Field(
        None,
        description="Write what happened to FILE, as JSON; if a folder, to a file for each run.",
    )
    report: str | None = Field(
        None,
        description="Write an HTML page about the run, with Dask's own report, to FILE; if a "
        "folder, to a file for each run.",
    )
    log_format: LogFormat = Field(
        "text", description="Format of the log on stderr: text, or one JSON object per line."
    )
    quiet: bool = Field(False, description="Log only warnings and errors.")
    verbose: bool = Field(False, description="Log details as well.")

    def receipt_file(self, run: str) -> Path | None:
        """Return the file for the receipt of the run with this id; its folder is made."""
        return _file(self.receipt, f"dask-claim-{run}.json")

    def report_file(self, run: str) -> Path | None:
        """Return the file for its report in the same way."""
        return _file(self.report, f"dask-claim-{run}.html")


def _file(place: str | None, name: str) -> Path | None:
    """Return `place`, or the file of this `name` in it if it is a folder."""
    if not place:
        return None
    path = Path(place)
    if not _is_folder(place):
        return path
    # What keeps it from being made is reported when the file is written.
    with contextlib.suppress(OSError):
        path.mkdir(parents=True, exist_ok=True)
    return path / name


def _is_folder(place: str) -> bool:
    return os.path.isdir(place) or place.endswith(os.sep)


def run_options(**given: Any) -> RunOptions:
    """Return the options of a run; None stands for what is not given.

    Raises
    ------
    ConfigurationError
        A value is wrong; all of them are named.
    """
    values = {name: value for name, value in given.items() if value is not None}
    try:
        options = RunOptions(**values)
    except ValidationError as error:
        faults = []
        for fault in error.errors(include_url=False):
            name = str(fault["loc"][0])
            source = name if name in values else f"{PREFIX}{name.upper()}"
            faults.append(f"{source} = {fault['input']!r}: {fault['msg']}")
        raise ConfigurationError("wrong options of the run:\n  " + "\n  ".join(faults)) from None
    same = options.receipt and options.receipt == options.report
    if same and not _is_folder(options.receipt or ""):
        raise ConfigurationError(f"receipt and report are to be one file, {options.receipt}")
    return options
