"""The limits that hold for a process, by what the kernel shows of its control groups."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dask_claim.cgroup import MemoryLimit, cpu_limits, memory_kills, memory_limits
from tests.support.claims import write
from tests.support.missing import missing

MIB = 2**20
NO_LIMIT = "9223372036854771712"

HERE = "this container"


def v2(root: str = "/") -> str:
    return f"31 23 0:28 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def v1(root: str, *names: str) -> str:
    return "".join(
        f"3{n} 23 0:3{n} {root} /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}\n"
        for n, name in enumerate(names)
    )


Owned = tuple[float, str] | None


class Layout(NamedTuple):
    """Files of a machine, and the bounds that hold on it: (amount, owner), or None."""

    own: str
    mounts: str
    files: dict[str, str]
    """M stands for MiB."""

    memory: Owned = None
    cores: Owned = None

    def write(self, root: Path) -> Path:
        write(root / "proc/self/cgroup", self.own)
        write(root / "proc/self/mountinfo", self.mounts)
        for name, text in self.files.items():
            amount = str(int(text[:-1]) * MIB) if text.endswith("M") else text
            write(root / "sys/fs/cgroup" / name, f"{amount}\n")
        return root


JOB = "system.slice/slurmstepd.scope/job_12"
CONDOR = "condor_var_lib_condor_execute_slot1_1@node"
POD = "/kubepods/burstable/pod1f/9a8b"
LAYOUTS = {
    "no groups": Layout("", "", {}),
    "machine without limits": Layout(
        "0::/user.slice/user-1.slice/session-4.scope\n", v2(),
        {"user.slice/memory.max": "max", "user.slice/cpu.max": "max 100000",
         "user.slice/user-1.slice/memory.max": "max"},
    ),
    "docker": Layout(
        "0::/\n", v2(),
        {"memory.max": "3072M", "memory.high": "max", "cpu.max": "50000 100000"},
        (3072, HERE), (0.5, HERE),
    ),
    "docker, the namespace of groups shared with the machine": Layout(
        "0::/system.slice/docker-4f.scope\n", v2(),
        {"system.slice/docker-4f.scope/memory.max": "512M",
         "system.slice/docker-4f.scope/cpu.max": "150000 100000"},
        (512, "cgroup docker-4f.scope"), (1.5, "cgroup docker-4f.scope"),
    ),
    "systemd-run --scope, below a slice with a smaller quota": Layout(
        "0::/batch.slice/run-u7.scope\n", v2(),
        {"batch.slice/memory.max": "4096M", "batch.slice/cpu.max": "100000 100000",
         "batch.slice/run-u7.scope/memory.max": "900M",
         "batch.slice/run-u7.scope/cpu.max": "200000 100000"},
        (900, "cgroup run-u7.scope"), (1, "cgroup batch.slice"),
    ),
    "throttled before it is killed": Layout(
        "0::/app.scope\n", v2(), {"app.scope/memory.max": "900M", "app.scope/memory.high": "800M"},
        (800, "cgroup app.scope"),
    ),
    "Slurm: the job's limits, not those of the step's tasks": Layout(
        f"0::/{JOB}/step_0/user/task_0\n", v2(),
        {f"{JOB}/memory.max": "2000M", f"{JOB}/step_0/memory.max": "max",
         f"{JOB}/step_0/user/task_0/memory.max": "max",
         f"{JOB}/step_0/user/task_0/cpu.max": "max 100000"},
        (2000, "cgroup job_12"),
    ),
    "HTCondor": Layout(
        f"0::/system.slice/htcondor/{CONDOR}\n", v2(),
        {f"system.slice/htcondor/{CONDOR}/memory.max": "1024M"}, (1024, f"cgroup {CONDOR}"),
    ),
    "Kubernetes, version 1: the container's own group is mounted": Layout(
        f"11:cpu,cpuacct:{POD}\n5:memory:{POD}\n1:name=systemd:{POD}\n",
        v1(POD, "cpu,cpuacct", "memory", "cpuset"),
        {"cpu,cpuacct/cpu.cfs_quota_us": "150000", "cpu,cpuacct/cpu.cfs_period_us": "100000",
         "memory/memory.limit_in_bytes": "2048M"},
        (2048, HERE), (1.5, HERE),
    ),
    "Kubernetes, version 1: all groups are mounted": Layout(
        f"11:cpu,cpuacct:{POD}\n5:memory:{POD}\n", v1("/", "cpu,cpuacct", "memory"),
        {"cpu,cpuacct/cpu.cfs_period_us": "100000", f"cpu,cpuacct{POD}/cpu.cfs_quota_us": "-1",
         f"cpu,cpuacct{POD}/cpu.cfs_period_us": "100000",
         "memory/memory.limit_in_bytes": NO_LIMIT,
         "memory/kubepods/burstable/pod1f/memory.limit_in_bytes": "256M",
         f"memory{POD}/memory.limit_in_bytes": NO_LIMIT},
        (256, "cgroup pod1f"),
    ),
    "version 1, cpu mounted alone": Layout(
        "4:memory:/\n1:cpu:/\n", v1("/", "cpu", "memory"),
        {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000",
         "memory/memory.limit_in_bytes": NO_LIMIT},
        None, (0.5, HERE),
    ),
    "hybrid: memory of version 1, cpu of version 2": Layout(
        "4:memory:/batch\n1:name=systemd:/\n0::/batch.slice\n",
        v1("/", "memory") + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        {"memory/batch/memory.limit_in_bytes": "700M", "unified/batch.slice/cpu.max":
         "25000 100000"},
        (700, "cgroup batch"), (0.25, "cgroup batch.slice"),
    ),
    "a process that was moved out of its namespace": Layout(
        "0::/../../other.scope\n", v2(), {"memory.max": "300M", "../outside/memory.max": "1"},
        (300, HERE),
    ),
    "a namespace whose mount is the machine's": Layout(
        "0::/inner\n", v2("/../.."), {"cpu.max": "max 100000", "inner/memory.max": "1"},
    ),
    "the same, seen from where it began": Layout(
        "0::/../../inner\n", v2("/../.."), {"inner/memory.max": "200M"}, (200, "cgroup inner"),
    ),
    "garbage": Layout("\nx\n0::\n::\n", v2(), {"memory.max": "many", "cpu.max": "1"}),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_smallest_limit_that_holds(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    root = layout.write(tmp_path)
    for limits, expected, unit in (
        (memory_limits, layout.memory, MIB),
        (cpu_limits, layout.cores, 1),
    ):
        found = min(limits(root), key=lambda bound: bound.amount, default=None)
        assert (found and (found.amount / unit, found.owner)) == expected


@pytest.mark.parametrize(
    ("layout", "events", "owner"),
    [
        ("docker", "memory.events", HERE),
        ("systemd-run --scope, below a slice with a smaller quota",
         "batch.slice/run-u7.scope/memory.events", "cgroup run-u7.scope"),
        ("Kubernetes, version 1: the container's own group is mounted",
         "memory/memory.oom_control", HERE),
        ("hybrid: memory of version 1, cpu of version 2",
         "memory/batch/memory.oom_control", "cgroup batch"),
        ("machine without limits", "user.slice/memory.events", None),
    ],
)  # fmt: skip
def test_kills_of_its_own_group(
    layout: str, events: str, owner: str | None, tmp_path: Path
) -> None:
    root = LAYOUTS[layout].write(tmp_path)
    assert memory_kills(root) is None
    assert MemoryLimit(root).exceeded() is None
    file = write(root / "sys/fs/cgroup" / events, "low 0\noom_kill 2\n")
    before = MemoryLimit(root)
    assert before.exceeded() is None
    write(file, "low 0\noom_kill 3\n")
    told = f"GiB was reached ({owner})" if owner else "this machine's memory ran out"
    assert told in (before.exceeded() or "")


@pytest.fixture
def small_groups() -> Iterator[list[Path]]:
    """The inner ones of real groups; the outer ones allow half a core and 300 MiB."""
    top, own = Path("/sys/fs/cgroup"), f"dask-claim-test-{os.getpid()}"
    if (top / "cgroup.controllers").exists():
        outer = {top / own: {"memory.max": str(300 * MIB), "cpu.max": "50000 100000"}}
    else:
        outer = {
            top / "memory" / own: {"memory.limit_in_bytes": str(300 * MIB)},
            top / "cpu" / own: {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"},
        }
    inner = [folder / "inner" for folder in outer]
    try:
        for folder, files in outer.items():
            folder.mkdir()
            for name, text in files.items():
                (folder / name).write_text(text)
            (folder / "inner").mkdir()
    except OSError:
        missing("control groups")
    else:
        yield inner
    finally:
        for folder in [*inner, *outer]:
            with contextlib.suppress(OSError):
                folder.rmdir()


def test_real_limits_of_an_outer_group(small_groups: list[Path]) -> None:
    program = """
from dask_claim.providers.local.size import here
cores, memory = here({})
print(cores.amount, memory.amount, cores.owner, memory.owner, sep=";")
"""
    join = "; ".join(f"echo $$ > {group}/cgroup.procs" for group in small_groups)
    command = ["sh", "-ec", f'{join}; exec "$@"', "sh", sys.executable, "-c", program]
    out = subprocess.check_output(command, text=True)
    owner = f"cgroup dask-claim-test-{os.getpid()}"
    assert out.strip() == f"0.5;{300 * MIB};{owner};{owner}"
