"""A CWL document with claims → the same document for any conforming runner."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dask_claim.claim.units import web_address
from dask_claim.cwl.document import CwlError, Document, Finding, Keys, Place, read_document
from dask_claim.cwl.edits import edit
from dask_claim.cwl.entries import (
    entries,
    passing_share,
    takes_share,
    with_contents,
    with_share_input,
)
from dask_claim.cwl.requirements import CLAIM, IMPORT, REQUIRED, Scope, remove_claims
from dask_claim.cwl.tool import Tool, advise, id_of, translate_tool

_DEEPEST = 30


def translate(
    name: str | Path,
    output: Path | None = None,
    as_json: bool = False,
    gateway_url: str | None = None,
    share: bool = False,
    warn: Callable[[str], None] = lambda text: None,
) -> str:
    """Return the translated text of the document called `name`. Raises CwlError.

    `output` is where the text will be: relative references are made to hold from there; by default
    they hold beside the original. With `share` an input, `dask_claim_share`, reaches all tools that
    claim a cluster. `warn` is called for what stays although it may be wrong.
    """
    if gateway_url is not None:
        try:
            gateway_url = web_address(gateway_url)
        except ValueError as error:
            raise CwlError([(Place("--gateway-url"), f"{gateway_url!r} {error}")]) from None
    document = read_document(name)
    walk = Walk(document, lambda tool: translate_tool(tool, gateway_url, walk.findings, share))
    root = walk.root()
    if faults := [(one.place, one.text) for one in walk.findings if one.level == "error"]:
        raise CwlError(faults)
    for one in dict.fromkeys(walk.findings):
        warn(f"{one.place}: {one.text}")
    if output is not None:
        root = _rebase(document, root, output.resolve().parent)
    if as_json or document.text.lstrip()[:1] == "{":
        return json.dumps(root, indent=2, ensure_ascii=False) + "\n"
    return edit(document, root, warn)


@dataclass
class Walk:
    """Visits each command-line tool in each place that it is run from, the outer before the inner.

    A tool that several steps run is visited once for each, and has to be the same each time.
    """

    document: Document
    visit: Callable[[Tool], dict[str, Any]]
    """Returns the tool as it is to be; what it raises is kept in `findings`."""

    beyond: str = "error"
    """The level of a claim that holds for a step of another file."""

    findings: list[Finding] = field(default_factory=list)
    _done: dict[Keys, dict[str, Any]] = field(default_factory=dict)

    def root(self) -> Any:
        """Return the document's value with what the visits returned."""
        processes = self._processes()
        run = {
            str(step.get("run")).rpartition("#")[2]
            for _, process in processes
            for _, _, step in entries(process.get("steps"), "id")
            if isinstance(step, dict)
        }
        # What no step runs comes first, and `main` before all: the outer one decides.
        processes.sort(key=lambda each: (id_of(each[1]) != "main", id_of(each[1]) in run))
        for keys, process in processes:
            if keys not in self._done:
                self._done[keys] = self._process(process, keys, Scope(), ())
        if () in self._done:
            return self._done[()]
        done = {keys[1]: process for keys, process in self._done.items()}
        return {**self.document.root, "$graph": with_contents(self.document.root["$graph"], done)}

    def _processes(self) -> list[tuple[Keys, dict[str, Any]]]:
        graph = self.document.root.get("$graph")
        if not isinstance(graph, list):
            return [((), self.document.root)]
        pairs = enumerate(graph)
        return [(("$graph", index), item) for index, item in pairs if isinstance(item, dict)]

    def _process(
        self, process: dict[str, Any], keys: Keys, outer: Scope, steps: tuple[str, ...]
    ) -> dict[str, Any]:
        if len(steps) > _DEEPEST:
            raise CwlError([(self.document.place(keys), "runs itself, or is nested too deeply")])
        scope, kind = outer.within(process, keys, self.document), process.get("class")
        if kind == "Workflow":
            content: Any = process.get("steps")
            changed = {}
            for key, name, step in entries(content, "id"):
                at = (*keys, "steps", key)
                changed[key] = self._step(step, at, scope, (*steps, name))
            if changed:
                process = {**process, "steps": with_contents(content, changed)}
            if any(takes_share(step, "in") for step in changed.values()):
                process = with_share_input(process)
        elif kind == "CommandLineTool":
            try:
                process = self.visit(Tool(process, keys, scope, steps, self.document))
            except CwlError as error:
                self.findings += [Finding("error", *fault) for fault in error.faults]
        claim = scope.effective(CLAIM, REQUIRED)
        if claim and kind not in ("Workflow", "CommandLineTool") and claim.keys[:-2] == keys:
            reason = f"{claim.written} is for a CommandLineTool; {kind} runs no command"
            self.findings.append(Finding("error", claim.place, reason))
        return remove_claims(process)

    def _step(self, step: Any, keys: Keys, scope: Scope, steps: tuple[str, ...]) -> Any:
        if not isinstance(step, dict):
            return step
        scope, run, at = scope.within(step, keys, self.document), step.get("run"), (*keys, "run")
        target = self._find(run, at) if isinstance(run, str) else None
        if embedded := isinstance(run, dict) and IMPORT not in run:
            target = at, run
        if target:
            process = self._process(target[1], target[0], scope, steps)
            if embedded:
                step = {**step, "run": process}
            elif self._done.setdefault(target[0], process) != process:
                reason = f"run: other steps run {run} with another claim; copy it for this one"
                self.findings.append(Finding("error", self.document.place(at), reason))
            if takes_share(process):
                step = passing_share(step)
        elif other := run[IMPORT] if isinstance(run, dict) else run or step.get(IMPORT):
            level, then = self.beyond, "; "
            if not scope.effective(CLAIM):
                level, then = "warning", ", which stays as it is; if it claims a cluster, "
            text = f"run: {other} is another file{then}{advise(self.document)}"
            self.findings.append(Finding(level, self.document.place(at), text))
        return remove_claims(step)

    def _find(self, run: str, keys: Keys) -> tuple[Keys, dict[str, Any]] | None:
        """The process of this document that a `run` names; None where it names another file."""
        if not self.document.is_this(run):
            return None
        name, processes = run.partition("#")[2].lstrip("/") or "main", self._processes()
        for at, process in processes:
            if id_of(process) == name or (not at and "#" not in run):
                return at, process
        if any(IMPORT in process for _, process in processes):
            return None
        reason = f"run: {run} names no process of {self.document.name}"
        raise CwlError([(self.document.place(keys), reason)])


_REFERENCES = ("run", "$import", "$include", "$mixin", "$schemas", "location", "path")


def _rebase(document: Document, root: Any, folder: Path) -> Any:
    """Return `root` with its relative references made to hold from another folder."""

    def moved(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: moved(item, str(name)) for name, item in value.items()}
        if isinstance(value, list):
            return [moved(item, key) for item in value]
        target, hash_sign, fragment = str(value).partition("#")
        names_file = key in _REFERENCES or (hash_sign and (here / target).is_file())
        if not isinstance(value, str) or not target or not names_file:
            return value
        if "$(" in value or "${" in value or urlsplit(target).scheme:
            return value
        return f"{os.path.relpath(here / target, folder)}{hash_sign}{fragment}"

    here = document.path.parent
    return root if folder == here else moved(root, "")
