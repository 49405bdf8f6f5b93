"""Claims and site files where no file of the machine is looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dask_claim.claim.model import load
from dask_claim.errors import ClaimError

Env = dict[str, str]
Fields = dict[str, Any]

NOWHERE = {
    "DASK_CLAIM_SITE": "/dev/null",
    "HOME": "/nonexistent",
    "DASK_ROOT_CONFIG": "/nonexistent",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site file that says nothing yet."""
    return write(tmp_path / "claim.yaml", {})


@pytest.fixture
def environ(site: Path, tmp_path: Path) -> Env:
    """An environment in which nothing is said, with that site file."""
    return {
        "DASK_CLAIM_SITE": str(site),
        "HOME": str(tmp_path / "home"),
        "DASK_ROOT_CONFIG": str(tmp_path / "etc"),
    }


def write(path: Path, content: object) -> Path:
    """Write a file, and its folder: a text as it is, anything else as JSON, which YAML is, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def environ_with(folder: Path, text: str, **claim: Any) -> Env:
    """The environment of a site file with this text, and of this claim."""
    site = write(folder / "claim.yaml", text)
    return {**NOWHERE, "DASK_CLAIM_SITE": str(site), "DASK_CLAIM": json.dumps(claim)}


def faults_of(flags: dict[str, object] | None = None, **environ: str) -> list[str]:
    with pytest.raises(ClaimError) as caught:
        load(flags, {**NOWHERE, **environ})
    return [str(fault) for fault in caught.value.faults]
