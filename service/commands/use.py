"""That somebody used a command: lines of the ledger, in the transaction that reads or changes something."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from service.commands.options import user
from service.database import instances, ledger
from service.database.pool import Connection
from service.records import LedgerEvent


def note_use(
    connection: Connection,
    event: LedgerEvent,
    command: str,
    *,
    by: str = "",
    photographs: Sequence[str] = (),
    note: str = "",
) -> None:
    """Write down who used a command, and of which photographs.

    Args:
        connection: What the command shows must not be shown before this is committed.
        event: VIEWED, SEARCHED, ACTED or EXPORTED.
        command: As it is called, with what it was asked for.
        by: Who; "": the user that runs it.
        photographs: SOP Instance UIDs; a line each, or one line where there is none.
        note: What was done, or how much was shown.
    """
    detail = {"by": user(by), "peer_address": socket.gethostname(), "page": command}
    detail |= {"note": note} if note else {}
    known = instances.by_uids(connection, photographs)
    ledger.append_many(
        connection,
        [(event, known[uid].instance_id if uid in known else None, uid, detail) for uid in photographs]
        or [(event, None, "", detail)],
    )
