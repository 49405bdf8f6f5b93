"""Every object in k8s/: valid by Kubernetes' schemas, held to our policies, fitting together."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dask_claim.launch.run_options import RunOptions
from tests.k8s.objects import (
    FOLDERS,
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
from tests.support.cwl import Calrissian, load
from tests.support.gateway import clean_environment

pytestmark = pytest.mark.xdist_group("kubernetes")  # each folder is rendered once

VALUES = yaml.safe_load((ROOT / "k8s" / "gateway" / "values.yaml").read_text())
# Starts the node's own NFS server, in a namespace of its own.
ROOT_IS_NEEDED = {"nfs/nfs-server"}
# Speaks to Kubernetes.
TOKEN_IS_NEEDED = {"processing/bai", "processing/landsat"}


def breaches(name: str, spec: Object) -> list[str]:
    """What a pod does that it should not."""
    found = []
    if spec.get("automountServiceAccountToken") is not (name in TOKEN_IS_NEEDED):
        found.append("a token of Kubernetes that it does not need, or none where it needs one")
    if name in TOKEN_IS_NEEDED and "serviceAccountName" not in spec:
        found.append("a token that may do nothing")
    if spec.get("enableServiceLinks") is not False:
        found.append("variables of services")
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
    # All that is in a namespace says in which, so that `kubectl apply -k` needs no word more.
    spaceless = ("Namespace", "PersistentVolume", "StorageClass")
    assert all("namespace" in each["metadata"] for each in rendered(folder)
               if each["kind"] not in spaceless)  # fmt: skip


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_an_object_names_is_there(folder: str) -> None:
    """Accounts, claims and config maps of pods are objects of the folder, or of one before it."""
    made = {(each["kind"], each["metadata"]["namespace"], each["metadata"]["name"])
            for each in [*rendered(folder), *rendered("runner")]
            if "namespace" in each["metadata"]}  # fmt: skip
    for name, spec in pods(rendered(folder)):
        place = name.partition("/")[0]
        wanted = {("ServiceAccount", spec[key]) for key in ("serviceAccountName",) if key in spec}
        for volume in spec["volumes"]:
            for key, kind, field in (
                ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName"),
                ("configMap", "ConfigMap", "name"),
            ):
                if key in volume:
                    wanted.add((kind, volume[key][field]))
        for each in spec["containers"]:
            for source in each.get("envFrom", []):
                if "configMapRef" in source:
                    wanted.add(("ConfigMap", source["configMapRef"]["name"]))
        assert {(kind, place, what) for kind, what in wanted} <= made, name


def test_a_site_in_one_place(tmp_path: Path) -> None:
    """With another registry and class in k8s/site, no folder has the old ones."""
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    shutil.copytree(ROOT / "cwl", tmp_path / "cwl")
    site = tmp_path / "k8s" / "site" / "kustomization.yaml"
    text = site.read_text().replace("newName: ", "newName: registry.example.org/")
    site.write_text(text.replace("value: standard", "value: other"))
    seen = set()
    for folder in FOLDERS:
        if folder.startswith("storage/"):
            continue
        objects = rendered(folder, tmp_path / "k8s")
        for _, spec in pods(objects):
            images = {each["image"] for each in spec["containers"]}
            own = {image for image in images if "calrissian" not in image}
            assert all(image.startswith("registry.example.org/") for image in own), images
            seen |= own
        for each in objects:
            if each["kind"] == "PersistentVolumeClaim":
                assert each["spec"]["storageClassName"] in ("other", "")
                seen.add(each["metadata"]["name"])
    assert {name.rpartition("/")[2].partition(":")[0] for name in seen} == {
        "dask-claim", "job-service", "work", "landsat", "job-service-data", "job-service-inputs"
    }  # fmt: skip


def test_a_breach_is_found() -> None:
    spec = pod("tool", "map")
    wrong = json.loads(json.dumps(spec))
    wrong["containers"][0] |= {"image": "dask-claim", "resources": {}}
    del wrong["securityContext"]
    assert len(breaches("processing/map", spec)) == 0
    assert len(breaches("processing/map", wrong)) == 7
    assert breaches("processing/bai", spec)


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
    # Its period is the values', its kind the gateway's; workers have none.
    probe = made.pop("readinessProbe", None)
    assert probe == ({"periodSeconds": 1} if role == "scheduler" else None)
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
    # Calrissian requests the upper bounds, which leave room on a node of two cores.
    assert most["coresMax"] <= 1 < float(limits["default"]["cpu"])
    assert most["ramMax"] <= 2048 < 1024 * int(limits["default"]["memory"].removesuffix("Gi"))
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


@pytest.mark.parametrize("folder", ["storage/aks", "storage/eks", "storage/gke"])
def test_storage(folder: str) -> None:
    """Each has the class `work`, or a volume of it, for the user of the pods."""
    (found,) = (each for each in rendered(folder)
                if each["kind"] in ("StorageClass", "PersistentVolume"))  # fmt: skip
    if found["kind"] == "PersistentVolume":
        assert found["spec"]["storageClassName"] == "work"
        service, namespace = found["spec"]["nfs"]["server"].split(".")[:2]
        assert one(folder, "Service", service)["metadata"]["namespace"] == namespace
        assert found["spec"]["accessModes"] == ["ReadWriteMany"]
    else:
        assert found["metadata"]["name"] == "work"
        user, text = pod("runner", "bai")["securityContext"], json.dumps(found)
        assert {*re.findall(r"uid\W+(\d+)", text)} == {str(user["runAsUser"])}
        assert {*re.findall(r"gid\W+(\d+)", text)} == {str(user["runAsGroup"])}


def test_the_proxy_is_for_the_runs() -> None:
    """Inside only, for the namespace of the runs; an address that the claims really have.

    All else in the gateway's namespace is for itself and the proxy.
    """
    assert VALUES["traefik"]["service"]["type"] == "ClusterIP"
    source: Any = one("gateway", "NetworkPolicy", "proxy")["spec"]["ingress"][0]["from"]
    runs = one("namespace", "Namespace", "processing")["metadata"]["name"]
    assert source[0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": runs}
    ports = one("gateway", "NetworkPolicy", "proxy")["spec"]["ingress"][0]["ports"]
    assert [each["port"] for each in ports] == [8000, 8786]
    inside = one("gateway", "NetworkPolicy", "inside")["spec"]
    assert inside["podSelector"] == {} and inside["ingress"] == [{"from": [{"podSelector": {}}]}]
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
    assert "Secret" not in kinds
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
    from examples.job_service.models import Settings

    folder, name = "job_service", "job-service"
    deployment, service = one(folder, "Deployment", name), one(folder, "Service", name)
    made = container(folder, name)
    # One service at a time holds the folder.
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["ports"][0]["targetPort"] == made["ports"][0]["name"]
    assert made["command"] == ["python", "-m", "job_service"]
    mounted = mounts(folder, name)
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
    # The same gateway, as the same user, as all other pods.
    shared = one("namespace", "ConfigMap", "gateway")["data"]
    assert settings.claim["gateway_url"] == shared["DASK_CLAIM_GATEWAY_URL"]
    user = "DASK_GATEWAY__AUTH__KWARGS__USERNAME"
    assert variables(folder, name)[user] == shared[user]


def test_the_job_services_workers() -> None:
    """They see the scenes at the service's path, by a claim and a volume of their own."""
    workers = yaml.safe_load((ROOT / "k8s/job_service/workers/values.yaml").read_text())
    worker = workers["gateway"]["backend"]["worker"]
    own = VALUES["gateway"]["backend"]["worker"]
    for part, key in (("extraPodConfig", "volumes"), ("extraContainerConfig", "volumeMounts")):
        # Helm replaces lists: what is in the first file stays.
        assert worker[part][key][:-1] == own[part][key]
    volume, mount = worker["extraPodConfig"]["volumes"][-1], worker["extraContainerConfig"]
    assert mount["volumeMounts"][-1]["name"] == volume["name"]
    assert mount["volumeMounts"][-1]["mountPath"] == "/inputs"
    wanted = volume["persistentVolumeClaim"]["claimName"]
    volumes = []
    for folder, namespace in (("job_service", "processing"),
                              ("job_service/workers", "dask-gateway")):  # fmt: skip
        claim = one(folder, "PersistentVolumeClaim", wanted)
        assert claim["metadata"]["namespace"] == namespace
        volumes.append(one(folder, "PersistentVolume", claim["spec"]["volumeName"]))
        assert volumes[-1]["metadata"]["name"] == claim["spec"]["volumeName"]
        assert volumes[-1]["spec"]["accessModes"] == claim["spec"]["accessModes"]
    # One export, two volumes.
    assert volumes[0]["spec"]["nfs"] == volumes[1]["spec"]["nfs"]
    assert volumes[0]["metadata"]["name"] != volumes[1]["metadata"]["name"]


@pytest.mark.slow
@pytest.mark.xdist_group("calrissian")
def test_calrissian_knows_its_options(calrissian: Calrissian) -> None:
    """Those in the Jobs and documents, by the help of the very version that the Jobs run."""
    shown = subprocess.run(
        [calrissian.programs / "calrissian", "--help"],
        env=clean_environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    options = {*re.findall(r"--[a-z][a-z-]*", shown.stdout)}
    used = set()
    for folder, name in (("runner", "bai"), ("landsat", "landsat")):
        made = container(folder, name)
        assert made["image"].endswith(":0.18.1")  # as the fixture has it
        used |= {word.partition("=")[0] for word in made["args"] if word.startswith("--")}
    for document in [*ROOT.glob("docs/*.md"), ROOT / "README.md", LANDSAT / "README.md"]:
        for line in document.read_text().splitlines():
            if "alrissian" in line:
                used |= {*re.findall(r"(?<=`)--[a-z][a-z-]*", line)}
    assert used and used <= options, used - options


def test_the_documents_commands() -> None:
    """Every folder, object and link in docs/kubernetes.md is there."""
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    folders = re.findall(r"kubectl apply -k k8s/(\S+)", text)
    assert set(folders) <= set(FOLDERS) and len(folders) == 6
    made = {(each["kind"].lower(), each["metadata"]["name"])
            for folder in folders for each in rendered(folder)}  # fmt: skip
    named = {*re.findall(r"\b(job|pod)/([a-z]+)", text)}
    assert named and named <= made
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / "docs" / link).exists(), link
    for path in re.findall(r"`(k8s/[\w./]+)`", text):
        assert (ROOT / path).exists(), path
