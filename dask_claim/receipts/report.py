"""The report of one run: a page of HTML that is made from its receipt and needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from dask_claim.amounts import duration, gib, seconds
from dask_claim.receipts.fields import ReceiptFields
from dask_claim.receipts.rows import program

TEMPLATE = Path(__file__).with_name("report.html")

LINK = re.compile(r"<link\b[^>]*>", re.IGNORECASE)
"""Dask's report has one, to an icon on its site."""

PHASES = (
    ("Cluster starts", "claimed", "running"),
    ("First worker", "running", "first_worker"),
    ("Command", "command_start", "command_end"),
    ("Release", "command_end", "gone"),
)
"""What a bar is called, and the two stages that it lies between."""

STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
"""Seconds between two marks of the chart, of which there are at most `MARKS`."""

MARKS = 6


def html(receipt: Mapping[str, Any], dask_report: str | None = None, missing: str = "") -> str:
    """Return the page.

    Parameters
    ----------
    receipt : mapping
        As it is written.
    dask_report : str, optional
        Dask's performance report, a page of its own. It comes from the scheduler: it is shown in a
        frame that can load nothing and reach nothing of the page.
    missing : str
        Why there is none, in a sentence.

    Raises
    ------
    ValueError
        The receipt is not valid.
    """
    from jinja2 import Environment, StrictUndefined

    fields = ReceiptFields.model_validate(receipt)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"code": _code, "gib": gib, "seconds": seconds}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    stages = sorted((moment, name) for name, moment in fields.timeline if moment is not None)
    return template.render(
        receipt=fields,
        program=program(fields.command),
        chart=_chart(fields),
        stages=[((at - stages[0][0]).total_seconds(), name, at) for at, name in stages],
        dask_report=LINK.sub("", dask_report) if dask_report else None,
        missing=missing,
    )


def _code(text: str) -> Markup:
    """Escape a text, and set what stands in backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:
        return escape(text)
    parts[1::2] = [Markup("<code>{}</code>").format(part) for part in parts[1::2]]
    return Markup("").join(parts)


def _chart(receipt: ReceiptFields) -> dict[str, Any] | None:
    """Return what is drawn, with places in per cent of its length; None where nothing began."""
    moments = {name: moment for name, moment in receipt.timeline if moment is not None}
    if not moments:
        return None
    start = min(moments.values())
    after = {name: (moment - start).total_seconds() for name, moment in moments.items()}
    begun = after.get("claimed", 0.0)
    history = [(begun + since, workers, done) for since, workers, done in receipt.history]
    length = max(*after.values(), *(point[0] for point in history), 0.0) or 1.0
    bars = []
    for name, begin, end in PHASES:
        lasted = after.get(end, length) - after.get(begin, length)
        if begin in after and lasted >= 0:
            places = {"left": 100 * after[begin] / length, "width": 100 * lasted / length}
            bars.append({"name": name, "text": seconds(lasted), "open": end not in after, **places})
    end = 100 * after.get("gone", length) / length
    curves = []
    for column, name in enumerate(("Workers", "Tasks done"), start=1) if history else ():
        points = [(100 * point[0] / length, point[column]) for point in history]
        curves.append({"name": name, **_curve(points, end)})
    step = next((step for step in STEPS if length / step < MARKS), length)
    marks = []
    for number in range(int(length / step) + 1):
        at = number * step
        marks.append((100 * at / length, f"{at:g} s" if length < 100 else duration(at)))
    return {"bars": bars, "curves": curves, "marks": marks}


def _curve(points: Sequence[tuple[float, float]], end: float) -> dict[str, Any]:
    """Return the corners of a line in a box of 100 by 100; a value holds until the next one."""
    top, before = max(value for _, value in points), 0.0
    corners = []
    for place, value in (*points, (max(end, points[-1][0]), points[-1][1])):
        corners += [(place, before), (place, value)]
        before = value
    line = " ".join(f"{place:.2f},{100 - 100 * value / (top or 1):.2f}" for place, value in corners)
    return {"top": top, "last": before, "line": line, "area": f"{line} {corners[-1][0]:.2f},100"}
