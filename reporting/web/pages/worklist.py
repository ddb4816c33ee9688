"""The list of photographs with its filters, thumbnails, and the search for a patient by number."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from reporting.dicomweb.problem import DicomwebError
from reporting.outcomes.patients import patient_of_identifier
from reporting.web import pictures
from reporting.web.database import patients, today
from reporting.web.database import worklist as listed
from reporting.web.database.today import Show
from reporting.web.database.worklist import PAGE, Row, Wanted
from reporting.web.page import Moved, PageProblemError, Seen, Sent, Shown, Visit
from reporting.web.people import Need
from service.database import instances
from service.database.pool import transaction
from service.errors import StorageError

_DAY_S = 24 * 3600


def worklist(visit: Visit) -> Shown:
    """``/worklist``: what came, newest first."""
    query = visit.query
    show = _show(query.get("show", ""))
    before = query.get("before", "")
    since, until = _day(query.get("since", "")), _day(query.get("until", ""))
    wanted = Wanted(
        show=show,
        since=today.midnight(visit.zone),
        calling_ae_title=query.get("sender", "")[:16],
        method=query.get("method", "")[:64],
        received_from=_begin(since, visit.zone),
        received_before=_begin(until + timedelta(days=1), visit.zone) if until else None,
        before=int(before) if before.isascii() and before.isdecimal() and len(before) < 19 else 0,
    )
    with transaction(visit.api.pool) as connection:
        rows = listed.page(connection, wanted)
        methods = listed.methods(connection)
        sees_patients = visit.visitor.may(Need.PATIENTS)
        known = (
            patients.of_photographs(connection, [row.instance_id for row in rows]) if sees_patients else {}
        )
    more = rows[PAGE - 1].instance_id if len(rows) > PAGE else 0
    rows = rows[:PAGE] if sees_patients else [_nobodys(row) for row in rows[:PAGE]]
    kept = {name: value for name, value in query.items() if value and name in _FILTERS}
    facts = {
        "rows": rows,
        "show": show.value,
        "shows": [each.value for each in Show],
        "methods": methods,
        "query": kept,
        "next": f"/worklist?{urlencode({**kept, 'before': more})}" if more else "",
        "is_first": not wanted.before,
        "sees_patients": sees_patients,
        "may_retry": visit.visitor.may(Need.SYSTEM),
    }
    seen = Seen(patients=tuple(dict.fromkeys(known.values())))
    return Shown(template="worklist.html", facts=facts, seen=seen)


_FILTERS = ("show", "sender", "method", "since", "until")


def _show(name: str) -> Show:
    return Show(name) if name in set(Show) else Show.ALL


def _day(text: str) -> date | None:
    """A day of a filter; None where none was given.

    Raises:
        PageProblemError: 400: it is no day.
    """
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise PageProblemError(400, "A day is written as 2026-05-31.") from exc


def _begin(day: date | None, zone: ZoneInfo) -> datetime | None:
    return datetime.combine(day, time(), zone) if day else None


def _nobodys(row: Row) -> Row:
    return replace(row, patient_id="", issuer_of_patient_id="", patient_name="")


def thumbnail(visit: Visit) -> Sent:
    """``/thumbnails/{uid}``: a photograph, small; the list that shows it is what is written down."""
    with transaction(visit.api.pool) as connection:
        instance = instances.by_uid(connection, visit.parameters["uid"])
    if instance is None:
        raise PageProblemError(404, "There is no such photograph.")
    try:
        made = pictures.photograph(visit.api, instance.sha256, pictures.THUMBNAIL)
    except (DicomwebError, StorageError):
        return Sent(body=pictures.NOTHING, media_type="image/svg+xml")
    return Sent(body=made, media_type="image/jpeg", keep_s=_DAY_S)


def find(visit: Visit) -> Moved:
    """``/find``: a patient by number, which stays out of every address.

    Raises:
        PageProblemError: 404: nobody has it.
    """
    number, issuer = visit.form.get("number", ""), visit.form.get("issuer", "")
    with transaction(visit.api.pool) as connection:
        found = patients.by_number(connection, number, issuer) if number else []
        if not found and number:
            logical = patient_of_identifier(connection, issuer, number, visit.api.settings)
            found = [logical] if patients.is_known(connection, logical) else []
    if not number:
        raise PageProblemError(400, "Write the patient's number.")
    if not found:
        raise PageProblemError(404, "No photograph has this patient number.")
    if len(found) > 1:
        raise PageProblemError(409, "Several issuers gave this number. Say which issuer is meant.")
    asked = f"number={issuer}|{number}"
    return Moved(path=f"/patients/{found[0]}", seen=Seen(patients=(found[0],), query=asked))
