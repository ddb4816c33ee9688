"""Corrections: other bytes under a known SOP Instance UID, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from psycopg.rows import DictRow

from service.database import instances, ledger, outbox
from service.database.delivery import deliveries
from service.database.pool import Connection
from service.errors import RecordNotFoundError
from service.records import Instance, InstanceState, LedgerEvent
from service.steps import APPRAISE


class Resolution(StrEnum):
    """What became of an object in quarantine."""

    SAME = "same"  # the same photograph in another encoding
    CORRECTED = "corrected"  # the same pixels under another header: a new version
    ACCEPTED = "accepted"  # other pixels, taken in by somebody as a new version
    DISCARDED = "discarded"  # left where it is, for good


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """An object in quarantine that nothing became of yet."""

    quarantine_id: int
    instance_id: int  # of the first comer
    sop_instance_uid: str
    sha256: str  # key in the store
    size_bytes: int
    calling_ae_title: str
    peer_address: str
    received_at: datetime
    is_earlier: bool  # an earlier version of the photograph, which names another patient


@dataclass(frozen=True, kw_only=True)
class Version:
    """What a photograph is from now on."""

    sha256: str  # key in the store
    size_bytes: int
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    patient_id: str
    issuer_of_patient_id: str


_SELECT = (
    "SELECT quarantine_id, instance_id, sop_instance_uid, sha256, size_bytes, calling_ae_title,"
    " peer_address, received_at, EXISTS (SELECT FROM instance_version v WHERE v.sha256 = quarantine.sha256"
    " AND v.instance_id = quarantine.instance_id) AS is_earlier FROM quarantine WHERE resolution IS NULL"
)


def _quarantined(row: DictRow) -> Quarantined:
    return Quarantined(**row)


def quarantined(connection: Connection, limit: int = 1000) -> list[Quarantined]:
    """Objects in quarantine that nothing became of yet, newest first."""
    rows = connection.execute(_SELECT + " ORDER BY quarantine_id DESC LIMIT %s", (limit,))
    return [_quarantined(row) for row in rows]


def lock_quarantined(connection: Connection, quarantine_id: int) -> Quarantined:
    """An object in quarantine, held until the transaction ends.

    Raises:
        RecordNotFoundError: There is none of that number, or something became of it.
    """
    row = connection.execute(_SELECT + " AND quarantine_id = %s FOR UPDATE", (quarantine_id,)).fetchone()
    if row is None:
        raise RecordNotFoundError(f"nothing in quarantine under the number {quarantine_id}")
    return _quarantined(row)


def find_quarantined(connection: Connection, sop_instance_uid: str, sha256: str) -> int | None:
    """Number of an object in quarantine that nothing became of yet; None when there is none."""
    row = connection.execute(
        "SELECT quarantine_id FROM quarantine WHERE sop_instance_uid = %s AND sha256 = %s"
        " AND resolution IS NULL",
        (sop_instance_uid, sha256),
    ).fetchone()
    return None if row is None else int(row["quarantine_id"])


def earlier(connection: Connection, instance_id: int) -> list[str]:
    """Keys in the store of what a photograph was before, newest first."""
    rows = connection.execute(
        "SELECT sha256 FROM instance_version WHERE instance_id = %s ORDER BY version DESC", (instance_id,)
    )
    return [row["sha256"] for row in rows]


def resolve(connection: Connection, quarantine_id: int, resolution: Resolution, by: str) -> None:
    """Say what became of an object in quarantine."""
    connection.execute(
        "UPDATE quarantine SET resolution = %s, resolved_at = now(), resolved_by = %s"
        " WHERE quarantine_id = %s",
        (resolution.value, by, quarantine_id),
    )


def replace(connection: Connection, instance_id: int, version: Version, detail: dict[str, str]) -> Instance:
    """Make other bytes the present version of a photograph; it is appraised and reported again.

    Deliveries of results of the version before that did not leave yet are given up.

    Args:
        connection: In a transaction.
        instance_id: Of the photograph.
        version: What it is from now on.
        detail: For the ledger.

    Raises:
        RecordNotFoundError: A rejection note took it back.
    """
    before = instances.lock(connection, instance_id)
    if before.state is InstanceState.WITHDRAWN:
        raise RecordNotFoundError(f"{before.sop_instance_uid} was taken back by a rejection note")
    _keep(connection, instance_id)
    connection.execute(
        "UPDATE instance SET version = version + 1, sha256 = %s, size_bytes = %s, sop_class_uid = %s,"
        " transfer_syntax_uid = %s, study_instance_uid = %s, series_instance_uid = %s, patient_id = %s,"
        " issuer_of_patient_id = %s"
        " WHERE instance_id = %s",
        (
            version.sha256, version.size_bytes, version.sop_class_uid, version.transfer_syntax_uid,
            version.study_instance_uid, version.series_instance_uid, version.patient_id,
            version.issuer_of_patient_id, instance_id,
        ),
    )  # fmt: skip
    _begin_again(connection, instance_id)
    ledger.append(
        connection,
        LedgerEvent.CORRECTED,
        instance_id=instance_id,
        sop_instance_uid=before.sop_instance_uid,
        detail={
            "version": str(before.version + 1),
            "sha256": version.sha256,
            "before": before.sha256,
            **detail,
        },
    )
    return before


def issue_again(connection: Connection, instance_id: int, detail: dict[str, str]) -> None:
    """Make a photograph's bytes its next version: results that were taken back come again under new UIDs.

    Args:
        connection: In a transaction.
        instance_id: Of the photograph.
        detail: For the ledger.
    """
    before = instances.lock(connection, instance_id)
    _keep(connection, instance_id)
    connection.execute("UPDATE instance SET version = version + 1 WHERE instance_id = %s", (instance_id,))
    _begin_again(connection, instance_id)
    ledger.append(
        connection,
        LedgerEvent.RESTORED,
        instance_id=instance_id,
        sop_instance_uid=before.sop_instance_uid,
        detail={"version": str(before.version + 1), **detail},
    )


def _keep(connection: Connection, instance_id: int) -> None:
    """Keep what a photograph is, before it has another version."""
    connection.execute(
        "INSERT INTO instance_version (instance_id, version, sha256, size_bytes, transfer_syntax_uid,"
        " study_instance_uid, series_instance_uid, patient_id, issuer_of_patient_id)"
        " SELECT instance_id, version, sha256, size_bytes, transfer_syntax_uid, study_instance_uid,"
        " series_instance_uid, patient_id, issuer_of_patient_id FROM instance WHERE instance_id = %s",
        (instance_id,),
    )


def _begin_again(connection: Connection, instance_id: int) -> None:
    """Have a photograph appraised and reported from the beginning; what did not leave stays here."""
    connection.execute(
        "UPDATE delivery SET state = 'dead', claimed_until = NULL,"
        " last_error = %s"
        " WHERE instance_id = %s AND state = 'pending'",
        (deliveries.CORRECTED, instance_id),
    )
    connection.execute(
        "UPDATE dead_letter SET resolved_at = now() WHERE instance_id = %s AND resolved_at IS NULL",
        (instance_id,),
    )
    instances.set_state(connection, instance_id, InstanceState.RECEIVED)
    outbox.put(connection, APPRAISE.task, APPRAISE.queue, instance_id)
