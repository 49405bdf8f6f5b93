"""docs/troubleshooting.md is keyed by messages; they are those of the sources."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def texts(tree: ast.Module) -> list[str]:
    """Each text of a module, with `…` for what is filled in."""
    literals = []
    for node in ast.walk(tree):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        values = [part.value if isinstance(part, ast.Constant) else "…" for part in parts]
        literals.append("".join(value for value in values if isinstance(value, str)))
    return literals


def test_headings_are_messages_of_the_sources() -> None:
    document = (ROOT / "docs/troubleshooting.md").read_text()
    headings = re.findall(r"^### `(.*)`$", document, re.MULTILINE)
    assert len(headings) > 20
    modules = [ast.parse(path.read_text()) for path in (ROOT / "dask_claim").rglob("*.py")]
    messages = [text for module in modules for text in texts(module)]
    for heading in headings:
        pattern = re.compile(".*".join(map(re.escape, heading.split("…"))))
        assert any(pattern.search(message) for message in messages), heading
