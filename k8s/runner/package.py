"""Prints a CWL document as JSON, for a config map.

    python k8s/runner/package.py cwl/bai.cwl [IMAGE] > k8s/runner/bai.json

With IMAGE, the tools and their workers run that one in place of the project's, `dask-claim:0.1.0`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ruamel.yaml import YAML


def package(path: Path, image: str = "dask-claim:0.1.0") -> str:
    """The document at `path` as JSON text."""
    text = path.read_text().replace("dask-claim:0.1.0", image)
    return json.dumps(YAML(typ="safe").load(text), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(package(Path(sys.argv[1]), *sys.argv[2:]))
