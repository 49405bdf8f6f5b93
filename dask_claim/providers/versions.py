"""Whether scheduler and workers have the packages that the command will speak to them with.

Different versions of Dask or of what it pickles with fail late and with odd messages: a task that
cannot be unpickled, a call that the scheduler does not know. Sent to schedulers by value: it
imports nothing of dask-claim.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

COMPARED = ("python", "dask", "distributed", "numpy", "msgpack", "cloudpickle")
"""What crosses between the processes, or decides how it does."""

SCHEDULER, WORKERS = "the scheduler", "the workers"

Versions = Mapping[str, "str | None"]


def installed_versions() -> dict[str, str | None]:
    """Return the version of each compared package, None where it is not installed.

    Nothing is imported. Of Python the first two numbers: the third changes nothing that is sent.
    """
    versions: dict[str, str | None] = {"python": "{}.{}".format(*sys.version_info)}
    for package in COMPARED[1:]:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def versions_in(answer: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the same of what Dask collects (`distributed.versions.get_versions`)."""
    packages = dict(answer.get("packages", {}))
    versions = {package: packages.get(package) for package in COMPARED}
    versions["python"] = ".".join(str(versions["python"]).split(".")[:2])
    return versions


def differences_of_client(answer: Mapping[str, Any]) -> str:
    """Return the differences in an answer of `distributed.Client.get_versions`."""
    there = {SCHEDULER: versions_in(answer["scheduler"])}
    for versions in list(answer["workers"].values())[:1]:
        # One speaks for all: they are made of the same image.
        there[WORKERS] = versions_in(versions)
    return differences(installed_versions(), there)


def differences(here: Versions, there: Mapping[str, Versions]) -> str:
    """Return a sentence on what differs `here` and `there`, whose keys are `SCHEDULER` and
    `WORKERS`; empty where nothing does.

    What is not installed here is not used here. What the scheduler lacks, or has another NumPy of,
    does not matter: it hands data on without looking into it.
    """
    texts = []
    for whose, versions in there.items():
        for package in COMPARED:
            mine, theirs = here.get(package), versions.get(package)
            if mine is None or mine == theirs:
                continue
            if whose == SCHEDULER and (theirs is None or package == "numpy"):
                continue
            texts.append(f"{package} {mine} here, {theirs or 'none'} on {whose}")
    return f"different versions: {'; '.join(texts)}" if texts else ""
