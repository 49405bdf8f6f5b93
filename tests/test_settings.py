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

from dask_claim.claim import Effective, load
from dask_claim.errors import ClaimError
from dask_claim.texts import parse_yaml


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
    effective = load(environ=environ)
    assert effective.claim.to_dict() == {
        "version": 1,
        "options": {},
        "env": {},
        "provider": "auto",
        "fallback": "fail",
        "create": True,
        "lease_timeout": 60,
    }
    assert set(effective.sources.values()) == {"default"}
    assert set(effective.sources) == set(type(effective.claim).model_fields)


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
    environ["DASK_CLAIM__GATEWAY_URL"] = "http://from-variable"
    assert now() == ("http://from-variable", "DASK_CLAIM__GATEWAY_URL")
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
    environ["DASK_CLAIM__ENV__GATEWAY_URL"] = "GATEWAY"
    environ["DASK_CLAIM__OPTIONS__WORKERCLASS"] = "large"
    environ["DASK_CLAIM__OPTIONS__NEW_ONE"] = "x"
    effective = load({"options": {"account": "other"}}, environ)
    assert effective.claim.env == {
        "image": "IMAGE",
        "worker_cores": "CORES",
        "gateway_url": "GATEWAY",
    }
    assert effective.claim.options == {
        "queue": "short",
        "account": "other",
        "workerClass": "large",
        "new_one": "x",
    }
    expected = {
        "env.image": "DASK_CLAIM",
        "env.gateway_url": "DASK_CLAIM__ENV__GATEWAY_URL",
        "options.queue": "DASK_CLAIM",
        "options.account": "--options",
        "options.workerClass": "DASK_CLAIM__OPTIONS__WORKERCLASS",
    }
    assert {name: effective.sources[name] for name in expected} == expected


def test_one_variable_for_one_field(environ: dict[str, str]) -> None:
    environ |= {
        "dask_claim__worker_cores": "0.5",
        "DASK_CLAIM__CORES_MAX": "8",
        "DASK_CLAIM__WORKER_MEMORY": "4 G",
        "DASK_CLAIM__CREATE": "False",
        "DASK_CLAIM__IMAGE": "",
        "DASK_CLAIM__MIN_CORES": "  ",
        "DASK_CLAIM_RECEIPT": "out.json",
    }
    claim = load(environ=environ).claim
    assert (claim.worker_cores, claim.max_cores, str(claim.worker_memory)) == (0.5, 8, "4 G")
    assert (claim.create, claim.image, claim.min_cores) == (False, None, None)


def test_env_and_options_whole_in_a_variable(environ: dict[str, str]) -> None:
    environ |= {
        "DASK_CLAIM__ENV": '{"workerCores": "CORES", "image": "IMAGE"}',
        "DASK_CLAIM__ENV__IMAGE": "OTHER",
        "DASK_CLAIM__OPTIONS": '{"queue": "short", "gpus": 2}',
    }
    effective = load(environ=environ)
    assert effective.claim.env == {"worker_cores": "CORES", "image": "OTHER"}
    assert effective.claim.options == {"queue": "short", "gpus": 2}
    assert effective.sources["env.image"] == "DASK_CLAIM__ENV__IMAGE"


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
    environ["DASK_CLAIM__OPTIONS__X"] = text
    found = load(environ=environ).claim.options["x"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DASK_CLAIM__WORKER_CORE", "1", 'worker_core = "1": is not a field of the claim; did'),
        ("DASK_CLAIM__WORKER_CORES", "many", 'worker_cores = "many": is not a number'),
        ("DASK_CLAIM__WORKER_CORES__MAX", "1", "has no parts"),
        ("DASK_CLAIM__ENV__IMAG", "X", "is not a field whose value a variable can hold; did you"),
        ("DASK_CLAIM__ENV__IMAGE", "PATH", 'env.image = "PATH": would break the program'),
        ("DASK_CLAIM__ENV", "image=X", "is not JSON"),
        ("DASK_CLAIM__OPTIONS", "[1]", "is not an object"),
        ("DASK_CLAIM__CLUSTER_NAME", "x", "is known only at run time"),
        ("DASK_CLAIM__", "x", "is not a field of the claim"),
        ("DASK_CLAIM", "{", "is not JSON"),
    ],
)
def test_a_faulty_variable_is_named(name: str, value: str, message: str) -> None:
    (fault,) = faults_of(**{name: value})
    assert fault.startswith(f"{name}: ") and message in fault


def test_two_variables_that_contradict_one_another(environ: dict[str, str]) -> None:
    environ |= {"DASK_CLAIM__MIN_CORES": "4", "DASK_CLAIM__CORES_MIN": "5"}
    (fault,) = faults_of(**environ)
    assert fault.startswith("DASK_CLAIM__MIN_CORES: contradicts DASK_CLAIM__CORES_MIN")
    assert load(environ={**environ, "DASK_CLAIM__CORES_MIN": "4"}).claim.min_cores == 4


def test_every_fault_of_every_layer(site: Path) -> None:
    site.write_text("image: 7\nlease_timeout: soon\n", encoding="utf-8")
    faults = faults_of(
        {"worker_memory": "4 X"},
        DASK_CLAIM_SITE=str(site),
        DASK_CLAIM='{"worker_core": 1, "min_workers": "few", "max_cores": 1, "min_cores": 3}',
        DASK_CLAIM__PROVIDER="cloud",
        DASK_CLAIM__IMAGE="bai:1.0",
    )
    starts = [
        '--worker-memory: worker_memory = "4 X"',
        'DASK_CLAIM__PROVIDER: provider = "cloud"',
        "DASK_CLAIM: worker_core = 1",
        'DASK_CLAIM: min_workers = "few"',
        # Overruled by a stronger layer, and wrong all the same.
        f"{site}: image = 7",
        f'{site}: lease_timeout = "soon"',
        "DASK_CLAIM: min_cores/max_cores: cannot both hold",
    ]
    assert [fault[: len(start)] for fault, start in zip(faults, starts, strict=True)] == starts


def test_faults_between_layers_name_both(environ: dict[str, str]) -> None:
    environ["DASK_CLAIM"] = '{"clusterMinCores": 4, "worker_cores": 2}'
    environ["DASK_CLAIM__MAX_CORES"] = "3"
    (fault,) = faults_of({"worker_cores_limit": 2}, **environ)
    assert fault.startswith("DASK_CLAIM, DASK_CLAIM__MAX_CORES: clusterMinCores/max_cores: ")


def test_layers_that_are_sound_only_together(environ: dict[str, str]) -> None:
    environ["DASK_CLAIM"] = '{"provider": "gateway", "min_workers": 4, "max_workers": 2}'
    environ["DASK_CLAIM__GATEWAY_URL"] = "http://gw"
    environ["DASK_CLAIM__MAX_WORKERS"] = "8"
    claim = load(environ=environ).claim
    assert (claim.provider, claim.max_workers) == ("gateway", 8)


def test_a_port_of_the_proxy_is_on_the_gateway_that_won(environ: dict[str, str]) -> None:
    environ["DASK_CLAIM"] = '{"gateway_url": "http://one:8000", "proxy_url": 8786}'
    environ["DASK_CLAIM__GATEWAY_URL"] = "http://two:8000"
    assert load(environ=environ).claim.proxy_url == "gateway://two:8786"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "is not an object"),
        ("a: [\n", "is not YAML of a claim: "),
        ("image: a\nimage: b\n", "image is given twice at line 2, column 1"),
        ("image: !!python/object:os.system x\n", "could not determine a constructor"),
        ("options: {start: 2024-01-01}\n", 'options.start = "2024-01-01": is a date'),
        ("options: &a {x: *a}\n", "options.x"),
        ("worker_cores: .nan\n", "is not a finite number"),
        ("1: 2\n", "1 = 2: is not a field"),
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
    monkeypatch.setattr("dask_claim.settings.SITE_FILE", str(tmp_path / "none" / "claim.yaml"))
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
        effective = load(environ=environ)
        assert effective.claim.gateway_url == "http://proxy-public/services/dask-gateway"
        assert effective.claim.proxy_url == "gateway://proxy-public:8786"
        assert effective.claim.public_url == "/services/dask-gateway"
        assert effective.claim.plan({}).provider == "gateway"
        assert effective.sources["proxy_url"] == "Dask's configuration (gateway.proxy-address)"

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
        environ["DASK_CLAIM__GATEWAY_URL"] = "http://other"
        assert load(environ=environ).claim.proxy_url is None

    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("http://{NOT_SET}/", "cannot be filled in from the environment: KeyError('NOT_SET')"),
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
        code = "import sys; from dask_claim.claim import load; load(); print(*sys.modules)"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
        child = subprocess.run(
            [sys.executable, "-c", code],
            env={**kept, "HOME": str(tmp_path), "DASK_CLAIM": '{"worker_cores": 1}'},
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = set(child.stdout.split())
        assert not loaded & {"dask", "distributed", "dask_gateway", "yaml", "loguru"}


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_CLAIM_SITE", "/dev/null")
    monkeypatch.setenv("DASK_CLAIM__IMAGE", "bai:2.0")
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
            "DASK_CLAIM__",
            "DASK_CLAIM__ENV",
            "DASK_CLAIM__ENV__IMAGE",
            "DASK_CLAIM__FOO__BAR",
            "DASK_CLAIM__GATEWAY_URL",
            "DASK_CLAIM__OPTIONS",
            "DASK_CLAIM__OPTIONS__X",
            "DASK_CLAIM__RUNTIMEREQUIREMENT",
            "DASK_CLAIM__WORKER_CORES",
        ]
    ),
    TEXTS,
)


@given(VARIABLES)
def test_nothing_but_claim_errors(environ: dict[str, Any]) -> None:
    try:
        effective = load(environ={**NOWHERE, **environ})
    except ClaimError as error:
        assert all(fault.place for fault in error.faults)
    else:
        assert isinstance(effective, Effective)
        assert set(type(effective.claim).model_fields) <= set(effective.sources)


@pytest.mark.parametrize(
    "text",
    ["{[a]: 1}", "? [a, b]", "a: !!int ''", "a: !!float ''", "a: !!bool foo", "a: !!timestamp x"],
)
def test_yaml_that_defeats_its_parser(text: str) -> None:
    value, faults = parse_yaml(text)
    assert value is None
    assert "is not YAML of a claim" in str(faults[0])
