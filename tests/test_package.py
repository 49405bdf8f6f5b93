"""What is released: the contents of the wheel and the sdist, and what describes them."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path, PurePath

import pytest
from hatchling.build import build_sdist, build_wheel
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical
from ruamel.yaml import YAML

from dask_claim import __version__

ROOT = Path(__file__).resolve().parents[1]
INFO = f"dask_claim-{__version__}.dist-info"


def sources() -> set[str]:
    """The package's files; others that Python or an editor left there are ignored."""
    paths = (ROOT / "dask_claim").rglob("*")
    files = {path for path in paths if path.suffix in (".py", ".html") or path.name == "py.typed"}
    return {str(path.relative_to(ROOT)) for path in files}


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[zipfile.ZipFile]:
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path))) as made:
        yield made


@pytest.fixture
def metadata(wheel: zipfile.ZipFile) -> Message:
    return message_from_bytes(wheel.read(f"{INFO}/METADATA"))


def test_the_wheel_is_the_package_alone(wheel: zipfile.ZipFile, metadata: Message) -> None:
    names = set(wheel.namelist())
    assert {name for name in names if not name.startswith(f"{INFO}/")} == sources()
    assert f"{INFO}/licenses/LICENSE" in names
    page = metadata.get_payload()
    assert page.startswith("# dask-claim\n")
    # Nothing else would be there on a package index.
    targets = re.findall(r"\]\(([^)]*)\)", page)
    assert [each for each in targets if not each.startswith(("https://", "#"))] == []


def test_the_sdist_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    path = tmp_path / build_sdist(str(tmp_path))
    with tarfile.open(path) as made:
        files = {str(PurePath(*PurePath(name).parts[1:])) for name in made.getnames()}
    assert {name for name in files if name.startswith("dask_claim/")} == sources()
    assert {PurePath(name).parts[0] for name in files} == {
        "dask_claim", "pyproject.toml", "PKG-INFO", "README.md", "LICENSE", "CHANGELOG.md",
        "CITATION.cff", ".gitignore",
    }  # fmt: skip
    assert path.stat().st_size < 400_000


def test_descriptions_agree(metadata: Message) -> None:
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    codemeta = json.loads((ROOT / "codemeta.json").read_text())
    recipe = YAML(typ="safe").load(ROOT / "recipe" / "recipe.yaml")
    changelog = re.search(r"^## \[([^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    image = re.search(r"^ARG VERSION=(.*)$", (ROOT / "Dockerfile").read_text(), re.M)
    versions = {
        "package": metadata["Version"], "CITATION.cff": citation["version"],
        "codemeta.json": codemeta["version"], "recipe.yaml": str(recipe["context"]["version"]),
        "CHANGELOG.md": changelog and changelog[1], "Dockerfile": image and image[1],
    }  # fmt: skip
    assert versions == dict.fromkeys(versions, __version__)
    assert metadata["Summary"] == codemeta["description"] == recipe["about"]["summary"]
    every = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    needed = {canonical(each.name): str(each.specifier) for each in every if each.marker is None}
    named = [canonical(each["name"]) for each in codemeta["softwareRequirements"]]
    assert named == sorted(needed)
    lines = [line.split() for line in recipe["requirements"]["run"]]
    conda = {canonical(name): " ".join(versions) for name, *versions in lines}
    assert conda == {**needed, canonical("__linux"): "", "python": ">=${{ python_min }}"}


def test_workflows_pin_their_actions() -> None:
    """A tag can be moved; a commit cannot."""
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        uses = re.findall(r"^ *- ?uses: (.*)$", path.read_text(), re.M)
        assert uses
        assert [each for each in uses if not re.fullmatch(r"[^@]+@[0-9a-f]{40} # v.+", each)] == []


@pytest.mark.parametrize(
    ("first", "installs"), [("fast", "[bai,s3,landsat,job-service]"), ("test", None)]
)
def test_each_set_of_tests_has_its_packages(
    first: str, installs: str | None, tmp_path: Path
) -> None:
    """Whichever was run before it; `make test-fast` is content with those for all tests."""
    for stamp in (".created", ".installed-bai", f".installed-{first}"):
        (tmp_path / stamp).touch()

    def plan(target: str) -> str:
        make = ["make", "--dry-run", f"VENV={tmp_path}", target]
        return subprocess.check_output(make, cwd=ROOT, text=True)

    assert "pip install" not in plan("test-fast")
    assert installs in plan("test") if installs else "pip install" not in plan("test")
    lowest = [line for line in plan("test-lowest").splitlines() if line.startswith(str(tmp_path))]
    assert all(f"{tmp_path}/lowest" in line for line in lowest)
