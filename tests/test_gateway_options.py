"""The claim in a gateway's own terms, on the option types that server and client really have."""

from __future__ import annotations

import pytest

from dask_claim.claim import Claim
from dask_claim.errors import OptionError
from dask_claim.memory import Memory
from dask_claim.providers.gateway_options import fill, gateway_memory

server = pytest.importorskip("dask_gateway_server.options")


def offered(*fields: object) -> object:
    """The client's view of what a server offers."""
    from dask_gateway.options import Options

    return Options._from_spec(server.Options(*fields).get_specification())


@pytest.mark.parametrize(
    ("field", "written", "value"),
    [
        (("String", {}), "4 G", "4 G"),
        (("String", {}), "4G", "4G"),
        (("String", {}), "4Gi", "4 G"),
        (("String", {}), "4 GiB", "4 G"),
        (("String", {}), "4GB", "3906250 K"),
        (("String", {}), 4294967296, "4 G"),
        (("String", {}), "1536 MiB", "1536 M"),
        (("Float", {"default": 2, "min": 2, "max": 16}), "4 G", 4.0),
        (("Float", {"default": 2}), "1536M", 1.5),
        (("Integer", {"default": 2, "min": 1, "max": 16}), "4 G", 4),
        (("Integer", {"default": 2**30}), "4 G", 4 * 2**30),
        (("Integer", {"default": 1024, "label": "Memory (MiB)"}), "4 G", 4096),
        (("Float", {"default": 4, "label": "Worker Memory (GB)"}), "4GB", 4.0),
        (("Select", {"options": ["2G", "4G", "8G"], "default": "2G"}), "4 GiB", "4G"),
    ],
)
def test_memory(field: tuple[str, dict[str, object]], written: object, value: object) -> None:
    kind, settings = field
    options = offered(getattr(server, kind)("worker_memory", **settings))
    assert fill(options, Claim(worker_memory=written)) == []
    assert options["worker_memory"] == value
    assert type(options["worker_memory"]) is type(value)


def test_what_is_not_offered_is_named_and_left() -> None:
    options = offered(server.Float("worker_cores", default=1))
    claim = Claim(worker_cores=2, worker_cores_limit=3, image="bai:1", options={"queue": "long"})
    assert fill(options, claim) == ["image", "worker_cores_limit", "queue"]
    assert dict(options) == {"worker_cores": 2.0}


def test_every_fault_at_once_with_its_limits() -> None:
    options = offered(
        server.Integer("worker_cores", default=2, min=2, max=8),
        server.Float("worker_memory", default=2, min=2, max=16),
        server.Select("profile", options=["small", "large"]),
        server.Bool("gpu"),
    )
    claim = Claim(
        worker_cores=0.5, worker_memory="32 G", options={"profile": "huge", "gpu": "maybe"}
    )
    with pytest.raises(OptionError) as caught:
        fill(options, claim)
    text = str(caught.value)
    assert "worker_cores = 0.5: is not a whole number; this gateway offers 2 to 8" in text
    assert "worker_memory = 32 G" in text and "2 to 16 GiB" in text
    assert "one of small, large" in text
    assert "gpu = maybe" in text
    assert caught.value.exit_status == 78


def test_digits_for_a_text_option() -> None:
    options = offered(server.String("account"))
    fill(options, Claim(options={"account": 12345}))
    assert options["account"] == "12345"


@pytest.mark.parametrize("size", [1, 1000, 4 * 10**9, 123456789])
def test_bytes_are_never_rounded_up(size: int) -> None:
    number, unit = gateway_memory(Memory(size)).split()
    taken = int(number) * {"K": 2**10, "M": 2**20, "G": 2**30}[unit]
    assert taken <= max(size, 1024)
