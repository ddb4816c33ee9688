"""The chain of digests over all that a claim rests on: a change to any of it shows.

One writer at a time takes the rows that wait and appends their seals, so positions are without gaps and
in the order of their commits. What is sealed, and how it is written, is in ``sealed_rows``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import DictRow

from service.database.pool import Connection
from service.database.sealing.chain import GENESIS, chained
from service.database.sealing.sealed_rows import EVERY_ROW, WRITTEN_BY_POSTGRESQL, RowRef, contents

# Arbitrary and fixed: of several relays one seals at a time.
_SEAL_LOCK = 5_373_170_002
_CHECKPOINT_LOCK = 5_373_170_007
_FETCH = 2000


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

    row: RowRef
    content: bytes  # what the digest is over; b"" of a row that is gone
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
    row: RowRef
    digest: bytes
    content: bytes | None  # None when the row is gone


def lead(connection: Connection) -> bool:
    """Whether this transaction is the one that seals."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s) AS held", (_SEAL_LOCK,)).fetchone()
    return bool(row and row["held"])


def lead_checkpoints(connection: Connection) -> bool:
    """Whether this transaction is the one that makes a checkpoint."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s) AS held", (_CHECKPOINT_LOCK,)).fetchone()
    return bool(row and row["held"])


def head(connection: Connection) -> Head:
    """The end of the chain."""
    row = connection.execute("SELECT position, digest FROM seal ORDER BY position DESC LIMIT 1").fetchone()
    return Head(position=row["position"], digest=row["digest"]) if row else Head(position=0, digest=GENESIS)


def pending(connection: Connection, limit: int) -> list[Pending]:
    """Rows that wait for their seal, those of the ledger in their order."""
    waiting = connection.execute(
        "SELECT source, row_id, row_key FROM seal_pending ORDER BY source = 'ledger' DESC, source, row_id,"
        " row_key LIMIT %s",
        (limit,),
    )
    rows = [RowRef(**row) for row in waiting]
    written = contents(connection, rows)
    lines = _ledger_rows(connection, [row.row_id for row in rows if row.source == "ledger"])
    return [
        Pending(
            row=row,
            content=written.get(row, b""),
            ledger=lines.get(row.row_id) if row.source == "ledger" else None,
        )
        for row in rows
    ]


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
    refs = [row.row for row in rows]
    sources, ids, keys = (
        [ref.source for ref in refs],
        [ref.row_id for ref in refs],
        [ref.row_key for ref in refs],
    )
    connection.execute(
        "INSERT INTO seal (position, source, row_id, row_key, digest, form)"
        " SELECT n.*, %s FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::bytea[]) AS n",
        (WRITTEN_BY_POSTGRESQL, positions, sources, ids, keys, digests),
    )
    connection.execute(
        "DELETE FROM seal_pending WHERE (source, row_id, row_key) IN"
        " (SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[]))",
        (sources, ids, keys),
    )
    return Head(position=after.position + len(rows), digest=digest)


def sealed(connection: Connection, after: int | None = None) -> Iterator[SealedRow]:
    """The chain in its order, with the rows as they are now; a few at a time.

    Args:
        connection: In a transaction.
        after: Position that the first row lies behind; None: the whole chain, whatever positions it has.
    """
    last = after
    while True:
        rows = connection.execute(
            "SELECT position, source, row_id, row_key, digest, form FROM seal"
            " WHERE %(last)s::bigint IS NULL OR position > %(last)s ORDER BY position LIMIT %(limit)s",
            {"last": last, "limit": _FETCH},
        ).fetchall()
        yield from _with_contents(connection, rows)
        if len(rows) < _FETCH:
            return
        last = rows[-1]["position"]


def _with_contents(connection: Connection, rows: Sequence[DictRow]) -> Iterator[SealedRow]:
    refs = [RowRef(source=row["source"], row_id=row["row_id"], row_key=row["row_key"]) for row in rows]
    found = {
        form: contents(
            connection, [ref for ref, row in zip(refs, rows, strict=True) if row["form"] == form], form
        )
        for form in {row["form"] for row in rows}
    }
    for ref, row in zip(refs, rows, strict=True):
        content = found[row["form"]].get(ref)
        yield SealedRow(position=row["position"], row=ref, digest=row["digest"], content=content)


def digests(connection: Connection, after: int) -> Iterator[tuple[int, bytes]]:
    """Position and digest of every seal behind a position, in order; a few at a time."""
    last = after
    while True:
        rows = connection.execute(
            "SELECT position, digest FROM seal WHERE position > %s ORDER BY position LIMIT %s",
            (last, _FETCH),
        ).fetchall()
        for row in rows:
            yield int(row["position"]), bytes(row["digest"])
        if len(rows) < _FETCH:
            return
        last = rows[-1]["position"]


def digest_at(connection: Connection, position: int) -> bytes | None:
    """Digest of one seal; None where there is none."""
    row = connection.execute("SELECT digest FROM seal WHERE position = %s", (position,)).fetchone()
    return None if row is None else bytes(row["digest"])


def of_rows(connection: Connection, wanted: Sequence[tuple[str, int]]) -> list[SealedRow]:
    """The seals of all states of some rows, in the chain's order, with what the rows are now.

    Args:
        connection: In a transaction.
        wanted: Source and id of each row.
    """
    rows = connection.execute(
        "SELECT s.position, s.source, s.row_id, s.row_key, s.digest, s.form FROM seal s"
        " JOIN unnest(%s::text[], %s::bigint[]) AS w(source, row_id) USING (source, row_id)"
        " ORDER BY s.position",
        ([source for source, _ in wanted], [row_id for _, row_id in wanted]),
    ).fetchall()
    return list(_with_contents(connection, rows))


def strays(connection: Connection) -> list[RowRef]:
    """Rows with neither a seal nor a place among those that wait: put in behind the chain's back."""
    rows = connection.execute(
        f"SELECT DISTINCT source, row_id, row_key FROM ({EVERY_ROW}) AS kept"  # noqa: S608
        " WHERE NOT EXISTS (SELECT FROM seal s WHERE s.row_id = kept.row_id AND (s.source = kept.source"
        " AND s.row_key = kept.row_key OR s.source = 'fhir' AND kept.source = 'resource'))"
        " AND NOT EXISTS (SELECT FROM seal_pending p WHERE p.source = kept.source"
        " AND p.row_id = kept.row_id AND p.row_key = kept.row_key) ORDER BY source, row_id, row_key"
    )
    return [RowRef(**row) for row in rows]


def waiting(connection: Connection) -> int:
    """How many rows wait for their seal."""
    row = connection.execute("SELECT count(*) AS waiting FROM seal_pending").fetchone()
    return int(row["waiting"]) if row else 0


def overdue(connection: Connection, after_s: float) -> list[RowRef]:
    """Rows that have waited for their seal for longer than so many seconds, the oldest first."""
    rows = connection.execute(
        "SELECT source, row_id, row_key FROM seal_pending WHERE since < now() - make_interval(secs => %s)"
        " ORDER BY since, source, row_id, row_key LIMIT %s",
        (after_s, _FETCH),
    )
    return [RowRef(**row) for row in rows]


def _ledger_rows(connection: Connection, ids: Sequence[int]) -> dict[int, LedgerRow]:
    rows = connection.execute(
        "SELECT l.ledger_id, l.event, l.sop_instance_uid, l.detail::text AS detail, i.sop_class_uid,"
        " CASE WHEN l.at >= '0001-01-01' AND l.at < '9999-12-31' THEN l.at END AS at,"
        " i.study_instance_uid, i.patient_id, i.issuer_of_patient_id, i.called_ae_title,"
        " d.sop_class_uid AS result_sop_class_uid FROM ledger l"
        " LEFT JOIN instance i ON i.sop_instance_uid = l.sop_instance_uid"
        " LEFT JOIN delivery d ON d.destination = l.detail ->> 'destination'"
        " AND d.sop_instance_uid = l.detail ->> 'result' WHERE l.ledger_id = ANY(%s)",
        (list(ids),),
    )
    return {row["ledger_id"]: _ledger_row(row) for row in rows}


def _ledger_row(row: DictRow) -> LedgerRow:
    """A line; of one whose time or detail no program of ours can tell, what no message can be made of."""
    names = ("sop_class_uid", "study_instance_uid", "patient_id", "issuer_of_patient_id", "called_ae_title")
    detail: Any = None
    if row["at"]:
        with suppress(ValueError, RecursionError):
            detail = json.loads(row["detail"])
    return LedgerRow(
        ledger_id=row["ledger_id"],
        event=row["event"],
        at=row["at"] or datetime.now(UTC),
        sop_instance_uid=row["sop_instance_uid"],
        detail=detail,
        result_sop_class_uid=row["result_sop_class_uid"] or "",
        is_known=row["sop_class_uid"] is not None,
        **{name: row[name] or "" for name in names},
    )
