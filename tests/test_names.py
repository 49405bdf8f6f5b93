"""Which variable names a program may ask for. Secrets are masked wherever they are shown."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest
import yaml

from dask_claim.names import refusal, suggestion
from dask_claim.redact import redact
from dask_claim.vocabulary import MAPPABLE


@pytest.mark.parametrize("field", sorted(MAPPABLE))
def test_every_field_has_a_name_that_is_fine(field: str) -> None:
    assert refusal(suggestion(field), field) is None


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("DASK_WORKER_IMAGE", "image"),
        ("DASK_GATEWAY_URL", "gateway_url"),
        ("DASK_WORKER_CORES", "worker_cores"),
        ("DASK_GATEWAY__ADDRESS", "gateway_url"),
        ("DASK_GATEWAY__PROXY_ADDRESS", "proxy_url"),
        ("DASK_GATEWAY__PUBLIC_ADDRESS", "public_url"),
        ("DASK_SCHEDULER_ADDRESS", "scheduler_address"),
        ("DASK_CLUSTER", "cluster_name"),
        ("OMP_NUM_THREADS", "worker_cores"),
        ("cores", "worker_cores"),
        ("_CORES", "worker_cores"),
        ("PATHS", "image"),
        ("HOME_IMAGE", "image"),
    ],
)
def test_names_that_are_fine(name: str, field: str) -> None:
    assert refusal(name, field) is None


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "HOME",
        "IFS",
        "SHELL",
        "USER",
        "PWD",
        "TMPDIR",
        "LANG",
        "LC_ALL",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "DYLD_X",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONSTARTUP",
        "HTTPS_PROXY",
        "http_proxy",
        "SSL_CERT_FILE",
        "AWS_ACCESS_KEY_ID",
        "GDAL_DATA",
        "DASK_CLAIM",
        "DASK_CLAIM_SITE",
        "DASK_CLAIM__ENV__IMAGE",
        "dask_claim__image",
        "DASK_GATEWAY",
        "DASK_GATEWAY__AUTH__TYPE",
        "DASK_SCHEDULER",
        "DASK_DISTRIBUTED",
        "DASK_ARRAY",
        "DASK_CONFIG",
        "DASK_TEMPORARY_DIRECTORY",
        "DASK_Temporary_Directory",
        "DASK_NUM_WORKERS",
        "DASK_",
        "DASK___X",
    ],
)
def test_names_that_break_something(name: str) -> None:
    reason = refusal(name, "image")
    assert reason is not None and reason.endswith("write DASK_IMAGE")


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "A\n", "Ä", "$HOME"])
def test_names_that_no_variable_has(name: str) -> None:
    assert "not a name" in (refusal(name, "image") or "")


@pytest.mark.parametrize(
    "name", ["DASK_SCHEDULER_ADDRESS", "DASK_CLUSTER", "DASK_GATEWAY__ADDRESS"]
)
def test_a_name_with_one_meaning_keeps_it(name: str) -> None:
    assert "nothing else" in (refusal(name, "image") or "")


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec and spec.origin
    return Path(spec.origin).parent


def _keys_of_dask() -> set[str]:
    """Every top-level key that the installed packages ship a default for, or read."""
    keys: set[str] = set()
    for package in ("dask", "distributed", "dask_gateway"):
        for file in _folder(package).glob("*.yaml"):
            defaults = yaml.safe_load(file.read_text(encoding="utf-8"))
            if "-schema" not in file.name and isinstance(defaults, dict):
                keys |= defaults.keys()
        for file in _folder(package).rglob("*.py"):
            source = file.read_text(encoding="utf-8")
            if "tests" not in file.parts and "config" in source:
                keys |= _read_keys(source)
    return keys


def _read_keys(source: str) -> set[str]:
    keys = set()
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        holder, first = node.func.value, node.args[0]
        named = getattr(holder, "id", None) or getattr(holder, "attr", None)
        asked = isinstance(first, ast.Constant) and isinstance(first.value, str)
        if named == "config" and node.func.attr == "get" and asked:
            keys.add(first.value.partition(".")[0])  # type: ignore[attr-defined]
    # `self.config`, the configuration of a nanny or a scheduler, has keys of Dask's too.
    return keys - {"key"}


def test_every_key_that_dask_reads_is_refused() -> None:
    keys = _keys_of_dask()
    assert {"gateway", "scheduler", "distributed", "array", "num_workers"} <= keys
    for key in keys:
        name = f"DASK_{key.upper().replace('-', '_')}"
        assert refusal(name, "image"), name
        assert refusal(f"{name}__SOMETHING", "image"), name


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"password": "x", "user": "u"}, {"password": "***", "user": "u"}),
        ({"a": [{"apiKey": "x"}]}, {"a": [{"apiKey": "***"}]}),
        ({"api_token": None, "secret": "", "private_key": 7}, None),
        ("http://u:p4ss@host:80/x", "http://u:***@host:80/x"),
        ("at http://u:p/ss@host and http://h/", "at http://u:***@host and http://h/"),
        ("https://ghp_abc@host/x", "https://***@host/x"),
        ("http://host:8080/image@sha256:1", "http://host:8080/image@sha256:1"),
        ("https://h/a?sig=Zm9v&x=1&X-Amz-Signature=ab", None),
        ("--password=hunter2", "--password=***"),
        (["prog", "--token", "abc", "in.tif"], ["prog", "--token", "***", "in.tif"]),
        ('{"options": {"password": "a\\"b", "q": 1}}', '{"options": {"password": "***", "q": 1}}'),
        ("Authorization: Bearer abcdef123", "Authorization: Bearer ***"),
        (("a", 1, None, True), ("a", 1, None, True)),
        ("registry.example.org/bai:1.0", "registry.example.org/bai:1.0"),
        ({"worker_memory": "4 G", "author": "x"}, {"worker_memory": "4 G", "author": "x"}),
    ],
)
def test_secrets_are_masked(value: object, expected: object) -> None:
    if expected is None:
        masked = str(redact(value))
        assert "***" in masked and "Zm9v" not in masked and "7" not in masked
    else:
        assert redact(value) == expected


def test_masking_copes_with_anything() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    redact(deep)
    redact("a://x:" * 2000 + "?" * 2000 + "a" * 20000)
    original = {"a": ["x"]}
    copied = redact(original)
    assert copied == original and copied["a"] is not original["a"]  # type: ignore[index]


def test_the_value_of_a_secret_key_is_masked_whatever_it_is() -> None:
    assert redact("hunter2", "db_password") == "***"
    assert redact({"user": "u"}, "credentials") == "***"
