"""The map's blocks -> its files, in a folder or a prefix of an S3 bucket.

The files are made in a folder of their own and appear at the end, the STAC documents last.
"""

from __future__ import annotations

import contextlib
import mimetypes
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.enums import Resampling

from bai_example.access import TEMPORARY, InputError, Unavailable
from bai_example.blocks import Block, Statistics
from bai_example.index import INDICES, SEVERITIES
from bai_example.pair import EVENTS, Pair

#: Names of the files, all in one folder; NAMES are those of the classes, where GDAL looks for them.
MAP, SEVERITY, QUICKLOOK = "bai.tif", "bai-severity.tif", "bai.png"
NAMES = f"{SEVERITY}.aux.xml"
ITEM, CATALOG = "bai.json", "catalog.json"
#: All files of a result, the catalogue last: whoever goes by it sees all files.
ALL = (MAP, SEVERITY, NAMES, QUICKLOOK, ITEM, CATALOG)
#: The numbers in the severity map, as STAC's classification extension describes them.
LEGEND: list[dict[str, Any]] = [
    {"value": 0, "name": "no-value", "title": "No value", "color_hint": "D4D4D4", "nodata": True},
    *(
        {
            "value": value,
            "name": re.sub(r"\W+", "-", severity.name).lower(),
            "title": severity.name,
            "color_hint": severity.color.lstrip("#").upper(),
        }
        for value, severity in enumerate(SEVERITIES, start=1)
    ),
]


def destination(location: str) -> str:
    """The place that a user names, a path or ``s3://bucket/prefix``, as the rest takes it."""
    if "://" not in location:
        return str(Path(location).expanduser())
    if not re.fullmatch(r"s3://[A-Za-z0-9][A-Za-z0-9._-]+(/[^?#]*)?", location):
        # Not shown: it may hold a secret where the bucket should be.
        raise InputError("the output must be a folder or s3://bucket/prefix, without user or query")
    return location.rstrip("/")


@contextlib.contextmanager
def staging(location: str, overwrite: bool) -> Iterator[Path]:
    """A folder for the length of a ``with`` block; without an error, `ALL` its files then appear.

    They appear at the location, in that order; a folder is made if it is not there. Older files
    are replaced with ``overwrite`` only.
    """
    with _explained(location):
        place = (Bucket if "://" in location else Folder)(location)
        if not overwrite and (there := [f"{location}/{name}" for name in ALL if place.has(name)]):
            raise InputError(*(f"{one}: exists already; --overwrite replaces it" for one in there))
        stage = tempfile.TemporaryDirectory(prefix=".bai-", dir=place.disk)
    with stage:
        yield Path(stage.name)
        with _explained(location):
            for name in ALL:
                place.put(Path(stage.name, name))


class Folder:
    """Where files are moved to, at once, from a hidden folder in it."""

    def __init__(self, location: str) -> None:
        self.disk = Path(location)
        self.disk.mkdir(parents=True, exist_ok=True)
        paths = [self.disk / name for name in ALL]
        if folders := [path for path in paths if path.is_dir() and not path.is_symlink()]:
            raise InputError(
                *(f"{path}: is a folder, no file can take its place" for path in folders)
            )

    def has(self, name: str) -> bool:
        """Whether a file is there, or a link."""
        return os.path.lexists(self.disk / name)

    def put(self, file: Path) -> None:
        """Take a file."""
        os.replace(file, self.disk / file.name)


class Bucket:
    """A prefix in an S3 store; boto3's own settings say who asks, and where."""

    disk = None  # the system's temporary folder

    def __init__(self, location: str) -> None:
        import boto3
        from botocore.config import Config

        # Many other stores do not know the checksums that boto3 adds by default since 1.36.
        config = Config(
            connect_timeout=5, read_timeout=30, retries={"mode": "standard"},
            request_checksum_calculation="when_required",
        )  # fmt: skip
        self._s3 = boto3.Session().client("s3", config=config)
        self._name, _, self._prefix = location.removeprefix("s3://").partition("/")
        # An upload that is begun and aborted leaves no trace.
        probe = self._at(MAP)
        upload = self._s3.create_multipart_upload(**probe)["UploadId"]
        self._s3.abort_multipart_upload(**probe, UploadId=upload)

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._name, "Key": f"{self._prefix}/{name}".lstrip("/")}

    def has(self, name: str) -> bool:
        """Whether an object is there."""
        # 404, or 403 where one may write but not list: it is not there.
        with contextlib.suppress(self._s3.exceptions.ClientError):
            return bool(self._s3.head_object(**self._at(name)))
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
        if isinstance(error, ImportError):
            why = "install dask-claim[s3]"
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
            _plain(f"{raw}/{MAP}", pair, INDICES[index].title, "float32", np.nan) as values,
            _plain(f"{raw}/{SEVERITY}", pair, "Burn severity", "uint8", 0) as classes,
        ):
            colors = {n: bytes.fromhex(one["color_hint"]) for n, one in enumerate(LEGEND)}
            classes.write_colormap(1, colors | {0: (0, 0, 0, 0)})
            for block in blocks:
                values.write(block.values, 1, window=block.window)
                classes.write(block.classes, 1, window=block.window)
                statistics.merge(block.statistics)
            # Under GDAL's own names, so that a viewer need not read the map to stretch it.
            values.update_tags(
                1, STATISTICS_MINIMUM=statistics.minimum, STATISTICS_MAXIMUM=statistics.maximum,
                STATISTICS_MEAN=statistics.mean, STATISTICS_STDDEV=statistics.deviation,
            )  # fmt: skip
        if not statistics.valid:
            shares = [(event, statistics.shares(n)) for n, event in enumerate(EVENTS)]
            why = "; ".join(f"{event}: {share}" for event, share in shares if share)
            raise InputError(
                f"the map is empty: no pixel has a value in both events ({why}); choose other "
                "scenes, or use --mask or --no-mask"
            )
        _cog(f"{raw}/{MAP}", folder / MAP, Resampling.average)
        _cog(f"{raw}/{SEVERITY}", folder / SEVERITY, Resampling.nearest)
    categories = "".join(f"<Category>{one['title']}</Category>" for one in LEGEND)
    (folder / NAMES).write_text(
        '<PAMDataset><PAMRasterBand band="1"><CategoryNames>'
        f"{categories}</CategoryNames></PAMRasterBand></PAMDataset>\n"
    )
    return statistics


def _plain(path: str, pair: Pair, title: str, dtype: str, nodata: float) -> Any:
    """A GeoTIFF to write blocks into, without compression; it names the scenes."""
    height, width = pair.grid.shape
    file = rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=1, dtype=dtype, nodata=nodata,
        crs=str(pair.grid.crs), transform=pair.grid.affine,
        tiled=True, blockxsize=512, blockysize=512, bigtiff="IF_SAFER",
    )  # fmt: skip
    file.set_band_description(1, title)
    for key, scenes in zip(("PRE_EVENT", "POST_EVENT"), pair.events, strict=True):
        file.update_tags(**{key: ", ".join(one.scene.id for one in scenes)})
    return file


def _cog(plain: str, path: Path, resampling: Resampling) -> None:
    # Overviews not by the COG driver, which compresses those that it makes once for itself.
    with rasterio.open(plain, "r+") as file:
        levels = [2**n for n in range(1, 30) if 256 * 2**n < max(file.shape)]
        file.build_overviews(levels, resampling)
    # DEFLATE, because every reader has it; level 1, because measurements carry noise, and higher
    # levels take two to eight times as long for 1 % of size.
    rasterio.shutil.copy(
        plain, path, driver="COG", compress="DEFLATE", level=1, predictor="YES", blocksize=512,
        num_threads="ALL_CPUS", bigtiff="IF_SAFER",
    )  # fmt: skip
