"""How much of a plan one machine gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dask_claim.providers.local_size import Wish, fit

GIB = 1024**3
cores = st.one_of(st.none(), st.floats(0.1, 64))
memory = st.one_of(st.none(), st.integers(GIB // 4, 512 * GIB))


@given(st.integers(0, 50), st.integers(1, 100), cores, cores, memory, st.integers(1, 128),
       st.integers(GIB, 1024 * GIB))  # fmt: skip
def test_never_more_than_wished_or_there(
    least: int,
    most: int,
    worker_cores: float | None,
    limit: float | None,
    worker_memory: int | None,
    has_cores: int,
    has_memory: int,
) -> None:
    wish = Wish(min(least, most), most, worker_cores, limit, worker_memory)
    size = fit(wish, has_cores, has_memory)
    assert 0 <= size.min_workers <= size.max_workers <= most
    assert size.max_workers >= 1
    assert 1 <= size.threads <= has_cores
    assert size.memory <= has_memory
    if worker_memory:
        assert size.memory <= worker_memory
        assert size.max_workers == 1 or size.max_workers * worker_memory <= has_memory
    if size.max_workers < most:
        assert f"{size.max_workers} of {most} workers" in (size.shortfall or "")


def test_a_plan_that_fits_says_nothing() -> None:
    size = fit(Wish(1, 2, 1, 1, 2 * GIB), 4, 8 * GIB)
    assert (size.min_workers, size.max_workers, size.threads, size.memory) == (1, 2, 1, 2 * GIB)
    assert size.shortfall is None


def test_nothing_said_takes_the_machine() -> None:
    size = fit(Wish(1, 1, None, None, None), 4, 8 * GIB)
    assert (size.max_workers, size.threads, size.memory) == (1, 4, 8 * GIB)


def test_fractions_of_a_core_share_it() -> None:
    size = fit(Wish(8, 10, 0.5, 1, None), 2, 8 * GIB)
    assert (size.min_workers, size.max_workers, size.threads) == (4, 4, 1)
    assert size.memory == 2 * GIB
    assert size.shortfall == ("This machine gives 4 of 10 workers: it has 2 cores and 8.0 GiB")
