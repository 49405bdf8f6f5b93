"""The schemas of `DaskGatewayRequirement`: SALAD for runners, JSON Schema for editors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

from dask_claim.claim.fields import FIELDS, MAPPINGS, RESULTS, ClaimFields

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

_EXPRESSION = {"type": "string", "pattern": r"\$[({]"}
_CWL = "https://w3id.org/cwl/cwl#"

_TAKEN = {
    "name": "@id",
    "version": f"{_CWL}SoftwarePackage/version",
    "EnvVarRequirement": f"{_CWL}EnvVarRequirement",
}
"""What names mean that CWL itself has."""

_CWL_EXPRESSION = "cwl:Expression"
_TITLE = "DaskGatewayRequirement"


def json_schema_text() -> str:
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def claim_schema_text() -> str:
    return json.dumps(claim_schema(), indent=2, ensure_ascii=False) + "\n"


def claim_schema() -> dict[str, Any]:
    """JSON Schema of DASK_CLAIM: a requirement without expressions, which may be wrapped in one."""
    schema = json_schema(expressions=False)
    schema |= {"title": "DASK_CLAIM", "description": "What a program needs of a Dask cluster."}
    schema["patternProperties"] = {f"{_TITLE}$": {"$ref": "#"}}
    return schema


def json_schema(expressions: bool = True) -> dict[str, Any]:
    """JSON Schema of one requirement in any of its spellings, values CWL's expressions or not."""
    fields = ClaimFields.model_json_schema()["properties"]
    values = {name: _value(fields[name], expressions) for name in FIELDS}
    names = {name: {"type": "string"} for name in (*FIELDS, *RESULTS)}
    pair = {
        name: {
            "type": "object",
            "properties": {"name": {"type": ["string", "null"]}, "value": {"$ref": _ref(name)}},
            "additionalProperties": False,
        }
        for name in FIELDS
    }
    own: dict[str, Any] = {
        "class": {"type": "string", "pattern": f"{_TITLE}$"},
        "EnvVarRequirement": {"$ref": "#/$defs/names"},
        "RuntimeRequirement": {"$ref": "#/$defs/values"},
        "env": {"$ref": "#/$defs/names"},
    }
    for name in FIELDS:
        described = {"description": _description(fields[name])}
        # The options are themselves an object of names and values.
        choice = [{"$ref": _ref(name)}] if name == "options" else [{"$ref": _ref(name)}, pair[name]]
        for spelled in (name, *SPELLINGS.get(name, ())):
            own.setdefault(spelled, {**described, "anyOf": choice})
    for name in RESULTS:
        only_name = {"name": {"type": "string"}}
        own[name] = {"type": "object", "properties": only_name, "additionalProperties": False}
    spelled_values = {
        spelled: {"$ref": _ref(name)}
        for name in FIELDS
        for spelled in (name, *SPELLINGS.get(name, ()))
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": _TITLE,
        "description": "What a command-line tool needs of a Dask cluster.",
        "type": "object",
        "properties": own,
        "additionalProperties": False,
        "$defs": {
            "values": {
                "type": "object", "properties": spelled_values, "additionalProperties": False,
            },
            "names": {"type": "object", "properties": names, "additionalProperties": False},
            **{f"field_{name}": schema for name, schema in values.items()},
        },
    }  # fmt: skip


def salad_text() -> str:
    from ruamel.yaml import YAML

    yaml, stream = YAML(), StringIO()
    yaml.width = 4096
    stream.write("# Made by `dask-claim cwl schema`.\n")
    yaml.dump(salad(), stream)
    return stream.getvalue()


def salad() -> dict[str, Any]:
    """The requirement as SALAD describes it, an extension of CWL."""
    fields = ClaimFields.model_json_schema()["properties"]
    names = [_field(name, ["string", _CWL_EXPRESSION]) for name in (*FIELDS, *RESULTS)]
    values = [
        _field(spelled, _types(name, fields[name]))
        for name in FIELDS
        for spelled in (name, *SPELLINGS.get(name, ()))
    ]
    own = [
        _field(spelled, [*_types(name, fields[name]), "#DaskClaimPair"], _description(fields[name]))
        for name in FIELDS
        if name != "env"
        for spelled in (name, *SPELLINGS.get(name, ()))
    ]
    pair = [_field("name", ["string"]), _field("value", ["Any"])]
    return {
        "$base": BASE,
        "$namespaces": {"cwl": _CWL},
        "$graph": [
            {"$import": "https://w3id.org/cwl/CommonWorkflowLanguage.yml"},
            _record("DaskClaimPair", "A value, and the variable the program wants it in.", pair),
            _record("DaskClaimNames", "Field → the variable the program wants it in.", names),
            _record("DaskClaimValues", "Field → value.", values),
            {
                **_record(_TITLE, "What a command-line tool needs of a Dask cluster.", []),
                "extends": "cwl:ProcessRequirement",
                "fields": [
                    {
                        "name": "class",
                        "type": "string",
                        "doc": f"Always '{_TITLE}'",
                        "jsonldPredicate": {"_id": "@type", "_type": "@vocab"},
                    },
                    _field("EnvVarRequirement", ["#DaskClaimNames"]),
                    _field("RuntimeRequirement", ["#DaskClaimValues"]),
                    _field("env", ["#DaskClaimNames"], _description(fields["env"])),
                    *own,
                    *(_field(name, ["#DaskClaimPair"], "Known at run time.") for name in RESULTS),
                ],
            },
        ],
    }


def _record(name: str, doc: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "type": "record", "inVocab": False, "doc": doc, "fields": fields}


def _field(name: str, types: list[str], doc: str = "") -> dict[str, Any]:
    # One meaning for a name in all records: SALAD refuses two.
    meaning = _TAKEN.get(name, f"{BASE}{name}")
    field = {"name": name, "type": ["null", *types], "jsonldPredicate": meaning}
    return {**field, "doc": doc} if doc else field


def _types(name: str, schema: dict[str, Any]) -> list[str]:
    if name in MAPPINGS:
        return ["Any"]
    found = {kind for kind in _json_types(schema) if kind != "null"}
    numbers = ["int", "long"] if "integer" in found else []
    numbers += ["float", "double"] if "number" in found else []
    # A number may also come as a text.
    return [*numbers, *(["boolean"] if "boolean" in found else []), "string", _CWL_EXPRESSION]


def _json_types(schema: dict[str, Any]) -> Iterator[str]:
    if "type" in schema:
        yield str(schema["type"])
    for inner in schema.get("anyOf", ()):
        yield from _json_types(inner)


def _value(schema: dict[str, Any], expressions: bool) -> dict[str, Any]:
    evaluated = [_EXPRESSION] if expressions else []
    return {"anyOf": [*_alternatives(schema), *evaluated, {"type": "null"}]}


def _alternatives(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The types a field takes, the same whichever pydantic describes it; `check` knows bounds."""
    if "anyOf" in schema:
        for inner in schema["anyOf"]:
            yield from _alternatives(inner)
    elif schema.get("type") != "null":
        kept = ("type", "enum", "pattern", "propertyNames")
        yield {key: schema[key] for key in kept if key in schema}


def _ref(name: str) -> str:
    return f"#/$defs/field_{name}"


def _description(schema: dict[str, Any]) -> str:
    return str(schema["description"])
