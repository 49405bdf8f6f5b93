"""The picture of the map: burn severity by class, with legend, scale bar and coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from rasterio.enums import Resampling

from bai_example.grid import Grid
from bai_example.index import SEVERITIES, Index
from bai_example.scenes import Scene
from bai_example.statistics import Statistics

_DPI = 150
#: Lengths in inches: the box the map is fitted into, at least this wide for the title's sake; the
#: panel beside it; the margins.
_MAP_WIDTH, _MAP_HEIGHT, _MAP_ROOM = 8.0, 6.6, 3.6
_PANEL_WIDTH, _PANEL_HEIGHT = 3.45, 4.6
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.85, 0.1, 0.95, 0.6, 0.3

_NODATA = (212, 212, 212, 255)
_INK, _FAINT = "#222222", "#666666"


def draw(
    severity: Path,
    path: Path,
    index: Index,
    statistics: Statistics,
    pre: Sequence[Scene],
    post: Sequence[Scene],
) -> None:
    """Draw ``bai.png`` from the overviews of the severity classes.

    Args:
        severity: ``bai-severity.tif``.
        path: the picture to make.
        index: the map's index.
        statistics: the map's statistics, for the areas in the legend.
        pre: the scenes before the event.
        post: the scenes after it.
    """
    with rasterio.open(severity) as file:
        grid = Grid(file.crs, file.transform, file.shape)
        # In metres, so that a map in degrees is not drawn too wide.
        metres = [float(sizes[grid.shape[0] // 2]) for sizes in grid.metres()]
        sides = grid.shape[1] * metres[0], grid.shape[0] * metres[1]
        scale = min(_MAP_WIDTH / sides[0], _MAP_HEIGHT / sides[1])  # inches per metre
        width, height = (side * scale for side in sides)
        pixels = max(1, round(height * _DPI)), max(1, round(width * _DPI))
        # Smaller, the class that most pixels have, of the next finer overview.
        smaller = max(file.shape) > max(pixels)
        resampling = Resampling.mode if smaller else Resampling.nearest
        classes = file.read(1, out_shape=pixels, resampling=resampling)
    size = np.array([
        _LEFT + max(width, _MAP_ROOM) + _GAP + _PANEL_WIDTH + _RIGHT,
        _BOTTOM + max(height, _PANEL_HEIGHT) + _TOP,
    ])  # fmt: skip
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def axes(left: float, width: float, height: float) -> Axes:
        bottom = size[1] - _TOP - height
        return figure.add_axes(
            (left / size[0], bottom / size[1], width / size[0], height / size[1])
        )

    colors = np.array([_NODATA, *(one.rgba for one in SEVERITIES)], np.uint8)
    bottom = round((size[1] - _TOP - height) * _DPI)
    figure.add_artist(_Pixels(colors[classes], (round(_LEFT * _DPI), bottom)))
    _draw_frame(axes(_LEFT, width, height), grid, metres[0])
    panel = axes(size[0] - _RIGHT - _PANEL_WIDTH, _PANEL_WIDTH, _PANEL_HEIGHT)
    _draw_panel(panel, index, statistics, scale)
    left, top = _LEFT / size[0], size[1]
    title = f"Burned-area intensity ({index.title})"
    figure.text(left, 1 - 0.3 / top, title, fontsize=14, weight="bold", color=_INK, va="center")
    for y, event, scenes in ((0.56, "before", pre), (0.76, "after", post)):
        more = f" and {len(scenes) - 1} more" if len(scenes) > 1 else ""
        longest = 72 - len(more)
        name = scenes[0].id if len(scenes[0].id) <= longest else f"{scenes[0].id[: longest - 1]}…"
        line = f"{event:<6} {scenes[0].datetime:%Y-%m-%d}   {name}{more}"
        style = {"fontsize": 8.5, "color": _FAINT, "va": "center", "family": "monospace"}
        figure.text(left, 1 - y / top, line, **style)
    figure.savefig(path, format="png")


class _Pixels(Artist):
    """An image as it is. Matplotlib's own would be resampled first, in 60 MB of floats."""

    def __init__(self, pixels: np.ndarray, corner: tuple[int, int]) -> None:
        super().__init__()
        self._pixels, self._corner = pixels, corner

    def draw(self, renderer: RendererBase) -> None:
        renderer.draw_image(renderer.new_gc(), *self._corner, self._pixels[::-1])


def _draw_frame(axes: Axes, grid: Grid, width: float) -> None:
    """Coordinates around the map, whose image lies below; ``width`` of a pixel, m."""
    west, south, east, north = grid.bounds
    axes.set(xlim=(west, east), ylim=(south, north), facecolor="none")
    degrees = grid.crs.is_geographic
    unit = 1.0 if degrees else 1000 * grid.resolution[0] / width
    longest = max(east - west, north - south)
    # As many decimals as tell neighbouring ticks apart.
    decimals = max(0, math.ceil(-math.log10(min(east - west, north - south) / unit / 4)))
    for axis, length in ((axes.xaxis, east - west), (axes.yaxis, north - south)):
        ticks = max(1, min(6, round(6 * length / longest)))
        axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / unit:.{decimals}f}"))
    code = ":".join(grid.crs.to_authority() or ["no code"])
    across, up = ("Longitude, °", "Latitude, °") if degrees else ("Easting, km", "Northing, km")
    axes.set_xlabel(f"{across} ({code})", fontsize=9, color=_FAINT)
    axes.set_ylabel(up, fontsize=9, color=_FAINT)
    axes.tick_params(labelsize=8, colors=_FAINT, direction="out", length=3)
    for label in axes.get_yticklabels():
        label.set(rotation=90, va="center")
    for spine in axes.spines.values():
        spine.set(color=_FAINT, linewidth=0.6)


def _draw_panel(axes: Axes, index: Index, statistics: Statistics, scale: float) -> None:
    """Legend, areas, statistics and scale bar, on axes measured in inches from the top."""
    axes.set(xlim=(0, _PANEL_WIDTH), ylim=(_PANEL_HEIGHT, 0))
    axes.set_axis_off()
    middle, right, missing = 2.42, _PANEL_WIDTH - 0.1, 100 - statistics.valid_percent

    def text(x: float, y: float, what: str, color: str = _INK, **style: object) -> None:
        side = "left" if x in (0, 0.36) else "right"
        axes.text(x, y, what, **{"color": color, "fontsize": 8, "va": "center", "ha": side} | style)

    text(0, 0.1, "Burn severity", weight="bold", fontsize=10)
    text(middle, 0.1, "dNBR", _FAINT)
    text(right, 0.1, "hectares", _FAINT)
    rows = [(tuple(part / 255 for part in _NODATA), "No data", "", f"{missing:.1f} %", _FAINT)]
    for one, area in zip(SEVERITIES, statistics.hectares, strict=True):
        name = one.name.removesuffix(" severity").removeprefix("Enhanced ").capitalize()
        amount = f"{area:,.{0 if area >= 10 else 2}f}"
        rows.append((one.color, name, _range(one.lower, one.upper), amount, _INK))
    y = 0.42
    for color, name, limits, amount, ink in reversed(rows):  # the most severe class on top
        axes.add_patch(Rectangle((0, y - 0.09), 0.26, 0.18, fc=color, ec=_FAINT, lw=0.5))
        text(0.36, y, name, fontsize=8.5)
        text(middle, y, limits, _FAINT)
        text(right, y, amount, ink, fontsize=8.5 if ink == _INK else 8)
        y += 0.32
    numbers = (
        f"{index.title}  mean {statistics.mean:+.3f}, standard deviation "
        f"{statistics.deviation:.3f}\nrange {statistics.minimum:+.3f} to {statistics.maximum:+.3f}"
    )
    text(0, y + 0.1, _signed(numbers), _FAINT, va="top", linespacing=1.5)
    _draw_scale_bar(axes, y + 1.05, scale)


def _draw_scale_bar(axes: Axes, y: float, scale: float) -> None:
    """A bar of a round length, true to the map beside it, and an arrow to the north."""
    longest = 1.9 / scale
    power = 10.0 ** math.floor(math.log10(longest))
    metres = max(step * power for step in (1, 2, 5) if step * power <= longest)
    half = metres * scale / 2
    unit, name = (1000, " km") if metres >= 1000 else (1, " m")
    for part, color in enumerate((_INK, "white")):
        axes.add_patch(Rectangle((part * half, y), half, 0.09, fc=color, ec=_INK, lw=0.8))
    for part in range(3):
        number = f"{part / 2 * metres / unit:g}{name if part == 2 else ''}"
        axes.text(part * half, y - 0.07, number, fontsize=8, color=_INK, ha="center", va="bottom")
    axes.annotate(
        "N", xy=(2.9, y - 0.3), xytext=(2.9, y + 0.1), ha="center", va="center", color=_INK,
        fontsize=10, weight="bold", arrowprops={"arrowstyle": "-|>", "color": _INK},
    )  # fmt: skip


def _range(lower: float, upper: float) -> str:
    low, high = _signed(f"{lower:+.2f}"), _signed(f"{upper:+.2f}")
    if math.isinf(lower):
        return f"< {high}"
    return f"≥ {low}" if math.isinf(upper) else f"{low} to {high}"


def _signed(numbers: str) -> str:
    return numbers.replace("-", "\N{MINUS SIGN}")
