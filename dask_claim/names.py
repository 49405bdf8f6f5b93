"""Which variable names a program may ask for, and why others are refused."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

_ALLOWED = {
    "DASK_SCHEDULER_ADDRESS": "scheduler_address",
    "DASK_CLUSTER": "cluster_name",
    "DASK_GATEWAY__ADDRESS": "gateway_url",
    "DASK_GATEWAY__PROXY_ADDRESS": "proxy_url",
    "DASK_GATEWAY__PUBLIC_ADDRESS": "public_url",
}
"""Names that dask-claim or Dask give this one meaning, so only that field may go there."""

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
    # where the configuration itself is found
    r"|config|internal-inherit-config|root-config"
)
"""The top-level keys of Dask's configuration: `DASK_X` and `DASK_X__…` set the key `x`."""

_SEARCHED = "it is where programs, libraries or data are looked for"
_SECURITY = "it decides how connections are made and trusted"

_BREAKS = tuple(
    (re.compile(names), reason)
    for names, reason in (
        (r"PATH|CLASSPATH|GCONV_PATH|LOCPATH|NLSPATH|GLIBC_TUNABLES", _SEARCHED),
        (r"NODE_PATH|NODE_OPTIONS|PERL5LIB|PERL5OPT|RUBYLIB|RUBYOPT|R_HOME", _SEARCHED),
        (r"JAVA_HOME|JAVA_TOOL_OPTIONS|JDK_JAVA_OPTIONS|VIRTUAL_ENV|CONDA_.*", _SEARCHED),
        (r"GDAL_DATA|GDAL_DRIVER_PATH|PROJ_LIB|PROJ_DATA", _SEARCHED),
        (r"LD_.*|DYLD_.*", "it steers the dynamic linker"),
        (r"PYTHON.*", "it steers the Python interpreter"),
        (r"IFS|SHELL|SHELLOPTS|BASHOPTS|BASH_.*|ENV|CDPATH|PS4|_", "it steers the shell"),
        (r"HOME|USER|LOGNAME|PWD|OLDPWD|HOSTNAME|TMPDIR|TMP|TEMP", "it tells who and where it is"),
        (r"LANG|LANGUAGE|LC_.*|TZ|TERM", "it tells the language, time and terminal"),
        (r"HTTPS?_PROXY|ALL_PROXY|NO_PROXY|https?_proxy|all_proxy|no_proxy", _SECURITY),
        (r"SSL_CERT_FILE|SSL_CERT_DIR|CURL_CA_BUNDLE|REQUESTS_CA_BUNDLE", _SECURITY),
        (r"KRB5CCNAME|KRB5_CONFIG|SSH_AUTH_SOCK|JUPYTERHUB_.*|AWS_.*", "credentials come from it"),
        (r"KUBERNETES_.*", "it is how a pod finds its cluster"),
    )
)


def refusal(name: str, field: str) -> str | None:
    """Return why the variable `name` must not be set to the value of `field`; None if it may.

    `field` is a canonical field of the claim, or `cluster_name`, `scheduler_address`,
    `dashboard_url`. The reason says what would break and which name would do.
    """
    if not _NAME.fullmatch(name):
        return (
            "is not a name that a variable can have (letters, digits and _, no digit first)"
            f"; write for example {suggestion(field)}"
        )
    if name in _ALLOWED:
        owner = _ALLOWED[name]
        if owner == field:
            return None
        return f"is the variable of {owner} and of nothing else; write {suggestion(field)}"
    upper = name.upper()
    if upper == "DASK_CLAIM" or upper.startswith("DASK_CLAIM_"):
        return f"would change what dask-claim itself reads; write {suggestion(field)}"
    if name.startswith("DASK_"):
        return _dask(name, field)
    for names, reason in _BREAKS:
        if names.fullmatch(name):
            return f"would break the program: {reason}; write {suggestion(field)}"
    return None


def suggestion(field: str) -> str:
    """Return a variable name that is always fine for `field`."""
    return "DASK_CLUSTER" if field == "cluster_name" else f"DASK_{field.upper()}"


def _dask(name: str, field: str) -> str | None:
    # Dask turns every DASK_X__Y of the environment into the setting x.y, and does not tell
    # "-" from "_".
    key = name[len("DASK_") :].lower().split("__")[0].replace("_", "-")
    if not key:
        return f"would become a setting of Dask without a name; write {suggestion(field)}"
    if _OF_DASK.fullmatch(key):
        return f"would become Dask's own setting {key!r} and break it; write {suggestion(field)}"
    return None
