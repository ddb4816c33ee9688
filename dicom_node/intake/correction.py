"""Other bytes under a known SOP Instance UID: the same photograph, a correction, or neither."""

from __future__ import annotations

import structlog

from reporting.holdings.same_photograph import compare, is_same_header
from service.database import instances, ledger, versions
from service.database.pool import Pool, transaction
from service.database.versions import Resolution, Version
from service.records import LedgerEvent, NewInstance, Receipt
from service.storage.local import InstanceStore

_log = structlog.get_logger(__name__)


def settle(pool: Pool, store: InstanceStore, new: NewInstance) -> Receipt:
    """Say what an object is that was put in quarantine just now, and act on it.

    The same pixels under the same header are the same photograph in another encoding. Under another
    header they are a correction, which becomes the photograph's new version; but not under one that the
    photograph had before: where that names another patient, it stays where it is as a question. So does
    anything else.

    Args:
        pool: Of this process.
        store: Holds both.
        new: As it was recorded.

    Raises:
        StorageError, DatabaseUnavailableError: It stays in quarantine.
    """
    with transaction(pool) as connection:
        known = instances.by_uid(connection, new.sop_instance_uid)
        before = versions.earlier(connection, known.instance_id) if known is not None else []
    if known is None or known.sop_class_uid != new.sop_class_uid:
        return Receipt.QUARANTINED
    same = compare(store, known.sha256, new.sha256)
    if not same.pixels:
        return Receipt.QUARANTINED
    is_earlier = not same.header and any(is_same_header(store, each, new.sha256) for each in before)
    with transaction(pool) as connection:
        present = instances.lock(connection, known.instance_id)
        quarantine_id = versions.find_quarantined(connection, new.sop_instance_uid, new.sha256)
        if present.sha256 != known.sha256 or quarantine_id is None:
            return Receipt.QUARANTINED  # somebody else was faster: it is looked at again when it comes again
        detail = {"calling_ae_title": new.calling_ae_title, "peer_address": new.peer_address}
        if same.header or is_earlier:
            is_question = is_earlier and instances.is_about_another(known, new)
            if (
                not is_question
            ):  # else the correction was the mistake, or an old copy came: somebody has to say
                versions.resolve(connection, quarantine_id, Resolution.SAME, new.calling_ae_title)
            ledger.append(
                connection,
                LedgerEvent.RECEIVED_AGAIN,
                instance_id=known.instance_id,
                sop_instance_uid=new.sop_instance_uid,
                detail={**detail, "sha256": new.sha256, "encoding": new.transfer_syntax_uid},
            )
            return Receipt.AGAIN
        versions.resolve(connection, quarantine_id, Resolution.CORRECTED, new.calling_ae_title)
        versions.replace(connection, known.instance_id, version_of(new), detail)
        _log.info("corrected", sop_instance_uid=new.sop_instance_uid)
        return Receipt.CORRECTED


def version_of(new: NewInstance) -> Version:
    """An offered instance as a version of one that is known."""
    return Version(
        sha256=new.sha256,
        size_bytes=new.size_bytes,
        sop_class_uid=new.sop_class_uid,
        transfer_syntax_uid=new.transfer_syntax_uid,
        study_instance_uid=new.study_instance_uid,
        series_instance_uid=new.series_instance_uid,
        patient_id=new.patient_id,
        issuer_of_patient_id=new.issuer_of_patient_id,
    )
