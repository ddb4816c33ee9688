"""``semblance audit``: the audit messages, and whether they and the ledger are as they were written."""

from __future__ import annotations

import getpass
import json
import os
import re
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
from service.audit.trail import Verdict, record, verify
from service.commands.options import DataDir, settings_of
from service.commands.state import Output
from service.config import Settings
from service.database import audit_messages
from service.database.audit_messages import KeptAuditMessage
from service.database.pool import Connection, connect
from service.database.sealing.seals import Head
from service.exit_codes import ExitCode

_CHECKPOINT = re.compile(r"(\d{1,18}):([0-9a-f]{64})")
_MOST_SHOWN = 100  # faults

audit_app = typer.Typer(
    name="audit",
    help="Audit messages: list them, verify them and the ledger.\n\nExample: `semblance audit verify`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@audit_app.command("list")
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
        _note_use(connection, settings)
    if output is Output.JSON:
        sys.stdout.write(json.dumps([_plain(each) for each in found], indent=2) + "\n")
    else:
        _print(Console(), found)


@audit_app.command("verify")
def verify_chain(
    *,
    checkpoint: Annotated[
        str,
        typer.Option(help="POSITION:DIGEST of an earlier run, kept elsewhere; must still be in the chain."),
    ] = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Verify that all that is sealed is as it was written; ends with 1 when it is not.

    Prints the end of the chain as POSITION:DIGEST. Keep it where nobody who can change the database can
    change it: whoever can do both could make the whole chain anew.

    Example: `semblance audit verify --checkpoint 1204:6f3a...`.
    """
    noted = _parsed(checkpoint) if checkpoint else None
    settings = settings_of(data_dir)
    with connect(settings) as connection:
        verdict = verify(connection, noted)
        _note_use(connection, settings)
    _report(verdict)
    if verdict.faults:
        raise typer.Exit(ExitCode.FAILED)


def _parsed(checkpoint: str) -> Head:
    match = _CHECKPOINT.fullmatch(checkpoint)
    if match is None:
        raise typer.BadParameter("a checkpoint is POSITION:DIGEST, the digest in 64 hexadecimal digits")
    return Head(position=int(match[1]), digest=bytes.fromhex(match[2]))


def _report(verdict: Verdict) -> None:
    for fault in verdict.faults[:_MOST_SHOWN]:
        sys.stdout.write(f"{fault}\n")
    if len(verdict.faults) > _MOST_SHOWN:
        sys.stdout.write(f"and {len(verdict.faults) - _MOST_SHOWN} more\n")
    state = "NOT intact" if verdict.faults else "intact"
    sys.stdout.write(f"{state}: {verdict.head.position} entries sealed, {verdict.waiting} not yet\n")
    sys.stdout.write(f"{verdict.head.position}:{verdict.head.digest.hex()}\n")


def _note_use(connection: Connection, settings: Settings) -> None:
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
