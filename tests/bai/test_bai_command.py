"""The command line: what it logs, its exit status, what it leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "bai_example"]


@pytest.fixture
def environment(client: Any, tmp_path: Path) -> dict[str, str]:
    """As under the launcher: the address of a running scheduler, and an empty HOME."""
    (tmp_path / "home").mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DASK_")}
    return kept | {
        "DASK_SCHEDULER_ADDRESS": client.scheduler.address,
        "HOME": str(tmp_path / "home"),
    }


def run(
    arguments: list[str], environment: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pre", "post"), [("--pre-event", "--post-event"), ("--pre_fire_url", "--post_fire_url")]
)
def test_map(
    pre: str, post: str, sample: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Relative paths, the output folder made on the way, the log of the reference program."""
    shutil.copytree(sample, tmp_path / "pair")
    arguments = [pre, "pair/pre.json", post, "pair/post.json", "--output-dir", "out/here"]
    done = run(arguments, environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    folder = tmp_path / "out" / "here"
    assert {path.name for path in folder.iterdir()} == {"bai.tif", "bai.json", "bai.png"}
    place = 0
    for line in (
        "pre event pair/pre.json",
        "post event pair/post.json",
        "Burnt area intensity shape: (256, 256)",
        "Burnt area intensity dims: ('y', 'x')",
        "Writing the result to a COG file",
        "High severity",
        "out/here/bai.tif",
        "out/here/bai.png",
        "out/here/bai.json",
        "done in ",
    ):
        assert line in done.stderr[place:], f"{line!r} is missing or out of order"
        place = done.stderr.index(line, place)
    assert "Traceback" not in done.stderr
    assert not [*(tmp_path / "home").iterdir()]


def test_wrong_input(environment: dict[str, str], tmp_path: Path) -> None:
    """One line for each problem, status 1, no cluster asked for, nothing written."""
    environment["DASK_SCHEDULER_ADDRESS"] = "tcp://127.0.0.1:9"  # nobody there
    arguments = ["--pre-event", "no.json", "--post-event", "nor.json", "--output-dir", "out"]
    done = run(arguments, environment, tmp_path)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
    assert len(errors) == 2
    assert "pre-event item: " in errors[0]
    assert "no.json: no such file" in errors[0]
    assert "nor.json: no such file" in errors[1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_wrong_claim(sample: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Without a launcher the program claims for itself, and ends as dask-claim would."""
    del environment["DASK_SCHEDULER_ADDRESS"]
    environment["DASK_CLAIM"] = '{"worker_core": 1, "max_workers": -1}'
    pair = [f"--{event}-event={sample / event}.json" for event in ("pre", "post")]
    done = run(pair, environment, tmp_path)
    assert done.returncode == 78, done.stderr
    assert "worker_core" in done.stderr
    assert "max_workers" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name != "home"]


def test_wrong_usage(environment: dict[str, str], tmp_path: Path) -> None:
    """Said before anything heavy is imported."""
    begin = time.monotonic()
    done = run(["--pre-event", "a.json"], environment, tmp_path)
    assert done.returncode == 2
    assert "--post-event" in done.stderr
    assert time.monotonic() - begin < 5


def test_light_import() -> None:
    """The package itself, and the command up to its arguments, load no heavy library."""
    code = (
        "import sys, bai_example, bai_example.__main__ as m\n"
        "heavy = {'numpy', 'rasterio', 'xarray', 'dask', 'distributed', 'matplotlib', 'pystac'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sigterm_while_waiting(sample: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Ended while it waits for a worker: status 128 + 15, and no file or folder is left."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as empty,
        Client(empty) as other,
    ):
        environment["DASK_SCHEDULER_ADDRESS"] = other.scheduler.address
        pair = [f"--{event}-event={sample / event}.json" for event in ("pre", "post")]
        process = subprocess.Popen(
            [*COMMAND, *pair, "--output-dir", "out"],
            env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Writing the result" in line:
                break
        else:
            pytest.fail("".join(lines))
        deadline = time.monotonic() + 10
        while not [*(tmp_path / "out").iterdir()]:  # the hidden folder of a run under way
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM, rest
    assert not [*(tmp_path / "out").iterdir()]


def test_relative_items_below_a_folder(
    sample: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """As a CWL tool finds a staged folder: the items by name, the working directory elsewhere."""
    arguments = ["--items", str(sample), "--pre-event", "pre.json", "--post-event", "post.json"]
    done = run(arguments, environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bai.tif").exists()
