"""``semblance audit list``: the audit messages, the newest first."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.audit import events
from service.audit.codes import EventId
from service.audit.from_ledger import source_of
from service.audit.trail import record
from service.commands.options import DataDir, settings_of
from service.commands.state import Output
from service.config import Settings
from service.database import audit_messages
from service.database.audit_messages import KeptAuditMessage
from service.database.pool import Connection, connect


def list_messages(
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 50,
    output: Annotated[Output, typer.Option(help="How to print; json holds the whole XML.")] = Output.TABLE,
    data_dir: DataDir = Path("var"),
) -> None:
    """Show the newest audit messages (DICOM PS3.15 annex A.5). Reading them is audited, too.

    Example: `semblance audit list --limit 200 --output json`.
    """
    settings = settings_of(data_dir)
    with connect(settings) as connection:
        found = audit_messages.newest(connection, limit)
        note_use(connection, settings)
    if output is Output.JSON:
        sys.stdout.write(json.dumps([_plain(each) for each in found], indent=2) + "\n")
    else:
        _print(Console(), found)


def note_use(connection: Connection, settings: Settings) -> None:
    """Audit Log Used, by whom the operating system says (PS3.15 section A.5.3.2)."""
    host = socket.gethostname()
    reader = events.node(
        "", host, role=None, is_requestor=True, name=f"{getpass.getuser()}@{host}/{os.getpid()}"
    )
    used = events.message(
        EventId.AUDIT_LOG_USED,
        datetime.now(UTC),
        source_of(settings),
        participants=(reader,),
        objects=(events.security_log("semblance:audit"),),
    )
    record(connection, [used])


def _plain(kept: KeptAuditMessage) -> dict[str, object]:
    return {
        "audit_id": kept.audit_id,
        "at": kept.at.isoformat(timespec="milliseconds"),
        "outcome": kept.outcome,
        "message": kept.message,
    }


def _print(console: Console, found: list[KeptAuditMessage]) -> None:
    table = Table(show_edge=False, pad_edge=False)
    for name in ("at", "event", "outcome", "participants", "objects"):
        table.add_column(name, overflow="fold")
    for kept in found:
        message = ET.fromstring(kept.message)  # noqa: S314 -- our own
        kinds = [*message.iter("EventTypeCode"), *message.iter("EventID")]
        table.add_row(
            kept.at.isoformat(timespec="seconds"),
            ", ".join(each.get("originalText", "") for each in reversed(kinds)),
            message[0].findtext("EventOutcomeDescription") or str(kept.outcome),
            " -> ".join(each.get("UserID", "") for each in message.iter("ActiveParticipant")),
            " ".join(
                each.get("ParticipantObjectID", "")
                for each in message.iter("ParticipantObjectIdentification")
            ),
        )
    console.print(table)
