"""`dask-claim cwl check`: what each step claims, and what would go wrong where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask_claim.cwl.document import Finding, Place, read_document
from dask_claim.cwl.requirements import CLAIM, ENV, NETWORK, parse_value, read_claim
from dask_claim.cwl.tool import NO_NETWORK, VARIABLE, Tool, read_requirement
from dask_claim.cwl.translate import Walk
from dask_claim.redact import redact


@dataclass
class Report:
    """What there is to say about one document."""

    file: str
    claims: list[tuple[str, Place, dict[str, Any]]] = field(default_factory=list)
    """What one tool claims in one place that it is run from: step, place, fields."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        return 78 if any(finding.level == "error" for finding in self.findings) else 0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON types, secrets masked."""
        claims = [{"step": s, "place": str(p), "claim": fields} for s, p, fields in self.claims]
        findings = [
            {"level": one.level, "place": str(one.place), "text": one.text} for one in self.findings
        ]
        shown: Any = redact({"file": self.file, "claims": claims, "findings": findings})
        return dict(shown)


def check(name: str | Path) -> Report:
    """Look at the document called `name`. Raises CwlError if it is unreadable."""
    document = read_document(name)
    report = Report(document.name)

    def visit(tool: Tool) -> dict[str, Any]:
        walk.findings += _findings(tool, report)
        return tool.content

    walk = Walk(document, visit, beyond="warning")
    walk.root()
    unique = dict.fromkeys(walk.findings)
    report.findings = sorted(unique, key=lambda one: (one.level, one.place.line))
    return report


def _findings(tool: Tool, report: Report) -> Iterator[Finding]:
    """Yield what is wrong with a tool that claims; add what it claims to the report."""
    entry, written = tool.scope.effective(CLAIM), tool.variable(VARIABLE)
    place = entry.place if entry else tool.place
    fields: dict[str, Any] = {}
    if entry:
        fields, faults = read_requirement(tool, entry)
        for where, fault in faults:
            yield Finding("error", where, fault)
    environment = tool.scope.effective(ENV)
    if written is not None and environment:
        content = parse_value(written)
        fields = content or {VARIABLE: written.strip()}
        for wrong in read_claim(content, tool.inputs)[1] if content else ():
            yield Finding("error", environment.place, f"{VARIABLE}: {wrong}")
        if not tool.is_wrapped:
            text = f"{VARIABLE} is set, and the command does not start with dask-claim --"
            yield Finding("error", environment.place, text)
    elif entry:
        text = f"{entry.written}: only Calrissian reads it, and cwltool and toil refuse it under "
        text += "requirements; dask-claim cwl translate makes a document for every runner"
        yield Finding("warning", place, text)
    else:
        return
    report.claims.append((tool.name, place, fields))
    network = tool.scope.effective(NETWORK)
    allowed = tool.scope.fields(NETWORK).get("networkAccess")
    if network and allowed is False:
        yield Finding("error", network.place, NO_NETWORK)
    elif written is not None and allowed is None and tool.document.version != "v1.0":
        text = "no NetworkAccess: in a container the tool reaches no gateway or scheduler"
        yield Finding("error", place, text)
