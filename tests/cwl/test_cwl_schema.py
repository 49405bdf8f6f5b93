"""The schemas: for all fields and spellings, and strict."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dask_claim.claim.fields import FIELDS, ClaimFields
from dask_claim.claim.spellings import resolve
from dask_claim.cwl import schema

GOOD: list[dict[str, Any]] = [
    {},
    {"class": "calrissian:DaskGatewayRequirement", "workerCores": 1, "workerCoresLimit": 1,
     "workerMemory": "4G", "clusterMaxCore": 5, "clusterMaxMemory": "20G"},
    {"EnvVarRequirement": {"worker_cores": "CORES", "gateway_url": "URL", "cluster_name": "NAME"},
     "RuntimeRequirement": {"min_cores": 4, "max_cores": 10, "worker_cores": 0.5, "image": "x:1"}},
    {"cores_min": {"value": 4}, "worker_cores": {"name": "CORES", "value": 0.5},
     "gateway_url": {"name": "URL"}, "image": {"name": "IMAGE", "value": "bai:eb7"},
     "dashboard_url": {"name": "DASHBOARD"}},
    {"workerCores": "$(inputs.cores)", "clustermaxCore": "${ return 4; }", "options": "$(inputs.o)",
     "worker_memory": {"value": "$(inputs.memory)"}, "create": "$(inputs.create)"},
    {"version": 1, "gateway_url": "http://x", "proxy_url": "8786", "public_url": "http://y",
     "image": "x:1", "worker_cores": 0.5, "worker_cores_limit": 1, "worker_memory": "4 G",
     "min_cores": 1, "max_cores": 4, "max_memory": 1000000, "min_workers": 1, "max_workers": 2,
     "options": {"queue": "short", "n": {"deep": [1]}}, "env": {"worker_cores": "CORES"},
     "provider": "gateway", "fallback": "local", "create": False, "lease_timeout": 5,
     "max_lifetime": 3600.5},
]  # fmt: skip

BAD: list[dict[str, Any]] = [
    {"worker_core": 1},
    {"worker_cores": [1]},
    {"RuntimeRequirement": {"wrong": 1}},
    {"EnvVarRequirement": {"wrong": "X"}},
    {"create": {"value": True, "other": 1}},
]


def test_every_field_is_there() -> None:
    record = schema.make_salad()["$graph"][-1]
    names = {field["name"] for field in record["fields"]}
    assert set(FIELDS) == set(ClaimFields.model_fields) <= names
    assert set(FIELDS) <= set(schema.make_schema()["properties"])
    for name, spellings in schema.SPELLINGS.items():
        assert {resolve(spelled) for spelled in spellings} == {name}


def test_editors() -> None:
    validator = jsonschema.Draft202012Validator(schema.make_schema())
    for good in GOOD:
        validator.validate(good)
    for bad in BAD:
        assert not validator.is_valid(bad), bad


# As Calrissian takes an extension: its schema, and its class among those that are supported.
RUNNER = f"""
import sys
from cwltool import main, process
def extend():
    text = open(sys.argv.pop(1)).read()
    for version in ("v1.0", "v1.1", "v1.2"):
        process.use_custom_schema(version, {schema.BASE[:-1]!r}, text)
process.supportedProcessRequirements.append({(schema.BASE + "DaskGatewayRequirement")!r})
extend()
keep = {{"custom_schema_callback": lambda: None}}
print([main.main(["--validate", path], **keep) for path in sys.argv[1:]])
"""


def documents(folder: Path, contents: list[dict[str, Any]], version: str) -> list[str]:
    paths = []
    for number, content in enumerate(contents):
        requirement = {key: value for key, value in content.items() if key != "class"}
        document = {
            "cwlVersion": version,
            "$namespaces": {"calrissian": schema.BASE},
            "class": "CommandLineTool",
            "baseCommand": "echo",
            "requirements": {"calrissian:DaskGatewayRequirement": requirement},
            "inputs": {},
            "outputs": {},
        }
        path = folder / f"{number}.cwl"
        path.write_text(json.dumps(document))
        paths.append(str(path))
    return paths


@pytest.mark.slow
def test_runners_with_the_extension(tmp_path: Path) -> None:
    """They take every spelling, and refuse a field that is none."""
    paths = []
    for version, contents in (("v1.0", GOOD[1:3]), ("v1.1", GOOD[1:3]), ("v1.2", [*GOOD, BAD[0]])):
        folder = tmp_path / version
        folder.mkdir()
        paths += documents(folder, contents, version)
    salad = tmp_path / "salad.yml"
    salad.write_text(json.dumps(schema.make_salad()))
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(salad), *paths],
        capture_output=True,
        text=True,
        timeout=120,
    )
    status = json.loads(done.stdout.splitlines()[-1])
    assert status == [0] * (4 + len(GOOD)) + [1], done.stderr
