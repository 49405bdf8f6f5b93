"""How much of a plan one machine gives."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_claim.cgroup import Bound
from dask_claim.providers.local.size import LocalRequest, LocalSize
from dask_claim.providers.local.size import fit as fit_into

GIB = 1024**3


def fit(request: LocalRequest, has_cores: float, has_memory: int) -> LocalSize:
    """On a machine of this size."""
    return fit_into(request, Bound(has_cores), Bound(has_memory))


cores = st.one_of(st.none(), st.floats(0.1, 64))
memory = st.one_of(st.none(), st.integers(GIB // 4, 512 * GIB))


@given(st.integers(0, 50), st.integers(1, 100), cores, cores, memory, st.booleans(), cores,
       memory, st.floats(0.1, 128), st.integers(GIB, 1024 * GIB),
       st.fixed_dictionaries({}, optional={
           "max_workers": st.integers(1, 9), "max_cores": st.floats(1, 64),
           "max_memory": st.integers(GIB, 64 * GIB), "worker_cores": st.floats(1, 64),
           "worker_memory": st.integers(GIB, 64 * GIB)}))  # fmt: skip
def test_never_more_than_requested_granted_or_there(
    minimum: int,
    maximum: int,
    worker_cores: float | None,
    limit: float | None,
    worker_memory: int | None,
    unsaid: bool,
    local_cores: float | None,
    local_memory: int | None,
    has_cores: float,
    has_memory: int,
    policy: dict[str, float],
) -> None:
    if unsaid:
        worker_cores = limit = None
    else:
        # A claim's own values are compared with the policy before.
        policy = {name: policy[name] for name in policy if name in ("max_cores", "max_memory")}
    request = LocalRequest(
        min(minimum, maximum),
        maximum,
        worker_cores,
        limit,
        worker_memory,
        unsaid,
        local_cores,
        local_memory,
        policy,
    )
    size = fit(request, has_cores, has_memory)
    if unsaid:
        assert size.max_workers <= policy.get("max_workers", size.max_workers)
        assert size.threads <= policy.get("worker_cores", size.threads)
        if worker_memory is None:
            assert size.memory <= policy.get("worker_memory", size.memory)
    if "max_cores" in policy:
        has_cores = min(has_cores, math.floor(policy["max_cores"]))
    has_memory = min(has_memory, int(policy.get("max_memory", has_memory)))
    if local_cores is not None:
        has_cores = min(has_cores, max(1, int(local_cores)))
    has_memory = min(has_memory, local_memory or has_memory)
    assert 0 <= size.min_workers <= size.max_workers
    assert size.max_workers >= 1
    # A part of a core lets one thread run.
    assert 1 <= size.threads <= math.ceil(has_cores)
    assert size.memory <= has_memory
    if worker_memory:
        assert size.memory <= worker_memory
        assert size.max_workers == 1 or size.max_workers * worker_memory <= has_memory
    else:
        assert size.max_workers * size.memory <= has_memory
    if unsaid:
        assert size.min_workers == size.max_workers
        assert size.threads * size.max_workers <= math.ceil(has_cores)
        return
    assert size.max_workers <= maximum
    if size.max_workers > 1:
        assert size.max_workers * (worker_cores or limit or 1) <= has_cores
    if size.max_workers < maximum:
        assert f"{size.max_workers} of {maximum} workers" in (size.shortfall or "")


def test_a_plan_that_fits_falls_short_of_nothing() -> None:
    size = fit(LocalRequest(1, 2, 1, 1, 2 * GIB), 4, 8 * GIB)
    assert (size.min_workers, size.max_workers, size.threads, size.memory) == (1, 2, 1, 2 * GIB)
    assert size.shortfall is None
    assert size.notice == (
        "Local cluster: 1 to 2 workers, each with 1 thread and 2.0 GiB, within 4 cores (this "
        "machine) and 8.0 GiB (this machine)"
    )


def test_one_worker_that_is_asked_for_takes_the_machine() -> None:
    size = fit(LocalRequest(1, 1, None, None, None), 4, 8 * GIB)
    assert (size.max_workers, size.threads, size.memory) == (1, 4, 8 * GIB)


@pytest.mark.parametrize(
    ("has_cores", "has_memory", "worker_memory", "split"),
    [
        (1, 8 * GIB, None, (1, 1)),
        (2, 8 * GIB, None, (2, 1)),
        (16, 64 * GIB, None, (4, 4)),
        (64, 64 * GIB, None, (8, 8)),
        # Four workers of 256 MiB would have no room for more than themselves.
        (16, 1 * GIB, None, (2, 8)),
        (16, 64 * GIB, 30 * GIB, (2, 8)),
        (2, GIB // 4, None, (1, 2)),
    ],
)
def test_nothing_said_takes_dasks_own_split(
    has_cores: int, has_memory: int, worker_memory: int | None, split: tuple[int, int]
) -> None:
    # What the plan says in this case are its defaults, nobody's request.
    request = LocalRequest(1, 1, None, None, worker_memory, unsaid=True)
    size = fit(request, has_cores, has_memory)
    assert (size.min_workers, size.max_workers) == (split[0], split[0])
    assert size.threads == split[1]
    assert size.memory == (worker_memory or has_memory // split[0])
    assert size.shortfall is None


def test_fractions_of_a_core_share_it() -> None:
    size = fit(LocalRequest(8, 10, 0.5, 1, None), 2, 8 * GIB)
    assert (size.min_workers, size.max_workers, size.threads) == (4, 4, 1)
    assert size.memory == 2 * GIB
    assert size.shortfall == (
        "This machine gives 4 of 10 workers: it has 2 cores (this machine) and 8.0 GiB "
        "(this machine)"
    )


@pytest.mark.parametrize(
    ("granted_cores", "granted_memory", "bounds"),
    [
        (None, None, "8 cores (this machine) and 16.0 GiB (this machine)"),
        (2.5, None, "2 cores (local_cores) and 16.0 GiB (this machine)"),
        (0.5, GIB, "1 core (local_cores) and 1.0 GiB (local_memory)"),
        (64, 512 * GIB, "8 cores (this machine) and 16.0 GiB (this machine)"),
    ],
)
def test_what_was_granted_bounds_it_and_is_named(
    granted_cores: float | None, granted_memory: int | None, bounds: str
) -> None:
    request = LocalRequest(
        20, 20, 1, None, GIB, local_cores=granted_cores, local_memory=granted_memory
    )
    size = fit(request, 8, 16 * GIB)
    assert size.max_workers == int(bounds.split()[0])
    assert size.notice.endswith(f", within {bounds}")
    line = f"This machine gives {size.max_workers} of 20 workers: it has {bounds}"
    assert size.shortfall == line


def test_half_a_core() -> None:
    """A container's quota; one thread runs on it, at half its speed."""
    has = Bound(0.5, "this container"), Bound(GIB, "cgroup job_7")
    size = fit_into(LocalRequest(4, 4, 0.5, None, None), *has)
    assert (size.max_workers, size.threads, size.memory) == (1, 1, GIB)
    assert size.shortfall == (
        "This machine gives 1 of 4 workers: it has 0.5 cores (this container) and 1.0 GiB (cgroup "
        "job_7)"
    )
