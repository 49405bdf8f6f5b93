"""`dask-claim cwl check`: what each step claims, and what would go wrong where."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask_claim.claim.model import Claim
from dask_claim.cwl.claimed import Claimed, read_claim
from dask_claim.cwl.document import Document, Place
from dask_claim.cwl.expressions import NUMBERS, Unreadable, is_expression
from dask_claim.cwl.findings import found_in
from dask_claim.cwl.library import Library
from dask_claim.cwl.requirements import CLAIM, ENV, entries
from dask_claim.cwl.tool import defined_claim
from dask_claim.cwl.translate import check_version
from dask_claim.cwl.walk import Call, calls
from dask_claim.errors import ClaimError, Fault
from dask_claim.redact import redact


@dataclass(frozen=True)
class Finding:
    """One thing that is, or may go, wrong."""

    level: str
    """`error`: it does not work; `warning`: it does not do what was meant somewhere; `note`: it
    may be meant."""

    place: Place
    text: str


@dataclass(frozen=True)
class StepClaim:
    """What one tool claims in one place that it is run from."""

    step: str
    place: Place
    fields: dict[str, Any]


@dataclass
class Report:
    """What there is to say about one document."""

    file: str
    claims: list[StepClaim] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        wrong = any(finding.level == "error" for finding in self.findings)
        return 78 if wrong else 0

    def add(self, level: str, place: Place, text: str) -> None:
        finding = Finding(level, place, text)
        if finding not in self.findings:
            self.findings.append(finding)

    def as_json(self) -> str:
        content = {
            "file": self.file,
            "claims": [
                {"step": claim.step, "place": str(claim.place), "claim": claim.fields}
                for claim in self.claims
            ],
            "findings": [
                {"level": one.level, "place": str(one.place), "text": one.text}
                for one in self.findings
            ],
        }
        return json.dumps(redact(content), indent=2, ensure_ascii=False)

    def as_text(self) -> str:
        lines = []
        for claim in self.claims:
            lines.append(f"{claim.step}  ({claim.place})")
            fields = redact(claim.fields)
            assert isinstance(fields, dict)
            width = max((len(name) for name in fields), default=0)
            lines += [f"  {name:<{width}}  {_cell(value)}" for name, value in fields.items()]
        if not self.claims:
            lines.append("Nothing here claims a cluster.")
        lines += [str(redact(f"{one.place}: {one.level}: {one.text}")) for one in self.findings]
        return "\n".join(lines)


def check(path: Path) -> Report:
    """Look at the document at `path` and all that it runs. Raises CwlError if it is unreadable."""
    library = Library()
    document = library.open(path, str(path))
    check_version(document)
    report = Report(str(path))
    for call in calls(document, library):
        _look(call, report, document)
    order = ("error", "warning", "note")
    report.findings.sort(key=lambda one: (order.index(one.level), one.place.file, one.place.line))
    return report


def _look(call: Call, report: Report, document: Document) -> None:
    process, kind = call.process, call.process.get("class")
    for remote in call.unread:
        report.add("warning", remote, "is not on this machine, and was not looked into")
    if kind == "Workflow":
        return
    scope = call.outer.within(process, call.home.name)
    if kind != "CommandLineTool":
        for own in entries(process, "requirements", call.home.name):
            if own.kind == CLAIM:
                text = f"{own.written} is for a CommandLineTool; {kind} runs no command"
                report.add("error", own.place, text)
        return
    written = defined_claim(scope)
    entry = scope.effective(CLAIM)
    if entry is None and written is None:
        return
    place = entry.place if entry else call.home.place(process)
    claimed = read_claim(entry, process, scope) if entry else Claimed({}, frozenset())
    for where, fault in claimed.faults:
        report.add("error", where, fault)
    fields = None
    if written is not None:
        fields = _read_back(written)
        environment = scope.effective(ENV)
        where = environment.place if environment else place
        for wrong in _faults(written):
            report.add("error", where, f"DASK_CLAIM: {wrong}")
    report.claims.append(StepClaim(call.name, place, claimed.fields if fields is None else fields))
    known = {k: v for k, v in claimed.fields.items() if k not in claimed.dynamic}
    for level, where, text in found_in(call, scope, place, fields or known):
        report.add(level, where, text)
    if entry and call.home.version != document.version and call.home is not document:
        text = f"{call.home.name} is CWL {call.home.version}, {document.name} {document.version}"
        report.add("error", place, f"{text}; bring both to one version before translating")


def _read_back(written: str) -> dict[str, Any]:
    """What DASK_CLAIM says, where it is no expression."""
    try:
        # A reference in the place of a number is as good as a text here.
        return dict(json.loads(re.sub(r'(":\s*)(\$\([^()"\\]*\))(?=\s*[,}])', r'\1"\2"', written)))
    except (ValueError, TypeError):
        return {"DASK_CLAIM": written.strip()}


def _faults(written: str) -> tuple[Fault, ...]:
    """What is wrong with a DASK_CLAIM that no runner evaluates."""
    try:
        constant = _with_numbers(written)
        if not is_expression(constant):
            Claim.model_validate_json(constant)
    except (ClaimError, Unreadable) as error:
        return error.faults if isinstance(error, ClaimError) else (Fault((), None, str(error)),)
    return ()


def _with_numbers(written: str) -> str:
    """The claim as it might be at run time, where only references are open that are numbers."""
    for name in NUMBERS:
        written = written.replace(f"$({name})", "1")
    return written


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
