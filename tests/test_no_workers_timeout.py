"""`no_workers_timeout`: tasks that no worker could run fail with an error of Dask."""

from __future__ import annotations

from typing import Any

import pytest
from dask_gateway_server.options import Mapping, Options

from dask_claim.claim.model import Claim
from dask_claim.claim.site import Site
from dask_claim.claim.site_sections import GatewayOptions
from dask_claim.launch.cluster_watch import ClusterWatch
from dask_claim.launch.events import Events, Warned
from dask_claim.providers.base import NO_WORKERS_TIMEOUT, tells_of_no_workers
from dask_claim.providers.gateway.provider import GatewayProvider
from dask_claim.providers.usage import Usage
from dask_claim.providers.values import Request
from tests.support.faulty import faulty
from tests.support.launcher import PYTHON, Launcher

WANTS_A_GPU = """
from distributed import Client

with Client() as client:
    for task in (
        client.submit(open, "/nowhere/scene.tif"),
        client.submit(sum, [20, 22], resources={"GPU": 1}),
    ):
        print(type(task.exception()).__name__)
    print(client.submit(sum, [40, 2]).result())
"""

IDLE: dict[str, Any] = {
    "workers": 1, "peak": 1, "cores": 1, "memory": 1, "worker_seconds": 0.0, "core_seconds": 0.0,
    "tasks_done": 0, "tasks_failed": 0,
}  # fmt: skip


def request(**claim: Any) -> Request:
    sound = Claim.model_validate(claim)
    options = GatewayOptions.model_validate({"names": {"environment": "env_vars"}})
    return Request(sound, sound.plan({}), {}, site=Site(path="", gateway_options=options))


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        pytest.param({}, id="local"),
        pytest.param({"gateway_url": "URL"}, id="own gateway", marks=pytest.mark.deep),
    ],
)
def test_a_task_that_no_worker_could_run(launcher: Launcher, names: dict[str, str]) -> None:
    """Beside one that fails by itself, which is counted and told by nobody but its client."""
    claim = {"max_workers": 1, "worker_memory": "512M", "no_workers_timeout": 1, "env": names}
    run = launcher(PYTHON, "-c", WANTS_A_GPU, claim=claim, flags=("--start", "workers"))
    assert run.out.split() == [b"FileNotFoundError", b"NoValidWorkerError", b"42"], run.err
    (told,) = run.receipt["warnings"]
    assert told.startswith("1 task failed after 1 s without a worker that could run them")
    assert "{'GPU': 1}" in told and "no_workers_timeout" in told
    assert (run.receipt["tasks"]["done"], run.receipt["tasks"]["failed"]) == (1, 2)


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ({"no_workers_timeout": 90.5}, "90.5"),
        ({"no_workers_timeout": 3600000}, "3600000"),
        ({}, None),
        ({"no_workers_timeout": 5, "options": {"env_vars": {NO_WORKERS_TIMEOUT: "7"}}}, "7"),
    ],
)
async def test_a_gateways_scheduler_is_told(claim: dict[str, Any], told: str | None) -> None:
    """By the option that takes its variables, whatever its name; the claim's own value stays."""
    with faulty("refused") as gateway:
        gateway.offered = Options(Mapping("env_vars", {})).get_specification()
        asked = request(**gateway.claim(), **claim)
        provider = GatewayProvider(asked, lambda ticket: None, print)
        await provider.submit()
        await provider.close()
    assert gateway.requested["env_vars"].get(NO_WORKERS_TIMEOUT) == told


@pytest.mark.parametrize(
    ("claimed", "real", "told"),
    [(5, 5.0, ""), (5, None, "wait for ever"), (5, 30.0, "fail after 30 s"), (None, 30.0, "")],
)
def test_a_scheduler_that_does_otherwise_is_one_warning(
    claimed: float | None, real: float | None, told: str
) -> None:
    """An older one, one of a gateway without variables, or one that was there before."""
    seen: list[Any] = []
    claim = request(no_workers_timeout=claimed).claim
    watch = ClusterWatch(claim, Events([seen.append]))
    for _ in range(2):
        watch.report(Usage(**IDLE, no_workers_timeout=real))
    warnings = [event.text for event in seen if isinstance(event, Warned)]
    assert len(warnings) == bool(told)
    for text in warnings:
        assert told in text and "no_workers_timeout = 5" in text


@pytest.mark.parametrize(("version", "fails"), [("2024.7.1", False), ("2024.8.1", True)])
def test_an_older_scheduler_would_end_its_cluster(
    monkeypatch: pytest.MonkeyPatch, version: str, fails: bool
) -> None:
    """So it is not told the setting, which had that meaning there."""
    monkeypatch.setattr("dask_claim.providers.base.version", lambda _: version)
    assert tells_of_no_workers() is fails
