"""What to claim next time: one line for each program, from what its runs used.

The rules, in this order; the first that applies is the advice, so that no program is advised to
claim more of one thing and less of it at once.

1. More memory, after a single run: workers were killed at the size that is claimed now, or spilled
   to disk (twice that size), or one used more than `PAUSED` of it (its peak, with the margin).
2. Fewer workers, after `ENOUGH` runs that ended well, all of which kept their workers busy for less
   than `IDLE` of the time. The advice is the number that would have been busy for `BUSY` of it, and
   can hold the memory of the whole cluster at its peak.
3. Less memory, after `ENOUGH` runs that ended well: the peak of all runs, with the margin, is at
   most `WORTHWHILE` of what is claimed.

The margin on a peak of memory is `MARGIN`, rounded up to `STEP`: a worker at its peak is then below
the 80 % of its limit at which Dask pauses it (`distributed.worker.memory.pause`). Batch systems'
tools such as Princeton's jobstats add 20 %; a peak that is measured at a worker's heartbeats needs
more. `BUSY` is near the 75 % of CPU time that the HPC centre NCI calls a reasonable minimum.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dask_claim.amounts import counted, gib, in_gib
from dask_claim.receipts.rows import Row

ENOUGH = 3
"""Runs that ended well, before less is advised."""

MARGIN = 1.3
STEP = 2**29
"""Bytes to which memory is rounded up: 0.5 GiB."""

PAUSED = 0.8
"""The part of its memory at which Dask pauses a worker."""

WORTHWHILE = 2 / 3
IDLE = 0.5
BUSY = 0.7


@dataclass(frozen=True)
class Advice:
    """What to claim for one program."""

    program: str
    field: str
    """Of the claim."""

    value: str | int
    """As a claim has it."""

    evidence: str
    runs: int
    """That it is drawn from."""

    def __str__(self) -> str:
        return f"{self.program}: {self.evidence}: claim {self.field} {self.value}"


def advice(rows: Iterable[Row]) -> list[Advice]:
    """Return what to claim, for the programs for which there is something to say."""
    programs: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        # The size of a cluster that is there already, or is shared, is not this run's to choose.
        if row.own_cluster and row.workers and row.state == "ended":
            programs[row.program].append(row)
    found = [advise(programs[name]) for name in sorted(programs)]
    return [each for each in found if each is not None]


def advise(runs: Sequence[Row]) -> Advice | None:
    """Return what to claim for one program, by its runs in the order of their start."""
    # What is claimed now, as far as a run tells, and what its workers held at the most.
    claimed = next((run.memory for run in reversed(runs) if run.memory), 0)
    peak = max(run.memory_peak or 0 for run in runs)
    killed_at = max((run.memory or 0 for run in runs if run.lost_memory), default=-STEP)
    needed = max(peak * MARGIN, killed_at + STEP, STEP)
    good = [run for run in runs if run.exit_status == 0]
    answer = _more_memory(runs, claimed, needed) if claimed else None
    if answer is None and len(good) >= ENOUGH:
        answer = _fewer_workers(runs, good, claimed) or _less_memory(good, claimed, needed, peak)
    return answer


def _more_memory(runs: Sequence[Row], claimed: int, needed: float) -> Advice | None:
    as_large = [run for run in runs if (run.memory or 0) >= claimed]
    killed = [run for run in as_large if run.lost_memory]
    full = [run for run in runs if (run.memory_peak or 0) > PAUSED * claimed]
    spilled = [run for run in as_large if (run.spilled or 0) > STEP]
    if killed:
        some, evidence = killed, f"lost workers at their {in_gib(claimed)} GiB"
    elif full:
        most = in_gib(max(run.memory_peak or 0 for run in full))
        some, evidence = full, f"used up to {most} of {in_gib(claimed)} GiB per worker"
    elif spilled:
        most = in_gib(max(run.spilled or 0 for run in spilled))
        some, evidence = spilled, f"wrote up to {most} GiB to the workers' disks"
    else:
        return None
    if killed or not full:  # how much more a worker would have used is unknown
        needed = max(needed, 2 * claimed)
    evidence = f"{len(some)} of {counted(len(runs), 'run')} {evidence}"
    return Advice(runs[0].program, "worker_memory", _memory(needed), evidence, len(runs))


def _fewer_workers(runs: Sequence[Row], good: Sequence[Row], memory: int) -> Advice | None:
    measured = [run for run in good if run.efficiency is not None]
    highest = max((run.efficiency or 0.0 for run in measured), default=1.0)
    if len(measured) < ENOUGH or highest >= IDLE:
        return None
    workers, minimum = runs[-1].workers or 0, runs[-1].min_workers or 1
    busy = max((run.workers or 0) * min(run.efficiency or 0.0, 1.0) for run in runs)
    held = max(run.cluster_memory_peak or 0 for run in runs)
    to_work = max(1, math.ceil(busy / BUSY))
    to_hold = math.ceil(MARGIN * held / memory) if memory else 1
    wanted = max(to_work, to_hold)
    if wanted >= workers:
        return None
    evidence = (
        f"{len(measured)} runs kept at most {max(1, math.ceil(busy))} of {workers} workers busy on "
        f"average (efficiency {100 * highest:.0f} %)"
    )
    if to_hold > to_work:
        evidence += f", and the {gib(held)} that they held take {to_hold}"
    field = "max_workers" if minimum <= wanted else "min_workers and max_workers"
    return Advice(runs[0].program, field, wanted, evidence, len(measured))


def _less_memory(good: Sequence[Row], claimed: int, needed: float, peak: int) -> Advice | None:
    measured = [run for run in good if run.memory_peak]
    if len(measured) < ENOUGH or math.ceil(needed / STEP) * STEP > WORTHWHILE * claimed:
        return None
    evidence = (
        f"{len(measured)} runs used at most {in_gib(peak)} of {in_gib(claimed)} GiB per worker"
    )
    program = measured[0].program
    return Advice(program, "worker_memory", _memory(needed), evidence, len(measured))


def _memory(needed: float) -> str:
    """As a claim has it."""
    return f"{math.ceil(needed / STEP) * STEP / 2**30:g} G"
