"""Events as lines of the log, for people and as JSON of which there is a schema; who listens."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Annotated, Any, Literal, Union, get_type_hints

from loguru import logger
from pydantic import BaseModel, Field, TypeAdapter, create_model

from dask_claim import stderr
from dask_claim.launch import events, reports, status_line
from dask_claim.launch.events import Event, Events
from dask_claim.launch.tracing import Spans, Trace, exports
from dask_claim.providers.usage import Usage

IN_THE_MESSAGE = {"at", "level", "text"}
"""Fields of events that a JSON line has elsewhere."""

OTHERWISE: dict[str, tuple[Callable[[Any], dict[str, Any]], dict[str, Any]]] = {
    "cluster": (
        lambda cluster: {name: getattr(cluster, name) for name in events.PLACE},
        dict.fromkeys(events.PLACE, str | None),
    ),
    "outcome": (
        lambda outcome: {"gone": outcome.value},
        {"gone": bool | Literal["kept"] | None},
    ),
    "tickets": (
        lambda tickets: {"tickets": [ticket.to_dict() for ticket in tickets]},
        {"tickets": list[dict[str, Any]]},
    ),
    "usage": (
        lambda usage: {"usage": usage and asdict(replace(usage, versions={}))},
        {"usage": Usage | None},
    ),
}
"""Fields of events that a JSON line has in another form: its fields, and their types."""


@dataclass(frozen=True)
class Logged(Event):
    """Anything else that is logged."""

    word = "log"
    traceback: str | None = None


@dataclass(frozen=True)
class Aborted(Event):
    """An error that ended the run before the command had a status; always the last line."""

    word = "error"
    reason: str
    exit_status: int
    traceback: str | None = None
    level: str = field(default="ERROR", kw_only=True)


def listened(receipt: events.Listener, run: str, trace: Trace, *, on_terminal: bool) -> Events:
    """Return what events are given to; `on_terminal`: a person may read the log there."""
    emit = Events([receipt, log])
    if on_terminal and not stderr.state.as_json and status_line.is_wanted(os.environ):
        emit.add(status_line.StatusLine())
    if exports(os.environ):
        emit.add(Spans(trace, run, os.environ))
    return emit


def log(event: Event) -> None:
    """The listener that writes the log."""
    if not event.word:
        return
    text = str(event)
    # What a person need not read is shown with `--verbose`.
    level = event.level if text else "DEBUG"
    bound = logger.bind(event=event.word, at=event.at, fields=own_fields(event))
    bound.log(level, text or summary(type(event)))


def own_fields(event: Event) -> dict[str, Any]:
    """Return what is in the event's JSON line beside the fields that every line has."""
    shown: dict[str, Any] = {}
    for name in own_names(type(event)):
        value = getattr(event, name)
        shown |= OTHERWISE[name][0](value) if name in OTHERWISE else {name: value}
    return shown


def own_types(kind: type[Event]) -> dict[str, Any]:
    """Return type and default (`...`: always there) of each of those fields."""
    shown: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for name in own_names(kind):
        default = None if getattr(kind, name, ...) is None else ...
        types = OTHERWISE[name][1] if name in OTHERWISE else {name: hints[name]}
        shown |= {each: (hint, default) for each, hint in types.items()}
    return shown


def own_names(kind: type[Event]) -> list[str]:
    return [each.name for each in fields(kind) if each.name not in IN_THE_MESSAGE]


def kinds() -> list[type[Event]]:
    """Return all classes of events, each with a word, and of other lines."""
    declared = {**vars(events), **vars(reports)}.values()
    own = [each for each in declared if isinstance(each, type) and issubclass(each, Event)]
    return [*(each for each in own if each.word), Logged, Aborted]


def summary(kind: type[Event]) -> str:
    """Return the first line of a class's docstring, which says when it happens."""
    return (kind.__doc__ or "").partition("\n")[0]


class Line(BaseModel):
    """What every line has."""

    version: Literal[1]
    at: datetime
    run: str | None
    event: str
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    message: str
    trace_id: str | None = None


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a line of the log."""
    models = []
    for kind in kinds():
        word: Any = Literal[kind.word]
        own = own_types(kind)
        models.append(
            create_model(
                kind.__name__, __base__=Line, __doc__=summary(kind), event=(word, ...), **own
            )
        )
    line: Any = Annotated[Union[tuple(models)], Field(discriminator="event")]  # noqa: UP007
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of dask-claim --log-format json",
        **TypeAdapter(line).json_schema(),
    }


def schema_text() -> str:
    return json.dumps(schema(), indent=2) + "\n"
