"""The listening side of the node: one server that takes associations and hands objects to intake."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from pynetdicom import AE, _config, evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_node.acceptor.association import NodeAssociation
from dicom_node.acceptor.contexts import supported_contexts
from dicom_node.acceptor.query_association import QueryAssociation
from dicom_node.acceptor.slots import Connection, SlotLimits, Slots
from dicom_node.admission.admission import Admission
from dicom_node.admission.rates import RateTable
from dicom_node.admission.security import ServerTls, is_admitted, peer_certificate, server_tls
from dicom_node.commitment.provider import CommitmentProvider
from dicom_node.commitment.user import CommitmentUser
from dicom_node.encoding.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.intake.group_commit import GroupCommit
from dicom_node.intake.ingest import Ingest
from dicom_node.intake.journal import Journal
from dicom_node.query.contexts import extended_negotiation, settle_roles
from dicom_node.query.provider import QueryProvider
from dicom_node.readers import VERIFICATION
from dicom_node.sender import Sender, printable, sender_of
from dicom_node.sockets import BorderSocket
from reporting.holdings.index import Indexer
from service.config import Settings
from service.database.pool import Pool
from service.errors import StackError
from service.meters import REFUSED_ASSOCIATIONS
from service.records import LedgerEvent
from service.storage.local import InstanceStore

_log = structlog.get_logger(__name__)

_POLL_S = 0.1
_DRAIN_S = 10.0  # longest wait for objects under way when the node stops
_BACKLOG = 128
_CALLING_AE_NOT_RECOGNISED = (0x01, 0x01, 0x03)  # PS3.8 table 9-21: permanent, service user
_LOCAL_LIMIT_EXCEEDED = (0x02, 0x03, 0x02)  # rejected-transient, by the presentation related provider
_UNLIMITED = 1 << 30
_IDLE_S = 5.0  # without a word, after which an association makes room for a new one
_CONTEXT_REJECTIONS = {
    0x01: "user rejection",
    0x02: "no reason",
    0x03: "abstract syntax not supported",
    0x04: "transfer syntaxes not supported",
}


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What the server needs beside pynetdicom's own arguments."""

    ingest: Ingest
    queries: QueryProvider
    settings: Settings
    tls: ServerTls | None
    reuse_port: bool = False  # several processes listen on the port


class NodeServer(ThreadedAssociationServer):
    """Accepts connections; each gets a NodeAssociation."""

    daemon_threads = True
    request_queue_size = _BACKLOG

    def __init__(self, *args: Any, options: ServerOptions, **kwargs: Any) -> None:
        """See AssociationServer.

        Args:
            args: Passed on.
            options: Of ours.
            kwargs: Passed on.
        """
        self.options = options
        self.slots = Slots(_slot_limits(options.settings))
        self._connections: dict[socket.socket, Connection] = {}  # accepted, and not yet handled
        kwargs["request_handler"] = _Handler
        super().__init__(*args, **kwargs)

    def server_bind(self) -> None:
        """Bind, sharing the port with sibling processes when asked to."""
        if self.options.reuse_port and self.socket is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take the connection on, before it gets a thread."""
        self._connections[request] = self.slots.connect(request, str(client_address[0]))
        return True

    def taken_on(self, request: socket.socket) -> Connection:
        """What ``verify_request`` has made of a connection."""
        return self._connections.pop(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note what a connection did wrong before its association began.

        One that is closed without a word, as monitors do, is in the log alone.
        """
        address, error = str(client_address[0]), sys.exception()
        _log.warning("connection-failed", peer_address=address, exc_info=True)
        if error is not None and not isinstance(error, ssl.SSLEOFError | ConnectionError):
            detail = {"reason": f"no connection: {type(error).__name__}"}
            self.options.ingest.record_refusal("", _stranger(address), detail)


def _stranger(address: str) -> Sender:
    """Who has not said a name."""
    return Sender(calling_ae_title="", called_ae_title="", peer_address=address)


class _Handler(RequestHandler):
    """Makes the association of one connection."""

    server: NodeServer

    def handle(self) -> None:
        """Shake hands, if by TLS, in this connection's own thread and time; then begin the association."""
        self._connection = self.server.taken_on(self.request)
        tls = self.server.options.tls
        if tls is not None:
            self.request.settimeout(_handshake_s(self.server.options.settings))
            self.request = tls.context().wrap_socket(
                self.request, server_side=True, do_handshake_on_connect=False
            )
            self._connection.socket = self.request
            try:
                self.request.do_handshake()
            except OSError:
                self.server.slots.leave(self._connection)
                self.request.close()
                raise
        super().handle()

    def _create_association(self) -> NodeAssociation:
        options = self.server.options
        association = QueryAssociation(
            self.ae,
            MODE_ACCEPTOR,
            receive=options.ingest.begin,
            max_pdu_bytes=options.settings.dicom_max_pdu_bytes,
        )
        association.queries = options.queries
        address = str(self.remote.address)
        association.dul.note_unreadable = lambda reason: options.ingest.record_refusal(
            "", _stranger(address), {"reason": reason}
        )
        association._server = self.server
        association.name = f"AcceptorThread@{datetime.now(UTC):%Y%m%d%H%M%S}"
        connection = self._connection
        transport = BorderSocket(
            association, self.request, idle_timeout_s=options.settings.dicom_idle_timeout_s
        )
        transport.deadline = connection.begun_s + _handshake_s(options.settings)
        association.set_socket(transport)
        association.leave = lambda: self.server.slots.leave(connection)
        association.establish = lambda: self.server.slots.establish(connection, association)
        acceptor = association.acceptor
        acceptor.maximum_length = self.ae.maximum_pdu_size
        acceptor.ae_title = self.server.ae_title
        acceptor.address_info = self.local
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        acceptor.supported_contexts = _copies(self.server.contexts)
        association.requestor.address_info = self.remote
        for event, bound in self.server._handlers.items():
            for handler, args in [bound] if isinstance(bound, tuple) else bound:
                association.bind(event, handler, args)
        return association


def _copies(contexts: Sequence[PresentationContext]) -> list[PresentationContext]:
    """Contexts an association may write into (a deep copy costs milliseconds)."""
    copies = []
    for context in contexts:
        copy = PresentationContext()
        copy.abstract_syntax = context.abstract_syntax
        copy.transfer_syntax = list(context.transfer_syntax)
        copy.scu_role, copy.scp_role = context.scu_role, context.scp_role
        copies.append(copy)
    return copies


class Node:
    """The DICOM node of one process."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        store: InstanceStore,
        *,
        reuse_port: bool = False,
        rates: RateTable | None = None,
    ) -> None:
        """Bind the port and begin to accept associations.

        Args:
            settings: Everything named ``dicom_*``, and the database's time-out.
            pool: Of this process.
            store: Where objects go.
            reuse_port: Several processes listen on the port.
            rates: What they share of the callers' rates, taken over; None for one process.

        Raises:
            OSError: The port cannot be bound.
        """
        _config.LOG_HANDLER_LEVEL = "none"  # pynetdicom's own log shows names and values
        self._settings = settings
        self._commit = GroupCommit(settings)
        self._journal = Journal(pool)
        self._admission = Admission(settings, pool, rates)
        self._ingest = Ingest(
            settings=settings,
            store=store,
            pool=pool,
            commit=self._commit,
            journal=self._journal,
            admission=self._admission,
            most_inflated_bytes=settings.dicom_max_inflated_bytes,
        )
        self._indexer = Indexer(pool, store)
        queries = QueryProvider(settings, pool, store, self._journal.write)
        self._commitment = CommitmentProvider(settings, pool, store)
        self._commitment_user = CommitmentUser(settings, pool)
        entity = application_entity(settings)
        self._server = entity.make_server(
            (settings.dicom_host, settings.dicom_port),
            contexts=supported_contexts(),
            evt_handlers=[
                (evt.EVT_C_ECHO, _echo),
                (evt.EVT_N_ACTION, self._commitment.request),
                (evt.EVT_N_EVENT_REPORT, self._commitment_user.report),
                (evt.EVT_REQUESTED, self._requested),
                (evt.EVT_USER_ID, self._identified),
                (evt.EVT_SOP_EXTENDED, extended_negotiation),
                (evt.EVT_ACCEPTED, self._accepted),
                (evt.EVT_REJECTED, self._rejected),
            ],
            server_class=NodeServer,
            options=ServerOptions(
                ingest=self._ingest,
                queries=queries,
                settings=settings,
                tls=server_tls(settings),
                reuse_port=reuse_port,
            ),
        )
        entity._servers.append(self._server)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": _POLL_S}, name="dicom-listener"
        )
        self._thread.start()
        self._commitment.start()
        self._commitment_user.start()
        self._journal.start()
        self._indexer.start()

    @property
    def slots(self) -> Slots:
        """Who is connected."""
        assert isinstance(self._server, NodeServer)  # noqa: S101 -- for mypy; it was made as one
        return self._server.slots

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._server.server_address[1])

    def require_listening(self) -> None:
        """Do nothing while associations are accepted.

        Raises:
            StackError: The listener has ended.
        """
        if not self._thread.is_alive():
            raise StackError("the listener has ended")

    def stop(self) -> None:
        """Accept nothing more, let the objects under way end, abort what is left."""
        self._server.shutdown()
        self._thread.join()
        for association in self._server.active_associations:
            if isinstance(association, NodeAssociation):
                association.dul.drain(_DRAIN_S)
            if association.is_rejected:
                association.join(_DRAIN_S)  # it may be writing that down
            else:
                association.abort()
        self._commitment.stop()
        self._commitment_user.stop()
        self._indexer.stop()
        self._commit.close()
        self._journal.stop()
        self._admission.close()

    def _requested(self, event: Event) -> None:
        """Reject a caller that no row of the list admits, or that calls too often or without a user."""
        association = event.assoc
        settle_roles(association)
        transport, request = association.dul.socket, association.requestor.primitive
        sender = sender_of(association)
        certificate = peer_certificate(transport.socket) if transport is not None else None
        if is_admitted(
            self._settings.dicom_admitted_peers, sender.calling_ae_title, sender.peer_address, certificate
        ):
            rejection = self._admission.rejection(association, sender.calling_ae_title, sender.peer_address)
        else:
            rejection = _CALLING_AE_NOT_RECOGNISED
        if rejection is None and isinstance(association, NodeAssociation) and not association.establish():
            rejection = _LOCAL_LIMIT_EXCEEDED
        if rejection is None:
            if isinstance(transport, BorderSocket):
                transport.deadline = None
            return
        association.requestor.ae_title = request.calling_ae_title if request is not None else ""
        association.acse.send_reject(*rejection)
        self._rejected(event)
        association.kill()

    def _identified(self, event: Event) -> tuple[bool, None]:
        """Judge the user that a caller names; a handler of EVT_USER_ID."""
        identity, sender = self._admission.identify(event.assoc), sender_of(event.assoc)
        user = printable(identity.user)
        if identity.is_valid:
            _log.info("user-identified", user=user, **sender.detail())
        else:
            self._ingest.record_refusal("", sender, {"reason": "user identity not accepted", "user": user})
        return identity.is_valid, None

    def _accepted(self, event: Event) -> None:
        """Note what was not negotiated: many senders propose all they know, so it is one line.

        When nothing was, the association is of no use to the sender, and the ledger has it too.
        """
        self._journal_association(event.assoc)
        rejected = event.assoc.rejected_contexts
        if not rejected:
            return
        detail = {
            "reason": ", ".join(
                sorted(
                    {
                        _CONTEXT_REJECTIONS.get(c.result or 0, "presentation context rejected")
                        for c in rejected
                    }
                )
            ),
            "contexts": str(len(rejected)),
            "abstract_syntaxes": ",".join(_some({str(c.abstract_syntax) for c in rejected})),
            "transfer_syntaxes": ",".join(_some({str(uid) for c in rejected for uid in c.transfer_syntax})),
        }
        sender = sender_of(event.assoc)
        if event.assoc.accepted_contexts:
            _log.info("contexts-rejected", **sender.detail(), **detail)
        else:
            self._ingest.record_refusal("", sender, detail)

    def _journal_association(self, association: Association) -> None:
        """Put an association into the ledger; one for C-ECHO alone, as monitors make, is in the log."""
        accepted = {str(c.abstract_syntax) for c in association.accepted_contexts} - {str(VERIFICATION)}
        if accepted:
            user = _user_of(association) if self._settings.dicom_users_file is not None else ""
            detail = {**sender_of(association).detail(), "abstract_syntaxes": ",".join(_some(accepted))}
            asked = association.dul.asked if isinstance(association, NodeAssociation) else None
            if asked is not None and asked.remarks:
                detail["remarks"] = "; ".join(asked.remarks[:8])
            self._journal.write(LedgerEvent.ASSOCIATED, "", detail | ({"user": user} if user else {}))

    def _rejected(self, event: Event) -> None:
        answer = event.assoc.acceptor.primitive
        reason = f"{answer.reason_str}" if answer is not None else "association rejected"
        REFUSED_ASSOCIATIONS.inc()
        self._ingest.record_refusal("", sender_of(event.assoc), {"reason": f"association rejected: {reason}"})


def _handshake_s(settings: Settings) -> float:
    return min(settings.dicom_handshake_timeout_s, settings.dicom_idle_timeout_s)


def _slot_limits(settings: Settings) -> SlotLimits:
    """At most three quarters of the slots for one address, so that nobody keeps all others out."""
    most = settings.dicom_max_associations
    return SlotLimits(
        associations=most,
        of_address=settings.dicom_max_associations_per_address or max(min(most, 4), most * 3 // 4),
        idle_s=_IDLE_S,
    )


def _user_of(association: Association) -> str:
    """The name of the user who was identified; "" for a token (PS3.7 section D.3.3.7) or nobody."""
    identity = association.requestor.user_identity
    if identity is None or identity.user_identity_type not in {1, 2}:
        return ""
    return printable((identity.primary_field or b"").decode("utf-8", "replace"))


def _some(uids: set[str], limit: int = 8) -> list[str]:
    """The first few of many UIDs, for a log line."""
    return [printable(uid) for uid in sorted(uids)[:limit]] + (["..."] if len(uids) > limit else [])


def application_entity(settings: Settings) -> AE:
    """Our application entity, as the acceptor."""
    entity = AE(ae_title=settings.dicom_ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = settings.dicom_max_pdu_bytes
    entity.maximum_associations = _UNLIMITED  # by pynetdicom, which counts threads; see Slots
    entity.acse_timeout = _handshake_s(settings)
    entity.dimse_timeout = settings.dicom_idle_timeout_s
    entity.network_timeout = settings.dicom_idle_timeout_s
    entity.require_called_aet = settings.dicom_require_called_ae_title
    entity.require_calling_aet = list(settings.dicom_allowed_calling_ae_titles)
    return entity


def _echo(event: Event) -> int:
    _log.info("echo", **sender_of(event.assoc).detail())
    return 0x0000
