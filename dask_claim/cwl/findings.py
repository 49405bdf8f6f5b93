"""What would go wrong with a claim that is itself in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dask_claim.claim.memory import Memory
from dask_claim.cwl.claimed import docker_image
from dask_claim.cwl.document import Place
from dask_claim.cwl.requirements import CLAIM, ENV, NETWORK, RESOURCES, Scope
from dask_claim.cwl.tool import VARIABLE, defined_claim, is_wrapped
from dask_claim.cwl.walk import Call
from dask_claim.registry import is_provider, provider_class

_MIB = 1024 * 1024
_Found = Iterator[tuple[str, Place, str]]


def found_in(call: Call, scope: Scope, place: Place, fields: Mapping[str, Any]) -> _Found:
    """Yield (level, place, text). `fields` are those whose values are known."""
    yield from _runners(call, scope, place)
    yield from _network(call, scope, place)
    yield from _memory(scope, place, fields)
    yield from _image(scope, place, fields)


def _runners(call: Call, scope: Scope, place: Place) -> _Found:
    entry = scope.effective(CLAIM)
    translated = defined_claim(scope) is not None
    hint = "dask-claim cwl translate makes one for every runner"
    if entry and entry.section == "requirements":
        text = f"{entry.written} under requirements: cwltool and toil refuse the document; {hint}"
        yield "warning", place, text
    elif entry and not translated:
        text = (
            f"{entry.written} under hints: runners other than Calrissian pass over it, and no "
            f"cluster is claimed; {hint}"
        )
        yield "warning", place, text
    if translated and not is_wrapped(call.process):
        environment = scope.effective(ENV)
        text = f"{VARIABLE} is set, and the command does not start with dask-claim --"
        yield "error", environment.place if environment else place, text


def _network(call: Call, scope: Scope, place: Place) -> _Found:
    if call.home.version == "v1.0":
        return  # it has no NetworkAccess, and lets every tool use the network
    entry = scope.effective(NETWORK)
    asked = entry.fields().get("networkAccess") if entry else None
    none = "no NetworkAccess: in a container the tool reaches no gateway"
    if entry and asked is False:
        text = "networkAccess: false, so in a container the tool reaches no gateway or scheduler"
        yield "error", entry.place, text
    elif asked is None and defined_claim(scope) is not None:
        yield "error", place, f"{none}; add networkAccess: true"
    elif asked is None:
        yield "warning", place, f"{none}; dask-claim cwl translate adds it"


def _memory(scope: Scope, place: Place, fields: Mapping[str, Any]) -> _Found:
    resources = scope.effective(RESOURCES)
    own = resources.fields() if resources else {}
    worker = _bytes(fields.get("worker_memory"))
    minimum = own.get("ramMin")
    maximum = own.get("ramMax", minimum)
    if worker is None:
        return
    claimed = f"worker_memory {fields['worker_memory']}"
    if isinstance(minimum, (int, float)) and worker < minimum * _MIB:
        text = f"{claimed} is less than the {minimum} MiB (ramMin) that the tool has itself"
        yield "note", place, text
    if isinstance(maximum, (int, float)) and worker > maximum * _MIB:
        name = "ramMax" if "ramMax" in own else "ramMin"
        text = (
            f"{claimed} is more than the {maximum} MiB ({name}) of the tool: without a gateway, "
            "workers are in its container and get less"
        )
        yield "warning", place, text


def _image(scope: Scope, place: Place, fields: Mapping[str, Any]) -> _Found:
    image, own = fields.get("image"), docker_image(scope)
    if image is None:
        if _may_be_gateway(fields) and VARIABLE not in fields:
            but = f"the tool's is {own}" if own else "the tool has no DockerRequirement either"
            text = (
                "the claim names no image, so workers get the gateway's own, whose versions may "
                f"differ from the tool's; {but}"
            )
            yield "warning", place, text
    elif "$" not in str(image):
        name = str(image).rpartition("/")[2]
        if "@" not in name and (":" not in name or name.endswith(":latest")):
            text = f"image {image} has no tag that stays; workers may get another one than the tool"
            yield "warning", place, text


def _may_be_gateway(fields: Mapping[str, Any]) -> bool:
    name = str(fields.get("provider", "auto"))
    return name == "auto" or (is_provider(name) and provider_class(name).of_gateway)


def _bytes(value: object) -> int | None:
    try:
        return Memory(value).bytes if value is not None else None
    except (TypeError, ValueError):
        return None
