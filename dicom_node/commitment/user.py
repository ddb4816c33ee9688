"""Storage commitment as the SCU: destinations are asked to commit to what they took (PS3.4 annex J).

A destination is asked until it reports. What it commits to is marked committed and closes the ledger;
what it does not is sent again.
"""

from __future__ import annotations

import threading

import structlog
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom import build_context, evt
from pynetdicom.events import Event
from pynetdicom.pdu import P_DATA_TF

from dicom_node.commitment.provider import WELL_KNOWN_INSTANCE
from dicom_node.delivery.scu import calling_entity, destination_named, tls_args
from dicom_node.readers import STORAGE_COMMITMENT_PUSH_MODEL
from dicom_node.sender import printable, sender_of
from service.config import Settings
from service.database import instances, ledger, outbox
from service.database.delivery import commitments_wanted, deliveries
from service.database.delivery.commitments_wanted import WantedCommitment
from service.database.pool import Connection, Pool, transaction
from service.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    DeliveryError,
    DestinationRefusedError,
    DestinationUnreachableError,
)
from service.peers import Destination
from service.pipeline.backoff import delay_s
from service.records import Delivery, LedgerEvent
from service.steps import DELIVER

_log = structlog.get_logger(__name__)

_SUCCESS, _NO_SUCH_INSTANCE, _FAILURE = 0x0000, 0x0112, 0x0110
_REQUEST_STORAGE_COMMITMENT = 1
_REPORT_WAIT_S = 5.0  # on the association of the request; afterwards the destination calls us
_ASK_AGAIN_S = 120.0  # when no report came


class CommitmentUser:
    """Asks for what is due, in a thread of its own; takes reports."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        """Nothing is asked before ``start``.

        Args:
            settings: Destinations, time-outs, backoff.
            pool: Of this process.
        """
        self._settings = settings
        self._pool = pool
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commitment-requests")

    def start(self) -> None:
        """Begin to ask, if any destination commits at all."""
        if any(each.storage_commitment for each in self._settings.destinations):
            self._thread.start()

    def stop(self) -> None:
        """Ask no more; what is due stays due."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def report(self, event: Event) -> tuple[int, None]:
        """Take an N-EVENT-REPORT; a handler of EVT_N_EVENT_REPORT."""
        information = event.event_information
        transaction_uid = str(information.get("TransactionUID", ""))
        committed = {str(i.ReferencedSOPInstanceUID) for i in information.get("ReferencedSOPSequence") or []}
        try:
            with transaction(self._pool) as connection:
                wanted = commitments_wanted.lock(connection, transaction_uid)
                if wanted is None:
                    _log.warning(
                        "commitment-report-unasked",
                        transaction_uid=printable(transaction_uid),
                        **sender_of(event.assoc).detail(),
                    )
                    return _NO_SUCH_INSTANCE, None
                self._settle(connection, wanted, committed, transaction_uid)
        except DatabaseUnavailableError as exc:
            _log.warning("commitment-report-not-taken", error=str(exc))
            return _FAILURE, None
        return _SUCCESS, None

    def _settle(
        self, connection: Connection, wanted: WantedCommitment, committed: set[str], transaction_uid: str
    ) -> None:
        delivery = deliveries.get(connection, wanted.delivery_id)
        instance = instances.get(connection, delivery.instance_id)
        commitments_wanted.settle(connection, delivery.delivery_id)
        detail = {
            "destination": delivery.destination,
            "result": delivery.sop_instance_uid,
            "transaction_uid": transaction_uid,
        }
        event = LedgerEvent.COMMITTED
        if delivery.sop_instance_uid in committed:
            deliveries.mark_committed(connection, delivery.delivery_id)
        else:
            event = LedgerEvent.DELIVERY_FAILED
            detail["error"] = "the destination does not commit to it; it is sent again"
            wait_s = delay_s(wanted.attempts, self._settings)
            deliveries.send_again(connection, delivery.delivery_id, wait_s)
            outbox.put_after(connection, DELIVER.task, DELIVER.queue, delivery.delivery_id, wait_s)
        ledger.append(
            connection,
            event,
            instance_id=instance.instance_id,
            sop_instance_uid=instance.sop_instance_uid,
            detail=detail,
        )

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                while not self._stopped.is_set() and self._ask_next():
                    pass
            except DatabaseUnavailableError as exc:
                _log.warning("commitment-requests-wait", error=str(exc))
            self._stopped.wait(self._settings.sweep_interval_s)

    def _ask_next(self) -> bool:
        with transaction(self._pool) as connection:
            wanted = commitments_wanted.claim(connection, _ASK_AGAIN_S)
            if wanted is None:
                return False
            delivery = deliveries.get(connection, wanted.delivery_id)
        try:
            self._ask(wanted, delivery, destination_named(self._settings, delivery.destination))
        except (DeliveryError, ConfigurationError) as exc:
            _log.warning("commitment-request-failed", delivery_id=delivery.delivery_id, error=str(exc))
            with transaction(self._pool) as connection:
                commitments_wanted.postpone(
                    connection,
                    delivery.delivery_id,
                    printable(str(exc), 200),
                    delay_s(wanted.attempts, self._settings),
                )
        return True

    def _ask(self, wanted: WantedCommitment, delivery: Delivery, destination: Destination) -> None:
        """Send the N-ACTION, and stay a little: many report on the association they were asked on.

        Raises:
            DeliveryError: Not asked, or refused.
        """
        judged, answered = threading.Event(), threading.Event()

        def report(event: Event) -> tuple[int, None]:
            answer = self.report(event)
            judged.set()
            return answer

        def sent(event: Event) -> None:
            if judged.is_set() and isinstance(event.pdu, P_DATA_TF):
                answered.set()  # not before: who has asked for release may send nothing more (PS3.8 9.2)

        association = calling_entity(self._settings).associate(
            destination.host,
            destination.port,
            contexts=[build_context(STORAGE_COMMITMENT_PUSH_MODEL)],
            ae_title=destination.ae_title,
            tls_args=tls_args(destination, self._settings),
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, report), (evt.EVT_PDU_SENT, sent)],
        )
        if not association.is_established:
            raise DestinationUnreachableError(f"{destination.name}: no association for storage commitment")
        # Silence while we wait for the report is no fault: the idle time-out must not race our release.
        association.network_timeout = self._settings.delivery_timeout_s + _REPORT_WAIT_S
        try:
            response, _ = association.send_n_action(
                _action(wanted, delivery),
                _REQUEST_STORAGE_COMMITMENT,
                STORAGE_COMMITMENT_PUSH_MODEL,
                WELL_KNOWN_INSTANCE,
            )
            status = response.get("Status")
            if status != _SUCCESS:
                raise DestinationRefusedError(
                    f"{destination.name} answered {status!r} to a commitment request"
                )
            answered.wait(_REPORT_WAIT_S)
        except (RuntimeError, ValueError) as exc:
            raise DestinationUnreachableError(f"{destination.name}: {exc}") from exc
        finally:
            if association.is_established:
                association.release()


def _action(wanted: WantedCommitment, delivery: Delivery) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = delivery.sop_class_uid
    item.ReferencedSOPInstanceUID = delivery.sop_instance_uid
    information = Dataset()
    information.TransactionUID = wanted.transaction_uid
    information.ReferencedSOPSequence = Sequence([item])
    return information
