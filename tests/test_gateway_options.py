"""The claim in a gateway's own terms, on the option types that server and client really have."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dask_claim.claim.memory import Memory
from dask_claim.claim.model import Claim, load
from dask_claim.claim.site_sections import OPTION_NAMES, GatewayOptions
from dask_claim.cli.options import claimed
from dask_claim.errors import OptionError
from dask_claim.providers.gateway.conversion import gateway_memory
from dask_claim.providers.gateway.options import (
    IDLE_TIMEOUT,
    end_when_idle,
    fill,
    variables_option,
)

server = pytest.importorskip("dask_gateway_server.options")
traitlets = pytest.importorskip("dask_gateway_server.traitlets")


def offered(*fields: object) -> object:
    """The client's view of what a server offers."""
    from dask_gateway.options import Options

    return Options._from_spec(server.Options(*fields).get_specification())


@pytest.mark.parametrize(
    ("field", "written", "value"),
    [
        (("String", {}), "4G", "4G"),
        (("String", {}), "4 GiB", "4 G"),
        (("String", {}), "4GB", "3906250 K"),
        (("String", {}), 4294967296, "4 G"),
        (("Float", {"default": 2}), "1536M", 1.5),
        (("Integer", {"default": 2, "min": 1, "max": 16}), "4 G", 4),
        (("Integer", {"default": 2**30}), "4 G", 4 * 2**30),
    ],
)
def test_memory_in_the_options_own_type(
    field: tuple[str, dict[str, object]], written: object, value: object
) -> None:
    kind, settings = field
    options = offered(getattr(server, kind)("worker_memory", **settings))
    assert fill(options, Claim(worker_memory=written)).missing == []
    assert options["worker_memory"] == value
    assert type(options["worker_memory"]) is type(value)


def test_what_is_not_offered_is_named_and_left() -> None:
    options = offered(server.Float("worker_cores", default=1))
    claim = Claim(worker_cores=2, worker_cores_limit=3, image="bai:1", options={"queue": "long"})
    assert fill(options, claim).missing == ["image", "worker_cores_limit", "queue"]
    assert dict(options) == {"worker_cores": 2.0}


def test_every_fault_at_once_with_its_limits() -> None:
    options = offered(
        server.Integer("worker_cores", default=2, min=2, max=8),
        server.Float("worker_memory", default=2, min=2, max=16),
        server.Select("profile", options=["small", "large"]),
        server.Bool("gpu"),
        server.String("account"),
    )
    own = {"profile": "huge", "gpu": "maybe", "account": 12345}
    claim = Claim(worker_cores=0.5, worker_memory="32 G", options=own)
    with pytest.raises(OptionError) as caught:
        fill(options, claim)
    text = str(caught.value)
    assert "worker_cores = 0.5: is not a whole number; this gateway offers 2 to 8" in text
    assert "worker_memory = 32 G" in text and "2 to 16 GiB" in text
    assert "one of small, large" in text
    assert "gpu = maybe" in text
    assert caught.value.exit_status == 78
    assert options["account"] == "12345"  # digits are no fault of a text


@given(st.one_of(st.integers(1, 10**15), st.sampled_from(["1GB", "1Gi", "1.5 GiB", "7 K"])))
@example(4 * 10**9)
def test_the_server_reads_exactly_the_claimed_bytes(written: int | str) -> None:
    limit, memory = traitlets.MemoryLimit(), Memory(written)
    assert limit.validate(None, gateway_memory(memory)) == memory.bytes


def test_variables_and_gpus_under_other_names() -> None:
    fields = server.Mapping("environment_vars", {"SITE": "x"}), server.Bool("gpu")
    options = offered(*fields)
    filled = fill(options, Claim(gpus=1, environment={"GDAL_CACHEMAX": "256"}))
    assert dict(options) == {
        "environment_vars": {"SITE": "x", "GDAL_CACHEMAX": "256"},
        "gpu": True,
    }
    assert filled.understood == ["gpus is its gpu", "environment is its environment_vars"]
    with pytest.raises(OptionError, match="gpu = 2: it offers one or none"):
        fill(offered(*fields), Claim(gpus=2))


def test_what_no_default_satisfies() -> None:
    options = offered(server.Float("worker_cores", default=1, max=4))
    claim = Claim(gpus=1, environment={"A": "b"}, worker_cores=8)
    with pytest.raises(OptionError) as caught:
        fill(options, claim)
    for said in ("gpus = 1", "environment = A", "worker_cores = 8: "):
        assert said in str(caught.value)
    filled = fill(options, claim.model_copy(update={"strict": False}))
    assert len(filled.given_up) == 3 and dict(options) == {"worker_cores": 1}
    assert fill(options, Claim(gpus=0)).missing == []


CHOICES = ["4CPU, 28.9Gi", "1CPU, 7.2Gi", "2CPU, 14.5Gi"]


def test_smallest_choice_that_is_enough() -> None:
    for claim, chosen in (
        (Claim(worker_cores=1), "1CPU, 7.2Gi"),
        (Claim(worker_cores=1.5), "2CPU, 14.5Gi"),
        (Claim(worker_memory="16G"), "4CPU, 28.9Gi"),
        (Claim(worker_cores=2, worker_memory="7 GiB"), "2CPU, 14.5Gi"),
        (Claim(image="eo:1"), "4CPU, 28.9Gi"),
    ):
        options = offered(server.Select("size", CHOICES), server.Select("queue", ["a", "b"]))
        fill(options, claim)
        assert dict(options) == {"size": chosen, "queue": "a"}
    with pytest.raises(OptionError, match="no choice is enough; this gateway offers one of 4CPU"):
        fill(options, Claim(worker_cores=5))
    odd = offered(server.Select("size", ["small", "1CPU, 2Gi"]))
    assert fill(odd, Claim(worker_cores=5)).missing == ["worker_cores"]


SITE = GatewayOptions.model_validate(
    {
        "names": {"worker_cores": "Kerne", "worker_memory": "mem", "image": "tag"},
        "units": {"mem": "MB"},
        "choices": {
            "profile": {
                "Small": {"cores": 1, "memory": "2G"},
                "Large": {"cores": 8, "memory": "32G"},
                "Graphics": {"cores": 8, "memory": "32G", "gpus": 1},
            }
        },
        "default": {"cores": 2, "memory": "8G"},
    }
)


def test_names_and_units_of_the_site_file() -> None:
    options = offered(
        server.Integer("kerne"), server.Float("mem", label="Memory (GiB)"), server.String("tag")
    )
    filled = fill(options, Claim(worker_cores=2, worker_memory="4GB", image="eo:1"), None, SITE)
    assert dict(options) == {"kerne": 2, "mem": 4000.0, "tag": "eo:1"}
    assert "worker_cores is its kerne" in filled.understood


@pytest.mark.parametrize(
    "option",
    [
        server.Select("profile", ["Medium", "Small", "Large", "Graphics", "Odd"]),
        server.String("profile", "Medium"),
    ],
)
def test_choices_of_the_site_file(option: object) -> None:
    for claim, chosen in (
        (Claim(worker_cores=1, worker_memory="1G"), "Small"),
        (Claim(worker_cores=2), "Large"),
        (Claim(gpus=1), "Graphics"),
        (Claim(image="eo:1"), "Medium"),
    ):
        options = offered(option)
        fill(options, claim, None, SITE)
        assert options["profile"] == chosen
    with pytest.raises(OptionError, match="worker_cores = 9: no choice is enough"):
        fill(options, Claim(worker_cores=9), None, SITE)


def test_default_of_the_site_file() -> None:
    """What cannot be chosen is enough by default, or it is an error."""
    options = offered(server.String("queue", "all"))
    assert fill(options, Claim(worker_cores=2), None, SITE).missing == ["worker_cores"]
    claim = Claim(worker_cores=2, worker_memory="16G")
    with pytest.raises(OptionError, match=r"worker_memory = 16G: .* its default is 8G"):
        fill(options, claim, None, SITE)
    filled = fill(options, claim.model_copy(update={"strict": False}), None, SITE)
    assert len(filled.given_up) == 1
    with pytest.raises(OptionError, match=r"gpus = 1: .* its default is 0"):
        fill(options, Claim(gpus=1), None, SITE)


def test_a_cluster_that_nobody_uses_ends() -> None:
    fields = server.Mapping("environment", {"A": "b"}), server.Integer("idle_timeout_minutes")
    options = offered(*fields)
    assert end_when_idle(options, Claim(), 90)
    assert options["environment"] == {"A": "b", IDLE_TIMEOUT: "90s"}
    assert options["idle_timeout_minutes"] == 2
    # What the claim says itself stays.
    own = Claim(environment={IDLE_TIMEOUT: "5s"}, options={"idle_timeout_minutes": 30})
    fill(options, own)
    end_when_idle(options, own, 90)
    assert options["environment"][IDLE_TIMEOUT] == "5s"
    assert options["idle_timeout_minutes"] == 30
    assert not end_when_idle(offered(server.String("image")), Claim(), 90)
    verbatim = offered(*fields)
    own = Claim(options={"environment": {}, "idle_timeout_minutes": 0})
    fill(verbatim, own)
    assert not end_when_idle(verbatim, own, 90)
    chosen = offered(server.Integer("idle_timeout", 1800))
    assert not end_when_idle(chosen, Claim(), 90) and chosen["idle_timeout"] == 1800


RENAMED = GatewayOptions.model_validate({"names": {"environment": "Env_Vars"}})


def test_the_sites_name_for_variables_counts_everywhere() -> None:
    """The claim's variables, the end of a cluster that nobody uses, and the mark of a run."""
    options = offered(server.Mapping("environment", {}), server.Mapping("env_vars", {"A": "b"}))
    claim = Claim(environment={"C": "d"})
    assert fill(options, claim, None, RENAMED).missing == []
    assert end_when_idle(options, claim, 90, RENAMED)
    own = {"A": "b", "C": "d", IDLE_TIMEOUT: "90s"}
    assert dict(options) == {"env_vars": own, "environment": {}}
    assert variables_option(options, RENAMED) == "env_vars"
    assert variables_option(options, None) == "environment"
    assert variables_option(options, RENAMED, Claim(options={"env_vars": {}})) is None
    assert variables_option(offered(server.String("environment")), None) is None


def test_one_table_tells_which_option_is_which_field() -> None:
    for field, names in OPTION_NAMES.items():
        for name in names:
            assert GatewayOptions().field_of(name.upper()) == field
            assert GatewayOptions().option_for(field, ["x", name.upper()]) == name.upper()
    assert RENAMED.field_of("ENV_VARS") == "environment" and RENAMED.field_of("x") is None


NOWHERE = {"DASK_CLAIM_SITE": "/dev/null", "HOME": "/nonexistent"}
# Variables are mostly written in capitals.
SOURCES = {
    "claim": lambda said: (said, Claim(options={said: 2})),
    "flag": lambda said: (said, load(claimed({"options": (f"{said}=2",)}), NOWHERE).claim),
    "variable": lambda said: (
        said.lower() if said.isupper() else said,
        load({}, {**NOWHERE, f"DASK_CLAIM_OPTIONS__{said}": "2"}).claim,
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_options_are_matched_whatever_their_case(source: str) -> None:
    """Exactly first, where two differ in nothing else."""
    for offers, written in product(
        [("CPU",), ("Cpu",), ("cpu",), ("CPU", "cpu"), ("Cpu", "CPU")], ["CPU", "cpu", "Cpu"]
    ):
        said, claim = SOURCES[source](written)
        options = offered(*(server.Integer(name, default=1) for name in offers))
        assert fill(options, claim).missing == []
        chosen = said if said in offers else offers[-1]
        assert dict(options) == {name: 2 if name == chosen else 1 for name in offers}


def test_stronger_source_holds_where_names_differ_in_case_only(tmp_path: Path) -> None:
    (tmp_path / "claim.yaml").write_text("options: {CPU: 1, queue: long}\n")
    environ = {"DASK_CLAIM_SITE": str(tmp_path / "claim.yaml"), "HOME": "/nonexistent"}
    environ["DASK_CLAIM"] = '{"options": {"cpu": 2}}'
    options = offered(server.Integer("CPU", default=9), server.String("Queue"))
    fill(options, load({}, environ).claim)
    assert dict(options) == {"CPU": 2, "Queue": "long"}
    fill(options, load({"options": {"CPU": 3}}, environ).claim)
    assert options["CPU"] == 3
