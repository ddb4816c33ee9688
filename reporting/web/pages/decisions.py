"""What waits for a person: pairs that could not be told, phases and notes of charts, signals."""

from __future__ import annotations

from datetime import date
from uuid import UUID

from reporting.outcomes.database import cases, pairs, phases, photographs, queue, signals
from reporting.outcomes.patients import persons_of
from reporting.outcomes.windows import DEFAULT_WINDOWS
from reporting.web.database import cohorts
from reporting.web.page import Moved, PageProblemError, Seen, Shown, Visit
from service.database.pool import Connection, transaction
from service.errors import RecordNotFoundError

_LISTED = 50
_LEAST_REASON = 4  # letters
_MOST_REASON = 300


def conflicts(visit: Visit) -> Shown:
    """``/conflicts``: pairs that a person has to decide, the oldest first."""
    with transaction(visit.api.pool) as connection:
        found = pairs.open_conflicts(connection, _LISTED + 1)
        windows = _windows(connection)
    shown = found[:_LISTED]
    facts = {"conflicts": shown, "more": len(found) > _LISTED, "windows": windows}
    seen = Seen(
        patients=tuple(dict.fromkeys(each.patient for each in shown)),
        note="pairs that wait for a decision",
    )
    return Shown(template="conflicts.html", facts=facts, seen=seen)


def _windows(connection: Connection) -> list[str]:
    known = (*cases.windows(connection), *DEFAULT_WINDOWS)
    return list(dict.fromkeys(each.name for each in known))


def _reason(visit: Visit) -> str:
    reason = visit.form.get("reason", "")
    if not _LEAST_REASON <= len(reason) <= _MOST_REASON:
        raise PageProblemError(400, "Say why.")
    return reason


def decide(visit: Visit) -> Moved:
    """``POST /conflicts/{conflict}``: which photograph is used, or that none is.

    Raises:
        PageProblemError: 400: something is not said; 409: it is decided, or the photograph is another's.
    """
    reason = _reason(visit)
    chosen = visit.form.get("photograph", "")
    with transaction(visit.api.pool) as connection:
        try:
            found = pairs.open_conflict(connection, UUID(visit.parameters["conflict"]))
        except (ValueError, RecordNotFoundError) as exc:
            raise PageProblemError(409, "This is decided already.") from exc
        window = found.window or visit.form.get("window", "")
        if window not in _windows(connection):
            raise PageProblemError(400, "Say which window is meant.")
        if not chosen:
            raise PageProblemError(400, "Choose a photograph, or none.")
        instance_id = None if chosen == "none" else _of_patient(connection, found.patient, chosen)
        pairs.decide(
            connection,
            case_id=found.case_id,
            window=window,
            instance_id=instance_id,
            reason=reason,
            author=visit.visitor.name,
        )
        queue.touch(connection, [found.patient])
    seen = Seen(
        patients=(found.patient,),
        photographs=(chosen,) if instance_id is not None else (),
        note=f"conflict {found.conflict_id} decided: {reason}",
    )
    return Moved(path="/conflicts", seen=seen)


def _of_patient(connection: Connection, patient: str, uid: str) -> int:
    instance_id = pairs.instance_ids(connection, [uid]).get(uid)
    whose = photographs.patient_of(connection, instance_id) if instance_id is not None else None
    if instance_id is None or whose is None:
        raise PageProblemError(409, "There is no such photograph.")
    (person,) = persons_of(connection, [patient])
    if whose not in person.everyone:
        raise PageProblemError(409, "The photograph is of another patient.")
    return instance_id


def phases_page(visit: Visit) -> Shown:
    """``/phases``: phases and notes of charts, and signals with who saw them."""
    with transaction(visit.api.pool) as connection:
        codes = cohorts.choices(connection)["codes"]
        facts = {
            "phases": phases.listed(connection),
            "notes": phases.noted(connection),
            "codes": codes,
            "signals": signals.newest(connection, _LISTED),
        }
    return Shown(template="phases.html", facts=facts, seen=Seen(note="phases, notes and signals of charts"))


def begin_phase(visit: Visit) -> Moved:
    """``POST /phases``: a phase from a day on, with its reason."""
    reason, day = _reason(visit), _day(visit)
    with transaction(visit.api.pool) as connection:
        begun = phases.begin(
            connection,
            phase="",
            method="",
            begins_on=day,
            reason=reason,
            author=visit.visitor.name,
            code=_code(connection, visit),
        )
    if not begun:
        raise PageProblemError(409, "Such a phase was begun before.")
    return Moved(path="/phases", seen=Seen(note=f"phase begun on {day}: {reason}"))


def annotate(visit: Visit) -> Moved:
    """``POST /notes``: a note to a day of the charts."""
    note, day = _reason(visit), _day(visit)
    with transaction(visit.api.pool) as connection:
        phases.annotate(
            connection, on_day=day, code=_code(connection, visit), note=note, author=visit.visitor.name
        )
    return Moved(path="/phases", seen=Seen(note=f"note to {day}: {note}"))


def acknowledge(visit: Visit) -> Moved:
    """``POST /signals/{signal}``: that somebody saw a signal, and what follows.

    Raises:
        PageProblemError: 400: no reason; 404: no such signal.
    """
    reason = _reason(visit)
    resets_on = _day(visit) if visit.form.get("day") else None
    try:
        with transaction(visit.api.pool) as connection:
            signals.acknowledge(
                connection,
                UUID(visit.parameters["signal"]),
                reason=reason,
                author=visit.visitor.name,
                resets_on=resets_on,
            )
    except (ValueError, RecordNotFoundError) as exc:
        raise PageProblemError(404, "There is no such signal.") from exc
    return Moved(path="/phases", seen=Seen(note=f"signal {visit.parameters['signal']} seen: {reason}"))


def _day(visit: Visit) -> date:
    try:
        return date.fromisoformat(visit.form.get("day", ""))
    except ValueError as exc:
        raise PageProblemError(400, "A day is written as 2026-05-31.") from exc


def _code(connection: Connection, visit: Visit) -> str:
    code = visit.form.get("code", "")
    if code and code not in cohorts.choices(connection)["codes"]:
        raise PageProblemError(400, "Choose from what is listed.")
    return code
