"""The limits that hold for a process, by what the kernel shows of its control groups."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dask_claim.cgroup import cpu_limits, memory_kills, memory_limits
from dask_claim.launch.death import MemoryLimit
from tests.support.missing import missing

MIB = 2**20
NO_LIMIT = "9223372036854771712"

V2 = "31 23 0:28 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "3{n} 23 0:3{n} {root} /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}\n"


def v1(root: str, *names: str) -> str:
    return "".join(V1.format(n=n, root=root, name=name) for n, name in enumerate(names))


class Layout:
    """Files of a machine, and the bounds that hold on it: (amount, owner), or None."""

    def __init__(
        self,
        own: str,
        mounts: str,
        files: dict[str, str],
        memory: tuple[float, str] | None = None,
        cores: tuple[float, str] | None = None,
    ) -> None:
        self.own, self.mounts, self.files = own, mounts, files
        self.memory, self.cores = memory, cores

    def write(self, root: Path) -> Path:
        files = {f"sys/fs/cgroup/{name}": text for name, text in self.files.items()}
        files["proc/self/cgroup"], files["proc/self/mountinfo"] = self.own, self.mounts
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root


SLURM = "system.slice/slurmstepd.scope/job_12"
POD = "/kubepods/burstable/pod1f/9a8b"
LAYOUTS = {
    "no groups": Layout("", "", {}),
    "machine without limits": Layout(
        "0::/user.slice/user-1.slice/session-4.scope\n",
        V2.format(root="/"),
        {
            "user.slice/memory.max": "max\n",
            "user.slice/cpu.max": "max 100000\n",
            "user.slice/user-1.slice/memory.max": "max\n",
        },
    ),
    "docker": Layout(
        "0::/\n",
        V2.format(root="/"),
        {"memory.max": f"{3072 * MIB}\n", "memory.high": "max\n", "cpu.max": "50000 100000\n"},
        (3072 * MIB, "this container"),
        (0.5, "this container"),
    ),
    "docker, the namespace of groups shared with the machine": Layout(
        "0::/system.slice/docker-4f.scope\n",
        V2.format(root="/"),
        {
            "system.slice/docker-4f.scope/memory.max": f"{512 * MIB}\n",
            "system.slice/docker-4f.scope/cpu.max": "150000 100000\n",
        },
        (512 * MIB, "cgroup docker-4f.scope"),
        (1.5, "cgroup docker-4f.scope"),
    ),
    "systemd-run --scope, below a slice with a smaller quota": Layout(
        "0::/batch.slice/run-u7.scope\n",
        V2.format(root="/"),
        {
            "batch.slice/memory.max": f"{4096 * MIB}\n",
            "batch.slice/cpu.max": "100000 100000\n",
            "batch.slice/run-u7.scope/memory.max": f"{900 * MIB}\n",
            "batch.slice/run-u7.scope/cpu.max": "200000 100000\n",
        },
        (900 * MIB, "cgroup run-u7.scope"),
        (1, "cgroup batch.slice"),
    ),
    "throttled before it is killed": Layout(
        "0::/app.scope\n",
        V2.format(root="/"),
        {"app.scope/memory.max": f"{900 * MIB}\n", "app.scope/memory.high": f"{800 * MIB}\n"},
        (800 * MIB, "cgroup app.scope"),
    ),
    "Slurm: the job's limits, not those of the step's tasks": Layout(
        f"0::/{SLURM}/step_0/user/task_0\n",
        V2.format(root="/"),
        {
            f"{SLURM}/memory.max": f"{2000 * MIB}\n",
            f"{SLURM}/step_0/memory.max": "max\n",
            f"{SLURM}/step_0/user/task_0/memory.max": "max\n",
            f"{SLURM}/step_0/user/task_0/cpu.max": "max 100000\n",
        },
        (2000 * MIB, "cgroup job_12"),
    ),
    "HTCondor": Layout(
        "0::/system.slice/htcondor/condor_var_lib_condor_execute_slot1_1@node\n",
        V2.format(root="/"),
        {
            "system.slice/htcondor/condor_var_lib_condor_execute_slot1_1@node/memory.max": (
                f"{1024 * MIB}\n"
            ),
        },
        (1024 * MIB, "cgroup condor_var_lib_condor_execute_slot1_1@node"),
    ),
    "Kubernetes, version 1: the container's own group is mounted": Layout(
        f"11:cpu,cpuacct:{POD}\n5:memory:{POD}\n1:name=systemd:{POD}\n",
        v1(POD, "cpu,cpuacct", "memory", "cpuset"),
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": f"{2048 * MIB}\n",
        },
        (2048 * MIB, "this container"),
        (1.5, "this container"),
    ),
    "Kubernetes, version 1: all groups are mounted": Layout(
        f"11:cpu,cpuacct:{POD}\n5:memory:{POD}\n",
        v1("/", "cpu,cpuacct", "memory"),
        {
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            f"cpu,cpuacct{POD}/cpu.cfs_quota_us": "-1\n",
            f"cpu,cpuacct{POD}/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": NO_LIMIT,
            "memory/kubepods/burstable/pod1f/memory.limit_in_bytes": f"{256 * MIB}\n",
            f"memory{POD}/memory.limit_in_bytes": NO_LIMIT,
        },
        (256 * MIB, "cgroup pod1f"),
    ),
    "Kubernetes, version 1: the pod's limit, above what is mounted": Layout(
        f"5:memory:{POD}\n",
        v1(POD, "memory"),
        {
            "memory/memory.limit_in_bytes": NO_LIMIT,
            "memory/memory.stat": f"cache 1\nhierarchical_memory_limit {256 * MIB}\n",
        },
        (256 * MIB, "this container"),
    ),
    "version 1, cpu mounted alone": Layout(
        "4:memory:/\n1:cpu:/\n",
        v1("/", "cpu", "memory"),
        {
            "cpu/cpu.cfs_quota_us": "50000\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": NO_LIMIT,
        },
        None,
        (0.5, "this container"),
    ),
    "hybrid: memory of version 1, cpu of version 2": Layout(
        "4:memory:/batch\n1:name=systemd:/\n0::/batch.slice\n",
        v1("/", "memory")
        + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        {
            "memory/batch/memory.limit_in_bytes": f"{700 * MIB}\n",
            "unified/batch.slice/cpu.max": "25000 100000\n",
        },
        (700 * MIB, "cgroup batch"),
        (0.25, "cgroup batch.slice"),
    ),
    "a process that was moved out of its namespace": Layout(
        "0::/../../other.scope\n",
        V2.format(root="/"),
        {"memory.max": f"{300 * MIB}\n", "../outside/memory.max": "1\n"},
        (300 * MIB, "this container"),
    ),
    "a namespace whose mount is the machine's": Layout(
        "0::/inner\n",
        V2.format(root="/../.."),
        {"cpu.max": "max 100000\n", "inner/memory.max": "1\n"},
    ),
    "the same, seen from where it began": Layout(
        "0::/../../inner\n",
        V2.format(root="/../.."),
        {"inner/memory.max": f"{200 * MIB}\n"},
        (200 * MIB, "cgroup inner"),
    ),
    "garbage": Layout(
        "\nx\n0::\n::\n", V2.format(root="/"),
        {"memory.max": "many\n", "cpu.max": "1\n"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_smallest_limit_that_holds(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    root = layout.write(tmp_path)
    for limits, expected in (memory_limits, layout.memory), (cpu_limits, layout.cores):
        found = min(limits(root), key=lambda bound: bound.amount, default=None)
        assert (found and (found.amount, found.owner)) == expected


@pytest.mark.parametrize(
    ("layout", "events", "owner"),
    [
        ("docker", "memory.events", "this container"),
        ("systemd-run --scope, below a slice with a smaller quota",
         "batch.slice/run-u7.scope/memory.events", "cgroup run-u7.scope"),
        ("Kubernetes, version 1: the container's own group is mounted",
         "memory/memory.oom_control", "this container"),
        ("hybrid: memory of version 1, cpu of version 2",
         "memory/batch/memory.oom_control", "cgroup batch"),
    ],
)  # fmt: skip
def test_kills_of_its_own_group(layout: str, events: str, owner: str, tmp_path: Path) -> None:
    root = LAYOUTS[layout].write(tmp_path)
    assert memory_kills(root) is None
    assert MemoryLimit(root).exceeded() is None
    file = root / "sys/fs/cgroup" / events
    file.write_text("low 0\noom_kill 2\n")
    before = MemoryLimit(root)
    assert before.exceeded() is None
    file.write_text("low 0\noom_kill 3\n")
    told = before.exceeded()
    assert told and f"GiB was reached ({owner})" in told


def test_a_machine_that_runs_out_of_memory(tmp_path: Path) -> None:
    layout = LAYOUTS["machine without limits"]
    file = layout.write(tmp_path) / "sys/fs/cgroup/user.slice/memory.events"
    file.write_text("oom_kill 0\n")
    before = MemoryLimit(tmp_path)
    file.write_text("oom_kill 1\n")
    assert "this machine's memory ran out" in (before.exceeded() or "")


@pytest.fixture
def small_groups() -> Iterator[list[Path]]:
    """The inner ones of real groups; the outer ones allow half a core and 300 MiB."""
    limits = {
        "memory": {"memory.limit_in_bytes": str(300 * MIB)},
        "cpu": {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"},
    }
    top = Path("/sys/fs/cgroup")
    outer = {}
    if (top / "cgroup.controllers").exists():
        unified = {"memory.max": str(300 * MIB), "cpu.max": "50000 100000"}
        outer[top / f"dask-claim-test-{os.getpid()}"] = unified
    else:
        for controller, files in limits.items():
            outer[top / controller / f"dask-claim-test-{os.getpid()}"] = files
    inner = []
    try:
        for folder, files in outer.items():
            folder.mkdir()
            for name, text in files.items():
                (folder / name).write_text(text)
            inner.append(folder / "inner")
            inner[-1].mkdir()
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
    run = subprocess.run(
        ["sh", "-ec", f'{join}; exec "$@"', "sh", sys.executable, "-c", program],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    owner = f"cgroup dask-claim-test-{os.getpid()}"
    assert run.stdout.strip() == f"0.5;{300 * MIB};{owner};{owner}"
