"""Photographs received, and where each is in the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta

from psycopg.rows import DictRow

from service.database import ledger, outbox, rejections
from service.database.pool import Connection
from service.errors import RecordNotFoundError
from service.records import Instance, InstanceState, LedgerEvent, NewInstance, Receipt
from service.steps import APPRAISE, REPORT

_COLUMNS = (
    "instance_id, sop_instance_uid, sop_class_uid, study_instance_uid, series_instance_uid,"
    " transfer_syntax_uid, patient_id, issuer_of_patient_id, calling_ae_title, called_ae_title,"
    " peer_address, sha256, size_bytes, state, received_at, version"
)
_TASKS = [APPRAISE.task, REPORT.task]  # whose messages count instances
_SELECT = f"SELECT {_COLUMNS} FROM instance"  # noqa: S608 -- constant

_OFFERED = tuple(field.name for field in fields(NewInstance))
_ARRAYS = ", ".join(f"%({name})s::{'bigint' if name == 'size_bytes' else 'text'}[]" for name in _OFFERED)
_NAMES = ", ".join(_OFFERED)
_STORED = ", ".join(name for name in _OFFERED if name != "remarks")
_INSERT_NEW = f"""
WITH offered AS (SELECT * FROM unnest({_ARRAYS}) AS offered ({_NAMES})),
inserted AS (
    INSERT INTO instance ({_STORED}) SELECT {_STORED} FROM offered WHERE NOT EXISTS
        (SELECT FROM rejected_instance r WHERE r.sop_instance_uid = offered.sop_instance_uid)
    ON CONFLICT (sop_instance_uid) DO NOTHING
    RETURNING instance_id, sop_instance_uid, calling_ae_title, peer_address, sha256, association_id
),
logged AS (
    INSERT INTO ledger (instance_id, sop_instance_uid, event, detail)
    SELECT instance_id, sop_instance_uid, %(event)s, jsonb_build_object(
        'calling_ae_title', inserted.calling_ae_title, 'peer_address', inserted.peer_address,
        'sha256', inserted.sha256, 'association', inserted.association_id)
        || CASE remarks WHEN '' THEN '{{}}'::jsonb ELSE jsonb_build_object('remarks', remarks) END
    FROM inserted JOIN offered USING (sop_instance_uid)
),
asked AS (
    INSERT INTO outbox (task, queue, subject_id) SELECT %(task)s, %(queue)s, instance_id::text FROM inserted
)
SELECT sop_instance_uid, instance_id FROM inserted
"""  # noqa: S608 -- constant


def _instance(row: DictRow) -> Instance:
    return Instance(**{**row, "state": InstanceState(row["state"])})


def receive(connection: Connection, new: NewInstance) -> tuple[Receipt, int]:
    """Record one offered instance whose bytes are in the store.

    A new one gets its row, its ledger event and the message that has it appraised. The same UID
    with the same bytes gets a ledger event only; with other bytes it is quarantined. One that a
    rejection note took back is not recorded.

    Returns:
        What was made of it, and the instance's id (for a quarantined one: of the first comer; 0: none).
    """
    if rejections.rejecting_note(connection, new) is not None:
        return Receipt.REJECTED, 0
    row = connection.execute(
        "INSERT INTO instance (sop_instance_uid, sop_class_uid, study_instance_uid, series_instance_uid,"
        " transfer_syntax_uid, patient_id, issuer_of_patient_id, calling_ae_title, called_ae_title,"
        " peer_address, sha256, size_bytes, association_id) VALUES (%(sop_instance_uid)s, %(sop_class_uid)s,"
        " %(study_instance_uid)s, %(series_instance_uid)s, %(transfer_syntax_uid)s, %(patient_id)s,"
        " %(issuer_of_patient_id)s, %(calling_ae_title)s, %(called_ae_title)s, %(peer_address)s,"
        " %(sha256)s, %(size_bytes)s, %(association_id)s)"
        " ON CONFLICT (sop_instance_uid) DO NOTHING RETURNING instance_id",
        asdict(new),
    ).fetchone()
    origin = {
        "calling_ae_title": new.calling_ae_title,
        "peer_address": new.peer_address,
        "sha256": new.sha256,
        "association": new.association_id,
        **({"remarks": new.remarks} if new.remarks else {}),
    }
    if row is not None:
        instance_id = int(row["instance_id"])
        _log(connection, LedgerEvent.RECEIVED, instance_id, new, origin)
        outbox.put(connection, APPRAISE.task, APPRAISE.queue, instance_id)
        return Receipt.NEW, instance_id
    known = by_uid(connection, new.sop_instance_uid)
    if known is None:  # the other row was rolled back or is not visible to an older snapshot
        raise RecordNotFoundError(f"instance {new.sop_instance_uid} conflicts with a row that is not visible")
    if known.sha256 == new.sha256 or _is_known(connection, known.instance_id, new.sha256):
        if is_about_another(known, new):  # a correction taken back, or an old copy: somebody has to say
            _quarantine(connection, known.instance_id, new)
        _log(connection, LedgerEvent.RECEIVED_AGAIN, known.instance_id, new, origin)
        return Receipt.AGAIN, known.instance_id
    _quarantine(connection, known.instance_id, new)
    _log(connection, LedgerEvent.QUARANTINED, known.instance_id, new, origin)
    return Receipt.QUARANTINED, known.instance_id


def receive_many(connection: Connection, news: Sequence[NewInstance]) -> list[tuple[Receipt, int]]:
    """Record several offered instances (group commit), in their order.

    Those that are new take one statement, so one round trip; on a connection in autocommit mode that
    is the whole transaction. Those that are known are then looked at one by one.
    """
    first = {new.sop_instance_uid: new for new in reversed(news)}
    inserted = _insert_new(connection, [first[uid] for uid in sorted(first)])  # sorted: no deadlock
    receipts: list[tuple[Receipt, int]] = []
    for new in news:
        instance_id = inserted.pop(new.sop_instance_uid, None) if first[new.sop_instance_uid] is new else None
        if instance_id is not None:
            receipts.append((Receipt.NEW, instance_id))
        else:
            with connection.transaction():
                receipts.append(receive(connection, new))
    return receipts


def _insert_new(connection: Connection, news: Sequence[NewInstance]) -> dict[str, int]:
    """Insert those of different UIDs that are not known yet; answers their ids by UID."""
    columns: dict[str, list[object]] = {name: [getattr(new, name) for new in news] for name in _OFFERED}
    rows = connection.execute(
        _INSERT_NEW,
        {
            **columns,
            "event": LedgerEvent.RECEIVED.value,
            "task": APPRAISE.task,
            "queue": APPRAISE.queue.value,
        },
    )
    return {row["sop_instance_uid"]: int(row["instance_id"]) for row in rows}


def _log(
    connection: Connection, event: LedgerEvent, instance_id: int, new: NewInstance, detail: dict[str, str]
) -> None:
    ledger.append(
        connection, event, instance_id=instance_id, sop_instance_uid=new.sop_instance_uid, detail=detail
    )


def is_about_another(known: Instance, new: NewInstance) -> bool:
    """Whether an earlier version names another patient than the photograph does now."""
    return (known.patient_id, known.issuer_of_patient_id) != (new.patient_id, new.issuer_of_patient_id)


def _quarantine(connection: Connection, instance_id: int, new: NewInstance) -> None:
    """Put an object in quarantine; what became a version once, and is none now, is there again."""
    connection.execute(
        "INSERT INTO quarantine AS before (instance_id, sop_instance_uid, sha256, size_bytes,"
        " calling_ae_title, peer_address) VALUES (%s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (sop_instance_uid, sha256) DO UPDATE SET resolution = NULL, resolved_at = NULL"
        " WHERE before.resolution <> 'discarded'",
        (
            instance_id,
            new.sop_instance_uid,
            new.sha256,
            new.size_bytes,
            new.calling_ae_title,
            new.peer_address,
        ),
    )


def _is_known(connection: Connection, instance_id: int, sha256: str) -> bool:
    """Whether bytes are an earlier version of a photograph, or its present one in another encoding."""
    row = connection.execute(
        "SELECT FROM instance_version WHERE instance_id = %(id)s AND sha256 = %(sha256)s"
        " UNION ALL SELECT FROM quarantine WHERE instance_id = %(id)s AND sha256 = %(sha256)s"
        " AND resolution IN ('same', 'corrected', 'accepted') LIMIT 1",
        {"id": instance_id, "sha256": sha256},
    ).fetchone()
    return row is not None


def get(connection: Connection, instance_id: int) -> Instance:
    """Read one instance.

    Raises:
        RecordNotFoundError: No such row.
    """
    row = connection.execute(_SELECT + " WHERE instance_id = %s", (instance_id,)).fetchone()
    if row is None:
        raise RecordNotFoundError(f"instance {instance_id}")
    return _instance(row)


def by_uid(connection: Connection, sop_instance_uid: str) -> Instance | None:
    """The instance of that SOP Instance UID, or None."""
    row = connection.execute(_SELECT + " WHERE sop_instance_uid = %s", (sop_instance_uid,)).fetchone()
    return _instance(row) if row else None


def by_uids(connection: Connection, sop_instance_uids: Sequence[str]) -> dict[str, Instance]:
    """The instances of those SOP Instance UIDs that are known, by UID."""
    rows = connection.execute(_SELECT + " WHERE sop_instance_uid = ANY(%s)", (list(sop_instance_uids),))
    return {row["sop_instance_uid"]: _instance(row) for row in rows}


def lock_by_uids(connection: Connection, sop_instance_uids: Sequence[str]) -> list[Instance]:
    """Those instances that are known, each row held until the transaction ends; by their numbers."""
    rows = connection.execute(
        _SELECT + " WHERE sop_instance_uid = ANY(%s) ORDER BY instance_id FOR UPDATE",
        (list(sop_instance_uids),),
    )
    return [_instance(row) for row in rows]


def newest(connection: Connection, limit: int) -> list[Instance]:
    """The instances received last, newest first."""
    return [
        _instance(row)
        for row in connection.execute(_SELECT + " ORDER BY instance_id DESC LIMIT %s", (limit,))
    ]


def of_study(connection: Connection, study_instance_uid: str) -> list[Instance]:
    """The instances of a study, in the order they came."""
    rows = connection.execute(
        _SELECT + " WHERE study_instance_uid = %s ORDER BY instance_id", (study_instance_uid,)
    )
    return [_instance(row) for row in rows]


def lock(connection: Connection, instance_id: int) -> Instance:
    """Read one instance and hold its row until the transaction ends.

    Raises:
        RecordNotFoundError: No such row.
    """
    row = connection.execute(_SELECT + " WHERE instance_id = %s FOR UPDATE", (instance_id,)).fetchone()
    if row is None:
        raise RecordNotFoundError(f"instance {instance_id}")
    return _instance(row)


def set_state(connection: Connection, instance_id: int, state: InstanceState) -> None:
    """Move an instance to a state; its attempts start afresh and its lease ends."""
    connection.execute(
        "UPDATE instance SET state = %s, attempts = 0, progressed_at = now(), next_attempt_at = now()"
        " WHERE instance_id = %s",
        (state.value, instance_id),
    )


def claim(connection: Connection, instance_id: int, state: InstanceState, lease_s: float) -> int | None:
    """Take an instance for one step, for at most ``lease_s`` seconds.

    Counts the attempt before the work begins, so that work which kills its process counts too.

    Returns:
        The number of this attempt, from 1; None when the instance is in another state, is held by
        another worker, or is not due yet.
    """
    row = connection.execute(
        "UPDATE instance SET attempts = attempts + 1, progressed_at = now(),"
        " next_attempt_at = now() + make_interval(secs => %s)"
        " WHERE instance_id = %s AND state = %s AND next_attempt_at <= now() RETURNING attempts",
        (lease_s, instance_id, state.value),
    ).fetchone()
    return int(row["attempts"]) if row else None


def postpone(connection: Connection, instance_id: int, delay_s: float, *, count: bool = True) -> None:
    """End the lease of a failed attempt and hold the instance back for ``delay_s`` seconds.

    Args:
        connection: In a transaction.
        instance_id: Of the instance that was claimed.
        delay_s: Seconds until it is due again.
        count: Whether the attempt counts; not when the fault was not the photograph's.
    """
    connection.execute(
        "UPDATE instance SET attempts = greatest(attempts - %s, 0), progressed_at = now(),"
        " next_attempt_at = now() + make_interval(secs => %s) WHERE instance_id = %s",
        (0 if count else 1, delay_s, instance_id),
    )


def touch(connection: Connection, instance_ids: Sequence[int]) -> None:
    """Note that work on these was enqueued again."""
    connection.execute(
        "UPDATE instance SET progressed_at = now() WHERE instance_id = ANY(%s)", (list(instance_ids),)
    )


def stalled(
    connection: Connection, older_than: timedelta, limit: int = 1000, state: InstanceState | None = None
) -> list[Instance]:
    """Instances that wait for a step, made no progress for ``older_than`` and have no message in the outbox.

    Args:
        connection: In a transaction; the rows are locked, those held by others passed over.
        older_than: Time without progress.
        limit: At most so many, those that waited longest first.
        state: Only those in this state; None takes both states a step on instances begins in.
    """
    rows = connection.execute(
        _SELECT + " WHERE state = ANY(%s) AND state IN ('received', 'appraised', 'reported')"
        " AND next_attempt_at <= now() AND progressed_at < now() - %s AND NOT EXISTS"
        " (SELECT FROM outbox WHERE outbox.subject_id = instance.instance_id::text"
        " AND outbox.task = ANY(%s))"
        " ORDER BY progressed_at, instance_id LIMIT %s FOR UPDATE SKIP LOCKED",
        ([state.value] if state else ["received", "appraised"], older_than, _TASKS, limit),
    )
    return [_instance(row) for row in rows]


def counts_by_state(connection: Connection) -> dict[InstanceState, int]:
    """How many instances are in each state, every state named."""
    rows = connection.execute("SELECT state, count(*) AS instances FROM instance GROUP BY state")
    found = {InstanceState(row["state"]): int(row["instances"]) for row in rows}
    return {state: found.get(state, 0) for state in InstanceState}


def waiting(connection: Connection, at_most: int) -> int:
    """How many instances wait to be appraised; stops counting at ``at_most``."""
    row = connection.execute(
        "SELECT count(*) AS instances FROM (SELECT FROM instance WHERE state = 'received'"
        " AND state IN ('received', 'appraised', 'reported') LIMIT %s) AS first",
        (at_most,),
    ).fetchone()
    return int(row["instances"]) if row else 0


@dataclass(frozen=True, kw_only=True)
class QuarantinedObject:
    """Bytes that came under a known SOP Instance UID and differ from the first."""

    sop_instance_uid: str
    sha256: str  # key in the store
    calling_ae_title: str
    peer_address: str
    received_at: datetime


def quarantine(connection: Connection, limit: int) -> list[QuarantinedObject]:
    """The objects put in quarantine last, newest first."""
    rows = connection.execute(
        "SELECT sop_instance_uid, sha256, calling_ae_title, peer_address, received_at FROM quarantine"
        " WHERE resolution IS NULL ORDER BY quarantine_id DESC LIMIT %s",
        (limit,),
    )
    return [QuarantinedObject(**row) for row in rows]


def quarantined(connection: Connection) -> int:
    """How many objects are in quarantine."""
    row = connection.execute("SELECT count(*) AS objects FROM quarantine WHERE resolution IS NULL").fetchone()
    return int(row["objects"]) if row else 0
