"""The operator's settings, and what a request may hold."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_settings import BaseSettings, SettingsConfigDict, YamlConfigSettingsSource

# Not JOB_SERVICE_: Kubernetes sets JOB_SERVICE_PORT and others for a Service called job-service.
PREFIX = "JOBS_"
# What the standard has the service tell of itself.
OGC = json.loads(Path(__file__).with_name("ogc.json").read_text())


class Settings(BaseSettings):
    """From the YAML file that JOBS_CONFIG names; a variable `JOBS_<NAME>` overrides it."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    inputs: Path
    """The folder of the STAC items that requests may name."""
    data: Path
    """A folder for each job, `jobs/<id>`."""
    limit: int = Field(2, ge=1)
    """Jobs that run at the same time."""
    claim: dict[str, Any] = {"max_workers": 2}
    """What every job claims of dask-claim; a request may lower its `max_workers`."""
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65535)
    hosts: list[str] = ["127.0.0.1", "localhost"]
    """The host names that requests may use: a web page elsewhere must not reach the service."""

    @classmethod
    def settings_customise_sources(cls, settings_cls: Any, **sources: Any) -> tuple[Any, ...]:
        chosen = [sources["init_settings"], sources["env_settings"]]
        if file := os.environ.get(f"{PREFIX}CONFIG"):
            Path(file).read_bytes()  # a file that is named and missing is an error
            chosen.append(YamlConfigSettingsSource(settings_cls, yaml_file=file))
        return tuple(chosen)


# No part starts with a dot, so no path leaves its folder.
PATH = r"^[A-Za-z0-9_][A-Za-z0-9_ .-]{0,199}(/[A-Za-z0-9_][A-Za-z0-9_ .-]{0,199})*$"
Items = Annotated[
    list[Annotated[str, StringConstraints(pattern=PATH, max_length=500)]],
    # One value may stand for a list of one, as OGC API - Processes allows.
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
    Field(min_length=1, max_length=100, description="STAC items, paths in the inputs folder"),
]
Degrees = Annotated[float, Field(allow_inf_nan=False)]


class Inputs(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pre_event: Items
    post_event: Items
    index: Literal["dnbr", "rdnbr", "rbr"] = Field("dnbr", description="What the map shows")
    bbox: tuple[Degrees, Degrees, Degrees, Degrees] | None = Field(
        None, description="West, south, east, north, in degrees: crops the map"
    )
    max_workers: int | None = Field(None, ge=1, strict=True, description="The most Dask workers")

    def arguments(self) -> list[str]:
        """The command line of `bai_example`; no value can be taken for an option."""
        words = [f"--pre-event={item}" for item in self.pre_event]
        words += [f"--post-event={item}" for item in self.post_event]
        words.append(f"--index={self.index}")
        return words + (["--bbox", *map("{:.9f}".format, self.bbox)] if self.bbox else [])


class Execute(BaseModel):
    inputs: Inputs = Field(examples=[{"pre_event": ["pre.json"], "post_event": ["post.json"]}])


def description() -> dict[str, Any]:
    """The process, as OGC API - Processes describes one."""
    schema = Inputs.model_json_schema()
    inputs = {
        name: {"title": name, "minOccurs": int(name in schema["required"]), "schema": about}
        for name, about in schema["properties"].items()
    }
    return {**OGC["process"], "inputs": inputs}
