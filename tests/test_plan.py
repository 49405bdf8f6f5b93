"""The arithmetic of the plan."""

from __future__ import annotations

import socket
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_claim.claim.memory import Memory
from dask_claim.claim.model import Claim, load
from dask_claim.claim.plan import Plan, make_plan
from dask_claim.cli.show import as_text
from dask_claim.errors import ClaimError, ConfigurationError
from dask_claim.providers.tls import in_folder, make_keys
from tests.support.claims import NOWHERE, Fields


def plan_of(**fields: Any) -> Plan:
    return make_plan(Claim(**fields), {})


def test_the_arithmetic_can_be_read() -> None:
    plan = plan_of(
        min_cores=4, max_cores=10, worker_cores=0.5, worker_cores_limit=1, max_workers=20
    )
    lines = [
        "provider local: there is neither gateway_url nor DASK_SCHEDULER_ADDRESS",
        "at least 8 workers: ⌈min_cores 4 / worker_cores 0.5⌉ = 8",
        "at most 10 workers: the smallest of max_workers 20, "
        "⌊max_cores 10 / worker_cores_limit 1⌋ = 10",
        "adaptive, 8 to 10 workers",
    ]
    assert plan.to_dict() == {
        "provider": "local", "min_workers": 8, "max_workers": 10, "scaling": "adapt",
        "arithmetic": lines,
    }  # fmt: skip


def test_assumptions_are_shown() -> None:
    lines = "\n".join(plan_of(min_cores=2, max_cores=4, max_memory="20G").arithmetic)
    assert "worker_cores is not specified: min_cores is counted with 1" in lines
    assert "worker_cores is not specified: max_cores is counted with 1" in lines
    assert "max_memory has no effect: worker_memory is not specified" in lines


SCHEDULER = {"DASK_SCHEDULER_ADDRESS": "tcp://host:8786"}
CLUSTER = {"DASK_CLUSTER": "x", "DASK_GATEWAY_URL": "http://else"}
OTHER_CLUSTER = {"DASK_GATEWAY_CLUSTER": "x", "DASK_GATEWAY__ADDRESS": "http://else"}
REANA_WITHOUT_DASK = {
    "REANA_WORKFLOW_UUID": "id",
    "DASK_SCHEDULER_URI": "tcp://127.0.0.1:8080",
}
NAME_FILE = {"DASK_CLUSTER_NAME_PATH": "/nonexistent"}
BAD_ADDRESS = {"DASK_CLUSTER": "x", "DASK_GATEWAY_URL": "http://["}
RUN = {"DASK_CLAIM_RUN_ID": "id"}
GATEWAY = {"gateway_url": "http://gw"}


@pytest.mark.parametrize(
    ("fields", "environ", "provider", "backend"),
    [
        ({}, {}, "local", "local"),
        ({}, {"DASK_SCHEDULER_ADDRESS": " "}, "local", "local"),
        ({}, SCHEDULER, "attach", "attach"),
        ({}, {"DASK_SCHEDULER_URI": "tcp://host:8786"}, "attach", "attach"),
        ({}, REANA_WITHOUT_DASK, "local", "local"),
        ({}, {**REANA_WITHOUT_DASK, "DASK_SCHEDULER_URI": "dask:8786"}, "attach", "attach"),
        ({}, {"SLURM_JOB_ID": "7"}, "allocation", "allocation"),
        ({}, {"SLURM_JOB_ID": "7"} | SCHEDULER, "attach", "attach"),
        (GATEWAY, {}, "gateway", "gateway"),
        (GATEWAY, SCHEDULER, "gateway", "gateway"),
        (GATEWAY, {"DASK_SCHEDULER_FILE": "/nowhere"}, "gateway", "gateway"),
        (GATEWAY, CLUSTER, "attach", "attach"),
        ({}, OTHER_CLUSTER, "attach", "attach"),
        ({"provider": "local"} | GATEWAY, SCHEDULER | NAME_FILE, "local", "local"),
        ({"provider": "gateway"} | GATEWAY, NAME_FILE, "gateway", "gateway"),
        (GATEWAY, NAME_FILE, "error", "DASK_CLUSTER_NAME_PATH = /nonexistent: cannot be read"),
        ({}, NAME_FILE, "error", "DASK_CLUSTER_NAME_PATH = /nonexistent: cannot be read"),
        ({}, BAD_ADDRESS, "error", r"DASK_GATEWAY_URL = http://\[: is not an address"),
        ({"provider": "attach"}, {}, "attach", "attach"),
        # Inside another run.
        (GATEWAY, SCHEDULER | RUN, "attach", "attach"),
        ({"provider": "slurm"}, SCHEDULER | RUN, "attach", "attach"),
        ({"provider": "slurm"}, RUN, "slurm", "slurm"),
        ({"provider": "slurm"}, NAME_FILE, "slurm", "slurm"),
        # The program makes its own.
        ({"create": False}, {}, "local", "none"),
        ({"create": False, "provider": "slurm"}, {}, "slurm", "none"),
        ({"create": False} | GATEWAY, {}, "gateway", "program-on-gateway"),
        ({"create": False} | GATEWAY, CLUSTER, "attach", "none"),
    ],
)
def test_provider(fields: Fields, environ: dict[str, str], provider: str, backend: str) -> None:
    """Decided in one place; only what counts is read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dask_claim.providers.local.local_provider.has_server", lambda: False)
        if provider == "error":
            with pytest.raises(ConfigurationError, match=backend):
                Claim(**fields).plan(environ)
            return
        plan = Claim(**fields).plan(environ)
    assert (plan.provider, plan.choice.backend) == (provider, backend)
    assert plan.arithmetic[0].startswith(f"provider {provider}: ")


def test_inside_another_run() -> None:
    inside = SCHEDULER | RUN
    assert Claim().plan(inside).choice.run == "id"
    # A program that makes its own cluster is attached to none.
    assert Claim(create=False).plan(inside).choice.run is None
    assert make_plan(Claim(provider="local"), inside, by_command_line=True).provider == "local"
    # As REANA has it; a run inside this one has to see whether it is over.
    existing = Claim().plan({"DASK_SCHEDULER_URI": "dask.svc:8786"}).choice.existing
    assert existing is not None and existing.scheduler_address == "tcp://dask.svc:8786"


@pytest.mark.parametrize(
    ("fields", "fallback"),
    [({"fallback": "local"} | GATEWAY, "local"), (GATEWAY, None), ({"fallback": "local"}, None),
     ({"fallback": "local", "create": False} | GATEWAY, "none"),
     ({"fallback": "local", "provider": "slurm"}, None)],
)  # fmt: skip
def test_fallback(fields: Fields, fallback: str | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dask_claim.providers.local.local_provider.has_server", lambda: False)
        choice = plan_of(**fields).choice.fallback
    assert (choice.backend if choice else None) == fallback


def test_variables_of_a_run_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are passed over with one warning; as long as its scheduler answers they count."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tls://127.0.0.1:{server.getsockname()[1]}"
        environ = {**NOWHERE, **RUN, "DASK_SCHEDULER_ADDRESS": address}
        live = load(environ=environ)
        assert (live.plan().provider, live.warnings()) == ("attach", [])
    stale = load(environ=environ)
    assert stale.plan().provider == "local"
    [warning] = stale.warnings()
    assert address in warning and "left over" in warning
    assert warning in as_text(stale, stale.plan())
    own = load({"provider": "local"}, environ)
    assert own.plan().provider == "local" and own.warnings() == []
    garbled = load(environ={**environ, "DASK_SCHEDULER_ADDRESS": "tcp://["})
    assert garbled.plan().provider == "local" and len(garbled.warnings()) == 1


def test_scheduler_that_is_too_busy_to_shake_hands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel takes the connection, so there is one: a second cluster would be in its way."""
    monkeypatch.setattr("dask_claim.claim.outer_run.ANSWERS_WITHIN", 0.2)
    make_keys(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tls://127.0.0.1:{server.getsockname()[1]}"
        environ = {**NOWHERE, **RUN, **in_folder(tmp_path, "client")}
        environ["DASK_SCHEDULER_ADDRESS"] = address
        assert load(environ=environ).plan().choice.existing.run == RUN["DASK_CLAIM_RUN_ID"]
        (tmp_path / "key.pem").unlink()
        [warning] = load(environ=environ).warnings()
    assert "does not take the keys of that run" in warning


TENTHS = st.integers(1, 200).map(lambda tenths: tenths / 10)
MEMORY = st.builds("{}{}".format, st.integers(1, 200), st.sampled_from(["M", "G", "GB", " Gi"]))
CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "worker_cores": TENTHS,
        "worker_cores_limit": TENTHS.map(lambda cores: cores + 20),
        "worker_memory": MEMORY,
        "min_cores": st.one_of(st.just(0), TENTHS),
        "max_cores": st.one_of(st.just(0), TENTHS.map(lambda cores: cores * 9)),
        "max_memory": MEMORY,
        "min_workers": st.integers(0, 30),
        "max_workers": st.integers(0, 300),
    },
)
MEMORIES = {"worker_memory", "max_memory"}

Test = Callable[[int], bool]


def decimals(fields: Fields) -> dict[str, Decimal]:
    return {name: Decimal(str(value)) for name, value in fields.items() if name not in MEMORIES}


def ceiling(fields: Fields) -> Test:
    """Whether so many workers stay below every ceiling, in the words of the contract."""
    said = decimals(fields)
    limit = said.get("worker_cores_limit", said.get("worker_cores", Decimal(1)))
    one, most = (Memory(fields.get(name, "1T")).bytes for name in ("worker_memory", "max_memory"))
    return lambda workers: (
        workers <= said.get("max_workers", workers)
        and workers * limit <= said.get("max_cores", workers * limit)
        and (workers * one <= most or not fields.keys() >= MEMORIES)
    )


def floor(fields: Fields) -> Test:
    """Whether so many workers reach every floor."""
    said = decimals(fields)
    cores = said.get("worker_cores", Decimal(1))
    silent = not said.keys() & {"min_workers", "min_cores"}
    return lambda workers: (
        workers >= said.get("min_workers", 0)
        and workers * cores >= said.get("min_cores", 0)
        and (workers >= 1 or not silent)
    )


@given(CLAIMS)
def test_the_bounds_hold_and_are_tight(fields: Fields) -> None:
    fits, enough = ceiling(fields), floor(fields)
    # It depends on the claim alone, not on the order of its fields.
    turned = partial(plan_of, **dict(reversed(fields.items())))
    try:
        plan = plan_of(**fields)
    except ClaimError as error:
        with pytest.raises(ClaimError):
            turned()
        # Refused, and rightly: no number of workers would have done. 200 reach every floor.
        assert not any(fits(workers) and enough(workers) for workers in range(1, 202))
        assert "at most" in str(error) and "raise " in str(error)
        return
    assert turned() == plan
    least, most = plan.min_workers, plan.max_workers
    assert 0 <= least <= most and most >= 1
    assert enough(least) and (least == 0 or not enough(least - 1))
    if fields.keys() & {"max_workers", "max_cores"} or fields.keys() >= MEMORIES:
        assert fits(most) and not fits(most + 1)
    else:
        assert most == max(least, 1)
    assert plan.scaling == ("scale" if least == most else "adapt")
