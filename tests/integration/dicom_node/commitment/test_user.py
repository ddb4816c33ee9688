"""We ask destinations to commit: they report at once, later, or that they do not."""

from __future__ import annotations

import queue
import threading
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, build_role, evt
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.events import Event

from dicom_node.acceptor.scp import Node
from dicom_node.commitment.provider import WELL_KNOWN_INSTANCE, report_of
from dicom_node.delivery.deliver import deliver
from dicom_node.readers import STORAGE_COMMITMENT_PUSH_MODEL as PUSH_MODEL
from service.config import Settings
from service.database import ledger
from service.database.delivery import deliveries
from service.database.pool import Pool, transaction
from service.peers import Destination
from service.pipeline.context import Context
from service.records import DeliveryState, LedgerEvent
from service.stack.waiting import wait_until
from service.storage.local import InstanceStore
from tests import dicom_objects
from tests.dicom_objects import photograph
from tests.nodes import running
from tests.orthanc import Orthanc


@pytest.fixture
def quick(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"sweep_interval_s": 0.2, "retry_base_s": 0.1, "retry_cap_s": 0.2, "delivery_timeout_s": 5.0}
    )


class Pacs:
    """A destination whose answer to a commitment request the test decides."""

    def __init__(self, *, commits: bool, calls_back: bool) -> None:
        self.commits, self.calls_back = commits, calls_back
        self.node_port = 0
        self.answers: queue.Queue[int | None] = queue.Queue()  # to its reports
        ae = AE(ae_title="PACS")
        ae.add_supported_context(SecondaryCaptureImageStorage, ExplicitVRLittleEndian)
        ae.add_supported_context(PUSH_MODEL, ImplicitVRLittleEndian)
        handlers = [(evt.EVT_C_STORE, lambda _: 0x0000), (evt.EVT_N_ACTION, self.asked)]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)

    def destination(self) -> Destination:
        port = self.server.server_address[1]
        return Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port, storage_commitment=True)

    def asked(self, event: Event) -> tuple[int, None]:
        threading.Thread(target=self.report, args=(event.assoc, event.action_information)).start()
        return 0x0000, None

    def report(self, association: Association, action: Dataset) -> None:
        information = Dataset()
        information.TransactionUID = action.TransactionUID
        if self.commits:
            information.ReferencedSOPSequence = action.ReferencedSOPSequence
        else:
            information.FailedSOPSequence = action.ReferencedSOPSequence
            information.FailedSOPSequence[0].FailureReason = 0x0112
        event_type = 1 if self.commits else 2
        if self.calls_back:
            ae = AE(ae_title="PACS")
            ae.add_requested_context(PUSH_MODEL)
            association = ae.associate(
                "127.0.0.1", self.node_port, ext_neg=[build_role(PUSH_MODEL, scp_role=True)]
            )
        status, _ = association.send_n_event_report(information, event_type, PUSH_MODEL, WELL_KNOWN_INSTANCE)
        self.answers.put(status.get("Status"))
        if self.calls_back:
            association.release()


def due_delivery(node: Node, pool: Pool, store: InstanceStore, destination: str) -> int:
    """A received photograph with a result that is due; answers the delivery."""
    source = photograph()
    assert dicom_objects.store(node.port, source).Status == 0x0000
    result = photograph(sop_class=SecondaryCaptureImageStorage, transfer_syntax=ExplicitVRLittleEndian)
    encoded = BytesIO()
    dcmwrite(encoded, result, enforce_file_format=True)
    kept = store.put(encoded.getvalue())
    with transaction(pool) as connection:
        row = connection.execute("UPDATE instance SET state = 'reported' RETURNING instance_id").fetchone()
        assert row is not None
        appraisal_id = uuid4()
        connection.execute(
            "INSERT INTO appraisal VALUES (%s, %s, '', 'symmetry', '1', '', '', '', '', '', 'rejected',"
            " ARRAY['yaw'], NULL, NULL, NULL, %s, %s, '{}', '', '')",
            (appraisal_id, row["instance_id"], Jsonb([]), Jsonb({})),
        )
        delivery_id = deliveries.add(
            connection,
            instance_id=row["instance_id"],
            appraisal_id=appraisal_id,
            destination=destination,
            sop_class_uid=result.SOPClassUID,
            sop_instance_uid=result.SOPInstanceUID,
            sha256=kept.sha256,
        )
    assert delivery_id is not None
    return delivery_id


def state(pool: Pool, delivery_id: int) -> DeliveryState:
    with transaction(pool) as connection:
        return deliveries.get(connection, delivery_id).state


def last_event(pool: Pool) -> LedgerEvent:
    with transaction(pool) as connection:
        return ledger.latest(connection, 1)[0].event


@pytest.mark.parametrize("calls_back", [False, True])
def test_what_is_committed_closes_the_ledger(
    quick: Settings, pool: Pool, store: InstanceStore, calls_back: bool
) -> None:
    pacs = Pacs(commits=True, calls_back=calls_back)
    chosen = quick.model_copy(update={"destinations": (pacs.destination(),)})
    with running(chosen, pool, store) as node:
        pacs.node_port = node.port
        delivery_id = due_delivery(node, pool, store, "pacs")
        deliver(Context(settings=chosen, pool=pool, store=store), delivery_id)
        wait_until(
            lambda: state(pool, delivery_id) is DeliveryState.COMMITTED, timeout_s=60, what="the commitment"
        )
    assert last_event(pool) is LedgerEvent.COMMITTED
    pacs.server.shutdown()


def test_the_association_is_not_released_before_the_report_is_answered(
    quick: Settings, pool: Pool, store: InstanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = DIMSEServiceProvider.send_msg

    def send_late(self: DIMSEServiceProvider, primitive: Any, context_id: int) -> None:
        if isinstance(primitive, N_EVENT_REPORT) and primitive.MessageIDBeingRespondedTo is not None:
            threading.Event().wait(0.3)  # time enough to ask for release
        send(self, primitive, context_id)

    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", send_late)
    pacs = Pacs(commits=True, calls_back=False)
    chosen = quick.model_copy(update={"destinations": (pacs.destination(),)})
    with running(chosen, pool, store) as node:
        deliver(Context(settings=chosen, pool=pool, store=store), due_delivery(node, pool, store, "pacs"))
        assert pacs.answers.get(timeout=60) == 0x0000
    pacs.server.shutdown()


def test_what_is_not_committed_is_sent_again(quick: Settings, pool: Pool, store: InstanceStore) -> None:
    pacs = Pacs(commits=False, calls_back=False)
    chosen = quick.model_copy(update={"destinations": (pacs.destination(),)})
    context = Context(settings=chosen, pool=pool, store=store)
    with running(chosen, pool, store) as node:
        delivery_id = due_delivery(node, pool, store, "pacs")
        deliver(context, delivery_id)
        wait_until(
            lambda: state(pool, delivery_id) is DeliveryState.PENDING, timeout_s=60, what="the second try"
        )
        with transaction(pool) as connection:
            row = connection.execute("SELECT subject_id FROM outbox WHERE task = 'deliver'").fetchone()
        assert row == {"subject_id": str(delivery_id)}
        pacs.commits = True
        deliver(context, delivery_id)
        wait_until(
            lambda: state(pool, delivery_id) is DeliveryState.COMMITTED, timeout_s=60, what="the commitment"
        )
    pacs.server.shutdown()


def test_a_report_nobody_asked_for_is_refused(
    quick: Settings, pool: Pool, store: InstanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it comes before our own thread has noticed that the association is accepted."""
    accept, serve = ACSE.send_accept, Association._serve_request
    served = threading.Event()

    def notice_late(self: ACSE) -> None:
        accept(self)
        served.wait(0.5)  # nothing is, while we have not noticed

    def serve_and_tell(self: Association, *request: Any) -> None:
        serve(self, *request)
        served.set()

    monkeypatch.setattr(ACSE, "send_accept", notice_late)
    monkeypatch.setattr(Association, "_serve_request", serve_and_tell)
    with running(quick, pool, store) as node:
        ae = AE(ae_title="PACS")
        ae.add_requested_context(PUSH_MODEL)
        association = ae.associate("127.0.0.1", node.port, ext_neg=[build_role(PUSH_MODEL, scp_role=True)])
        _, information = report_of("1.2.3", [])
        status, _ = association.send_n_event_report(information, 1, PUSH_MODEL, WELL_KNOWN_INSTANCE)
        association.release()
    assert status.Status == 0x0112


@pytest.mark.peers("Orthanc")
def test_orthanc_commits(quick: Settings, pool: Pool, store: InstanceStore, tmp_path: Path) -> None:
    orthanc = Orthanc(tmp_path)
    destination = Destination(
        name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=orthanc.dicom_port, storage_commitment=True
    )
    chosen = quick.model_copy(update={"destinations": (destination,)})
    with running(chosen, pool, store) as node:
        orthanc.configuration["DicomModalities"] = {"semblance": ["SEMBLANCE", "127.0.0.1", node.port]}
        with orthanc:
            delivery_id = due_delivery(node, pool, store, "orthanc")
            deliver(Context(settings=chosen, pool=pool, store=store), delivery_id)
            wait_until(
                lambda: state(pool, delivery_id) is DeliveryState.COMMITTED,
                timeout_s=60,
                what="Orthanc's commitment",
            )
