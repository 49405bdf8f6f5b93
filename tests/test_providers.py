"""Every provider keeps to the contract, also one that another package brings."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from dask_claim.files import letters
from dask_claim.providers.values import Ticket
from dask_claim.testing import ProviderContract
from tests.support.condor import Pool
from tests.support.gateway import GatewayServer, clean_environment, free_port
from tests.support.here import dask_claim
from tests.support.launcher import Launcher, processes_with, wait_for
from tests.support.scenes import WAITING, kill, until_ready
from tests.support.slurm import Slurm

PAGE = Path(__file__).parents[1] / "docs/providers.md"
MARK = "CONTRACT_OF_PROVIDERS"


@pytest.fixture(autouse=True)
def _no_folder_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    yield
    assert list(temporary.glob("dask-claim-*")) == []


class Here(ProviderContract):
    """Of processes on this machine."""

    # Other processes of pytest run the other tests of a class at the same time.
    mark: ClassVar[str] = letters()
    cancel_after = (0.5,)

    def environment(self) -> dict[str, str]:
        return clean_environment(**{MARK: self.mark})

    def made(self) -> set[str]:
        return {str(pid) for pid in processes_with(f"{MARK}={self.mark}")}


@pytest.mark.slow
class TestLocal(Here):
    claim: ClassVar = {"max_workers": 1, "worker_memory": "500M"}


@pytest.mark.deep
class TestLocalGatewayCluster(Here):
    claim: ClassVar = {"max_workers": 1, "worker_memory": "500M", "env": {"gateway_url": "URL"}}


@pytest.mark.deep
class TestLocalGateway(Here):
    claim: ClassVar = {"create": False, "env": {"gateway_url": "URL"}}


class OnGateway(ProviderContract):
    @pytest.fixture(autouse=True)
    def _on(self, gateway: GatewayServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gateway = gateway
        monkeypatch.setenv("USER", "tester")
        monkeypatch.setenv("LOGNAME", "tester")

    def environment(self) -> dict[str, str]:
        return clean_environment(DASK_CLAIM_GATEWAY_URL=self.gateway.url)

    def made(self) -> set[str]:
        return set(self.gateway.clusters())

    @contextlib.contextmanager
    def out_of_reach(self, ticket: Ticket) -> Iterator[Ticket | None]:
        address = {**ticket.facts["gateway"], "url": f"http://127.0.0.1:{free_port()}"}
        yield replace(ticket, facts={**ticket.facts, "gateway": address})


class TestGateway(OnGateway):
    claim: ClassVar = {"max_workers": 1}


class TestProgramOnGateway(OnGateway):
    claim: ClassVar = {"create": False}

    @contextlib.contextmanager
    def out_of_reach(self, ticket: Ticket) -> Iterator[Ticket | None]:
        """This gateway takes no variables, by which clusters could be told."""
        yield None


@pytest.mark.slow
@pytest.mark.xdist_group("slurm batch")
class TestSlurm(ProviderContract):
    cancel_after = (0.1, 2.0)
    claim: ClassVar = {
        "provider": "slurm",
        "max_workers": 1,
        "worker_memory": "500M",
        "hpc": {"interface": "lo", "walltime": "00:05:00"},
    }

    @pytest.fixture(autouse=True)
    def _on(self, slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
        self.slurm, self.patch = slurm, monkeypatch
        for name, value in slurm.variables.items():
            monkeypatch.setenv(name, value)

    def environment(self) -> dict[str, str]:
        return clean_environment() | self.slurm.variables

    def made(self) -> set[str]:
        return set(self.slurm.run("squeue", "--noheader", "--format=%i").split())

    @contextlib.contextmanager
    def out_of_reach(self, ticket: Ticket) -> Iterator[Ticket]:
        with self.patch.context() as patch:
            patch.setenv("PATH", "/nonexistent")
            yield ticket


@pytest.mark.deep
class TestHTCondor(TestSlurm):
    claim: ClassVar = {**TestSlurm.claim, "provider": "htcondor"}

    @pytest.fixture(autouse=True)
    def _on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pool, self.patch = Pool(tmp_path), monkeypatch
        for name, value in self.pool.variables.items():
            monkeypatch.setenv(name, value)

    def environment(self) -> dict[str, str]:
        return clean_environment() | self.pool.variables

    def made(self) -> set[str]:
        return {file.stem for file in self.pool.jobs()}


@pytest.mark.slow
class TestAttach(ProviderContract):
    claim: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _on(self, scheduler: dict[str, str]) -> None:
        self.scheduler = scheduler

    def environment(self) -> dict[str, str]:
        return clean_environment(**self.scheduler)

    def made(self) -> set[str]:
        return set()


class TestNone(ProviderContract):
    claim: ClassVar = {"create": False, "provider": "slurm"}

    def made(self) -> set[str]:
        return set()


HALF = """
from dask_claim.providers.base import Provider
from dask_claim.providers.existing import NoProvider

class Half(Provider):
    name = "half"

class Whole(Provider):
    name = "Whole"
    makes_cluster = False
    submit, wait_until_running = NoProvider.submit, NoProvider.wait_until_running
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The page's example, as a package that is installed."""
    module, metadata, tests = re.findall(r"```(?:python|toml)\n(.*?)```", PAGE.read_text(), re.S)
    (tmp_path / "dask_claim_processes.py").write_text(module)
    (tmp_path / "test_processes.py").write_text(tests)
    (info := tmp_path / "dask_claim_processes-1.0.dist-info").mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: dask-claim-processes\nVersion: 1\n"
    )
    entries = metadata.replace('[project.entry-points."dask_claim.providers"]', "").replace('"', "")
    (tmp_path / "dask_claim_half.py").write_text(HALF)
    (tmp_path / "dask_claim_exits.py").write_text("raise SystemExit(3)\n")
    broken = (
        "broken = dask_claim_processes:MARK\nmissing = dask_claim_missing:Provider\n"
        "exits = dask_claim_exits:Provider\nhalf = dask_claim_half:Half\n"
        "Whole = dask_claim_half:Whole\n"
    )
    (info / "entry_points.txt").write_text(f"[dask_claim.providers]\n{entries}\n{broken}")
    return tmp_path


@pytest.mark.slow
@pytest.mark.xdist_group("provider of another package")
@pytest.mark.parametrize("which", ["life", pytest.param("not life", marks=pytest.mark.deep)])
def test_provider_of_another_package_keeps_the_contract(package: Path, which: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", which, "-p", "no:cacheprovider",
         "test_processes.py"],
        env=clean_environment(PYTHONPATH=str(package)), cwd=package, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.xdist_group("provider of another package")
def test_run_with_a_provider_of_another_package(launcher: Launcher, package: Path) -> None:
    env, flags = {"PYTHONPATH": str(package)}, ("--start", "workers")
    claim: ClassVar = {"provider": "processes", "max_workers": 1}
    run = launcher("true", claim=claim, env=env, flags=flags)
    assert run.status == 0, run.err
    assert (run.receipt["provider"], run.receipt["gone"]) == ("processes", True)
    assert not processes_with("MARK_OF_THE_CLUSTER=")
    run = launcher.start(*WAITING, claim=claim, env=env, stdin=subprocess.PIPE)
    until_ready(run)
    assert processes_with("MARK_OF_THE_CLUSTER=")
    kill(run)
    wait_for(lambda: not processes_with("MARK_OF_THE_CLUSTER="), "end by the guard")


def test_names_of_providers(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name that exists here is listed where one does not; the policy compares it."""
    (site := tmp_path / "site.yaml").write_text("policy: {providers: [gateway, 'proc*']}\n")

    def show(provider: str, **env: str) -> str:
        claim = json.dumps({"provider": provider})
        done = dask_claim("show", "--json", DASK_CLAIM=claim, **env)
        assert done.status == (0 if done.out else 78), done.err
        return done.err or json.loads(done.out)["plan"]["provider"]

    assert "processes" not in show("nosuch")
    monkeypatch.syspath_prepend(package)
    assert show("processes") == "processes"
    assert show("processes", DASK_CLAIM_SITE=str(site)) == "processes"
    assert "policy.providers" in show("local", DASK_CLAIM_SITE=str(site))
    for name, words in {
        "nosuch": "'htcondor', 'broken', 'exits', 'half', 'missing', 'processes' or 'whole'",
        "broken": "not a subclass",
        "missing": "No module named 'dask_claim_missing'",
        "exits": "SystemExit: 3",
        "half": "does not define submit, wait_until_running",
    }.items():
        assert words in show(name)
    assert show("WHOLE") == "whole"


@pytest.mark.xdist_group("provider of another package")
def test_provider_without_a_description(launcher: Launcher, package: Path) -> None:
    run = launcher("true", claim={"provider": "Whole"}, env={"PYTHONPATH": str(package)})
    assert (run.status, "from provider Whole" in run.err) == (0, True), run.err
