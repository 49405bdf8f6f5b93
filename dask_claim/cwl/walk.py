"""Who runs what: the processes of a document with what surrounds each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dask_claim.cwl.document import CwlError, Document, Place
from dask_claim.cwl.library import Library, local_path, processes
from dask_claim.cwl.requirements import Scope

_DEEPEST = 30


@dataclass(frozen=True)
class Call:
    """A process in one of the places that it is run from."""

    process: Any
    outer: Scope
    """What surrounds it, its own requirements not among it."""

    home: Document
    """The file that it stands in."""

    path: tuple[str, ...] = ()
    """The steps that lead to it."""

    @property
    def name(self) -> str:
        """The steps that lead to it, else its id."""
        return "/".join(self.path) or _id(self.process) or "the tool"

    @property
    def unread(self) -> list[Place]:
        """Steps of it that run what is not on this machine."""
        return [
            self.home.place(step, "run")
            for step in steps_of(self.process)
            if isinstance(step.get("run"), str)
            and local_path(step["run"].partition("#")[0], self.home.folder) is None
        ]


def named_steps(workflow: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The steps of a workflow, each with its name."""
    steps = workflow.get("steps")
    if isinstance(steps, Mapping):
        pairs = [(str(name), step) for name, step in steps.items()]
    else:
        pairs = [
            (str(step.get("id", index)) if isinstance(step, Mapping) else "", step)
            for index, step in enumerate(steps if isinstance(steps, list) else [])
        ]
    return [
        (name.rpartition("#")[2].rpartition("/")[2], step)
        for name, step in pairs
        if isinstance(step, Mapping)
    ]


def steps_of(workflow: Mapping[str, Any]) -> list[Any]:
    return [step for _, step in named_steps(workflow)]


def roots(document: Document) -> list[Any]:
    """The processes that no step of their own file runs."""
    found = processes(document)
    if len(found) < 2:
        return found
    named = {run for process in found for run in _local_runs(process)}
    entry = [item for item in found if _id(item) == "main" or _id(item) not in named]
    if not entry:
        raise CwlError(
            [(document.place(document.root, "$graph"), "every process runs another one")]
        )
    return entry


def calls(document: Document, library: Library) -> Iterator[Call]:
    """Every process in every place that it is run from, the outer before the inner."""
    for process in roots(document):
        yield from _within(Call(process, Scope(), document), library)


def any_tool(call: Call, library: Library, wanted: Callable[[Scope], bool]) -> bool:
    """Whether a tool in it is `wanted`, by what the tool has and what surrounds it."""
    return any(
        wanted(inner.outer.within(inner.process, inner.home.name))
        for inner in _within(call, library)
        if inner.process.get("class") != "Workflow"
    )


def _within(call: Call, library: Library) -> Iterator[Call]:
    yield call
    if call.process.get("class") != "Workflow":
        return
    if len(call.path) > _DEEPEST:
        place = call.home.place(call.process)
        raise CwlError([(place, "runs itself, or is nested too deeply")])
    scope = call.outer.within(call.process, call.home.name)
    for name, step in named_steps(call.process):
        inner = scope.within(step, call.home.name)
        run, path = step.get("run"), (*call.path, name)
        if isinstance(run, Mapping):
            yield from _within(Call(run, inner, call.home, path), library)
        elif run:
            place = call.home.place(step, "run")
            found = library.find(str(run), call.home, place)
            if found is not None:
                yield from _within(Call(found[0], inner, found[1], path), library)


def _local_runs(process: Mapping[str, Any]) -> Iterator[str]:
    for step in steps_of(process):
        run = step.get("run")
        if isinstance(run, Mapping):
            yield from _local_runs(run)
        elif isinstance(run, str) and run.startswith("#"):
            yield run[1:]


def _id(process: Mapping[str, Any]) -> str:
    return str(process.get("id", "")).rpartition("#")[2]
