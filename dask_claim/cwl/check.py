"""`dask-claim cwl check`: what each step claims, and what would go wrong where."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask_claim.cwl.claimed import parsed_value, read_claim
from dask_claim.cwl.document import Place, read_document
from dask_claim.cwl.requirements import CLAIM, ENV, NETWORK
from dask_claim.cwl.tool import NO_NETWORK, VARIABLE, Tool, read_requirement
from dask_claim.cwl.translate import Walk
from dask_claim.redact import redact

_TRANSLATE = "dask-claim cwl translate makes one for every runner"


@dataclass(frozen=True)
class Finding:
    """One thing that is, or may go, wrong."""

    level: str
    """`error`: it does not work; `warning`: it does not do what was meant somewhere."""

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
        lines = [] if self.claims else ["Nothing here claims a cluster."]
        for claim in self.claims:
            lines.append(f"{claim.step}  ({claim.place})")
            fields = redact(claim.fields)
            assert isinstance(fields, dict)
            width = max(map(len, fields), default=0)
            for name, value in fields.items():
                shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                lines.append(f"  {name:<{width}}  {shown}")
        lines += [str(redact(f"{one.place}: {one.level}: {one.text}")) for one in self.findings]
        return "\n".join(lines)


def check(name: str | Path) -> Report:
    """Look at the document called `name`. Raises CwlError if it is unreadable."""
    document = read_document(name)
    report = Report(document.name)
    findings: list[Finding] = []

    def visit(tool: Tool) -> dict[str, Any]:
        if claim := _claim(tool):
            report.claims.append(claim)
            findings.extend(_findings(tool, claim))
        return tool.content

    walk = Walk(document, visit)
    walk.root()
    findings += [Finding("error", place, text) for place, text in walk.faults]
    others = (*walk.unreached, *walk.warnings)
    findings += [Finding("warning", place, text) for place, text in others]
    report.findings = sorted(dict.fromkeys(findings), key=lambda one: (one.level, one.place.line))
    return report


def _claim(tool: Tool) -> StepClaim | None:
    """What the tool claims: by its DASK_CLAIM, else by its requirement."""
    entry, written = tool.scope.effective(CLAIM), tool.variable(VARIABLE)
    place = entry.place if entry else tool.place
    if written is not None:
        return StepClaim(tool.name, place, parsed_value(written) or {VARIABLE: written.strip()})
    return StepClaim(tool.name, place, read_requirement(tool, entry)[0]) if entry else None


def _findings(tool: Tool, claim: StepClaim) -> Iterator[Finding]:
    entry, written = tool.scope.effective(CLAIM), tool.variable(VARIABLE)
    environment = tool.scope.effective(ENV)
    if entry:
        for place, fault in read_requirement(tool, entry)[1]:
            yield Finding("error", place, fault)
    if entry and entry.section == "requirements":
        text = f"{entry.written} under requirements: cwltool and toil refuse the document"
        yield Finding("warning", entry.place, f"{text}; {_TRANSLATE}")
    elif entry and written is None:
        text = f"{entry.written} under hints: only Calrissian reads it; other runners claim nothing"
        yield Finding("warning", entry.place, f"{text}; {_TRANSLATE}")
    if written is not None and environment:
        content = parsed_value(written)
        for wrong in read_claim(content, tool.inputs)[1] if content else ():
            yield Finding("error", environment.place, f"{VARIABLE}: {wrong}")
        if not tool.is_wrapped:
            text = f"{VARIABLE} is set, and the command does not start with dask-claim --"
            yield Finding("error", environment.place, text)
    elif "image" not in claim.fields and claim.fields.get("provider", "auto") in (
        "auto",
        "gateway",
    ):
        text = "no image, here or in a DockerRequirement: workers get the gateway's own"
        yield Finding("warning", claim.place, text)
    yield from _network(tool, claim)


def _network(tool: Tool, claim: StepClaim) -> Iterator[Finding]:
    network = tool.scope.effective(NETWORK)
    allowed = tool.scope.fields(NETWORK).get("networkAccess")
    if tool.document.version == "v1.0":
        return  # it has no NetworkAccess, and lets every tool use the network
    if network and allowed is False:
        yield Finding("error", network.place, NO_NETWORK)
    elif allowed is None:
        level = "warning" if tool.variable(VARIABLE) is None else "error"
        text = "no NetworkAccess: in a container the tool reaches no gateway"
        yield Finding(level, claim.place, f"{text}; dask-claim cwl translate adds it")
