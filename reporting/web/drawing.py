"""Where things lie in small drawings: a time line, and a region over time. Numbers of px, for templates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from reporting.outcomes.course import Course, RegionCourse, RegionPoint
from reporting.outcomes.out.svg import ticks

WIDTH, HEIGHT = 320, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 12, 22
_PAD = 0.08  # of the span, above and below
_DAYS_OF_YEAR = 365.25


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A point on the paper."""

    x: float
    y: float
    point: RegionPoint


@dataclass(frozen=True, kw_only=True)
class Small:
    """A region over time, drawn."""

    region: str
    spots: tuple[Spot, ...]
    path: str
    band: tuple[float, float] | None  # top and height of what the method varies by itself
    baseline: float | None
    operations: tuple[float, ...]  # places
    ticks: tuple[tuple[float, float], ...]  # place and value
    days: tuple[tuple[float, date], ...]  # the first and the last


def small_multiples(course: Course) -> list[Small]:
    """Every region on one axis of time, each on its own of scores."""
    days = [point.on for region in course.regions for point in region.points]
    days += [case.performed_on for case in course.cases if case.active]
    if not days:
        return []
    across = _scale(min(days), max(days))
    operations = tuple(across(case.performed_on) for case in course.cases if case.active)
    return [_small(each, across, operations, (min(days), max(days))) for each in course.regions]


def _scale(first: date, last: date) -> Callable[[date], float]:
    span = max(1, (last - first).days)
    width = WIDTH - _LEFT - _RIGHT

    def across(day: date) -> float:
        return round(_LEFT + (0.04 + 0.92 * (day - first).days / span) * width, 1)

    return across


def _small(
    region: RegionCourse,
    across: Callable[[date], float],
    operations: tuple[float, ...],
    days: tuple[date, date],
) -> Small:
    reach, baseline = region.smallest_detectable, region.baseline
    values = [point.score for point in region.points]
    if reach is not None and baseline is not None:
        values += [baseline - reach, baseline + reach]
    low, high = min(values), max(values)
    pad = (high - low) * _PAD or 0.5
    low, high = low - pad, high + pad

    def down(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    spots = tuple(Spot(x=across(each.on), y=down(each.score), point=each) for each in region.points)
    band = None
    if reach is not None and baseline is not None:
        top = down(baseline + reach)
        band = (top, round(down(baseline - reach) - top, 1))
    return Small(
        region=region.region.value,
        spots=spots,
        path=" ".join(f"{'L' if number else 'M'}{spot.x} {spot.y}" for number, spot in enumerate(spots)),
        band=band,
        baseline=None if baseline is None else down(baseline),
        operations=operations,
        ticks=tuple((down(value), value) for value in ticks(low, high)),
        days=tuple((across(day), day) for day in dict.fromkeys(days)),
    )


def age_at(born_on: date | None, day: date | None) -> float | None:
    """Years of age on a day; None where one is not known."""
    return None if born_on is None or day is None else (day - born_on).days / _DAYS_OF_YEAR
