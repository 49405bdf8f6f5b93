"""What kustomize makes of the folders in k8s/."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.missing import need

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(
    str(path.parent.relative_to(ROOT / "k8s"))
    for path in (ROOT / "k8s").rglob("kustomization.yaml")
    if "kind: Component" not in path.read_text()
)

Object = dict[str, Any]


def kubectl(*words: str) -> str:
    done = subprocess.run(["kubectl", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def rendered(folder: str, root: Path = ROOT / "k8s") -> list[Object]:
    """The objects of one folder of k8s/, or of a changed copy at `root`."""
    need("kubectl")
    return [*yaml.load_all(kubectl("kustomize", str(root / folder)), yaml.CSafeLoader)]


def one(folder: str, kind: str, name: str) -> Object:
    """One object by kind and name, config maps without the hash in theirs."""
    (found,) = (
        each for each in rendered(folder)
        if each["kind"] == kind and each["metadata"]["name"].startswith(name)
    )  # fmt: skip
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Every pod's spec, with the name and namespace of the object that makes it."""
    for each in objects:
        spec = each.get("spec") or {}
        if each["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if each["kind"] != "Pod":
            spec = (spec.get("template") or {}).get("spec")
        if spec and "containers" in spec:
            about = each["metadata"]
            yield f"{about.get('namespace', 'any')}/{about['name']}", spec


def pod(folder: str, name: str) -> Object:
    """The spec of the pod that an object of this name makes."""
    return next(spec for found, spec in pods(rendered(folder)) if found.endswith(f"/{name}"))


def container(folder: str, name: str) -> Object:
    return next(iter(pod(folder, name)["containers"]))


def mounts(folder: str, name: str) -> dict[str, Object]:
    """The volumes of the container by where it mounts them."""
    volumes = {volume["name"]: volume for volume in pod(folder, name)["volumes"]}
    return {
        mount["mountPath"]: volumes[mount["name"]]
        for mount in container(folder, name)["volumeMounts"]
    }


def variables(folder: str, name: str) -> dict[str, str]:
    """The variables that Kubernetes gives to the container, as far as they stand in the objects."""
    made = container(folder, name)
    found: dict[str, str] = {}
    for source in made.get("envFrom", []):
        if "configMapRef" in source:
            found |= one(folder, "ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {each["name"]: each["value"] for each in made.get("env", []) if "value" in each}
