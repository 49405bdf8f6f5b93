"""Numbers, memory and addresses as people write them."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_claim.claim import units
from dask_claim.claim.memory import Memory

GIB = 1024**3


def in_bytes(written: object) -> int:
    return Memory(written).bytes


@pytest.mark.parametrize(
    ("reader", "written", "expected"),
    [
        *((in_bytes, text, 4 * GIB) for text in ("4 G", "4G", "4g", "4Gi", "4GiB", "4 gib")),
        *((in_bytes, text, amount) for text, amount in (
            ("4GB", 4 * 1000**3), ("4gb", 4 * 1000**3), ("7kB", 7000), ("7KB", 7000), ("7K", 7168),
            ("2MB", 2 * 1000**2), ("2M", 2 * 1024**2), ("1T", 1024**4), ("1TB", 1000**4),
            ("1P", 1024**5), ("1.5G", 3 * GIB // 2), ("0.1G", 107374182), (".5K", 512),
            ("100B", 100), ("100", 100), ("1e9", 10**9), (100, 100), (2.0, 2))),
        *((units.number, text, amount) for text, amount in (
            ("4", 4), ("0.5", 0.5), (" 2 ", 2), ("4.0", 4), (4.0, 4), ("1e3", 1000), (0.1, 0.1),
            (7, 7))),
        (units.web_address, "http://gw.example.org:8000/", "http://gw.example.org:8000"),
        (units.web_address, "https://gw.example.org/base/", "https://gw.example.org/base"),
        (units.public_address, "/services/dask-gateway/", "/services/dask-gateway"),
        *((units.proxy_address, text, str(text))
          for text in (8786, "8786", "host:8786", "[::1]:8786")),
        (units.proxy_address, "tls://host:8786/", "tls://host:8786"),
    ],
)  # fmt: skip
def test_read(reader: Callable[[object], object], written: object, expected: object) -> None:
    found = reader(written)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize("written", ["4 G", "4G", " 1.5 GiB ", 4294967296, "4294967296"])
def test_memory_stays_as_it_was_written(written: str | int) -> None:
    assert str(Memory(written)) == str(written).strip()
    assert Memory(Memory(written)).written == Memory(written).written
    assert pickle.loads(pickle.dumps(Memory(written))).written == Memory(written).written


def test_memory_compares_by_its_bytes() -> None:
    assert Memory("4G") == Memory("4096 M") and hash(Memory("4G")) == hash(Memory(4 * GIB))
    assert Memory("4GB") < Memory("4G") <= Memory("4Gi") < Memory("1T")
    assert Memory("4G") != "4G"
    with pytest.raises(AttributeError):
        Memory("4G").written = "5G"


@given(st.integers(1, 2**40), st.sampled_from("KMG"))
def test_memory_counts_exactly(amount: int, unit: str) -> None:
    power = "KMG".index(unit) + 1
    if amount * 1024**power < 2**63:
        assert Memory(f"{amount}{unit}").bytes == amount * 1024**power
        assert Memory(f"{amount} {unit}B".lower()).bytes == amount * 1000**power


Reader = Callable[[object], object]
AMOUNTS: list[Reader] = [units.number, Memory]


@pytest.mark.parametrize("reader", AMOUNTS)
def test_what_is_no_amount(reader: Reader) -> None:
    for value in (
        True, None, [], {}, "", "many", "1_000", "٤", "nan", "-inf", "0x10", "9" * 5000,
        float("nan"), float("inf"), 10**400, -(10**400), "1e999",
    ):  # fmt: skip
        with pytest.raises(ValueError):
            reader(value)


@pytest.mark.parametrize(
    "written", ["host", "http://", "ftp://host", "http://h:0", "http://[", "http://a b", "//h"]
)
def test_what_is_no_web_address(written: str) -> None:
    with pytest.raises(ValueError, match="write for example https://"):
        units.web_address(written)
