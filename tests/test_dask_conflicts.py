"""Pairs of variables that Dask cannot read: what Dask itself makes of them is the measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product

import pytest

from dask_claim.claim.names import find_conflicts
from tests.test_gateway_api import answering

PLAIN = ["DASK_EO", "DASK_Eo", "DASK_EO__A", "DASK_EO__A-B", "DASK_EO.A_B"]
PARTS = ["DASK_EO__A_B__C", "DASK_eo__a__c", "DASK_EO__A-B__C__D", "DASK_OTHER__A"]
VALUES = ["x", "", "1", "None", "null", "true", "[1]", "{1}", '{"a": true}']
MAPPINGS = ["{}", '{"a-b": {}}', '{"a": {"c": {}}, "a_b": {"c": {"d": {}}}}']

_CODE = """
import json, sys, dask.config
for env in json.load(sys.stdin):
    try:
        found = dask.config.collect_env(env)
    except TypeError:
        print("TypeError")
    else:
        print("read")
"""


def what_dask_says(environments: list[dict[str, str]]) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    child = subprocess.run(
        [sys.executable, "-c", _CODE],
        env=clean,
        input=json.dumps(environments),
        capture_output=True,
        text=True,
        check=True,
    )
    return child.stdout.split()


def test_dask_and_we_agree_on_every_pair() -> None:
    cases = [
        ({plain: value, part: "1"}, {part: "1", plain: value})
        for plain, part, value in product(PLAIN, PARTS, [*VALUES, *MAPPINGS])
    ]
    verdicts = iter(what_dask_says([env for pair in cases for env in pair]))
    broken = 0
    for pair in cases:
        fails = "TypeError" in (next(verdicts), next(verdicts))
        broken += fails
        for env in pair:
            assert bool(find_conflicts(env)) == fails, env
    assert 0 < broken < len(cases)


def test_fault() -> None:
    """Who sets them, and no secret."""
    (fault,) = find_conflicts({"DASK_GATEWAY": "x", "DASK_GATEWAY__ADDRESS": "http://gw"})
    assert str(fault) == (
        'the environment: DASK_GATEWAY = "x": cannot be read by Dask beside '
        "DASK_GATEWAY__ADDRESS, which dask-claim sets; keep one of them"
    )
    secret = {"DASK_TOKEN": "hunter2", "DASK_TOKEN__A": "hunter3"}
    (fault,) = find_conflicts(secret, {"DASK_TOKEN__A": "env.image of the claim"})
    assert "which env.image of the claim sets" in str(fault) and "hunter" not in str(fault)


def test_a_mapping_has_room_for_a_part_of_its_mappings_alone() -> None:
    part = {"DASK_A__B__C": "2"}
    assert find_conflicts({"DASK_A": '{"b": 1}', **part})
    assert not find_conflicts({"DASK_A": '{"b": {"d": 1}, "c": 1}', **part})


@pytest.mark.parametrize("value", ["[" * 100_000, "(" * 100_000, "-" * 100_000 + "1"])
def test_hostile_values(value: str) -> None:
    assert find_conflicts({"DASK_EO": value, "DASK_EO__A": "1"})


def test_other_variables_are_no_business_of_dask() -> None:
    assert not find_conflicts({"EO": "x", "EO__A": "1", "dask_eo": "x", "dask_eo__a": "1"})


def launch(**variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    return subprocess.run(
        [sys.executable, "-m", "dask_claim", "--", sys.executable, "-c", "import dask.config"],
        env={**clean, "DASK_CLAIM_SITE": "/dev/null", **variables},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_command_that_imports_dask() -> None:
    # A gateway that refuses the launcher: the command may have credentials of its own.
    with answering({"": [(401, {"error": "no"})]}) as (url, _):
        gateway = {"DASK_CLAIM_GATEWAY_URL": url, "DASK_CLAIM_ENV__IMAGE": "IMAGE"}
        ran = launch(DASK_CLAIM='{"create": false, "image": null}', **gateway)
        assert ran.returncode == 0, ran.stderr


def test_a_command_that_could_not_import_dask() -> None:
    claim = '{"create": false}'
    ran = launch(DASK_CLAIM=claim, DASK_CLAIM__GATEWAY_URL="http://127.0.0.1:9")
    assert ran.returncode == 78 and "write DASK_CLAIM_GATEWAY_URL" in ran.stderr
    ran = launch(DASK_CLAIM=claim, DASK_CLAIM_GATEWAY_URL="http://127.0.0.1:9", DASK_GATEWAY="x")
    assert ran.returncode == 78, ran.stderr
    assert 'DASK_GATEWAY = "x"' in ran.stderr and "DASK_GATEWAY__ADDRESS" in ran.stderr
    assert "which dask-claim sets" in ran.stderr and "Traceback" not in ran.stderr
