"""Imports go one way, as the tables of docs/design.md say; documents name what there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DESIGN = ROOT / "docs" / "design.md"
PACKAGES = ("dask_claim", "bai_example")


def modules(package: str) -> dict[str, Path]:
    """Module names without the package: `claim`, `providers.gateway`, `providers`."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name or "__init__"] = path
    return found


def imported(package: str, path: Path) -> set[str]:
    """Modules of both packages that a file imports, type-checking blocks apart."""
    known = modules(package)
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == package:
            base = node.module.partition(".")[2]
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                found.add(inner if inner in known else base or "__init__")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def table(package: str) -> dict[str, set[str]]:
    """What docs/design.md allows each module of a package to import."""
    section = DESIGN.read_text().split(f"## Modules of `{package}`")[1].split("\n## ")[0]
    rows = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0].startswith("`"):
            name = cells[0].strip("`").removesuffix(".py").replace("/", ".")
            rows[name.removesuffix(".__init__")] = set(re.findall(r"`([\w.]+)`", cells[2]))
    return rows


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_stands_in_the_design(package: str) -> None:
    assert set(table(package)) == set(modules(package))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_are_those_of_the_design(package: str) -> None:
    allowed = table(package)
    for name, path in modules(package).items():
        assert imported(package, path) == allowed[name], name


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    order: list[str] = []
    waiting = table(package)
    while waiting:
        free = [name for name, needs in waiting.items() if needs <= set(order)]
        assert free, f"a cycle among {sorted(waiting)}"
        order += free
        waiting = {name: needs for name, needs in waiting.items() if name not in free}


def test_the_example_uses_the_library_in_one_place() -> None:
    users = {
        name
        for name, path in modules("bai_example").items()
        if re.search(r"^\s*(import|from) dask_claim", path.read_text(), re.MULTILINE)
    }
    assert users == {"__main__"}


def test_modules_keep_to_one_idea() -> None:
    lengths = {
        f"{package}.{name}": len(path.read_text().splitlines())
        for package in PACKAGES
        for name, path in modules(package).items()
    }
    assert {name: length for name, length in lengths.items() if length > 250} == {}


DOCUMENTS = [
    path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target
