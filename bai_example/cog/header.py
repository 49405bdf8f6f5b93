"""The header of a cloud-optimised GeoTIFF: all its directories, before any tile.

What a map's header says (coordinates, metadata, colours) GDAL writes, into a file without a tile;
here its directory is repeated for the overviews, and told where the tiles will be. GDAL itself
can do so only after reading a whole image of nothing.

TIFF 6.0 (Adobe, 1992), section 2; BigTIFF (AWare Systems); COG: OGC 21-026.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate

#: Numbers of the tags that differ between the levels.
SUBFILE, WIDTH, HEIGHT, OFFSETS, COUNTS = 254, 256, 257, 324, 325
#: What only the full resolution has: GDAL's metadata, the GeoTIFF keys, the description.
FIRST_ONLY = frozenset({270, 33550, 33922, 34264, 34735, 34736, 34737, 42112})
#: Bytes of each TIFF type.
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
LONG, LONG8 = 4, 16

#: TIFF's number of the type, how many, and the values as they stand in the file, little-endian.
Tag = tuple[int, int, bytes]
#: One resolution of the image: rows and columns, and the bytes of each tile, row by row.
Level = tuple[tuple[int, int], Sequence[int]]


def header(template: bytes, levels: Sequence[Level]) -> bytes:
    """The header of an image, whose tiles follow it at once, coarsest level first.

    Args:
        template: a little-endian classic TIFF without overviews, as GDAL writes it.
        levels: finest first.

    Returns:
        A classic header, or that of a BigTIFF where the file needs it (more than 4 GB).

    Raises:
        ValueError: the template is another kind of file.
    """
    tags = _read(template)
    # A tile takes 8 bytes of a classic header, and 16 otherwise: the header never takes more.
    most = sum(len(template) + sum(sizes) + 16 * len(sizes) for _, sizes in levels)
    big = most >= 2**32
    # Once for the length, which does not depend on the offsets, and once for good.
    length = len(_write(tags, levels, 0, big))
    return _write(tags, levels, length, big)


def _read(data: bytes) -> dict[int, Tag]:
    """The tags of the first directory by their numbers."""
    if data[:4] != b"II*\0":
        raise ValueError("not a little-endian classic TIFF")
    (where,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, where)
    tags = {}
    for entry in range(where + 2, where + 2 + 12 * entries, 12):
        number, kind, count = struct.unpack_from("<HHI", data, entry)
        length = SIZES[kind] * count
        first = entry + 8 if length <= 4 else struct.unpack_from("<I", data, entry + 8)[0]
        tags[number] = kind, count, data[first : first + length]
    return tags


def _write(tags: dict[int, Tag], levels: Sequence[Level], first_tile: int, big: bool) -> bytes:
    """The header, with tiles from offset ``first_tile`` on."""
    offsets: list[list[int]] = []
    for _, sizes in reversed(levels):
        *starts, first_tile = accumulate(sizes, initial=first_tile)
        offsets.insert(0, starts)
    out = bytearray(b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" if big else b"II*\0\x08\0\0\0")
    for index, (shape, sizes) in enumerate(levels):
        own = {n: tag for n, tag in tags.items() if index == 0 or n not in FIRST_ONLY}
        own[HEIGHT], own[WIDTH] = (_numbers(LONG, [side]) for side in shape)
        own[OFFSETS] = _numbers(LONG8 if big else LONG, offsets[index])
        own[COUNTS] = _numbers(LONG, sizes)
        if index:
            own[SUBFILE] = _numbers(LONG, [1])  # another image at a lower resolution
        out += _directory(own, len(out), big, last=index == len(levels) - 1)
    return bytes(out)


def _directory(tags: dict[int, Tag], position: int, big: bool, last: bool) -> bytes:
    """A directory at ``position``, then the values that are too long for it, then the next one."""
    word, room = ("Q", 8) if big else ("I", 4)
    entries = struct.pack("<Q" if big else "<H", len(tags))
    values_at = position + len(entries) + len(tags) * (4 + 2 * room) + room
    values = b""
    for number, (kind, count, value) in sorted(tags.items()):
        there = value.ljust(room, b"\0")
        if len(value) > room:
            there = struct.pack(f"<{word}", values_at + len(values))
            values += value + bytes(-len(value) % 8)  # numbers begin where they may
        entries += struct.pack(f"<HH{word}", number, kind, count) + there
    following = 0 if last else values_at + len(values)
    return entries + struct.pack(f"<{word}", following) + values


def _numbers(kind: int, values: Sequence[int]) -> Tag:
    return kind, len(values), struct.pack(f"<{len(values)}{'I' if kind == LONG else 'Q'}", *values)
