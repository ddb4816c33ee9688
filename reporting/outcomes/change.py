"""Change after surgery: post less pre by region, within one method; and why two results give none."""

from __future__ import annotations

from uuid import UUID

from reporting.identifiers import change_id
from reporting.outcomes.records import RegionOutcome, ResultSide, WhyNot
from service.appraisal.change import RegionChange, compare_appraisals
from service.appraisal.repeatability import Repeatability
from service.errors import OutcomeError
from service.records import Region

WHOLE_FACE_FIRST = Region.FACE
_SAID = {
    WhyNot.OTHER_PATIENT: "the photographs are of two patients",
    WhyNot.OTHER_METHOD: "the results are of two methods, weights or settings",
    WhyNot.WRONG_ORDER: "the photograph before was not taken before the one after",
    WhyNot.WITHDRAWN: "a result was taken back",
    WhyNot.REJECTED: "a photograph was rejected",
}


def refusal(before: ResultSide, after: ResultSide) -> WhyNot | None:
    """Why two results give no change; None when they give one."""
    if before.patient != after.patient:
        return WhyNot.OTHER_PATIENT
    if before.withdrawn or after.withdrawn:
        return WhyNot.WITHDRAWN
    if before.appraisal.score is None or after.appraisal.score is None:
        return WhyNot.REJECTED
    if not _in_order(before, after):
        return WhyNot.WRONG_ORDER
    if before.appraisal.method.phase != after.appraisal.method.phase:
        return WhyNot.OTHER_METHOD
    return None


def _in_order(before: ResultSide, after: ResultSide) -> bool:
    """Whether one was taken before the other; on one day only if both say at what time."""
    if before.acquired_on == after.acquired_on and before.acquired_at and after.acquired_at:
        return before.acquired_at < after.acquired_at
    return before.acquired_on < after.acquired_on


def id_of(before: ResultSide, after: ResultSide) -> UUID:
    """Id of the change, UUIDv5 of both appraisals."""
    return change_id(before.appraisal.appraisal_id, after.appraisal.appraisal_id)


def change_of(
    before: ResultSide,
    after: ResultSide,
    repeatability: Repeatability | None,
    *,
    primary: Region | None = WHOLE_FACE_FIRST,
) -> tuple[RegionOutcome, ...]:
    """Judge the change of every region.

    Args:
        before: Result of the photograph before the operation.
        after: Of the one after it.
        repeatability: Of their method; None makes every verdict unknown.
        primary: Region that is judged first, see compare_appraisals.

    Raises:
        OutcomeError: Two patients, two methods, the wrong order, a rejected or withdrawn result.
    """
    why_not = refusal(before, after)
    if why_not is not None:
        raise refused(why_not)
    found = compare_appraisals(before.appraisal, after.appraisal, repeatability, primary=primary)
    return tuple(_outcome(each, primary) for each in found)


def refused(why_not: WhyNot) -> OutcomeError:
    """The error that says why two results give no change."""
    return OutcomeError(f"no change: {_SAID[why_not]}")


def _outcome(found: RegionChange, primary: Region | None) -> RegionOutcome:
    scored = found.difference is not None
    return RegionOutcome(
        region=found.region,
        before=found.before,
        after=found.after,
        smallest_detectable=found.smallest_detectable,
        verdict=found.verdict,
        primary=found.region is primary,
        why_not=None if scored else WhyNot.NOT_SCORED,
    )
