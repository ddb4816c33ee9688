"""The chain of digests over ledger, audit messages and AuditEvents: a change to any shows.

One writer at a time takes the rows that wait and appends their seals, so positions are without gaps and
in the order of their commits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg.rows import DictRow

from service.database.pool import Connection

GENESIS = bytes(32)  # what the first digest is over
# Arbitrary and fixed: of several relays one seals at a time.
_SEAL_LOCK = 5_373_170_002
_FETCH = 2000
_ROW = (
    "ledger_id, l.instance_id, l.sop_instance_uid, l.event, l.at AS ledger_at, l.detail,"
    " m.audit_id, m.event_id, m.outcome, m.at AS audit_at, m.message,"
    " e.resource_id AS audit_event_id, e.body AS audit_event"
)


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """A line of the ledger with what the instance and the delivery say to it; "" where there is none."""

    ledger_id: int
    event: str  # value of a LedgerEvent
    at: datetime
    sop_instance_uid: str
    detail: Mapping[str, str]
    sop_class_uid: str
    study_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str
    called_ae_title: str
    result_sop_class_uid: str  # of the delivered result
    is_known: bool  # whether there is an instance of that UID


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A row that waits for its seal."""

    source: str  # "ledger", "audit", or "fhir" for an AuditEvent of the FHIR API
    row_id: int
    content: bytes  # what the digest is over
    ledger: LedgerRow | None  # for a line of the ledger


@dataclass(frozen=True, kw_only=True)
class Head:
    """The end of the chain."""

    position: int  # 0 for an empty one
    digest: bytes


@dataclass(frozen=True, kw_only=True)
class SealedRow:
    """A seal, and the content of its row as it is now."""

    position: int
    source: str
    row_id: int
    digest: bytes
    content: bytes | None  # None when the row is gone


def chained(previous: bytes, content: bytes) -> bytes:
    """The digest of a row's content after its predecessor's digest: SHA-256 over both."""
    return hashlib.sha256(previous + content).digest()


def lead(connection: Connection) -> bool:
    """Whether this transaction is the one that seals."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s) AS held", (_SEAL_LOCK,)).fetchone()
    return bool(row and row["held"])


def head(connection: Connection) -> Head:
    """The end of the chain."""
    row = connection.execute("SELECT position, digest FROM seal ORDER BY position DESC LIMIT 1").fetchone()
    return Head(position=row["position"], digest=row["digest"]) if row else Head(position=0, digest=GENESIS)


def pending(connection: Connection, limit: int) -> list[Pending]:
    """Rows that wait for their seal, those of the ledger in their order."""
    rows = connection.execute(
        f"SELECT p.source, p.row_id, {_ROW}, i.sop_class_uid, i.study_instance_uid, i.patient_id,"  # noqa: S608
        " i.issuer_of_patient_id, i.called_ae_title, d.sop_class_uid AS result_sop_class_uid"
        " FROM seal_pending p"
        " LEFT JOIN ledger l ON p.source = 'ledger' AND l.ledger_id = p.row_id"
        " LEFT JOIN instance i ON i.sop_instance_uid = l.sop_instance_uid"
        " LEFT JOIN delivery d ON d.destination = l.detail ->> 'destination'"
        " AND d.sop_instance_uid = l.detail ->> 'result'"
        " LEFT JOIN audit_message m ON p.source = 'audit' AND m.audit_id = p.row_id"
        " LEFT JOIN fhir_resource e ON p.source = 'fhir' AND e.resource_id = p.row_id"
        " ORDER BY p.source, p.row_id LIMIT %s",
        (limit,),
    )
    return [_pending(row) for row in rows]


def append(connection: Connection, after: Head, rows: Sequence[Pending]) -> Head:
    """Seal rows and take them off the list of those that wait.

    Returns:
        The new end of the chain.
    """
    positions, digests = [], []
    digest = after.digest
    for position, row in enumerate(rows, after.position + 1):
        digest = chained(digest, row.content)
        positions.append(position)
        digests.append(digest)
    sources, ids = [row.source for row in rows], [row.row_id for row in rows]
    connection.execute(
        "INSERT INTO seal (position, source, row_id, digest)"
        " SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bytea[])",
        (positions, sources, ids, digests),
    )
    connection.execute(
        "DELETE FROM seal_pending WHERE (source, row_id) IN (SELECT * FROM unnest(%s::text[], %s::bigint[]))",
        (sources, ids),
    )
    return Head(position=after.position + len(rows), digest=digest)


def sealed(connection: Connection) -> Iterator[SealedRow]:
    """The whole chain in its order, with the rows as they are now; a few at a time."""
    with connection.cursor(name="sealed") as cursor:
        cursor.itersize = _FETCH
        cursor.execute(
            f"SELECT s.position, s.source, s.row_id, s.digest, {_ROW} FROM seal s"  # noqa: S608
            " LEFT JOIN ledger l ON s.source = 'ledger' AND l.ledger_id = s.row_id"
            " LEFT JOIN audit_message m ON s.source = 'audit' AND m.audit_id = s.row_id"
            " LEFT JOIN fhir_resource e ON s.source = 'fhir' AND e.resource_id = s.row_id"
            " ORDER BY s.position"
        )
        for row in cursor:
            yield SealedRow(
                position=row["position"],
                source=row["source"],
                row_id=row["row_id"],
                digest=row["digest"],
                content=_content(row),
            )


def strays(connection: Connection) -> list[tuple[str, int]]:
    """Rows with neither a seal nor a place among those that wait: put in behind the chain's back."""
    rows = connection.execute(
        "SELECT source, row_id FROM (SELECT 'ledger' AS source, ledger_id AS row_id FROM ledger"
        " UNION ALL SELECT 'audit', audit_id FROM audit_message"
        " UNION ALL SELECT 'fhir', resource_id FROM fhir_resource WHERE type = 'AuditEvent') AS kept"
        " WHERE NOT EXISTS (SELECT FROM seal s WHERE s.source = kept.source AND s.row_id = kept.row_id)"
        " AND NOT EXISTS (SELECT FROM seal_pending p WHERE p.source = kept.source AND p.row_id = kept.row_id)"
        " ORDER BY source, row_id"
    )
    return [(row["source"], row["row_id"]) for row in rows]


def waiting(connection: Connection) -> int:
    """How many rows wait for their seal."""
    row = connection.execute("SELECT count(*) AS waiting FROM seal_pending").fetchone()
    return int(row["waiting"]) if row else 0


def _pending(row: DictRow) -> Pending:
    return Pending(
        source=row["source"], row_id=row["row_id"], content=_content(row) or b"", ledger=_ledger_row(row)
    )


def _ledger_row(row: DictRow) -> LedgerRow | None:
    if row["ledger_id"] is None:
        return None
    names = ("sop_class_uid", "study_instance_uid", "patient_id", "issuer_of_patient_id", "called_ae_title")
    return LedgerRow(
        ledger_id=row["ledger_id"],
        event=row["event"],
        at=row["ledger_at"],
        sop_instance_uid=row["sop_instance_uid"],
        detail=row["detail"],
        result_sop_class_uid=row["result_sop_class_uid"] or "",
        is_known=row["sop_class_uid"] is not None,
        **{name: row[name] or "" for name in names},
    )


def _content(row: DictRow) -> bytes | None:
    """A row in one form only: JSON without spaces, keys sorted, times in UTC; None when it is gone."""
    if row["ledger_id"] is not None:
        values = [
            row["ledger_id"],
            row["instance_id"],
            row["sop_instance_uid"],
            row["event"],
            _instant(row["ledger_at"]),
            row["detail"],
        ]
    elif row["audit_id"] is not None:
        values = [
            row["audit_id"],
            row["event_id"],
            row["outcome"],
            _instant(row["audit_at"]),
            row["message"],
        ]
    elif row["audit_event_id"] is not None:
        values = [row["audit_event_id"], row["audit_event"]]
    else:
        return None
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
