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

from bai_example.bai import SEVERITIES, Index, Severity
from bai_example.grid import Grid
from bai_example.scene import Scene
from bai_example.stats import Statistics

_DPI = 150
#: Lengths in inches: the box the map is fitted into, the panel beside it, the margins.
_MAP_WIDTH, _MAP_HEIGHT = 8.0, 6.6
_MAP_ROOM = 3.6  # at least, so that the title has its place above a narrow map
_PANEL_WIDTH, _PANEL_HEIGHT = 3.45, 4.6
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.85, 0.1, 0.95, 0.6, 0.3

_NODATA = "#d4d4d4"
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
    west, south, east, north = grid.bounds
    inches_per_unit = min(_MAP_WIDTH / (east - west), _MAP_HEIGHT / (north - south))
    width = (east - west) * inches_per_unit
    height = (north - south) * inches_per_unit
    full_width = _LEFT + max(width, _MAP_ROOM) + _GAP + _PANEL_WIDTH + _RIGHT
    body = max(height, _PANEL_HEIGHT)
    full_height = _BOTTOM + body + _TOP
    figure = Figure(figsize=(full_width, full_height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def axes(left: float, bottom: float, width: float, height: float) -> Axes:
        return figure.add_axes(
            (left / full_width, bottom / full_height, width / full_width, height / full_height)
        )

    map_bottom = _BOTTOM + body - height
    shape = max(1, round(height * _DPI)), max(1, round(width * _DPI))
    corner = round(_LEFT * _DPI), round(map_bottom * _DPI)
    figure.add_artist(Picture(_colored(severity, shape), corner))
    _draw_frame(axes(_LEFT, map_bottom, width, height), grid)
    panel_left = full_width - _RIGHT - _PANEL_WIDTH
    panel = axes(panel_left, _BOTTOM + body - _PANEL_HEIGHT, _PANEL_WIDTH, _PANEL_HEIGHT)
    _draw_panel(panel, index, statistics, inches_per_unit, grid)
    _draw_title(figure, full_height, index, pre, post)
    figure.savefig(path, format="png")


class Picture(Artist):
    """An image, pixel by pixel. Matplotlib's own would be resampled first, in 100 MB of floats."""

    def __init__(self, pixels: np.ndarray, corner: tuple[int, int]) -> None:
        """Show RGBA ``pixels`` with the lower left one at ``corner`` of the figure."""
        super().__init__()
        self._pixels, self._corner = pixels, corner

    def draw(self, renderer: RendererBase) -> None:
        """Draw it; matplotlib counts rows from below."""
        renderer.draw_image(renderer.new_gc(), *self._corner, self._pixels[::-1])


def _colored(severity: Path, shape: tuple[int, int]) -> np.ndarray:
    """The classes as colours, RGBA, in so many rows and columns."""
    with rasterio.open(severity) as file:
        # Smaller, the class that most pixels have, of the next finer overview.
        smaller = max(file.shape) > max(shape)
        resampling = Resampling.mode if smaller else Resampling.nearest
        classes = file.read(1, out_shape=shape, resampling=resampling)
    colors = [_NODATA, *(severity.color for severity in SEVERITIES)]
    return np.array([list(bytes.fromhex(f"{color[1:]}ff")) for color in colors], np.uint8)[classes]


def _draw_frame(axes: Axes, grid: Grid) -> None:
    """Coordinates around the map, whose image lies below."""
    west, south, east, north = grid.bounds
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    axes.patch.set_visible(False)
    kilometre = 1000 / grid.crs.linear_units_factor[1]
    span = min(east - west, north - south) / kilometre
    # As many decimals as tell neighbouring ticks apart.
    decimals = max(0, math.ceil(-math.log10(span / 4)))
    for axis, length in ((axes.xaxis, east - west), (axes.yaxis, north - south)):
        ticks = max(1, min(6, round(6 * length / max(east - west, north - south))))
        axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v / kilometre:.{decimals}f}"))
    code = grid.crs.to_authority()
    name = ":".join(code) if code else "projected"
    axes.set_xlabel(f"Easting, km ({name})", fontsize=9, color=_FAINT)
    axes.set_ylabel("Northing, km", fontsize=9, color=_FAINT)
    axes.tick_params(labelsize=8, colors=_FAINT, direction="out", length=3)
    axes.tick_params(axis="y", labelrotation=90)
    for label in axes.get_yticklabels():
        label.set_verticalalignment("center")
    for spine in axes.spines.values():
        spine.set_color(_FAINT)
        spine.set_linewidth(0.6)


def _draw_panel(
    axes: Axes, index: Index, statistics: Statistics, inches_per_unit: float, grid: Grid
) -> None:
    """Legend, areas, statistics and scale bar, on axes measured in inches from the top."""
    axes.set_xlim(0, _PANEL_WIDTH)
    axes.set_ylim(_PANEL_HEIGHT, 0)
    axes.set_axis_off()
    right = _PANEL_WIDTH - 0.1
    axes.text(0, 0.1, "Burn severity", weight="bold", color=_INK, fontsize=10, va="center")
    axes.text(2.42, 0.1, "dNBR", color=_FAINT, fontsize=8, va="center", ha="right")
    axes.text(right, 0.1, "hectares", color=_FAINT, fontsize=8, va="center", ha="right")
    y = 0.42
    for area in reversed(statistics.areas):  # the most severe class on top
        _swatch(axes, y, area.severity.color)
        axes.text(0.36, y, _short_name(area.severity.name), color=_INK, fontsize=8.5, va="center")
        axes.text(2.42, y, _range(area.severity), color=_FAINT, fontsize=8, va="center", ha="right")
        hectares = f"{area.hectares:,.0f}" if area.hectares >= 10 else f"{area.hectares:.2f}"
        axes.text(right, y, hectares, color=_INK, fontsize=8.5, va="center", ha="right")
        y += 0.32
    _swatch(axes, y, _NODATA)
    axes.text(0.36, y, "No data", color=_INK, fontsize=8.5, va="center")
    missing = 100 - statistics.valid_percent
    axes.text(right, y, f"{missing:.1f} %", color=_FAINT, fontsize=8, va="center", ha="right")
    y += 0.42
    axes.text(
        0, y,
        _signed(
            f"{index.title}  mean {statistics.mean:+.3f}, "
            f"standard deviation {statistics.deviation:.3f}\n"
            f"range {statistics.minimum:+.3f} to {statistics.maximum:+.3f}"
        ),
        color=_FAINT, fontsize=8, va="top", linespacing=1.5,
    )  # fmt: skip
    _scale_bar(axes, y + 0.95, inches_per_unit, grid)


def _scale_bar(axes: Axes, y: float, inches_per_unit: float, grid: Grid) -> None:
    """A bar of a round length, true to the map beside it, and an arrow to the north."""
    inches_per_metre = inches_per_unit / grid.crs.linear_units_factor[1]
    longest = 1.9 / inches_per_metre
    power = 10.0 ** math.floor(math.log10(longest))
    metres = max(step * power for step in (1, 2, 5) if step * power <= longest)
    length = metres * inches_per_metre
    for half, color in ((0, _INK), (1, "white")):
        axes.add_patch(
            Rectangle(
                (half * length / 2, y), length / 2, 0.09,
                facecolor=color, edgecolor=_INK, linewidth=0.8,
            )
        )  # fmt: skip
    kilometres = metres >= 1000
    unit = "km" if kilometres else "m"
    for part in (0.0, 0.5, 1.0):
        number = f"{part * metres / (1000 if kilometres else 1):g}"
        text = f"{number} {unit}" if part == 1 else number
        axes.text(part * length, y - 0.07, text, fontsize=8, color=_INK, ha="center", va="bottom")
    axes.annotate(
        "N", xy=(2.9, y - 0.3), xytext=(2.9, y + 0.1), ha="center", va="center", color=_INK,
        fontsize=10, weight="bold", arrowprops={"arrowstyle": "-|>", "color": _INK},
    )  # fmt: skip


def _draw_title(
    figure: Figure, height: float, index: Index, pre: Sequence[Scene], post: Sequence[Scene]
) -> None:
    left = _LEFT / figure.get_figwidth()
    figure.text(
        left, 1 - 0.3 / height, f"Burned-area intensity ({index.title})",
        fontsize=14, weight="bold", color=_INK, va="center",
    )  # fmt: skip
    for line, (event, scenes) in enumerate((("before", pre), ("after", post))):
        more = f" and {len(scenes) - 1} more" if len(scenes) > 1 else ""
        name = _shortened(scenes[0].id, 72 - len(more)) + more
        figure.text(
            left, 1 - (0.56 + 0.2 * line) / height,
            f"{event:<6} {scenes[0].datetime:%Y-%m-%d}   {name}",
            fontsize=8.5, color=_FAINT, va="center", family="monospace",
        )  # fmt: skip


def _swatch(axes: Axes, y: float, color: str) -> None:
    axes.add_patch(
        Rectangle((0, y - 0.09), 0.26, 0.18, facecolor=color, edgecolor=_FAINT, linewidth=0.5)
    )


def _range(severity: Severity) -> str:
    if math.isinf(severity.lower):
        return _signed(f"< {severity.upper:+.2f}")
    if math.isinf(severity.upper):
        return _signed(f"≥ {severity.lower:+.2f}")
    return _signed(f"{severity.lower:+.2f} to {severity.upper:+.2f}")


def _signed(numbers: str) -> str:
    return numbers.replace("-", "\N{MINUS SIGN}")


def _short_name(name: str) -> str:
    """The class without the words that the legend does not need."""
    return name.removesuffix(" severity").removeprefix("Enhanced ").capitalize()


def _shortened(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
