"""Documents, and what CWL's own reader makes of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.missing import need

DOCUMENTS = Path(__file__).parent / "documents"
BUILD = Path(__file__).with_name("build-image.sh")
CWLTOOL = str(Path(sys.executable).with_name("cwltool"))


def validate(path: Path, cwltool: str = CWLTOOL) -> None:
    """Let cwltool check a document against CWL's schema, links and expressions included."""
    if "InlineJavascript" in path.read_text():
        need("node")
    done = subprocess.run(
        [cwltool, "--validate", str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def built_image(folder: Path, *arguments: str, **variables: str) -> dict[str, str]:
    """Build an image with podman's files in `folder`; the variables with which podman runs here.

    `arguments` are build arguments, `variables` the script's own.
    """
    need("root", "Debian", "podman")
    done = subprocess.run(
        ["bash", BUILD, folder, *arguments],
        env={**os.environ, **variables}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    path = os.pathsep.join([str(folder / "bin"), str(Path(CWLTOOL).parent), os.environ["PATH"]])
    return {"CONTAINERS_CONF": str(folder / "containers.conf"), "PATH": path}


def load(text: str) -> Any:
    """A document as plain objects."""
    from dask_claim.cwl.document import parse, plain

    return plain(parse(text, "text"))


def variables(tool: dict[str, Any], inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    """The environment that a runner gives a tool, by cwltool's own evaluation."""
    from cwl_utils.expression import do_eval

    required = tool.get("requirements") or {}
    if isinstance(required, list):
        required = {entry["class"]: entry for entry in required}
    defined = (required.get("EnvVarRequirement") or {}).get("envDef") or {}
    if isinstance(defined, list):
        defined = {entry["envName"]: entry["envValue"] for entry in defined}
    scripts = [
        {"class": "InlineJavascriptRequirement", **(content or {})}
        for name, content in required.items()
        if name == "InlineJavascriptRequirement"
    ]
    if scripts:
        need("node")
    return {
        name: do_eval(
            value["envValue"] if isinstance(value, dict) else value,
            inputs or {},
            scripts,
            None,
            None,
            {"cores": 3, "ram": 2048},
        )
        for name, value in defined.items()
    }


def claim_of(tool: dict[str, Any], inputs: dict[str, Any] | None = None) -> Any:
    """The claim that dask-claim reads when a runner runs the tool, as its developer said it."""
    claim = json.loads(variables(tool, inputs)["DASK_CLAIM"])
    granted = {name: claim.pop(name) for name in ("local_cores", "local_memory") if name in claim}
    assert granted in ({}, {"local_cores": 3, "local_memory": "2048 Mi"})
    return claim
