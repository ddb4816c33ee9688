"""Whether two appraisals of one face differ by more than the method does by itself.

A change is real when it is beyond the smallest detectable change, 1.96 sqrt(2) within-subject SDs
(Weir 2005), that `semblance repeatability` stored for exactly this method and weights, and when
the number of regions that were looked at is allowed for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import erfc, sqrt

from service.appraisal.repeatability import Repeatability
from service.errors import ConfigurationError
from service.records import Appraisal, Region

_REGIONS = tuple(Region)
_LEVEL = 0.05  # chance of any wrong verdict
_DETECTABLE_Z = 1.96  # that a smallest detectable change is made with


class Verdict(StrEnum):
    """What a change of score says."""

    BETTER = "better"  # more normal, by more than the method varies
    WORSE = "worse"
    WITHIN_ERROR = "within error"  # no change that could be told from chance
    UNKNOWN = "unknown"  # not scored on both, or the region's repeatability is not known


@dataclass(frozen=True, kw_only=True)
class RegionChange:
    """Change of one region's score between two photographs."""

    region: Region
    before: float | None  # score, higher = more normal; None when it could not be judged
    after: float | None
    smallest_detectable: float | None  # change of score; None when not known
    verdict: Verdict

    @property
    def difference(self) -> float | None:
        """After less before; None when one is missing."""
        return None if self.before is None or self.after is None else self.after - self.before


def compare_appraisals(
    before: Appraisal,
    after: Appraisal,
    repeatability: Repeatability | None,
    *,
    primary: Region | None = None,
) -> tuple[RegionChange, ...]:
    """Compare region by region, with the number of regions allowed for.

    Each region beyond its smallest detectable change would by itself be wrong once in twenty times. So
    the regions are judged together by Holm's procedure, which keeps the chance of any wrong verdict at
    5 %; or one is declared primary: it is judged by its smallest detectable change alone, and the others,
    by Holm's procedure, only once it goes beyond.

    Args:
        before: Of the earlier photograph.
        after: Of the later one.
        repeatability: As stored for their method; None when there is none, which makes every
            verdict unknown.
        primary: Judged first; None judges all together.

    Raises:
        ConfigurationError: The appraisals, or the repeatability, are of different methods, weights or
            settings; different calibrations of the same scores are not different methods.
    """
    if replace(before.method, calibration="") != replace(after.method, calibration=""):
        raise ConfigurationError("scores compare only within one method, weights and settings")
    if repeatability is not None and not repeatability.holds_for(after.method):
        raise ConfigurationError("the repeatability is of another method or weights")
    earlier = {part.region: part.score for part in before.regions}
    later = {part.region: part.score for part in after.regions}
    found = [
        _change(region, earlier.get(region), later.get(region), repeatability)
        for region in _REGIONS
        if region in earlier or region in later
    ]
    beyond = _beyond_chance(found, primary)
    return tuple(
        each
        if each.verdict is Verdict.UNKNOWN or each.region in beyond
        else replace(each, verdict=Verdict.WITHIN_ERROR)
        for each in found
    )


def _beyond_chance(found: Sequence[RegionChange], primary: Region | None) -> frozenset[Region]:
    """Regions whose change goes beyond chance, the whole family at 5 %."""
    chances = {
        each.region: chance(each.difference, each.smallest_detectable)
        for each in found
        if each.difference is not None and each.smallest_detectable is not None
    }
    alone = {each.region for each in found if each.verdict in (Verdict.BETTER, Verdict.WORSE)}
    if primary is None or primary not in chances:
        return beyond_chance(chances) & alone
    if primary not in alone:
        return frozenset()
    others = {region: value for region, value in chances.items() if region is not primary}
    return (beyond_chance(others) & alone) | {primary}


def chance(difference: float, smallest_detectable: float) -> float:
    """Two-sided p value of a difference when nothing changed.

    Args:
        difference: Of two scores.
        smallest_detectable: 1.96 standard deviations of such differences.
    """
    return erfc(abs(difference) / smallest_detectable * _DETECTABLE_Z / sqrt(2))


def beyond_chance(chances: Mapping[Region, float]) -> frozenset[Region]:
    """Members of a family that go beyond chance by Holm's procedure (1979).

    Args:
        chances: p value by region.
    """
    found = []
    ordered = sorted(chances.items(), key=lambda item: item[1])
    for place, (region, value) in enumerate(ordered):
        if value > _LEVEL / (len(ordered) - place):
            break
        found.append(region)
    return frozenset(found)


def _change(
    region: Region, before: float | None, after: float | None, repeatability: Repeatability | None
) -> RegionChange:
    """One region by itself."""
    known = None if repeatability is None else repeatability.regions.get(region.value)
    smallest = None if known is None else known.smallest_detectable_change
    verdict = Verdict.UNKNOWN
    if before is not None and after is not None and smallest is not None:
        difference = after - before
        verdict = Verdict.BETTER if difference > 0 else Verdict.WORSE
        if abs(difference) <= smallest:
            verdict = Verdict.WITHIN_ERROR
    return RegionChange(
        region=region, before=before, after=after, smallest_detectable=smallest, verdict=verdict
    )
