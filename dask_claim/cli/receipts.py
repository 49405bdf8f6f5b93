"""The command line of `dask-claim receipts`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dask_claim import stderr
from dask_claim.amounts import counted, duration, in_gib
from dask_claim.cli import printing
from dask_claim.errors import printable

if TYPE_CHECKING:
    from dask_claim.receipts.rows import Row

COLUMNS = {
    "RUN": "run",
    "PROGRAM": "program",
    "STARTED": "started",
    "WALL": "wall",
    "WORKERS": "workers",
    "CORE-H": "core_hours",
    "CPU": "efficiency",
    "GiB": "memory_peak",
    "TASKS": "tasks_done",
    "FAILED": "tasks_failed",
    "LOST": "lost",
    "STATUS": "exit_status",
}
"""Head of a column → the field of a row, or of the totals. One without a value is not shown."""

WIDEST = 22
"""Characters of a program's name, and of a reason."""

UNFINISHED = ("claiming", "running", "releasing")

NAMED = 5
"""Files that a message names."""


@click.command("receipts")
@click.argument(
    "paths",
    nargs=-1,
    required=True,
    metavar="PATH...",
    type=click.Path(exists=True, path_type=Path),
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: runs, totals, advice.")
def receipts_command(paths: Sequence[Path], as_json: bool) -> int:
    """Show the runs whose receipts are in PATHS, and what to claim next time.

    A PATH is a receipt (see `--receipt`), or a folder of them. CPU is the share of the workers'
    time in which they were busy; GiB is the peak memory of the fullest worker, and its size.
    """
    from dask_claim.receipts.advice import advice
    from dask_claim.receipts.reading import Receipts
    from dask_claim.receipts.rows import Row

    receipts = Receipts(paths)
    rows = sorted((Row.of(_name(path), each) for path, each in receipts), key=_order)
    advised = advice(rows)
    for line in _passed_over(receipts.others, receipts.unreadable):
        stderr.tell(line)
    if as_json:
        content = {
            "runs": [row.to_dict() for row in rows],
            "totals": _totals(rows),
            "advice": [{**vars(each), "text": str(each)} for each in advised],
            "unreadable": {_name(path): why for path, why in receipts.unreadable.items()},
        }
        print(printing.as_json(content))
    else:
        print("\n".join(_shown(rows, list(map(str, advised)))))
    return 0 if rows or not receipts.unreadable else 1


def _order(row: Row) -> tuple[float, str]:
    return row.started.timestamp() if row.started else 0.0, row.file


def _name(path: Path) -> str:
    """A path that can be printed, also one that is not UTF-8."""
    return str(path).encode(errors="backslashreplace").decode()


def _passed_over(others: Sequence[Path], unreadable: dict[Path, str]) -> Iterable[str]:
    for path, why in unreadable.items():
        yield printable(f"{path} is left out: {why}")
    if others:
        names = ", ".join(path.name for path in others[:NAMED])
        more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
        yield printable(f"not receipts: {names}{more}")


def _shown(rows: Sequence[Row], advised: Sequence[str]) -> list[str]:
    if not rows:
        return ["no receipts"]
    totals = _totals(rows)
    failed = totals["failed"]
    last = {
        **{field: _text(field, value) for field, value in totals.items()},
        "run": "TOTAL",
        "program": counted(totals["runs"], "run"),
        "exit_status": f"{failed} failed" if failed else "",
    }
    columns = [
        [head, *(_cell(field, row) for row in rows), last.get(field, "")]
        for head, field in COLUMNS.items()
    ]
    lines = printing.table(list(zip(*filter(_has_values, columns), strict=True)))
    if any(row.state in UNFINISHED for row in rows):
        lines += ["", "?: the receipt was not ended: the run lasts, or its launcher was killed"]
    return [*lines, *([""] if advised else []), *map(printable, advised)]


def _has_values(column: Sequence[str]) -> bool:
    return any(text not in ("", "0") for text in column[1:-1]) or column[0] == "STATUS"


def _cell(field: str, row: Row) -> str:
    value = getattr(row, field)
    if field == "exit_status":
        status = str(value) if row.state == "ended" else row.state
        if row.state in UNFINISHED:
            status += "?"
        return " ".join(filter(None, (status, _short(row.reason or ""))))
    if field == "memory_peak" and row.memory:
        return f"{'?' if value is None else in_gib(value)}/{in_gib(row.memory)}"
    return _text(field, value)


def _text(field: str, value: Any) -> str:
    return "" if value is None else TEXTS.get(field, _short)(value)


def _short(value: Any) -> str:
    text = printable(str(value))
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


TEXTS: dict[str, Callable[[Any], str]] = {
    "run": lambda run: printable(run)[:8],
    "started": lambda moment: str(moment.astimezone().strftime("%m-%d %H:%M")),
    "wall": duration,
    "core_hours": "{:.3f}".format,
    "efficiency": lambda part: f"{100 * part:.0f} %",
    "memory_peak": in_gib,
}
"""Field → how a table shows it, where that is not just its text."""


def _totals(rows: Sequence[Row]) -> dict[str, Any]:
    """Sums over all runs; the efficiency is weighted by core-hours."""
    measured = [row for row in rows if row.efficiency is not None and row.core_hours]
    claimed = sum(row.core_hours or 0.0 for row in measured)
    busy = sum((row.efficiency or 0.0) * (row.core_hours or 0.0) for row in measured)
    return {
        "runs": len(rows),
        "failed": sum(row.exit_status not in (0, None) for row in rows),
        "wall": round(sum(row.wall or 0.0 for row in rows), 3),
        "core_hours": round(sum(row.core_hours or 0.0 for row in rows), 6),
        "efficiency": round(busy / claimed, 3) if claimed else None,
        "tasks_done": sum(row.tasks_done or 0 for row in rows),
        "tasks_failed": sum(row.tasks_failed or 0 for row in rows),
        "lost": sum(row.lost or 0 for row in rows),
    }
