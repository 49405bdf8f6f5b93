"""Jobs of a batch system without a gateway: on a real Slurm, and as scripts for the others."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dask_claim.claim.model import Claim
from dask_claim.errors import ConfigurationError
from dask_claim.imports import import_quietly
from dask_claim.providers.hpc import condor
from dask_claim.providers.hpc.batch_host import with_configured
from dask_claim.providers.hpc.systems import SYSTEMS, name_jobs, parse_jobs, passes
from dask_claim.providers.values import Request
from dask_claim.registry import provider_class
from tests.support.claims import faults_of
from tests.support.condor import Pool
from tests.support.launcher import PYTHON, Launcher, Running, processes_with, wait_for
from tests.support.scenes import (
    HURRY,
    NOBODY_ELSE,
    WAITING,
    command_line,
    end_all,
    kill,
    until_ready,
)
from tests.support.slurm import Slurm

pytestmark = pytest.mark.xdist_group("slurm batch")

CLAIM: dict[str, Any] = {
    "provider": "slurm",
    "max_workers": 1,
    "worker_memory": "500 MiB",
    "hpc": {"interface": "lo", "walltime": "00:05:00"},
    "environment": {"SAID": "it's here"},
}

IN_A_JOB = f"""{NOBODY_ELSE}
    for name in ("SLURM_JOB_NAME", "SAID"):
        print(client.submit(os.getenv, name).result(), end=" ")
"""


TASK = (
    PYTHON, "-c", "from distributed import Client; it = Client().submit(abs, 1); print('ready'); "
    "import sys; sys.stdout.flush(); input()",
)  # fmt: skip


def start_waiting(launcher: Launcher, slurm: Slurm, **more: Any) -> Running:
    """Return when its first job is there."""
    hpc = {**CLAIM["hpc"], **more.pop("hpc", {})}
    env = {**slurm.variables, **more.pop("env", {})}
    command, before = more.pop("command", WAITING), more.pop("before", ())
    run = launcher.start(
        *command, claim={**CLAIM, **more, "hpc": hpc}, env=env, before=before,
        stdin=subprocess.PIPE,
    )  # fmt: skip
    until_ready(run)
    wait_for(slurm.jobs, "job", 40, lambda: run.err)
    return run


def test_one_task_in_a_job(launcher: Launcher, slurm: Slurm, tmp_path: Path) -> None:
    """Other users are refused."""
    (work := tmp_path / "work").mkdir()
    report = tmp_path / "r.html"
    run = launcher(
        PYTHON, "-W", "ignore", "-c", IN_A_JOB, claim={**CLAIM, "min_workers": 1}, timeout=120,
        env=slurm.variables, cwd=work, flags=("--start", "workers", "--report", str(report)),
    )  # fmt: skip
    assert run.status == 0, run.err
    assert ("number of tasks" if find_spec("bokeh") else "no Bokeh") in report.read_text()
    result, *refused, name, said = run.out.decode().split(maxsplit=4)
    assert (result, refused, said) == ("42", ["0", "0"], "it's here ")
    assert f"named {name}" in run.err
    assert run.receipt["gone"] is True, run.err
    assert list(work.iterdir()) == []
    assert "of a worker" not in run.err


@pytest.mark.deep
def test_program_shuts_its_jobs_down(launcher: Launcher, slurm: Slurm) -> None:
    program = "from distributed import Client\nclient = Client()\nclient.shutdown()"
    run = launcher(PYTHON, "-c", program, claim=CLAIM, env=slurm.variables)
    assert run.status == 0, run.err
    assert "The cluster of Slurm (dask-jobqueue) was shut down by a client" in run.err
    assert "was already gone" in run.err and "Traceback" not in run.err, run.err


@pytest.mark.parametrize("whom", ["node", "launcher"])
def test_jobs_end_with_their_launcher(
    launcher: Launcher, slurm: Slurm, tmp_path: Path, whom: str
) -> None:
    """Its node is gone, and nobody can cancel anything; or by its guard, and the keys with them."""
    (temporary := tmp_path / "tmp").mkdir()
    run = start_waiting(launcher, slurm, env={"TMPDIR": str(temporary)})
    run.until("1 worker up")
    assert list(temporary.glob("dask-claim-keys-*"))
    if whom == "node":
        end_all(launcher)
        run.process.communicate()
    else:
        kill(run)
        wait_for(lambda: not processes_with(launcher.marker), "end of all processes")
        assert not list(temporary.glob("dask-claim-keys-*"))


def test_waiting_jobs_are_found_by_their_name(launcher: Launcher, slurm: Slurm) -> None:
    """Whoever has submitted them is killed, too, and no worker is there to miss its scheduler."""
    run = start_waiting(launcher, slurm, hpc={"queue": "closed"}, command=TASK, before=HURRY)
    assert slurm.jobs() == ["PENDING"]
    # Slurm's own word for what they wait for.
    run.until(r"no worker is up\. 1 job waits in the queue \(Partition\w+\)\. Its jobs are named")
    pids = processes_with(launcher.marker)
    (host,) = (pid for pid in pids if "hpc/batch_host.py" in command_line(pid))
    os.kill(host, signal.SIGKILL)
    kill(run)


def test_jobs_that_slurm_ends(launcher: Launcher, slurm: Slurm) -> None:
    """Each in its way; three are on one node and the fourth on another, whose end is its own."""
    run = start_waiting(launcher, slurm, max_workers=4, min_workers=4, hpc={"queue": "frail"})
    run.until("4 workers up")
    alone, late, cancelled, requeued = slurm.run("squeue", "-h", "-S", "-N", "-o", "%i").split()
    slurm.run("scontrol", "update", f"JobId={late}", "EndTime=now")
    slurm.run("scancel", cancelled)
    slurm.run("scontrol", "requeue", requeued)
    slurm.run("scontrol", "update", f"JobId={alone}", "Requeue=0")
    slurm.run("scontrol", "update", "NodeName=frail1", "State=DOWN", "Reason=test")
    told = [
        f"Slurm ended job {cancelled} of a worker (CANCELLED): it was cancelled",
        f"Slurm ended job {requeued} of a worker (REQUEUED): it is to start again",
        f"Slurm ended job {alone} of a worker (NODE_FAIL): its node failed",
        f"Slurm ended job {late} of a worker (TIMEOUT): it reached its walltime",
    ]
    for text in told:
        run.until(re.escape(text))  # Slurm looks at walltimes every 30 s
    run.process.stdin.write(b"\n")
    run.process.stdin.close()
    run.process.stdin = None
    ended = run.finish()
    assert ended.err.count(" of a worker (") == len(told)
    for text in told:
        assert any(text in warning for warning in ended.receipt["warnings"])


def test_jobs_that_slurm_refuses(launcher: Launcher, slurm: Slurm) -> None:
    """For its own reasons, in its own words."""
    claim = {**CLAIM, "hpc": {**CLAIM["hpc"], "queue": "nosuch"}}
    run = launcher("true", claim=claim, env=slurm.variables)
    assert run.status == 78, run.err
    first, last = run.err.splitlines()[-2:]
    assert first.endswith("invalid partition specified: nosuch"), run.err
    assert last.startswith("sbatch: error: Batch job submission failed"), run.err


def test_one_task_in_htcondor(launcher: Launcher, tmp_path: Path) -> None:
    """What the whole pool can read has nothing private; the rest comes with a private file."""
    pool = Pool(tmp_path)
    claim = {
        **CLAIM, "provider": "htcondor", "min_workers": 1,
        "hpc": {
            "interface": "lo", "account": "land", "walltime": "00:05:00", "disk": "3 G",
            "directives": ["Periodic_Remove = NumJobStarts > 3", "+Project = \"eo\""],
        },
    }  # fmt: skip
    program = f"{NOBODY_ELSE}\n    print(client.submit(os.getenv, 'SAID').result(), end='')"
    run = launcher.start(
        PYTHON, "-W", "ignore", "-c", program, claim=claim, env=pool.variables,
        flags=("--start", "workers"),
    )  # fmt: skip
    wait_for(pool.jobs, "job", 40, lambda: run.err)
    job = json.loads(pool.jobs()[0].read_text())
    ended = run.finish()
    assert (ended.status, ended.out.decode().split(maxsplit=3)) == (
        0,
        ["42", "0", "0", "it's here"],
    )
    assert ended.receipt["gone"] is True and pool.jobs() == [], ended.err
    assert "KEY" not in str(job) and "it's" not in str(job)
    assert (job["my.daskworkerdisk"], job["accounting_group"]) == (str(3 * 2**30), "land")
    assert job["periodic_remove"].startswith("(NumJobStarts > 3) || (JobStatus == 2 && ")
    assert "> 300)" in job["periodic_remove"] and job["+project"] == '"eo"'
    [file] = tmp_path.glob(f"scratch-*/{condor.SETUP}")
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("provider", "hpc", "why"),
    [
        ("htcondor", {"queue": "fast"}, "HTCondor has no queues"),
        ("htcondor", {"walltime": "01:00"}, "neither hours:minutes:seconds nor"),
        ("htcondor", {"directives": ["queue 100"]}, "is not an HTCondor 'name = value'"),
        ("htcondor", {"directives": ['+DaskClaimRun = "x"']}, "would rename the jobs"),
        ("slurm", {"directives": ["--exclusive", " --job-name=mine"]}, "would rename the jobs"),
        ("pbs", {"disk": "1 G"}, "PBS has no such request"),
        ("lsf", {}, "bsub, which is not on PATH"),
    ],
)
def test_entries_that_a_system_does_not_have(
    tmp_path: Path, provider: str, hpc: dict[str, Any], why: str
) -> None:
    for system in (SYSTEMS[name] for name in ("htcondor", "slurm", "pbs")):
        for command in (system.submit, system.find[0], system.cancel):
            (tmp_path / command).touch(0o755)
    claim = Claim.model_validate({"provider": provider, "hpc": hpc})
    request = Request(claim, claim.plan({}), {"PATH": str(tmp_path)})
    with pytest.raises(ConfigurationError, match=why):
        provider_class(provider)(request, lambda ticket: None, print).check()


PASSING = (
    "sbatch: error: Batch job submission failed: Unable to contact slurm controller",
    "sbatch: error: Batch job submission failed: Socket timed out on send/recv",
    "sbatch: error: QOSMaxSubmitJobPerUserLimit",
    "sbatch: error: Required partition not available (inactive or drain)",
    "qsub: Connection refused",
    "qsub: would exceed queue generic's per-user limit",
    "qsub: Maximum number of jobs already in queue",
    "Unable to run job: got no response from JSV, Please try again",
    "error: commlib error: got select error (Connection refused)",
    "LSF is down. Please wait ...",
    "ERROR: Can't find address of local schedd",
    "ERROR: Failed to connect to local queue manager",
    "Number of submitted jobs would exceed MAX_JOBS_PER_OWNER",
    "User <a>: Job limit 10 reached. Retrying",
)
LASTING = (
    "sbatch: fatal: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.",
    "sbatch: error: invalid partition specified: nosuch",
    "sbatch: error: Invalid account or account/partition combination specified",
    "sbatch: error: Requested node configuration is not available",
    "sbatch: error: Requested time limit is invalid (missing or exceeds some limit)",
    "sbatch: unrecognized option '--nosuch'",
    "qsub: Unknown queue",
    "qsub: Illegal attribute or resource value Resource_List.ncpus",
    "nosuch: No such queue. Job not submitted.",
    "ERROR: Parse error in expression: \n\tPeriodicRemove = a b",
    "",
)


def test_refusal_is_temporary_only_where_it_passes() -> None:
    assert [words for words in PASSING if not passes(words)] == []
    assert [words for words in LASTING if passes(words)] == []


@pytest.mark.filterwarnings("ignore:OAR Job memory")
@pytest.mark.parametrize("name", sorted(SYSTEMS.keys() - {"htcondor"}))
def test_script_of_each_system(name: str) -> None:
    """What dask-jobqueue makes of a request, and of what it is configured with at a site.

    Older releases have other names for that.
    """
    older = name in ("lsf", "slurm")
    import dask.config

    dask_jobqueue = import_quietly("dask_jobqueue")
    system = SYSTEMS[name]
    cluster = getattr(dask_jobqueue, system.cluster)
    run = {
        "job_extra_directives": ["--more"],
        "job_script_prologue": ["export A=b"], "worker_extra_args": ["--no-dashboard"],
        "scheduler_options": {"dashboard": False},
    }  # fmt: skip
    configured = {
        f"jobqueue.{name}.{'job-extra' if older else 'job-extra-directives'}": ["--of-the-site"],
        f"jobqueue.{name}.{'env-extra' if older else 'job-script-prologue'}": ["module load eo"],
        f"jobqueue.{name}.{'extra' if older else 'worker-extra-args'}": ["--lifetime", "55m"],
        f"jobqueue.{name}.scheduler-options": {"interface": "lo", "dashboard": True},
    }
    with dask.config.set(configured), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        made = with_configured(cluster, run, list(system.quiet))
        options = made.pop("scheduler_options")
        script = cluster.job_cls(
            "tls://host:1", name="w", cores=2, memory=2**30, processes=1, queue="fast",
            walltime="00:10:00", job_name=name_jobs("0123456789abcdef"),
            **made, **{system.account: "paying"},
        ).job_script()  # fmt: skip
    assert options == {"interface": "lo", "dashboard": False}
    for part in ("dask-0123456789", "fast", "paying", "--lifetime 55m --no-dashboard"):
        assert part in script, script
    # The site's before the run's, which may say otherwise.
    order = ["/dev/null", "--of-the-site", "--more", "module load eo", "export A=b"]
    places = [script.index(part) for part in order]
    assert places == sorted(places), script
    with dask.config.set({f"jobqueue.{name}.log-directory": "/somewhere"}):
        assert "/dev/null" not in " ".join(
            with_configured(cluster, run, list(system.quiet))["job_extra_directives"]
        )


def test_jobs_are_found() -> None:
    for printed, jobs in {
        "": [],
        "17\n18\n": ["17", "18"],
        "1234.server\n": ["1234.server"],
        "====\njob_number:      55\nowner: me\n": ["55"],
        "Following jobs do not exist:\ndask-12\n": [],
    }.items():
        assert parse_jobs(printed) == jobs, printed


def test_hostile_entries_are_refused_all_at_once() -> None:
    """That sound ones stay as they are is for `test_nothing_lost`."""
    hpc = {
        "queue": "a\n#SBATCH --uid=0", "account": "a; rm -rf /", "directives": ["--exclusive\nid"],
        "wall_time": "1",
    }  # fmt: skip
    faults = faults_of(DASK_CLAIM=json.dumps({"hpc": hpc}))
    assert len(faults) == 4 and "walltime" in str(faults)
    [fault] = faults_of(DASK_CLAIM='{"hpc": {"queue": true}}', DASK_CLAIM_HPC__ACCOUNT="17")
    assert "hpc.queue" in fault
