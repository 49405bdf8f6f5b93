"""Documents, CWL's own evaluation of them, and the runners."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

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


def _cwltool(
    runs: list[list[str]], folder: str, variables: dict[str, str], out: str, err: str
) -> NoReturn:
    """Be cwltool: run these command lines, and end with the highest of their statuses."""
    from cwltool import main

    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for number, path in enumerate((os.devnull, out, err)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    # With a callback: without one it forgets the schemas first.
    sys.exit(max(main.run(words, custom_schema_callback=lambda: None) for words in runs))


class Cwltool:
    """cwltool's command, forked from a process that has its modules and CWL's schemas already."""

    def __init__(self, logs: Path) -> None:
        self._out, self._err = logs / "out", logs / "err"
        self._forkserver = multiprocessing.get_context("forkserver")
        self._forkserver.set_forkserver_preload([__name__, "tests.support.cwltool_ready"])

    def __call__(self, *words: Any, folder: Path, **variables: str) -> Done:
        """Run it in a folder, with these variables besides those of `clean_environment`."""
        return self._run([[*map(str, words)]], folder, variables)

    def validate(self, *documents: Path | str) -> None:
        """Check documents against CWL's schema, links and expressions included."""
        if any("InlineJavascript" in Path(str(each).partition("#")[0]).read_text()
               for each in documents):  # fmt: skip
            need("node")
        done = self._run([["--validate", str(each)] for each in documents], ROOT, {})
        assert done.status == 0, done.err

    def _run(self, runs: list[list[str]], folder: Path, variables: dict[str, str]) -> Done:
        streams = str(self._out), str(self._err)
        arguments = (runs, str(folder), clean_environment(**variables), *streams)
        process = self._forkserver.Process(target=_cwltool, args=arguments)
        process.start()
        try:
            process.join(300)
        finally:
            # Where it has not ended: it ends what it has started.
            process.terminate()
            process.join()
        assert process.exitcode is not None
        return Done(process.exitcode, self._out.read_text(), self._err.read_text())


@pytest.fixture(scope="session")
def cwltool(tmp_path_factory: pytest.TempPathFactory) -> Cwltool:
    return Cwltool(tmp_path_factory.mktemp("cwltool"))


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
        done = subprocess.run(
            [*map(str, (*command, *words))],
            cwd=folder, env=clean_environment(PATH=path, **variables),
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)


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
        _close_node_at_the_end()
    return do_eval(text, inputs, scripts, None, None, {"cores": cores, "ram": ram})


@cache
def _close_node_at_the_end() -> None:
    """CWL's own library leaves the pipes of its process open, of which Python warns."""
    from cwl_utils.sandboxjs import NodeJSEngine

    @atexit.register
    def close() -> None:
        for process in NodeJSEngine.localdata.procs.values():
            process.kill()
            process.communicate()


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
