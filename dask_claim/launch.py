"""The run from end to end: claim, start the command, give everything back, write the receipt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from dask_claim.errors import DaskClaimError
from dask_claim.options import RunOptions
from dask_claim.phases import Launch
from dask_claim.receipt import Receipt
from dask_claim.signals import caught

if TYPE_CHECKING:
    from dask_claim.claim import Effective


async def conduct(
    command: Sequence[str],
    effective: Effective,
    options: RunOptions,
    receipt: Receipt,
    *,
    owns_process: bool,
) -> int:
    """Conduct one run and return the command's exit status; fills in and writes `receipt`.

    `owns_process` says that the process ends with this run, so that a late signal has nothing
    left to do. Raises `DaskClaimError` where the command was not started.
    """
    launch = Launch(command, effective, options, receipt)
    # Signals are caught before anything is made, and until the receipt tells that all is gone.
    with caught(launch.on_signal, ignore_afterwards=owns_process) as signals:
        try:
            receipt.exit_status = await launch.run(signals)
        except DaskClaimError as error:
            receipt.error, receipt.exit_status = str(error), error.exit_status
            raise
        except BaseException as error:
            receipt.error, receipt.exit_status = repr(error), DaskClaimError.exit_status
            raise
        finally:
            try:
                await launch.give_back()
            except Exception:
                # Neither this nor anything else afterwards changes how the command ended.
                logger.exception("A defect in dask-claim while giving back; please report it")
            write_receipt(receipt, options.receipt)
    return receipt.exit_status


def write_receipt(receipt: Receipt, path: Path | None) -> None:
    """Write the receipt where one is wanted; a failure is told and changes nothing else."""
    if path is None:
        return
    try:
        receipt.write(path)
    except OSError as error:
        logger.error(f"The receipt could not be written to {path}: {error.strerror or error}")
    except Exception:
        logger.exception("A defect in dask-claim while writing the receipt; please report it")
