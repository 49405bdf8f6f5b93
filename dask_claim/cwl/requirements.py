"""Requirements and hints: which of them hold for a tool, and the claim among them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dask_claim.claim.fields import FIELDS, MAPPINGS, Path, nested
from dask_claim.claim.spellings import Reading, plain_name, read
from dask_claim.claim.validation import check, cross_faults, respell
from dask_claim.cwl import expressions
from dask_claim.cwl.document import CwlError, Document, Keys, Place
from dask_claim.cwl.entries import entries, insert, with_entry
from dask_claim.errors import Fault
from dask_claim.redact import redact

CLAIM = "daskgatewayrequirement"
ENV = "envvarrequirement"
DOCKER = "dockerrequirement"
NETWORK = "networkaccess"
SCRIPT = "inlinejavascriptrequirement"
SHELL = "shellcommandrequirement"
IMPORT = "$import"

REQUIRED = ("requirements",)
SECTIONS = (*REQUIRED, "hints")


@dataclass(frozen=True)
class Entry:
    """One requirement or hint as it stands in a document."""

    kind: str
    """Its class in lower case, without namespace."""

    written: str
    """Its class as written."""

    fields: Any
    """Its content, without `class`."""

    section: str
    """`requirements` or `hints`."""

    keys: Keys
    place: Place


def requirements_of(owner: Any, keys: Keys, document: Document) -> Iterator[Entry]:
    """The requirements and hints of a tool, step or workflow. Raises CwlError."""
    for section in SECTIONS:
        at, content = (*keys, section), owner.get(section) or {}
        if not isinstance(content, (dict, list)):
            reason = f"{section} is neither an object nor a list"
            raise CwlError([(document.place(at), reason)])
        for key, written, item in entries(content, "class"):
            fields = {} if item is None else item
            if isinstance(content, list):
                fields = {name: value for name, value in item.items() if name != "class"}
            place = document.place((*at, key))
            yield Entry(_kind(written), written, fields, section, (*at, key), place)


def _kind(written: object) -> str:
    # Calrissian's own module name may be part of it: calrissian.DaskGatewayRequirement.
    plain = plain_name(written).rpartition(".")[2]
    return CLAIM if plain.endswith(CLAIM) else plain


@dataclass(frozen=True)
class Scope:
    """What holds for a process: its own requirements and those around it."""

    entries: tuple[Entry, ...] = ()
    """Any requirement before any hint, the innermost first."""

    def within(self, owner: Any, keys: Keys, document: Document) -> Scope:
        all_entries = [*requirements_of(owner, keys, document), *self.entries]
        return Scope(tuple(sorted(all_entries, key=lambda entry: entry.section == "hints")))

    def effective(self, kind: str, sections: tuple[str, ...] = SECTIONS) -> Entry | None:
        """The entry that holds."""
        of_kind = (entry for entry in self.entries if entry.kind == kind)
        return next((entry for entry in of_kind if entry.section in sections), None)

    def fields(self, kind: str) -> Mapping[str, Any]:
        """The fields of the entry that holds; empty where there is none."""
        entry = self.effective(kind)
        return entry.fields if entry and isinstance(entry.fields, Mapping) else {}


def add_requirement(tool: Mapping[str, Any], written: str, fields: Any) -> dict[str, Any]:
    """Return `tool` with this among its requirements, in the place of the one of that class.

    A new section has the form, object or list, that the hints have.
    """
    content = tool.get("requirements") or ([] if isinstance(tool.get("hints"), list) else {})
    classes = [each for _, each, _ in entries(content, "class") if _kind(each) == _kind(written)]
    content = with_entry(content, "class", [*classes, written][0], fields)
    return insert(tool, "requirements", content)


def remove_claims(owner: dict[str, Any]) -> dict[str, Any]:
    """Return a process or step without its claims, and without a section that is empty then."""
    for section in SECTIONS:
        content: Any = owner.get(section)
        claims = [key for key, kind, _ in entries(content, "class") if _kind(kind) == CLAIM]
        if not claims:
            continue
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        kept = {key: item for key, item in pairs if key not in claims}
        left = kept if isinstance(content, dict) else list(kept.values())
        owner = {**owner, section: left}
        if not left:
            del owner[section]
    return owner


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
    if ("share",) in values:
        hint = "set DASK_CLAIM_SHARE for the run, or translate with --share"
        faults.append(Fault(("share",), None, "is for who runs the document to say", hint))
    faults += cross_faults(checked.values, unsure)
    faults = [respell(fault, reading.written) for fault in faults]
    fields = nested(values)
    return {name: fields[name] for name in FIELDS if name in fields}, [
        *reading.faults,
        *checked.faults,
        *faults,
    ]


def write_value(fields: Mapping[str, Any], inputs: Mapping[str, Any] | None) -> tuple[str, bool]:
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


def parse_value(text: str) -> dict[str, Any] | None:
    """The content of a DASK_CLAIM; None where it takes a runner to evaluate it."""
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
