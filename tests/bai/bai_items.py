"""STAC items made for tests."""

from __future__ import annotations

from typing import Any


def item(name: str, assets: dict[str, Any], **properties: Any) -> dict[str, Any]:
    """The JSON of a Sentinel-2 L2A item; an asset given as a path or text is its href."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": {"type": "Point", "coordinates": [-8.0, 40.0]},
        "bbox": [-8.0, 40.0, -8.0, 40.0],
        "properties": {
            "datetime": "2021-07-13T11:21:09Z",
            "platform": "sentinel-2b",
            "s2:product_type": "S2MSI2A",
            "s2:processing_baseline": "03.01",
        }
        | {key.replace("__", ":"): value for key, value in properties.items()},
        "links": [],
        "assets": {
            key: value if isinstance(value, dict) else {"href": str(value)}
            for key, value in assets.items()
        },
    }
