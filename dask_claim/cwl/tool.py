"""One command-line tool that claims a cluster → one that any runner runs, under dask-claim."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dask_claim.cwl.document import CwlError, Document, Finding, Keys, Place
from dask_claim.cwl.entries import (
    SHARE_VALUE,
    SHARE_VARIABLE,
    entries,
    insert,
    with_entry,
    with_share_input,
)
from dask_claim.cwl.requirements import (
    CLAIM,
    DOCKER,
    ENV,
    IMPORT,
    NETWORK,
    REQUIRED,
    SCRIPT,
    SHELL,
    Entry,
    Scope,
    add_requirement,
    read_claim,
    write_value,
)

VARIABLE, GATEWAY_VARIABLE = "DASK_CLAIM", "DASK_CLAIM_GATEWAY_URL"

TEMPORARY, PERMANENT = (75,), (64, 70, 78, 124, 126, 127)
"""What the exit status of dask-claim means to a runner."""

NO_NETWORK = "networkAccess: false, so in a container the tool reaches no gateway or scheduler"

_FIRST, _LAST = -1_000_000, 1_000_000

# With ShellCommandRequirement a runner joins everything to one line for a shell: pipes, `cd x &&`,
# redirections and builtins are part of it. All of it is to run on the cluster, so the line becomes
# the text of a here-document, and dask-claim starts the shell that runs it. Standard input stays
# the command's: only `read` reads the here-document. No `$(…)`, which CWL would take for its own.
_END = "END_OF_THE_COMMAND_FOR_DASK_CLAIM"
_BEFORE = (
    "dask_claim_command=; while IFS= read -r dask_claim_line; do "
    'dask_claim_command="$dask_claim_command$dask_claim_line\n"; '
    f"done <<'{_END}'\n"
)
_AFTER = f'\n{_END}\nexec %s -- /bin/sh -c "$dask_claim_command"'


@dataclass(frozen=True)
class Tool:
    """A process that is no workflow, in one of the places that it is run from."""

    content: dict[str, Any]
    keys: Keys
    scope: Scope
    """What holds for it: its own requirements and those around it."""

    steps: tuple[str, ...]
    """Names of the steps that lead to it."""

    document: Document

    @property
    def place(self) -> Place:
        return self.document.place(self.keys)

    @property
    def name(self) -> str:
        """The steps that lead to it, else its id."""
        return "/".join(self.steps) or id_of(self.content) or "the tool"

    @property
    def inputs(self) -> dict[str, Any] | None:
        """Name of each input → its type; None where other files have some of them."""
        declared = entries(self.content.get("inputs"), "id")
        types = {name: i.get("type") if isinstance(i, dict) else i for _, name, i in declared}
        return None if IMPORT in types else types

    @property
    def image(self) -> str | None:
        """The image that it runs in itself, where a registry has it."""
        return str(self.scope.fields(DOCKER).get("dockerPull") or "") or None

    def variable(self, name: str) -> str | None:
        """The value of a variable that a runner gives it."""
        for _, defined, item in entries(self.scope.fields(ENV).get("envDef"), "envName"):
            value = item.get("envValue") if isinstance(item, dict) else item
            if defined == name and value is not None:
                return str(value)
        return None

    @property
    def is_wrapped(self) -> bool:
        """Whether its command runs under dask-claim already."""
        words = [*_words(self.content.get("baseCommand")), *_words(self.content.get("arguments"))]
        first = (words[0].split() if words else []) or [""]
        return first[0].rpartition("/")[2] == "dask-claim" or _BEFORE in words


def id_of(process: Mapping[str, Any]) -> str:
    """The id of anything, without the file and the `#` that it may begin with."""
    return str(process.get("id", "")).rpartition("#")[2]


def advise(document: Document) -> str:
    """What to do where a part of a document is in another file."""
    if "$graph" in document.root:
        how = f"cwltool --pack {document.name} > packed.cwl, with claims under hints"
    else:
        how = f"cwl-pack {document.name} > packed.cwl"
    return f"pack the document first ({how})"


def read_requirement(tool: Tool, entry: Entry) -> tuple[dict[str, Any], list[tuple[Place, str]]]:
    """The claim that `entry` makes for a tool, expressions as they were written, and its faults."""
    if not isinstance(entry.fields, Mapping):
        return {}, [(entry.place, f"{entry.written} is not an object")]
    written = tool.document.written(entry.fields, entry.keys)
    fields, faults = read_claim(entry.fields, tool.inputs, tool.image, written)
    return fields, [
        (tool.document.place((*entry.keys, *fault.path)), f"{entry.written}: {fault}")
        for fault in faults
    ]


def translate_tool(
    tool: Tool, gateway_url: str | None, findings: list[Finding], share: bool = False
) -> dict[str, Any]:
    """Return the tool for any runner. Raises CwlError; adds warnings to `findings`.

    `share`: whether an input of it is to say with which other runs it shares its cluster.
    """
    entry, scope, content = tool.scope.effective(CLAIM), tool.scope, tool.content
    existing = tool.variable(VARIABLE)
    if entry is None and existing is None:
        return content
    if imported := scope.effective(IMPORT):
        raise CwlError([(imported.place, f"{IMPORT} of another file; {advise(tool.document)}")])
    values, script = {}, False
    if entry and (existing is None or entry.section == "requirements"):
        fields, faults = read_requirement(tool, entry)
        if faults:
            raise CwlError(faults)
        values[VARIABLE], script = write_value(fields, tool.inputs)
        if existing is not None and existing.strip() != values[VARIABLE]:
            reason = f"{entry.written} and {VARIABLE} in EnvVarRequirement differ; keep one of them"
            raise CwlError([(entry.place, reason)])
    if gateway_url is not None:
        values[GATEWAY_VARIABLE] = _escape(gateway_url)
    if share:
        values[SHARE_VARIABLE] = SHARE_VALUE
    values = {name: text for name, text in values.items() if tool.variable(name) != text}
    content = _set_variables(tool, values) if values else content
    if share:
        content = with_share_input(content)
    if entry is None:
        return content
    if script and scope.effective(SCRIPT, REQUIRED) is None:
        fields = dict(scope.fields(SCRIPT))
        content = add_requirement(content, "InlineJavascriptRequirement", fields)
    # CWL v1.0 has no NetworkAccess: there a tool may use the network.
    network, allowed = scope.effective(NETWORK), scope.fields(NETWORK).get("networkAccess", True)
    required = scope.effective(NETWORK, REQUIRED)
    if tool.document.version != "v1.0" and allowed is True and required is None:
        content = add_requirement(content, "NetworkAccess", {"networkAccess": True})
    if network and allowed is False:
        findings.append(Finding("warning", network.place, NO_NETWORK))
    return _add_codes(content if tool.is_wrapped else _wrap(content, scope))


def _set_variables(tool: Tool, values: Mapping[str, str]) -> dict[str, Any]:
    """The tool with these variables in an EnvVarRequirement of its own.

    A new one hides any around it, so it takes their variables over.
    """
    entry = tool.scope.effective(ENV)
    content: Any = entry.fields if entry else {}
    definitions = content.get("envDef") or {} if isinstance(content, dict) else None
    if not isinstance(definitions, (dict, list)):
        place = entry.place if entry else tool.place
        raise CwlError([(place, "EnvVarRequirement is not an object with an envDef")])
    for name, text in values.items():
        definitions = with_entry(definitions, "envName", name, {"envValue": text}, "envValue")
    written = entry.written if entry else "EnvVarRequirement"
    return add_requirement(tool.content, written, {**content, "envDef": definitions})


def _add_codes(tool: dict[str, Any]) -> dict[str, Any]:
    """Classify dask-claim's statuses for the runner, where the author has not classified them."""
    names = ("successCodes", "temporaryFailCodes", "permanentFailCodes")
    listed = {name: tool[name] for name in names if isinstance(tool.get(name), list)}
    classified = [code for codes in listed.values() for code in codes]
    for name, codes in (("temporaryFailCodes", TEMPORARY), ("permanentFailCodes", PERMANENT)):
        if new := [code for code in codes if code not in classified]:
            tool = insert(tool, name, [*listed.get(name, []), *new])
    return tool


def _wrap(tool: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """Make dask-claim run the tool's command; quietly where its stderr is an output."""
    launcher = ["dask-claim", "--quiet"] if "stderr" in tool else ["dask-claim"]
    command = tool.get("baseCommand")
    words = list(command) if isinstance(command, list) else [command] if command else []
    if scope.effective(SHELL) is None:
        return insert(tool, "baseCommand", [*launcher, "--", *words])
    placed: list[Any] = [{"position": _FIRST, "valueFrom": _BEFORE, "shellQuote": False}]
    for word in words:  # in a baseCommand nothing is evaluated; in an argument it would be
        placed.append({"position": _FIRST, "valueFrom": _escape(str(word))})
    after = _AFTER % " ".join(launcher)
    last = {"position": _LAST, "valueFrom": after, "shellQuote": False}
    arguments = tool.get("arguments")
    listed = arguments if isinstance(arguments, list) else []
    tool = {key: item for key, item in tool.items() if key != "baseCommand"}
    return insert(tool, "arguments", [*placed, *listed, last])


def _escape(text: str) -> str:
    """A text in which a runner evaluates nothing."""
    return re.sub(r"(\\*)\$(?=[({])", r"\1\1\\$", text)


def _words(value: Any) -> list[str]:
    """The texts of a baseCommand or of arguments."""
    items = value if isinstance(value, list) else [value]
    texts = [item.get("valueFrom") if isinstance(item, Mapping) else item for item in items]
    return [text for text in texts if isinstance(text, str)]
