"""The schemas of `DaskGatewayRequirement`: SALAD for runners, JSON Schema for editors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from dask_claim.claim.fields import FIELDS, RESULTS, ClaimFields

BASE = "https://calrissian-cwl.github.io/schema#"
"""Where Calrissian's extension lives, so that published documents keep their prefix."""

SPELLINGS: dict[str, tuple[str, ...]] = {
    "worker_cores": ("workerCores",),
    "worker_cores_limit": ("workerCoresLimit",),
    "worker_memory": ("workerMemory",),
    "min_cores": ("cores_min", "clusterMinCores"),
    "max_cores": ("cores_max", "clusterMaxCores", "clusterMaxCore", "clustermaxCore"),
    "max_memory": ("memory_max", "clusterMaxMemory"),
    "min_workers": ("workers_min", "clusterMinWorkers"),
    "max_workers": ("workers_max", "clusterMaxWorkers"),
}
"""What documents in the wild call the fields. The claim itself takes any case, `_` or `-`."""

_SPELLED = {spelled: name for name in FIELDS for spelled in (name, *SPELLINGS.get(name, ()))}
_EXPRESSION = {"type": "string", "pattern": r"\$[({]"}
_TITLE = "DaskGatewayRequirement"
_DESCRIPTION = "What a command-line tool needs of a Dask cluster."


def write_claim_schema() -> str:
    return json.dumps(make_claim_schema(), indent=2, ensure_ascii=False) + "\n"


def make_claim_schema() -> dict[str, Any]:
    """JSON Schema of DASK_CLAIM: a requirement without expressions, which may be wrapped in one."""
    schema = make_schema(expressions=False)
    schema |= {"title": "DASK_CLAIM", "description": "What a program needs of a Dask cluster."}
    schema["patternProperties"] = {f"{_TITLE}$": {"$ref": "#"}}
    return schema


def make_schema(expressions: bool = True) -> dict[str, Any]:
    """JSON Schema of one requirement, for editors: what `dask-claim` reads may have more spellings.

    `expressions`: values may be CWL's expressions, too.
    """
    fields = ClaimFields.model_json_schema()["properties"]
    evaluated = [_EXPRESSION] if expressions else []
    values = {
        f"field_{name}": {"anyOf": [*_alternatives(fields[name]), *evaluated, {"type": "null"}]}
        for name in FIELDS
    }
    own: dict[str, Any] = {
        "class": {"type": "string", "pattern": f"{_TITLE}$"},
        "EnvVarRequirement": {"$ref": "#/$defs/names"},
        "RuntimeRequirement": {"$ref": "#/$defs/values"},
        "env": {"$ref": "#/$defs/names"},
        **{name: _closed({"name": {"type": "string"}}) for name in RESULTS},
    }
    for spelled, name in _SPELLED.items():
        value = {"$ref": f"#/$defs/field_{name}"}
        pair = _closed({"name": {"type": ["string", "null"]}, "value": value})
        # The options are themselves an object of names and values.
        choices = [value] if name == "options" else [value, pair]
        own.setdefault(spelled, {"description": fields[name]["description"], "anyOf": choices})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": _TITLE,
        "description": _DESCRIPTION,
        **_closed(own),
        "$defs": {
            "values": _closed(
                {spelled: {"$ref": f"#/$defs/field_{name}"} for spelled, name in _SPELLED.items()}
            ),
            "names": _closed({name: {"type": "string"} for name in (*FIELDS, *RESULTS)}),
            **values,
        },
    }


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _alternatives(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The types a field takes, the same whichever pydantic describes it; `check` applies bounds."""
    if "anyOf" in schema:
        for inner in schema["anyOf"]:
            yield from _alternatives(inner)
    elif schema.get("type") != "null":
        kept = ("type", "enum", "const", "pattern", "propertyNames")
        yield {key: schema[key] for key in kept if key in schema}


def make_salad() -> dict[str, Any]:
    """The requirement as SALAD describes it, an extension of CWL: its fields by all their names.

    Their values are for `dask-claim` to check.
    """
    names = ("EnvVarRequirement", "RuntimeRequirement", *_SPELLED, *RESULTS)
    fields = ClaimFields.model_json_schema()["properties"]
    kind = {
        "name": "class",
        "type": "string",
        "doc": f"Always '{_TITLE}'",
        "jsonldPredicate": {"_id": "@type", "_type": "@vocab"},
    }
    return {
        "$base": BASE,
        "$namespaces": {"cwl": "https://w3id.org/cwl/cwl#"},
        "$graph": [
            {"$import": "https://w3id.org/cwl/CommonWorkflowLanguage.yml"},
            {
                "name": _TITLE,
                "type": "record",
                "inVocab": False,
                "doc": _DESCRIPTION,
                "extends": "cwl:ProcessRequirement",
                "fields": [kind, *(_field(name, fields) for name in names)],
            },
        ],
    }


def _field(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    # These names have a meaning in CWL, and SALAD refuses a second one.
    taken = {
        "version": "https://w3id.org/cwl/cwl#SoftwarePackage/version",
        "EnvVarRequirement": "https://w3id.org/cwl/cwl#EnvVarRequirement",
    }
    meaning = taken.get(name, f"{BASE}{name}")
    doc = fields.get(_SPELLED.get(name, ""), {}).get("description")
    field = {"name": name, "type": ["null", "Any"], "jsonldPredicate": meaning}
    return {**field, "doc": doc} if doc else field
