"""Who asks for storage commitment, and gets the report."""

from __future__ import annotations

import queue

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from dicom_node.commitment.provider import WELL_KNOWN_INSTANCE
from dicom_node.readers import STORAGE_COMMITMENT_PUSH_MODEL as PUSH_MODEL
from service.database.pool import Pool, transaction
from service.stack.waiting import wait_until

Reports = queue.Queue  # of (event type, Event Information)


def note(event: Event, reports: Reports) -> tuple[int, None]:
    reports.put((event.event_type, event.event_information))
    return 0x0000, None


def ask(port: int, action: Dataset, reports: Reports | None = None) -> tuple[int, Association]:
    ae = AE(ae_title="CAMERA")
    ae.add_requested_context(PUSH_MODEL, ImplicitVRLittleEndian)
    handlers = [(evt.EVT_N_EVENT_REPORT, note, [reports])] if reports is not None else []
    association = ae.associate("127.0.0.1", port, ae_title="SEMBLANCE", evt_handlers=handlers)
    assert association.is_established
    status, _ = association.send_n_action(action, 1, PUSH_MODEL, WELL_KNOWN_INSTANCE)
    return status.Status, association


def release_when_reported(association: Association, pool: Pool) -> None:
    """Release only once the node has its answer: who releases first may not answer any more (PS3.8 9.2)."""

    def reported() -> bool:
        with transaction(pool) as connection:
            row = connection.execute(
                "SELECT count(*) AS waiting FROM commitment_request WHERE reported_at IS NULL"
            ).fetchone()
        return row is not None and row["waiting"] == 0

    wait_until(reported, timeout_s=60, what="the answer to the report")
    association.release()
