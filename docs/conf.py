"""The site: `make docs` builds it from the pages of this folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from sphinx.application import Sphinx

from dask_claim import __version__
from dask_claim.claim.fields import ClaimFields
from dask_claim.cli.options import claim_options
from dask_claim.launch.run_options import PREFIX, RunOptions

project = "dask-claim"
author = "The dask-claim developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
myst_heading_anchors = 3
napoleon_google_docstring = False
# `--` stays two hyphens.
smartquotes = False
# Single backticks in docstrings.
default_role = "code"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

html_theme = "furo"
html_title = f"dask-claim {version}"
html_show_copyright = False
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"top_of_page_buttons": []}

OUTSIDE = re.compile(r"\[(`?)([^\]`]*)`?\]\(\.\./[^)]*\)")
ROOT = Path(__file__).resolve().parents[1]
PROJECT = {each.lower(): f"{each}.md" for each in ("CHANGELOG", "CONTRIBUTING", "SECURITY")}
"""Page → the document of the repository that the site has in its place."""


def fields() -> Iterator[str]:
    """The table of the claim's fields."""
    yield "| field | type | meaning | default |\n| --- | --- | --- | --- |"
    for name, schema in ClaimFields.model_json_schema()["properties"].items():
        default = schema.get("default")
        shown = "" if default is None else f"`{json.dumps(default).strip(chr(34))}`"
        yield f"| `{name}` | {kind(name, schema)} | {schema['description']} | {shown} |"


def options() -> Iterator[str]:
    """The table of the options of a run."""
    yield "| variable | meaning | default |\n| --- | --- | --- |"
    for name, field in RunOptions.model_fields.items():
        shown = f"{field.default:g}" if isinstance(field.default, float) else field.default
        default = "" if shown in (None, False) else f"`{shown}`"
        yield f"| `{PREFIX}{name.upper()}` | {field.description} | {default} |"


def kind(name: str, schema: dict[str, Any]) -> str:
    """The type of a field in a word or two."""
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    if name.endswith("memory"):
        return "memory"
    if name.endswith("_url"):
        return "URL"
    (schema, *_) = schema.get("anyOf", [schema]) if "type" not in schema else [schema]
    bounds = {**schema, **schema.get("anyOf", [{}])[0]}
    if bounds["type"] in ("integer", "number"):
        what = "seconds" if name.endswith(("timeout", "lifetime", "keep")) else "number"
        return f"{what} > {bounds['gt']}" if "gt" in bounds else f"{what} ≥ 0"
    return {"boolean": "true or false", "object": "object", "string": "text"}[bounds["type"]]


def fill(app: Sphinx, name: str, source: list[str]) -> None:
    """Add what the code knows. Links to files of the repository lead nowhere on the site: their
    text stays."""
    text = source[0]
    if name in PROJECT:
        text = (ROOT / PROJECT[name]).read_text()
        text = re.sub(r"\]\((?!https?:|#)", "](../", text).replace("](../docs/", "](")
    for page, document in PROJECT.items():
        text = text.replace(f"](../{document})", f"]({page}.md)")
    text = OUTSIDE.sub(r"`\2`", text)
    for mark, rows in (("fields", fields()), ("run options", options())):
        text = text.replace(f"<!-- {mark} -->", "\n".join(rows))
    source[0] = text


def without_claim(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """The flags of the claim, which three commands have, are listed with the first alone."""
    if context.info_name not in ("doctor", "show"):
        return
    flags = {option.opts[0] for option in claim_options(click.Command("claim")).params}
    blocks = re.split(r"(?m)^(?=\.\. option:: )", "\n".join(lines))
    named = ((re.match(r"\.\. option:: ([\w-]+)", each), each) for each in blocks)
    lines[:] = "".join(each for match, each in named if match and match[1] not in flags).split("\n")


def setup(app: Sphinx) -> None:
    app.connect("source-read", fill)
    app.connect("sphinx-click-process-options", without_claim)
