"""Texts that look like something else arrive as they were written, whatever way they come in."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dask_claim.claim.model import Claim, load
from dask_claim.cli.options import claimed
from dask_claim.cwl.translate import translate
from dask_claim.errors import ClaimError
from dask_claim.launch.handoff import variables
from dask_claim.providers.gateway.filling import Filling
from dask_claim.providers.hpc.batch import SlurmProvider
from dask_claim.providers.values import Cluster, Request
from tests.support.claims import NOWHERE, write
from tests.support.cwl import claim_of
from tests.support.cwl import load as document

TEXTS = (
    # numbers
    *("4", "-4", "+4", "-0", "1.0", "1.10", "2024.10", "0.50", ".5", "5.", "1_000", "1,5"),
    *("1e3", "1E5", "1.5e-7", "1e400", "12345678901234567890", "3.14159265358979323846"),
    # octal, hexadecimal, binary
    *("007", "0123", "0o17", "0x1F", "0b11", "00123e45"),
    # times and dates
    *("10:00:00", "1:30", "01:30.5", "2024-01-01", "2024-01-01T00:00:00Z"),
    # truth
    *("true", "True", "TRUE", "false", "False", "yes", "No", "on", "off", "y", "n"),
    # nothing
    *("null", "Null", "None", "NaN", "nan", ".nan", ".inf", "Infinity", "-"),
)
NULLS = ("null", "Null", "-")
"""In YAML without quotes these are nothing, or no text at all."""

WORDS = {"options": "tag", "environment": "TAG", "hpc": "queue"}

Way = Callable[[str, Path], Claim]


def read(flags: dict[str, object], **environ: str) -> Claim:
    return load(claimed(flags), {**NOWHERE, **environ}).claim


def of_fields(text: object) -> dict[str, object]:
    return {"image": text, **{name: {word: text} for name, word in WORDS.items()}}


def of_yaml(text: str) -> str:
    lines = [f"{name}:\n  {word}: {text}" for name, word in WORDS.items()]
    return "\n".join([f"image: {text}", *lines])


def by_flag(text: str, folder: Path) -> Claim:
    given = {name: (f"{word}={text}",) for name, word in WORDS.items()}
    return read({**given, "image": text})


def by_variables(fields: dict[str, object]) -> Claim:
    return read({}, **{f"DASK_CLAIM_{name}".upper(): str(value) for name, value in fields.items()})


def by_site_file(text: str, folder: Path) -> Claim:
    return read({}, DASK_CLAIM_SITE=str(write(folder / "claim.yaml", text)))


def by_cwl(fields: str, folder: Path) -> Claim:
    path = write(
        folder / "tool.cwl",
        "cwlVersion: v1.2\nclass: CommandLineTool\nhints:\n  DaskGatewayRequirement:\n"
        f"{textwrap.indent(fields, '    ')}\n"
        "baseCommand: echo\ninputs: {}\noutputs: []\n",
    )
    return read({}, DASK_CLAIM=json.dumps(claim_of(document(translate(path)))))


WAYS: dict[str, Way] = {
    "flag": by_flag,
    "variable": lambda text, folder: by_variables(
        {"image": text, **{f"{name}__{word}": text for name, word in WORDS.items()}}
    ),
    "variable of JSON": lambda text, folder: by_variables(
        {"image": text, **{name: json.dumps({word: text}) for name, word in WORDS.items()}}
    ),
    "DASK_CLAIM": lambda text, folder: read({}, DASK_CLAIM=json.dumps(of_fields(text))),
    "site file": lambda text, folder: by_site_file(of_yaml(text), folder),
    "site file, quoted": lambda text, folder: by_site_file(of_yaml(f"'{text}'"), folder),
    "profile": lambda text, folder: by_site_file(
        f"profile: 1.10\nprofiles:\n  1.10:\n{textwrap.indent(of_yaml(text), '    ')}", folder
    ),
    "CWL": lambda text, folder: by_cwl(of_yaml(f"'{text}'"), folder),
}

NUMBERS = [
    ("Integer", "4", 4), ("Integer", "007", 7), ("Float", "1.10", 1.1), ("Float", "1e3", 1000.0),
    ("Float", "4", 4.0), ("Bool", "true", True), ("Bool", "False", False),
]  # fmt: skip


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[pytest.mark.slow] if way == "CWL" else []) for way in WAYS]
)
def test_text_arrives(way: str, tmp_path: Path) -> None:
    """At the gateway, in the batch job and in the program.

    A number or truth is one where the gateway wants one.
    """
    server = pytest.importorskip("dask_gateway_server.options")
    from dask_gateway.options import Options

    def filled(claim: Claim, offered: Any) -> Any:
        options = Options._from_spec(server.Options(offered).get_specification())
        Filling(options, claim.model_copy(update={"environment": None, "image": None})).fill()
        return options["tag"]

    for text in TEXTS:
        if way in ("site file", "profile") and text in NULLS:
            continue
        claim = WAYS[way](text, tmp_path)
        assert filled(claim, server.String("tag")) == text
        assert filled(claim, server.Select("tag", options=["other", *TEXTS])) == text
        for kind, written, value in NUMBERS:
            if written == text:
                default = 0 if value == 4 else False
                found = filled(claim, getattr(server, kind)("tag", default=default))
                assert found == value and type(found) is type(value)
        assert claim.hpc["queue"] == text
        assert claim.environment == {"TAG": text}
        env = {"image": "IMAGE", "environment": "ENVIRONMENT", "hpc": "HPC"}
        given = variables(Cluster(), claim.model_copy(update={"env": env}), {}, "id")
        assert given["IMAGE"] == text
        assert json.loads(given["ENVIRONMENT"]) == {"TAG": text}


def test_text_arrives_in_the_script_of_a_job() -> None:
    dask_jobqueue = pytest.importorskip("dask_jobqueue")
    for text in (text for text in TEXTS if text[0] in "0123456789tTn"):
        claim = Claim(provider="slurm", hpc={"queue": text, "walltime": text, "account": text})
        request = Request(claim, claim.plan({}), {})
        job = SlurmProvider(request, print, print)._host_request()["job"]
        names = ("queue", "walltime", "account", "cores", "memory")
        asked = {name: job[name] for name in names}
        script = dask_jobqueue.slurm.SLURMJob("tcp://host:1", name="w", processes=1, **asked)
        for line in (f"-p {text}", f"-t {text}", f"-A {text}"):
            assert f"#SBATCH {line}\n" in script.job_script()


@pytest.mark.parametrize("number", ["1.10", "2024.10", "1e3", "0.50", "4", "1.5", "true"])
def test_number_without_quotes_in_json(number: str) -> None:
    """An option has its digits; where a text is needed a number is a wrong type."""
    claim = read({}, DASK_CLAIM=f'{{"options": {{"tag": {number}, "deep": {{"x": {number}}}}}}}')
    tag = claim.options["tag"]
    assert (tag if isinstance(tag, str) else json.dumps(tag)) == number
    assert claim.options["deep"] == {"x": json.loads(number)}
    assert type(claim.options["deep"]["x"]) is type(json.loads(number))
    with pytest.raises(ClaimError, match="image = "):
        read({}, DASK_CLAIM=f'{{"image": {number}}}')


def test_option_without_quotes_in_cwl(tmp_path: Path) -> None:
    """But whole numbers and truth are of CWL's own types."""
    other = {*NULLS, "+4", "-0", "True", "TRUE", "False", "12345678901234567890"}
    texts = {f"tag{n}": text for n, text in enumerate(TEXTS) if text not in other}
    lines = "".join(f"  {name}: {text}\n" for name, text in texts.items())
    options = by_cwl(f"options:\n{lines}", tmp_path).options
    found = {
        name: tag if isinstance(tag, str) else json.dumps(tag) for name, tag in options.items()
    }
    assert found == texts


def test_numbers_of_yaml_in_cwl(tmp_path: Path) -> None:
    """Where a number is wanted it is one, however YAML lets it be written."""
    numbers = {
        "worker_cores": ("1_0.5", 10.5), "worker_cores_limit": ("1_000", 1000),
        "max_cores": ("0x1000", 4096), "min_workers": ("0o2", 2), "lease_timeout": ("1e2", 100),
        "worker_memory": ("4_000_000_000", 4 * 10**9), "max_lifetime": ("0.50", 0.5),
        "gpus": ("+1", 1),
    }  # fmt: skip
    lines = "\n".join(f"{name}: {text}" for name, (text, _) in numbers.items())
    claim = by_cwl(lines, tmp_path)
    for name, (_, value) in numbers.items():
        found = getattr(claim, name)
        assert getattr(found, "bytes", found) == value, name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a: 1, b: 1.10, c: [true, True, no, ~], d: '2', e: 007}",
         {"a": 1, "b": "1.10", "c": [True, True, "no", None], "d": "2", "e": "007"}),
        ("&x {a: 1}\n  y: {<<: *x, b: 2}", {"a": 1}),
    ],
)  # fmt: skip
def test_yaml_in_an_option(text: str, value: object, tmp_path: Path) -> None:
    options = by_site_file(f"options:\n  deep: {text}\n", tmp_path).options
    assert options["deep"] == value
    assert options.get("y", {"a": 1, "b": 2}) == {"a": 1, "b": 2}


def test_aliases_of_aliases_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ClaimError, match="too large, or nested"):
        by_site_file("\n".join(lines), tmp_path)
