"""Who asks for storage commitment, and gets the report."""

from __future__ import annotations

import queue
from collections.abc import Callable

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


def ask_and_hear(
    port: int, action: Callable[[], Dataset], reports: Reports
) -> tuple[Dataset, Association, tuple[int, Dataset]]:
    """Ask for commitment, and once more if no report comes, as senders do.

    pynetdicom as a sender now and then loses a report that follows hard upon the response.

    Args:
        port: Of the node.
        action: Makes a request of its own Transaction UID.
        reports: Where they come.

    Returns:
        The request that was reported on, its association, and the report: event type and information.
    """
    for timeout in (20, 60):
        asked = action()
        status, association = ask(port, asked, reports)
        assert status == 0x0000
        try:
            return asked, association, reports.get(timeout=timeout)
        except queue.Empty:
            association.abort()
    raise AssertionError("no report came")


def release_when_reported(association: Association, pool: Pool) -> None:
    """Release only once the node has its answer: who releases first may not answer any more (PS3.8 9.2)."""

    def reported() -> bool:
        with transaction(pool) as connection:
            row = connection.execute(
                "SELECT reported_at FROM commitment_request ORDER BY commitment_id DESC LIMIT 1"
            ).fetchone()
        return row is not None and row["reported_at"] is not None

    wait_until(reported, timeout_s=60, what="the answer to the report")
    association.release()
