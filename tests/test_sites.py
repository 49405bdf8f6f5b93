"""One claim on the gateways of fourteen sites: the options asked for, on a real server of all.

The options are those that the sites' published configurations name, with their types, ranges and
units; the handlers do the same, in the whole cores that the server's local backend wants. Each
site is a user of the server, who is offered that site's options.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from dask_gateway.auth import BasicAuth

from dask_claim.claim.addresses import GatewayAddress
from dask_claim.claim.model import Claim
from dask_claim.credentials.login import Login
from dask_claim.errors import OptionError
from dask_claim.providers.gateway.api import GatewayApi
from dask_claim.providers.gateway.filling import Filling
from tests.support.claims import write
from tests.support.gateway import GatewayServer
from tests.support.launcher import Launcher

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sites")]

GIB = 2**30

# What the server was asked for, as its own handler sees it. No scheduler is ever up.
SERVER = """
import json
from pathlib import Path
from dask_gateway_server.options import Bool

def offered(made, *fields):
    def handler(options, user):
        Path(f"{user.name}.json").write_text(json.dumps(dict(options)))
        return made(options)
    return Options(*fields, handler=handler)

SITES = {
"""
END = """
}
c.Backend.cluster_options = lambda user: SITES[user.name]
c.ClusterConfig.scheduler_cmd = ["sh", "-c", "exec sleep 60"]
"""

SELECT = '["1CPU, 7.2Gi", "2CPU, 14.5Gi", "4CPU, 28.9Gi"]'
PLAIN = "worker_cores=int(options.worker_cores), worker_memory=int(options.worker_memory * 2**30)"
NO_LIMIT = ("worker_cores_limit",)
NO_IMAGE = ("image", *NO_LIMIT)
NOTHING = ("image", "worker_cores", *NO_LIMIT, "worker_memory")


class Site(NamedTuple):
    fields: str
    asked: dict[str, Any]
    """The options that differ from, or are, what the claim asks for."""

    missing: tuple[str, ...] = ()
    made: str = PLAIN
    """What its handler makes of them."""


SITES = {
    "reference deployment": Site(
        'Float("worker_cores", default=1, min=0.1), Float("worker_cores_limit", default=1), '
        'String("worker_memory", default="1 G"), String("image", default="base:1")',
        {"worker_cores": 2.0, "worker_cores_limit": 2.0, "worker_memory": "4 G", "image": "eo:1"},
        (), "worker_cores=1, worker_memory=options.worker_memory",
    ),
    "2i2c": Site(
        f'Select("instance_type", ["n2-highmem-4"]), '
        f'Select("worker_resource_allocation", {SELECT}), '
        'String("image", default="base:1"), Mapping("environment", {}), '
        'Integer("idle_timeout_minutes", 30, min=0)',
        {"worker_resource_allocation": "2CPU, 14.5Gi", "image": "eo:1"},
        NO_LIMIT, 'worker_cores=1, worker_memory="4 G"',
    ),
    "Pangeo": Site(
        'Float("worker_cores", 1, min=1, max=16), '
        'Float("worker_memory", 1, min=1, max=32, label="Worker Memory (GiB)"), '
        'String("image", default="base:1"), Mapping("environment", {})',
        {"worker_cores": 2.0, "worker_memory": 4.0, "image": "eo:1"}, NO_LIMIT,
    ),
    "Pangeo OOI": Site(
        'Float("worker_cores", 0.8, min=0.4, max=1.6), '
        'Float("worker_memory", 2.5, min=1.25, max=5, label="Worker Memory (GiB)"), '
        'String("image", default="base:1"), Mapping("environment", {})',
        {"refused": "worker_cores = 2: .* this gateway offers 0.4 to 1.6"},
    ),
    "Planetary Computer": Site(
        'Float("worker_cores", 1, min=0.1, max=8), '
        'Float("worker_memory", 8, min=1, max=64, label="Worker Memory (GiB)"), '
        'Bool("gpu", False), String("image", default="base:1"), Mapping("environment", {})',
        {"worker_cores": 2.0, "worker_memory": 4.0, "gpu": False, "image": "eo:1"}, NO_LIMIT,
    ),
    "Copernicus reference system": Site(
        'Float("worker_cores", 1, min=1, max=8), '
        'Float("worker_memory", 8, min=1, max=64, label="Worker Memory (GiB)"), '
        'Float("scheduler_core_limit", 1, min=1, max=8), '
        'Float("scheduler_memory_limit", 2, min=1, max=64, label="Memory (GiB)"), '
        'Float("cluster_max_cores", 4, min=1, max=80), Integer("cluster_max_workers", 2), '
        f'Float("cluster_max_memory", {16 * GIB}), String("cluster_name", "")',
        {
            "worker_cores": 2.0, "worker_memory": 4.0, "cluster_max_workers": 3,
            "cluster_max_cores": 7.0, "cluster_max_memory": 14.0 * GIB,
        }, NO_IMAGE,
    ),
    "Nebari": Site(
        'Select("conda_environment", ["global/dask"]), '
        'Select("profile", ["Small Worker", "Medium Worker"]), Mapping("environment_vars", {})',
        {"profile": "Small Worker"}, NOTHING, "",
    ),
    "Nebari pack": Site(
        'Select("profile", ["Small", "Medium", "Large"])', {"profile": "Small"}, NOTHING, "",
    ),
    "Unidata": Site(
        'Integer("worker_cores", 1, min=1, max=4), '
        'Float("worker_memory", 1, min=1, max=8, label="Worker Memory (GiB)")',
        {"worker_cores": 2, "worker_memory": 4.0}, NO_IMAGE,
    ),
    "AWS daskhub": Site(
        'Float("worker_cores", 0.8, min=0.8, max=4), '
        'Float("worker_memory", 3.3, min=1, max=8, label="Worker Memory (GiB)")',
        {"worker_cores": 2.0, "worker_memory": 4.0}, NO_IMAGE,
    ),
    "AWS ParallelCluster": Site(
        'String("conda_env", "dask"), String("worker_instance_type", "m5.large")',
        {"conda_env": "dask"}, NOTHING, "",
    ),
    "osparc": Site(
        f'Integer("CPU", 1, min=1), Integer("GPU", 0, min=0), Integer("RAM", {GIB}, min={GIB})',
        {"CPU": 2, "GPU": 0, "RAM": 4 * GIB},
        NO_IMAGE, "worker_cores=options.CPU, worker_memory=options.RAM",
    ),
    "EODC": Site(
        'Integer("worker_cores", 4, min=2, max=8), '
        'Float("worker_memory", 8, min=2, max=16, label="Worker Memory (GB)"), '
        'String("image", "base:1")',
        {"worker_cores": 2, "worker_memory": 4 * GIB / 1e9, "image": "eo:1"}, NO_LIMIT,
    ),
    "mapchete": Site(
        'Integer("worker_threads", 1), Float("worker_cores", 1), Float("worker_cores_limit", 1), '
        'Float("worker_memory", 2), Float("worker_memory_limit", 2), Float("scheduler_cores", 1), '
        'Float("scheduler_memory", 2), String("image", "base:1")',
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


@pytest.fixture(scope="module")
def server() -> Iterator[GatewayServer]:
    rows = [
        f"    {name!r}: offered(lambda options: dict({site.made}), {site.fields}),\n"
        for name, site in SITES.items()
    ]
    made = GatewayServer(options="".join([SERVER, *rows, END]))
    yield made
    made.stop()


async def asked(server: GatewayServer, name: str) -> Filling:
    """Ask the gateway for a cluster, as a run does, and end it again."""
    claim = Claim(gateway_url=server.url, **CLAIM)
    api = GatewayApi(GatewayAddress(server.url), login=Login(BasicAuth(name), "the test"))
    try:
        options = await api.options()
        filled = Filling(options, claim, claim.plan({}).max_workers).fill()
        await api.delete(await api.create(options))
        return filled
    finally:
        await api.close()


@pytest.mark.parametrize("name", SITES)
def test_site(server: GatewayServer, name: str) -> None:
    site = SITES[name]
    if wrong := site.asked.get("refused"):
        with pytest.raises(OptionError, match=wrong):
            asyncio.run(asked(server, name))
        return
    filled = asyncio.run(asked(server, name))
    found = json.loads(Path(server.folder, f"{name}.json").read_text())
    assert {option: found[option] for option in site.asked} == site.asked
    assert sorted(filled.missing) == sorted(site.missing)


SITE_FILE = """
gateway_options:
  choices:
    profile:
      Small Worker: {cores: 1, memory: 2G}
      Medium Worker: {cores: 2, memory: 4G}
"""


def test_choices_by_the_site_file(
    launcher: Launcher, server: GatewayServer, tmp_path: Path
) -> None:
    """What the texts of a gateway's choices do not say, its site's file does."""
    claim = {"worker_cores": 2, "worker_memory": "4 G"}
    env = {
        "DASK_CLAIM_SITE": str(write(tmp_path / "claim.yaml", SITE_FILE)),
        "DASK_CLAIM_GATEWAY_URL": server.url,
        "DASK_GATEWAY__AUTH__KWARGS__USERNAME": "Nebari",
    }
    run = launcher("true", flags=("--start", "eager"), claim=claim, env=env)
    assert run.status == 0, run.err
    assert "profile 'Medium Worker' is its smallest choice that is enough" in run.err
    found = json.loads(Path(server.folder, "Nebari.json").read_text())
    assert found["profile"] == "Medium Worker"
