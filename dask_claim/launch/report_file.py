"""The report of a run, written beside its receipt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from dask_claim.files import write_whole
from dask_claim.providers.dask_report import NO_CLUSTER, DaskReport
from dask_claim.redact import redact_known, redact_text

if TYPE_CHECKING:
    from dask_claim.launch.receipt import Receipt


def write_report(path: Path | None, receipt: Receipt, dask_report: DaskReport = NO_CLUSTER) -> None:
    """Write the page, where one is wanted; a failure is logged and changes nothing else."""
    if path is None:
        return
    try:
        from dask_claim.receipts.report import html

        # Dask's page is mostly code, which a search for the names of secrets would break.
        page = redact_known(dask_report.html) if dask_report.html else None
        missing = redact_text(dask_report.missing)
        write_whole(path, html(receipt.to_dict(), page, missing))
    except OSError as error:
        why = error.strerror or error
        logger.error(f"The report could not be written to {path}: {why}")
    except Exception:
        logger.exception("A defect in dask-claim while writing the report; please report it")
