"""The key of a shared cluster on its way to the tools: an input of the workflow and of each step.

A document cannot read the runner's own variables, and not every runner hands them on; an input it
has everywhere. Empty, as it is by default, it shares nothing.
"""

from __future__ import annotations

from typing import Any

from dask_claim.cwl.document import entries
from dask_claim.cwl.requirements import insert

SHARE_INPUT, SHARE_VARIABLE = "dask_claim_share", "DASK_CLAIM_SHARE"
SHARE_VALUE = f"$(inputs.{SHARE_INPUT})"

_INPUT = {
    "type": "string",
    "default": "",
    "doc": "A key: steps with the same key and request use one Dask cluster",
}


def takes_share(process: Any) -> bool:
    """Whether a process has the input."""
    return isinstance(process, dict) and _has(process.get("inputs"), SHARE_INPUT)


def with_share_input(process: dict[str, Any]) -> dict[str, Any]:
    """Return a tool or workflow with the input."""
    inputs = process.get("inputs")
    if takes_share(process):
        return process
    if isinstance(inputs, list):
        return insert(process, "inputs", [*inputs, {"id": SHARE_INPUT, **_INPUT}])
    return insert(process, "inputs", {**(inputs or {}), SHARE_INPUT: dict(_INPUT)})


def passing_share(step: dict[str, Any]) -> dict[str, Any]:
    """Return a step that hands the workflow's input on to what it runs."""
    given = step.get("in")
    if _has(given, SHARE_INPUT):
        return step
    if isinstance(given, list):
        return {**step, "in": [*given, {"id": SHARE_INPUT, "source": SHARE_INPUT}]}
    return {**step, "in": {**(given or {}), SHARE_INPUT: SHARE_INPUT}}


def _has(content: Any, name: str) -> bool:
    return any(each == name for _, each, _ in entries(content, "id"))
