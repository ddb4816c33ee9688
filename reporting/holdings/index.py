"""Indexes what was received and made: headers are read from the store, once each."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import psycopg
import structlog

from reporting.holdings.attributes import SERIES_TAGS, STUDY_TAGS
from reporting.holdings.database import holdings
from reporting.holdings.database.holding_records import (
    HeldInstance,
    LevelAttributes,
    NewHolding,
    PendingHolding,
)
from reporting.holdings.dicom_json import to_json
from reporting.holdings.instance_file import InstanceFile
from reporting.holdings.names import folded
from reporting.identifiers import own_patient_id
from reporting.source import issuer_of, text
from service.database import instances
from service.database.pool import Connection, Pool, transaction
from service.dicom.part10 import READ_ERRORS
from service.errors import CorruptInstanceError, DatabaseUnavailableError, SemblanceError, StorageError
from service.records import Instance
from service.storage.local import InstanceStore

_log = structlog.get_logger(__name__)

_BATCH = 50
_PAUSE_S = 2.0
_UID_TAGS = {
    "00080016": "sop_class_uid", "00080018": "sop_instance_uid",
    "0020000D": "study_instance_uid", "0020000E": "series_instance_uid",
}  # fmt: skip


def catch_up(pool: Pool, store: InstanceStore, budget_s: float) -> bool:
    """Index what waits.

    Args:
        pool: Of this process.
        store: Holds the bytes.
        budget_s: Begin no further batch after so many seconds.

    Returns:
        Whether nothing waits any more.

    Raises:
        DatabaseUnavailableError: PostgreSQL cannot be reached.
    """
    deadline = time.monotonic() + budget_s
    while True:
        with transaction(pool) as connection:
            taken = holdings.take_pending(connection, _BATCH)
            _index(connection, store, taken)
        if len(taken) < _BATCH:
            return True
        if time.monotonic() > deadline:
            return False


def _index(connection: Connection, store: InstanceStore, taken: list[PendingHolding]) -> None:
    ready = []
    for pending in taken:
        try:
            ready.append(_holding(connection, store, pending))
        except (StorageError, MemoryError) as exc:
            holdings.postpone(connection, pending.sop_instance_uid, _said(exc))
            _log.warning("not-indexed", sop_instance_uid=pending.sop_instance_uid, error=type(exc).__name__)
    if _added(connection, ready) is None:
        return
    waiting = {pending.sop_instance_uid: pending for pending in taken}
    for holding in ready:  # one of them is at fault; the others must not suffer for it
        _add_alone(connection, holding, waiting[holding.instance.sop_instance_uid])


def _added(connection: Connection, ready: list[NewHolding]) -> psycopg.Error | None:
    """Add to the index; the error for which nothing was added, which would come again, or None."""
    try:
        with connection.transaction():
            holdings.add(connection, ready)
    except psycopg.errors.ProgramLimitExceeded as exc:  # a value that no index takes
        return exc
    except psycopg.OperationalError:
        raise
    except psycopg.Error as exc:
        return exc
    return None


def _add_alone(connection: Connection, holding: NewHolding, pending: PendingHolding) -> None:
    """Add one; what the database does not take is indexed by what intake knows, or rests with its reason."""
    error = _added(connection, [holding])
    if error is not None and not pending.is_result:
        receipt = instances.get(connection, pending.instance_id)
        remark = f"header left out: the index does not take it: {type(error).__name__}"
        error = _added(connection, [_from_receipt(receipt, pending, remark)])
    if error is not None:
        _log.error("not-indexed", sop_instance_uid=pending.sop_instance_uid, error=type(error).__name__)
        holdings.rest(connection, pending.sop_instance_uid, _said(error))


def _said(error: Exception) -> str:
    """Of what kind an error was; its text may quote a header."""
    return type(error).__name__


def _holding(connection: Connection, store: InstanceStore, pending: PendingHolding) -> NewHolding:
    receipt = None if pending.is_result else instances.get(connection, pending.instance_id)
    try:
        with InstanceFile(store, pending.sha256) as file:
            return holding_of(file, pending, receipt)
    except (CorruptInstanceError, *READ_ERRORS) as exc:
        if isinstance(exc, MemoryError):
            raise
        if receipt is None or isinstance(exc, OSError):
            raise CorruptInstanceError(f"{pending.sha256}: {exc}") from exc
        # bytes that were taken in and cannot be read: what intake knows of them
        return _from_receipt(receipt, pending, f"header left out: {type(exc).__name__}")


def holding_of(file: InstanceFile, pending: PendingHolding, receipt: Instance | None = None) -> NewHolding:
    """Make the index entry of an open instance.

    Args:
        file: Of the instance.
        pending: What waits to be indexed.
        receipt: What intake knows of a photograph; its identifiers count where the header has none.

    Raises:
        CorruptInstanceError: It has no identifiers, and there is no receipt.
    """
    left_out: list[str] = []
    header: dict[str, Any] = to_json(file.header, left_out)
    if file.pixels is not None:
        tag = f"{file.pixels.tag:08X}"
        header[tag] = {"vr": file.pixels.vr, "BulkDataURI": tag}
    for tag, name in _UID_TAGS.items():
        if receipt is not None and not _first(header, tag):
            header[tag] = {"vr": "UI", "Value": [getattr(receipt, name)]}
    uids = {name: _first(header, tag) for tag, name in _UID_TAGS.items()}
    if not all(uids.values()):
        raise CorruptInstanceError(f"{pending.sha256} has no identifiers")
    return NewHolding(
        instance=HeldInstance(
            **uids,
            transfer_syntax_uid=str(file.transfer_syntax),
            sha256=pending.sha256,
            size_bytes=file.size_bytes,
            number_of_frames=file.number_of_frames,
            instance_id=pending.instance_id,
            is_result=pending.is_result,
            patient=own_patient_id(
                issuer_of(file.header),
                text(file.header, "PatientID"),
                uids["study_instance_uid"],
            ),
        ),
        study=_level({tag: header[tag] for tag in header if tag in STUDY_TAGS}),
        series=_level({tag: header[tag] for tag in header if tag in SERIES_TAGS}),
        image=_level(header),
        remarks=(*file.remarks, *(f"{place} cannot be read as its VR" for place in left_out)),
    )


def _from_receipt(instance: Instance, pending: PendingHolding, remark: str) -> NewHolding:
    known = {tag: {"vr": "UI", "Value": [getattr(instance, name)]} for tag, name in _UID_TAGS.items()}
    if instance.patient_id:
        known["00100020"] = {"vr": "LO", "Value": [instance.patient_id]}
    return NewHolding(
        instance=HeldInstance(
            **{name: getattr(instance, name) for name in _UID_TAGS.values()},
            transfer_syntax_uid=instance.transfer_syntax_uid,
            sha256=pending.sha256,
            size_bytes=instance.size_bytes,
            number_of_frames=0,
            instance_id=pending.instance_id,
            is_result=False,
            patient=own_patient_id(
                instance.issuer_of_patient_id, instance.patient_id, instance.study_instance_uid
            ),
        ),
        study=_level({tag: known[tag] for tag in known if tag in STUDY_TAGS}),
        series=_level({tag: known[tag] for tag in known if tag in SERIES_TAGS}),
        image=_level(known),
        remarks=(remark,),
    )


def _level(attributes: Mapping[str, Any]) -> LevelAttributes:
    names = {}
    for tag, element in attributes.items():
        if element["vr"] == "PN":
            groups = [g for value in element.get("Value", ()) if value for g in value.values()]
            names[tag] = tuple(folded(group) for group in groups)
    return LevelAttributes(attributes=attributes, names=names)


def _first(header: Mapping[str, Any], tag: str) -> str:
    values = header.get(tag, {}).get("Value") or [""]
    return str(values[0] or "")


class Indexer:
    """Keeps the index close behind what is received, in a thread of its own.

    Args:
        pool: Of this process.
        store: Holds the bytes.
    """

    def __init__(self, pool: Pool, store: InstanceStore) -> None:
        self._pool = pool
        self._store = store
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch under way."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_PAUSE_S):
            try:
                while not self._stopped.is_set() and not catch_up(self._pool, self._store, 0.0):
                    pass
            except (DatabaseUnavailableError, MemoryError, OSError) as exc:
                _log.warning("indexer-waits", error=f"{type(exc).__name__}: {exc}")
            except (SemblanceError, psycopg.Error):  # a thread that ended would leave the index behind
                _log.exception("indexer-failed")
