"""``semblance status`` and ``semblance retry``: what is where in the pipeline, by ids only."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from reporting.fhir.database import persons
from reporting.holdings.database import holdings
from service.commands.options import DataDir, settings_of, user
from service.commands.use import note_use
from service.config import Settings
from service.database import appraisals, dead_letters, instances, ledger, outbox, reratings, studies
from service.database.delivery import deliveries
from service.database.pool import Connection, connect
from service.database.studies import Study
from service.errors import ConfigurationError, UnknownStepError
from service.exit_codes import ExitCode
from service.pipeline.again.retry import dead_instances, retry_instance
from service.records import Instance, LedgerEntry, LedgerEvent

_NEWEST = 10


class Output(StrEnum):
    """How a command prints."""

    TABLE = "table"
    JSON = "json"


def status(
    uid: Annotated[str | None, typer.Argument(help="SOP or Study Instance UID; none: everything.")] = None,
    *,
    output: Annotated[Output, typer.Option(help="How to print.")] = Output.TABLE,
    data_dir: DataDir = Path("var"),
) -> None:
    """Show what is where in the pipeline, or the whole history of one photograph or study.

    Example: `semblance status 2.25.1234` prints its ledger, appraisals and deliveries.
    """
    with connect(settings_of(data_dir)) as connection:
        study = studies.find(connection, uid) if uid else None
        if study is not None:
            found = _study(connection, study)
        else:
            found = _one(connection, uid) if uid else _all(connection)
        _note_look(connection, uid, study)
    if output is Output.JSON:
        sys.stdout.write(json.dumps(found, indent=2, default=str) + "\n")
    elif study is not None:
        _print_study(Console(), found)
    elif uid:
        _print_one(Console(), found)
    else:
        _print_all(Console(), found)


def _note_look(connection: Connection, uid: str | None, study: Study | None) -> None:
    """Of one photograph or study a person looked at each photograph; of everything, at the list."""
    if uid is None:
        note_use(connection, LedgerEvent.SEARCHED, "semblance status")
        return
    of_study = instances.of_study(connection, uid) if study is not None else []
    shown = [each.sop_instance_uid for each in of_study] if study is not None else [uid]
    note_use(connection, LedgerEvent.VIEWED, f"semblance status {uid}", photographs=shown)


def retry(
    uid: Annotated[str | None, typer.Argument(help="SOP Instance UID of a dead photograph.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Everything that was given up.")] = False,
    destination: Annotated[
        str | None, typer.Option(help="Everything that was given up on its way to this destination.")
    ] = None,
    data_dir: DataDir = Path("var"),
) -> None:
    """Take up again what was given up, from the step it failed in, with fresh attempts.

    Example: `semblance retry --destination pacs` after it was repaired, or `semblance retry --all`.
    """
    if [uid is not None, every, destination is not None].count(True) != 1:
        raise typer.BadParameter("name one SOP Instance UID, or say --all, or --destination")
    settings = settings_of(data_dir)
    with connect(settings) as connection:
        if uid is not None:
            chosen = [_find(connection, uid).instance_id]
        elif destination is not None:
            _require_destination(settings, connection, destination)
            chosen = list(dict.fromkeys(d.instance_id for d in deliveries.dead(connection, destination)))
        else:
            chosen = dead_instances(connection)
            if resting := holdings.retry(connection):
                sys.stdout.write(f"{resting} headers are read for the index again\n")
                done = f"{resting} headers are read again"
                note_use(connection, LedgerEvent.ACTED, "semblance retry --all", note=done)
    stuck = [each for each in chosen if not _put_back(settings, each)]
    if not chosen:
        sys.stdout.write("nothing was given up\n")
    if stuck:
        raise typer.Exit(ExitCode.FAILED)


def _put_back(settings: Settings, instance_id: int) -> bool:
    """Put one photograph back; False, with a message, when it died in a step that this version lacks."""
    try:
        with connect(settings) as connection:
            instance = instances.get(connection, instance_id)
            step = retry_instance(connection, instance_id, by=user(""))
    except UnknownStepError as exc:
        sys.stderr.write(f"semblance: {instance.sop_instance_uid}: {exc}\n")
        return False
    sys.stdout.write(f"{instance.sop_instance_uid} goes back to {step.task}\n")
    return True


def _require_destination(settings: Settings, connection: Connection, name: str) -> None:
    """Refuse a name that neither the settings nor any delivery knows.

    Raises:
        ConfigurationError: With those there are.
    """
    known = {each.name for each in settings.destinations}
    known |= {destination for destination, _ in deliveries.counts_by_destination(connection)}
    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise ConfigurationError(f"no destination {name!r}; there are: {listed}")


def _find(connection: Connection, uid: str) -> Instance:
    instance = instances.by_uid(connection, uid)
    if instance is None:
        refused = ledger.chain(connection, uid)
        note_use(connection, LedgerEvent.SEARCHED, f"semblance: {uid}", note="no such photograph")
        connection.commit()
        hint = "; what the ledger has of it:" if refused else ""
        sys.stderr.write(f"semblance: no photograph {uid}{hint}\n")
        sys.stderr.writelines(f"{json.dumps(_line(entry))}\n" for entry in refused)
        raise typer.Exit(ExitCode.FAILED)
    return instance


def _all(connection: Connection) -> dict[str, object]:
    counts = instances.counts_by_state(connection)
    by_destination = deliveries.counts_by_destination(connection)
    return {
        "instances": {state.value: number for state, number in counts.items()},
        "quarantined": instances.quarantined(connection),
        "quarantine": [
            {**asdict(each), "received_at": each.received_at.isoformat(timespec="seconds")}
            for each in instances.quarantine(connection, _NEWEST)
        ],
        "unindexed": [asdict(each) for each in holdings.unindexed(connection, _NEWEST)],
        "outbox": outbox.waiting(connection),
        "deliveries": [
            {"destination": name, "state": state.value, "objects": number}
            for (name, state), number in by_destination.items()
        ],
        "dead": [
            {"sop_instance_uid": letter.sop_instance_uid, "step": letter.step, "error": letter.error}
            for letter in dead_letters.all_open(connection)
        ],
        "identity": [
            {
                "question": conflict.kind.value,
                "about": conflict.subject,
                "patients": " ".join(f"Patient/{each}" for each in conflict.patients),
                "since": conflict.noticed_at.isoformat(timespec="seconds"),
            }
            for conflict in persons.open_conflicts(connection)
        ],
        "rerating": [asdict(each) for each in reratings.progress(connection)],
        "studies": {state.value: number for state, number in studies.counts_by_state(connection).items()},
        "missing": [
            {
                "study_instance_uid": study.study_instance_uid,
                "state": study.state.value,
                "sop_instance_uid": uid,
            }
            for study in studies.with_missing(connection)
            for uid in study.missing
        ],
        "newest": [_brief(instance) for instance in instances.newest(connection, _NEWEST)],
    }


def _study(connection: Connection, study: Study) -> dict[str, object]:
    return {
        "study_instance_uid": study.study_instance_uid,
        "state": study.state.value,
        "last_received_at": study.last_received_at.isoformat(timespec="seconds"),
        "closed_at": study.closed_at.isoformat(timespec="seconds") if study.closed_at else None,
        "reopened": study.reopened,
        "missing": list(study.missing),
        "photographs": [_brief(each) for each in instances.of_study(connection, study.study_instance_uid)],
    }


def _one(connection: Connection, uid: str) -> dict[str, object]:
    instance = _find(connection, uid)
    saved = appraisals.for_instance(connection, instance.instance_id)
    former = appraisals.former_ratings(connection, [each.appraisal.appraisal_id for each in saved])
    return {
        **_brief(instance),
        "sha256": instance.sha256,
        "calling_ae_title": instance.calling_ae_title,
        "ledger": [_line(entry) for entry in ledger.chain(connection, uid)],
        "appraisals": [
            {
                "appraisal_id": str(each.appraisal.appraisal_id),
                "method": each.appraisal.method.name,
                "status": each.appraisal.status.value,
                "score": each.appraisal.score,
                "calibration": each.appraisal.method.calibration,
                "rating": each.appraisal.rating,
                "former_ratings": {
                    rated.calibration: rated.rating
                    for rated in former.get(each.appraisal.appraisal_id, ())
                    if rated.calibration != each.appraisal.method.calibration
                },
                "reasons": [reason.value for reason in each.appraisal.reasons],
                "heatmap_sha256": each.heatmap_sha256,
            }
            for each in saved
        ],
        "deliveries": [
            {**asdict(each), "state": each.state.value}
            for each in deliveries.for_instance(connection, instance.instance_id)
        ],
        "dead": [
            {"step": letter.step, "error": letter.error, "traceback": letter.traceback}
            for letter in dead_letters.all_open(connection)
            if letter.instance_id == instance.instance_id
        ],
    }


def _brief(instance: Instance) -> dict[str, object]:
    return {
        "sop_instance_uid": instance.sop_instance_uid,
        "state": instance.state.value,
        "received_at": instance.received_at.isoformat(timespec="seconds"),
    }


def _line(entry: LedgerEntry) -> dict[str, object]:
    return {
        "at": entry.at.isoformat(timespec="milliseconds"),
        "event": entry.event.value,
        **({"detail": dict(entry.detail)} if entry.detail else {}),
    }


def print_table(console: Console, title: str, rows: list[dict[str, object]]) -> None:
    """Print rows of equal keys; nothing when there are none."""
    if not rows:
        return
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console.print(table)
    console.print()


def _print_all(console: Console, found: dict[str, object]) -> None:
    counts = found["instances"]
    if isinstance(counts, dict):
        print_table(console, "Photographs", [dict(counts)])
    console.print(f"outbox {found['outbox']}   quarantined {found['quarantined']}\n")
    known = found["studies"]
    if isinstance(known, dict):
        print_table(console, "Studies", [dict(known)])
    for key, title in (
        ("deliveries", "Deliveries"),
        ("dead", "Given up"),
        ("identity", "Whose is it: to be decided by somebody"),
        ("rerating", "Rated anew by a new calibration"),
        ("missing", "Announced and missing"),
        ("quarantine", "Quarantined: other bytes under a known SOP Instance UID"),
        ("unindexed", "Headers that queries do not find, or find in part"),
        ("newest", "Newest"),
    ):
        rows = found[key]
        if isinstance(rows, list):
            print_table(console, title, rows)


def _print_study(console: Console, found: dict[str, object]) -> None:
    for key in ("study_instance_uid", "state", "last_received_at", "closed_at", "reopened"):
        console.print(f"{key:<20}{found[key]}", highlight=False)
    console.print()
    missing, photographs = found["missing"], found["photographs"]
    if isinstance(missing, list):
        print_table(console, "Announced and missing", [{"sop_instance_uid": uid} for uid in missing])
    if isinstance(photographs, list):
        print_table(console, "Photographs", photographs)


def _print_one(console: Console, found: dict[str, object]) -> None:
    for key in ("sop_instance_uid", "state", "received_at", "calling_ae_title", "sha256"):
        console.print(f"{key:<18}{found[key]}", highlight=False)
    console.print()
    for key, title in (("ledger", "Ledger"), ("appraisals", "Appraisals"), ("deliveries", "Deliveries")):
        rows = found[key]
        if isinstance(rows, list):
            print_table(console, title, [_pad(row, rows) for row in rows])
    dead = found["dead"]
    for letter in dead if isinstance(dead, list) else []:
        console.print(f"given up in {letter['step']}: {letter['error']}", style="red")
        console.print(letter["traceback"], markup=False, highlight=False)


def _pad(row: dict[str, object], rows: list[dict[str, object]]) -> dict[str, object]:
    """Give every row of a table the same columns."""
    return {name: row.get(name, "") for each in rows for name in each}
