"""Pairs of variables that Dask cannot read: what Dask itself makes of them is the measure."""

from __future__ import annotations

from itertools import product

import dask.config
import pytest

from dask_claim.claim.names import find_conflicts
from tests.support.launcher import PYTHON, Launcher
from tests.support.serving import answering

PLAIN = ["DASK_EO", "DASK_Eo", "DASK_EO__A", "DASK_EO__A-B", "DASK_EO.A_B"]
PARTS = ["DASK_EO__A_B__C", "DASK_eo__a__c", "DASK_EO__A-B__C__D", "DASK_OTHER__A"]
VALUES = ["x", "", "1", "None", "null", "true", "[1]", "{1}", '{"a": true}']
MAPPINGS = ["{}", '{"a-b": {}}', '{"a": {"c": {}}, "a_b": {"c": {"d": {}}}}']


def dask_fails(env: dict[str, str]) -> bool:
    try:
        dask.config.collect_env(env)
    except TypeError:
        return True
    return False


def test_dask_and_we_agree_on_every_pair() -> None:
    verdicts = set()
    for plain, part, value in product(PLAIN, PARTS, [*VALUES, *MAPPINGS]):
        pair = {plain: value, part: "1"}, {part: "1", plain: value}
        fails = any(dask_fails(env) for env in pair)
        verdicts.add(fails)
        for env in pair:
            assert bool(find_conflicts(env)) == fails, env
    assert verdicts == {True, False}


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


def test_a_command_that_imports_dask(launcher: Launcher) -> None:
    """A gateway refuses the launcher: the command may have credentials of its own."""
    with answering({"": [(401, {"error": "no"})]}) as (url, _):
        env = {"DASK_CLAIM_GATEWAY_URL": url, "DASK_CLAIM_ENV__IMAGE": "IMAGE"}
        claim = {"create": False, "image": None}
        ran = launcher(PYTHON, "-c", "import dask.config", claim=claim, env=env)
        assert ran.status == 0, ran.err


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"DASK_CLAIM__GATEWAY_URL": "http://127.0.0.1:9"}, ["write DASK_CLAIM_GATEWAY_URL"]),
        ({"DASK_CLAIM_GATEWAY_URL": "http://127.0.0.1:9", "DASK_GATEWAY": "x"},
         ['DASK_GATEWAY = "x"', "DASK_GATEWAY__ADDRESS, which dask-claim sets"]),
    ],
)  # fmt: skip
def test_a_command_that_could_not_import_dask(
    launcher: Launcher, variables: dict[str, str], words: list[str]
) -> None:
    ran = launcher("true", claim={"create": False}, env=variables)
    assert ran.status == 78 and "Traceback" not in ran.err
    assert all(word in ran.err for word in words), ran.err
