"""Who did what: lines of the ledger, searched by person, photograph, event and day."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from reporting.web.database import trail as listed
from reporting.web.database.trail import PAGE, Wanted
from reporting.web.page import PageProblemError, Seen, Shown, Visit
from service.audit.trail import OVERDUE_S
from service.database.pool import transaction
from service.database.sealing import seals
from service.records import LedgerEvent

_FILTERS = ("who", "uid", "event", "since", "until")


def trail(visit: Visit) -> Shown:
    """``/audit``: what was done, newest first."""
    query = visit.query
    before = query.get("before", "")
    since, until = _day(query.get("since", "")), _day(query.get("until", ""))
    event = query.get("event", "")
    wanted = Wanted(
        who=query.get("who", "")[:200],
        sop_instance_uid=query.get("uid", "")[:64],
        event=event if event in set(LedgerEvent) else "",
        at_from=_begin(since, visit.zone),
        at_before=_begin(until + timedelta(days=1), visit.zone) if until else None,
        before=int(before) if before.isascii() and before.isdecimal() and len(before) < 19 else 0,
    )
    with transaction(visit.api.pool) as connection:
        rows = listed.page(connection, wanted)
        waiting = seals.waiting(connection)
        overdue = len(seals.overdue(connection, OVERDUE_S))
    more = rows[PAGE - 1].ledger_id if len(rows) > PAGE else 0
    kept = {name: value for name, value in query.items() if value and name in _FILTERS}
    facts = {
        "rows": rows[:PAGE],
        "events": [each.value for each in LedgerEvent],
        "query": kept,
        "waiting": waiting,
        "overdue": overdue,
        "next": f"/audit?{urlencode({**kept, 'before': more})}" if more else "",
    }
    return Shown(template="trail.html", facts=facts, seen=Seen(note="audit trail read"))


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as exc:
        raise PageProblemError(400, "A day is written as 2026-05-31.") from exc


def _begin(day: date | None, zone: ZoneInfo) -> datetime | None:
    return datetime.combine(day, time(), zone) if day else None
