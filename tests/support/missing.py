"""What a machine may lack: the tests that need it are left out, and one line at the end says so.

`CI` set, what is missing is a failure.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest

REALDATA = Path(__file__).resolve().parents[3] / "shared" / "realdata"
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


class Thing(NamedTuple):
    here: Callable[[], bool]
    packages: str = ""
    """Debian's, that bring it."""

    how: str = ""
    """How else to get it."""

    reason: str = ""
    in_ci: bool = True
    """It is there in CI."""


def programs(*names: str) -> Callable[[], bool]:
    return lambda: all(shutil.which(name, path=PATH) for name in names)


def modules(*names: str) -> Callable[[], bool]:
    return lambda: all(importlib.util.find_spec(name) for name in names)


CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SLURM = ("slurmctld", "slurmd", "salloc", "sbatch", "scancel", "scontrol", "sinfo",
         "squeue", "srun", "sudo")  # fmt: skip

THINGS = {
    "root": Thing(lambda: os.geteuid() == 0, how="start it as root"),
    "Debian": Thing(Path("/etc/debian_version").exists, how="Debian, whose packages make images"),
    "podman": Thing(programs("podman", "buildah", "runc", "iptables", "debootstrap"),
                    "podman buildah runc iptables debootstrap"),
    "Slurm": Thing(programs(*SLURM), "slurm-wlm sudo"),
    "nginx": Thing(programs("nginx"), "nginx-light"),
    "Chromium": Thing(Path(CHROMIUM).exists, "chromium fonts-dejavu-core"),
    "Bokeh": Thing(modules("bokeh"), how="pip install bokeh"),
    "kubectl": Thing(programs("kubectl"), "kubernetes-client"),
    "node": Thing(lambda: programs("node")() or programs("nodejs")(), "nodejs"),
    "iptables": Thing(programs("iptables"), "iptables"),
    "control groups": Thing(lambda: False, how="a /sys/fs/cgroup that can be written to"),
    "benchmarks": Thing(modules("odc", "rioxarray", "tifffile", "imagecodecs"),
                        how="pip install --group benchmarks"),
    "Python 3.11": Thing(lambda: sys.version_info >= (3, 11), how="Python 3.11", in_ci=False),
    "real data": Thing(REALDATA.is_dir, how="the project's own rasters",
                       reason="the real data are not here"),
}  # fmt: skip


def _reason(name: str) -> str:
    return THINGS[name].reason or f"needs {name}"


def missing(name: str) -> NoReturn:
    """Leave the test out."""
    if os.environ.get("CI") and THINGS[name].in_ci:
        pytest.fail(f"{_reason(name)}, and this is CI", pytrace=False)
    pytest.skip(_reason(name))


def need(*names: str) -> None:
    """Leave the test out unless all of it is here."""
    for name in names:
        if not THINGS[name].here():
            missing(name)


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real rasters and STAC items; absent outside the project's workplace."""
    need("real data")
    return REALDATA


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(name, …): what of tests.support.missing it needs")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        need(*mark.args)


def left_out(reasons: list[str]) -> str:
    """What was left out and how to get it, in one line; empty where nothing was."""
    names = {f"Skipped: {_reason(name)}": name for name in THINGS}
    counts = Counter(names[reason] for reason in reasons if reason in names)
    if not counts:
        return ""
    packages = " ".join(THINGS[name].packages for name in counts if THINGS[name].packages)
    ways = [f"apt-get install {packages}"] if packages else []
    ways += [THINGS[name].how for name in counts if THINGS[name].how]
    said = ", ".join(f"{name} ({count})" for name, count in counts.items())
    return f"Left out, tests that need {said}. To have them: {'; '.join(ways)}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Iterator[None]:
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    if line := left_out([report.longrepr[2] for report in skipped]):
        terminalreporter.write_line(line, yellow=True)
