"""The site's file: its own claim, profiles, the gateway's options, policy, credentials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from dask_claim.claim.site_credentials import Credentials
from dask_claim.claim.site_sections import GatewayOptions, Policy
from dask_claim.claim.spellings import read
from dask_claim.claim.texts import parse_yaml
from dask_claim.claim.validation import list_problems
from dask_claim.errors import Fault

SITE_FILE = "/etc/dask-claim/claim.yaml"
"""The site's file where `DASK_CLAIM_SITE` names no other one."""

Profile = Annotated[dict[str, Any], BeforeValidator(lambda value: {} if value is None else value)]


class Sections(BaseModel):
    """Fields of a claim, which are the site's defaults, and these."""

    profiles: dict[str, Profile] = Field(
        default={},
        description="Name → claim: what a claim gets that says profile: NAME, where it sets "
        "nothing itself.",
    )
    policy: Policy | None = None
    gateway_options: GatewayOptions = Field(default_factory=GatewayOptions)
    credentials: Credentials | None = None


SECTIONS = tuple(Sections.model_fields)
"""What stands in the site's file beside the fields of a claim."""


class Site(Sections):
    """The content of the site's file."""

    model_config = ConfigDict(frozen=True)

    path: str
    claim: Any = {}
    """Its own claim, as parsed: an object in any spelling."""

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
            return Site(path=path)
        problem = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        fault = Fault((), None, problem, "correct it, or DASK_CLAIM_SITE")
        return Site(path=path, faults=(fault,))
    raw, faults = parse_yaml(text)
    if faults or not isinstance(raw, Mapping):
        return Site(path=path, claim={} if raw is None else raw, faults=tuple(faults))
    claim = {key: value for key, value in raw.items() if key not in SECTIONS}
    given = {name: raw[name] for name in SECTIONS if raw.get(name) is not None}
    if isinstance(own := given.get("credentials"), Mapping) and own.get("gateway") is None:
        gateway = read(claim).values.get(("gateway_url",))
        given["credentials"] = {**own, "gateway": gateway}
    try:
        return Site.model_validate({**given, "path": path, "claim": claim})
    except ValidationError as error:
        problems = list_problems(error)
    # No fault shows a value: a secret may stand in the wrong place.
    wrong = tuple(Fault(where, None, cause.problem, cause.hint) for where, cause in problems)
    # What is right still counts: credentials end the clusters of runs that are there.
    faulty = {fault.path[0] for fault in wrong}
    right = {name: section for name, section in given.items() if name not in faulty}
    return Site.model_validate({**right, "path": path, "claim": claim, "faults": wrong})


def schema_text() -> str:
    """Return the JSON Schema of the site's file, beside the fields of a claim."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Sections.model_json_schema(),
        "title": "Site file of dask-claim",
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
