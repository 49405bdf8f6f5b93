"""`dask-claim receipts`: the table of runs, and what it advises to claim."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_claim.receipts.advice import ENOUGH, advise
from dask_claim.receipts.fields import ReceiptFields
from dask_claim.receipts.rows import Row, program
from tests.support.here import dask_claim

GIB = 2**30
BIRTH = datetime(2026, 11, 24, 14, 35, 40, tzinfo=timezone.utc)


def receipt(number: int = 0, **changed: Any) -> dict[str, Any]:
    """A run of 100 s on 8 workers of 4 GiB, as a receipt; `changed` by the fields' names."""
    start = BIRTH + timedelta(hours=number)
    moments = {
        "claimed": 0, "submitted": 1, "running": 2, "first_worker": 3, "command_start": 2,
        "command_end": 98, "gone": 100,
    }  # fmt: skip
    written = {
        "version": 1,
        "dask_claim": "0.1.0",
        "run": f"{'abcdefgh'[number % 8]}zmbdwrtyxhvpnaejslgfcu",
        "state": "ended",
        "claim": {"version": 1},
        "plan": {"provider": "gateway", "min_workers": 1, "max_workers": 8},
        "timeline": {
            name: (start + timedelta(seconds=after)).isoformat(timespec="milliseconds")
            for name, after in moments.items()
        },
        "command": ["/usr/bin/python3.11", "-u", "/work/bai.py", "--post", "x.json"],
        "exit_status": 0,
        "efficiency": 0.8,
        "workers": {
            "peak": 8, "worker_seconds": 800.0, "core_hours": 0.222222, "threads": 1,
            "memory": 4 * GIB, "memory_peak": int(2.5 * GIB), "lost": [],
        },
        "tasks": {"done": 120, "failed": 0},
        "memory_peak": 16 * GIB,
        "spilled": 0,
        "warnings": [],
        "gone": True,
        "tickets": [],
    }  # fmt: skip
    for name, value in changed.items():
        if isinstance(value, dict) and isinstance(written.get(name), dict):
            value = {**written[name], **value}
        written[name] = value
    return written


def row(number: int = 0, **changed: Any) -> Row:
    return Row.of("r.json", ReceiptFields.model_validate(receipt(number, **changed)))


def folder_of(folder: Path, *receipts: dict[str, Any]) -> Path:
    for number, each in enumerate(receipts):
        (folder / f"{number:02}.json").write_text(json.dumps(each))
    return folder


def lines(folder: Path) -> list[str]:
    answer = dask_claim("receipts", str(folder), TZ="UTC")
    assert answer.status == 0, answer.err
    assert all(len(line) <= 120 for line in answer.out.splitlines())
    return answer.out.splitlines()


NOTHING = {"workers": None, "tasks": None, "efficiency": None, "memory_peak": None}
KILLED = {"reason": "memory_limit", "count": 4, "text": "…"}


def test_table_and_sums(tmp_path: Path) -> None:
    failed = receipt(
        1,
        exit_status=1,
        reason="worker_memory",
        workers={"lost": [KILLED]},
        tasks={"failed": 3},
        efficiency=0.4,
    )
    birth = receipt(2, state="running", exit_status=None, command=["make"], **NOTHING)
    table = lines(folder_of(tmp_path, birth, failed, receipt()))
    shown = [" ".join(line.split()) for line in table[:5]]
    assert shown[0].startswith("RUN PROGRAM STARTED WALL ") and shown[0].endswith(" STATUS")
    assert shown[1] == "azmbdwrt bai.py 11-24 14:35 1:40 8 0.222 80 % 2.5/4.0 120 0 0 0"
    assert shown[2].endswith(" 1:40 8 0.222 40 % 2.5/4.0 120 3 4 1 worker_memory")
    assert shown[3] == "czmbdwrt make 11-24 16:35 running?"
    assert shown[4] == "TOTAL 3 runs 3:20 0.444 60 % 240 3 4 1 failed"
    assert table[-1] == "bai.py: 1 of 2 runs lost workers at their 4.0 GiB: claim worker_memory 8 G"


def test_json_has_the_raw_numbers(tmp_path: Path) -> None:
    runs = [receipt(number, efficiency=0.2, memory_peak=4 * GIB) for number in range(3)]
    answer = dask_claim("receipts", "--json", str(folder_of(tmp_path, *runs)))
    content = json.loads(answer.out)
    assert content["runs"][0]["memory_peak"] == int(2.5 * GIB)
    assert content["runs"][0]["started"] == BIRTH.isoformat()
    assert content["totals"]["runs"] == 3
    (advice,) = content["advice"]
    assert (advice["program"], advice["field"], advice["value"]) == ("bai.py", "max_workers", 3)
    evidence = "3 runs kept at most 2 of 8 workers busy on average (efficiency 20 %)"
    assert advice["text"] == f"bai.py: {evidence}: claim max_workers 3"


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([{"workers": {"memory_peak": GIB}}] * 3, "at most 1.0 of 4.0 GiB per worker"),
        ([{"workers": {"memory_peak": GIB}}] * 2, None),
        # The peak of a run that failed counts, too.
        ([{"workers": {"memory_peak": GIB}}] * 3 + [{"exit_status": 1}], None),
        ([{"workers": {"memory_peak": int(3.9 * GIB)}}], "claim worker_memory 5.5 G"),
        ([{"spilled": GIB}], "1 of 1 run wrote up to 1.0 GiB to the workers' disks"),
        # Nothing below what workers were killed at, and no advice that was taken already.
        ([{"workers": {"lost": [KILLED], "memory": 3 * GIB}}] + [{}] * 3, None),
        # More memory before fewer workers.
        ([{"efficiency": 0.1, "workers": {"lost": [KILLED]}}] * 3, "worker_memory 8 G"),
        # The workers that stay hold what all of them held.
        ([{"efficiency": 0.1}] * 3, "claim max_workers 6"),
        ([{"efficiency": 0.1, "plan": {"min_workers": 8}}] * 3, "min_workers and max_workers 6"),
        # Sizes that were not the run's to choose.
        ([{"efficiency": 0.1, "adopted": True}] * 3, None),
        ([{"efficiency": 0.1, "attached": "abc"}] * 3, None),
    ],
)  # fmt: skip
def test_advice(runs: list[dict[str, Any]], said: str | None) -> None:
    rows = [row(number, **changed) for number, changed in enumerate(runs)]
    answer = advise([each for each in rows if each.own_cluster]) if rows[0].own_cluster else None
    assert (said is None) == (answer is None), answer
    assert said is None or said in str(answer)


MEMORY = st.integers(2**28, 2**38)
RUNS = st.builds(
    lambda peak, memory, share, workers, efficiency, held, spilled, lost, status: row(
        exit_status=status,
        efficiency=efficiency,
        memory_peak=int(held * workers * memory),
        spilled=spilled,
        workers={
            "peak": workers,
            "memory": memory,
            "memory_peak": int(share * memory),
            "lost": [KILLED] if lost else [],
        },
    ),
    MEMORY, MEMORY, st.floats(0, 1), st.integers(1, 100), st.floats(0, 1), st.floats(0, 1),
    st.sampled_from([0, 0, GIB]), st.sampled_from([False, False, False, True]),
    st.sampled_from([0, 0, 0, 1]),
)  # fmt: skip


@given(st.lists(RUNS, min_size=1, max_size=8))
def test_no_advice_is_below_what_was_used(runs: list[Row]) -> None:
    answer = advise(runs)
    if answer is None:
        return
    good = [run for run in runs if run.exit_status == 0]
    last = runs[-1]
    assert last.memory and last.workers
    if answer.field == "worker_memory":
        claimed = float(str(answer.value).removesuffix(" G")) * GIB
        assert claimed > max(run.memory_peak or 0 for run in runs)
        assert all(claimed > (run.memory or 0) for run in runs if run.lost_memory)
        assert claimed != last.memory
        less = claimed < last.memory
    else:
        assert isinstance(answer.value, int)
        busy = max((run.workers or 0) * (run.efficiency or 0) for run in runs)
        assert busy <= answer.value < last.workers
        held = max(run.cluster_memory_peak or 0 for run in runs)
        assert answer.value * last.memory >= held
        less = True
    assert not less or len(good) >= ENOUGH


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python bai.py --x 1", "bai.py"),
        ("/opt/conda/bin/python3.12 -W ignore -X dev -u sub/bai.py", "bai.py"),
        ("python -m bai_example --post x", "bai_example"),
        ("python -c print(1)", "python -c"),
        ("python -Ic print(1)", "python -Ic"),
        ("sh -e job.sh", "job.sh"),
        ("bash -o pipefail /x/job.sh", "job.sh"),
        ("Rscript -e 1", "Rscript -e"),
        ("papermill burned.ipynb out.ipynb", "burned.ipynb"),
        ("/usr/bin/snakemake -j 4", "snakemake"),
        ("python", "python"),
        ("python -", "python -"),
        ("", "connect()"),
    ],
)
def test_programs(command: str, name: str) -> None:
    assert program(command.split()) == name


def test_bad_input_is_named_and_left_out(tmp_path: Path) -> None:
    hostile = receipt(3, command=["./\x1b[31mred\nline"], reason="<script>")
    folder = folder_of(tmp_path, receipt(), hostile)
    wrong = {
        "half.json": '{"dask_claim": "0.1.0", "timeline": {',
        "empty.json": "",
        "nan.json": json.dumps(receipt(efficiency=float("nan"))),
        "types.json": json.dumps(receipt(workers={"peak": "many"})),
        "endless.json": json.dumps(receipt(workers={"core_hours": 1e300})),
        "naive.json": json.dumps(receipt(timeline={"claimed": "0001-01-01T00:00:00"})),
        "newer.json": json.dumps(receipt(version=7, tasks="many")),
        "deep.json": "[" * 100_000,
        "other.json": '{"a": 1}',
        "list.json": "[1]",
    }
    for name, content in wrong.items():
        (folder / name).write_text(content)
    os.mkfifo(folder / "fifo.json")
    (folder / "dangling.json").symlink_to("nowhere")
    (folder / "notes.txt").write_text("{")
    newer = receipt(4, version=2, tasks={"done": 7, "failed": 0, "more": 1}, extra="new")
    (folder / "newer_fine.json").write_text(json.dumps(newer))
    answer = dask_claim("receipts", str(folder))
    assert answer.status == 0
    for name in {*wrong, "fifo.json", "dangling.json"} - {"other.json", "list.json"}:
        assert f"{name} is left out: " in answer.err
    assert "written by a newer dask-claim (version 7)" in answer.err
    assert "2 files are no receipts: list.json, other.json" in answer.err
    assert "3 runs" in answer.out
    assert "\x1b" not in answer.out and "\\x1b[31mred" in answer.out
    assert dask_claim("receipts", str(folder / "half.json")).status == 1
    assert dask_claim("receipts", str(folder / "absent.json")).status == 64


def test_ten_thousand_receipts(tmp_path: Path) -> None:
    history = [[float(second), 8, second] for second in range(100)]
    folder_of(tmp_path, *(receipt(number, history=history) for number in range(10_000)))
    assert "10000 runs" in "\n".join(lines(tmp_path))
