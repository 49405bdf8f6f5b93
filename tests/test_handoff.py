"""The variables a command finds, and the receipt's file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.model import Claim, load
from dask_claim.cli.show import as_json
from dask_claim.launch.events import TicketsWritten, Warned
from dask_claim.launch.handoff import load_security, variables
from dask_claim.launch.receipt import Receipt
from dask_claim.providers.values import Cluster
from tests.support.claims import NOWHERE


def test_gateway_variables() -> None:
    cluster = Cluster(
        scheduler_address="gateway://host:80/abc",
        cluster_name="abc",
        gateway=GatewayAddress("http://host", "gateway://host:80"),
    )
    found = variables(cluster, Claim(), {}, "id")
    assert found == {
        "DASK_SCHEDULER_ADDRESS": "gateway://host:80/abc",
        "DASK_CLUSTER": "abc",
        "DASK_GATEWAY__ADDRESS": "http://host",
        "DASK_GATEWAY__PROXY_ADDRESS": "gateway://host:80",
        "DASK_DISTRIBUTED__CLIENT__SECURITY_LOADER": "dask_claim.launch.handoff.load_security",
        "DASK_CONFIG": "/dev/null",
        "DASK_CLAIM_RUN_ID": "id",
    }
    assert "DASK_CONFIG" not in variables(cluster, Claim(), {"DASK_CONFIG": "/x"}, "id")


def test_name_by_which_a_shared_scheduler_knows_a_runs_clients() -> None:
    """Its own id where the run has a part of its own; inside another run the name of that one."""
    name, outer = "DASK_CLIENT_NAME", {"DASK_CLAIM_RUN_ID": "outer", "DASK_CLIENT_NAME": "outer"}

    def given(inherited: dict[str, str], shares: bool) -> str | None:
        claim = Claim(share="k")
        return variables(Cluster(), claim, inherited, "id", shares=shares).get(name)

    assert (given({}, True), given(outer, True)) == ("id", "id")
    assert given({name: "chosen"}, True) is given({}, False) is given(outer, False) is None


def test_a_password_of_digits_is_a_text_to_the_program_too() -> None:
    cluster = Cluster(cluster_name="abc", gateway=GatewayAddress("http://host", trusted=True))
    name = "DASK_GATEWAY__AUTH__KWARGS__PASSWORD"
    for written, handed_on in (("1e5", "'1e5'"), ("1234", "'1234'"), ("plain", None)):
        assert variables(cluster, Claim(), {name: written}, "id").get(name) == handed_on


def test_values_as_programs_read_them() -> None:
    env = {
        name: name.upper()
        for name in ("worker_cores", "max_cores", "worker_memory", "options", "create", "image")
    }
    claim = Claim(
        worker_cores="0.50", max_cores="4.0", worker_memory="4 G", options={"queue": "x"}, env=env
    )
    found = variables(Cluster(), claim, {"DASK_CONFIG": "x"}, "id")
    assert found == {
        "WORKER_CORES": "0.5",
        "MAX_CORES": "4",
        "WORKER_MEMORY": "4 G",
        "OPTIONS": '{"queue": "x"}',
        "CREATE": "true",
        "DASK_CLAIM_RUN_ID": "id",
    }


def test_other_addresses_need_no_credentials() -> None:
    assert load_security({"address": "tcp://127.0.0.1:8786"}) is None


def test_receipt_is_whole_or_absent(tmp_path: Path) -> None:
    """Without secrets, and also where the command's words are no UTF-8."""
    path = tmp_path / "receipt.json"
    secrets = ["--password=hunter2", "https://me:hunter2@example.org/"]
    command = ["python", "--token", "abc", "a\udcffb", *secrets]
    receipt = Receipt(command, path=path)
    receipt.finish()
    before = path.read_text()
    assert json.loads(before)["command"][:4] == ["python", "--token", "***", "a\udcffb"]
    assert "example.org" in before and "hunter2" not in before
    receipt(Warned(object()))  # type: ignore[arg-type]
    receipt.finish()
    assert path.read_text() == before
    assert [found.name for found in tmp_path.iterdir()] == ["receipt.json"]


def test_receipt_into_a_pipe_is_the_last_one_alone(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    receipt = Receipt(["true"], path=pipe)
    receipt(TicketsWritten([]))  # would wait for a reader
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    receipt.finish()
    assert json.loads(os.read(reader, 1 << 16))["state"] == "ended"
    os.close(reader)


def test_receipt_of_the_run_around_this_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "receipt.json"
    outer, inner = (Receipt([name], path=path, run=f"{name}-run") for name in ("outer", "inner"))
    outer(TicketsWritten([]))
    monkeypatch.setenv("DASK_CLAIM_RUN_ID", "outer-run")
    inner.finish()
    assert json.loads(path.read_text())["command"] == ["outer"]
    monkeypatch.delenv("DASK_CLAIM_RUN_ID")
    outer.finish()
    monkeypatch.setenv("DASK_CLAIM_RUN_ID", "outer-run")
    inner.finish()
    assert json.loads(path.read_text())["command"] == ["inner"]


def test_sources_are_shown_whatever_their_fields_are_called() -> None:
    claim = {
        "options": {"api_token": "hunter2"},
        "environment": {"AWS_SECRET_ACCESS_KEY": "sesame"},
    }
    resolved = load(environ={**NOWHERE, "DASK_CLAIM": json.dumps(claim)})
    receipt = Receipt(["true"], resolved).to_dict()
    for shown in (receipt, json.loads(as_json(resolved, resolved.plan()))):
        for name in ("options.api_token", "environment.AWS_SECRET_ACCESS_KEY"):
            assert shown["sources"][name] == "DASK_CLAIM"
        assert "hunter2" not in str(shown) and "sesame" not in str(shown)
