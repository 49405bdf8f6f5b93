"""The claim's fields, and the settings of a run, as options of a command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from annotated_types import Gt

from dask_claim.claim.fields import ClaimFields
from dask_claim.claim.layers import flag
from dask_claim.claim.texts import Plain
from dask_claim.errors import UsageError
from dask_claim.launch.run_options import RunOptions

F = TypeVar("F", bound=Callable[..., Any])

_METAVARS = {
    **dict.fromkeys(("timeout", "lifetime"), "SECONDS"),
    **dict.fromkeys(("workers", "gpus"), "N"),
    "limit": "CORES",
    "share": "KEY",
    "keep": "SECONDS",
}
"""Last word of a field's name → what its flag takes, where that is not the word itself."""

_PAIRS = {
    "options": (flag("options"), "NAME=VALUE"),
    "env": ("--env", "FIELD=NAME"),
    "environment": ("--environment", "NAME=VALUE"),
    "hpc": ("--hpc", "NAME=VALUE"),
}
"""Fields with entries of their own → the flag for one entry, and what it takes."""


def claim_options(function: F) -> F:
    """Add one flag for each field of the claim but its version."""
    for name, field in reversed(ClaimFields.model_fields.items()):
        words, last = flag(name), name.rpartition("_")[2]
        metavar = _METAVARS.get(last, last.upper())
        options: dict[str, Any] = {"help": field.description}
        if name == "version":
            continue
        if name in _PAIRS:
            words, metavar = _PAIRS[name]
            options |= {"multiple": True, "metavar": metavar}
        elif field.annotation is bool:
            words = f"{words}/--no-{words[2:]}"
            options["default"] = None
        else:
            options["metavar"] = metavar
        function = click.option(words, name, **options)(function)
    return function


def run_flags(function: F) -> F:
    """Add one flag for each of `RunOptions`; what is not given comes from the environment."""
    for name, field in reversed(RunOptions.model_fields.items()):
        words, kind = [flag(name)], field.annotation
        options: dict[str, Any] = {"help": field.description, "default": None}
        if kind is bool:
            words.insert(0, f"-{name[0]}")
            options["is_flag"] = True
        elif kind is float:
            positive = Gt(0) in field.metadata
            options |= {**_seconds(positive), "show_default": f"{field.default:g}"}
        elif get_origin(kind) is Literal:
            options |= {"type": click.Choice(get_args(kind)), "show_default": field.default}
        else:
            options |= {"type": click.Path(), "metavar": "FILE"}
        function = click.option(*words, **options)(function)
    return function


def seconds_option(
    words: str, default: float, text: str, *, positive: bool = True
) -> Callable[[F], F]:
    """An option that takes a number of seconds, greater than 0 or also 0."""
    return click.option(
        words, default=default, show_default=f"{default:g}", help=text, **_seconds(positive)
    )


def _seconds(positive: bool) -> dict[str, Any]:
    return {"type": click.FloatRange(min=0, min_open=positive), "metavar": "SECONDS"}


def claimed(given: dict[str, Any]) -> dict[str, Any]:
    """The claim's flags that were given, as fields."""
    fields = {name: value for name, value in given.items() if value not in (None, ())}
    for name in _PAIRS:
        if pairs := fields.get(name):
            fields[name] = dict(_pair(name, pair) for pair in pairs)
    return fields


def _pair(name: str, pair: str) -> tuple[str, Plain]:
    key, equals, value = pair.partition("=")
    if not key or not equals:
        raise UsageError(f"{pair!r} is not of the form {' '.join(_PAIRS[name])}")
    return key, Plain(value)
