"""The map's blocks -> its files, in a folder or a prefix of an S3 bucket.

The files are made in a folder of their own and appear at the end, the STAC documents last.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
import rasterio.shutil

from bai_example.access import TEMPORARY, InputError, Unavailable, scheme
from bai_example.blocks import Block, Statistics
from bai_example.index import INDICES, SEVERITIES
from bai_example.pair import EVENTS, Pair

#: Names of the files, all in one folder; NAMES are those of the classes, where GDAL looks for them.
MAP, SEVERITY, QUICKLOOK = "bai.tif", "bai-severity.tif", "bai.png"
NAMES = f"{SEVERITY}.aux.xml"
ITEM, CATALOG = "bai.json", "catalog.json"
#: All files of a result, the catalogue last: whoever goes by it sees all files.
ALL = (MAP, SEVERITY, NAMES, QUICKLOOK, ITEM, CATALOG)
_TYPES = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".png": "image/png",
    ".json": "application/geo+json",
    ".xml": "application/xml",
}
_BUCKET = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]+)(?:/([^?#]*))?", re.IGNORECASE)
#: DEFLATE, because every reader has it; level 1, because measurements carry noise, and higher
#: levels take two to eight times as long for 1 % of size.
COG: dict[str, Any] = {
    "driver": "COG", "compress": "DEFLATE", "level": 1, "predictor": "YES", "blocksize": 512,
    "num_threads": "ALL_CPUS", "bigtiff": "IF_SAFER",
}  # fmt: skip


def destination(location: str) -> str:
    """The place that a user names, a path or ``s3://bucket/prefix``, as the rest takes it.

    Raises:
        InputError: it is another URL.
    """
    kind = scheme(location) if "://" in location else ""
    if kind not in ("", "s3"):
        raise InputError(f"{kind}://: cannot be written to; give a folder or s3://bucket/prefix")
    if not kind:
        return str(Path(location).expanduser())
    if not (match := _BUCKET.fullmatch(location)):
        # Not shown: it may hold a secret where the bucket should be.
        raise InputError("the output must be s3://bucket/prefix, with neither user nor query")
    return f"s3://{match[1]}/{(match[2] or '').strip('/')}".rstrip("/")


def url(location: str, name: str) -> str:
    """Where the file ``name`` will be."""
    return f"{location}/{name}" if "://" in location else str(Path(location) / name)


def staging(
    location: str, names: Sequence[str], overwrite: bool
) -> contextlib.AbstractContextManager[Path]:
    """A folder for the length of a ``with`` block; without an error, its files then appear.

    Args:
        location: what `destination` gave, a folder that is made if it is not there.
        names: the files, in the order in which they appear.
        overwrite: whether files may replace older ones.

    Raises:
        InputError: nothing can be written, or a file exists and must not be replaced.
        Unavailable: a store cannot be reached, or not now.
    """
    return (_into_bucket if "://" in location else _into_folder)(location, names, overwrite)


@contextlib.contextmanager
def _into_folder(location: str, names: Sequence[str], overwrite: bool) -> Iterator[Path]:
    folder = Path(location)

    def refuse() -> None:
        there = [p for p in (folder / n for n in names) if os.path.lexists(p)]
        if problems := [_exists(p) for p in there if p.is_dir() or not overwrite]:
            raise InputError(*problems)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        hidden = tempfile.TemporaryDirectory(prefix=".bai-", dir=folder)
    except OSError as error:
        raise InputError(f"{location}: cannot be written to ({error.strerror})") from None
    with hidden as stage:
        refuse()
        yield Path(stage)
        refuse()
        for name in names:
            os.replace(Path(stage, name), folder / name)


@contextlib.contextmanager
def _into_bucket(location: str, names: Sequence[str], overwrite: bool) -> Iterator[Path]:
    """boto3's own settings say who asks, and where."""
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    keys = {name: f"{prefix}/{name}".lstrip("/") for name in names}
    with _explained(f"{location}: cannot be written to"):
        s3, there = _client(), []
        # An upload that is begun and aborted leaves no trace.
        probe = {"Bucket": bucket, "Key": keys[names[0]]}
        s3.abort_multipart_upload(**probe, UploadId=s3.create_multipart_upload(**probe)["UploadId"])
        for name, key in () if overwrite else keys.items():
            # 404, or 403 where one may write but not list: it is not there.
            with contextlib.suppress(s3.exceptions.ClientError):
                s3.head_object(Bucket=bucket, Key=key)
                there.append(_exists(url(location, name)))
    if there:
        raise InputError(*there)
    with tempfile.TemporaryDirectory(prefix="bai-") as stage:
        yield Path(stage)
        with _explained(f"{location}: not written"):
            for name, key in keys.items():
                about = {"ContentType": _TYPES[Path(name).suffix]}
                # By upload_file an error may reach us without what the store answered.
                with Path(stage, name).open("rb") as content:
                    s3.upload_fileobj(content, bucket, key, ExtraArgs=about)


def _client() -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise InputError("writing to s3:// needs boto3: pip install 'dask-claim[s3]'") from None
    config = Config(
        connect_timeout=5, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 4},
        # Many other stores do not know the checksums that boto3 adds by default since 1.36.
        request_checksum_calculation="when_required",
    )  # fmt: skip
    return boto3.Session().client("s3", config=config)


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn boto3's errors into `InputError` or `Unavailable`, without what a store may say."""
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:
        answer = getattr(error, "response", None) or {}
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = answer.get("Error", {}).get("Code") or type(error).__name__
        lost = status in TEMPORARY or "Connect" in code or "Timeout" in code
        kind = Unavailable if lost else InputError
        raise kind(f"{what} ({re.sub(r'[^A-Za-z0-9]', '', code)[:60]})") from None


def _exists(path: object) -> str:
    return f"{path}: exists already; --overwrite replaces it"


def write_maps(folder: Path, pair: Pair, index: str, blocks: Iterable[Block]) -> Statistics:
    """Write the map, the severity classes and their names.

    Blocks come in any order. They are written into plain tiled GeoTIFFs, so that none has to stay
    in memory, and GDAL makes the COGs of those.

    Returns:
        The statistics of the whole map.

    Raises:
        InputError: the map has no value at all.
    """
    statistics = Statistics()
    height, width = pair.grid.shape
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": 1, "tiled": True,
        "blockxsize": 512, "blockysize": 512, "bigtiff": "IF_SAFER",
        "crs": str(pair.grid.crs), "transform": pair.grid.affine,
    }  # fmt: skip
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".raw-") as raw,
        rasterio.Env(GDAL_CACHEMAX=32),
    ):
        with (
            rasterio.open(f"{raw}/{MAP}", "w", dtype="float32", nodata=np.nan, **profile) as values,
            rasterio.open(f"{raw}/{SEVERITY}", "w", dtype="uint8", nodata=0, **profile) as classes,
        ):
            for block in blocks:
                values.write(block.values, 1, window=block.window)
                classes.write(block.classes, 1, window=block.window)
                statistics.merge(block.statistics)
            # Under GDAL's own names, so that a viewer need not read the map to stretch it.
            tags = {
                "STATISTICS_MINIMUM": statistics.minimum, "STATISTICS_MAXIMUM": statistics.maximum,
                "STATISTICS_MEAN": statistics.mean, "STATISTICS_STDDEV": statistics.deviation,
                "STATISTICS_VALID_PERCENT": statistics.valid_percent,
            }  # fmt: skip
            _describe(values, pair, INDICES[index].title, INDICES[index].description, tags)
            names = {f"CLASS_{n}": one.name for n, one in enumerate(SEVERITIES, 1)}
            _describe(classes, pair, "Burn severity", "Burn severity classes of dNBR", names)
            colors = enumerate([(0, 0, 0, 0), *(rgba(one.color) for one in SEVERITIES)])
            classes.write_colormap(1, dict(colors))
        if not statistics.valid:
            shares = [(event, statistics.shares(n)) for n, event in enumerate(EVENTS)]
            raise InputError(
                "the map is empty: no pixel has a value in both events "
                f"({'; '.join(f'{event}: {share}' for event, share in shares if share)}); choose "
                "other scenes, or use --mask or --no-mask"
            )
        for name, resampling in ((MAP, "average"), (SEVERITY, "nearest")):
            rasterio.shutil.copy(
                f"{raw}/{name}", folder / name, overview_resampling=resampling, **COG
            )
    root = ElementTree.Element("PAMDataset")
    band = ElementTree.SubElement(root, "PAMRasterBand", band="1")
    categories = ElementTree.SubElement(band, "CategoryNames")
    for name in ("No data", *(one.name for one in SEVERITIES)):
        ElementTree.SubElement(categories, "Category").text = name
    ElementTree.ElementTree(root).write(folder / NAMES, encoding="unicode")
    return statistics


def _describe(file: Any, pair: Pair, name: str, description: str, tags: dict[str, Any]) -> None:
    for key, scenes in zip(("PRE_EVENT", "POST_EVENT"), pair.events, strict=True):
        file.update_tags(**{key: ", ".join(one.scene.id for one in scenes)})
    file.update_tags(TIFFTAG_IMAGEDESCRIPTION=description)
    file.set_band_description(1, name)
    file.update_tags(1, **tags)


def rgba(color: str) -> tuple[int, ...]:
    return *bytes.fromhex(color.removeprefix("#")), 255
