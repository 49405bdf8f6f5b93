"""Where values come from: every layer, which one wins, and every fault of every layer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_claim.claim import memory
from dask_claim.claim.model import Claim, Resolved, load
from dask_claim.claim.texts import parse_yaml
from dask_claim.claim.url_prefix import UrlPrefix
from dask_claim.errors import ClaimError, ConfigurationError


@pytest.fixture
def site(tmp_path: Path) -> Path:
    file = tmp_path / "claim.yaml"
    file.write_text("{}\n", encoding="utf-8")
    return file


@pytest.fixture
def environ(site: Path, tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing is said, and no file of the machine is looked at."""
    return {
        "DASK_CLAIM_SITE": str(site),
        "HOME": str(tmp_path / "home"),
        "DASK_ROOT_CONFIG": str(tmp_path / "etc"),
    }


NOWHERE = {
    "DASK_CLAIM_SITE": "/dev/null",
    "HOME": "/nonexistent",
    "DASK_ROOT_CONFIG": "/nonexistent",
}
"""Keeps the machine's own files out of it."""


def faults_of(flags: dict[str, object] | None = None, **environ: str) -> list[str]:
    with pytest.raises(ClaimError) as caught:
        load(flags, {**NOWHERE, **environ})
    return [str(fault) for fault in caught.value.faults]


def test_nothing_said(environ: dict[str, str]) -> None:
    resolved = load(environ=environ)
    assert resolved.claim.to_dict() == {
        "version": 1,
        "options": {},
        "env": {},
        "provider": "auto",
        "fallback": "fail",
        "create": True,
        "lease_timeout": 60,
        "reconnect_timeout": 10,
        "environment": {},
        "strict": True,
        "versions": "warn",
        "hpc": {},
    }
    assert set(resolved.sources.values()) == {"default"}
    assert set(resolved.sources) == set(type(resolved.claim).model_fields)


def test_each_layer_is_stronger_than_the_next(
    environ: dict[str, str], site: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home" / ".config" / "dask"
    home.mkdir(parents=True)
    (home / "gateway.yaml").write_text("gateway: {address: http://from-dask}\n", encoding="utf-8")
    flags: dict[str, object] = {"gateway_url": None}

    def now() -> tuple[str | None, str]:
        found = load(flags, environ)
        return found.claim.gateway_url, found.sources["gateway_url"]

    assert now() == ("http://from-dask", "Dask's configuration (gateway.address)")
    site.write_text("gateway_url: http://from-site\n", encoding="utf-8")
    assert now() == ("http://from-site", str(site))
    environ["DASK_CLAIM"] = '{"gatewayUrl": "http://from-claim"}'
    assert now() == ("http://from-claim", "DASK_CLAIM")
    environ["DASK_CLAIM_GATEWAY_URL"] = "http://from-variable"
    assert now() == ("http://from-variable", "DASK_CLAIM_GATEWAY_URL")
    flags["gateway_url"] = "http://from-flag"
    assert now() == ("http://from-flag", "--gateway-url")


def test_env_and_options_are_merged_entry_by_entry(environ: dict[str, str], site: Path) -> None:
    site.write_text(
        "options: {queue: long, account: eo, workerClass: small}\nenv: {image: SITE_IMAGE}\n",
        encoding="utf-8",
    )
    environ["DASK_CLAIM"] = json.dumps(
        {
            "EnvVarRequirement": {"worker_cores": "CORES", "image": "IMAGE"},
            "options": {"queue": "short"},
        }
    )
    environ["DASK_CLAIM_ENV__GATEWAY_URL"] = "GATEWAY"
    environ["DASK_CLAIM_OPTIONS__WORKERCLASS"] = "large"
    environ["DASK_CLAIM_OPTIONS__NEW_ONE"] = "x"
    resolved = load({"options": {"account": "other"}}, environ)
    assert resolved.claim.env == {
        "image": "IMAGE",
        "worker_cores": "CORES",
        "gateway_url": "GATEWAY",
    }
    assert resolved.claim.options == {
        "queue": "short",
        "account": "other",
        "workerClass": "large",
        "new_one": "x",
    }
    expected = {
        "env.image": "DASK_CLAIM",
        "env.gateway_url": "DASK_CLAIM_ENV__GATEWAY_URL",
        "options.queue": "DASK_CLAIM",
        "options.account": "--options",
        "options.workerClass": "DASK_CLAIM_OPTIONS__WORKERCLASS",
    }
    assert {name: resolved.sources[name] for name in expected} == expected


def test_one_variable_for_one_field(environ: dict[str, str]) -> None:
    environ |= {
        "dask_claim_worker_cores": "0.5",
        "DASK_CLAIM_CORES_MAX": "8",
        "DASK_CLAIM_WORKER_MEMORY": "4 G",
        "DASK_CLAIM_CREATE": "False",
        "DASK_CLAIM_IMAGE": "",
        "DASK_CLAIM_MIN_CORES": "  ",
        "DASK_CLAIM_RECEIPT": "out.json",
    }
    claim = load(environ=environ).claim
    assert (claim.worker_cores, claim.max_cores, str(claim.worker_memory)) == (0.5, 8, "4 G")
    assert (claim.create, claim.image, claim.min_cores) == (False, None, None)


def test_env_and_options_whole_in_a_variable(environ: dict[str, str]) -> None:
    environ |= {
        "DASK_CLAIM_ENV": '{"workerCores": "CORES", "image": "IMAGE"}',
        "DASK_CLAIM_ENV__IMAGE": "OTHER",
        "DASK_CLAIM_OPTIONS": '{"queue": "short", "gpus": 2}',
    }
    resolved = load(environ=environ)
    assert resolved.claim.env == {"worker_cores": "CORES", "image": "OTHER"}
    assert resolved.claim.options == {"queue": "short", "gpus": 2}
    assert resolved.sources["env.image"] == "DASK_CLAIM_ENV__IMAGE"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("normal", "normal"),
        ("4", 4),
        ("0.5", 0.5),
        ("1.10", "1.10"),
        ("007", "007"),
        ("1e3", "1e3"),
        ("true", True),
        ('"4"', "4"),
        ('{"a": 1}', {"a": 1}),
        ("[1, 2]", [1, 2]),
        ("01:30:00", "01:30:00"),
    ],
)
def test_an_option_in_a_variable_loses_nothing(
    environ: dict[str, str], text: str, value: object
) -> None:
    environ["DASK_CLAIM_OPTIONS__X"] = text
    found = load(environ=environ).claim.options["x"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "DASK_CLAIM_WORKER_CORE",
            "1",
            "is no variable of dask-claim; did you mean DASK_CLAIM_WORKER_CORES?",
        ),
        ("DASK_CLAIM_RECIEPT", "x", "did you mean DASK_CLAIM_RECEIPT?"),
        ("DASK_CLAIM_OPTION__QUEUE", "x", "did you mean DASK_CLAIM_OPTIONS__QUEUE?"),
        ("DASK_CLAIM_WORKER_CORE", "", "did you mean DASK_CLAIM_WORKER_CORES?"),
        ("DASK_CLAIM_GATEWAY_PASSWORD", "hunter2", "DASK_CLAIM_GATEWAY_PASSWORD: is no variable"),
        ("DASK_CLAIM_WORKER_CORES", "many", 'worker_cores = "many": is not a number'),
        ("DASK_CLAIM_WORKER_CORES__MAX", "1", "has no parts"),
        ("DASK_CLAIM_ENV__IMAG", "X", "is not a field whose value a variable can hold; did you"),
        ("DASK_CLAIM_ENV__IMAGE", "PATH", 'env.image = "PATH": would break the program'),
        ("DASK_CLAIM_ENV", "image=X", "is not JSON"),
        ("DASK_CLAIM_OPTIONS", "[1]", "is not an object"),
        ("DASK_CLAIM_CLUSTER_NAME", "x", "is known only at run time"),
        ("DASK_CLAIM_", "x", "is no variable of dask-claim"),
        ("DASK_CLAIM", "{", "is not JSON"),
    ],
)
def test_a_faulty_variable_is_named(name: str, value: str, message: str) -> None:
    (fault,) = faults_of(**{name: value})
    assert fault.startswith(f"{name}: ") and message in fault


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("DASK_CLAIM__GATEWAY_URL", "DASK_CLAIM_GATEWAY_URL"),
        ("DASK_CLAIM__ENV__IMAGE", "DASK_CLAIM_ENV__IMAGE"),
        ("dask_claim__image", "DASK_CLAIM_image"),
    ],
)
def test_two_underscores_are_a_setting_of_dask(old: str, new: str) -> None:
    for claim in ("", '{"create": false}'):
        (fault,) = faults_of(**{old: "http://gw", "DASK_CLAIM": claim})
        assert fault.startswith(f"{old}: ") and fault.endswith(f"; write {new}")


@pytest.mark.parametrize(
    "name",
    ["SITE", "RECEIPT", "RUN_ID", "START_TIMEOUT", "SERVICE_HOST", "PORT", "PORT_80_TCP_ADDR"],
)
def test_variables_that_are_no_fields(environ: dict[str, str], name: str) -> None:
    load(environ={f"DASK_CLAIM_{name}": "/dev/null", **environ})


LINKS = {
    "SERVICE_HOST": "10.0.0.7",
    "SERVICE_PORT": "80",
    "SERVICE_PORT_HTTP": "80",
    "PORT": "tcp://10.0.0.7:80",
    "PORT_8080_TCP": "tcp://10.0.0.7:8080",
    "PORT_8080_TCP_PROTO": "tcp",
    "PORT_8080_TCP_PORT": "8080",
    "PORT_8080_TCP_ADDR": "10.0.0.7",
    "PORT_53_UDP": "udp://[fd00::7]:53",
}
"""What Kubernetes tells each pod of a Service."""


@pytest.mark.parametrize("service", ["", "JOBS_", "GATEWAY_", "GATEWAY_URL_", "MY_OWN_2_", "PORT_"])
@pytest.mark.parametrize("link", LINKS)
def test_services_are_no_fields(environ: dict[str, str], service: str, link: str) -> None:
    assert load(environ={f"DASK_CLAIM_{service}{link}": LINKS[link], **environ}).claim == Claim()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROXY_PORT", "8786"),
        ("PROXY_PORT", "http://gw"),
        ("SERVICE_HOSTS", "x"),
        ("JOBS_PORT_TCP", "tcp://x:1"),
        ("JOBS_PORT_80_TCP_ADDRESS", "x"),
    ],
)
def test_a_misspelt_variable_is_no_service(name: str, value: str) -> None:
    (fault,) = faults_of(**{f"DASK_CLAIM_{name}": value})
    assert "is no variable of dask-claim" in fault


@pytest.mark.parametrize(
    ("misspelt", "right"),
    [("polices", "policy"), ("Policy", "policy"), ("profile_s", "profiles"),
     ("gateway-option", "gateway_options"), ("credential", "credentials"), ("imag", "image")],
)  # fmt: skip
def test_a_misspelt_section_of_the_site_file(
    environ: dict[str, str], site: Path, misspelt: str, right: str
) -> None:
    site.write_text(f"{misspelt}: {{max_workers: 1}}\nworker_core: 1\npolicy: {{max_worker: 1}}\n")
    policy, section, field = faults_of(**environ)
    assert section.startswith(f"{site}: {misspelt}") and section.endswith(f"did you mean {right}?")
    # What is wrong in one section hides nothing of the others.
    assert "policy.max_worker" in policy and field.endswith("did you mean worker_cores?")


@pytest.mark.parametrize(
    ("claim", "reads"),
    [
        ({}, True),
        ({"gateway_url": "http://gw"}, True),
        ({"provider": "local"}, False),
        ({"provider": "gateway", "gateway_url": "http://gw"}, False),
        ({"provider": "slurm"}, False),
    ],
)
def test_a_cluster_name_file_is_read_where_it_counts(
    environ: dict[str, str], claim: dict[str, Any], reads: bool
) -> None:
    environ |= {"DASK_CLUSTER_NAME_PATH": "/nonexistent", "DASK_CLAIM": json.dumps(claim)}
    resolved = load(environ=environ)
    if reads:
        with pytest.raises(ConfigurationError, match="DASK_CLUSTER_NAME_PATH"):
            resolved.plan(environ)
    else:
        resolved.plan(environ)


@pytest.mark.parametrize("text", ['{"create": false}', '{"gateway_url": null}', "{'a'", "x"])
def test_the_claim_does_not_disturb_dask(text: str) -> None:
    code = "import os, dask.config; print(dask.config.get('claim'))"
    env = {**os.environ, "DASK_CLAIM": text, "DASK_CLAIM_GATEWAY_URL": "http://gw"}
    env |= {"DASK_CLAIM_ENV__WORKER_CORES": "CORES", "DASK_CLAIM_OPTIONS__QUEUE": "short"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)


def test_variables_of_the_claim_that_dask_cannot_read() -> None:
    (fault,) = faults_of(DASK_CLAIM_OPTIONS='{"a": true}', DASK_CLAIM_OPTIONS__QUEUE="short")
    assert "cannot be read by Dask beside DASK_CLAIM_OPTIONS__QUEUE, which the environment" in fault


def test_two_variables_that_contradict_one_another(environ: dict[str, str]) -> None:
    environ |= {"DASK_CLAIM_MIN_CORES": "4", "DASK_CLAIM_CORES_MIN": "5"}
    (fault,) = faults_of(**environ)
    assert fault.startswith("DASK_CLAIM_MIN_CORES: contradicts DASK_CLAIM_CORES_MIN")
    assert load(environ={**environ, "DASK_CLAIM_CORES_MIN": "4"}).claim.min_cores == 4


def test_every_fault_of_every_layer(site: Path) -> None:
    site.write_text("image: [7]\nlease_timeout: soon\n", encoding="utf-8")
    faults = faults_of(
        {"worker_memory": "4 X"},
        DASK_CLAIM_SITE=str(site),
        DASK_CLAIM='{"worker_core": 1, "min_workers": "few", "max_cores": 1, "min_cores": 3}',
        DASK_CLAIM_PROVIDER="cloud",
        DASK_CLAIM_IMAGE="bai:1.0",
    )
    starts = [
        '--worker-memory: worker_memory = "4 X"',
        'DASK_CLAIM_PROVIDER: provider = "cloud"',
        "DASK_CLAIM: worker_core = 1",
        'DASK_CLAIM: min_workers = "few"',
        # Overruled by a stronger layer, and wrong all the same.
        f'{site}: image = ["7"]',
        f'{site}: lease_timeout = "soon"',
        "DASK_CLAIM: min_cores/max_cores: cannot both hold",
    ]
    assert [fault[: len(start)] for fault, start in zip(faults, starts, strict=True)] == starts


def test_faults_between_layers_name_both(environ: dict[str, str]) -> None:
    environ["DASK_CLAIM"] = '{"clusterMinCores": 4, "worker_cores": 2}'
    environ["DASK_CLAIM_MAX_CORES"] = "3"
    (fault,) = faults_of({"worker_cores_limit": 2}, **environ)
    assert fault.startswith("DASK_CLAIM, DASK_CLAIM_MAX_CORES: clusterMinCores/max_cores: ")


def test_layers_that_are_sound_only_together(environ: dict[str, str]) -> None:
    environ["DASK_CLAIM"] = '{"provider": "gateway", "min_workers": 4, "max_workers": 2}'
    environ["DASK_CLAIM_GATEWAY_URL"] = "http://gw"
    environ["DASK_CLAIM_MAX_WORKERS"] = "8"
    claim = load(environ=environ).claim
    assert (claim.provider, claim.max_workers) == ("gateway", 8)


def test_a_port_of_the_proxy_is_on_the_gateway_that_won(environ: dict[str, str]) -> None:
    environ["DASK_CLAIM"] = '{"gateway_url": "http://one:8000"}'
    environ["DASK_CLAIM_GATEWAY_URL"] = "http://two:8000"
    environ["DASK_CLAIM_PROXY_URL"] = "8786"
    assert load(environ=environ).claim.proxy_url == "gateway://two:8786"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "is not an object"),
        ("a: [\n", "is not YAML of a claim: "),
        ("image: a\nimage: b\n", "image is given twice at line 2, column 1"),
        ("image: !!python/object:os.system x\n", "the tag tag:yaml.org,2002:python/object:os."),
        ("options: &a {x: *a}\n", "nested too deeply at line 1, column 10"),
        ("worker_cores: .nan\n", 'worker_cores = ".nan": is not a number'),
        ("1: 2\n", '1 = "2": is not a field'),
        ("image: \0\n", "is not YAML"),
    ],
)
def test_a_faulty_site_file(environ: dict[str, str], site: Path, text: str, message: str) -> None:
    site.write_text(text, encoding="utf-8")
    (fault,) = faults_of(**environ)
    assert fault.startswith(f"{site}: ") and message in fault


def test_the_site_file_takes_every_spelling(environ: dict[str, str], site: Path) -> None:
    site.write_text(
        "calrissian:DaskGatewayRequirement:\n  workerCores: 1\n  clustermaxCore: 5\n",
        encoding="utf-8",
    )
    claim = load(environ=environ).claim
    assert (claim.worker_cores, claim.max_cores) == (1, 5)


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "---\n"])
def test_an_empty_site_file(environ: dict[str, str], site: Path, content: str) -> None:
    site.write_text(content, encoding="utf-8")
    assert load(environ=environ).claim.worker_cores is None


def test_a_site_file_that_cannot_be_read(environ: dict[str, str], tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path):
        environ["DASK_CLAIM_SITE"] = str(path)
        (fault,) = faults_of(**environ)
        assert fault.startswith(f"{path}: cannot be read: ") and "DASK_CLAIM_SITE" in fault
    (tmp_path / "latin.yaml").write_bytes(b"image: \xe9\n")
    environ["DASK_CLAIM_SITE"] = str(tmp_path / "latin.yaml")
    assert "cannot be read" in faults_of(**environ)[0]


def test_the_default_site_file_may_be_absent(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], tmp_path: Path
) -> None:
    del environ["DASK_CLAIM_SITE"]
    monkeypatch.setattr("dask_claim.claim.site.SITE_FILE", str(tmp_path / "none" / "claim.yaml"))
    assert load(environ=environ).claim.image is None
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "claim.yaml").write_text("image: bai:1.0\n", encoding="utf-8")
    assert load(environ=environ).claim.image == "bai:1.0"


class TestDask:
    """What Dask's own configuration says of a gateway."""

    def test_variables(self, environ: dict[str, str]) -> None:
        environ |= {
            "DASK_GATEWAY__ADDRESS": "http://{GATEWAY_HOST}/services/dask-gateway/",
            "DASK_GATEWAY__PROXY_ADDRESS": "8786",
            "DASK_GATEWAY__PUBLIC_ADDRESS": "/services/dask-gateway/",
            "GATEWAY_HOST": "proxy-public",
        }
        resolved = load(environ=environ)
        assert resolved.claim.gateway_url == "http://proxy-public/services/dask-gateway"
        assert resolved.claim.proxy_url == "gateway://proxy-public:8786"
        assert resolved.claim.public_url == "/services/dask-gateway"
        assert resolved.claim.plan({}).provider == "gateway"
        assert resolved.sources["proxy_url"] == "Dask's configuration (gateway.proxy-address)"

    @pytest.mark.parametrize("where", ["home", "root", "file"])
    def test_files(self, environ: dict[str, str], tmp_path: Path, where: str) -> None:
        folder = {
            "home": tmp_path / "home" / ".config" / "dask",
            "root": tmp_path / "etc",
            "file": tmp_path / "own",
        }[where]
        folder.mkdir(parents=True)
        file = folder / "site.yaml"
        file.write_text(
            "gateway:\n  address: http://from-dask\n  proxy_address: tls://proxy:1\n",
            encoding="utf-8",
        )
        if where == "file":
            environ["DASK_CONFIG"] = str(file)
        claim = load(environ=environ).claim
        assert (claim.gateway_url, claim.proxy_url) == ("http://from-dask", "tls://proxy:1")

    def test_a_gateway_of_the_claim_is_not_mixed_with_that_of_dask(
        self, environ: dict[str, str]
    ) -> None:
        environ["DASK_GATEWAY__ADDRESS"] = "http://from-dask"
        environ["DASK_GATEWAY__PROXY_ADDRESS"] = "tls://proxy:1"
        environ["DASK_CLAIM_GATEWAY_URL"] = "http://other"
        assert load(environ=environ).claim.proxy_url is None

    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("http://{NOT_SET}/", "NOT_SET is not set"),
            ("http://{/", "cannot be filled in"),
            ("somewhere", "is no http:// or https:// address"),
        ],
    )
    def test_faults(self, environ: dict[str, str], address: str, message: str) -> None:
        environ["DASK_GATEWAY__ADDRESS"] = address
        (fault,) = faults_of(**environ)
        assert fault.startswith("Dask's configuration (gateway.address): gateway_url = ")
        assert message in fault

    def test_a_file_that_is_no_yaml(self, environ: dict[str, str], tmp_path: Path) -> None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc" / "bad.yaml").write_text("gateway: [\n", encoding="utf-8")
        (fault,) = faults_of(**environ)
        assert fault.startswith("Dask's configuration: cannot be read: ")

    def test_nothing_said_means_dask_is_not_imported(self, tmp_path: Path) -> None:
        home = tmp_path / ".config" / "dask"
        home.mkdir(parents=True)
        (home / "gateway.yaml").write_text("# gateway:\n#   address: x\n", encoding="utf-8")
        code = "import sys; from dask_claim.claim.model import load; load(); print(*sys.modules)"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
        child = subprocess.run(
            [sys.executable, "-c", code],
            env={**kept, "HOME": str(tmp_path), "DASK_CLAIM": '{"worker_cores": 1}'},
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = set(child.stdout.split())
        assert not loaded & {"dask", "distributed", "dask_gateway", "yaml", "ruamel.yaml", "loguru"}


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_CLAIM_SITE", "/dev/null")
    monkeypatch.setenv("DASK_CLAIM_IMAGE", "bai:2.0")
    assert load().claim.image == "bai:2.0"
    # Names of fields are no variables of ours, whatever a settings library makes of them.
    monkeypatch.setenv("IMAGE", "other")
    monkeypatch.setenv("OPTIONS", "{")
    assert load().claim.image == "bai:2.0"
    assert load(environ=NOWHERE).claim.image is None


TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["{", "[]", "null", '{"a": 1}', '{"worker_cores": "x"}', "1", "true", "4 G"]),
)
VARIABLES = st.dictionaries(
    st.sampled_from(
        [
            "DASK_CLAIM",
            "DASK_CLAIM_",
            "DASK_CLAIM_ENV",
            "DASK_CLAIM_ENV__IMAGE",
            "DASK_CLAIM_FOO__BAR",
            "DASK_CLAIM_GATEWAY_URL",
            "DASK_CLAIM_OPTIONS",
            "DASK_CLAIM_OPTIONS__X",
            "DASK_CLAIM_RUNTIMEREQUIREMENT",
            "DASK_CLAIM_WORKER_CORES",
        ]
    ),
    TEXTS,
)


@given(VARIABLES)
def test_nothing_but_claim_errors(environ: dict[str, Any]) -> None:
    try:
        resolved = load(environ={**NOWHERE, **environ})
    except ClaimError as error:
        assert all(fault.source for fault in error.faults)
    else:
        assert isinstance(resolved, Resolved)
        assert set(type(resolved.claim).model_fields) <= set(resolved.sources)


@pytest.mark.parametrize(
    "text",
    ["{[a]: 1}", "? [a, b]", "a: !!set {b}", "a: !!binary eA==", "a: !b c", "a: !!map c", "<<: c"],
)
def test_yaml_that_defeats_its_parser(text: str) -> None:
    value, faults = parse_yaml(text)
    assert value is None
    assert "is not YAML of a claim" in str(faults[0])


def test_each_layer_is_parsed_once(
    environ: dict[str, str], site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[object] = []
    parse = memory._parse_memory

    def counting(written: object) -> tuple[int, str | int]:
        parsed.append(written)
        return parse(written)

    monkeypatch.setattr(memory, "_parse_memory", counting)
    site.write_text("max_memory: 16 G\n", encoding="utf-8")
    environ["DASK_CLAIM"] = '{"worker_memory": "4 G"}'
    environ["DASK_CLAIM_WORKER_MEMORY"] = "2 G"
    assert load(environ=environ).claim.plan({}).max_workers == 8
    assert sorted(parsed) == ["16 G", "2 G", "4 G"]
    parsed.clear()
    Claim(worker_memory="4 G")
    assert parsed == ["4 G"]


class TestTrust:
    """Which gateways may see the credentials that are configured."""

    STRANGER = '{"gateway_url": "http://stranger.example.org"}'

    @pytest.fixture(autouse=True)
    def credentials(self, environ: dict[str, str]) -> None:
        environ["DASK_GATEWAY__AUTH__TYPE"] = "jupyterhub"

    @pytest.mark.parametrize("configured", [{}, {"DASK_GATEWAY__AUTH__KWARGS__USERNAME": "me"}])
    def test_where_there_are_no_credentials(
        self, environ: dict[str, str], configured: dict[str, str]
    ) -> None:
        del environ["DASK_GATEWAY__AUTH__TYPE"]
        resolved = load(environ={**environ, **configured, "DASK_CLAIM": self.STRANGER})
        assert (
            resolved.credentials_allowed and resolved.withheld(resolved.claim.gateway_url) is None
        )
        # A user's name is no secret; a password is one.
        configured = {"DASK_GATEWAY__AUTH__KWARGS__PASSWORD": "hunter2"}
        resolved = load(environ={**environ, **configured, "DASK_CLAIM": self.STRANGER})
        assert not resolved.credentials_allowed and "hunter2" not in str(
            resolved.withheld(resolved.claim.gateway_url)
        )

    def test_a_gateway_that_only_the_claim_names(self, environ: dict[str, str]) -> None:
        environ["DASK_CLAIM"] = self.STRANGER
        resolved = load(environ=environ)
        assert not resolved.trusted_gateway and not resolved.credentials_allowed
        assert resolved.credential_urls == frozenset()
        assert "set DASK_CLAIM_GATEWAY_URL" in (resolved.withheld(resolved.claim.gateway_url) or "")

    @pytest.mark.parametrize("where", ["site", "dask", "dask-file"])
    def test_a_claim_that_overrules_the_operator(
        self, environ: dict[str, str], site: Path, tmp_path: Path, where: str
    ) -> None:
        if where == "site":
            site.write_text("gateway_url: https://Own.example.org/hub\n", encoding="utf-8")
        elif where == "dask-file":
            (tmp_path / "etc").mkdir()
            text = "gateway: {address: 'https://own.example.org/hub'}\n"
            (tmp_path / "etc" / "gateway.yaml").write_text(text, encoding="utf-8")
        else:
            environ["DASK_GATEWAY__ADDRESS"] = "https://own.example.org:443/hub/"
        environ |= {"DASK_CLAIM": self.STRANGER, "DASK_GATEWAY__AUTH__TYPE": "jupyterhub"}
        resolved = load(environ=environ)
        assert resolved.claim.gateway_url == "http://stranger.example.org"
        assert resolved.credential_urls == {UrlPrefix.of("https://own.example.org/hub")}
        assert not resolved.trusted_gateway and not resolved.credentials_allowed
        assert "https://own.example.org:443/hub" in (
            resolved.withheld(resolved.claim.gateway_url) or ""
        )
        # What is below the operator's own address is no stranger; what is beside it is one.
        for path, allowed in (("hub/x", True), ("hub2", False), ("hub/../user/x", False)):
            environ["DASK_CLAIM"] = json.dumps({"gateway_url": f"https://own.example.org/{path}"})
            resolved = load(environ=environ)
            assert resolved.credentials_allowed is allowed and not resolved.trusted_gateway
            assert (resolved.withheld(resolved.claim.gateway_url) is None) is allowed

    @pytest.mark.parametrize("named", ["proxy_url", "public_url"])
    def test_other_addresses_are_no_gateways(
        self, environ: dict[str, str], site: Path, named: str
    ) -> None:
        site.write_text(f"{named}: https://own.example.org:8443\n", encoding="utf-8")
        key = {"proxy_url": "PROXY_ADDRESS", "public_url": "PUBLIC_ADDRESS"}[named]
        environ[f"DASK_GATEWAY__{key}"] = "https://own.example.org:8443"
        environ[f"DASK_CLAIM_{named.upper()}"] = "https://own.example.org:8443"
        environ["DASK_CLAIM"] = '{"gateway_url": "https://own.example.org:8443"}'
        assert not load(environ=environ).credentials_allowed

    @pytest.mark.parametrize("where", ["flag", "variable", "site", "dask"])
    def test_a_gateway_of_the_operator(
        self, environ: dict[str, str], site: Path, where: str
    ) -> None:
        flags = {"gateway_url": "http://gw"} if where == "flag" else {}
        if where == "variable":
            environ["DASK_CLAIM_GATEWAY_URL"] = "http://gw"
        elif where == "site":
            site.write_text("gateway_url: http://gw\n", encoding="utf-8")
        elif where == "dask":
            environ["DASK_GATEWAY__ADDRESS"] = "http://gw"
        resolved = load(flags, environ)
        assert resolved.trusted_gateway and resolved.credentials_allowed
        assert resolved.credential_urls == {UrlPrefix.of("http://gw")}

    def test_faults_of_what_is_overruled_stop_nothing(self, environ: dict[str, str]) -> None:
        environ |= {"DASK_CLAIM": self.STRANGER, "DASK_GATEWAY__ADDRESS": "somewhere"}
        assert load(environ=environ).credential_urls == frozenset()

    def test_a_claim_of_a_program(self, environ: dict[str, str], site: Path) -> None:
        site.write_text("gateway_url: http://gw\nworker_cores: 2\n", encoding="utf-8")
        own = Resolved.of(Claim(gateway_url="http://gw:80/x", env={"image": "IMAGE"}), environ)
        assert own.credentials_allowed and not own.trusted_gateway
        assert own.sources["gateway_url"] == own.sources["env.image"] == "claim"
        assert (own.claim.worker_cores, own.sources["worker_cores"]) == (2, str(site))
        environ["DASK_GATEWAY__AUTH__TYPE"] = "jupyterhub"
        assert not Resolved.of(Claim(gateway_url="https://gw"), environ).credentials_allowed
        # As it would overrule DASK_CLAIM; and that is replaced.
        environ |= {"DASK_CLAIM_GATEWAY_URL": "http://gw", "DASK_CLAIM": '{"image": "x"}'}
        own = Resolved.of(Claim(gateway_url="https://gw", image="y"), environ)
        assert (own.claim.gateway_url, own.claim.image) == ("http://gw", "y")
        assert own.trusted_gateway and own.sources["gateway_url"] == "DASK_CLAIM_GATEWAY_URL"
        assert Resolved.of(Claim(), environ).credentials_allowed


def test_names_of_the_environment_keep_their_case() -> None:
    said = {
        "DASK_CLAIM_ENVIRONMENT__http_proxy": "http://a", "DASK_CLAIM_SITE": "/dev/null",
        "DASK_CLAIM_ENVIRONMENT__HTTP_PROXY": "http://b", "DASK_CONFIG": "/dev/null",
    }  # fmt: skip
    environment = load(environ=said).claim.environment
    assert environment == {"http_proxy": "http://a", "HTTP_PROXY": "http://b"}
