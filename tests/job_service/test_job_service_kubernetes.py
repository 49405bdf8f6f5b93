"""The service's Kubernetes objects: they fit together, and the service takes their settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from examples.job_service.settings import Settings
from tests.support.kubectl import kustomize

OBJECTS = Path(__file__).parents[2] / "k8s" / "job_service"


def test_the_objects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    objects: dict[str, list[dict[str, Any]]] = {}
    for each in yaml.safe_load_all(kustomize(OBJECTS)):
        objects.setdefault(each["kind"], []).append(each)
    (deployment,), (service,) = objects["Deployment"], objects["Service"]
    template = deployment["spec"]["template"]
    pod, (container,) = template["spec"], template["spec"]["containers"]

    # One service at a time holds the queue, and has time to give back what it holds.
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert pod["terminationGracePeriodSeconds"] > 15 + 30
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]

    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert container["command"] == ["python", "-m", "job_service"]
    assert container["image"].rpartition(":")[2] not in ("", "latest")

    # Each mount is of a volume, and each volume of an object that is there.
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    claims = {each["metadata"]["name"]: each for each in objects["PersistentVolumeClaim"]}
    persistent = {each["metadata"]["name"]: each for each in objects["PersistentVolume"]}
    for path in ("/inputs", "/data"):
        claim = claims[mounts[path]["persistentVolumeClaim"]["claimName"]]
        volume = persistent[claim["spec"]["volumeName"]]
        assert volume["spec"]["accessModes"] == claim["spec"]["accessModes"]
        assert "nfs" in volume["spec"]
    (config,) = objects["ConfigMap"]
    assert mounts["/config"]["configMap"]["name"] == config["metadata"]["name"]

    env = {each["name"]: each.get("value") for each in container["env"]}
    (file,) = config["data"]
    assert env["JOBS_CONFIG"] == f"/config/{file}"
    (tmp_path / file).write_text(config["data"][file])
    monkeypatch.setenv("JOBS_CONFIG", str(tmp_path / file))
    settings = Settings()
    assert (str(settings.inputs), str(settings.data)) == ("/inputs", "/data")
    assert settings.port == container["ports"][0]["containerPort"]
    # The probes call it by a name that it answers to.
    for probe in ("readinessProbe", "livenessProbe"):
        (header,) = container[probe]["httpGet"]["httpHeaders"]
        assert header["value"] in settings.hosts
    assert service["metadata"]["name"] in settings.hosts

    import dask_claim

    assert dask_claim.Claim.model_validate(settings.claim).plan().max_workers == 4
