"""One `DaskGatewayRequirement`, in any spelling → the canonical claim of one tool."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from dask_claim.claim.fields import FIELDS, MAPPINGS, Path, nested
from dask_claim.claim.spellings import Reading, read
from dask_claim.claim.validation import check, cross_faults, respelled
from dask_claim.cwl import expressions
from dask_claim.errors import Fault
from dask_claim.redact import redact

GRANTED = {"local_cores": "$(runtime.cores)", "local_memory": "$(runtime.ram) Mi"}
"""What the runner gives the tool: without a gateway the cluster is in its container or job, where
most runners set no limit. CWL counts memory in MiB."""

_NUMERIC = {"int", "long", "float", "double", "boolean"}

_TEXTS = (*MAPPINGS, "image", "profile")
"""Fields that are, or may have, texts that look like numbers."""


def read_claim(
    content: Any,
    inputs: Mapping[str, Any] | None,
    image: str | None = None,
    written: Any = None,
) -> tuple[dict[str, Any], list[Fault]]:
    """Read the claim that a requirement, or a DASK_CLAIM, makes for a tool with these inputs.

    Returns the canonical fields, expressions as they were written, and the faults. `image` is the
    tool's own; `inputs` are None where unknown. `written` is the content again, texts without
    quotes as they were written: YAML has more ways to write a number (1_000, 0x100) than a claim.
    """
    reading = read(content if written is None else written)
    texts = {path: value for path, value in reading.values.items() if path[0] in _TEXTS}
    values = {**read(content).values, **texts}
    if image:
        values.setdefault(("image",), image)
    constant, dynamic, faults = _split(values, inputs)
    checked = check(Reading(constant, [], reading.written))
    # Who runs the document may say where the gateway is, so that it is missing is no fault.
    unsure = {path[0] for path in dynamic} | checked.doubtful | {"gateway_url"}
    faults += cross_faults(checked.values, unsure)
    faults = [respelled(fault, reading.written) for fault in faults]
    fields = nested(values)
    return {name: fields[name] for name in FIELDS if name in fields}, [
        *reading.faults,
        *checked.faults,
        *faults,
    ]


def variable_value(fields: Mapping[str, Any], inputs: Mapping[str, Any] | None) -> tuple[str, bool]:
    """The text of DASK_CLAIM for a sound claim, and whether it takes JavaScript."""

    def numeric(name: str) -> bool:
        kind = (inputs or {}).get(name)
        kinds = kind if isinstance(kind, list) else [kind]
        return {str(each).removesuffix("?") for each in kinds} - {"null"} <= _NUMERIC

    whole = {**fields, **{name: GRANTED[name] for name in GRANTED if name not in fields}}
    text = expressions.as_text(whole)
    # In a text with references a runner takes backslashes for its own.
    if expressions.needs_script(whole, numeric) or "\\" in text:
        return expressions.as_script(whole), True
    return text, False


def parsed_value(text: str) -> dict[str, Any] | None:
    """The content of a DASK_CLAIM; None where only a runner knows it."""
    # A reference in the place of a number is as good as a text here.
    quoted = re.sub(r'(":\s*)(\$\([^()"\\]*\))(?=\s*[,}])', r'\1"\2"', text)
    try:
        content = json.loads(quoted)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _split(
    values: Mapping[Path, Any], inputs: Mapping[str, Any] | None
) -> tuple[dict[Path, Any], set[Path], list[Fault]]:
    """Constant values, paths of those with expressions, what is wrong with the expressions."""
    constant: dict[Path, Any] = {}
    faults: list[Fault] = []
    for path, value in values.items():
        try:
            if not expressions.is_expression(value):
                constant[path] = value
                continue
            unknown = sorted(expressions.input_names(value) - (inputs or {}).keys())
        except expressions.Unreadable as error:
            faults.append(Fault(path, None, str(error)))
            continue
        if unknown and inputs is not None:
            problem = f"names an input that the tool does not have: {unknown[0]}"
            has = f"it has {', '.join(sorted(inputs)) or 'none'}"
            faults.append(Fault(path, redact(value, path[-1]), problem, has))
    return constant, values.keys() - constant.keys(), faults
