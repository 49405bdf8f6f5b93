"""`dask-claim receipts`: the table of runs, and what it advises to claim."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_claim.launch.receipt import Receipt
from dask_claim.receipts.advice import ENOUGH, advise
from dask_claim.receipts.fields import ReceiptFields
from dask_claim.receipts.rows import Row, program
from tests.support.here import dask_claim
from tests.support.launcher import ONE_TASK, PYTHON, Launcher, wait_for

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
        "command": ["/usr/bin/python3.11", "-u", "/app/bai.py", "--post", "x.json"],
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
    answer = dask_claim("receipts", str(folder))
    assert answer.status == 0, answer.err
    assert all(len(line) <= 120 for line in answer.out.splitlines())
    return answer.out.splitlines()


DOCS = Path(__file__).parents[1] / "docs"
IDS = (
    "qkzmbdwrtyxh",
    "wexhvpnaejsl",
    "trsyfbqomwda",
    "mbdwkzrtixeu",
    "zmwdbaiqpotr",
    "lgcfuejsnakw",
)
NOTHING = {"workers": None, "tasks": None, "efficiency": None, "memory_peak": None}
KILLED = {"reason": "memory_limit", "count": 4, "text": "…"}


def used(seconds: float, hours: float, peak: float, **changed: Any) -> dict[str, Any]:
    workers = {"core_hours": hours, "memory_peak": int(peak * GIB)}
    return {"duration": seconds, "workers": workers, "memory_peak": 3 * GIB, **changed}


CLASSIFY = {"peak": 4, "memory": GIB}


def test_the_table_in_the_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    request.addfinalizer(time.tzset)
    runs = [
        used(100, 0.222, 1.0, efficiency=0.1),
        used(98, 0.218, 1.1, efficiency=0.13),
        used(101, 0.224, 1.1, efficiency=0.12),
        used(740, 0.822, 0.7, efficiency=0.81, tasks={"done": 96}),
        used(426, 0.473, 1.0, efficiency=0.64, tasks={"done": 51, "failed": 1}, exit_status=1,
             reason="worker_memory"),
        {"state": "running", "exit_status": None, **NOTHING},
    ]  # fmt: skip
    for each in runs[3:]:
        each["command"] = ["python", "-u", "classify.py", "b.json"]
        each["workers"] = each["workers"] and {**each["workers"], **CLASSIFY}
    runs[4]["workers"]["lost"] = [KILLED]
    for number, (run, hour) in enumerate(zip(IDS, (0, 1, 2, 11, 12, 13), strict=True)):
        runs[number] = receipt(hour, run=run, **runs[number])
    shown = "\n".join(lines(folder_of(tmp_path, *reversed(runs))))
    page = (DOCS / "receipts.md").read_text()
    assert f"$ dask-claim receipts receipts/\n{shown}\n```" in page, shown


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
    ("runs", "expected"),
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
        ([{"efficiency": 0.1}] * 3, "16.0 GiB that they held take 6: claim max_workers 6"),
        ([{"efficiency": 0.1, "plan": {"min_workers": 8}}] * 3, "min_workers and max_workers 6"),
        # Sizes that were not the run's to choose.
        ([{"efficiency": 0.1, "adopted": True}] * 3, None),
        ([{"efficiency": 0.1, "attached": "abc"}] * 3, None),
    ],
)  # fmt: skip
def test_advice(runs: list[dict[str, Any]], expected: str | None) -> None:
    rows = [row(number, **changed) for number, changed in enumerate(runs)]
    answer = advise([each for each in rows if each.own_cluster]) if rows[0].own_cluster else None
    assert (expected is None) == (answer is None), answer
    assert expected is None or expected in str(answer)


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
    os.rename(folder / "00.json", folder / os.fsdecode(b"\xff.json"))
    assert "udcff.json" in dask_claim("receipts", "--json", str(folder)).out.encode().decode()
    answer = dask_claim("receipts", str(folder))
    assert answer.status == 0
    for name in {*wrong, "fifo.json", "dangling.json"} - {"other.json", "list.json"}:
        assert f"{name} is left out: " in answer.err
    assert "written by a newer dask-claim (version 7)" in answer.err
    assert "not receipts: list.json, other.json" in answer.err
    assert "3 runs" in answer.out
    assert "\x1b" not in answer.out and "\\x1b[31mred" in answer.out
    assert dask_claim("receipts", str(folder / "half.json")).status == 1
    assert dask_claim("receipts", str(folder / "absent.json")).status == 64


def test_real_receipts_have_their_schema_and_are_shown(attached: Launcher, tmp_path: Path) -> None:
    """A run that lasts, is killed, fails, ends well, or never begins."""
    running = attached.start(PYTHON, "-c", "import time; time.sleep(60)")
    running.until("Running ")
    wait_for(lambda: (running.receipt() or {}).get("state") == "running", "receipt of a run")
    lasting = dask_claim("receipts", str(tmp_path)).out
    running.process.kill()
    running.process.wait()
    killed = dask_claim("receipts", str(tmp_path)).out
    assert ("running?" in lasting, "killed" in killed, "?" in killed) == (True, True, False)
    attached(PYTHON, "-c", ONE_TASK)
    attached("false")
    attached("true", claim={"worker_cores": -1})
    schema = json.loads(dask_claim("schema", "--receipt").out)
    written = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert len(written) == 4
    for each in written:
        jsonschema.validate(each, schema)
        assert set(each) == set(schema["properties"])
    table = dask_claim("receipts", str(tmp_path)).out
    for status in ("killed", "0", "1 command_failed", "78 claim_invalid"):
        assert re.search(rf" {status}$", table, re.MULTILINE), table


BELOW = {"workers": "Workers", "tasks": "Tasks", "shared": "Shared", "workers.lost": "Lost"}
"""Field → the name of what is in it, in the schema."""


def test_the_documents_list_the_fields() -> None:
    schema = ReceiptFields.model_json_schema()

    def rows(part: dict[str, Any], prefix: str = "") -> Iterator[str]:
        for name, field in part["properties"].items():
            yield f"| `{prefix}{name}` | {field['description']} |"
            if inner := BELOW.get(f"{prefix}{name}"):
                yield from rows(schema["$defs"][inner], f"{prefix}{name}.")

    page = (DOCS / "receipts.md").read_text()
    assert "\n| --- | --- |\n" + "\n".join(rows(schema)) + "\n\n" in page
    assert set(Receipt([]).to_dict()) == set(ReceiptFields.model_fields)
