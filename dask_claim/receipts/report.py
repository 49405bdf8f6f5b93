"""The report of one run: a page of HTML that is made from its receipt and needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from dask_claim.amounts import gib, seconds
from dask_claim.receipts.chart import Chart
from dask_claim.receipts.fields import ReceiptFields, Workers
from dask_claim.receipts.rows import program

TEMPLATE = Path(__file__).with_name("report.html")

LINK = re.compile(r"<link\b[^>]*>", re.IGNORECASE)
"""Dask's report has one, to an icon on its site."""


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
    environment.filters["code"] = _code
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        receipt=fields,
        program=program(fields.command),
        status=_status(fields),
        tiles=_tiles(fields),
        workers=_workers(fields.workers) if fields.workers else [],
        chart=Chart.of(fields),
        stages=_stages(fields),
        claim=_claim(fields),
        dask_report=LINK.sub("", dask_report) if dask_report else None,
        missing=missing,
    )


def _code(text: str) -> Markup:
    """Escape a text, and set what stands in backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:
        return escape(text)
    code = [Markup("<code>{}</code>").format(part) for part in parts[1::2]]
    parts[1::2] = code
    return Markup("").join(parts)


def _status(receipt: ReceiptFields) -> tuple[str, str]:
    """How the run ended, as a style and in words."""
    if receipt.state != "ended":
        return "open", f"{receipt.state}, not ended"
    if receipt.exit_status == 0:
        return "good", "status 0"
    return "bad", f"status {receipt.exit_status}"


def _tiles(receipt: ReceiptFields) -> list[tuple[str, str, str]]:
    """The most important numbers: name, value, a note."""
    tiles, workers, tasks = [], receipt.workers, receipt.tasks
    if receipt.duration is not None:
        tiles.append(("Wall time", seconds(receipt.duration), ""))
    if tasks:
        tiles.append(("Tasks", f"{tasks.done}", f"{tasks.failed} failed" if tasks.failed else ""))
    if workers:
        lost = sum(each.count for each in workers.lost)
        tiles.append(("Workers", f"{workers.peak}", f"{lost} lost" if lost else ""))
        tiles.append(("Core-hours", f"{workers.core_hours:.3f}", ""))
    if receipt.efficiency is not None:
        tiles.append(("Efficiency", f"{100 * receipt.efficiency:.0f} %", "of them busy"))
    if workers and workers.memory_peak:
        of = f"of {gib(workers.memory)}" if workers.memory else ""
        tiles.append(("Worker memory", gib(workers.memory_peak), of))
    if receipt.memory_peak:
        tiles.append(("Cluster memory", gib(receipt.memory_peak), "at the peak"))
    if receipt.spilled:
        tiles.append(("Spilled", gib(receipt.spilled), "to the workers' disks"))
    return tiles


def _workers(workers: Workers) -> list[tuple[str, str]]:
    """The table of the workers' numbers."""
    rows = [
        ("At most at one time", f"{workers.peak}"),
        ("Worker-seconds", f"{workers.worker_seconds:.1f}"),
        ("Core-hours", f"{workers.core_hours:.6f}"),
    ]
    if workers.threads is not None:
        rows.append(("Threads of one worker", f"{workers.threads}"))
    if workers.memory is not None:
        rows.append(("Memory of one worker", gib(workers.memory)))
    if workers.memory_peak is not None:
        rows.append(("Memory of the fullest one, at its peak", gib(workers.memory_peak)))
    rows += [(f"Lost: {each.reason}", f"{each.count} ({each.text})") for each in workers.lost]
    return rows


def _stages(receipt: ReceiptFields) -> list[tuple[str, str, str]]:
    """The stages in the order in which they were reached: name, seconds since the first, time."""
    times = sorted((moment, name) for name, moment in receipt.timeline if moment is not None)
    return [
        (
            name.replace("_", " "),
            f"{(moment - times[0][0]).total_seconds():.1f}",
            moment.isoformat(sep=" ", timespec="seconds"),
        )
        for moment, name in times
    ]


def _claim(receipt: ReceiptFields) -> list[tuple[str, str, str]]:
    """The claim's fields that somebody has set: name, value, where it comes from."""
    sources = receipt.sources or {}
    return [
        (name, str(value), str(sources.get(name, "")))
        for name, value in (receipt.claim or {}).items()
        if value is not None and sources.get(name) != "default"
    ]
