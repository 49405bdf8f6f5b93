"""Words to dask-claim: which are its own, which the command's, and what a shell completes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dask_claim import __version__
from dask_claim.claim.model import Claim
from dask_claim.cli.main import cli
from dask_claim.cwl import schema
from tests.cwl.test_cwl_schema import BAD, GOOD
from tests.support.gateway import clean_environment
from tests.support.here import Answer, dask_claim
from tests.support.launcher import DASK_CLAIM, PYTHON


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "there is no command to run; put `--` before it"),
        (["--"], "there is no command to run; put `--` before it"),
        (["echo", "hi"], "'echo' is not one of clusters, cwl, doctor, receipts, schema, show; "),
        (["echo", "--", "hi"], "'echo' is not one of"),
        (["--nonsense", "--", "true"], "--nonsense"),
        (["--image", "--", "true"], "--image"),
        (["--start", "never", "--", "true"], "--start"),
        (["show", "--", "x"], "unexpected extra argument"),
        (["show", "x"], "unexpected extra argument"),
        (["--max-workers", "2", "show"], "--max-workers does not belong before show"),
        (["cwl"], "Usage: dask-claim cwl"),
        (["cwl", "check"], "Missing argument 'FILE'"),
        (["schema", "x"], "unexpected extra argument"),
        (["--grace", "x", "--", "true"], "--grace"),
    ],
)  # fmt: skip
def test_wrong_usage(words: list[str], reason: str) -> None:
    done = dask_claim(*words)
    assert (done.status, done.out) == (64, "")
    assert reason in done.err and "--help" in done.err


def test_all_behind_the_dashes_is_the_command() -> None:
    """Also what reads as a command of dask-claim; none of these programs is there."""
    command = [DASK_CLAIM, "--max-workers", "1", "--", "clusters", "stop"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert "clusters: command not found" in done.stderr
    # Behind the dashes of a command of ours it is an argument.
    argument = subprocess.run([DASK_CLAIM, "cwl", "check", "--", "--help"], capture_output=True)
    assert argument.returncode == 78


@pytest.mark.parametrize("program", [[DASK_CLAIM], [PYTHON, "-m", "dask_claim"]])
def test_by_its_own_process(program: list[str]) -> None:
    done = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"dask-claim, version {__version__}\n"
    wrong = subprocess.run([*program, "echo"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (64, "")
    assert "'echo' is not one of" in wrong.stderr and "--help" in wrong.stderr


def test_help_names_the_commands() -> None:
    done = dask_claim("-h")
    assert done.status == 0
    assert done.out.startswith("Usage: dask-claim [OPTIONS] -- COMMAND [ARG …]\n")
    for name in ("clusters", "cwl", "schema", "show"):
        assert f"\n  {name} " in done.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dask-claim ", {"clusters", "cwl", "doctor", "receipts", "schema", "show"}),
        ("dask-claim --sta", {"--start", "--start-timeout"}),
        ("dask-claim --start ", {"ready", "workers", "eager"}),
        ("dask-claim clusters stop --or", {"--orphaned"}),
        ("dask-claim -- s", {"s"}),  # a file, which the shell finds
    ],
)  # fmt: skip
def test_completion(words: str, expected: set[str]) -> None:
    done = dask_claim(
        _DASK_CLAIM_COMPLETE="bash_complete",
        COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1),
    )  # fmt: skip
    assert done.status == 0, done.err
    kinds = dict(line.split(",")[::-1] for line in done.out.splitlines())
    assert set(kinds) == expected
    assert set(kinds.values()) == {"file" if " -- " in words else "plain"}


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_reader_that_goes_away_is_no_defect(form: str) -> None:
    """As `head -1`; without a buffer click itself meets the pipe's end."""
    env = clean_environment(DASK_CLAIM_LOG_FORMAT=form, PYTHONUNBUFFERED="1")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [DASK_CLAIM, "show"], stdout=writer, stderr=subprocess.PIPE, env=env, timeout=60
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_completion_script() -> None:
    done = dask_claim(_DASK_CLAIM_COMPLETE="bash_source")
    assert done.status == 0
    checked = subprocess.run(["bash", "-n"], input=done.out, text=True)
    assert checked.returncode == 0 and "dask-claim" in done.out


def test_schema() -> None:
    """A claim is what a requirement is, without expressions, and may be wrapped as one."""
    done = dask_claim("schema", "--json")
    assert done.status == 0
    printed = json.loads(done.out)
    assert printed == schema.make_claim_schema()
    valid = jsonschema.validators.validator_for(printed)(printed).is_valid
    for content in GOOD:
        if "$(" not in json.dumps(content):
            assert valid(content)
            assert valid({"x:DaskGatewayRequirement": content})
    for content in [*BAD, {"worker_cores": "$(inputs.x)"}, {"max_workers": "${return 1;}"}]:
        for shown in (content, {"DaskGatewayRequirement": content}):
            assert not valid(shown)


def test_every_field_has_a_flag() -> None:
    names = {parameter.name for parameter in cli.params}
    assert set(Claim.model_fields) - {"version"} <= names


def test_flags_reach_the_claim() -> None:
    done = dask_claim(
        "show", "--json", "--gateway-url", "http://g", "--env", "gateway_url=URL",
        "--option", "queue=long", "--option", "nodes=3", "--no-create", "--environment", "A=1",
        "--hpc", "queue=all", "--no-strict",
    )  # fmt: skip
    sources, shown = map(json.loads(done.out).get, ("sources", "claim"))
    assert (sources["options.nodes"], sources["create"]) == ("--option", "--no-create")
    assert shown["env"] == {"gateway_url": "URL"}
    assert shown["options"] == {"queue": "long", "nodes": 3}
    assert shown["create"] is False and shown["strict"] is False
    assert (shown["environment"], shown["hpc"]) == ({"A": "1"}, {"queue": "all"})


def test_receipt_of_a_run_that_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(fields: object) -> None:
        raise RuntimeError("broken")

    def run(*flags: str, **variables: str) -> tuple[Answer, dict[str, Any]]:
        file = tmp_path / "receipt"
        answer = dask_claim("--receipt", str(file), *flags, "--", "true", **variables)
        receipt = json.loads(file.read_text())
        file.unlink()
        assert receipt["exit_status"] == answer.status
        return answer, receipt

    with monkeypatch.context() as changed:
        changed.setattr("dask_claim.cli.run.load", broken)
        done, receipt = run()
        assert (done.status, receipt["reason"]) == (70, "defect")
        assert "RuntimeError: broken" in done.err
        assert "a defect in dask-claim" in done.err.splitlines()[-1]
    wrong, receipt = run(DASK_CLAIM_GRACE="x")
    assert (wrong.status, receipt["reason"]) == (78, "configuration_invalid")
    # Nor is a gateway asked, which would be status 75 here.
    claim = {"gateway_url": "http://127.0.0.1:1", "worker_core": 1, "min_cores": "many"}
    unsound, receipt = run(DASK_CLAIM=json.dumps(claim))
    assert (unsound.status, receipt["gone"]) == (78, None)
    assert receipt["error"].startswith("2 faults")
    assert "did you mean worker_cores?" in unsound.err
    monkeypatch.chdir(tmp_path)
    same = dask_claim("--receipt", "x", "--report", "x", "--", "true")
    assert same.status == 78 and "receipt and report are to be one file" in same.err
