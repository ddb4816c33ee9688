"""Which lines of the ledger give which audit messages.

The ledger is written in the transaction that makes an event true; messages made from it can be neither
lost nor made up. What arrived together for one study becomes one message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

import structlog

from service.audit import events
from service.audit.codes import Action, EventId, EventType, Outcome, Role
from service.audit.message import (
    AuditMessage,
    AuditSource,
    Participant,
    ParticipantObject,
    SopClassCount,
)
from service.config import Settings
from service.database.sealing.seals import LedgerRow
from service.peers import Destination
from service.records import LedgerEvent

_log = structlog.get_logger(__name__)

_NAMED_INSTANCES = 100  # named one by one in a message up to so many; it stays under 32 KB (PS3.15 A.6)
_ALONE = frozenset(
    {
        LedgerEvent.ASSOCIATED,
        LedgerEvent.REFUSED,
        LedgerEvent.LOGGED_IN,
        LedgerEvent.LOGGED_OUT,
        LedgerEvent.LOGIN_REFUSED,
        LedgerEvent.SETTING_CHANGED,
    }
)  # each has a message of its own
_LONGEST_VALUE = 4000  # letters of a setting's value in a message; the ledger has all
_TRANSIENT = "0xA7"  # statuses that ask the sender to try again (PS3.4 section B.2.3)


def source_of(settings: Settings) -> AuditSource:
    """Who we are in audit messages."""
    return AuditSource(
        source_id=settings.audit_source_id or settings.dicom_ae_title,
        enterprise_site_id=settings.audit_enterprise_site_id,
    )


def messages(rows: Iterable[LedgerRow], settings: Settings) -> list[AuditMessage]:
    """The audit messages of some lines of the ledger, in their order.

    A line of which none can be made gives an alert that says so: the chain must not wait for it for ever.

    Args:
        rows: In their order; those that differ in the instance only become one message.
        settings: Who we are, and who the destinations are.
    """
    groups: dict[tuple[str, ...], list[LedgerRow]] = {}
    for row in rows:
        if row.event in MAKERS:
            groups.setdefault(_together(row), []).append(row)
    return [made for each in groups.values() for chunk in _chunks(each) for made in _made(chunk, settings)]


def _made(rows: Sequence[LedgerRow], settings: Settings) -> list[AuditMessage]:
    """The message of some lines; where it cannot be made, one for each of them."""
    try:
        for row in rows:
            _require_texts(row.detail)
        message = MAKERS[rows[0].event](rows, settings)
        message.at.astimezone(UTC)  # as its XML says it
    except (OverflowError, TypeError, ValueError) as exc:
        if len(rows) > 1:
            return [made for row in rows for made in _made([row], settings)]
        _log.error("audit-message-impossible", ledger_id=rows[0].ledger_id, error=type(exc).__name__)
        return [_untold(rows[0], settings)]
    return [message]


def _require_texts(detail: object) -> None:
    """Check that a detail is texts by name, as PostgreSQL does not.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(detail, Mapping) or not all(isinstance(value, str) for value in detail.values()):
        raise TypeError("a detail is texts by name")


def _untold(row: LedgerRow, settings: Settings) -> AuditMessage:
    """The alert in place of a line's message; nothing of the line's detail goes into it."""
    return events.message(
        EventId.SECURITY_ALERT,
        row.at,
        source_of(settings),
        kind=EventType.USE_OF_RESTRICTED_FUNCTION,
        participants=(ourselves(settings, role=None, is_requestor=False),),
        description=f"ledger line {row.ledger_id} ({row.event}): no audit message can be made of it",
        outcome=Outcome.SERIOUS_FAILURE,
        objects=(
            events.alerted(
                settings.dicom_ae_title,
                f"ledger line {row.ledger_id} ({row.event}): no audit message can be made of it",
            ),
        ),
    )


def _chunks(rows: list[LedgerRow]) -> list[list[LedgerRow]]:
    return [rows[i : i + _NAMED_INSTANCES] for i in range(0, len(rows), _NAMED_INSTANCES)]


def _together(row: LedgerRow) -> tuple[str, ...]:
    """What lines of one message have in common; an alert is always alone, and what is not as it should be."""
    if row.event in _ALONE or not isinstance(row.detail, Mapping):
        return (str(row.ledger_id),)
    keys = ("association", "calling_ae_title", "peer_address", "destination", "error", "status", "note", "by")
    return (
        row.event,
        row.study_instance_uid,
        str(row.detail.get("study_instance_uid", "")),
        row.patient_id,
        row.issuer_of_patient_id,
        *(str(row.detail.get(key, "")) for key in keys),
    )


def _at(row: LedgerRow) -> datetime:
    """When it happened; a line that had to wait for the database says so itself."""
    occurred = row.detail.get("occurred_at")
    return datetime.fromisoformat(occurred) if occurred else row.at


def ourselves(
    settings: Settings, *, role: Role | None, is_requestor: bool, ae_title: str = ""
) -> Participant:
    """Our process or node, as a participant."""
    return events.node(
        ae_title or settings.dicom_ae_title,
        "",
        role=role,
        is_requestor=is_requestor,
        name=source_of(settings).source_id,
    )


def _caller(row: LedgerRow, role: Role | None, *, is_requestor: bool) -> Participant:
    return events.node(
        row.detail.get("calling_ae_title", ""),
        row.detail.get("peer_address", ""),
        role=role,
        is_requestor=is_requestor,
        name=row.detail.get("user", ""),
    )


def _objects(rows: Sequence[LedgerRow], *, results: bool = False) -> tuple[ParticipantObject, ...]:
    """Study and patient of lines that share them."""
    first = rows[0]
    counts: dict[str, list[str]] = {}
    for row in rows:
        sop_class = row.result_sop_class_uid if results else row.sop_class_uid
        counts.setdefault(sop_class, []).append(
            row.detail.get("result", "") if results else row.sop_instance_uid
        )
    sop_classes = [
        SopClassCount(
            sop_class_uid=sop_class,
            number_of_instances=len(uids),
            sop_instance_uids=tuple(uid for uid in uids if uid),
        )
        for sop_class, uids in counts.items()
    ]
    study = events.study(first.study_instance_uid or first.detail.get("study_instance_uid", ""), sop_classes)
    patient = events.patient(first.patient_id, first.issuer_of_patient_id)
    return (study, patient) if first.is_known else (study,)


def _received(rows: Sequence[LedgerRow], settings: Settings) -> AuditMessage:
    first = rows[0]
    failed = first.event == LedgerEvent.QUARANTINED
    return events.message(
        EventId.INSTANCES_TRANSFERRED,
        max(map(_at, rows)),
        source_of(settings),
        action=Action.CREATE if first.event == LedgerEvent.RECEIVED else Action.READ,
        participants=(
            _caller(first, Role.SOURCE, is_requestor=True),
            ourselves(settings, role=Role.DESTINATION, is_requestor=False, ae_title=first.called_ae_title),
        ),
        objects=_objects(rows),
        outcome=Outcome.SERIOUS_FAILURE if failed else Outcome.SUCCESS,
        description="other bytes under a known SOP Instance UID; quarantined" if failed else "",
    )


def destination_participant(settings: Settings, name: str) -> Participant:
    """Where results go: by its name in the settings, or AE title; the name alone when it is not there."""
    known: Destination | None = next(
        (
            each
            for each in (*settings.destinations, *settings.dicom_peers)
            if name in {each.name, each.ae_title}
        ),
        None,
    )
    return events.node(
        known.ae_title if known else "",
        (known.host or known.url) if known else "",
        role=Role.DESTINATION,
        is_requestor=False,
        name=name,
    )


def _sent(rows: Sequence[LedgerRow], settings: Settings) -> AuditMessage:
    first = rows[0]
    failed = first.event == LedgerEvent.DELIVERY_FAILED
    return events.message(
        EventId.INSTANCES_TRANSFERRED,
        max(map(_at, rows)),
        source_of(settings),  # what the destination held before is not known to us
        participants=(
            ourselves(settings, role=Role.SOURCE, is_requestor=True),
            destination_participant(settings, first.detail.get("destination", "")),
        ),
        action=Action.READ,
        objects=_objects(rows, results=True),
        outcome=Outcome.MINOR_FAILURE if failed else Outcome.SUCCESS,
        description=first.detail.get("error", "") if failed else "",
    )


def _retrieved(rows: Sequence[LedgerRow], settings: Settings) -> AuditMessage:
    """Sent to a node that a query named (C-MOVE), or back to who asked (C-GET, WADO-RS)."""
    first = rows[0]
    to = first.detail.get("destination", "")
    asks_for_itself = to in {"", first.detail.get("calling_ae_title", "")}
    others = (
        (_caller(first, Role.DESTINATION, is_requestor=True),)
        if asks_for_itself
        else (destination_participant(settings, to), _caller(first, None, is_requestor=True))
    )
    return events.message(
        EventId.INSTANCES_TRANSFERRED,
        max(map(_at, rows)),
        source_of(settings),
        action=Action.READ,
        participants=(ourselves(settings, role=Role.SOURCE, is_requestor=False), *others),
        objects=_objects(rows),
    )


def _used(rows: Sequence[LedgerRow], settings: Settings) -> AuditMessage:
    actions = {LedgerEvent.REPORTED: Action.CREATE, LedgerEvent.RERATED: Action.UPDATE}
    return events.message(
        EventId.INSTANCES_ACCESSED,
        max(map(_at, rows)),
        source_of(settings),
        action=actions.get(LedgerEvent(rows[0].event), Action.READ),
        participants=(ourselves(settings, role=None, is_requestor=True),),
        objects=_objects(rows),
    )


def _withdrawn(rows: Sequence[LedgerRow], settings: Settings) -> AuditMessage:
    return events.message(
        EventId.INSTANCES_ACCESSED,
        max(map(_at, rows)),
        source_of(settings),
        action=Action.DELETE,
        participants=(
            _caller(rows[0], None, is_requestor=True),
            ourselves(settings, role=None, is_requestor=False),
        ),
        objects=_objects(rows),
    )


def _restored(rows: Sequence[LedgerRow], settings: Settings) -> AuditMessage:
    return events.message(
        EventId.INSTANCES_ACCESSED,
        max(map(_at, rows)),
        source_of(settings),
        action=Action.UPDATE,
        participants=(
            Participant(user_id=rows[0].detail.get("by", "") or "unknown", is_requestor=True),
            ourselves(settings, role=None, is_requestor=False),
        ),
        objects=_objects(rows),
    )


def _person(row: LedgerRow) -> Participant:
    """Who uses the dashboard or a command, by their name there."""
    return events.node(
        "",
        row.detail.get("peer_address", ""),
        role=None,
        is_requestor=True,
        name=row.detail.get("by", "") or "unknown",
    )


def _viewed(rows: Sequence[LedgerRow], settings: Settings) -> AuditMessage:
    """Looked at by a person, on a page or by a command."""
    return events.message(
        EventId.INSTANCES_ACCESSED,
        max(map(_at, rows)),
        source_of(settings),
        action=Action.READ,
        participants=(_person(rows[0]), ourselves(settings, role=None, is_requestor=False)),
        objects=_objects(rows),
    )


def _authenticated(rows: Sequence[LedgerRow], settings: Settings) -> AuditMessage:
    """A person logs in to the dashboard or out of it, or tries to; or a client got a token of the API."""
    row = rows[0]
    refused = row.event == LedgerEvent.LOGIN_REFUSED
    return events.message(
        EventId.USER_AUTHENTICATION,
        _at(row),
        source_of(settings),
        kind=EventType.LOGOUT if row.event == LedgerEvent.LOGGED_OUT else EventType.LOGIN,
        outcome=Outcome.MINOR_FAILURE if refused else Outcome.SUCCESS,
        description=row.detail.get("reason", "refused") if refused else "",
        participants=(_person(row), ourselves(settings, role=None, is_requestor=False)),
    )


def _configured(rows: Sequence[LedgerRow], settings: Settings) -> AuditMessage:
    """A process started with another setting: an alert that informs (outcome 0, PS3.15 section A.5.3.11)."""
    row = rows[0]
    process, name = row.detail["process"], row.detail["setting"]
    before, after = (row.detail[key][:_LONGEST_VALUE] for key in ("before", "after"))
    return events.message(
        EventId.SECURITY_ALERT,
        _at(row),
        source_of(settings),
        kind=EventType.SOFTWARE_CONFIGURATION,
        participants=(ourselves(settings, role=None, is_requestor=False),),
        objects=(events.alerted(process, f"setting {name}: was {before or 'unknown'}, is {after}"),),
    )


def _associated(rows: Sequence[LedgerRow], settings: Settings) -> AuditMessage:
    row = rows[0]
    if row.detail.get("user"):
        return events.message(
            EventId.USER_AUTHENTICATION,
            _at(row),
            source_of(settings),
            kind=EventType.LOGIN,
            outcome=Outcome.SUCCESS,
            participants=(
                _caller(row, None, is_requestor=True),
                ourselves(settings, role=None, is_requestor=False),
            ),
        )
    return _alert(row, settings, "association accepted", Outcome.SUCCESS)


def _refused(rows: Sequence[LedgerRow], settings: Settings) -> AuditMessage:
    row = rows[0]
    status = row.detail.get("status", "")
    reason = row.detail.get("reason", "refused")
    if row.sop_instance_uid:
        reason = f"SOP Instance UID {row.sop_instance_uid}: {reason}"
        if status:
            reason += f" (status {status})"
    passing = status.startswith(_TRANSIENT) or "limit" in reason.lower()
    return _alert(row, settings, reason, Outcome.MINOR_FAILURE if passing else Outcome.SERIOUS_FAILURE)


def _alert(row: LedgerRow, settings: Settings, description: str, outcome: Outcome) -> AuditMessage:
    """An association or an object that we judged; the alert names node, reason, and severity."""
    kind = EventType.USE_OF_RESTRICTED_FUNCTION if row.sop_instance_uid else EventType.NODE_AUTHENTICATION
    return events.message(
        EventId.SECURITY_ALERT,
        _at(row),
        source_of(settings),
        kind=kind,
        participants=(
            ourselves(
                settings, role=None, is_requestor=False, ae_title=row.detail.get("called_ae_title", "")
            ),
            _caller(row, None, is_requestor=False),
        ),
        description=description,
        outcome=outcome,
        objects=(events.alerted(row.detail.get("peer_address", ""), description),),
    )


# Which line gives which message; others give none.
MAKERS: Mapping[str, Callable[[Sequence[LedgerRow], Settings], AuditMessage]] = MappingProxyType(
    {
        LedgerEvent.ASSOCIATED: _associated,
        LedgerEvent.REFUSED: _refused,
        LedgerEvent.RECEIVED: _received,
        LedgerEvent.RECEIVED_AGAIN: _received,
        LedgerEvent.QUARANTINED: _received,
        LedgerEvent.APPRAISED: _used,
        LedgerEvent.REJECTED: _used,
        LedgerEvent.RERATED: _used,
        LedgerEvent.REPORTED: _used,
        LedgerEvent.WITHDRAWN: _withdrawn,
        LedgerEvent.RESTORED: _restored,
        LedgerEvent.RETRIEVED: _retrieved,
        LedgerEvent.DELIVERED: _sent,
        LedgerEvent.DELIVERY_FAILED: _sent,
        LedgerEvent.VIEWED: _viewed,
        LedgerEvent.LOGGED_IN: _authenticated,
        LedgerEvent.LOGGED_OUT: _authenticated,
        LedgerEvent.LOGIN_REFUSED: _authenticated,
        LedgerEvent.SETTING_CHANGED: _configured,
    }
)
