"""The site's file: its own claim, profiles, the gateway's options, policy, credentials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dask_claim.claim.site_credentials import Credentials, Entry, read_credentials
from dask_claim.claim.site_sections import GatewayOptions, Policy
from dask_claim.claim.texts import parse_yaml
from dask_claim.claim.validation import problems
from dask_claim.errors import Fault

Model = TypeVar("Model", bound=BaseModel)

SITE_FILE = "/etc/dask-claim/claim.yaml"
"""The site's file where `DASK_CLAIM_SITE` names no other one."""

SECTIONS = ("profiles", "policy", "gateway_options", "credentials")
"""What stands in the site's file beside the fields of a claim."""


@dataclass(frozen=True)
class Site:
    """What the site's file says."""

    path: str
    claim: Any = field(default_factory=dict)
    """Its own claim, as parsed: an object in any spelling."""

    profiles: Mapping[str, Any] = field(default_factory=dict)
    """Name → claim in any spelling."""

    policy: Policy | None = None
    gateway_options: GatewayOptions = field(default_factory=GatewayOptions)
    credentials: Credentials | None = None
    faults: tuple[Fault, ...] = ()

    def asks_for(self, sources: Mapping[str, str]) -> frozenset[str]:
        """Return what comes from its own claim or a profile: fields, entries like `options.X`."""
        own = f"{self.path}, "
        return frozenset(
            name
            for name, source in sources.items()
            if source == self.path or source.startswith(own)
        )


def read_site(environ: Mapping[str, str]) -> Site:
    """Return what the site's file of this environment says; nothing where there is none."""
    chosen = environ.get("DASK_CLAIM_SITE", "").strip()
    path = chosen or SITE_FILE
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        if not chosen and isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return Site(path)
        why = getattr(error, "strerror", None) or str(error)
        hint = "correct it, or DASK_CLAIM_SITE"
        return Site(path, faults=(Fault((), None, f"cannot be read: {why}", hint),))
    raw, faults = parse_yaml(text)
    if faults:
        return Site(path, faults=tuple(faults))
    if not isinstance(raw, Mapping):
        return Site(path, {} if raw is None else raw)
    rest = {key: value for key, value in raw.items() if key not in SECTIONS}
    profiles = raw.get("profiles") or {}
    if not isinstance(profiles, Mapping):
        hint = "write the name of each profile and its claim"
        return Site(path, rest, faults=(Fault(("profiles",), None, "is not an object", hint),))
    named = {str(name): {} if item is None else item for name, item in profiles.items()}
    wrong: list[Fault] = []
    policy = _section(Policy, raw, "policy", '{"max_workers": 10}', wrong)
    example = '{"names": {"image": "tag"}}'
    options = _section(GatewayOptions, raw, "gateway_options", example, wrong) or GatewayOptions()
    credentials, also_wrong = read_credentials(raw.get("credentials"), rest, path)
    return Site(path, rest, named, policy, options, credentials, (*wrong, *also_wrong))


def _section(
    model: type[Model], raw: Mapping[str, Any], name: str, example: str, faults: list[Fault]
) -> Model | None:
    """Return a part of the file, None where it is not there; what is wrong goes to `faults`."""
    said = raw.get(name)
    if said is None:
        return None
    if not isinstance(said, Mapping):
        faults.append(Fault((name,), None, "is not an object", f"write {example}"))
        return None
    try:
        return model.model_validate(dict(said))
    except ValidationError as error:
        for loc, cause in problems(error):
            faults.append(Fault((name, *loc), None, cause.problem, cause.hint))
        return None


def schema_text() -> str:
    """Return the JSON Schema of the site's file, beside the fields of a claim."""
    defs: dict[str, Any] = {}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Site file of dask-claim",
        "description": "Fields of a claim, which are the site's defaults, and these.",
        "type": "object",
        "properties": {
            "profiles": {
                "title": "Profiles",
                "description": "Name → claim: what a claim gets that says profile: NAME, where it "
                "says nothing itself.",
                "type": "object",
                "additionalProperties": {"type": "object"},
            },
            "policy": _schema(Policy, defs),
            "gateway_options": _schema(GatewayOptions, defs),
            "credentials": _schema(Entry, defs),
        },
        "$defs": defs,
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _schema(model: type[BaseModel], defs: dict[str, Any]) -> dict[str, Any]:
    schema = model.model_json_schema()
    defs.update(schema.pop("$defs", {}))
    return schema
