"""The acceptor's association: a thread that serves requests, beside the upper layer's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pynetdicom.association import Association

from dicom_node.acceptor.upper_layer import AnnouncingQueue, StreamingDul
from dicom_node.intake.reception import ReceptionFactory

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity

_ESTABLISHED_PAUSE_S = 0.001
_ACTIVITY_WAIT_S = 0.25


class NodeAssociation(Association):
    """An acceptor association whose C-STOREs go to a reception factory."""

    def __init__(
        self, ae: ApplicationEntity, mode: str, *, receive: ReceptionFactory, max_pdu_bytes: int
    ) -> None:
        """See Association.

        Args:
            ae: Our application entity.
            mode: MODE_ACCEPTOR.
            receive: Begins a Reception.
            max_pdu_bytes: Longest P-DATA-TF PDU accepted.
        """
        super().__init__(ae, mode)
        self.identifier = uuid4().hex  # of this association, in ledger and log
        self.leave: Callable[[], None] = lambda: None  # called when the connection has ended
        self.establish: Callable[[], bool] = lambda: True  # takes a slot, if there is one
        self._serving = 0  # requests being answered
        activity = threading.Event()
        self.dul: StreamingDul = StreamingDul(
            self,
            receive=receive,
            max_pdu_bytes=max_pdu_bytes,
            activity=activity,
            ended=self._ended,
        )
        self.dimse.msg_queue = AnnouncingQueue(activity)
        self._reactor_checkpoint = _PacedCheckpoint(activity)
        self._reactor_checkpoint.set()
        self.acse_timeout = self.ae.acse_timeout
        self.network_timeout = self.ae.network_timeout

    def _ended(self) -> None:
        self.leave()

    def run_reactor(self) -> None:
        """Serve requests until the association ends; when serving fails, the connection ends, too."""
        try:
            super().run_reactor()
        except Exception:
            self.dul.give_up()
            raise

    def _serve_request(self, msg: Any, context_id: int) -> None:
        """Serve a request, not before we know ourselves that we accepted the association.

        pynetdicom serves an N-EVENT-REPORT in a thread of its own, and sends no response where the
        peer was quicker than the thread that accepts.
        """
        while not (self.is_established or self._kill):
            time.sleep(_ESTABLISHED_PAUSE_S)
        self._serving += 1
        try:
            super()._serve_request(msg, context_id)
        finally:
            self._serving -= 1

    def silent_since_s(self) -> float | None:
        """When the peer was heard last, by the monotonic clock; None while anything is under way."""
        return self.dul.silent_since_s() if not self._serving else None

    def kill(self) -> None:
        """End the association's threads."""
        super().kill()
        self.dul.wake()


class _PacedCheckpoint(threading.Event):
    """The reactor's checkpoint; passing it waits for activity, so that the reactor does not spin."""

    def __init__(self, activity: threading.Event) -> None:
        super().__init__()
        self._activity = activity

    def wait(self, timeout: float | None = None) -> bool:
        self._activity.wait(_ACTIVITY_WAIT_S)
        self._activity.clear()
        return super().wait(timeout)
