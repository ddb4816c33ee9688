"""The acceptor's association: a thread that serves requests, beside the upper layer's thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider

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
        self.dimse = _WholeMessages(self, self.dul)
        self._messages = self.dimse.msg_queue = _Messages(activity)
        self._turns = self._reactor_checkpoint = _PacedCheckpoint(activity)
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
        finally:
            self._turns.leave()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Send a request of ours in the body, and take its response, beside the thread that serves requests.

        That thread rests meanwhile; what the peer asks for in the meantime waits, and is served afterwards.
        pynetdicom's own way counts the thread as resting a moment too long, and hands out whatever comes
        next, be it a request of the peer's.

        Raises:
            RuntimeError: The association has ended.
        """
        with self._turns.taken(), self._messages.responses_only():
            if not self.is_established:
                raise RuntimeError("the association has ended")
            yield

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


class _WholeMessages(DIMSEServiceProvider):
    """Queues each message as a whole, whichever thread sends it."""

    def __init__(self, assoc: Association, dul: StreamingDul) -> None:
        super().__init__(assoc)
        self._dul = dul

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """See DIMSEServiceProvider."""
        with self._dul.whole_message():
            super().send_msg(primitive, context_id)


class _Messages(AnnouncingQueue):
    """The queue of messages that came; a thread that asked the peer for something gets responses only."""

    def __init__(self, activity: threading.Event) -> None:
        super().__init__(activity)
        self._asks = threading.local()

    @contextmanager
    def responses_only(self) -> Iterator[None]:
        """In the body this thread gets no request of the peer's; they are put back at its end."""
        aside: list[Any] = []
        self._asks.aside = aside
        try:
            yield
        finally:
            del self._asks.aside
            for each in aside:
                self.put(each)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """See Queue."""
        aside = getattr(self._asks, "aside", None)
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            item = super().get(block, left)
            if aside is None or item[1] is None or item[1].MessageIDBeingRespondedTo is not None:
                return item
            aside.append(item)


class _PacedCheckpoint(threading.Event):
    """The reactor's checkpoint; passing it waits for activity, so that the reactor does not spin.

    The reactor has the turn except while it waits here, so that nobody who takes it is beside the reactor.
    """

    def __init__(self, activity: threading.Event) -> None:
        super().__init__()
        self._activity = activity
        self._turn = threading.Lock()
        self._is_reactors = False

    def wait(self, timeout: float | None = None) -> bool:
        self.leave()
        self._activity.wait(_ACTIVITY_WAIT_S)
        self._activity.clear()
        is_set = super().wait(timeout)
        self._turn.acquire()
        self._is_reactors = True
        return is_set

    def leave(self) -> None:
        """Give the turn back; the reactor's own thread."""
        if self._is_reactors:
            self._is_reactors = False
            self._turn.release()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have the reactor rest here while the body runs."""
        with self._turn:
            yield
