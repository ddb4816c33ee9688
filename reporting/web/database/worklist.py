"""Photographs in the order they came, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reporting.web.database.today import Show
from service.database.pool import Connection
from service.records import InstanceState

PAGE = 25

# Each list begins at an index of its own, so that a page of it is found without looking at the rest.
_CHOSEN = {
    Show.ALL: "true",
    Show.ARRIVED: "i.received_at >= %(since)s",
    Show.WAITING: "i.state IN ('received', 'appraised', 'reported')",
    Show.REJECTED: "i.instance_id IN (SELECT instance_id FROM appraisal WHERE status = 'rejected'"
    " AND NOT is_superseded AND created_at >= %(since)s)",
    Show.DELIVERED: "i.state = 'delivered' AND i.progressed_at >= %(since)s",
    Show.DEAD: "i.state = 'dead'",
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which photographs are listed."""

    show: Show
    since: datetime  # when today began
    calling_ae_title: str = ""  # of the sender; "" for every one
    method: str = ""
    received_from: datetime | None = None
    received_before: datetime | None = None
    before: int = 0  # the page after this instance; 0: the first


@dataclass(frozen=True, kw_only=True)
class Row:
    """One photograph in a list."""

    instance_id: int
    sop_instance_uid: str
    study_instance_uid: str
    sha256: str
    state: InstanceState
    received_at: datetime
    calling_ae_title: str
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str  # as its header says; ""
    method: str  # of the newest result; ""
    status: str  # of it; ""
    score: float | None
    rating: float | None
    reasons: tuple[str, ...]


def page(connection: Connection, wanted: Wanted) -> list[Row]:
    """One page, newest first; one row more than PAGE says that there are others.

    A photograph's name is that of its study's header, as the index of headers has it.
    """
    conditions = [_CHOSEN[wanted.show]]
    conditions += ["i.calling_ae_title = %(sender)s"] if wanted.calling_ae_title else []
    conditions += ["i.received_at >= %(from)s"] if wanted.received_from else []
    conditions += ["i.received_at < %(until)s"] if wanted.received_before else []
    conditions += ["i.instance_id < %(before)s"] if wanted.before else []
    if wanted.method:
        conditions.append(
            "EXISTS (SELECT FROM appraisal m WHERE m.instance_id = i.instance_id"
            " AND m.method_name = %(method)s)"
        )
    rows = connection.execute(
        f"WITH chosen AS MATERIALIZED (SELECT i.* FROM instance i WHERE {' AND '.join(conditions)}"  # noqa: S608
        " ORDER BY i.instance_id DESC LIMIT %(limit)s)"
        " SELECT i.instance_id, i.sop_instance_uid, i.study_instance_uid, i.sha256, i.state, i.received_at,"
        " i.calling_ae_title, i.patient_id, i.issuer_of_patient_id,"
        " coalesce((SELECT s.attributes #>> '{00100010,Value,0,Alphabetic}' FROM held_study s"
        " JOIN held_instance h USING (study_instance_uid, patient)"
        " WHERE h.sop_instance_uid = i.sop_instance_uid), '') AS patient_name,"
        " coalesce(a.method_name, '') AS method, coalesce(a.status, '') AS status, a.score, a.rating,"
        " coalesce(a.reasons, '{}') AS reasons FROM chosen i LEFT JOIN LATERAL (SELECT method_name, status,"
        " score, rating, reasons FROM appraisal WHERE instance_id = i.instance_id AND NOT is_superseded"
        " ORDER BY created_at DESC, appraisal_id LIMIT 1) a ON true ORDER BY i.instance_id DESC",
        {
            "since": wanted.since,
            "sender": wanted.calling_ae_title,
            "method": wanted.method,
            "from": wanted.received_from,
            "until": wanted.received_before,
            "before": wanted.before,
            "limit": PAGE + 1,
        },
    )
    return [
        Row(**{**row, "state": InstanceState(row["state"]), "reasons": tuple(row["reasons"])}) for row in rows
    ]


def methods(connection: Connection) -> list[str]:
    """Methods that judged something, by name."""
    rows = connection.execute(
        "SELECT DISTINCT split_part(method, ' ', 1) AS name FROM phase WHERE method <> '' ORDER BY 1"
    )
    return [row["name"] for row in rows]
