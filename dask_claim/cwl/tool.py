"""One command-line tool that claims a cluster → one that any runner runs, under dask-claim."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from dask_claim.cwl import comments
from dask_claim.cwl.claimed import read_claim
from dask_claim.cwl.document import CwlError, plain
from dask_claim.cwl.requirements import ENV, NETWORK, SCRIPT, SHELL, Entry, Scope, put

VARIABLE, GATEWAY_VARIABLE = "DASK_CLAIM", "DASK_CLAIM_GATEWAY_URL"

TEMPORARY, PERMANENT = (75,), (64, 70, 78, 124, 126, 127)
"""What the exit status of dask-claim means to a runner."""

_FIRST, _LAST = -1_000_000, 1_000_000

# With ShellCommandRequirement a runner joins everything to one line for a shell: pipes, `cd x &&`
# and redirections are part of it. All of it is to run on the cluster, not only its first command,
# so the line becomes the text of a here-document, and dask-claim starts the shell that runs it.
# Standard input stays the command's: only `read` reads the here-document. No `$(…)`, which CWL
# would take for its own.
_END = "END_OF_THE_COMMAND_FOR_DASK_CLAIM"
_BEFORE = (
    "dask_claim_command=; while IFS= read -r dask_claim_line; do "
    'dask_claim_command="$dask_claim_command$dask_claim_line\n"; '
    f"done <<'{_END}'\n"
)
_AFTER = f'\n{_END}\nexec dask-claim -- /bin/sh -c "$dask_claim_command"'


def translate_tool(tool: Any, scope: Scope, entry: Entry, version: str) -> None:
    """Change `tool` in place. `scope` includes the tool's own requirements. Raises CwlError."""
    environment = _own_environment(tool, scope, entry.file)
    existing = defined_claim(scope)
    if existing is None or entry.section == "requirements":
        claimed = read_claim(entry, tool, scope)
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
    # CWL v1.0 has no NetworkAccess: there a tool may use the network.
    network = scope.effective(NETWORK)
    asked = network is not None and network.fields().get("networkAccess") is not True
    if version != "v1.0" and not asked and scope.effective(NETWORK, "requirements") is None:
        put(tool, "requirements", "NetworkAccess", {"networkAccess": True})
    if not is_wrapped(tool):
        wrap(tool, scope)
    _add_codes(tool)


def set_gateway(tool: Any, scope: Scope, gateway_url: str, file: str) -> None:
    """Name the gateway as its operator does: beside the claim, which is the developer's."""
    value = re.sub(r"\$(?=[({])", r"\\$", gateway_url)
    if defined(scope, GATEWAY_VARIABLE) != value:
        environment = _own_environment(tool, scope, file) or _new_environment(tool, scope)
        _define(environment, GATEWAY_VARIABLE, value)


def defined_claim(scope: Scope) -> str | None:
    """The value of DASK_CLAIM that a runner gives the tool."""
    return defined(scope, VARIABLE)


def defined(scope: Scope, name: str) -> str | None:
    """The value of a variable that a runner gives the tool."""
    entry = scope.effective(ENV)
    value = _definition(entry.content, name) if entry else None
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


def is_wrapped(tool: Mapping[str, Any]) -> bool:
    """Whether the tool's command runs under dask-claim already."""
    words = [*_words(tool.get("baseCommand")), *_words(tool.get("arguments"))]
    first = words[0] if words else ""
    return first.rpartition("/")[2] == "dask-claim" or any("dask-claim -- " in w for w in words)


def wrap(tool: Any, scope: Scope) -> None:
    """Make dask-claim run the tool's command."""
    if scope.effective(SHELL) and _is_shell_text(tool):
        _wrap_shell(tool)
        return
    command = tool.get("baseCommand")
    before = ["dask-claim", "--"]
    if isinstance(command, list) and command:
        for index, word in enumerate(before):
            comments.insert(command, index, None, word)
    elif isinstance(command, str):
        comments.replace(tool, "baseCommand", [*before, command])
    else:
        _set(tool, "baseCommand", before)


def _wrap_shell(tool: Any) -> None:
    command = tool.get("baseCommand")
    words = list(command) if isinstance(command, list) else [command] if command else []
    if "baseCommand" in tool:
        comments.take(tool, "baseCommand")
    if not isinstance(tool.get("arguments"), list):
        _set(tool, "arguments", [])
    arguments = tool["arguments"]
    placed: list[dict[str, Any]] = [{"valueFrom": _BEFORE, "shellQuote": False}]
    # In a baseCommand nothing is evaluated; in an argument it would be.
    placed += [{"valueFrom": re.sub(r"\$(?=[({])", r"\\$", str(word))} for word in words]
    for index, binding in enumerate(placed):
        comments.insert(arguments, index, None, {"position": _FIRST, **binding})
    last = {"position": _LAST, "valueFrom": _AFTER, "shellQuote": False}
    comments.append(arguments, None, last)


def _is_shell_text(tool: Mapping[str, Any]) -> bool:
    """Whether anything reaches the shell unquoted; else the first command is all there is."""
    return any(binding.get("shellQuote") is False for binding in _bindings(tool))


def _bindings(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if "shellQuote" in value:
            yield value
        for key in value:
            yield from _bindings(value[key])
    elif isinstance(value, list):
        for item in value:
            yield from _bindings(item)


def _set(tool: Any, key: str, value: Any) -> None:
    if key in tool:
        comments.replace(tool, key, value)
        return
    following = (
        ("arguments", "inputs", "outputs") if key == "baseCommand" else ("inputs", "outputs")
    )
    index = next((i for i, name in enumerate(tool) if name in following), len(tool))
    comments.insert(tool, index, key, value)


def _words(value: Any) -> list[str]:
    found = []
    for item in value if isinstance(value, list) else [value]:
        text = item.get("valueFrom") if isinstance(item, Mapping) else item
        if isinstance(text, str):
            found.append(text)
    return found
