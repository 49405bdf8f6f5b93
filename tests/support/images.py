"""The project's image, built once for all tests from a clean Debian, and containers of it.

No registry of images is needed: the base is made of Debian's packages. Podman keeps what was built;
while nothing in it changes, nothing is built again.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.gateway import clean_environment
from tests.support.missing import need

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/dask-claim-base:bookworm"
IMAGE = "dask-claim:0.1.0"
LANDSAT = f"{IMAGE}-landsat"
EXTRAS = "bai dashboard landsat"
LARGEST = 800
"""MB, half of them rasterio, pandas and matplotlib; nobody should double it."""

# The machine's own limits may be lower than podman's defaults, and its cgroups of the old kind.
CONFIG = """[containers]
default_ulimits = ["nofile=1024:4096", "nproc=1024:2048"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""

# In place of the docker command: podman, with the users that runners of those uids would name, one
# after the other, and folders that they may write. All else is as cwltool asks for it.
DOCKER = """#!{python}
import fcntl, os, re, subprocess, sys
words = sys.argv[1:]
users = {users}
if "run" in words and users:
    with open(__file__ + ".runs", "ab+") as runs:
        fcntl.flock(runs, fcntl.LOCK_EX)
        user = users[os.fstat(runs.fileno()).st_size % len(users)]
        runs.write(b".")
    words = [re.sub(r"^--user=.*", f"--user={{user}}", word) for word in words]
    for word in words:
        mount = re.fullmatch(r"--mount=type=bind,source=([^,]+),target=[^,]+", word)
        if mount:
            subprocess.run(["chown", "-R", user, mount[1]], check=True)
os.execvp("podman", ["podman", *words])
"""


class Podman:
    def __init__(self, folder: Path) -> None:
        config = folder / "containers.conf"
        config.write_text(CONFIG)
        self.variables = {"CONTAINERS_CONF": str(config)}

    def __call__(self, *words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["podman", *words],
            env=clean_environment(**self.variables), check=check,
            capture_output=True, text=True, timeout=900,
        )  # fmt: skip

    def docker(self, folder: Path, *users: str) -> dict[str, str]:
        """The variables with which a runner finds podman as `docker`, with these users."""
        bin_folder = folder / "docker-bin"
        bin_folder.mkdir()
        path = bin_folder / "docker"
        path.write_text(DOCKER.format(python=sys.executable, users=users))
        path.chmod(0o755)
        before = clean_environment()["PATH"]
        return {**self.variables, "PATH": f"{bin_folder}{os.pathsep}{before}"}

    def running(self, *words: str) -> list[str]:
        """Containers of the image that run."""
        words = ("ps", "--quiet", "--filter", f"ancestor={IMAGE}", *words)
        return self(*words, check=True).stdout.split()

    def has(self, image: str) -> bool:
        return self("image", "exists", image).returncode == 0


def content() -> str:
    """What the image is made of, in one word."""
    found = hashlib.sha256(EXTRAS.encode())
    names = ("Dockerfile", "pyproject.toml", "README.md", "LICENSE")
    folders = [ROOT / "dask_claim", ROOT / "bai_example"]
    sources = [path for folder in folders for path in folder.rglob("*") if path.suffix != ".pyc"]
    for path in sorted([*(ROOT / name for name in names), *sources]):
        if path.is_file():
            found.update(f"{path.relative_to(ROOT)} {path.stat().st_size} ".encode())
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def make_base(podman: Podman, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        include = "--include=python3,python3-venv,ca-certificates"
        command = ["debootstrap", "--variant=minbase", include, "bookworm", folder, *mirror()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=900)
        script = f"""cd {folder}; rm -rf var/cache/apt/archives/*.deb var/lib/apt/lists/*
        tar -c . | podman import --quiet - {name} >/dev/null"""
        variables = clean_environment(**podman.variables)
        subprocess.run(["sh", "-ec", script], check=True, env=variables)


def build(podman: Podman) -> None:
    if not podman.has(BASE):
        make_base(podman, BASE)
    built = f"localhost/dask-claim-test:{content()}"
    if not podman.has(built):
        # The machine's certificates, where its way to the package index has one of its own.
        certificates = "/etc/ssl/certs/ca-certificates.crt"
        done = podman(
            "build", "--quiet", "--layers", "--network", "host", "--tag", built,
            "--build-arg", f"BASE_IMAGE={BASE}", "--build-arg", f"EXTRAS={EXTRAS}",
            "--volume", f"{certificates}:{certificates}:ro", str(ROOT),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    podman("tag", built, IMAGE, LANDSAT, check=True)


def mirror() -> list[str]:
    """This machine's own of Debian, if its lists name one."""
    lists = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    text = "\n".join(path.read_text() for path in lists if path.is_file())
    named = r"^(?:URIs:|deb) *(?:\[[^]]*\] *)?(https?:\S+/debian)/?(?: .*)?$"
    return re.findall(named, text, re.M)[:1]


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    """Podman, with the image built."""
    need("root", "Debian", "podman")
    made = Podman(tmp_path_factory.mktemp("podman"))
    build(made)
    return made
