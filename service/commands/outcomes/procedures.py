"""``semblance procedures import``: operations out of a CSV file."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from reporting.outcomes.csv_cases import import_cases
from reporting.outcomes.following.gather import today
from service.commands.options import By, DataDir, settings_of, user
from service.database.pool import connect
from service.exit_codes import ExitCode

procedures_app = typer.Typer(no_args_is_help=True, help="Operations: bring them in from a file.")


@procedures_app.callback()
def _root() -> None:
    """Operations: bring them in from a file."""


@procedures_app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="CSV, UTF-8, with a header.", exists=True, dir_okay=False)],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; say what would come.")] = False,
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Bring operations in: every row, or none. Bad rows are named with their line and reason, as JSON.

    Run twice it changes nothing. What a row changes of a known operation is a new version of it.

    Example: `semblance procedures import operations.csv --dry-run`.
    """
    settings = settings_of(data_dir)
    with connect(settings) as connection:
        found = import_cases(
            connection, file.read_bytes(), author=user(by), settings=settings, today=today(connection)
        )
        if dry_run or not found.taken:
            connection.rollback()
    taken = found.taken and not dry_run
    sys.stdout.write(json.dumps({"taken": taken, "dry_run": dry_run, **asdict(found)}) + "\n")
    for row in found.bad:
        where = f"line {row.line}" + (f", {row.column}" if row.column else "")
        sys.stderr.write(f"{file}: {where}: {row.reason}\n")
    if not found.taken:
        raise typer.Exit(ExitCode.FAILED)
