"""One patient over time: photographs on a time line with operations, regions over time, before and after."""

from __future__ import annotations

from reporting.outcomes.course import Course, Sight, course_of
from reporting.web import pictures
from reporting.web.database import patients, viewing
from reporting.web.drawing import HEIGHT, WIDTH, age_at, small_multiples
from reporting.web.opening import purpose_of
from reporting.web.page import PageProblemError, Seen, Shown, Visit
from reporting.web.surgeons import shown_as
from service.database import instances
from service.database.pool import transaction


def patient(visit: Visit) -> Shown:
    """``/patients/{patient}``.

    Raises:
        PageProblemError: 404: there is nothing of them.
        PurposeNeededError: They were not opened in this session.
    """
    api, name = visit.api, visit.parameters["patient"]
    with transaction(api.pool) as connection:
        person = patients.person(connection, name)
        if person is None:
            raise PageProblemError(404, "Nothing is known of this patient.")
        purpose = purpose_of(connection, visit, person)
        course = course_of(connection, person, api.settings, visit.query.get("method", ""))
        uids = [each.photograph.sop_instance_uid for each in course.sights]
        called = viewing.patient_name(connection, uids[-1]) if uids else ""
        stored = instances.by_uids(connection, uids)
    before, after = _sides(course, visit.query.get("before", ""), visit.query.get("after", ""))
    sides = [
        {
            "sight": sight,
            "has_picture": pictures.is_shown(api, stored[sight.photograph.sop_instance_uid].sha256),
            "has_painted": sight.result is not None
            and pictures.has_heatmap(
                api, stored[sight.photograph.sop_instance_uid].sha256, sight.result.appraisal.appraisal_id
            ),
        }
        for sight in (before, after)
        if sight is not None
    ]
    facts = {
        "course": course,
        "called": called,
        "number": next((stored[uid].patient_id for uid in uids if uid in stored), ""),
        "drawn": small_multiples(course),
        "width": WIDTH,
        "height": HEIGHT,
        "ages": {
            each.photograph.instance_id: age_at(course.born_on, each.photograph.acquired_on)
            for each in course.sights
        },
        "events": _events(course),
        "sides": sides,
        "shown_as": lambda surgeon: shown_as(api, surgeon),
        "fhir_url": api.base_url,
    }
    seen = Seen(patients=(person,), photographs=tuple(uids), purpose=purpose)
    return Shown(template="patient.html", facts=facts, seen=seen)


def _events(course: Course) -> list[tuple[object, str, object]]:
    """Photographs and operations in the order of time."""
    found: list[tuple[object, str, object]] = [
        (sight.photograph.acquired_on, "photograph", sight)
        for sight in course.sights
        if sight.photograph.acquired_on
    ]
    found += [(case.performed_on, "operation", case) for case in course.cases]
    return sorted(found, key=lambda each: (str(each[0]), each[1]))


def _sides(course: Course, before: str, after: str) -> tuple[Sight | None, Sight | None]:
    """The two photographs to compare: those named, else those of the newest change, else first and last."""
    scored = [sight for sight in course.sights if sight.is_scored]
    by_uid = {sight.photograph.sop_instance_uid: sight for sight in scored}
    if before in by_uid and after in by_uid:
        return by_uid[before], by_uid[after]
    by_result = {sight.result.appraisal.appraisal_id: sight for sight in scored if sight.result is not None}
    for change in reversed(course.changes):
        pair = by_result.get(change.before_appraisal), by_result.get(change.after_appraisal)
        if change.counts and None not in pair:
            return pair
    if len(scored) > 1:
        return scored[0], scored[-1]
    return (scored[0], None) if scored else (None, None)
