"""The documents: every console in them is run as it is written, and the site is built strictly.

A page's consoles are run in their order, by one shell, in a new folder with the page's named files:
those whose first line is `# NAME`, and with `examples`. A comment on the line before a console can
say otherwise: `<!-- not run: WHY -->`, `<!-- deep -->` (only in `make test-deep`),
`<!-- status 78 -->`. Where a page speaks of the gateway at http://127.0.0.1:8000, there is a real
one at another port. dask-claim itself and the packages of the examples are those of the tests'
environment.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.model import Claim
from dask_claim.launch.handoff import variables
from dask_claim.providers.values import Cluster
from tests.support.gateway import clean_environment, free_port
from tests.support.launcher import Launcher

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GATEWAY = "127.0.0.1:8000"
FENCE = re.compile(r"(?m)^(?:<!-- (.*) -->\n)?```(\w*)\n((?:.*\n)*?)```$")

SHELLS = ("console", "sh", "bash", "shell")


@dataclass
class Console:
    """A console of a page."""

    mark: str
    text: str

    @property
    def runs(self) -> bool:
        return not self.mark.startswith("not run: ")

    @property
    def status(self) -> int:
        """With which its last command ends."""
        return int(self.mark.removeprefix("status ")) if "status " in self.mark else 0

    def steps(self) -> Iterator[tuple[str, str]]:
        """Each command, and what is shown below it. A command goes on after a backslash; without
        any `$ ` the whole is one."""
        if "$ " not in self.text:
            yield self.text, ""
        for step in re.split(r"(?m)^\$ ", self.text)[1:]:
            command, shown = re.fullmatch(r"((?:.*\\\n)*.*\n)((?:.*\n)*)", step).groups()
            yield command, shown


def consoles(page: Path) -> list[Console]:
    return [
        Console(mark, text)
        for mark, kind, text in FENCE.findall(page.read_text())
        if kind in SHELLS
    ]


def pages() -> Iterator[ParameterSet]:
    """Those with something to run."""
    for page in PAGES:
        marks = {each.mark for each in consoles(page) if each.runs}
        if marks:
            deep = [pytest.mark.deep] if "deep" in marks else []
            yield pytest.param(page, id=page.stem, marks=deep)


def named_files(page: Path) -> dict[str, str]:
    texts = (text for _, kind, text in FENCE.findall(page.read_text()) if kind not in SHELLS)
    named = ((re.match(r"# ([\w.-]+\.\w+)\n", text), text) for text in texts)
    return {match[1]: text for match, text in named if match}


def normal(text: str) -> list[str]:
    """Lines without what differs from run to run and from machine to machine."""
    text = re.sub(r"\b\d{4}-\d\d-\d\d[ T][\d:.]+(?:\+00:00)?", "TIME", text)
    text = re.sub(r"\b(?:[0-9a-f]{32}|[a-z]{32}|^[a-z]{8}(?=  ))\b", "NAME", text, flags=re.M)
    text = re.sub(r"[\d,]*\d(?:\.\d+)?", "N", re.sub("  +", "  ", text))
    return re.sub(r"\b(N \w+?)s\b", r"\1", text).splitlines()


def assert_shown(shown: str, real: str) -> None:
    """The lines that a page shows come in this order; `…` stands for any text."""
    lines = iter(normal(real))
    for line in normal(shown):
        pattern = ".*".join(map(re.escape, line.split("…")))
        assert line == "…" or any(re.fullmatch(pattern, each) for each in lines), (line, real)


def run_page(page: Path, launcher: Launcher, folder: Path, gateway: str) -> None:
    (folder / "examples").symlink_to(ROOT / "examples")
    running = [each for each in consoles(page) if each.runs]
    steps = [step for each in running for step in each.steps()]
    for name, text in named_files(page).items():
        (folder / name).write_text(text.replace(GATEWAY, gateway))
    script = "".join(f"{command}printf '\\0%s\\0' $?\n" for command, _ in steps)
    done = subprocess.run(
        ["bash", "-c", script.replace(GATEWAY, gateway)],
        cwd=folder, env=clean_environment(**launcher.variables), timeout=300,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    *parts, rest = done.stdout.decode().split("\0")
    outputs, statuses = parts[::2], list(map(int, parts[1::2]))
    assert len(outputs) == len(steps), (rest, outputs[-1:])
    expected = [
        each.status if number == len(list(each.steps())) else 0
        for each in running
        for number, _ in enumerate(each.steps(), 1)
    ]
    for (command, shown), output, status, wanted in zip(
        steps, outputs, statuses, expected, strict=True
    ):
        assert status == wanted, (command, output)
        assert_shown(shown, output)


@pytest.fixture
def address(request: pytest.FixtureRequest, page: Path) -> str:
    """Of a gateway, where the page has one; free where the page starts its own."""
    if any(GATEWAY in text for text in named_files(page).values()):
        return f"127.0.0.1:{free_port()}"
    if GATEWAY not in page.read_text():
        return GATEWAY
    return request.getfixturevalue("gateway").url.removeprefix("http://")


@pytest.mark.parametrize("page", list(pages()))
def test_page(page: Path, launcher: Launcher, tmp_path: Path, address: str) -> None:
    run_page(page, launcher, tmp_path, address)


def test_variables() -> None:
    """The page on the environment has every variable that a run adds, and no other."""
    section = (ROOT / "docs/environment.md").read_text().partition("\n## What dask-claim reads")[0]
    documented = {*re.findall(r"`([A-Z_]+…?)`", "".join(re.findall(r"(?m)^\|[^|]*", section)))}
    gateway = GatewayAddress("http://127.0.0.1:1", "gateway://a:1", "http://a", password="x")
    clusters = [
        Cluster("gateway://a:1/x", "x", "http://a", gateway),
        Cluster("tls://a:1", None, "http://b", tls_folder="folder"),
    ]
    added = {name for each in clusters for name in variables(each, Claim(), {}, "id", shares=True)}
    assert documented == added | {
        # The site file's credentials, the command's own clusters, and the launcher's trace.
        "DASK_GATEWAY__AUTH__KWARGS__SITE_FILE", "DASK_GATEWAY__CLUSTER__OPTIONS__…", "TRACEPARENT"
    }  # fmt: skip


def test_links() -> None:
    """Every file to which a document links is there."""
    for page in PAGES:
        for link in re.findall(r"\]\(((?!https?:|mailto:)[^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), (page.name, link)


@pytest.mark.slow
def test_site(tmp_path: Path) -> None:
    """Sphinx has no warning: no dead link, no page that no other names, no name without docs."""
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", tmp_path],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    for name in ("index", "claim", "api", "command-line"):
        assert (tmp_path / f"{name}.html").exists()


def test_design_names_what_is_there() -> None:
    """Its table of packages is that of the code, and each module that it names exists."""
    page, code = (ROOT / "docs" / "design.md").read_text(), ROOT / "dask_claim"
    table = re.search(r"\| package \| contents \|\n((?:\|.*\n)+)", page)
    assert table
    packages = set(re.findall(r"`(\w+)`", re.sub(r"(?m)^(\|[^|]*\|).*$", r"\1", table[1])))
    there = {path.stem for path in code.iterdir() if not path.name.startswith(("_", "py."))}
    assert packages == there
    for module in re.findall(r"`([\w/]+\.py)`", page):
        assert (code / module).is_file(), module


def texts(tree: ast.Module) -> list[str]:
    """Each text of a module, with `…` for what is filled in."""
    literals = []
    for node in ast.walk(tree):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        values = [part.value if isinstance(part, ast.Constant) else "…" for part in parts]
        literals.append("".join(value for value in values if isinstance(value, str)))
    return literals


def test_headings_of_troubleshooting_are_messages_of_the_sources() -> None:
    document = (ROOT / "docs/troubleshooting.md").read_text()
    headings = re.findall(r"^### `(.*)`$", document, re.MULTILINE)
    assert len(headings) > 20
    modules = [ast.parse(path.read_text()) for path in (ROOT / "dask_claim").rglob("*.py")]
    messages = "\n".join({text for module in modules for text in texts(module)})
    for heading in headings:
        assert re.search(".*".join(map(re.escape, heading.split("…"))), messages), heading
