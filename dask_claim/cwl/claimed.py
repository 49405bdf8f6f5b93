"""One `DaskGatewayRequirement`, in any spelling → the canonical claim of one tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dask_claim.claim.fields import FIELDS, MAPPINGS, Path, leaves, nested
from dask_claim.claim.spellings import Reading, read
from dask_claim.claim.validation import check, cross_faults, respelled
from dask_claim.cwl import expressions
from dask_claim.cwl.document import Place, as_written, plain
from dask_claim.cwl.requirements import DOCKER, Entry, Scope
from dask_claim.errors import Fault, dotted
from dask_claim.redact import redact

GRANTED = {"local_cores": "$(runtime.cores)", "local_memory": "$(runtime.ram) Mi"}
"""What the runner gives the tool: without a gateway the cluster is in its container or job, where
most runners set no limit. CWL counts memory in MiB."""

_NUMERIC = {"int", "long", "float", "double", "boolean"}

_TEXTS = (*MAPPINGS, "image", "profile")
"""What is, or may have, texts without quotes that look like numbers."""


@dataclass
class Claimed:
    """What one tool claims."""

    fields: dict[str, Any]
    """Canonical; expressions as they were written."""

    dynamic: frozenset[str]
    """Names of the fields whose values a runner evaluates."""

    faults: list[tuple[Place, str]] = field(default_factory=list)

    text: str = ""
    """The value for DASK_CLAIM; empty where there are faults."""

    script: bool = False
    """Whether that value takes JavaScript."""


def read_claim(entry: Entry, tool: Mapping[str, Any], scope: Scope) -> Claimed:
    """Read the claim that `entry` makes for `tool`. Collects faults, raises none."""
    if not isinstance(entry.content, Mapping):
        return Claimed({}, frozenset(), [(entry.place, f"{entry.written} is not an object")])
    reading = read(as_written(entry.fields()))
    # YAML has more ways to write a number (1_000, 0x100) than a claim.
    values = {
        **read(plain(entry.fields())).values,
        **{path: value for path, value in reading.values.items() if path[0] in _TEXTS},
    }
    fields = nested(values)
    image = docker_image(scope)
    if image:
        fields.setdefault("image", image)
    fields = {name: fields[name] for name in FIELDS if name in fields}

    constant, dynamic, wrong = _split(fields, inputs_of(tool))
    checked = check(Reading(constant, [], reading.written))
    # Who runs the document may say where the gateway is, so that it is missing is no fault.
    unsure = {path[0] for path in dynamic} | checked.doubtful | {"gateway_url"}
    crossed = cross_faults(checked.values, unsure)
    claimed = Claimed(fields, frozenset(map(".".join, dynamic)))
    spelled = (respelled(fault, reading.written) for fault in (*wrong, *crossed))
    for fault in (*reading.faults, *checked.faults, *spelled):
        claimed.faults.append((entry.at(dotted(fault.path)), f"{entry.written}: {fault}"))
    if not claimed.faults:
        whole = {**fields, **{name: GRANTED[name] for name in GRANTED if name not in fields}}
        claimed.script = _scripted(whole, inputs_of(tool))
        write = expressions.as_script if claimed.script else expressions.as_text
        claimed.text = write(whole)
    return claimed


def docker_image(scope: Scope) -> str | None:
    """The image that the tool itself runs in, where a registry has it."""
    entry = scope.effective(DOCKER)
    pulled = entry.fields().get("dockerPull") if entry else None
    return str(pulled) if pulled else None


def inputs_of(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Input name → its type, as the tool declares it."""
    declared = tool.get("inputs") or {}
    if isinstance(declared, Mapping):
        pairs = [(str(name), item) for name, item in declared.items()]
    else:
        listed = declared if isinstance(declared, list) else []
        pairs = [(str(item.get("id")), item) for item in listed if isinstance(item, Mapping)]
    return {
        name.rpartition("#")[2].rpartition("/")[2]: (
            plain(item.get("type")) if isinstance(item, Mapping) else plain(item)
        )
        for name, item in pairs
    }


def _split(
    fields: Mapping[str, Any], inputs: Mapping[str, Any]
) -> tuple[dict[Path, Any], set[Path], list[Fault]]:
    """Constant fields, names of those with expressions, what is wrong with the expressions."""
    constant: dict[Path, Any] = {}
    dynamic: set[Path] = set()
    faults: list[Fault] = []
    for path, value in leaves(fields).items():
        try:
            evaluated = expressions.is_expression(value)
            unknown = sorted(expressions.input_names(value) - inputs.keys())
        except expressions.Unreadable as error:
            faults.append(Fault(path, None, str(error)))
            dynamic.add(path)
            continue
        if evaluated:
            dynamic.add(path)
            if unknown:
                known = ", ".join(sorted(inputs)) or "none"
                problem = f"names an input that the tool has not: {unknown[0]} (it has {known})"
                faults.append(Fault(path, redact(value, dotted(path)), problem))
        else:
            constant[path] = value
    return constant, dynamic, faults


def _scripted(fields: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    def numeric(name: str) -> bool:
        kinds = inputs[name] if isinstance(inputs[name], list) else [inputs[name]]
        return {str(kind).removesuffix("?") for kind in kinds} - {"null"} <= _NUMERIC

    if not expressions.is_expression(fields):
        return False
    # In a text with references a runner takes backslashes for its own.
    return expressions.needs_script(fields, numeric) or "\\" in expressions.as_text(fields)
