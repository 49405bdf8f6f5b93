"""The made-up landscape of the sample pair: what the ground reflects before and after the fire.

Positions are (u, v): across and down, 0 to 1 over the scene, as arrays of shape (1, columns) and
(rows, 1). So the landscape has the same shape at any size, and any part of it can be made alone.
"""

from __future__ import annotations

import numpy as np

#: dNBR in the scar's heart, and how far in that begins (0 at the scar's edge, 1 in the middle).
CORE, HEART = 0.85, 0.6

_LATTICE = np.random.default_rng(20210713).random((64, 64))


def reflectance(event: str, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance (NIR, SWIR2) of one event: forest and scrub, then what the fire left."""
    nbr = 0.40 + 0.26 * _texture(u, v, 5, 1)
    total = 0.26 + 0.20 * _texture(u, v, 4, 6)
    if event == "post":
        change = burn(u, v)
        nbr = nbr - change
        total = total * (1 - 0.3 * np.clip(change, 0, 1))
    return total * (1 + nbr) / 2, total * (1 - nbr) / 2


def burn(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The dNBR at (u, v): the scar, cut and growing fields, and little change elsewhere."""
    across, down = (u - 0.47) * 0.95, (v - 0.47) * 1.25
    angle = np.arctan2(down, across)
    lobes = 0.24 * np.sin(2 * angle + 0.7) + 0.14 * np.sin(3 * angle - 1.0)
    lobes = lobes + 0.09 * np.sin(5 * angle + 2.0) + 0.05 * np.sin(9 * angle)
    depth = 1 - np.hypot(across, down) / (0.34 * (1 + lobes))  # 1 in the middle, 0 at the edge
    rough = _texture(u, v, 6, 3)
    # The flanks burned unevenly, the edge frays out; the heart is exactly CORE.
    frayed = depth + (rough - 0.5) * np.where(depth < HEART, 1.6, 0)
    burned = np.clip(frayed / 0.62, 0, 1) * np.clip(depth / 0.12, 0, 1)
    scar = CORE * np.where(depth > HEART, 1.0, burned)
    elsewhere = 0.18 * rough - 0.11
    # Fields are squares: each has the texture of its centre and one of the lattice's numbers.
    row, column = np.floor(v * 38), np.floor(u * 38)
    farmed = _texture((column + 0.5) / 38, (row + 0.5) / 38, 2, 9) > 0.62
    grown = _LATTICE[row.astype(int) % 64, column.astype(int) // 2 % 64] * 0.55 - 0.33
    elsewhere = np.where(farmed & (grown < 0.12), grown, elsewhere)
    return np.where((depth > 0) & (scar > elsewhere), scar, elsewhere)


def outside(event: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Where the swath of an event ends: the slanted edge of an orbit."""
    return u > (0.955 - 0.07 * v if event == "pre" else 1.005 - 0.15 * v)


def _texture(u: np.ndarray, v: np.ndarray, octaves: int, salt: int) -> np.ndarray:
    """Smooth noise between 0 and 1: random lattices, each twice as fine and half as strong.

    Args:
        u: positions across, shape (1, columns), 0 to 1.
        v: positions down, shape (rows, 1), 0 to 1.
        octaves: number of lattices.
        salt: another number, another texture.
    """
    total, strength, scale = np.zeros(np.broadcast_shapes(u.shape, v.shape)), 1.0, 5.0
    for octave in range(octaves):
        i, a = _cell(v * scale + salt * 11.3 + octave * 5.7)
        j, b = _cell(u * scale + salt * 7.9 + octave * 3.1)
        i, j = i.ravel(), j.ravel()
        strip = _LATTICE[i % 64] * (1 - a) + _LATTICE[(i + 1) % 64] * a
        total += strength * (strip[:, j % 64] * (1 - b) + strip[:, (j + 1) % 64] * b)
        strength, scale = strength / 2, scale * 2.1
    return total / (2 - 2 * strength)


def _cell(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lattice cell of a position, and how far through it, eased so that no edges show."""
    cell = np.floor(position).astype(int)
    through = position - cell
    return cell, through * through * (3 - 2 * through)


def positions(rows: range, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The (u, v) of the pixels' centres in some rows of a scene of ``size`` pixels a side."""
    u = (np.arange(size) + 0.5) / size
    v = (np.arange(rows.start, rows.stop) + 0.5) / size
    return u[np.newaxis, :], v[:, np.newaxis]
