"""Jobs of a batch system without a gateway: on a real Slurm, and as scripts for the others."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from dask_claim.claim.model import Claim
from dask_claim.errors import ClaimError
from dask_claim.providers.base import import_quietly
from dask_claim.providers.hpc.configured import with_configured
from dask_claim.providers.hpc.systems import SYSTEMS, job_name, job_numbers, passes
from tests.support.launcher import PYTHON, Launcher, Running, processes_with, wait_for
from tests.support.scenes import NOBODY_ELSE, WAITING, command_line, end_all, kill, until_ready
from tests.support.slurm import Slurm

CLAIM: dict[str, Any] = {
    "provider": "slurm",
    "max_workers": 1,
    "worker_memory": "500 MiB",
    "hpc": {"interface": "lo", "walltime": "00:05:00"},
    "environment": {"SAID": "it's here"},
}

IN_A_JOB = (
    "import os\n"
    "from distributed import Client\n"
    "with Client() as client:\n"
    "    print(client.scheduler.address.split(':')[0])\n"
    "    for name in ('SLURM_JOB_NAME', 'SAID'):\n"
    "        print(client.submit(os.getenv, name).result())\n"
)


@pytest.fixture
def at(slurm: Slurm) -> dict[str, str]:
    """Variables with which this Slurm's commands are found."""
    path = [str(slurm.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {"PATH": os.pathsep.join(path)}


def until_over(slurm: Slurm, launcher: Launcher) -> None:
    wait_for(lambda: not slurm.jobs(), "end of all jobs", 40)
    wait_for(lambda: not processes_with(launcher.marker), "end of all processes", 40)


def start_waiting(launcher: Launcher, slurm: Slurm, at: dict[str, str], **more: Any) -> Running:
    run = launcher.start(*WAITING, claim={**CLAIM, **more}, env=at, stdin=subprocess.PIPE)
    until_ready(run)
    wait_for(lambda: slurm.jobs() == ["RUNNING"], "running job", 40, lambda: run.err)
    return run


def test_one_task_in_a_job(
    launcher: Launcher, slurm: Slurm, at: dict[str, str], tmp_path: Path
) -> None:
    (work := tmp_path / "work").mkdir()
    run = launcher(PYTHON, "-c", IN_A_JOB, claim=CLAIM, env=at, cwd=work, timeout=120)
    assert run.status == 0, run.err
    protocol, name, *said = run.out.decode().split()
    assert (protocol, said) == ("tls", ["it's", "here"])
    assert f"named {name}" in run.err
    assert run.receipt["gone"] is True, run.err
    assert list(work.iterdir()) == []
    assert "of a worker" not in run.err
    until_over(slurm, launcher)


def test_program_shuts_its_jobs_down(launcher: Launcher, slurm: Slurm, at: dict[str, str]) -> None:
    program = "from distributed import Client\nclient = Client()\nclient.shutdown()"
    run = launcher(PYTHON, "-c", program, claim=CLAIM, env=at)
    assert run.status == 0, run.err
    assert "The cluster of Slurm (dask-jobqueue) was shut down by a client" in run.err
    assert "was already gone" in run.err and "Traceback" not in run.err, run.err
    until_over(slurm, launcher)


def test_jobs_end_with_a_killed_launcher(
    launcher: Launcher, slurm: Slurm, at: dict[str, str], tmp_path: Path
) -> None:
    """By the guard, which takes the keys away, too."""
    (temporary := tmp_path / "tmp").mkdir()
    run = start_waiting(launcher, slurm, {**at, "TMPDIR": str(temporary)})
    assert list(temporary.glob("dask-claim-keys-*"))
    kill(run)
    until_over(slurm, launcher)
    assert not list(temporary.glob("dask-claim-keys-*"))


def test_waiting_jobs_are_found_by_their_name(
    launcher: Launcher, slurm: Slurm, at: dict[str, str]
) -> None:
    """Whoever has submitted them is killed, too, and no worker is there to miss its scheduler."""
    slurm.drain()
    try:
        run = launcher.start(*WAITING, claim=CLAIM, env=at, stdin=subprocess.PIPE)
        until_ready(run)
        wait_for(lambda: slurm.jobs() == ["PENDING"], "waiting job", 40, lambda: run.err)
        pids = processes_with(launcher.marker)
        (host,) = (pid for pid in pids if "hpc/host.py" in command_line(pid))
        os.kill(host, signal.SIGKILL)
        kill(run)
        until_over(slurm, launcher)
    finally:
        slurm.resume()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("scancel JOB", "(CANCELLED): somebody cancelled it"),
        ("scontrol requeue JOB", "(REQUEUED): it is to start again"),
        (
            "scontrol update NodeName=NODE State=DOWN Reason=test",
            "(NODE_FAIL): its node failed",
        ),
        ("", "(TIMEOUT): its walltime was over"),
    ],
)
def test_jobs_that_slurm_ends(
    launcher: Launcher, slurm: Slurm, at: dict[str, str], command: str, said: str
) -> None:
    hpc = {**CLAIM["hpc"], "directives": [] if "requeue" in command else ["--no-requeue"]}
    if not command:
        hpc["walltime"] = "00:01:00"
    run = start_waiting(launcher, slurm, at, hpc=hpc)
    run.until("1 worker up")
    job, node = slurm.run("squeue", "--noheader", "--format=%i %N").split()
    try:
        if command:
            slurm.run(*command.replace("JOB", job).replace("NODE", node).split())
        # Slurm looks at walltimes every 30 s, and gives half a minute more.
        run.until(re.escape(f"Slurm ended job {job} of a worker {said}"), 30 if command else 180)
        run.process.stdin.write(b"\n")
        run.process.stdin.close()
        run.process.stdin = None
        ended = run.finish()
    finally:
        slurm.until_idle()  # a node that has lost its job comes back by itself
    assert ended.err.count(" of a worker (") == 1
    assert any(said in warning for warning in ended.receipt["warnings"])
    until_over(slurm, launcher)


def test_jobs_end_when_the_node_is_gone(
    launcher: Launcher, slurm: Slurm, at: dict[str, str]
) -> None:
    """Neither the launcher, nor its guard, nor the scheduler can cancel anything."""
    run = start_waiting(launcher, slurm, at)
    run.until("1 worker up")
    end_all(launcher)
    run.process.communicate()
    until_over(slurm, launcher)


def test_other_users_are_refused(
    launcher: Launcher, slurm: Slurm, at: dict[str, str], tmp_path: Path
) -> None:
    (program := tmp_path / "program.py").write_text(NOBODY_ELSE)
    claim = {**CLAIM, "min_workers": 1}
    run = launcher(
        PYTHON, "-W", "ignore", str(program), claim=claim, env=at,
        flags=("--start", "workers"), timeout=120,
    )  # fmt: skip
    assert run.status == 0, run.err
    assert run.out.decode().split() == ["42", "0", "0"]
    until_over(slurm, launcher)


def test_no_slurm_here(launcher: Launcher) -> None:
    """Nothing is made, and the message says what to do."""
    only_python = {"PATH": str(Path(sys.executable).parent)}
    run = launcher(PYTHON, "-c", "", claim=CLAIM, env=only_python)
    assert run.status == 78
    assert "sbatch, which is not on PATH" in run.err


def test_jobs_that_slurm_refuses(launcher: Launcher, slurm: Slurm, at: dict[str, str]) -> None:
    claim = {**CLAIM, "hpc": {**CLAIM["hpc"], "queue": "nosuch"}}
    run = launcher("true", claim=claim, env=at)
    assert run.status == 78, run.err
    assert "invalid partition specified: nosuch" in run.err


@pytest.mark.parametrize(
    ("words", "later"),
    [
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller", True),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv", True),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", True),
        ("sbatch: error: Required partition not available (inactive or drain)", True),
        ("qsub: Connection refused", True),
        ("qsub: would exceed queue generic's per-user limit", True),
        ("qsub: Maximum number of jobs already in queue", True),
        ("Unable to run job: got no response from JSV, Please try again", True),
        ("error: commlib error: got select error (Connection refused)", True),
        ("LSF is down. Please wait ...", True),
        ("User <a>: Job limit 10 reached. Retrying", True),
        ("sbatch: fatal: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.", False),
        ("sbatch: error: invalid partition specified: nosuch", False),
        ("sbatch: error: Invalid account or account/partition combination specified", False),
        ("sbatch: error: Requested node configuration is not available", False),
        ("sbatch: error: Requested time limit is invalid (missing or exceeds some limit)", False),
        ("sbatch: unrecognized option '--nosuch'", False),
        ("qsub: Unknown queue", False),
        ("qsub: Illegal attribute or resource value Resource_List.ncpus", False),
        ("nosuch: No such queue. Job not submitted.", False),
        ("", False),
    ],
)
def test_refusal_is_temporary_only_where_it_passes(words: str, later: bool) -> None:
    assert passes(words) is later


@pytest.mark.slow
def test_directives_that_exclude_each_other(launcher: Launcher, tmp_path: Path) -> None:
    """What a submission is refused for is the batch system's own words."""
    words = "sbatch: fatal: --mem and --mem-per-gpu are mutually exclusive."
    for name in ("sbatch", "squeue", "scancel"):
        command = tmp_path / name
        command.write_text(
            f"#!/bin/sh\n[ {name} != sbatch ] || {{ echo '{words}' >&2; exit 1; }}\n"
        )
        command.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    run = launcher("true", claim=CLAIM, env={"PATH": path})
    assert run.status == 78, run.err
    assert words in run.err.splitlines()[-1]


@pytest.mark.filterwarnings("ignore:OAR Job memory")
@pytest.mark.parametrize("name", sorted(SYSTEMS))
@pytest.mark.parametrize("older", [False, True])
def test_script_of_each_system(name: str, older: bool) -> None:
    """What dask-jobqueue makes of a request, and of what it is configured with at a site."""
    import dask.config

    dask_jobqueue = import_quietly("dask_jobqueue")
    system = SYSTEMS[name]
    cluster = getattr(dask_jobqueue, system.cluster)
    run = {
        "quiet": system.quiet, "job_extra_directives": ["--more"],
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
        made = with_configured(cluster, run)
        options = made.pop("scheduler_options")
        script = cluster.job_cls(
            "tls://host:1", name="w", cores=2, memory=2**30, processes=1, queue="fast",
            walltime="00:10:00", job_name=job_name("0123456789abcdef"),
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
        assert "/dev/null" not in " ".join(with_configured(cluster, run)["job_extra_directives"])


@pytest.mark.parametrize(
    ("printed", "jobs"),
    [
        ("", []),
        ("17\n18\n", ["17", "18"]),
        ("1234.server\n", ["1234.server"]),
        ("====\njob_number:      55\nowner: me\n", ["55"]),
        ("Following jobs do not exist:\ndask-12\n", []),
    ],
)
def test_jobs_are_found(printed: str, jobs: list[str]) -> None:
    assert job_numbers(printed) == jobs


def test_hostile_entries_are_refused_all_at_once() -> None:
    hpc = {
        "queue": "a\n#SBATCH --uid=0",
        "account": "a; rm -rf /",
        "directives": ["--exclusive\nid"],
        "wall_time": "1",
    }
    with pytest.raises(ClaimError) as caught:
        Claim.model_validate_json(json.dumps({"hpc": hpc}))
    assert len(caught.value.faults) == 4
    assert "walltime" in str(caught.value)
    sound = {"queue": "fast", "directives": ["--exclusive"], "walltime": "1-00:00:00"}
    assert Claim.model_validate({"hpc": sound}).to_dict()["hpc"] == sound
    with pytest.raises(ClaimError) as caught:
        said = {"DASK_CLAIM": '{"hpc": {"queue": true}}', "DASK_CLAIM_HPC__ACCOUNT": "17"}
        Claim.from_env(said)
    assert [fault.path for fault in caught.value.faults] == ["hpc.queue"]
