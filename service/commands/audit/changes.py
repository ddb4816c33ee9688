"""``semblance audit changes``: who changed what, when, why, and what it was before."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reporting.outcomes.database.decided import decided
from service.commands.audit.messages import note_use
from service.commands.options import DataDir, settings_of
from service.commands.state import Output, print_table
from service.database.changes import RecordedChange, of_ledger
from service.database.pool import connect


def list_changes(
    *,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="None before this day (UTC).")
    ] = None,
    about: Annotated[
        str, typer.Option(help="Only what is about this UID, id or name, or a part of it.")
    ] = "",
    by: Annotated[str, typer.Option(help="Only what this user, client or AE title did.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 100,
    output: Annotated[Output, typer.Option(help="How to print.")] = Output.TABLE,
    data_dir: DataDir = Path("var"),
) -> None:
    """Show changes with who, when, why, and the values before and after. Reading them is audited, too.

    Corrections, withdrawals, links of patients, decisions on outcomes, phases, users and settings.

    Example: `semblance audit changes --since 2026-01-01 --output json`.
    """
    settings = settings_of(data_dir)
    moment = since.replace(tzinfo=UTC) if since else None
    most = limit if not about and not by else 1_000_000
    with connect(settings) as connection:
        found = [*of_ledger(connection, moment, most), *decided(connection, moment, most)]
        note_use(connection, settings)
    wanted = [each for each in found if about in each.about and by in ("", each.by)]
    rows = [_row(each) for each in sorted(wanted, key=lambda each: each.at, reverse=True)[:limit]]
    if output is Output.JSON:
        sys.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    elif rows:
        print_table(Console(), "Changes", [{**row, **_words(row)} for row in rows])
    else:
        sys.stdout.write("nothing was changed\n")


def _row(change: RecordedChange) -> dict[str, object]:
    return {**asdict(change), "at": change.at.astimezone(UTC).isoformat(timespec="seconds")}


def _words(row: dict[str, object]) -> dict[str, object]:
    """Values before and after as a person reads them."""
    return {
        name: ", ".join(f"{key}: {value}" for key, value in values.items())
        for name in ("before", "after")
        if isinstance(values := row[name], dict)
    }
