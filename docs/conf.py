"""The site: `make docs` builds it from the pages of this folder."""

from __future__ import annotations

import re

import click
from sphinx.application import Sphinx

from dask_claim import __version__
from dask_claim.cli.options import claim_options

project = "dask-claim"
author = "The dask-claim developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

html_theme = "furo"
html_title = f"dask-claim {version}"
html_show_copyright = False
html_show_sourcelink = False
# A page of the site needs no other host.
html_theme_options = {"top_of_page_buttons": []}

OUTSIDE = re.compile(r"\[(`?)([^\]`]*)`?\]\(\.\./[^)]*\)")


def without_outside(app: Sphinx, name: str, source: list[str]) -> None:
    """Links to files of the repository lead nowhere on the site: their text stays."""
    source[0] = OUTSIDE.sub(r"`\2`", source[0])


def without_claim(app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """The flags of the claim, which several commands have, are listed with the first alone."""
    if context.parent is None:
        return
    flags = {option.opts[0] for option in claim_options(click.Command("claim")).params}
    blocks = re.split(r"(?m)^(?=\.\. option:: )", "\n".join(lines))
    kept = [each for each in blocks if each.split()[2:3][0].rstrip(",") not in flags]
    lines[:] = "".join(kept).split("\n")


def setup(app: Sphinx) -> None:
    app.connect("source-read", without_outside)
    app.connect("sphinx-click-process-options", without_claim)
