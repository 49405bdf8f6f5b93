"""`dask-claim cwl check`: who claims what, and what would go wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dask_claim.cwl.check import check
from dask_claim.cwl.translate import translate
from tests.support.cwl import DOCUMENTS

HEAD = (
    "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: echo\ninputs: {n: int}\noutputs: []\n"
)
NETWORK = "  NetworkAccess: {networkAccess: true}\n"
CLAIM = "  DaskGatewayRequirement: {max_workers: 1, image: 'example.org/x:1', worker_memory: 2 G}\n"


def findings(folder: Path, text: str) -> list[tuple[str, int, str]]:
    path = folder / "tool.cwl"
    path.write_text(text)
    found = check(path).findings
    assert all(one.place.file == str(path) for one in found)
    return [(one.level, one.place.line, one.text) for one in found]


@pytest.mark.parametrize(
    ("text", "level", "line", "words"),
    [
        (f"requirements:\n{NETWORK}{CLAIM}", "warning", 8, "cwltool and toil refuse it"),
        (f"hints:\n{NETWORK}{CLAIM}", "warning", 8, "only Calrissian reads it"),
        (
            f"hints:\n{NETWORK}  DaskGatewayRequirement: {{'[abc]': 1}}\n",
            "error", 8, "[abc] = \"1\": is not a field",
        ),
        (
            f"hints:\n{NETWORK}  DaskGatewayRequirement:\n    <<: {{max_workers: 1}}\n"
            "    <<: {max_workers: 2, min_workers: 2}\n",
            "error", 10, "at least 2",
        ),
        (
            f"hints:\n{CLAIM}requirements:\n  NetworkAccess: {{networkAccess: false}}\n",
            "error", 9, "reaches no gateway",
        ),
        (
            "requirements:\n  EnvVarRequirement: {envDef: {DASK_CLAIM: '{}'}}\n",
            "error", 1, "no NetworkAccess",
        ),
        (
            f"hints:\n{NETWORK}{CLAIM.replace('max_w', 'min_workers: 2, max_w')}",
            "error", 8, "at least 2 workers",
        ),
        (f"hints:\n{NETWORK}{CLAIM.replace('max_w', 'max_wrk')}", "error", 8, "did you mean"),
        (
            "requirements:\n  NetworkAccess: {networkAccess: true}\n  EnvVarRequirement:\n"
            "    envDef: {DASK_CLAIM: '{\"max_workers\": 0}'}\n",
            "error", 8, "DASK_CLAIM: max_workers",
        ),
        (
            "requirements:\n  EnvVarRequirement: {envDef: {DASK_CLAIM: '{}'}}\n",
            "error", 7, "does not start with dask-claim --",
        ),
    ],
)  # fmt: skip
def test_finding(text: str, level: str, line: int, words: str, tmp_path: Path) -> None:
    found = findings(tmp_path, HEAD + text)
    assert [one for one in found if one[:2] == (level, line) and words in one[2]], found


def test_nothing_to_say(tmp_path: Path) -> None:
    """Of what translate makes of a claim with all it needs."""
    path = tmp_path / "tool.cwl"
    path.write_text(f"{HEAD}requirements:\n{CLAIM}")
    assert findings(tmp_path, translate(path)) == []
    assert findings(tmp_path, HEAD) == []
    # CWL v1.0 has no NetworkAccess, and lets every tool use the network.
    assert findings(tmp_path, translate(path).replace("v1.2", "v1.0")) == []


def test_steps() -> None:
    """Each place that a tool is run from, with inheritance, in its own words."""
    report = check(DOCUMENTS / "good" / "steps.cwl")
    claims = {step: fields for step, _, fields in report.claims}
    assert claims == {
        "same": {"worker_cores": 1, "max_cores": 4},
        "again": {"worker_cores": 1, "max_cores": 4},
        "own": {"max_workers": 2},
        "inner/a": {"image": "example.org/inner:1", "worker_cores": 1, "max_cores": 4},
    }
    again = check(DOCUMENTS / "good" / "steps.expected.cwl")
    granted = {"local_cores": "$(runtime.cores)", "local_memory": "$(runtime.ram) Mi"}
    assert {step: fields for step, _, fields in again.claims} == {
        step: {**fields, **granted} for step, fields in claims.items()
    }


def test_command_line() -> None:
    from dask_claim.cli.cwl import cwl_command

    good, bad = DOCUMENTS / "good" / "hint.cwl", DOCUMENTS / "bad" / "unknown_field.cwl"
    done = CliRunner().invoke(cwl_command, ["check", str(good)], standalone_mode=False)
    assert done.return_value == 0
    assert "  max_cores     10\n" in done.stdout
    done = CliRunner().invoke(cwl_command, ["check", "--json", str(bad)], standalone_mode=False)
    assert done.return_value == 78
    shown = json.loads(done.stdout)
    assert shown["claims"] == [
        {"step": "the tool", "place": f"{bad}:4", "claim": {"worker_cores": 1, "min_cores": "many"}}
    ]
    assert shown["findings"][0]["level"] == "error"


def test_claim_that_a_runner_completes_is_checked(tmp_path: Path) -> None:
    """What translate adds is an expression, and hides no fault beside it."""
    text = (DOCUMENTS / "good" / "shell.expected.cwl").read_text()
    path = tmp_path / "tool.cwl"
    path.write_text(text)
    assert check(path).exit_status == 0
    path.write_text(text.replace('"max_cores": 1', '"max_cores": -1'))
    report = check(path)
    assert report.exit_status == 78
    assert any("max_cores = -1" in finding.text for finding in report.findings)
