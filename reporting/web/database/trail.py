"""Lines of the ledger, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from service.database.pool import Connection

PAGE = 50


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which lines are listed; what is "" or None chooses nothing."""

    who: str = ""
    sop_instance_uid: str = ""
    event: str = ""
    at_from: datetime | None = None
    at_before: datetime | None = None
    before: int = 0  # the page after this line; 0: the first


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the ledger."""

    ledger_id: int
    sop_instance_uid: str
    event: str
    at: datetime
    detail: Mapping[str, str]


def page(connection: Connection, wanted: Wanted) -> list[Line]:
    """One page, newest first; one line more than PAGE says that there are others."""
    conditions = ["true"]
    conditions += ["detail ->> 'by' = %(who)s AND detail ? 'by'"] if wanted.who else []
    conditions += ["sop_instance_uid = %(uid)s"] if wanted.sop_instance_uid else []
    conditions += ["event = %(event)s"] if wanted.event else []
    conditions += ["at >= %(from)s"] if wanted.at_from else []
    conditions += ["at < %(until)s"] if wanted.at_before else []
    conditions += ["ledger_id < %(before)s"] if wanted.before else []
    rows = connection.execute(
        "SELECT ledger_id, sop_instance_uid, event, at, detail FROM ledger"  # noqa: S608
        f" WHERE {' AND '.join(conditions)} ORDER BY ledger_id DESC LIMIT %(limit)s",
        {
            "who": wanted.who,
            "uid": wanted.sop_instance_uid,
            "event": wanted.event,
            "from": wanted.at_from,
            "until": wanted.at_before,
            "before": wanted.before,
            "limit": PAGE + 1,
        },
    )
    return [Line(**row) for row in rows]
