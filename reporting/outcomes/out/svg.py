"""A chart as SVG, by our own template: no script, no style from elsewhere, every point with its title."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, log10
from textwrap import wrap

from jinja2 import Environment, PackageLoader

from reporting.outcomes.charts.records import Chart, ChartKind, Point, Track

WIDTH, HEIGHT = 900, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 40, 48, 46
_LINE = 15  # px from one line of the foot to the next
_LINE_LENGTH = 145  # letters
_TICKS = 4  # at least so many on an axis
_LABELS = 8
Scale = Callable[[float], float]
_CURVES = ("lower", "centre", "upper", "inner_lower", "inner_upper")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One point on the paper, in px."""

    x: float
    y: float
    signals: bool
    title: str
    label: str  # written beside it; "" for most
    index: int


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A limit or the line through the points."""

    name: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One track, drawn."""

    title: str
    top: int  # of the panel, px from the top of the drawing
    marks: tuple[Mark, ...]
    curves: tuple[Curve, ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_ticks: tuple[tuple[float, str], ...]
    x_label: str
    y_label: str
    phases: tuple[tuple[float, str], ...]  # place and reason


def draw_svg(chart: Chart) -> str:
    """Draw a chart, a panel a track.

    Args:
        chart: With at least one point.
    """
    environment = Environment(
        loader=PackageLoader("reporting.outcomes.out"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    panels = [panel_of(chart, track, number * HEIGHT) for number, track in enumerate(chart.tracks)]
    drawn, foot = HEIGHT * len(panels), _foot(chart)
    return environment.get_template("chart.svg.j2").render(
        chart=chart,
        panels=panels,
        width=WIDTH,
        height=drawn + _LINE * (len(foot) + 1),
        panel_height=HEIGHT,
        left=_LEFT,
        right=WIDTH - _RIGHT,
        top=_TOP,
        bottom=HEIGHT - _BOTTOM,
        foot=[(drawn + _LINE * (number + 1), line) for number, line in enumerate(foot)],
    )


def panel_of(chart: Chart, track: Track, top: int) -> Panel:
    """One track, drawn ``top`` px below the top of the drawing."""
    shown = [point for point in track.points if point.value is not None]
    is_funnel = chart.kind is ChartKind.FUNNEL
    ordered = sorted(shown, key=lambda point: point.x) if is_funnel else shown
    numbers = [
        value
        for point in ordered
        for value in (point.value, *(getattr(point, name) for name in _CURVES))
        if value is not None
    ]
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
    pad = (high - low) * 0.06 or 1.0
    low, high = 0.0 if chart.kind is ChartKind.P else low - pad, high + pad
    first, last = (min(p.x for p in ordered), max(p.x for p in ordered)) if ordered else (0.0, 1.0)
    first, last = (0.0, last * 1.05) if is_funnel else (first, last if last > first else first + 1)

    def x(value: float) -> float:
        return round(_LEFT + (value - first) / (last - first) * (WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    curves = [Curve(name=name, path=_path(ordered, name, x, y)) for name in _CURVES]
    if not is_funnel:
        curves.append(Curve(name="line", path=_path(ordered, "value", x, y)))
    return Panel(
        title=chart.title if len(chart.tracks) == 1 else f"{chart.title}: {track.name}",
        top=top,
        marks=tuple(
            Mark(
                x=x(point.x),
                y=y(point.value or 0.0),
                signals=bool(point.signals),
                title=_title(point, track),
                label=point.label if is_funnel and point.signals else "",
                index=i,
            )
            for i, point in enumerate(ordered)
        ),
        curves=tuple(curve for curve in curves if curve.path),
        y_ticks=tuple((y(value), f"{value:.3g}") for value in ticks(low, high)),
        x_ticks=_x_ticks(chart, ordered, x, last),
        x_label=chart.x_label,
        y_label=track.unit,
        phases=tuple(
            (x(ordered[phase.start].x), phase.reason)
            for phase in chart.phases
            if 0 < phase.start < len(ordered)
        ),
    )


def _foot(chart: Chart) -> list[str]:
    """What the lines mean, of whom the chart speaks and of whom not, in lines."""
    curves = {
        name for track in chart.tracks for point in track.points for name in _CURVES if _has(point, name)
    }
    said = ["Triangle: breaks a rule."]
    if curves & {"lower", "upper"}:
        said.append("Red dashes: " + ("99.8 % limits." if chart.kind is ChartKind.FUNNEL else "limits."))
    if curves & {"inner_lower", "inner_upper"}:
        said.append("Grey dashes: 95 % limits.")
    if chart.denominators:
        of = "Photographs" if chart.kind in (ChartKind.P, ChartKind.TIME) else "Cases"
        said.append(
            f"{of}: " + ", ".join(f"{name} {number}" for name, number in chart.denominators.lines) + "."
        )
    return wrap(" ".join(said), _LINE_LENGTH)


def _has(point: Point, name: str) -> bool:
    return getattr(point, name) is not None


def _path(points: list[Point], name: str, x: Scale, y: Scale) -> str:
    """Line through the values there are; it breaks where there is none."""
    words, pen_down = [], False
    for point in points:
        value = getattr(point, name)
        if value is None:
            pen_down = False
            continue
        words.append(f"{'L' if pen_down else 'M'}{x(point.x)} {y(value)}")
        pen_down = True
    return " ".join(words)


def _title(point: Point, track: Track) -> str:
    signals = f"; {', '.join(point.signals)}" if point.signals else ""
    return f"{point.label}: {point.value:.4g} {track.unit}, {point.cases} cases{signals}"


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two: the longest steps of 1, 2 or 5 times a power of ten of which four fit."""
    most = (high - low) / _TICKS
    power = 10.0 ** floor(log10(most))
    step = max(each * power for each in (1, 2, 5) if each * power <= most)
    return [round(n * step, 12) for n in range(ceil(low / step), floor(high / step) + 1)]


def _x_ticks(chart: Chart, points: list[Point], x: Scale, last: float) -> tuple[tuple[float, str], ...]:
    if chart.kind is ChartKind.FUNNEL:
        return tuple((x(value), f"{value:.3g}") for value in ticks(0.0, last))
    step = max(1, len(points) // _LABELS)
    return tuple((x(point.x), point.label) for point in points[::step])
