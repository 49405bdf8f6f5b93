"""`no_workers_timeout`: tasks that no worker could run fail with an error of Dask."""

from __future__ import annotations

from typing import Any

import pytest

from dask_claim.claim.model import Claim
from dask_claim.claim.site_sections import GatewayOptions
from dask_claim.launch.events import Events, Warned
from dask_claim.launch.leasing import Leasing
from dask_claim.lifetime.usage import Usage
from dask_claim.providers.base import NO_WORKERS_TIMEOUT, tells_of_no_workers
from dask_claim.providers.gateway.mark import MARK
from dask_claim.providers.gateway.provider import GatewayProvider
from dask_claim.providers.values import Request
from tests.support.launcher import PYTHON, Launcher

WANTS_A_GPU = """
from distributed import Client

with Client() as client:
    try:
        client.submit(sum, [20, 22], resources={"GPU": 1}).result()
    except Exception as error:
        print(type(error).__name__)
    print(client.submit(sum, [40, 2]).result())
"""

IDLE: dict[str, Any] = {
    "workers": 1, "peak": 1, "cores": 1, "memory": 1, "worker_seconds": 0.0, "core_seconds": 0.0,
    "tasks_done": 0, "tasks_failed": 0,
}  # fmt: skip


def request(**claim: Any) -> Request:
    sound = Claim.model_validate(claim)
    site = GatewayOptions.model_validate({"names": {"environment": "env_vars"}})
    return Request(sound, sound.plan({}), {}, gateway_options=site)


@pytest.mark.slow
@pytest.mark.parametrize("names", [{}, {"gateway_url": "URL"}], ids=["local", "own gateway"])
def test_a_task_that_no_worker_could_run(launcher: Launcher, names: dict[str, str]) -> None:
    claim = {"max_workers": 1, "worker_memory": "512M", "no_workers_timeout": 1, "env": names}
    run = launcher(PYTHON, "-c", WANTS_A_GPU, claim=claim, flags=("--start", "workers"))
    assert run.out.split() == [b"NoValidWorkerError", b"42"], run.err
    (told,) = run.receipt["warnings"]
    assert told.startswith("1 task failed after 1 s without a worker that could run them")
    assert "{'GPU': 1}" in told and "no_workers_timeout" in told
    assert run.receipt["tasks"]["failed"] == 1


@pytest.mark.parametrize(
    ("claim", "variables"),
    [
        ({"no_workers_timeout": 90.5}, {NO_WORKERS_TIMEOUT: "90.5"}),
        ({"no_workers_timeout": 3600000}, {NO_WORKERS_TIMEOUT: "3600000"}),
        ({}, {}),
        (
            {"no_workers_timeout": 5, "options": {"env_vars": {NO_WORKERS_TIMEOUT: "7"}}},
            {NO_WORKERS_TIMEOUT: "7"},
        ),
    ],
)
def test_a_gateways_scheduler_is_told(claim: dict[str, Any], variables: dict[str, str]) -> None:
    """By the option that takes its variables, whatever its name; the claim's own value stays."""
    server = pytest.importorskip("dask_gateway_server.options")
    options = pytest.importorskip("dask_gateway.options").Options._from_spec(
        server.Options(server.Mapping("env_vars", {"A": "b"})).get_specification()
    )
    asked = request(gateway_url="http://127.0.0.1:1", **claim)
    for name, value in asked.claim.options.items():
        options[name] = {**options[name], **value}
    GatewayProvider(asked, lambda ticket: None, print)._add_variables(options)
    options["env_vars"].pop(MARK)
    assert options["env_vars"] == {"A": "b", **variables}


@pytest.mark.parametrize(
    ("real", "told"), [(5.0, []), (None, ["wait for ever"]), (30.0, ["fail after 30 s"])]
)
def test_a_scheduler_that_does_otherwise_is_one_warning(
    real: float | None, told: list[str]
) -> None:
    """An older one, one of a gateway without variables, or one that was there before."""
    seen: list[Any] = []
    leasing = Leasing(request(no_workers_timeout=5), Events([seen.append]))
    for _ in range(2):
        leasing._tell_of_the_timeout(Usage(**IDLE, no_workers_timeout=real))
    warnings = [event.text for event in seen if isinstance(event, Warned)]
    assert len(warnings) == len(told)
    for text, part in zip(warnings, told, strict=True):
        assert part in text and "no_workers_timeout = 5" in text


def test_nobody_who_claims_none_is_warned() -> None:
    seen: list[Any] = []
    leasing = Leasing(request(), Events([seen.append]))
    leasing._tell_of_the_timeout(Usage(**IDLE, no_workers_timeout=30.0))
    assert seen == []


@pytest.mark.parametrize(
    ("version", "fails"),
    [("2024.1.0", False), ("2024.7.1", False), ("2024.8.1", True), ("2026.8.0", True)],
)
def test_an_older_scheduler_would_end_its_cluster(
    monkeypatch: pytest.MonkeyPatch, version: str, fails: bool
) -> None:
    """So it is not told the setting, which had that meaning there."""
    monkeypatch.setattr("dask_claim.providers.base.version", lambda _: version)
    assert tells_of_no_workers() is fails
