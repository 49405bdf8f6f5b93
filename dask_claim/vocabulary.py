"""The names of what a claim can say, and every key that stands for one of them. Tables, no I/O."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

FIELDS = (
    "version",
    "gateway_url",
    "proxy_url",
    "public_url",
    "image",
    "worker_cores",
    "worker_cores_limit",
    "worker_memory",
    "min_cores",
    "max_cores",
    "max_memory",
    "min_workers",
    "max_workers",
    "options",
    "env",
    "provider",
    "fallback",
    "create",
    "lease_timeout",
    "max_lifetime",
)
"""The canonical names, in the order of the documented table."""

RESULTS = ("cluster_name", "scheduler_address", "dashboard_url")
"""What only a run knows: a program can ask for it under a name, nobody can set it."""

MAPPABLE = frozenset((*FIELDS, *RESULTS))
"""What a program can have in a variable of its own: the keys of `env`."""

_BOUNDED = {"min": ("cores", "workers"), "max": ("cores", "workers", "memory")}

ALIASES: dict[str, str] = {
    **{name.replace("_", ""): name for name in (*FIELDS, *RESULTS)},
    **{
        spelled: f"{bound}_{what}"
        for bound, whats in _BOUNDED.items()
        for what in whats
        for spelled in (f"{what}{bound}", f"cluster{bound}{what}", f"cluster{what}{bound}")
    },
    # Calrissian's published documents have the singular, too.
    "clustermincore": "min_cores",
    "clustermaxcore": "max_cores",
}
"""Key in lower case, without `_` and `-` → canonical name."""


def resolve(key: object) -> str | None:
    """Return the canonical name of a field or result that `key` spells, None if it is none."""
    return ALIASES.get(plain_name(key))


def nearest(key: object, known: Mapping[str, str] = ALIASES) -> str:
    """Return `"; did you mean …?"`, or nothing where no known name is near."""
    near = difflib.get_close_matches(plain_name(key)[:64], known, n=1, cutoff=0.65)
    return f"; did you mean {known[near[0]]}?" if near else ""


def plain_name(key: object) -> str:
    """Return a key in lower case, without `_`, `-` and any namespace."""
    # A namespace may stand before any key: calrissian:X, https://…/schema#X.
    return re.split(r"[:#/]", safe_text(key))[-1].lower().replace("_", "").replace("-", "")


def safe_text(value: object) -> str:
    """Return the text of any value that JSON or YAML can hold."""
    try:
        return str(value)
    except ValueError:  # Python does not write out numbers of many thousand digits
        return hex(value) if isinstance(value, int) else "…"
    except RecursionError:
        return "…"
