"""Documents, CWL's own evaluation of them, and the runners."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import clean_environment
from tests.support.missing import need

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ROOT / "tests" / "cwl" / "documents"
BIN = Path(sys.executable).parent
_KEPT = os.environ.get("CLAIM_TEST_ENVIRONMENTS")
"""A folder that keeps the runners' environments, for whoever runs these tests often."""


@dataclass
class Done:
    """A finished run of a runner."""

    status: int
    out: str
    err: str

    @property
    def outputs(self) -> dict[str, Any]:
        """The output object."""
        made: dict[str, Any] = json.loads(self.out)
        return made

    def path(self, name: str) -> Path:
        return Path(self.outputs[name]["path"])

    def text(self, name: str) -> str:
        return self.path(name).read_text()


def run(*command: Any, folder: Path, **variables: str) -> Done:
    """Run any runner."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder, env=clean_environment(**variables), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


class Cwltool:
    """cwltool's command, without a second for its imports and another for CWL's schemas."""

    def __init__(self, logs: Path) -> None:
        self._out, self._err = logs / "out", logs / "err"
        self._begin()

    def _begin(self) -> None:
        self._forker = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("cwltool_forker.py")],
            env=clean_environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *words: Any, folder: Path, **variables: str) -> Done:
        """Run it in a folder, with these variables besides those of `clean_environment`."""
        request = {
            "words": [str(word) for word in words], "folder": str(folder),
            "variables": clean_environment(**variables),
            "out": str(self._out), "err": str(self._err),
        }  # fmt: skip
        try:
            status = self._run(json.dumps(request))
        except BaseException:
            # What it answers yet would be taken for the answer to the next request.
            self._forker.kill()
            self._forker.communicate()
            self._begin()
            raise
        return Done(status, self._out.read_text(), self._err.read_text())

    def _run(self, request: str) -> int:
        assert self._forker.stdin and self._forker.stdout
        self._forker.stdin.write(request + "\n")
        self._forker.stdin.flush()
        pid = int(self._forker.stdout.readline())
        timers = [
            # Told so, it ends what it has started.
            threading.Timer(300, os.kill, (pid, signal.SIGTERM)),
            threading.Timer(330, os.killpg, (pid, signal.SIGKILL)),
        ]
        for timer in timers:
            timer.start()
        try:
            return int(self._forker.stdout.readline())
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            raise
        finally:
            for timer in timers:
                timer.cancel()
                timer.join()

    def validate(self, path: Path) -> None:
        """Check a document against CWL's schema, links and expressions included."""
        if "InlineJavascript" in path.read_text():
            need("node")
        done = self("--validate", path, folder=path.parent)
        assert done.status == 0, done.err

    def end(self) -> None:
        self._forker.communicate()


@pytest.fixture(scope="session")
def cwltool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cwltool]:
    made = Cwltool(tmp_path_factory.mktemp("cwltool"))
    yield made
    made.end()


def _installed(factory: pytest.TempPathFactory, name: str, package: str) -> Path:
    """The `bin` of a virtual environment with one runner."""
    folder = Path(_KEPT) / name if _KEPT else factory.mktemp("environments") / name
    if not (folder / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        python = folder / "bin" / "python"
        # pip, where uv does not know the machine's package index.
        for installer in ((sys.executable, "-m", "uv", "pip", "install", "--python", python),
                          (python, "-m", "pip", "install")):  # fmt: skip
            done = subprocess.run([*installer, "--quiet", package], capture_output=True, text=True)
            if done.returncode == 0:
                break
        assert done.returncode == 0, done.stderr
        (folder / "done").touch()
    return folder / "bin"


class Toil:
    def __init__(self, programs: Path) -> None:
        self._programs = programs

    def __call__(self, *words: Any, folder: Path, **variables: str) -> Done:
        # Behind this Python: the tool's `python` is the one that has Dask.
        path = os.pathsep.join([str(BIN), str(self._programs), os.environ["PATH"]])
        command = [self._programs / "toil-cwl-runner", "--workDir", folder, "--clean", "always"]
        return run(*command, *words, folder=folder, PATH=path, **variables)


@pytest.fixture(scope="session")
def toil(tmp_path_factory: pytest.TempPathFactory) -> Toil:
    return Toil(_installed(tmp_path_factory, "toil", "toil[cwl]>=9"))


# What Calrissian does up to the point where a pod would start, for all jobs of documents.
BUILD = """
import itertools, json, sys
from cwltool.context import LoadingContext, RuntimeContext
from cwltool.load_tool import load_tool
from cwltool.secrets import SecretStore
from calrissian.tool import CalrissianCommandLineTool, calrissian_make_tool
from cwltool.command_line_tool import CommandLineTool

# Its job class wants a Kubernetes to be there; the one below it builds the same command.
CalrissianCommandLineTool.make_job_runner = CommandLineTool.make_job_runner
context = LoadingContext()
context.construct_tool_object = calrissian_make_tool
made = []
for document, inputs in json.load(sys.stdin):
    tool = load_tool(f"file://{document}", context)
    runtime = RuntimeContext()
    runtime.secret_store = SecretStore()
    secrets, _ = tool.get_requirement("http://commonwl.org/cwltool#Secrets")
    if secrets:
        runtime.secret_store.store([s.rpartition("/")[2] for s in secrets["secrets"]], inputs)
    made.append([
        {
            "command": job.command_line,
            "environment": job.environment,
            "image": job.get_requirement("DockerRequirement")[0]["dockerPull"],
            "files": {f["basename"]: f.get("contents") for f in job.generatefiles["listing"]},
            "temporary": job.temporaryFailCodes,
            "permanent": job.permanentFailCodes,
        }
        # None: the others wait for the end of these.
        for job in itertools.takewhile(bool, tool.job(inputs, lambda *_: None, runtime))
        # The workflow itself is one, too.
        if hasattr(job, "command_line")
    ])
print(json.dumps(made))
"""


class Calrissian:
    """Calrissian, with the cwltool that it is pinned to."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs

    def jobs(self, *documents: tuple[Any, dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """The jobs that it makes of each document and its inputs, validated on the way."""
        need("node")
        done = subprocess.run(
            [self.programs / "python", "-c", BUILD],
            input=json.dumps([(str(path), inputs) for path, inputs in documents]),
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        made: list[list[dict[str, Any]]] = json.loads(done.stdout.splitlines()[-1])
        return made


@pytest.fixture(scope="session")
def calrissian(tmp_path_factory: pytest.TempPathFactory) -> Calrissian:
    return Calrissian(_installed(tmp_path_factory, "calrissian", "calrissian==0.18.1"))


def load(text: str) -> Any:
    """A document as plain objects."""
    from dask_claim.cwl.document import parse

    return parse(text, "text")[1].root


def evaluate(
    text: str, inputs: dict[str, Any], scripts: list[Any], cores: float = 3, ram: float = 2048
) -> Any:
    """What CWL's own library makes of an expression."""
    from cwl_utils.expression import do_eval

    if scripts:
        need("node")
    return do_eval(text, inputs, scripts, None, None, {"cores": cores, "ram": ram})


def variables(tool: dict[str, Any], inputs: dict[str, Any] | None = None, **granted: float) -> Any:
    """The environment that a runner gives a tool: name → text."""
    required = tool.get("requirements") or {}
    if isinstance(required, list):
        required = {entry["class"]: entry for entry in required}
    defined = (required.get("EnvVarRequirement") or {}).get("envDef") or {}
    if isinstance(defined, list):
        defined = {entry["envName"]: entry["envValue"] for entry in defined}
    name = "InlineJavascriptRequirement"
    scripts = [{"class": name, **(required[name] or {})}] if name in required else []
    texts = {
        name: value["envValue"] if isinstance(value, dict) else value
        for name, value in defined.items()
    }
    return {name: evaluate(text, inputs or {}, scripts, **granted) for name, text in texts.items()}


def claim_of(tool: dict[str, Any], inputs: dict[str, Any] | None = None) -> Any:
    """The claim that dask-claim reads when a runner runs the tool, as its developer said it."""
    claim = json.loads(variables(tool, inputs)["DASK_CLAIM"])
    granted = {name: claim.pop(name) for name in ("local_cores", "local_memory") if name in claim}
    assert granted in ({}, {"local_cores": 3, "local_memory": "2048 Mi"})
    return claim
