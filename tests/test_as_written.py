"""Texts that look like something else arrive as they were written, whatever way they come in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dask_claim.claim.model import Claim, load
from dask_claim.cli.options import claimed
from dask_claim.cwl.translate import translate
from dask_claim.errors import ClaimError
from dask_claim.launch.handoff import variables
from dask_claim.providers.gateway.options import fill
from dask_claim.providers.hpc.batch import SlurmProvider
from dask_claim.providers.values import Cluster, Request
from tests.cwl.support import claim_of
from tests.cwl.support import load as document

TEXTS = (
    # numbers
    *("4", "-4", "+4", "-0", "1.0", "1.10", "2024.10", "0.50", ".5", "5.", "1_000", "1,5"),
    *("1e3", "1E5", "1.5e-7", "1e400", "12345678901234567890", "3.14159265358979323846"),
    # octal, hexadecimal, binary
    *("007", "0123", "0o17", "0x1F", "0b11", "00123e45"),
    # times and dates
    *("10:00:00", "1:30", "01:30.5", "2024-01-01", "2024-01-01T00:00:00Z"),
    # truth
    *("true", "True", "TRUE", "false", "yes", "No", "on", "off", "y", "n"),
    # nothing
    *("null", "Null", "None", "NaN", "nan", ".nan", ".inf", "Infinity", "-"),
)
NULLS = ("null", "Null", "-")
"""In YAML without quotes these are nothing, or no text at all."""

WORDS = {"options": "tag", "environment": "TAG", "hpc": "queue"}

Way = Callable[[str, Path], Claim]


def by_flag(text: str, folder: Path) -> Claim:
    given = {name: (f"{word}={text}",) for name, word in WORDS.items()}
    return read({**given, "image": text})


def by_variable(text: str, folder: Path) -> Claim:
    return read(
        {},
        DASK_CLAIM_IMAGE=text,
        **{f"DASK_CLAIM_{name.upper()}__{word.upper()}": text for name, word in WORDS.items()},
    )


def by_variable_of_json(text: str, folder: Path) -> Claim:
    whole = {f"DASK_CLAIM_{name.upper()}": json.dumps({word: text}) for name, word in WORDS.items()}
    return read({}, DASK_CLAIM_IMAGE=text, **whole)


def by_claim(text: str, folder: Path) -> Claim:
    return read({}, DASK_CLAIM=json.dumps(claim_with(text)))


def by_site_file(text: str, folder: Path) -> Claim:
    return by_yaml(text, folder)


def by_quoted_site_file(text: str, folder: Path) -> Claim:
    return by_yaml(f"'{text}'", folder)


def by_profile(text: str, folder: Path) -> Claim:
    return by_yaml(text, folder, "profile: 1.10\nprofiles:\n  1.10:\n")


def by_yaml(text: str, folder: Path, before: str = "") -> Claim:
    lines = [line for name, word in WORDS.items() for line in (f"{name}:", f"  {word}: {text}")]
    indent = "    " if before else ""
    content = "".join(f"{indent}{line}\n" for line in [f"image: {text}", *lines])
    (folder / "claim.yaml").write_text(before + content)
    return read({}, DASK_CLAIM_SITE=str(folder / "claim.yaml"))


def by_cwl(text: str, folder: Path) -> Claim:
    return by_document(f"'{text}'", folder)


def by_document(text: str, folder: Path, fields: str = "image options environment hpc") -> Claim:
    lines = [
        f"    {name}:\n      {WORDS[name]}: {text}\n" if name in WORDS else f"    {name}: {text}\n"
        for name in fields.split()
    ]
    path = folder / "tool.cwl"
    path.write_text(
        "cwlVersion: v1.2\nclass: CommandLineTool\nhints:\n  DaskGatewayRequirement:\n"
        + "".join(lines)
        + "baseCommand: echo\ninputs: {}\noutputs: []\n"
    )
    return read({}, DASK_CLAIM=json.dumps(claim_of(document(translate(path)))))


def claim_with(text: str) -> dict[str, object]:
    return {"image": text, **{name: {word: text} for name, word in WORDS.items()}}


def read(flags: dict[str, object], **environ: str) -> Claim:
    nowhere = {"HOME": "/nonexistent", "DASK_ROOT_CONFIG": "/nonexistent"}
    return load(claimed(flags), {"DASK_CLAIM_SITE": "/dev/null", **nowhere, **environ}).claim


WAYS = (
    *(by_flag, by_variable, by_variable_of_json, by_claim),
    *(by_site_file, by_quoted_site_file, by_profile, by_cwl),
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_text_arrives(way: Way, tmp_path: Path) -> None:
    """At the gateway, in the batch job and in the program."""
    server = pytest.importorskip("dask_gateway_server.options")
    from dask_gateway.options import Options

    for text in TEXTS:
        if way in (by_site_file, by_profile) and text in NULLS:
            continue
        claim = way(text, tmp_path)
        for offered in (
            server.String("tag"),
            server.Select("tag", options=["other", *TEXTS]),
        ):
            options = Options._from_spec(server.Options(offered).get_specification())
            fill(options, claim.model_copy(update={"environment": None, "image": None}))
            assert options["tag"] == text
        assert claim.hpc["queue"] == text
        assert claim.environment == {"TAG": text}
        env = {"image": "IMAGE", "environment": "ENVIRONMENT", "hpc": "HPC"}
        found = variables(Cluster(), claim.model_copy(update={"env": env}), {}, "id")
        assert found["IMAGE"] == text
        assert json.loads(found["ENVIRONMENT"]) == {"TAG": text}


@pytest.mark.parametrize("text", [text for text in TEXTS if text[0] in "0123456789tTn"])
def test_text_arrives_in_the_script_of_a_job(text: str, tmp_path: Path) -> None:
    dask_jobqueue = pytest.importorskip("dask_jobqueue")
    claim = Claim(provider="slurm", hpc={"queue": text, "walltime": text, "account": text})
    request = Request(claim, claim.plan({}), {})
    asked = SlurmProvider(request, print, print)._asked()["job"]
    asked = {name: asked[name] for name in ("queue", "walltime", "account", "cores", "memory")}
    script = dask_jobqueue.slurm.SLURMJob("tcp://host:1", name="w", processes=1, **asked)
    for line in (f"-p {text}", f"-t {text}", f"-A {text}"):
        assert f"#SBATCH {line}\n" in script.job_script()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("Integer", "4", 4),
        ("Integer", "007", 7),
        ("Float", "1.10", 1.1),
        ("Float", "1e3", 1000.0),
        ("Float", "4", 4.0),
        ("Bool", "true", True),
        ("Bool", "False", False),
    ],
)
def test_number_or_truth_is_one_where_the_gateway_wants_one(
    way: Way, tmp_path: Path, kind: str, text: str, value: object
) -> None:
    server = pytest.importorskip("dask_gateway_server.options")
    from dask_gateway.options import Options

    spec = server.Options(getattr(server, kind)("tag", default=0 if value == 4 else False))
    options = Options._from_spec(spec.get_specification())
    fill(options, way(text, tmp_path).model_copy(update={"environment": None, "image": None}))
    assert options["tag"] == value and type(options["tag"]) is type(value)


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


@pytest.mark.parametrize("text", TEXTS)
def test_option_without_quotes_in_cwl(text: str, tmp_path: Path) -> None:
    """But whole numbers and truth are of CWL's own types."""
    if text in (*NULLS, "+4", "-0", "True", "TRUE", "12345678901234567890"):
        return
    tag = by_document(text, tmp_path, "options").options["tag"]
    assert (tag if isinstance(tag, str) else json.dumps(tag)) == text


def test_numbers_of_yaml_in_cwl(tmp_path: Path) -> None:
    """Where a number is wanted it is one, however YAML lets it be written."""
    numbers = {
        "worker_cores": ("1_0.5", 10.5), "worker_cores_limit": ("1_000", 1000),
        "max_cores": ("0x1000", 4096), "min_workers": ("0o2", 2), "lease_timeout": ("1e2", 100),
        "worker_memory": ("4_000_000_000", 4 * 10**9), "max_lifetime": ("0.50", 0.5),
        "gpus": ("+1", 1),
    }  # fmt: skip
    for name, (text, value) in numbers.items():
        found = getattr(by_document(text, tmp_path, name), name)
        assert getattr(found, "bytes", found) == value, (name, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a: 1, b: 1.10, c: [true, True, no, ~], d: '2', e: 007}",
         {"a": 1, "b": "1.10", "c": [True, True, "no", None], "d": "2", "e": "007"}),
        ("&x {a: 1}\n  y: {<<: *x, b: 2}", {"a": 1}),
    ],
)  # fmt: skip
def test_yaml_in_an_option(text: str, value: object, tmp_path: Path) -> None:
    (tmp_path / "claim.yaml").write_text(f"options:\n  deep: {text}\n")
    options = read({}, DASK_CLAIM_SITE=str(tmp_path / "claim.yaml")).options
    assert options["deep"] == value
    assert options.get("y", {"a": 1, "b": 2}) == {"a": 1, "b": 2}


def test_aliases_of_aliases_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (tmp_path / "claim.yaml").write_text("\n".join(lines))
    with pytest.raises(ClaimError, match="too much in it"):
        read({}, DASK_CLAIM_SITE=str(tmp_path / "claim.yaml"))
