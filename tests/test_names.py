"""Which variable names a program may ask for, and which names are made up.

Secrets are masked wherever they are shown.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import dask_claim
from dask_claim.claim.fields import FIELDS, RESULTS
from dask_claim.claim.model import Claim
from dask_claim.claim.names import refusal, suggest_name
from dask_claim.files import letters, private_path
from dask_claim.providers.values import Request
from dask_claim.redact import redact, redact_command, redact_text, register_secret, register_secrets


@pytest.mark.parametrize(
    ("name", "field"),
    [
        *((suggest_name(field), field) for field in (*FIELDS, *RESULTS)),
        ("DASK_GATEWAY__ADDRESS", "gateway_url"), ("DASK_GATEWAY__PROXY_ADDRESS", "proxy_url"),
        ("DASK_GATEWAY__PUBLIC_ADDRESS", "public_url"), ("DASK_CLUSTER", "cluster_name"),
        ("OMP_NUM_THREADS", "worker_cores"), ("_cores", "worker_cores"), ("PATHS", "image"),
    ],
)  # fmt: skip
def test_names_that_are_fine(name: str, field: str) -> None:
    assert refusal(name, field) is None


BREAKING = """
PATH HOME IFS SHELL USER PWD TMPDIR LANG LC_ALL LD_PRELOAD LD_LIBRARY_PATH DYLD_X PYTHONPATH
PYTHONHOME PYTHONSTARTUP HTTPS_PROXY http_proxy SSL_CERT_FILE AWS_ACCESS_KEY_ID GDAL_DATA
TRACEPARENT TRACESTATE OTEL_SERVICE_NAME
DASK_CLAIM DASK_CLAIM_SITE DASK_CLAIM_ENV__IMAGE dask_claim__image
DASK_GATEWAY DASK_GATEWAY__AUTH__TYPE DASK_SCHEDULER DASK_DISTRIBUTED DASK_ARRAY DASK_CONFIG
DASK_TEMPORARY_DIRECTORY DASK_Temporary_Directory DASK_NUM_WORKERS DASK_ DASK___X
"""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((name, "would ") for name in BREAKING.split()),
        *((name, "not a valid variable name")
          for name in ("", "1A", "A-B", "A B", "A=B", "A\n", "Ä", "$HOME")),
        *((name, "reserved for")
          for name in ("DASK_SCHEDULER_ADDRESS", "DASK_CLUSTER", "DASK_GATEWAY__ADDRESS")),
    ],
)  # fmt: skip
def test_names_that_are_refused(name: str, reason: str) -> None:
    assert reason in str(refusal(name, "image"))


# Also of `self.config`, the configuration of a nanny or a scheduler; and in examples, "foo".
READ = re.compile(r"""\bconfig\.get\(\s*["']([^"'.]+)""")


def _keys_of_dask() -> set[str]:
    """Every top-level key that the installed packages ship a default for, or read."""
    keys: set[str] = set()
    for package in ("dask", "distributed", "dask_gateway"):
        spec = importlib.util.find_spec(package)
        assert spec and spec.origin
        folder = Path(spec.origin).parent
        for file in folder.glob("*.yaml"):
            defaults = yaml.safe_load(file.read_text(encoding="utf-8"))
            if "-schema" not in file.name and isinstance(defaults, dict):
                keys |= defaults.keys()
        for file in folder.rglob("*.py"):
            if "tests" not in file.parts:
                keys |= {*READ.findall(file.read_text(encoding="utf-8"))}
    return keys - {"foo", "key"}


def test_every_key_that_dask_reads_is_refused() -> None:
    keys = _keys_of_dask()
    assert {"gateway", "scheduler", "distributed", "array", "num_workers"} <= keys
    for key in keys:
        name = f"DASK_{key.upper().replace('-', '_')}"
        assert refusal(name, "image"), name
        assert refusal(f"{name}__SOMETHING", "image"), name


# Words within others, and plurals: several tokens are secrets, a maximum of them is not.
OF_SECRETS = """
password PASSWORD PGPASSWORD apiKey api_key secret-key secretKeys SECRETKEY AWS_SECRETKEY
AWS_SECRET_ACCESS_KEY privateKey client_secret token tokens authtokens API_TOKENS tokenValue
accessToken access-token secrets credentials
"""
OF_OTHERS = "max_tokens max-tokens maxTokens TOKENIZER tokenizer author privateNetwork"


@pytest.mark.parametrize("name", [*OF_SECRETS.split(), *OF_OTHERS.split()])
def test_names_of_secrets(name: str) -> None:
    shown = "***" if name in OF_SECRETS.split() else "512"
    for value in (
        {name: "512", "user": "u"}, {"a": [{name: "512"}]}, ["tool", f"--{name}", "512", "in.tif"],
        [f"--{name}=512"], f"tool --{name} 512 --n 1", f"{name}=512 x=1", f"got {name}: 512 x",
        f"https://h/a?n=1&{name}=512&q=1", f'{{"{name}": "512", "q": 1}}',
    ):  # fmt: skip
        assert str(redact(value)) == str(value).replace("512", shown)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"api_token": None, "secret": "", "private_key": 7}, None),
        ("http://u:p4ss@host:80/x", "http://u:***@host:80/x"),
        ("at http://u:p/ss@host and http://h/", "at http://u:***@host and http://h/"),
        ("https://ghp_abc@host/x", "https://***@host/x"),
        ("https://h/a?sig=Zm9v&x=1&X-Amz-Signature=ab", None),
        ('{"options": {"password": "a\\"b", "q": 1}}', '{"options": {"password": "***", "q": 1}}'),
        ("Authorization: Bearer abcdef123", "Authorization: Bearer ***"),
        ("Authorization: Basic dXNlcjpw, x", "Authorization: Basic *** x"),
        ("{'Authorization': 'Basic dXNlcjpw'}", "{'Authorization': '***'}"),
        ("Cookie: a=b; session=c\nHost: h", "Cookie: ***\nHost: h"),
        ("token = 'a b' x", "token = '***' x"),
        ('{\\"password\\": \\"hunter2\\"}', None),
        ("tool --api-key 'a b' in.tif", "tool --api-key '***' in.tif"),
        ("sh -c 'tool --password hunter2'", "sh -c 'tool --password ***'"),
        ("http://h/,http://u:p@h2 http://a@b,http://c@d", None),
        ("x=1 password=a b", "x=1 password=*** b"),
        ('PGPASSWORD="a b', None),
        ('options=\'{"password": "hunter2"}\'', 'options=\'{"password": "***"}\''),
    ],
)  # fmt: skip
def test_secrets_are_masked(value: object, expected: object) -> None:
    if expected is None:
        masked = str(redact(value))
        assert "***" in masked and "7" not in masked
        assert not any(secret in masked for secret in ("Zm9v", "hunter2", ":p@", "c@", '"a b'))
    else:
        assert redact(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "http://host:8080/image@sha256:1", "token: is missing", "tool --verbose --password --n",
        "--max-workers 4 --path secret.tif", ("a", 1, None, True), "registry.example.org/bai:1.0",
        {"max_tokens": 512, "maxTokens": "1.5"},
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(value: object) -> None:
    assert redact(value) == value


def test_a_known_secret_is_masked_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dask_claim.redact._registered", set())
    register_secrets(
        {"SITE_PASSWORD": "open-sesame", "TOKEN_FILE": "/run/token-of-mine", "PIN": "12"}
        | {"TOKENS": "one-of-several", "MAX_TOKENS": "123456789"}
        # Where the shell stands, not a password.
        | {"PWD": "/home/somebody", "OLDPWD": "/home/elsewhere", "DB_PWD": "another-one"}
    )
    register_secret("short")
    assert redact({"a": ["to open-sesame, another-one, short", "/run/token-of-mine"]}) == {
        "a": ["to ***, ***, short", "/run/token-of-mine"]
    }
    assert redact("/home/somebody/a /home/elsewhere/b") == "/home/somebody/a /home/elsewhere/b"
    assert redact_command(["tool", "--phrase", "open-sesame"]) == "tool --phrase ***"
    assert redact("one-of-several 123456789") == "*** 123456789"


def test_masking_copes_with_anything() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    redact(deep)
    assert redact("hunter2", "db_password") == redact({"user": "u"}, "credentials") == "***"


PIECES = (
    *("a", "-", "token", "token=", 'token="', "token='", 'token="\\', "password: ", "--token "),
    *("--token '", "a://", "a://x:", "a://x@", "a://x:1/", "?", "?sig", "&key=", "cookie:"),
    *("bearer ", "Authorization: Basic ", " ", "\\", "('token', ", '"', "_token-"),
    *("tokens=1.", "--tokens 1_"),
)


def test_masking_does_not_hang_on_long_texts() -> None:
    for piece in PIECES:
        many = piece * (2**14 // len(piece))
        started = time.process_time()
        redact(many)
        redact(f"a://x:{many}@")
        # 0.01 s is usual; what is quadratic takes a quarter of a minute.
        assert time.process_time() - started < 3, piece


@given(st.text(alphabet="a-=:@/?&\"'\\ \ntokensigbearer,.", max_size=200))
def test_masking_twice_changes_nothing(text: str) -> None:
    once = redact_text(text)
    assert redact_text(once) == once


def test_a_command_as_it_is_shown() -> None:
    command = ["tool", "--password", "hunter2", "--api-key=hunter2", "-x", "a b", "PASS=hunter2"]
    told = redact_command(command)
    assert told == "tool --password *** '--api-key=***' -x 'a b' 'PASS=***'"
    assert "hunter2" not in redact_command(["sh", "-c", "tool --password hunter2 | cat"])
    header = ["curl", "-H", "Authorization: Basic aHVudGVy", "http://u:hunter2@h"]
    assert redact_command(header) == "curl -H 'Authorization: Basic ***' 'http://u:***@h'"


def test_the_log_shows_no_secret_of_a_traceback() -> None:
    code = (
        "from dask_claim.log import configure, logger\n"
        "configure('INFO')\n"
        "try:\n"
        "    raise ValueError('http://u:hunter2@h, token: hunter2')\n"
        "except ValueError:\n"
        "    logger.exception('tool --password hunter2')\n"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "ValueError: http://u:***@h" in child.stderr and "hunter2" not in child.stderr


def test_values_of_variables_are_literals_without_a_warning() -> None:
    """As Dask reads each of them; one in 200 random tokens with digits in them warns."""
    claim = Claim()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(300):
            folder = private_path("keys")
            run = Request(claim, claim.plan(), {}).run_id
            for value in (folder, f"http://127.0.0.1:36267/{letters()}/status", run, letters()):
                # What is no literal is taken as it stands; a warning would be raised here, too.
                with contextlib.suppress(ValueError):
                    try:
                        ast.literal_eval(value)
                    except SyntaxError as error:
                        assert "literal" not in str(error), value


def test_nothing_else_makes_names_up() -> None:
    other = re.compile(r"uuid4|mkdtemp|TemporaryDirectory|token_hex|token_urlsafe|random\.choice")
    for module in Path(dask_claim.__file__).parent.rglob("*.py"):
        assert not other.search(module.read_text()), module
