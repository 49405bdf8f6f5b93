"""Every object in k8s/: valid by Kubernetes' schemas, held to our policies, fitting together."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dask_claim.launch.options import RunOptions
from tests.k8s.objects import (
    FOLDERS,
    OVERLAYS,
    ROOT,
    Object,
    container,
    mounts,
    one,
    pod,
    pods,
    rendered,
    variables,
)
from tests.support.cwl import load
from tests.support.gateway import clean_environment

VALUES = yaml.safe_load((ROOT / "k8s" / "gateway" / "values.yaml").read_text())
# Starts the node's own NFS server, in a namespace of its own.
ROOT_IS_NEEDED = {"nfs/nfs-server"}
# Speaks to Kubernetes.
TOKEN_IS_NEEDED = {"processing/bai", "any/landsat"}


def breaches(name: str, spec: Object) -> list[str]:
    """What a pod does that it should not."""
    found = []
    if name not in TOKEN_IS_NEEDED and spec.get("automountServiceAccountToken") is not False:
        found.append("a token of Kubernetes that it does not need")
    for each in [*spec["containers"], *spec.get("initContainers", [])]:
        image = each.get("image", "of-the-chart:1")
        if image.rpartition("/")[2].partition(":")[2] in ("", "latest"):
            found.append(f"{image}: no fixed tag")
        resources = each.get("resources", {})
        found += [
            f"no {part}.{kind}" for part in ("requests", "limits") for kind in ("cpu", "memory")
            if kind not in resources.get(part, {})
        ]  # fmt: skip
        if name in ROOT_IS_NEEDED:
            continue
        user = spec.get("securityContext", {})
        if user.get("runAsNonRoot") is not True or not user.get("runAsUser"):
            found.append("root")
        if user.get("seccompProfile") != {"type": "RuntimeDefault"}:
            found.append("every system call")
        wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                  "capabilities": {"drop": ["ALL"]}}  # fmt: skip
        if each.get("securityContext") != wanted:
            found.append("privileges or a root that can be written to")
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_valid_and_within_policies(folder: str) -> None:
    """By the schemas of the oldest version that the chart supports, and of the newest."""
    for each in rendered(folder):
        for version in ("1.30", kubernetes_validate.latest_version()):
            kubernetes_validate.validate(each, version, strict=True)
    found = {name: breaches(name, spec) for name, spec in pods(rendered(folder))}
    assert found == {name: [] for name in found}
    for name, spec in pods(rendered(folder)):
        # Each mount is of a volume.
        volumes = {volume["name"] for volume in spec["volumes"]}
        for each in spec["containers"]:
            assert {mount["name"] for mount in each["volumeMounts"]} <= volumes, name


def test_a_breach_is_found() -> None:
    spec = pod("tool", "map")
    wrong = json.loads(json.dumps(spec))
    wrong["containers"][0] |= {"image": "dask-claim", "resources": {}}
    del wrong["securityContext"]
    assert len(breaches("processing/map", spec)) == 0
    assert len(breaches("processing/map", wrong)) == 7


@pytest.mark.parametrize("role", ["scheduler", "worker"])
def test_the_gateways_own_pods(role: str) -> None:
    """They are made from the values: valid as a pod, and held to the same."""
    said = VALUES["gateway"]["backend"][role]
    made = {"name": role, "image": "dask-claim:0.1.0", **said["extraContainerConfig"],
            "resources": {"requests": {"cpu": 1, "memory": "1Gi"},
                          "limits": {"cpu": 1, "memory": "1Gi"}}}  # fmt: skip
    spec = {
        **said["extraPodConfig"],
        "containers": [made],
        # The gateway's own word.
        "automountServiceAccountToken": False,
    }
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": role}, "spec": spec}
    kubernetes_validate.validate(whole, "1.30", strict=True)
    assert breaches(f"dask-gateway/{role}", spec) == []
    assert all({"request", "limit"} == set(said[kind]) for kind in ("cores", "memory"))


def outcome(job: Object, status: int) -> str:
    """What Kubernetes does after a container ended so, by the Job's podFailurePolicy."""
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes")
        if codes and (status in codes["values"]) == (codes["operator"] == "In"):
            return str(rule["action"])
    return "Count"


def test_what_is_tried_again() -> None:
    job = one("tool", "Job", "map")
    assert job["spec"]["backoffLimit"] > 0
    assert outcome(job, 75) == "Count"
    for status in (1, 64, 70, 78, 124, 126, 127, 137, 143):
        assert outcome(job, status) == "FailJob"
    for each in (job, one("runner", "Job", "bai")):
        # A node that is drained is no failure of the run.
        assert each["spec"]["podFailurePolicy"]["rules"][0]["action"] == "Ignore"
        assert each["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    # Calrissian's own status says nothing of its tools'.
    assert one("runner", "Job", "bai")["spec"]["backoffLimit"] == 0


@pytest.mark.parametrize(
    ("folder", "name"),
    [("tool", "map"), ("runner", "bai"), ("doctor", "doctor"), ("landsat", "landsat"),
     ("job_service", "job-service")],
)  # fmt: skip
def test_the_grace_is_enough(folder: str, name: str) -> None:
    options = RunOptions()
    wanted = options.grace + options.stop_timeout
    assert pod(folder, name)["terminationGracePeriodSeconds"] > wanted


def test_calrissian_may_what_it_needs_and_no_more() -> None:
    rules = {tuple(rule["resources"]): set(rule["verbs"]) for rule in
             one("runner", "Role", "calrissian")["rules"]}  # fmt: skip
    assert rules == {
        ("pods",): {"create", "patch", "delete", "list", "watch"},
        ("pods/log",): {"get", "list"},
    }
    (subject,) = one("runner", "RoleBinding", "calrissian")["subjects"]
    assert subject["namespace"] == "processing" and subject["name"] == "calrissian"
    assert pod("runner", "bai")["serviceAccountName"] == "calrissian"
    names = {each["name"] for each in container("runner", "bai")["env"]}
    assert "CALRISSIAN_POD_NAME" in names


def test_the_package_is_current() -> None:
    """As the command in docs/kubernetes.md makes it, also with another image."""
    command = [sys.executable, "k8s/runner/package.py", "cwl/bai.cwl"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert made == (ROOT / "k8s" / "runner" / "bai.json").read_text()
    assert json.loads(made) == yaml.safe_load((ROOT / "cwl" / "bai.cwl").read_text())
    other = "registry.example.org/dask-claim:2"
    made = subprocess.run([*command, other], cwd=ROOT, capture_output=True, text=True).stdout
    assert made.count(f'{other}"') == 1 and made.count(f'\\"{other}\\"') == 1
    assert "dask-claim:0.1.0" not in made


def test_calrissian_finds_its_files() -> None:
    """Each path in its arguments is a file of a config map that is mounted there."""
    mounted = mounts("runner", "bai")
    read = []
    for word in container("runner", "bai")["args"]:
        path = Path(word.partition("=")[2] or word)
        if not str(path).startswith("/config"):
            continue
        file, _, part = path.name.partition("#")
        content = one("runner", "ConfigMap", mounted[str(path.parent)]["configMap"]["name"])["data"]
        read.append((file, part, yaml.safe_load(content[file])))
    (_, _, environment), (_, part, document), (_, _, inputs) = read
    (workflow,) = (each for each in document["$graph"] if each["id"] == part)
    wanted = {name for name, about in workflow["inputs"].items() if about["type"][-1] != "?"}
    assert wanted <= set(inputs) <= set(workflow["inputs"])
    # Each of them becomes a variable of a pod, so it must be a text. A tool's pod has 30 s to end.
    times = [environment.pop(f"DASK_CLAIM_{name}") for name in ("GRACE", "STOP_TIMEOUT")]
    assert sum(map(float, times)) < 30 and all(isinstance(value, str) for value in times)
    # The same as for other pods.
    assert environment == one("runner", "ConfigMap", "gateway")["data"]
    # Everything that is kept lies on the volume.
    for option in ("outdir", "stdout", "stderr", "usage-report", "tool-logs-basepath"):
        (place,) = (word for word in container("runner", "bai")["args"]
                    if word.startswith(f"--{option}="))  # fmt: skip
        assert place.partition("=")[2].startswith("/calrissian/")
    assert "persistentVolumeClaim" in mounted["/calrissian"]


def test_no_request_is_above_the_default_limit() -> None:
    """Kubernetes refuses such a pod; and a tool of Calrissian's never lacks a limit."""
    (limits,) = one("namespace", "LimitRange", "containers")["spec"]["limits"]
    tool = next(each for each in yaml.safe_load((ROOT / "cwl" / "bai.cwl").read_text())["$graph"]
                if each["class"] == "CommandLineTool")  # fmt: skip
    most = tool["requirements"]["ResourceRequirement"]
    assert most["coresMax"] <= float(limits["default"]["cpu"])
    assert most["ramMax"] <= 1024 * int(limits["default"]["memory"].removesuffix("Gi"))
    words = container("runner", "bai")["args"]
    assert f"--max-cores={limits['default']['cpu']}" in words
    assert f"--max-ram={limits['default']['memory'].removesuffix('i')}" in words


@pytest.mark.parametrize(("folder", "name"), [("tool", "map"), ("doctor", "doctor")])
def test_claims(folder: str, name: str) -> None:
    """dask-claim reads the pod's variables as they are, and plans what was meant."""
    done = subprocess.run(
        ["dask-claim", "show", "--json"],
        env=clean_environment(**variables(folder, name)),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert shown["plan"]["provider"] == "gateway"
    assert shown["sources"]["gateway_url"] == "DASK_CLAIM_GATEWAY_URL"
    assert shown["claim"]["max_lifetime"] == 3600


@pytest.mark.parametrize("folder", OVERLAYS)
def test_overlays(folder: str) -> None:
    """Each says where the shared volume is, and what it names is there."""
    claim = one(folder, "PersistentVolumeClaim", "work")["spec"]
    assert claim["accessModes"] == ["ReadWriteMany"]
    classes = {each["metadata"]["name"] for each in rendered(folder)
               if each["kind"] == "StorageClass"}  # fmt: skip
    name = claim["storageClassName"]
    if name:
        # What these bring themselves.
        assert name in classes | {"longhorn", "standard"}
    else:
        volume = one(folder, "PersistentVolume", claim["volumeName"])["spec"]
        service, namespace = volume["nfs"]["server"].split(".")[:2]
        assert one(folder, "Service", service)["metadata"]["namespace"] == namespace
        assert volume["accessModes"] == claim["accessModes"] and volume["storageClassName"] == ""
    user = pod(folder, "bai")["securityContext"]
    text = json.dumps([each for each in rendered(folder) if each["kind"] == "StorageClass"])
    if classes:
        assert {*re.findall(r"uid\W+(\d+)", text)} == {str(user["runAsUser"])}
        assert {*re.findall(r"gid\W+(\d+)", text)} == {str(user["runAsGroup"])}


def test_the_proxy_is_for_the_runs() -> None:
    """Inside only, for the namespace of the runs; an address that the claims really have."""
    assert VALUES["traefik"]["service"]["type"] == "ClusterIP"
    source: Any = one("gateway", "NetworkPolicy", "proxy")["spec"]["ingress"][0]["from"]
    runs = one("namespace", "Namespace", "processing")["metadata"]["name"]
    assert source[0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": runs}
    place = one("gateway", "Namespace", "dask-gateway")["metadata"]["name"]
    address = one("namespace", "ConfigMap", "gateway")["data"]["DASK_CLAIM_GATEWAY_URL"]
    assert address == f"http://traefik-dask-gateway.{place}.svc.cluster.local"


LANDSAT = ROOT / "cwl" / "landsat"


def test_landsats_package_is_whole() -> None:
    """Every file of the document, as it is; mounted where the Job's arguments look for it."""
    mounted = mounts("landsat", "landsat")

    def config_map(path: str) -> Object:
        return one("landsat", "ConfigMap", mounted[path]["configMap"]["name"])["data"]

    package = config_map("/config/package")
    assert package == {name: (LANDSAT / name).read_text() for name in package}
    lines = package["landsat.cwl"].splitlines()
    included = {line.split(": ")[-1].rstrip("}") for line in lines if "$include" in line}
    assert set(package) == {"landsat.cwl", *included}
    # Each of them becomes a variable of a pod, which must be a text.
    settings = yaml.safe_load(config_map("/config/env")["pod-env.yml"])
    assert all(isinstance(value, str) for value in settings.values())
    volume = mounted["/calrissian"]["persistentVolumeClaim"]
    claim = one("landsat", "PersistentVolumeClaim", volume["claimName"])
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_no_secret_of_landsat_is_published() -> None:
    """None is rendered; the example fits the Job, has all that the workflow wants, and no value."""
    kinds = sorted(each["kind"] for each in rendered("landsat"))
    assert kinds == ["ConfigMap", "ConfigMap", "Job", "PersistentVolumeClaim"]
    secret = yaml.safe_load((ROOT / "k8s" / "landsat" / "secret.example.yaml").read_text())
    volume = mounts("landsat", "landsat")["/config/inputs"]["secret"]
    assert volume["secretName"] == secret["metadata"]["name"]
    inputs = yaml.safe_load(secret["stringData"]["inputs.yml"])
    document = load((LANDSAT / "landsat.cwl").read_text())  # YAML 1.2
    workflow = next(part for part in document["$graph"] if part["class"] == "Workflow")
    assert set(inputs) <= set(workflow["inputs"])
    wanted = {name for name, about in workflow["inputs"].items()
              if "default" not in about and not about["type"].endswith("?")}  # fmt: skip
    assert wanted <= set(inputs)
    assert {inputs[name] for name in inputs if name.startswith("aws_")} == {"REPLACE-ME"}


def test_the_job_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its objects fit together, and the service takes their settings."""
    from dask_claim import Claim
    from examples.job_service.settings import Settings

    folder, name = "job_service", "job-service"
    deployment, service = one(folder, "Deployment", name), one(folder, "Service", name)
    made = container(folder, name)
    # One service at a time holds the queue.
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["ports"][0]["targetPort"] == made["ports"][0]["name"]
    assert made["command"] == ["python", "-m", "job_service"]
    mounted = mounts(folder, name)
    for path in ("/inputs", "/data"):
        volume_claim = mounted[path]["persistentVolumeClaim"]["claimName"]
        claim = one(folder, "PersistentVolumeClaim", volume_claim)["spec"]
        volume = one(folder, "PersistentVolume", claim["volumeName"])["spec"]
        assert volume["accessModes"] == claim["accessModes"] and "nfs" in volume
    ((file, text),) = one(folder, "ConfigMap", mounted["/config"]["configMap"]["name"])[
        "data"
    ].items()
    assert variables(folder, name)["JOBS_CONFIG"] == f"/config/{file}"
    (tmp_path / file).write_text(text)
    monkeypatch.setenv("JOBS_CONFIG", str(tmp_path / file))
    settings = Settings()
    assert (str(settings.inputs), str(settings.data)) == ("/inputs", "/data")
    assert settings.port == made["ports"][0]["containerPort"]
    # The probes call it by a name that it answers to.
    for probe in ("readinessProbe", "livenessProbe"):
        (header,) = made[probe]["httpGet"]["httpHeaders"]
        assert header["value"] in settings.hosts
    assert service["metadata"]["name"] in settings.hosts
    assert Claim.model_validate(settings.claim).plan().max_workers == 4


def test_the_documents_commands() -> None:
    """Every folder, object and link in docs/kubernetes.md is there."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    folders = re.findall(r"^\$ kubectl apply -k k8s/(\S+)", text, re.M)
    assert set(folders) <= set(FOLDERS) and len(folders) == 6
    made = {(each["kind"].lower(), each["metadata"]["name"])
            for folder in folders for each in rendered(folder)}  # fmt: skip
    named = {*re.findall(r"\b(job|pod)/([a-z]+)", text)}
    assert named and named <= made
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "docs" / link).exists(), link
    for path in re.findall(r"`(k8s/[\w./]+)`", text):
        assert (ROOT / path).exists(), path
