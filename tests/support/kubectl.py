"""`kubectl kustomize`, where it is new enough."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.missing import missing, need


def kustomize(folder: Path) -> str:
    """Render the objects of a folder; skips where this cannot be done.

    Folders among resources, and patches in place of strategic merges, take the kustomize of
    kubectl 1.21 or newer; only such a kubectl tells its version.
    """
    need("kubectl")
    client = subprocess.run(
        ["kubectl", "version", "--client"], capture_output=True, text=True, timeout=60, check=False
    )
    if "Kustomize Version" not in client.stdout:
        missing("kubectl 1.21")
    done = subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
