"""One command-line tool that claims a cluster → one that any runner runs, under dask-claim."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from dask_claim.cwl import comments
from dask_claim.cwl.claimed import read_claim
from dask_claim.cwl.command import is_wrapped, wrap
from dask_claim.cwl.document import plain
from dask_claim.cwl.expressions import as_text
from dask_claim.cwl.faults import CwlError
from dask_claim.cwl.requirements import ENV, NETWORK, SCRIPT, Entry, Scope, put

VARIABLE = "DASK_CLAIM"

TEMPORARY, PERMANENT = (75,), (64, 70, 78, 126, 127)
"""What the exit status of dask-claim means to a runner."""


def translate_tool(
    tool: Any, scope: Scope, entry: Entry, version: str, gateway_url: str | None
) -> None:
    """Change `tool` in place. `scope` includes the tool's own requirements. Raises CwlError."""
    environment = _own_environment(tool, scope, entry.file)
    existing = defined_claim(scope)
    if existing is None or entry.section == "requirements":
        claimed = read_claim(entry, tool, scope, gateway_url)
        if claimed.faults:
            raise CwlError(claimed.faults)
        if existing is not None and existing.strip() != claimed.text:
            reason = f"{entry.written} and {VARIABLE} in EnvVarRequirement differ; keep one of them"
            raise CwlError([(entry.place, reason)])
        _define(environment or _new_environment(tool, scope), VARIABLE, claimed.text)
        if claimed.script and scope.effective(SCRIPT, "requirements") is None:
            library = scope.effective(SCRIPT)
            fields = deepcopy(library.fields()) if library else {}
            put(tool, "requirements", "InlineJavascriptRequirement", fields)
    elif gateway_url is not None:
        text = _with_gateway(existing, gateway_url, entry)
        _define(environment or _new_environment(tool, scope), VARIABLE, text)
    # CWL v1.0 has no NetworkAccess: there a tool may use the network.
    network = scope.effective(NETWORK)
    asked = network is not None and network.fields().get("networkAccess") is not True
    if version != "v1.0" and not asked and scope.effective(NETWORK, "requirements") is None:
        put(tool, "requirements", "NetworkAccess", {"networkAccess": True})
    if not is_wrapped(tool):
        wrap(tool, scope)
    _add_codes(tool)


def defined_claim(scope: Scope) -> str | None:
    """The value of DASK_CLAIM that a runner gives the tool."""
    entry = scope.effective(ENV)
    value = _definition(entry.content, VARIABLE) if entry else None
    return None if value is None else str(value)


def _own_environment(tool: Any, scope: Scope, file: str) -> Any:
    """The EnvVarRequirement among the tool's own requirements."""
    entry = scope.effective(ENV, "requirements")
    if entry is None or entry.owner is not tool:
        return None
    if entry.content == {}:
        comments.replace(tool["requirements"], entry.key, comments.made({"envDef": {}}))
        return tool["requirements"][entry.key]
    if not isinstance(entry.content, dict):
        raise CwlError([(entry.place, "EnvVarRequirement is not an object with an envDef")])
    if not isinstance(entry.content.get("envDef"), (dict, list)):
        comments.take(entry.content, "envDef") if "envDef" in entry.content else None
        comments.append(entry.content, "envDef", {})
    return entry.content


def _new_environment(tool: Any, scope: Scope) -> Any:
    """One of the tool's own. It hides any around it, so it takes their variables over."""
    inherited = scope.effective(ENV)
    fields = plain(inherited.fields()) if inherited else {}
    if not isinstance(fields.get("envDef"), (dict, list)):
        fields["envDef"] = {}
    return put(tool, "requirements", "EnvVarRequirement", fields)


def _definition(environment: Any, name: str) -> Any:
    definitions = environment.get("envDef") if isinstance(environment, dict) else None
    if isinstance(definitions, dict):
        value = definitions.get(name)
        return value.get("envValue") if isinstance(value, dict) else value
    for item in definitions if isinstance(definitions, list) else []:
        if isinstance(item, dict) and item.get("envName") == name:
            return item.get("envValue")
    return None


def _define(environment: Any, name: str, value: str) -> None:
    definitions = environment["envDef"]
    if isinstance(definitions, list):
        for item in definitions:
            if isinstance(item, dict) and item.get("envName") == name:
                comments.replace(item, "envValue", value)
                return
        comments.append(definitions, None, {"envName": name, "envValue": value})
    elif name not in definitions:
        comments.append(definitions, name, value)
    elif isinstance(definitions[name], dict) and "envValue" in definitions[name]:
        comments.replace(definitions[name], "envValue", value)
    else:
        comments.replace(definitions, name, value)


def _with_gateway(existing: str, gateway_url: str, entry: Entry) -> str:
    """Put the address in a claim that a translation, or the author, wrote before."""
    try:
        claim = dict(json.loads(existing))
    except (ValueError, TypeError):
        reason = (
            f"{VARIABLE} is an expression already, into which no gateway can be put; translate "
            "the original document, or set DASK_CLAIM__GATEWAY_URL at run time"
        )
        raise CwlError([(entry.place, reason)]) from None
    if claim.get("gateway_url") == gateway_url:
        return existing
    claim.pop("gateway_url", None)
    return as_text({"gateway_url": gateway_url, **claim})


def _add_codes(tool: Any) -> None:
    """Tell the runner what dask-claim's statuses mean, where the author has not said otherwise."""
    said = {
        code
        for name in ("successCodes", "temporaryFailCodes", "permanentFailCodes")
        for code in (tool.get(name) if isinstance(tool.get(name), list) else ())
        if isinstance(code, int)
    }
    for name, codes in (("temporaryFailCodes", TEMPORARY), ("permanentFailCodes", PERMANENT)):
        new = [code for code in codes if code not in said]
        listed = tool.get(name)
        if not new:
            continue
        if isinstance(listed, list) and listed:
            for code in new:
                comments.append(listed, None, code)
        elif name in tool:
            comments.replace(tool, name, new)
        else:
            following = ("baseCommand", "arguments", "inputs", "outputs")
            index = next((i for i, key in enumerate(tool) if key in following), len(tool))
            comments.insert(tool, index, name, new)
