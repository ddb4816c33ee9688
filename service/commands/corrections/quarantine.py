"""``semblance quarantine``: what came under a known SOP Instance UID with other pixels, and an end to it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reporting.source import default_zone, read_source
from service.commands.options import By, DataDir, Reason, settings_of, user
from service.commands.state import Output, print_table
from service.database import ledger, versions
from service.database.pool import Connection, connect
from service.database.versions import Quarantined, Resolution, Version
from service.errors import ResultError
from service.records import LedgerEvent
from service.storage.local import InstanceStore, open_store

quarantine_app = typer.Typer(
    name="quarantine",
    help="Show what is in quarantine, and decide what becomes of it."
    "\n\nExample: `semblance quarantine list`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
Number = Annotated[
    int, typer.Argument(help="Number of the object, as `semblance quarantine list` prints it.")
]


@quarantine_app.command("list")
def list_command(
    *,
    output: Annotated[Output, typer.Option(help="How to print.")] = Output.TABLE,
    data_dir: DataDir = Path("var"),
) -> None:
    """Show every object in quarantine, newest first.

    Example: `semblance quarantine list --output json`.
    """
    with connect(settings_of(data_dir)) as connection:
        rows: list[dict[str, object]] = [
            {**asdict(each), "received_at": each.received_at.isoformat(timespec="seconds")}
            for each in versions.quarantined(connection)
        ]
    if output is Output.JSON:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    elif rows:
        print_table(Console(), "Quarantine", rows)
    else:
        sys.stdout.write("nothing is in quarantine\n")


@quarantine_app.command("accept")
def accept_command(number: Number, *, reason: Reason, by: By = "", data_dir: DataDir = Path("var")) -> None:
    """Make an object the photograph's new version: it is appraised, the results before are taken back.

    Example: `semblance quarantine accept 7 --reason "the camera sent the wrong picture first"`.
    """
    settings = settings_of(data_dir)
    store = open_store(settings)
    with connect(settings) as connection:
        found = versions.lock_quarantined(connection, number)
        version = _version(store, found, settings.timezone)
        _end(connection, found, Resolution.ACCEPTED, user(by), reason)
        versions.replace(connection, found.instance_id, version, {"by": user(by), "reason": reason})
    sys.stdout.write(f"{found.sop_instance_uid} has a new version and is appraised again\n")


@quarantine_app.command("discard")
def discard_command(number: Number, *, reason: Reason, by: By = "", data_dir: DataDir = Path("var")) -> None:
    """Leave an object out for good; its bytes stay in the store, and the photograph stays as it is.

    Example: `semblance quarantine discard 7 --reason "a test picture"`.
    """
    with connect(settings_of(data_dir)) as connection:
        found = versions.lock_quarantined(connection, number)
        _end(connection, found, Resolution.DISCARDED, user(by), reason)
    sys.stdout.write(f"{found.sop_instance_uid} stays as it is\n")


def _end(connection: Connection, found: Quarantined, resolution: Resolution, by: str, reason: str) -> None:
    versions.resolve(connection, found.quarantine_id, resolution, by)
    ledger.append(
        connection,
        LedgerEvent.QUARANTINE_ENDED,
        instance_id=found.instance_id,
        sop_instance_uid=found.sop_instance_uid,
        detail={"resolution": resolution.value, "sha256": found.sha256, "by": by, "reason": reason},
    )


def _version(store: InstanceStore, found: Quarantined, timezone: str) -> Version:
    """What the photograph is to be, as its own header says.

    Raises:
        ResultError: It cannot be read as a DICOM file, or is of another photograph.
        StorageError: Its bytes are gone.
    """
    identity = read_source(store.read(found.sha256), default_zone(timezone)).identity
    if identity.sop_instance_uid != found.sop_instance_uid:
        raise ResultError("the object is not of this photograph")
    return Version(
        sha256=found.sha256,
        size_bytes=found.size_bytes,
        sop_class_uid=identity.sop_class_uid,
        transfer_syntax_uid=identity.transfer_syntax_uid,
        study_instance_uid=identity.study_instance_uid,
        series_instance_uid=identity.series_instance_uid,
        patient_id=identity.patient_id,
        issuer_of_patient_id=identity.issuer,
    )
