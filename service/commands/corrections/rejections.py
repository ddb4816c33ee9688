"""``semblance rejections``: notes by which senders took photographs back; a mistaken one is lifted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reporting.fhir.corrections.lifting import lift
from service.commands.options import By, DataDir, Reason, settings_of, user
from service.commands.state import Output, print_table
from service.database import rejections
from service.database.pool import connect
from service.database.rejections import FollowedNote

rejections_app = typer.Typer(
    name="rejections",
    help="Show the rejection notes that were followed, and lift those that were sent by mistake."
    "\n\nExample: `semblance rejections list`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@rejections_app.command("list")
def list_command(
    *,
    output: Annotated[Output, typer.Option(help="How to print.")] = Output.TABLE,
    data_dir: DataDir = Path("var"),
) -> None:
    """Show the rejection notes that were followed, newest first.

    Example: `semblance rejections list --output json`.
    """
    with connect(settings_of(data_dir)) as connection:
        rows = [_row(each) for each in rejections.newest_notes(connection)]
    if output is Output.JSON:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    elif rows:
        print_table(Console(), "Rejection notes", rows)
    else:
        sys.stdout.write("no rejection note was followed\n")


@rejections_app.command("lift")
def lift_command(
    note: Annotated[
        str, typer.Argument(help="SOP Instance UID of the note, as `semblance rejections list` prints it.")
    ],
    *,
    reason: Reason,
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Have a note count no more: what it took back is appraised and issued again, under new UIDs.

    Example: `semblance rejections lift 2.25.1234 --reason "the note was about another study"`.
    """
    settings = settings_of(data_dir)
    with connect(settings) as connection:
        lifted = lift(connection, note, who=user(by), reason=reason, settings=settings)
    for uid in lifted.restored:
        sys.stdout.write(f"{uid} is appraised and issued again\n")
    for uid in lifted.still_back:
        sys.stdout.write(f"{uid} stays as it is: another note, or somebody's decision, holds it back\n")
    sys.stdout.write(f"the note {note} counts no more\n")


def _row(note: FollowedNote) -> dict[str, object]:
    return {
        "note": note.sop_instance_uid,
        "title": note.title,
        "received_at": note.received_at.isoformat(timespec="seconds"),
        "calling_ae_title": note.calling_ae_title,
        "names": note.names,
        "withdrawn": note.withdrawn,
        "lifted_at": note.lifted_at.isoformat(timespec="seconds") if note.lifted_at else None,
        "lifted_by": note.lifted_by,
    }
