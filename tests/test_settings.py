"""Where values come from: every layer, which one wins, and every fault of every layer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dask_claim.claim.addresses import GatewayAddress, UrlPrefix
from dask_claim.claim.fields import RUN_OPTIONS
from dask_claim.claim.model import Claim, Resolved, load
from dask_claim.credentials.login import describe_withheld
from dask_claim.errors import ClaimError
from dask_claim.launch.run_options import RunOptions
from tests.support.claims import NOWHERE, Env, Fields, faults_of, write


def test_nothing_set(environ: Env) -> None:
    resolved = load({"gateway_url": None}, environ)
    assert resolved.claim == Claim()
    assert set(resolved.sources.values()) == {"default"}
    assert set(resolved.sources) == set(Claim.model_fields)


@pytest.mark.parametrize(
    ("said", "claim"),
    [
        ({"dask_claim_worker_cores": "0.5", "DASK_CLAIM_CORES_MAX": "8", "DASK_CLAIM_IMAGE": "",
          "DASK_CLAIM_CREATE": "False", "DASK_CLAIM_MIN_CORES": "  ", "DASK_CLAIM_RECEIPT": "x"},
         {"worker_cores": 0.5, "max_cores": 8, "create": False, "image": None, "min_cores": None}),
        # The same twice.
        ({"DASK_CLAIM_MIN_CORES": "4", "DASK_CLAIM_CORES_MIN": "4"}, {"min_cores": 4}),
        # Sound only together.
        ({"DASK_CLAIM": '{"provider": "gateway", "min_workers": 4, "max_workers": 2}',
          "DASK_CLAIM_GATEWAY_URL": "http://gw", "DASK_CLAIM_MAX_WORKERS": "8"},
         {"provider": "gateway", "max_workers": 8}),
        # A port of the proxy is on the gateway that won.
        ({"DASK_CLAIM": '{"gateway_url": "http://one:8000"}', "DASK_CLAIM_PROXY_URL": "8786",
          "DASK_CLAIM_GATEWAY_URL": "http://two:8000"}, {"proxy_url": "gateway://two:8786"}),
        ({"DASK_GATEWAY__ADDRESS": "http://{HOST}/services/dask-gateway/", "HOST": "proxy-public",
          "DASK_GATEWAY__PROXY_ADDRESS": "8786",
          "DASK_GATEWAY__PUBLIC_ADDRESS": "/services/dask-gateway/"},
         {"gateway_url": "http://proxy-public/services/dask-gateway",
          "proxy_url": "gateway://proxy-public:8786", "public_url": "/services/dask-gateway"}),
    ],
)  # fmt: skip
def test_one_variable_for_one_field(environ: Env, said: Env, claim: Fields) -> None:
    found = load(environ=environ | said).claim
    assert {name: getattr(found, name) for name in claim} == claim


def test_mappings_in_variables(environ: Env, site: Path) -> None:
    write(site, {"options": {"workerClass": "small"}})
    environ |= {
        "DASK_CLAIM_ENV": '{"workerCores": "CORES", "image": "IMAGE"}',
        "DASK_CLAIM_ENV__IMAGE": "OTHER",
        "DASK_CLAIM_OPTIONS": '{"queue": "short", "gpus": 2}',
        "DASK_CLAIM_OPTIONS__WORKERCLASS": "large",
        "DASK_CLAIM_OPTIONS__NEW_ONE": "x",
        "DASK_CLAIM_OPTIONS__nodeType": "y",
        "DASK_CLAIM_OPTIONS__LIST": '[1, "2", true]',
        "DASK_CLAIM_ENVIRONMENT__http_proxy": "http://a",
        "DASK_CLAIM_ENVIRONMENT__HTTP_PROXY": "http://b",
    }
    resolved = load(environ=environ)
    assert resolved.claim.env == {"worker_cores": "CORES", "image": "OTHER"}
    # An option's name is that of a weaker source, whatever its case; else in small letters, but
    # for one that is written in both.
    named = {"workerClass": "large", "new_one": "x", "nodeType": "y", "list": [1, "2", True]}
    assert resolved.claim.options == {"queue": "short", "gpus": 2, **named}
    # The names of the workers' variables keep their case.
    assert resolved.claim.environment == {"http_proxy": "http://a", "HTTP_PROXY": "http://b"}
    assert resolved.sources["env.image"] == "DASK_CLAIM_ENV__IMAGE"


UNKNOWN = "unknown variable"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("_WORKER_CORE", "1", f"{UNKNOWN}; did you mean DASK_CLAIM_WORKER_CORES?"),
        ("_RECIEPT", "x", "did you mean DASK_CLAIM_RECEIPT?"),
        ("_OPTION__QUEUE", "x", "did you mean DASK_CLAIM_OPTIONS__QUEUE?"),
        ("_WORKER_CORE", "", "did you mean DASK_CLAIM_WORKER_CORES?"),
        ("_WORKER_CORES", "many", 'worker_cores = "many": is not a number'),
        ("_WORKER_CORES__MAX", "1", "has no parts"),
        ("_ENV__IMAG", "X", "is not a field whose value a variable can hold; did you"),
        ("_ENV__IMAGE", "PATH", 'env.image = "PATH": would break the program'),
        ("_ENV", "image=X", "is not JSON"),
        ("_OPTIONS", "[1]", "is not an object"),
        ("_CLUSTER_NAME", "x", "exists only at run time"),
        ("", "{", "is not JSON"),
        # Also misspelt, not Kubernetes's variables of a Service.
        *((name, value, UNKNOWN) for name, value in (
            ("_", "x"), ("_GATEWAY_PASSWORD", "hunter2"), ("_PROXY_PORT", "8786"),
            ("_PROXY_PORT", "http://gw"), ("_SERVICE_HOSTS", "x"), ("_JOBS_PORT_TCP", "tcp://x:1"),
            ("_JOBS_PORT_80_TCP_ADDRESS", "x"))),
        # Two underscores are a setting of Dask.
        *((f"__{name}", "x", f"; write DASK_CLAIM_{name}")
          for name in ("GATEWAY_URL", "ENV__IMAGE", "image")),
    ],
)  # fmt: skip
def test_a_faulty_variable_is_named(name: str, value: str, message: str) -> None:
    (fault,) = faults_of(**{f"DASK_CLAIM{name}": value})
    assert fault.startswith(f"DASK_CLAIM{name}: ") and message in fault
    assert "hunter2" not in fault


CORES = '{"clusterMinCores": 4, "worker_cores": 2, "worker_cores_limit": 2}'
OF_DASK = "Dask's configuration (gateway.address): gateway_url = "


@pytest.mark.parametrize(
    ("said", "start", "message"),
    [
        ({"DASK_CLAIM__IMAGE": "x", "DASK_CLAIM": '{"create": false}'}, "DASK_CLAIM__IMAGE: ",
         "; write DASK_CLAIM_IMAGE"),
        ({"dask_claim__image": "x"}, "dask_claim__image: ", "; write DASK_CLAIM_image"),
        ({"DASK_CLAIM_OPTIONS": '{"a": true}', "DASK_CLAIM_OPTIONS__QUEUE": "short"}, "",
         "cannot be read by Dask beside DASK_CLAIM_OPTIONS__QUEUE, which the environment"),
        # Each source is sound by itself.
        ({"DASK_CLAIM": CORES, "DASK_CLAIM_MAX_CORES": "3"}, "DASK_CLAIM, DASK_CLAIM_MAX_CORES: ",
         "clusterMinCores/max_cores: "),
        ({"DASK_GATEWAY__ADDRESS": "http://{NOT_SET}/"}, OF_DASK, "NOT_SET is not set"),
        ({"DASK_GATEWAY__ADDRESS": "http://{/"}, OF_DASK, "cannot be filled in"),
        ({"DASK_GATEWAY__ADDRESS": "somewhere"}, OF_DASK, "is not an address with a host"),
    ],
)  # fmt: skip
def test_faults_of_several_variables(said: Env, start: str, message: str) -> None:
    (fault,) = faults_of(**said)
    assert fault.startswith(start) and message in fault


LINKS = {
    "SERVICE_HOST": "10.0.0.7", "SERVICE_PORT": "80", "SERVICE_PORT_HTTP": "80",
    "PORT": "tcp://10.0.0.7:80", "PORT_8080_TCP": "tcp://10.0.0.7:8080",
    "PORT_8080_TCP_PROTO": "tcp", "PORT_8080_TCP_PORT": "8080", "PORT_8080_TCP_ADDR": "10.0.0.7",
    "PORT_53_UDP": "udp://[fd00::7]:53",
}  # fmt: skip
"""What Kubernetes tells each pod of a Service."""


def test_variables_that_are_no_fields(environ: Env) -> None:
    assert {*RUN_OPTIONS} == {*RunOptions.model_fields}
    services = ("", "JOBS_", "GATEWAY_", "GATEWAY_URL_", "MY_OWN_2_", "PORT_")
    said = {f"{service}{link}": LINKS[link] for service in services for link in LINKS}
    own = ("RECEIPT", "RUN_ID", "START_TIMEOUT", "SERVICE_HOST", "PORT", "PORT_80_TCP_ADDR")
    for variables in (said, dict.fromkeys(own, "/dev/null")):
        named = {f"DASK_CLAIM_{name}": value for name, value in variables.items()}
        assert load(environ={**named, **environ}).claim == Claim()


@pytest.mark.parametrize(
    ("misspelt", "right"),
    [("polices", "policy"), ("Policy", "policy"), ("profile_s", "profiles"),
     ("gateway-option", "gateway_options"), ("credential", "credentials"), ("imag", "image")],
)  # fmt: skip
def test_a_misspelt_section_of_the_site_file(
    environ: Env, site: Path, misspelt: str, right: str
) -> None:
    write(site, f"{misspelt}: {{max_workers: 1}}\nworker_core: 1\npolicy: {{max_worker: 1}}\n")
    policy, section, field = faults_of(**environ)
    assert section.startswith(f"{site}: {misspelt}") and section.endswith(f"did you mean {right}?")
    # What is wrong in one section hides nothing of the others.
    assert "policy.max_worker" in policy and field.endswith("did you mean worker_cores?")


def test_the_claim_does_not_disturb_dask() -> None:
    """Which reads all variables of its prefix when it is imported."""
    import dask.config

    env = {"DASK_CLAIM_GATEWAY_URL": "http://gw", "DASK_CLAIM_ENV__WORKER_CORES": "CORES"}
    env |= {"DASK_CLAIM_OPTIONS__QUEUE": "short"}
    for text in ('{"create": false}', '{"gateway_url": null}', "{'a'", "x"):
        dask.config.refresh({}, paths=[], env={**env, "DASK_CLAIM": text})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "is not an object"),
        ("a: [\n", "is not valid YAML for a claim: "),
        ("image: a\nimage: b\n", "image is given twice at line 2, column 1"),
        ("image: !!python/object:os.system x\n", "the tag tag:yaml.org,2002:python/object:os."),
        ("options: &a {x: *a}\n", "nested too deeply at line 1, column 10"),
        ("worker_cores: .nan\n", 'worker_cores = ".nan": is not a number'),
        ("1: 2\n", '1 = "2": is not a field'),
        ("image: \0\n", "is not valid YAML"),
        # What defeats the parser.
        *((text, "is not valid YAML for a claim")
          for text in ("{[a]: 1}", "? [a, b]", "a: !!set {b}", "a: !!binary eA==", "a: !b c",
                       "a: !!map c", "<<: c")),
    ],
)  # fmt: skip
def test_a_faulty_site_file(environ: Env, site: Path, text: str, message: str) -> None:
    write(site, text)
    (fault,) = faults_of(**environ)
    assert fault.startswith(f"{site}: ") and message in fault


def test_site_files_that_can_be_read(environ: Env, site: Path) -> None:
    spelled = "calrissian:DaskGatewayRequirement:\n  workerCores: 1\n  clustermaxCore: 5\n"
    expected = {spelled: Claim(worker_cores=1, max_cores=5)}
    for text in (spelled, "", "# nothing yet\n", "---\n"):
        write(site, text)
        assert load(environ=environ).claim == expected.get(text, Claim())


def test_a_site_file_that_cannot_be_read(environ: Env, tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"image: \xe9\n")
    for path in (tmp_path / "absent.yaml", tmp_path, tmp_path / "latin.yaml"):
        (fault,) = faults_of(**{**environ, "DASK_CLAIM_SITE": str(path)})
        assert fault.startswith(f"{path}: cannot be read: ") and "DASK_CLAIM_SITE" in fault


def test_the_default_site_file_may_be_absent(
    monkeypatch: pytest.MonkeyPatch, environ: Env, tmp_path: Path
) -> None:
    del environ["DASK_CLAIM_SITE"]
    path = tmp_path / "none" / "claim.yaml"
    monkeypatch.setattr("dask_claim.claim.site.SITE_FILE", str(path))
    assert load(environ=environ).claim.image is None
    write(path, "image: bai:1.0\n")
    assert load(environ=environ).claim.image == "bai:1.0"


@pytest.mark.parametrize("where", ["home/.config/dask", "etc", "own"])
def test_files_of_dask(environ: Env, tmp_path: Path, where: str) -> None:
    text = "gateway:\n  address: http://from-dask\n  proxy_address: tls://proxy:1\n"
    file = write(tmp_path / where / "site.yaml", text)
    if where == "own":
        environ["DASK_CONFIG"] = str(file)
    found = load(environ=environ)
    addresses = found.claim.gateway_url, found.claim.proxy_url
    assert addresses == ("http://from-dask", "tls://proxy:1")
    assert found.plan().provider == "gateway"
    write(file, "gateway: [\n")
    (fault,) = faults_of(**environ)
    assert fault.startswith("Dask's configuration: cannot be read: ")


def test_without_a_value_dask_is_not_imported(tmp_path: Path) -> None:
    write(tmp_path / ".config" / "dask" / "gateway.yaml", "# gateway:\n#   address: x\n")
    code = "import sys; from dask_claim.claim.model import load; load(); print(*sys.modules)"
    env = {"HOME": str(tmp_path), "DASK_CLAIM": '{"worker_cores": 1}'}
    out = subprocess.check_output([sys.executable, "-c", code], env=env, text=True)
    loaded = set(out.split())
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
VARIABLES = st.sampled_from(
    ["", "_", "_ENV", "_ENV__IMAGE", "_FOO__BAR", "_GATEWAY_URL", "_OPTIONS", "_OPTIONS__X",
     "_RUNTIMEREQUIREMENT", "_WORKER_CORES"]
).map("DASK_CLAIM{}".format)  # fmt: skip


@given(st.dictionaries(VARIABLES, TEXTS))
def test_nothing_but_claim_errors(environ: Fields) -> None:
    try:
        resolved = load(environ={**NOWHERE, **environ})
    except ClaimError as error:
        assert all(fault.source for fault in error.faults)
    else:
        assert isinstance(resolved, Resolved)
        assert set(type(resolved.claim).model_fields) <= set(resolved.sources)


# Which gateways may see the credentials that are configured.
TYPE = {"DASK_GATEWAY__AUTH__TYPE": "jupyterhub"}
STRANGER = "http://stranger.example.org"
OWN = "https://own.example.org"
HUB = f"{OWN}:443/hub"


def test_what_counts_as_credentials(environ: Env) -> None:
    auth, claim = "DASK_GATEWAY__AUTH__KWARGS__", json.dumps({"gateway_url": STRANGER})
    for configured, secret in (
        ({}, False), ({f"{auth}USERNAME": "hunter2"}, False),
        ({f"{auth}PASSWORD": "hunter2"}, True), (TYPE, True),
    ):  # fmt: skip
        told = describe_withheld(load(environ={**environ, **configured, "DASK_CLAIM": claim}))
        assert (told is not None) is secret and "hunter2" not in str(told)


@pytest.mark.parametrize(
    ("operator", "named", "url", "allowed"),
    [
        *((operator, True, url, allowed)
          for operator in ({"site": f"gateway_url: {OWN.title()}/hub"},
                           {"etc/gateway.yaml": f"gateway: {{address: '{OWN}/hub'}}"},
                           {"DASK_GATEWAY__ADDRESS": f"{HUB}/"})
          # What is below the operator's own address is no stranger; what is beside it is one.
          for url, allowed in ((STRANGER, False), (f"{OWN}/hub/x", True), (f"{OWN}/hub2", False),
                               (f"{OWN}/hub/../user/x", False))),
        ({}, False, STRANGER, False),
        # Faults of what is overruled stop nothing.
        ({"DASK_GATEWAY__ADDRESS": "somewhere"}, False, STRANGER, False),
        # Its other addresses are no gateways.
        *(({"site": f"{name}_url: {HUB}", f"DASK_GATEWAY__{name.upper()}_ADDRESS": HUB,
            f"DASK_CLAIM_{name.upper()}_URL": HUB}, False, HUB, False)
          for name in ("proxy", "public")),
    ],
)  # fmt: skip
def test_a_gateway_that_only_the_claim_names(
    environ: Env, site: Path, tmp_path: Path, operator: Env, named: bool, url: str, allowed: bool
) -> None:
    environ |= {**TYPE, "DASK_CLAIM": json.dumps({"gateway_url": url})}
    for name, text in operator.items():
        if name.isupper():
            environ[name] = text
        else:
            write(site if name == "site" else tmp_path / name, text)
    resolved = load(environ=environ)
    gateway, operators = resolved.claimed_gateway, resolved.operator_gateways
    assert gateway and gateway.url == url and gateway.trusted is allowed
    assert operators.prefixes() == ([UrlPrefix.of(HUB)] if named else [])
    told = describe_withheld(resolved)
    assert (told is None) is allowed
    assert allowed or (HUB if named else "set DASK_CLAIM_GATEWAY_URL") in str(told)


def test_a_claim_of_a_program(environ: Env, site: Path) -> None:
    environ |= TYPE
    write(site, "gateway_url: http://gw\nworker_cores: 2\n")
    own = Resolved.of(Claim(gateway_url="http://gw:80/x", env={"image": "IMAGE"}), environ)
    assert own.claimed_gateway and own.claimed_gateway.trusted
    assert own.sources["gateway_url"] == own.sources["env.image"] == "claim"
    assert (own.claim.worker_cores, own.sources["worker_cores"]) == (2, str(site))
    other = Resolved.of(Claim(gateway_url="https://gw"), environ).claimed_gateway
    assert other and not other.trusted
    # As it would overrule DASK_CLAIM; and that is replaced.
    environ |= {"DASK_CLAIM_GATEWAY_URL": "http://gw", "DASK_CLAIM": '{"image": "x"}'}
    own = Resolved.of(Claim(gateway_url="https://gw", image="y"), environ)
    assert (own.claim.gateway_url, own.claim.image) == ("http://gw", "y")
    assert own.sources["gateway_url"] == "DASK_CLAIM_GATEWAY_URL"
    again = Resolved.of(Claim(), environ).claimed_gateway
    assert own.claimed_gateway == again == GatewayAddress("http://gw", trusted=True)
