"""One claim on the gateways of fourteen sites: the options that are asked for at each of them.

The options are those that the sites' published configurations name, with their types, ranges and
units; Dask Gateway's own server describes them, and checks what it is asked for.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest

from tests.test_gateway_options import (
    SIZES,
    Bool,
    Float,
    Integer,
    Mapping,
    Select,
    String,
    fault,
    fill,
)

GIB = 2**30

NO_LIMIT = ("worker_cores_limit",)
NO_IMAGE = ("image", *NO_LIMIT)
NOTHING = ("image", "worker_cores", *NO_LIMIT, "worker_memory")

IMAGE, VARIABLES = String("image", "base:1"), Mapping("environment", {})


def memory(default: float, least: float, most: float) -> Any:
    return Float("worker_memory", default, min=least, max=most, label="Worker Memory (GiB)")


class Site(NamedTuple):
    fields: tuple[Any, ...]
    asked: dict[str, Any]
    """The options that differ from, or are, what the claim asks for."""

    missing: tuple[str, ...] = ()


SITES = {
    "reference deployment": Site(
        (Float("worker_cores", default=1, min=0.1), Float("worker_cores_limit", default=1),
         String("worker_memory", default="1 G"), IMAGE),
        {"worker_cores": 2.0, "worker_cores_limit": 2.0, "worker_memory": "4 G", "image": "eo:1"},
    ),
    "2i2c": Site(
        (Select("instance_type", ["n2-highmem-4"]), Select("worker_resource_allocation", SIZES),
         IMAGE, VARIABLES, Integer("idle_timeout_minutes", 30, min=0)),
        {"worker_resource_allocation": "2CPU, 14.5Gi", "image": "eo:1"}, NO_LIMIT,
    ),
    "Pangeo": Site(
        (Float("worker_cores", 1, min=1, max=16), memory(1, 1, 32), IMAGE, VARIABLES),
        {"worker_cores": 2.0, "worker_memory": 4.0, "image": "eo:1"}, NO_LIMIT,
    ),
    "Pangeo OOI": Site(
        (Float("worker_cores", 0.8, min=0.4, max=1.6), memory(2.5, 1.25, 5), IMAGE, VARIABLES),
        {"refused": "worker_cores = 2: .* this gateway offers 0.4 to 1.6"},
    ),
    "Planetary Computer": Site(
        (Float("worker_cores", 1, min=0.1, max=8), memory(8, 1, 64), Bool("gpu", False), IMAGE,
         VARIABLES),
        {"worker_cores": 2.0, "worker_memory": 4.0, "gpu": False, "image": "eo:1"}, NO_LIMIT,
    ),
    "Copernicus reference system": Site(
        (Float("worker_cores", 1, min=1, max=8), memory(8, 1, 64),
         Float("scheduler_core_limit", 1, min=1, max=8),
         Float("scheduler_memory_limit", 2, min=1, max=64, label="Memory (GiB)"),
         Float("cluster_max_cores", 4, min=1, max=80), Integer("cluster_max_workers", 2),
         Float("cluster_max_memory", 16 * GIB), String("cluster_name", "")),
        {
            "worker_cores": 2.0, "worker_memory": 4.0, "cluster_max_workers": 3,
            "cluster_max_cores": 7.0, "cluster_max_memory": 14.0 * GIB,
        }, NO_IMAGE,
    ),
    "Nebari": Site(
        (Select("conda_environment", ["global/dask"]),
         Select("profile", ["Small Worker", "Medium Worker"]), Mapping("environment_vars", {})),
        {"profile": "Small Worker"}, NOTHING,
    ),
    "Nebari pack": Site(
        (Select("profile", ["Small", "Medium", "Large"]),), {"profile": "Small"}, NOTHING,
    ),
    "Unidata": Site(
        (Integer("worker_cores", 1, min=1, max=4), memory(1, 1, 8)),
        {"worker_cores": 2, "worker_memory": 4.0}, NO_IMAGE,
    ),
    "AWS daskhub": Site(
        (Float("worker_cores", 0.8, min=0.8, max=4), memory(3.3, 1, 8)),
        {"worker_cores": 2.0, "worker_memory": 4.0}, NO_IMAGE,
    ),
    "AWS ParallelCluster": Site(
        (String("conda_env", "dask"), String("worker_instance_type", "m5.large")),
        {"conda_env": "dask"}, NOTHING,
    ),
    "osparc": Site(
        (Integer("CPU", 1, min=1), Integer("GPU", 0, min=0), Integer("RAM", GIB, min=GIB)),
        {"CPU": 2, "GPU": 0, "RAM": 4 * GIB}, NO_IMAGE,
    ),
    "EODC": Site(
        (Integer("worker_cores", 4, min=2, max=8),
         Float("worker_memory", 8, min=2, max=16, label="Worker Memory (GB)"), IMAGE),
        {"worker_cores": 2, "worker_memory": 4 * GIB / 1e9, "image": "eo:1"}, NO_LIMIT,
    ),
    "mapchete": Site(
        (Integer("worker_threads", 1), Float("worker_cores", 1), Float("worker_cores_limit", 1),
         Float("worker_memory", 2), Float("worker_memory_limit", 2), Float("scheduler_cores", 1),
         Float("scheduler_memory", 2), IMAGE),
        {
            "worker_threads": 2, "worker_cores": 2.0, "worker_cores_limit": 2.0,
            "worker_memory": 4.0, "worker_memory_limit": 4.0, "image": "eo:1",
        },
    ),
}  # fmt: skip

CLAIM = {
    "worker_cores": 2, "worker_cores_limit": 2, "worker_memory": "4 G", "image": "eo:1",
    "max_workers": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", SITES)
def test_site(name: str) -> None:
    site = SITES[name]
    if wrong := site.asked.get("refused"):
        assert re.search(wrong, fault(*site.fields, **CLAIM))
        return
    found, filled = fill(*site.fields, **CLAIM)
    assert {option: found[option] for option in site.asked} == site.asked
    assert sorted(filled.missing) == sorted(site.missing)
