"""Indexes what was received and made: headers are read from the store, once each."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

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
from reporting.source import text
from service.database import instances
from service.database.pool import Connection, Pool, transaction
from service.errors import CorruptInstanceError, DatabaseUnavailableError, StorageError
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
            _log.warning("not-indexed", sop_instance_uid=pending.sop_instance_uid, error=type(exc).__name__)
            holdings.postpone(connection, pending.sop_instance_uid)
    holdings.add(connection, ready)


def _holding(connection: Connection, store: InstanceStore, pending: PendingHolding) -> NewHolding:
    try:
        with InstanceFile(store, pending.sha256) as file:
            return holding_of(file, pending)
    except CorruptInstanceError:
        if pending.is_result:
            raise
        # bytes that were taken in but pydicom cannot read: what intake knows of them
        return _from_receipt(instances.get(connection, pending.instance_id), pending)


def holding_of(file: InstanceFile, pending: PendingHolding) -> NewHolding:
    """Make the index entry of an open instance."""
    header: dict[str, Any] = to_json(file.header)
    if file.pixels is not None:
        tag = f"{file.pixels.tag:08X}"
        header[tag] = {"vr": file.pixels.vr, "BulkDataURI": tag}
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
                text(file.header, "IssuerOfPatientID"),
                text(file.header, "PatientID"),
                uids["study_instance_uid"],
            ),
        ),
        study=_level({tag: header[tag] for tag in header if tag in STUDY_TAGS}),
        series=_level({tag: header[tag] for tag in header if tag in SERIES_TAGS}),
        image=_level(header),
    )


def _from_receipt(instance: Instance, pending: PendingHolding) -> NewHolding:
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
