"""Events as lines of the log: for people, and as JSON of which there is a schema."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Annotated, Any, Literal, Union, get_type_hints

from loguru import logger
from pydantic import BaseModel, Field, TypeAdapter, create_model

from dask_claim.launch import events, reports
from dask_claim.launch.events import Event
from dask_claim.providers.usage import Usage
from dask_claim.providers.values import Cluster, Outcome

IN_THE_MESSAGE = {"at", "level", "text", "called", "description"}
"""Fields of events that a JSON line has elsewhere."""


@dataclass(frozen=True)
class Logged(Event):
    """Anything else that is logged."""

    word = "log"
    traceback: str | None = None


@dataclass(frozen=True)
class Aborted(Event):
    """An error in whose place there is no command's exit status; the last line."""

    word = "error"
    reason: str
    exit_status: int
    traceback: str | None = None
    level: str = field(default="ERROR", kw_only=True)


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
    for each in fields(event):
        value = getattr(event, each.name)
        if each.name in IN_THE_MESSAGE:
            continue
        if isinstance(value, Cluster):
            shown |= {name: getattr(value, name) for name in events.PLACE}
        elif isinstance(value, Outcome):
            shown["gone"] = value.value
        elif each.name == "tickets":
            shown["tickets"] = [ticket.to_dict() for ticket in value]
        elif isinstance(value, Usage):
            shown["usage"] = asdict(value)
            del shown["usage"]["versions"]
        else:
            shown[each.name] = value
    return shown


def own_types(kind: type[Event]) -> dict[str, tuple[Any, Any]]:
    """Return type and default (`...`: always there) of each of those fields."""
    shown: dict[str, tuple[Any, Any]] = {}
    hints = get_type_hints(kind)
    for each in fields(kind):
        hint = hints[each.name]
        if each.name in IN_THE_MESSAGE:
            continue
        if hint is Cluster:
            shown |= dict.fromkeys(events.PLACE, (str | None, ...))
        elif hint is Outcome:
            shown["gone"] = bool | Literal["kept"] | None, ...
        elif each.name == "tickets":
            shown["tickets"] = list[dict[str, Any]], ...
        else:
            shown[each.name] = hint, None if each.default is None else ...
    return shown


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
        own: dict[str, Any] = own_types(kind)
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
