"""Query/retrieve as the SCP: who may ask, what is found, and that it is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import structlog
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE
from pynetdicom.presentation import PresentationContext

from dicom_node.query.contexts import is_relational
from dicom_node.query.identifier import Identifier, answer, read_find, read_retrieve
from dicom_node.query.reply import Exchange, Request
from dicom_node.query.retrieve import Retrieval, by_get, by_move
from dicom_node.query.statuses import QueryStatus
from dicom_node.sender import Sender, sender_of
from reporting.holdings.answers import attributes_of
from reporting.holdings.database import holding_queries
from reporting.holdings.database.holding_records import HeldInstance, HoldingQuery
from reporting.holdings.index import catch_up
from reporting.holdings.recoding import Recoder
from service.audit import events, from_ledger, trail
from service.audit.codes import EventId, Role
from service.audit.message import AuditMessage
from service.config import Settings
from service.database.pool import Pool, transaction
from service.errors import DatabaseUnavailableError, QueryError
from service.records import LedgerEvent
from service.storage.local import InstanceStore

_log = structlog.get_logger(__name__)

_PAGE = 200  # matches read at once
_MOST_SUB_OPERATIONS = 65_535  # what their counters can say
CATCH_UP_S = 10.0  # longest a query waits for the index

# Puts a line into the ledger: event, SOP Instance UID, detail.
Record = Callable[[LedgerEvent, str, Mapping[str, str]], None]


def may_query(settings: Settings, calling_ae_title: str) -> bool:
    """Whether a caller may query and retrieve: only one that the settings name.

    Args:
        settings: ``dicom_query_ae_titles``, else every AE title of allowlists, peers and destinations.
        calling_ae_title: Of an association that was admitted.
    """
    known = set(settings.dicom_query_ae_titles)
    if not known:
        known = {
            *settings.dicom_allowed_calling_ae_titles,
            *(peer.ae_title for peer in settings.dicom_admitted_peers),
            *(node.ae_title for node in (*settings.dicom_peers, *settings.destinations)),
        } - {""}
    return calling_ae_title in known


class QueryProvider:
    """Serves C-FIND, C-MOVE and C-GET; shared by the associations of a process.

    Args:
        settings: Who may ask, and where to move to.
        pool: Of this process.
        store: Holds the bytes.
        record: Writes to the ledger.
    """

    def __init__(self, settings: Settings, pool: Pool, store: InstanceStore, record: Record) -> None:
        self._settings = settings
        self._pool = pool
        self._store = store
        self._record = record
        self._recoder = Recoder(store)

    def serve(self, association: Association, request: Request, context: PresentationContext) -> None:
        """Answer one request."""
        exchange = Exchange(association, request, context)
        sender = sender_of(association)
        if not may_query(self._settings, sender.calling_ae_title):
            self._refuse(exchange, sender, QueryStatus.NOT_AUTHORISED, "this AE title may not query")
            return
        is_find = isinstance(request, C_FIND)
        try:
            self._current()
            if is_find:
                self._find(exchange, sender)
            else:
                self._retrieve(exchange, sender)
        except QueryError as exc:
            self._refuse(exchange, sender, QueryStatus.DOES_NOT_MATCH, str(exc))
        except DatabaseUnavailableError as exc:
            _log.warning("query-without-database", error=str(exc))
            busy = QueryStatus.OUT_OF_RESOURCES if is_find else QueryStatus.CANNOT_COUNT
            self._refuse(exchange, sender, busy, "cannot answer at present")

    def _current(self) -> None:
        if not catch_up(self._pool, self._store, CATCH_UP_S):
            raise DatabaseUnavailableError("the index is behind what was received")

    def _find(self, exchange: Exchange, sender: Sender) -> None:
        identifier = read_find(
            exchange.identifier(), relational=is_relational(exchange.association, exchange.sop_class)
        )
        pending = QueryStatus.PENDING_UNMATCHED_KEYS if identifier.unmatched else QueryStatus.PENDING
        seen: set[tuple[str, str, str, str]] = set()
        status = QueryStatus.SUCCESS
        while status is QueryStatus.SUCCESS:
            query = HoldingQuery(
                level=identifier.query.level, conditions=identifier.conditions, limit=_PAGE, offset=len(seen)
            )
            with transaction(self._pool) as connection:
                page = holding_queries.search(connection, query)
            for match in page:
                uids = (
                    match.study_instance_uid,
                    match.series_instance_uid,
                    match.sop_instance_uid,
                    match.patient,
                )
                if not exchange.is_open or exchange.is_cancelled:
                    status = QueryStatus.CANCELLED
                    break
                if uids not in seen:
                    seen.add(uids)
                    known = attributes_of(match)
                    exchange.send(pending, answer(known, identifier, self._settings.dicom_ae_title))
            if len(page) < _PAGE:
                break
        self._note_query(sender, exchange, identifier, matches=len(seen), status=status)
        if exchange.is_open:
            exchange.send(status)

    def _retrieve(self, exchange: Exchange, sender: Sender) -> None:
        identifier = read_retrieve(
            exchange.identifier(), relational=is_relational(exchange.association, exchange.sop_class)
        )
        with transaction(self._pool) as connection:
            found = holding_queries.instances_of(connection, identifier.query)
        if len(found) > _MOST_SUB_OPERATIONS:
            self._refuse(exchange, sender, QueryStatus.CANNOT_COUNT, "more than 65535 instances")
            return
        retrieval = Retrieval(
            exchange=exchange,
            settings=self._settings,
            store=self._store,
            recoder=self._recoder,
            instances=tuple(found),
            calling_ae_title=sender.calling_ae_title,
            note=lambda instance, destination: self._note_retrieval(sender, instance, destination),
        )
        if isinstance(exchange.request, C_MOVE):
            destination = str(exchange.request.MoveDestination or "").strip()
            if not by_move(retrieval, destination):
                self._refuse(exchange, sender, QueryStatus.UNKNOWN_DESTINATION, "unknown move destination")
        else:
            by_get(retrieval)

    def _refuse(self, exchange: Exchange, sender: Sender, status: QueryStatus, reason: str) -> None:
        operation = {C_FIND: "C-FIND", C_MOVE: "C-MOVE", C_GET: "C-GET"}[type(exchange.request)]
        detail = {"reason": f"{operation}: {reason}", "status": f"0x{status:04X}"}
        _log.warning("refused", **sender.detail(), **detail)
        self._record(LedgerEvent.REFUSED, "", {**sender.detail(), **detail})
        if exchange.is_open:
            exchange.send(status, comment=reason)

    def _note_query(
        self,
        sender: Sender,
        exchange: Exchange,
        identifier: Identifier,
        *,
        matches: int,
        status: QueryStatus,
    ) -> None:
        detail = {
            "level": identifier.query.level.value,
            "keys": ",".join(sorted({each.tag for each in identifier.conditions})),
            "matches": str(matches),
            "status": f"0x{status:04X}",
        }
        _log.info("queried", **sender.detail(), **detail)
        with transaction(self._pool) as connection:
            trail.record(connection, [self._query_message(sender, exchange)])
        self._record(LedgerEvent.QUERIED, "", {**sender.detail(), **detail})

    def _query_message(self, sender: Sender, exchange: Exchange) -> AuditMessage:
        """The audit message of a query, with its identifier (PS3.15 section A.5.3.10)."""
        source = from_ledger.source_of(self._settings)
        return events.message(
            EventId.QUERY,
            datetime.now(UTC),
            source,
            participants=(
                events.node(
                    sender.calling_ae_title, sender.peer_address, role=Role.SOURCE, is_requestor=True
                ),
                events.node(
                    sender.called_ae_title,
                    "",
                    role=Role.DESTINATION,
                    is_requestor=False,
                    name=source.source_id,
                ),
            ),
            objects=(
                events.asked(exchange.sop_class, exchange.encoded_identifier, exchange.transfer_syntax),
            ),
        )

    def _note_retrieval(self, sender: Sender, instance: HeldInstance, destination: str) -> None:
        detail = {"destination": destination, "study_instance_uid": instance.study_instance_uid}
        self._record(LedgerEvent.RETRIEVED, instance.sop_instance_uid, {**sender.detail(), **detail})
