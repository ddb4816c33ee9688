"""Who looked at a photograph, and whose name its header has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from service.database.pool import Connection

_MOST = 50


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Somebody who looked at a photograph on its page."""

    name: str
    purpose: str  # code; ""
    times: int
    last_at: datetime


def viewers(connection: Connection, sop_instance_uid: str) -> list[Viewer]:
    """Who looked at a photograph, those that did last first."""
    rows = connection.execute(
        "SELECT detail ->> 'by' AS name, coalesce(detail ->> 'purpose', '') AS purpose, count(*) AS times,"
        " max(at) AS last_at FROM ledger WHERE sop_instance_uid = %s AND event = 'viewed'"
        " GROUP BY 1, 2 ORDER BY last_at DESC LIMIT %s",
        (sop_instance_uid, _MOST),
    )
    return [Viewer(**row) for row in rows]


def patient_name(connection: Connection, sop_instance_uid: str) -> str:
    """The patient's name as the photograph's header has it; "" while it is not indexed."""
    row = connection.execute(
        "SELECT s.attributes #>> '{00100010,Value,0,Alphabetic}' AS name FROM held_instance h"
        " JOIN held_study s USING (study_instance_uid, patient) WHERE h.sop_instance_uid = %s",
        (sop_instance_uid,),
    ).fetchone()
    return str(row["name"] or "") if row else ""
