"""`dask-claim --` before the command of a tool, however the tool builds its command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dask_claim.cwl import comments
from dask_claim.cwl.requirements import SHELL, Scope

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
