"""Words to dask-claim: which are its own, which the command's, and what a shell completes."""

from __future__ import annotations

import json
import subprocess

import jsonschema
import pytest

from dask_claim.cwl import schema
from tests.cwl.test_cwl_schema import BAD, GOOD
from tests.support.gateway import clean_environment
from tests.support.launcher import DASK_CLAIM


def dask_claim(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DASK_CLAIM, *words],
        env=clean_environment(**variables), capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "there is no command to run; put `--` before it"),
        (["--"], "there is no command to run; put `--` before it"),
        (["echo", "hi"], "'echo' is not one of clusters, cwl, doctor, schema, show; put `--`"),
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
    ],
)  # fmt: skip
def test_wrong_usage(words: list[str], reason: str) -> None:
    done = dask_claim(*words)
    assert (done.returncode, done.stdout) == (64, "")
    assert reason in done.stderr and "--help" in done.stderr


@pytest.mark.parametrize("words", [["show"], ["clusters", "stop"], ["--help"], ["--", "x"]])
def test_all_behind_the_dashes_is_the_command(words: list[str]) -> None:
    """Also what reads as a command of dask-claim; none of these programs is there."""
    done = dask_claim("--max-workers", "1", "--", *words)
    assert done.returncode == 127
    assert f"{words[0]}: command not found" in done.stderr


def test_help_names_the_commands() -> None:
    done = dask_claim("-h")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: dask-claim [OPTIONS] -- COMMAND [ARG …]\n")
    for name in ("clusters", "cwl", "schema", "show"):
        assert f"\n  {name} " in done.stdout


def test_dashes_before_an_argument_of_a_command_of_ours() -> None:
    done = dask_claim("cwl", "check", "--", "no-such.cwl")
    assert done.returncode == 78
    assert "no-such.cwl: cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dask-claim ", {"clusters", "cwl", "doctor", "schema", "show"}),
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
    assert done.returncode == 0, done.stderr
    kinds = dict(line.split(",")[::-1] for line in done.stdout.splitlines())
    assert set(kinds) == expected
    assert set(kinds.values()) == {"file" if " -- " in words else "plain"}


def test_completion_script() -> None:
    done = dask_claim(_DASK_CLAIM_COMPLETE="bash_source")
    assert done.returncode == 0
    checked = subprocess.run(["bash", "-n"], input=done.stdout, text=True)
    assert checked.returncode == 0 and "dask-claim" in done.stdout


def test_schema() -> None:
    """A claim is what a requirement is, without expressions, and may be wrapped as one."""
    done = dask_claim("schema", "--json")
    assert done.returncode == 0
    printed = json.loads(done.stdout)
    assert printed == schema.claim_schema()
    for content in GOOD:
        if "$(" not in json.dumps(content):
            jsonschema.validate(content, printed)
            jsonschema.validate({"x:DaskGatewayRequirement": content}, printed)
    for content in [*BAD, {"worker_cores": "$(inputs.x)"}, {"max_workers": "${return 1;}"}]:
        for shown in (content, {"DaskGatewayRequirement": content}):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(shown, printed)
