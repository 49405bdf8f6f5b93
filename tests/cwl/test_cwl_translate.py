"""Documents in, documents out: what changes, what stays, and what is refused."""

from __future__ import annotations

import io
import json
import random
import re
import subprocess
import sys
from itertools import permutations, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_claim.cwl.check import check
from dask_claim.cwl.document import CwlError, read_document
from dask_claim.cwl.edits import edit
from dask_claim.cwl.translate import translate
from tests.support.cwl import DOCUMENTS, ROOT, Cwltool, claim_of, load, variables

GOOD = sorted(path for path in (DOCUMENTS / "good").glob("*.cwl") if ".expected" not in path.name)
BAD = sorted((DOCUMENTS / "bad").glob("*.cwl"))


def named(path: Path) -> str:
    return path.stem


def write(folder: Path, text: str, name: str = "tool.cwl") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def tool(claim: str, more: str = "", version: str = "v1.2", prefix: str = "") -> str:
    return (
        f"cwlVersion: {version}\n$namespaces: {{dg: 'https://calrissian-cwl.github.io/schema#'}}\n"
        f"class: CommandLineTool\nrequirements:\n  {prefix}DaskGatewayRequirement: {claim}\n{more}"
        "baseCommand: echo\ninputs: {n: int, f: float?, s: string}\noutputs: []\n"
    )


@pytest.mark.parametrize("path", GOOD, ids=named)
def test_document(path: Path) -> None:
    """What is translated already stays."""
    expected = path.with_suffix(".expected.cwl")
    assert translate(path) == translate(expected) == expected.read_text()


@pytest.mark.slow
def test_runners_accept_it(cwltool: Cwltool) -> None:
    """And the published document."""
    published = f"{ROOT / 'cwl' / 'bai.cwl'}#burned-area"
    cwltool.validate(published, *(path.with_suffix(".expected.cwl") for path in GOOD))


HEAD = """#!/usr/bin/env cwl-runner
# What it is.
---
cwlVersion: v1.2
# Its class.
class: CommandLineTool   # always
x:a: &anchor {b: [1, 2]}
x:b: *anchor
"""


def test_what_stands_before_and_after(tmp_path: Path) -> None:
    """A shebang, comments before `---`, anchors and aliases, a last line without its end."""
    text = f"{HEAD}hints: {{DaskGatewayRequirement: {{}}}}\nbaseCommand: x\ninputs: []\noutputs: []"
    done = translate(write(tmp_path, text))
    assert done.startswith(HEAD) and done.endswith("\ninputs: []\noutputs: []")
    assert load(done)["baseCommand"] == ["dask-claim", "--", "x"]


@pytest.mark.parametrize("path", BAD, ids=named)
def test_refused(path: Path) -> None:
    """With file, line and reason; every fault at once."""
    with pytest.raises(CwlError) as caught:
        translate(path)
    for expected in path.with_suffix(".txt").read_text().splitlines():
        assert expected.strip() in str(caught.value)
    for line in str(caught.value).splitlines():
        assert re.match(r"\S+\.(cwl|yml)(:\d+)?: ", line)
    assert caught.value.exit_status == 78


@pytest.mark.parametrize("prefix", ["", "dg:", "calrissian:", "https://example.org/x#"])
def test_prefix(prefix: str, tmp_path: Path) -> None:
    done = load(translate(write(tmp_path, tool("{max_workers: 1}", prefix=prefix))))
    assert claim_of(done) == {"max_workers": 1}
    assert [*done["requirements"]] == ["EnvVarRequirement", "NetworkAccess"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("baseCommand: []\narguments: [run]\n", ["dask-claim", "--"]),
        ("arguments: [run]\n", ["dask-claim", "--"]),
        ("baseCommand: [dask-claim, --, run]\n", ["dask-claim", "--", "run"]),
        ("baseCommand: /opt/bin/dask-claim\narguments: [--, x]\n", "/opt/bin/dask-claim"),
        ("baseCommand: run\nstderr: log.txt\n", ["dask-claim", "--quiet", "--", "run"]),
        ("baseCommand: sh\narguments: [-c, dask-claim -- x]\n", ["dask-claim", "--", "sh"]),
    ],
)
def test_command(command: str, expected: Any, tmp_path: Path) -> None:
    text = tool("{max_workers: 1}").replace("baseCommand: echo\n", command)
    assert load(translate(write(tmp_path, text)))["baseCommand"] == expected


@pytest.mark.parametrize("first", range(1, 7))
def test_inheritance(first: int, tmp_path: Path) -> None:
    """Any requirement before any hint, and the innermost first."""
    owners: dict[str, dict[str, Any]] = {"tool": {}, "step": {}, "workflow": {}}
    for number, (section, owner) in enumerate(product(("requirements", "hints"), owners), 1):
        if number >= first:
            owners[owner][section] = {"DaskGatewayRequirement": {"max_workers": number}}
    sides: dict[str, Any] = {"inputs": [], "outputs": []}
    inner = {"class": "CommandLineTool", "baseCommand": "x", **sides, **owners["tool"]}
    step = {"run": inner, "in": [], "out": [], **owners["step"]}
    workflow = {"class": "Workflow", "steps": {"s": step}, **sides, **owners["workflow"]}
    path = write(tmp_path, json.dumps({"cwlVersion": "v1.2", **workflow}))
    done = json.loads(translate(path))["steps"]["s"]["run"]
    assert claim_of(done) == {"max_workers": first}


def test_references_hold_from_where_it_is_written(cwltool: Cwltool, tmp_path: Path) -> None:
    """Files, included texts, types and processes of other files."""
    output = tmp_path / "deep" / "er" / "out.cwl"
    output.parent.mkdir(parents=True)
    write(tmp_path, "type: enum\nname: table\nsymbols: [one, two]\n", "table.yml")
    write(tmp_path, "some words\n", "words.txt")
    more = (
        "  SchemaDefRequirement: {types: [{$import: table.yml}]}\n"
        "  InitialWorkDirRequirement: {listing: [{entryname: w, entry: {$include: words.txt}}]}\n"
    )
    inputs = "kind: table.yml#table, file: {type: File, default: {class: File, path: words.txt}}"
    text = tool("{max_workers: 1}", more).replace("n: int", f"{inputs}, n: int")
    output.write_text(translate(write(tmp_path, text), output))
    for reference in ("$import: ../../table.yml", "../../table.yml#table", "../../words.txt"):
        assert reference in output.read_text()
    cwltool.validate(output)


def test_other_files_stay_as_they_are(tmp_path: Path) -> None:
    """With a warning where no claim is involved; none of them is read."""
    text = (
        "cwlVersion: v1.2\nclass: Workflow\ninputs: []\noutputs: []\n"
        "steps:\n  a: {run: plain.cwl, in: [], out: []}  # as it is\n"
        "  b: {run: https://example.org/x.cwl, in: [], out: []}\n"
    )
    path = write(tmp_path, text, "w.cwl")
    warnings: list[str] = []
    assert translate(path, warn=warnings.append) == text
    first, second = warnings
    assert first.startswith(f"{path}:6: run: plain.cwl is another file, which stays as it is")
    assert f"(cwl-pack {path} > packed.cwl)" in first and second.startswith(f"{path}:7: run: https")
    assert [(one.level, one.place.line) for one in check(path).findings] == [
        ("warning", 6),
        ("warning", 7),
    ]
    (tmp_path / "sub").mkdir()
    assert "run: ../plain.cwl" in translate(path, tmp_path / "sub" / "w.cwl")


def test_order_of_processes_changes_nothing(tmp_path: Path) -> None:
    claim = "hints: {DaskGatewayRequirement: {max_workers: 1}}, "
    workflow = "{{id: {}, class: Workflow, {}inputs: [], outputs: [], steps: {{s: {}}}}}"
    step = "{{run: '#{}', in: [], out: []}}"
    processes = [
        "{id: tool, class: CommandLineTool, inputs: [], outputs: [], baseCommand: echo}",
        workflow.format("inner", "", step.format("tool")),
        workflow.format("top", claim, step.format("inner")),
    ]
    for number, order in enumerate(permutations(processes)):
        graph = "".join(f"- {process}\n" for process in order)
        path = write(tmp_path, f"cwlVersion: v1.2\n$graph:\n{graph}", f"{number}.cwl")
        assert translate(path).count("DASK_CLAIM:") == 1


IMPORTED = """cwlVersion: v1.2
class: CommandLineTool
requirements:
- $import: types.yml
inputs:
- {id: pair, type: "types.yml#Pair"}
outputs: []
baseCommand: echo
"""


def test_imports(tmp_path: Path) -> None:
    """What claims nothing stays; inputs of another file are taken for granted."""
    assert translate(write(tmp_path, IMPORTED)) == IMPORTED
    text = tool("{max_workers: $(inputs.n)}").replace("{n: int, f: float?, s: string}", "%s")
    for inputs in ("{$import: inputs.yml}", "[{$import: inputs.yml}]"):
        done = load(translate(write(tmp_path, text % inputs)))
        assert claim_of(done, {"n": 3}) == {"max_workers": 3}


def test_packed_by_cwl_pack(tmp_path: Path) -> None:
    """The command that the message tells; a claim at the workflow, and one in the other file."""
    from cwl_utils.pack import pack

    claim = "requirements:\n  dg:DaskGatewayRequirement:\n    max_workers: $(inputs.n)\n"
    spaces = "cwlVersion: v1.2\n$namespaces: {dg: 'https://calrissian-cwl.github.io/schema#'}\n"
    echo = f"{spaces}class: CommandLineTool\nbaseCommand: echo\ninputs: {{n: int}}\noutputs: []\n"
    write(tmp_path, echo, "plain.cwl")
    write(tmp_path, echo + claim.replace("$(inputs.n)", "7"), "own.cwl")
    steps = "".join(f"  {name}: {{run: {name}.cwl, in: {{n: n}}, out: []}}\n"
                    for name in ("plain", "own"))  # fmt: skip
    text = f"{spaces}class: Workflow\ninputs: {{n: int}}\noutputs: []\nsteps:\n{steps}{claim}"
    packed = json.dumps(pack(str(write(tmp_path, text, "w.cwl"))))
    done = load(translate(write(tmp_path, packed, "packed.cwl")))
    claims = [claim_of(step["run"], {"n": 3}) for step in done["steps"]]
    assert claims == [{"max_workers": 3}, {"max_workers": 7}]


def test_names_of_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As runners take them."""
    path = write(tmp_path, tool("{max_workers: 1}"))
    text = translate(path)
    assert translate(f"{path}#main") == text
    monkeypatch.setattr("sys.stdin", io.StringIO(path.read_text()))
    assert translate("-") == text
    for name, reason in (
        ("https://example.org/a.cwl", "https://example.org/a.cwl: is a URL; download"),
        (f"{tmp_path}/nowhere.cwl#main", "nowhere.cwl#main: cannot be read: No such file"),
    ):
        with pytest.raises(CwlError, match=re.escape(reason)):
            translate(name)


def test_what_the_author_says_of_the_network_holds(tmp_path: Path) -> None:
    for value in ("false", "true", "$(inputs.n == 1)"):
        more = f"  NetworkAccess: {{networkAccess: {value}}}\n"
        warnings: list[str] = []
        text = translate(write(tmp_path, tool("{max_workers: 1}", more)), warn=warnings.append)
        assert any("reaches no gateway" in each for each in warnings) == (value == "false")
        assert text.count("networkAccess") == 1 and f"networkAccess: {value}" in text


NEW = "http://new:80"


@pytest.mark.parametrize(
    ("claim", "more", "made"),
    [
        ("{max_workers: 1, gateway_url: 'http://old'}", "",
         {"max_workers": 1, "gateway_url": "http://old"}),
        ("{max_workers: $(inputs.n + 1)}", "", {"max_workers": 3}),
        ("{max_workers: 1}",
         "  EnvVarRequirement:\n    envDef:\n"
         "      - {envName: DASK_CLAIM_GATEWAY_URL, envValue: 'http://a'}\n"
         "      - {envName: DASK_CLAIM_GATEWAY_URL, envValue: 'http://b'}\n",
         {"max_workers": 1}),
    ],
    ids=["other claim", "script", "twice"],
)  # fmt: skip
def test_gateway(claim: str, more: str, made: dict[str, Any], tmp_path: Path) -> None:
    """From the command line: the operator's variable, also where all is translated already."""
    path = write(tmp_path, tool(claim, more))
    first, text = translate(path), translate(path, gateway_url=NEW)
    assert NEW not in first and not {"http://a", "http://b"} & {*text.split("'")}
    path.write_text(first)
    assert translate(path, gateway_url=NEW) == text
    path.write_text(text)
    assert translate(path, gateway_url=NEW) == text == translate(path)
    for url in (NEW, "http://other/$(x)"):
        done = load(translate(path, gateway_url=url))
        assert claim_of(done, {"n": 2}) == made
        assert variables(done, {"n": 2})["DASK_CLAIM_GATEWAY_URL"] == url
    with pytest.raises(CwlError, match="--gateway-url: 'ftp"):
        translate(path, gateway_url="ftp://x")


@pytest.mark.parametrize("claim", ["{max_workers: 1}", "{max_workers: $(inputs.n + 1)}"])
def test_what_the_runner_grants(claim: str, tmp_path: Path) -> None:
    """Filled in by every runner, without JavaScript unless the claim itself takes it."""
    done = load(translate(write(tmp_path, tool(claim))))
    assert ("InlineJavascriptRequirement" in done["requirements"]) == ("+" in claim)
    for cores, ram in ((3, 2048), (0.5, 1024.5)):
        found = json.loads(variables(done, {"n": 1}, cores=cores, ram=ram)["DASK_CLAIM"])
        assert (found["local_cores"], found["local_memory"]) == (cores, f"{ram} Mi")
    path = write(tmp_path, tool("{localCores: 2, local_memory: 1 G}"))
    found = json.loads(variables(load(translate(path)))["DASK_CLAIM"])
    assert found == {"local_cores": 2, "local_memory": "1 G"}


@pytest.mark.slow
def test_packed(cwltool: Cwltool, tmp_path: Path) -> None:
    """What cwltool --pack makes: absolute ids, classes as addresses, JSON."""
    claims = tool("{max_workers: $(inputs.n)}", version="v1.2", prefix="dg:")
    write(tmp_path, claims.replace("requirements:", "hints:"), "tool.cwl")
    step = "{run: tool.cwl, in: {n: n, s: s}, out: []}"
    text = (
        "cwlVersion: v1.2\n$namespaces: {dg: 'https://calrissian-cwl.github.io/schema#'}\n"
        "class: Workflow\ninputs: {n: int, s: string}\noutputs: []\nsteps:\n"
        f"  same: {step}\n  other: {step[:-1]}, hints: {{dg:DaskGatewayRequirement: {{}}}}}}\n"
    )
    path = write(tmp_path, text, "workflow.cwl")
    text = translate(write(tmp_path, cwltool("--pack", path, folder=tmp_path).out, "packed.cwl"))
    graph = {item["id"]: item for item in json.loads(text)["$graph"]}
    (packed,) = (item for item in graph.values() if item["class"] == "CommandLineTool")
    assert claim_of(packed, {"n": 3}) == {"max_workers": 3}
    path = write(tmp_path, text, "packed.cwl")
    cwltool.validate(path)
    assert translate(path) == text


def test_json(tmp_path: Path) -> None:
    path = write(tmp_path, tool("{max_workers: 1}"))
    assert json.loads(translate(path, as_json=True)) == load(translate(path))
    tabbed = json.dumps(load(path.read_text()), indent="\t")
    assert json.loads(translate(write(tmp_path, tabbed))) == load(translate(path))


def test_command_line(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from dask_claim.cli.cwl import cwl_command

    path = write(tmp_path, tool("{max_workers: 1}"))
    shown = CliRunner().invoke(cwl_command, ["translate", str(path)])
    assert shown.exit_code == 0 and shown.stdout == translate(path)
    path.chmod(0o640)
    done = CliRunner().invoke(cwl_command, ["translate", str(path), "-o", str(path)])
    assert done.exit_code == 0 and path.read_text() == shown.stdout
    assert path.stat().st_mode & 0o777 == 0o640 and [*tmp_path.iterdir()] == [path]


def test_nothing_is_loaded_before_there_is_a_document() -> None:
    code = """
import sys
from dask_claim.cli.cwl import cwl_command
assert not {"pydantic", "dask", "yaml", "ruamel.yaml"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_published_documents(tmp_path: Path) -> None:
    """That of the project, which is translated; before and after in the documentation."""
    path = ROOT / "cwl" / "bai.cwl"
    assert translate(path) == path.read_text()
    text = (ROOT / "docs" / "translate.md").read_text()
    before, after = re.findall(r"```yaml\n(?:# tool.cwl\n)?(.*?)```", text, re.DOTALL)
    assert translate(write(tmp_path, before)) == after


def places(node: Any) -> list[tuple[Any, Any]]:
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [place for key in keys for place in [(node, key), *places(node[key])]]


ODD: list[Any] = [None, 0, "x", "#x", "$(", [], {}, [None], {"class": None}, {"x": 1}, True,
                  "True", "NULL", "No"]  # fmt: skip
READABLE = [
    path
    for path in (*GOOD, *BAD)
    if not any(word in path.name for word in ("cycle", "yaml", "twice"))
]


@given(st.sampled_from(READABLE), st.randoms(use_true_random=False))
def test_whatever_is_in_it(path: Path, chance: random.Random) -> None:
    """A document with anything in the place of anything: translated or refused, no other error."""
    document = load(path.read_text())
    for owner, key in chance.sample(places(document), 2):
        owner[key] = chance.choice(ODD)
    with TemporaryDirectory() as folder:
        changed = write(Path(folder), json.dumps(document))
        for action in (translate, check):
            try:
                action(changed)
            except CwlError as error:
                assert str(error).startswith(folder)


@given(st.sampled_from(GOOD), st.randoms(use_true_random=False))
def test_whatever_changes(path: Path, chance: random.Random) -> None:
    """The edited text says what was meant, and keeps all lines but those around a change."""
    document = read_document(path)
    root = load(document.text)
    owner, key = chance.choice(places(root))
    owner[key] = chance.choice([*ODD, "a: b", "x\ny\n", {"k": ["- z", {"l": " "}]}])
    text = edit(document, root)
    assert load(text) == root
    assert text.startswith(document.text.partition("cwlVersion")[0])
