"""The map's blocks -> its files, in a folder or a prefix of an S3 bucket.

The files are made in a folder of their own and appear at the end, the STAC documents last.
"""

from __future__ import annotations

import contextlib
import mimetypes
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.enums import Resampling

from bai_example.access import TEMPORARY, InputError, Unavailable, scheme
from bai_example.blocks import Block, Statistics
from bai_example.index import INDICES, SEVERITIES
from bai_example.pair import EVENTS, Pair

#: Names of the files, all in one folder; NAMES are those of the classes, where GDAL looks for them.
MAP, SEVERITY, QUICKLOOK = "bai.tif", "bai-severity.tif", "bai.png"
NAMES = f"{SEVERITY}.aux.xml"
ITEM, CATALOG = "bai.json", "catalog.json"
#: By number in the severity map.
CLASS_NAMES = ("No data", *(one.name for one in SEVERITIES))
#: All files of a result, the catalogue last: whoever goes by it sees all files.
ALL = (MAP, SEVERITY, NAMES, QUICKLOOK, ITEM, CATALOG)
_BUCKET = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]+)(?:/([^?#]*))?", re.IGNORECASE)
#: DEFLATE, because every reader has it; level 1, because measurements carry noise, and higher
#: levels take two to eight times as long for 1 % of size.
COG: dict[str, Any] = {
    "driver": "COG", "compress": "DEFLATE", "level": 1, "predictor": "YES", "blocksize": 512,
    "num_threads": "ALL_CPUS", "bigtiff": "IF_SAFER",
}  # fmt: skip


def destination(location: str) -> str:
    """The place that a user names, a path or ``s3://bucket/prefix``, as the rest takes it."""
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


@contextlib.contextmanager
def staging(location: str, names: Sequence[str], overwrite: bool) -> Iterator[Path]:
    """A folder for the length of a ``with`` block; without an error, its files then appear.

    They appear at the location, a folder that is made if it is not there, in the order of
    ``names``; they replace older ones with ``overwrite`` only.
    """

    def refuse() -> None:
        if there := [url(location, name) for name in names if place.has(name, overwrite)]:
            raise InputError(*(f"{one}: exists already; --overwrite replaces it" for one in there))

    with _explained(location):
        place = (Bucket if "://" in location else Folder)(location)
    with place.stage as stage:
        with _explained(location):
            refuse()
        yield Path(stage)
        with _explained(location):
            refuse()
            for name in names:
                place.put(Path(stage, name))


class Folder:
    """Where files are moved to, at once, from a hidden folder in it."""

    def __init__(self, location: str) -> None:
        self._path = Path(location)
        self._path.mkdir(parents=True, exist_ok=True)
        self.stage = tempfile.TemporaryDirectory(prefix=".bai-", dir=self._path)

    def has(self, name: str, overwrite: bool) -> bool:
        """Whether a file is there that must stay."""
        path = self._path / name
        return os.path.lexists(path) and (path.is_dir() or not overwrite)

    def put(self, file: Path) -> None:
        """Take a file."""
        os.replace(file, self._path / file.name)


class Bucket:
    """A prefix in an S3 store; boto3's own settings say who asks, and where."""

    def __init__(self, location: str) -> None:
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            need = "writing to s3:// needs boto3: install dask-claim[s3]"
            raise InputError(need) from None
        config = Config(
            connect_timeout=5, read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 4},
            # Many other stores do not know the checksums that boto3 adds by default since 1.36.
            request_checksum_calculation="when_required",
        )  # fmt: skip
        self._s3 = boto3.Session().client("s3", config=config)
        self._name, _, self._prefix = location.removeprefix("s3://").partition("/")
        # An upload that is begun and aborted leaves no trace.
        probe = self._at("bai.tif")
        upload = self._s3.create_multipart_upload(**probe)["UploadId"]
        self._s3.abort_multipart_upload(**probe, UploadId=upload)
        self.stage = tempfile.TemporaryDirectory(prefix="bai-")

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._name, "Key": f"{self._prefix}/{name}".lstrip("/")}

    def has(self, name: str, overwrite: bool) -> bool:
        """Whether an object is there that must stay."""
        # 404, or 403 where one may write but not list: it is not there.
        with contextlib.suppress(self._s3.exceptions.ClientError):
            return not overwrite and bool(self._s3.head_object(**self._at(name)))
        return False

    def put(self, file: Path) -> None:
        """Send a file."""
        about = {"ContentType": mimetypes.guess_type(file)[0]}
        # By upload_file an error may reach us without what the store answered.
        with file.open("rb") as content:
            self._s3.upload_fileobj(content, **self._at(file.name), ExtraArgs=about)


@contextlib.contextmanager
def _explained(location: str) -> Iterator[None]:
    """Make errors of a disk or of boto3 ours, without what a store may say."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        answer = getattr(error, "response", None) or {}
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = answer.get("Error", {}).get("Code") or type(error).__name__
        lost = status in TEMPORARY or "Connect" in code or "Timeout" in code
        why = getattr(error, "strerror", None) or re.sub(r"[^A-Za-z0-9]", "", code)[:60]
        kind = Unavailable if lost else InputError
        raise kind(f"{location}: cannot be written to ({why})") from None


def write_maps(folder: Path, pair: Pair, index: str, blocks: Iterable[Block]) -> Statistics:
    """Write the map, the severity classes and their names; return the statistics of the whole map.

    Blocks come in any order. They are written into plain tiled GeoTIFFs, so that none has to stay
    in memory, and GDAL makes the COGs of those.

    Raises:
        InputError: the map has no value at all.
    """
    statistics = Statistics()
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".raw-") as raw,
        rasterio.Env(GDAL_CACHEMAX=32),
    ):
        with (
            _plain(f"{raw}/{MAP}", pair, "float32", np.nan) as values,
            _plain(f"{raw}/{SEVERITY}", pair, "uint8", 0) as classes,
        ):
            for block in blocks:
                values.write(block.values, 1, window=block.window)
                classes.write(block.classes, 1, window=block.window)
                statistics.merge(block.statistics)
            _describe(values, classes, index, statistics)
        if not statistics.valid:
            raise InputError(_nothing(statistics))
        levels = [2**n for n in range(1, 30) if 256 * 2**n < max(pair.grid.shape)]
        for name, resampling in ((MAP, Resampling.average), (SEVERITY, Resampling.nearest)):
            # Not by the COG driver, which compresses those that it makes once for itself.
            with rasterio.open(f"{raw}/{name}", "r+") as file:
                file.build_overviews(levels, resampling)
            rasterio.shutil.copy(f"{raw}/{name}", folder / name, **COG)
    categories = "".join(f"<Category>{name}</Category>" for name in CLASS_NAMES)
    (folder / NAMES).write_text(
        '<PAMDataset><PAMRasterBand band="1"><CategoryNames>'
        f"{categories}</CategoryNames></PAMRasterBand></PAMDataset>\n"
    )
    return statistics


def _plain(path: str, pair: Pair, dtype: str, nodata: float) -> Any:
    """A GeoTIFF to write blocks into, without compression; it names the scenes."""
    height, width = pair.grid.shape
    file = rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype=dtype, nodata=nodata,
        crs=str(pair.grid.crs), transform=pair.grid.affine,
        tiled=True, blockxsize=512, blockysize=512, bigtiff="IF_SAFER",
    )  # fmt: skip
    for key, scenes in zip(("PRE_EVENT", "POST_EVENT"), pair.events, strict=True):
        file.update_tags(**{key: ", ".join(one.scene.id for one in scenes)})
    return file


def _describe(values: Any, classes: Any, index: str, statistics: Statistics) -> None:
    """Say in both files what they show, for viewers."""
    # Under GDAL's own names, so that a viewer need not read the map to stretch it.
    tags = {
        "MINIMUM": statistics.minimum, "MAXIMUM": statistics.maximum, "MEAN": statistics.mean,
        "STDDEV": statistics.deviation, "VALID_PERCENT": statistics.valid_percent,
    }  # fmt: skip
    values.update_tags(1, **{f"STATISTICS_{name}": value for name, value in tags.items()})
    values.update_tags(TIFFTAG_IMAGEDESCRIPTION=INDICES[index].description)
    values.set_band_description(1, INDICES[index].title)
    classes.update_tags(1, **{f"CLASS_{n}": name for n, name in enumerate(CLASS_NAMES)})
    classes.update_tags(TIFFTAG_IMAGEDESCRIPTION="Burn severity classes of dNBR")
    classes.set_band_description(1, "Burn severity")
    colors = [(0, 0, 0, 0), *(rgba(one.color) for one in SEVERITIES)]
    classes.write_colormap(1, dict(enumerate(colors)))


def _nothing(statistics: Statistics) -> str:
    """Why a map is empty, and what to do."""
    shares = [(event, statistics.shares(n)) for n, event in enumerate(EVENTS)]
    return (
        "the map is empty: no pixel has a value in both events "
        f"({'; '.join(f'{event}: {share}' for event, share in shares if share)}); choose "
        "other scenes, or use --mask or --no-mask"
    )


def rgba(color: str) -> tuple[int, ...]:
    return *bytes.fromhex(color.removeprefix("#")), 255
