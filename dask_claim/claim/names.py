"""Which variables a claim may name for the program, and why others are refused."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping

from dask_claim.claim.fields import RUN_OPTIONS
from dask_claim.claim.units import VARIABLE
from dask_claim.errors import Fault
from dask_claim.redact import redact

_ALLOWED = {
    "DASK_SCHEDULER_ADDRESS": "scheduler_address",
    "DASK_CLUSTER": "cluster_name",
    "DASK_GATEWAY__ADDRESS": "gateway_url",
    "DASK_GATEWAY__PROXY_ADDRESS": "proxy_url",
    "DASK_GATEWAY__PUBLIC_ADDRESS": "public_url",
}
"""Names that dask-claim or Dask give this one meaning, so only that field may go there."""

SET_BY_LAUNCHER = (
    "DASK_CONFIG",
    "DASK_DISTRIBUTED__CLIENT__SECURITY_LOADER",
    "DASK_GATEWAY__AUTH__KWARGS__PASSWORD",
    "DASK_GATEWAY__AUTH__KWARGS__SITE_FILE",
    "DASK_GATEWAY__AUTH__KWARGS__USERNAME",
    "DASK_GATEWAY__AUTH__TYPE",
    "DASK_GATEWAY__HTTP_CLIENT__PROXY",
    *_ALLOWED,
)
"""What dask-claim itself puts into the command's environment for Dask."""

NOT_FIELDS = re.compile(
    rf"DASK_CLAIM_(?:SITE|RUN_ID|{'|'.join(RUN_OPTIONS).upper()}"
    # What Kubernetes sets in each pod beside a Service that is called dask-claim.
    r"|PORT)"
    # And beside one that is called dask-claim-jobs: the same after any name.
    r"|DASK_CLAIM(?:_.+)?"
    r"_(?:SERVICE_HOST|SERVICE_PORT(?:_.+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
"""Variables called `DASK_CLAIM_…` that are not fields of the claim."""

SERVICE_LINK = re.compile(r"(?:tcp|udp|sctp)://\S+:\d+")
"""What `NAME_PORT` holds, which Kubernetes sets beside them."""

_OF_DASK = re.compile(
    # dask, and what its schedulers read without a default in dask.yaml
    r"admin|annotations|array|array-plugins|cache|chunksize|collection-annotations"
    r"|dask-expr-no-serialize"
    r"|dataframe|delayed-pure|func-dumps|func-loads|get|multiprocessing|num-workers|optimizations?"
    r"|pool|rerun-exceptions-locally|scheduler|split-every|temporary-directory|tokenize"
    r"|visualization"
    # distributed
    r"|client-name|distributed|logging|logging-file-config|rmm|scheduler-address|shuffle|ucx"
    # dask-gateway, and the other deployments that may be installed beside it
    r"|cloudprovider|cuda|gateway|jobqueue|kubernetes|labextension|yarn"
    # where the configuration itself lies
    r"|config|internal-inherit-config|root-config"
)
"""The top-level keys of Dask's configuration: `DASK_X` and `DASK_X__…` set the key `x`."""

_BREAKING = re.compile(
    # what programs, libraries or data are looked up through
    r"PATH|CLASSPATH|GCONV_PATH|LOCPATH|NLSPATH|GLIBC_TUNABLES|LD_.*|DYLD_.*|PYTHON.*|PERL5(LIB|OPT)"
    r"|NODE_(PATH|OPTIONS)|RUBY(LIB|OPT)|R_HOME|JAVA_(HOME|TOOL_OPTIONS)|JDK_JAVA_OPTIONS"
    r"|VIRTUAL_ENV|CONDA_.*|GDAL_DATA|GDAL_DRIVER_PATH|PROJ_LIB|PROJ_DATA"
    # the shell, the user, the machine, the terminal
    r"|IFS|SHELL|SHELLOPTS|BASHOPTS|BASH_.*|ENV|CDPATH|PS4|_|HOME|USER|LOGNAME|PWD|OLDPWD|HOSTNAME"
    r"|TMPDIR|TMP|TEMP|LANG|LANGUAGE|LC_.*|TZ|TERM"
    # connections, trust and credentials
    r"|(?i:HTTPS?_PROXY|ALL_PROXY|NO_PROXY)|SSL_CERT_(FILE|DIR)|(CURL|REQUESTS)_CA_BUNDLE"
    r"|KRB5CCNAME|KRB5_CONFIG|TRACEPARENT|TRACESTATE|OTEL_.*|SSH_AUTH_SOCK|JUPYTERHUB_.*|AWS_.*|KUBERNETES_.*"
)
"""Variables with a meaning for many programs."""


def refusal(name: str, field: str) -> str | None:
    """Return why the variable `name` must not be set to the value of `field`; None if it may.

    `field` is a field of the claim or one of `fields.RESULTS`.
    """
    if not VARIABLE.fullmatch(name):
        return "is not a valid variable name"
    if owner := _ALLOWED.get(name):
        return None if owner == field else f"is reserved for {owner}"
    if re.match("DASK_CLAIM(_|$)", name, re.IGNORECASE):
        return "would change what dask-claim itself reads"
    if name.startswith("DASK_"):
        key = _levels(name)[0].replace("_", "-")
        if not key:
            return "would become a Dask setting without a name"
        is_set = _OF_DASK.fullmatch(key)
        return f"would become Dask's own setting {key!r} and break it" if is_set else None
    if _BREAKING.fullmatch(name):
        return "would break the program, whose system or libraries read it"
    return None


def suggest_name(field: str) -> str:
    """Return a variable name that is always fine for `field`."""
    return "DASK_CLUSTER" if field == "cluster_name" else f"DASK_{field.upper()}"


def find_conflicts(
    environ: Mapping[str, str], set_by: Mapping[str, str] | None = None
) -> list[Fault]:
    """Return a fault for each pair of variables in `environ` that Dask cannot read together.

    A value that is no mapping leaves no room for a part: `DASK_A=x` beside `DASK_A__B=y` makes
    `import dask` fail, or loses one of them; which, depends on the order in the environment.

    `set_by` maps names to who sets them, where that is not the environment; by default dask-claim
    sets `SET_BY_LAUNCHER`, as in a command's environment.
    """
    who = dict.fromkeys(SET_BY_LAUNCHER, "dask-claim") if set_by is None else set_by
    faults = []
    for plain, part in nested_names(environ):
        if not _has_room(as_dask_reads(environ[plain]), _levels(part)[len(_levels(plain)) :]):
            first, second = (who.get(name, "the environment") for name in (plain, part))
            problem = f"cannot be read by Dask beside {part}, which {second} sets"
            value = redact(environ[plain], plain)
            faults.append(Fault((plain,), value, problem, "keep one of them", first))
    return faults


def nested_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return each pair of names of which Dask takes the second for a part of the first."""
    levels = {name: _levels(name) for name in names if name.startswith("DASK_")}
    wholes: dict[tuple[str, ...], list[str]] = {}
    for name, path in levels.items():
        wholes.setdefault(path, []).append(name)
    return [
        (whole, name)
        for name, path in sorted(levels.items())
        for depth in range(1, len(path))
        for whole in wholes.get(path[:depth], ())
    ]


def _levels(name: str) -> tuple[str, ...]:
    """The path of the setting that Dask makes of a variable."""
    path = name[len("DASK_") :].lower().replace("__", ".").replace("-", "_")
    return tuple(path.split("."))


def as_dask_reads(value: str) -> object:
    """Return what Dask's configuration makes of a variable's value: Python's literals are that."""
    try:
        literal: object = ast.literal_eval(value)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return value
    return literal


def _has_room(value: object, path: tuple[str, ...]) -> bool:
    """Whether a part can be put at `path` into a setting."""
    for key in path:
        if not isinstance(value, dict):
            return False
        inside = {str(name).replace("-", "_"): item for name, item in value.items()}
        if key not in inside:
            return True
        value = inside[key]
    return True
