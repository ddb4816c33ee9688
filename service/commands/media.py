"""``semblance import`` and ``semblance export``: DICOM files from media into the store, and out to media."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dicom_node import media
from service.audit.codes import MediaType
from service.commands.options import By, DataDir, settings_of, user
from service.database.pool import open_pool
from service.exit_codes import ExitCode
from service.logs import configure_logging
from service.storage.local import open_store


class Medium(StrEnum):
    """What DICOM files are brought or taken away on (as MediaType of service.audit.codes)."""

    USB = "usb"
    CD = "cd"
    URI = "uri"  # anything else that has a place in the file system


_KINDS = {Medium.USB: MediaType.USB, Medium.CD: MediaType.CD, Medium.URI: MediaType.URI}
MediumOption = Annotated[Medium, typer.Option("--medium", help="What it is on.")]
Label = Annotated[str, typer.Option(help="Of the medium; none: where it is.")]


def import_command(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, and folders of them.", exists=True)],
    *,
    worklist: Annotated[
        Path | None,
        typer.Option(
            help="CSV that says whose the JPEG files of the one folder are; they become DICOM objects.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    issuer: Annotated[str, typer.Option(help="Who gave the worklist's Patient IDs.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Of a worklist: take nothing, say what would be taken.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Of a worklist: CSV of what became of every row and file.", show_default=False),
    ] = None,
    medium: MediumOption = Medium.URI,
    label: Label = "",
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Take photographs in from media, as if a camera had sent them; the audit trail says so.

    Example: `semblance import /media/usb --medium usb --label "camera 3"`. JPEG files with a worklist
    (columns file, patient, study, date, view): `semblance import photos/ --worklist list.csv --dry-run`.
    """
    if worklist is not None:
        if len(paths) != 1 or not paths[0].is_dir():
            raise typer.BadParameter("a worklist is of one folder")
        from service.commands.worklist import import_worklist

        import_worklist(
            paths[0],
            worklist,
            issuer=issuer,
            dry_run=dry_run,
            report=report,
            medium=_medium(medium, label, paths[0], by),
            data_dir=data_dir,
        )
        return
    if dry_run or report is not None or issuer:
        raise typer.BadParameter("--dry-run, --report and --issuer belong to --worklist")
    settings = settings_of(data_dir)
    configure_logging(settings)
    store = open_store(settings)
    failed = False
    with open_pool(settings) as pool:
        for taken in media.import_files(settings, pool, store, paths, _medium(medium, label, paths[0], by)):
            sys.stdout.write(f"{taken.path}: {taken.error or taken.sop_instance_uid}\n")
            failed |= bool(taken.error)
    if failed:
        raise typer.Exit(ExitCode.FAILED)


def export_command(
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    to: Annotated[Path, typer.Argument(help="Folder; files that are there already are not replaced.")],
    *,
    medium: MediumOption = Medium.URI,
    label: Label = "",
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Write a study's photographs and results to media; the audit trail says so.

    Example: `semblance export 1.2.3 /media/usb/study --medium usb --label "for the referring clinic"`.
    """
    settings = settings_of(data_dir)
    configure_logging(settings)
    store = open_store(settings)
    with open_pool(settings) as pool:
        written = media.export_study(
            settings, pool, store, study, directory=to, medium=_medium(medium, label, to, by)
        )
    sys.stdout.writelines(f"{path}\n" for path in written)


def _medium(medium: Medium, label: str, place: Path, by: str) -> media.Medium:
    return media.Medium(kind=_KINDS[medium], name=label or place.resolve().as_uri(), user=user(by))
