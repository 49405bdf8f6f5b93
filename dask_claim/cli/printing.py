"""What the commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def as_json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


def cell(value: Any) -> str:
    """A value as a table shows it: a text as it is, else JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def table(rows: Sequence[Sequence[str]], indent: str = "") -> list[str]:
    """The lines of a table, its columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True))
        for row in rows
    )
    return [indent + line.rstrip() for line in lines]
