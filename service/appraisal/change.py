"""Whether two appraisals of one face differ by more than the method does by itself.

A change is real when it is beyond the smallest detectable change, 1.96 sqrt(2) within-subject SDs
(Weir 2005), that `semblance repeatability` stored for exactly this method and weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from service.appraisal.repeatability import Repeatability
from service.errors import ConfigurationError
from service.records import Appraisal, Region


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
    before: Appraisal, after: Appraisal, repeatability: Repeatability | None
) -> tuple[RegionChange, ...]:
    """Compare region by region.

    Args:
        before: Of the earlier photograph.
        after: Of the later one.
        repeatability: As stored for their method; None when there is none, which makes every
            verdict unknown.

    Raises:
        ConfigurationError: The appraisals, or the repeatability, are of different methods or weights.
    """
    if before.method != after.method:
        raise ConfigurationError("scores compare only within one method, weights and settings")
    if repeatability is not None and not repeatability.holds_for(after.method):
        raise ConfigurationError("the repeatability is of another method or weights")
    earlier = {part.region: part.score for part in before.regions}
    later = {part.region: part.score for part in after.regions}
    return tuple(
        _change(region, earlier.get(region), later.get(region), repeatability)
        for region in Region
        if region in earlier or region in later
    )


def _change(
    region: Region, before: float | None, after: float | None, repeatability: Repeatability | None
) -> RegionChange:
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
