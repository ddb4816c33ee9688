"""Keeping audit messages, made at once or from the ledger, and the chain over all that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from service.audit.from_ledger import messages
from service.audit.message import AuditMessage
from service.config import Settings
from service.database import audit_messages
from service.database.audit_messages import NewAuditMessage
from service.database.pool import Connection, Pool, transaction
from service.database.sealing import sealed_rows, seals
from service.database.sealing.chain import GENESIS, chained
from service.database.sealing.sealed_rows import RowRef
from service.database.sealing.seals import Head, SealedRow

_BATCH = 500
OVERDUE_S = 600.0  # after which a row without its seal is a fault; the relay seals several times a minute


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that is not as it was sealed."""

    source: str  # as of seals, or "seal"
    row_id: int
    what: str
    row_key: str = ""  # which state of the row, as its version

    def __str__(self) -> str:
        return f"{self.source} {self.row_id}{' ' * bool(self.row_key)}{self.row_key}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a look at the whole chain found."""

    head: Head
    waiting: int  # rows that have no seal yet
    faults: tuple[Fault, ...]


def record(connection: Connection, made: Iterable[AuditMessage]) -> None:
    """Keep audit messages.

    Args:
        connection: In the transaction of what they tell of.
        made: The messages.
    """
    audit_messages.append(
        connection,
        [
            NewAuditMessage(
                event_id=each.event_id.code.value,
                outcome=each.outcome.value,
                at=each.at,
                message=each.xml(),
            )
            for each in made
        ],
    )


def seal_pending(pool: Pool, settings: Settings) -> int:
    """Seal what waits, and make the audit messages of what the ledger got.

    Of several processes one does so at a time; in one transaction, so a line gives its messages once.

    Returns:
        How many rows were sealed.

    Raises:
        DatabaseUnavailableError: Nothing is lost, they wait on.
    """
    total = 0
    while True:
        with transaction(pool) as connection:
            if not seals.lead(connection):
                return total
            rows = seals.pending(connection, _BATCH)
            if rows:
                seals.append(connection, seals.head(connection), rows)
                record(connection, messages((row.ledger for row in rows if row.ledger), settings))
        total += len(rows)
        if len(rows) < _BATCH:
            return total


def verify(
    connection: Connection,
    checkpoint: Head | None = None,
    see: Callable[[SealedRow], None] = lambda row: None,
) -> Verdict:
    """Look at every seal and its row.

    Args:
        connection: In a transaction of its own.
        checkpoint: An end of the chain that was noted elsewhere and must still be in it.
        see: Called with every entry, for who compares them with more.
    """
    faults: list[Fault] = []
    head = Head(position=0, digest=GENESIS)
    checked = checkpoint is None or checkpoint.position == 0
    for position, row in enumerate(seals.sealed(connection), 1):
        see(row)
        if row.position != position:
            faults.append(Fault(source="seal", row_id=position, what="missing"))
            break
        if row.content is None:
            faults.append(_fault(row.row, "deleted"))
        elif chained(head.digest, row.content) != row.digest:
            faults.append(_fault(row.row, "changed"))
        head = Head(position=position, digest=row.digest)
        if checkpoint is not None and checkpoint.position == position:
            checked = True
            if checkpoint.digest != row.digest:
                faults.append(Fault(source="seal", row_id=position, what="not the checkpoint's digest"))
    if not checked and checkpoint is not None:
        faults.append(
            Fault(source="seal", row_id=checkpoint.position, what="the chain ends before the checkpoint")
        )
    faults += [_fault(row, "never sealed") for row in seals.strays(connection)]
    faults += [_fault(row, "not as its operation says") for row in sealed_rows.disagreeing(connection)]
    late = f"not sealed for over {OVERDUE_S / 60:.0f} minutes: does the relay run?"
    faults += [_fault(row, late) for row in seals.overdue(connection, OVERDUE_S)]
    return Verdict(head=head, waiting=seals.waiting(connection), faults=tuple(faults))


def _fault(row: RowRef, what: str) -> Fault:
    return Fault(source=row.source, row_id=row.row_id, row_key=row.row_key, what=what)
