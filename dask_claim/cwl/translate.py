"""A CWL document with claims → the same document for any conforming runner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dask_claim.claim.units import web_address
from dask_claim.cwl import comments
from dask_claim.cwl.document import VERSIONS, CwlError, Document, Place
from dask_claim.cwl.embed import embed
from dask_claim.cwl.library import Library, rebase
from dask_claim.cwl.requirements import CLAIM, Scope, demote, drop, entries
from dask_claim.cwl.tool import defined_claim, set_gateway, translate_tool
from dask_claim.cwl.walk import Call, any_tool, calls, roots, steps_of


def translate(
    path: Path,
    output: Path | None = None,
    as_json: bool = False,
    gateway_url: str | None = None,
    keep_hint: bool = False,
) -> str:
    """Return the translated text of the document at `path`.

    `output` is where the text will be: relative references are made to hold from there; by default
    they hold beside the original. `keep_hint` leaves the requirement in it, as a hint: a runner
    that knows it makes a cluster of its own. Raises CwlError.
    """
    if gateway_url is not None:
        try:
            gateway_url = web_address(gateway_url)
        except ValueError as error:
            raise CwlError([(Place("--gateway-url"), f"{gateway_url!r} {error}")]) from None
    library = Library()
    document = library.open(path, str(path))
    check_version(document)
    _Translation(library, document, gateway_url, keep_hint).run()
    if output is not None:
        rebase(document.root, document.folder, output.resolve().parent)
    return document.write(as_json)


def check_version(document: Document) -> None:
    if document.version not in VERSIONS:
        found = f"cwlVersion {document.version}" if document.version else "no cwlVersion"
        reason = f"has {found}; dask-claim reads {', '.join(VERSIONS)}"
        raise CwlError([(document.place(document.root, "cwlVersion"), reason)])


@dataclass
class _Translation:
    library: Library
    document: Document
    gateway_url: str | None
    keep_hint: bool
    faults: list[tuple[Place, str]] = field(default_factory=list)
    done: set[int] = field(default_factory=set)
    contexts: dict[int, set[Any]] = field(default_factory=dict)

    def run(self) -> None:
        # A process that several steps run stays one while the steps give it the same; else each
        # step gets a copy of its own.
        for call in calls(self.document, self.library):
            self.contexts.setdefault(id(call.process), set()).add(call.outer.key())
        for process in roots(self.document):
            self._process(process, Scope(), self.document)
        # Where every step got a copy, nothing is around the original any more.
        for process in roots(self.document):
            self._process(process, Scope(), self.document)
        if self.faults:
            raise CwlError(self.faults)
        _each_mapping(self.document.root, demote if self.keep_hint else drop)

    def _process(self, process: Any, outer: Scope, home: Document) -> None:
        if id(process) in self.done:
            return
        self.done.add(id(process))
        self._shape(process, home)
        scope = outer.within(process, home.name)
        kind = process.get("class")
        if kind == "CommandLineTool":
            entry = scope.effective(CLAIM)
            if entry:
                try:
                    translate_tool(process, scope, entry, self.document.version)
                except CwlError as error:
                    self.faults += error.faults
            scope = outer.within(process, home.name)
            if self.gateway_url is not None and defined_claim(scope) is not None:
                set_gateway(process, scope, self.gateway_url, home.name)
        elif kind == "Workflow":
            for step in steps_of(process):
                self._shape(step, home)
                self._step(step, scope.within(step, home.name), home)
        else:
            for entry in entries(process, "requirements", home.name):
                if entry.kind == CLAIM:
                    reason = f"{entry.written} is for a CommandLineTool; {kind} runs no command"
                    self.faults.append((entry.place, reason))

    def _changes(self, scope: Scope) -> bool:
        """Whether a tool with all this around it will be another one."""
        named = self.gateway_url is not None and defined_claim(scope) is not None
        return named or scope.effective(CLAIM) is not None

    def _shape(self, owner: Any, home: Document) -> None:
        for section in ("requirements", "hints"):
            if not isinstance(owner.get(section) or [], (Mapping, list)):
                reason = f"{section} is neither an object nor a list"
                raise CwlError([(home.place(owner, section), reason)])
            for entry in entries(owner, section, home.name):
                if entry.kind == CLAIM and not isinstance(entry.content, Mapping):
                    raise CwlError([(entry.place, f"{entry.written} is not an object")])

    def _step(self, step: Any, scope: Scope, home: Document) -> None:
        run = step.get("run")
        if isinstance(run, Mapping):
            self._process(run, scope, home)
            return
        place = home.place(step, "run")
        try:
            found = self.library.find(str(run), home, place)
            if found is None:
                entry = scope.effective(CLAIM)
                if entry:
                    reason = f"run: {run} is not on this machine, so it cannot be given the claim"
                    raise CwlError([(place, reason)])
                return
            process, where = found
            call = Call(process, scope, where)
            if not any_tool(call, self.library, self._changes):
                return
            if where is self.document and len(self.contexts[id(process)]) < 2:
                self._process(process, scope, where)
                return
            if where is not self.document and where.version != self.document.version:
                reason = (
                    f"{where.name} is CWL {where.version or 'of no version'}, this document "
                    f"{self.document.version}; bring both to one version first (cwl-upgrader does)"
                )
                raise CwlError([(place, reason)])
            copy = embed(process, where, self.document, place)
            comments.replace(step, "run", copy)
            step.fa.set_block_style()
            self._embedded(copy, scope, where)
        except CwlError as error:
            self.faults += error.faults

    def _embedded(self, copy: Any, scope: Scope, where: Document) -> None:
        """Translate a copy; what it refers to within its own file comes along."""
        self._process(copy, scope, where)
        if where is self.document:
            return
        if copy.get("class") == "Workflow":
            for step in steps_of(copy):
                run = step.get("run")
                if isinstance(run, str) and run.startswith("#"):
                    found = self.library.find(run, where, where.place(step, "run"))
                    assert found is not None
                    inner = embed(found[0], where, self.document, where.place(step, "run"))
                    comments.replace(step, "run", inner)
                    step.fa.set_block_style()
                    self._embedded(inner, scope.within(copy, where.name), where)


def _each_mapping(node: Any, change: Callable[[Any], None]) -> None:
    if isinstance(node, list):
        for item in node:
            _each_mapping(item, change)
    elif isinstance(node, Mapping):
        change(node)
        for item in list(node.values()):
            _each_mapping(item, change)
