"""Expressions in a claim: what a runner makes of them is what the author meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from dask_claim.cwl.expressions import as_script, as_text, is_expression, needs_script, parts
from dask_claim.cwl.translate import translate
from tests.support.cwl import DOCUMENTS, claim_of, load, variables

INPUTS = {
    "cores": 2,
    "memory": "4G",
    "nothing": None,
    "factor": 0.5,
    "flag": True,
    "list": ["a", 'b"\\c'],
    "odd-name": 7,
    "sign": '4G", "gateway_url": "http://elsewhere',
}


def evaluated(text: str, script: bool = True) -> Any:
    scripts = {"InlineJavascriptRequirement": {}} if script else {}
    tool = {"requirements": {"EnvVarRequirement": {"envDef": {"DASK_CLAIM": text}}, **scripts}}
    return json.loads(variables(tool, INPUTS)["DASK_CLAIM"])


WRITTEN: list[tuple[Any, Any]] = [
    ("$(inputs.cores)", 2),
    ("$(inputs.factor * 3)", 1.5),
    ("$(inputs.nothing)", None),
    ("$(inputs.flag)", True),
    ("$(inputs.list)", ["a", 'b"\\c']),
    ("$(inputs.list[1])", 'b"\\c'),
    ("$(inputs['odd-name'])", 7),
    ("$(runtime.cores)", 3),
    ("$(inputs.cores)G", "2G"),
    ("x$(inputs.memory)-$(inputs.factor)y", "x4G-0.5y"),
    ("${ return inputs.cores + 1; }", 3),
    ("${ var a = {'}': '\"'}; return a['}']; // the end\n}", '"'),
    (' $(inputs["memory"])\n', "4G"),
    ("$(inputs.sign)", INPUTS["sign"]),
    (r"\$(inputs.cores)", "$(inputs.cores)"),
    (r"\${x} $(inputs.cores)", "${x} 2"),
    ("a \u2028 'quoted' \"text\" \\ $HOME `x`", "a \u2028 'quoted' \"text\" \\ $HOME `x`"),
    ({"deep": ["$(inputs.cores)", {"er": "$(inputs.memory)"}]}, {"deep": [2, {"er": "4G"}]}),
]


def test_script() -> None:
    claim = {str(number): written for number, (written, _) in enumerate(WRITTEN)}
    expected = {str(number): value for number, (_, value) in enumerate(WRITTEN)}
    assert evaluated(as_script(claim)) == expected


def test_numbers_need_no_script() -> None:
    safe = {"cores", "factor", "nothing", "flag"}.__contains__
    claim = {"a": "$(inputs.cores)", "b": "$(inputs.nothing)", "c": "$(runtime.ram)", "d": "x"}
    assert not needs_script(claim, safe)
    expected = {"a": 2, "b": None, "c": 2048, "d": "x"}
    assert evaluated(as_text(claim), script=False) == expected
    for text in ("$(inputs.memory)", "$(inputs.cores)x", "$(inputs.cores + 1)", "${return 1;}"):
        assert needs_script({"a": text}, safe)


SAFE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(SAFE, st.one_of(SAFE, st.integers(-(2**50), 2**50), st.booleans())))
def test_any_constant_survives(claim: dict[str, Any]) -> None:
    """Whatever the texts hold: quotes, backslashes, dollars, brackets."""
    claim = {
        k: v for k, v in claim.items() if not isinstance(v, str) or not ("$(" in v or "${" in v)
    }
    text = as_text(claim)
    assert json.loads(text) == claim
    assert not is_expression(text)
    assert evaluated(text, script=False) == claim


@settings(max_examples=15, deadline=None)
@example({"__proto__": ""})
@given(st.dictionaries(SAFE, SAFE, max_size=3))
def test_any_constant_survives_beside_an_expression(claim: dict[str, Any]) -> None:
    claim = {k: v for k, v in claim.items() if not ("$(" in v or "${" in v)}
    assert evaluated(as_script({**claim, "n": "$(inputs.cores)"})) == {**claim, "n": 2}


@given(st.text("$(){}'\"\\ab", max_size=12))
def test_parts_lose_nothing(text: str) -> None:
    try:
        found = parts(text)
    except ValueError:
        return
    signs = {"text": "{}", "reference": "$({})", "body": "${{{}}}"}
    joined = "".join(signs[kind].format(inner) for kind, inner in found)
    assert joined.replace("\\", "") == text.strip().replace("\\", "") or joined == text


def test_document_with_all_kinds() -> None:
    tool = load((DOCUMENTS / "good" / "script.expected.cwl").read_text())
    inputs = {"cores": 1.5, "memory": None, "n-workers": None, "tag": "7", "queues": ["q"]}
    assert claim_of(tool, {**inputs, "name": "CORES"}) == {
        "image": "example.org/tool:7",
        "worker_cores": 3,
        "worker_memory": None,
        "max_workers": 3,
        "options": {"account": "$(not evaluated)", "queue": ["q", "night"]},
        "env": {"worker_cores": "CORES"},
    }


def test_backslashes_take_a_script(tmp_path: Path) -> None:
    """A runner that finds a reference in a text takes its backslashes for its own."""
    text = (
        "cwlVersion: v1.0\nclass: CommandLineTool\nrequirements:\n  DaskGatewayRequirement:\n"
        "    max_workers: $(inputs.cores)\n    options: {path: 'C:\\temp \"x\"'}\n"
        "baseCommand: x\ninputs: {cores: int}\noutputs: []\n"
    )
    path = tmp_path / "tool.cwl"
    path.write_text(text)
    tool = load(translate(path))
    expected = {"max_workers": 2, "options": {"path": 'C:\\temp "x"'}}
    assert claim_of(tool, INPUTS) == expected
    assert "InlineJavascriptRequirement" in tool["requirements"]
