"""``semblance import --worklist``: JPEG files of a folder, whose a CSV says they are."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import typer

from dicom_node import media
from dicom_node.worklist.plan import Plan, contents, count_of, make_plan, write_report
from service.commands.options import settings_of
from service.config import Settings
from service.database.pool import open_pool
from service.exit_codes import ExitCode
from service.logs import configure_logging
from service.storage.local import open_store


def import_worklist(
    folder: Path,
    worklist: Path,
    *,
    issuer: str,
    dry_run: bool,
    report: Path | None,
    medium: media.Medium,
    data_dir: Path,
) -> None:
    """Take in every photograph of a worklist, or none.

    Raises:
        Exit: 1: a row is bad, or an object was refused.
        ConfigurationError: It is no worklist.
    """
    plan = make_plan(folder, worklist, issuer=issuer, today=datetime.now().astimezone().date())
    outcome: dict[str, str] = {}
    try:
        if not plan.bad and dry_run:
            outcome = {each.sop_instance_uid: "would be taken" for each in plan.planned}
        elif not plan.bad:
            settings = settings_of(data_dir)
            configure_logging(settings)
            _take(settings, plan, medium, outcome)
    finally:
        if report is not None:
            write_report(plan, report, outcome)
        _tell(plan, worklist, outcome)
    if plan.bad or any(what.startswith("refused") for what in outcome.values()):
        raise typer.Exit(ExitCode.FAILED)


def _take(settings: Settings, plan: Plan, medium: media.Medium, outcome: dict[str, str]) -> None:
    store = open_store(settings)
    uids = {each.path: each.sop_instance_uid for each in plan.planned}
    with open_pool(settings) as pool:
        for taken in media.import_made(settings, pool, store, contents(plan), medium):
            outcome[uids[taken.path]] = f"refused: {taken.error}" if taken.error else "taken"


def _tell(plan: Plan, worklist: Path, outcome: dict[str, str]) -> None:
    for each in plan.planned:
        what = outcome.get(each.sop_instance_uid, "not taken")
        sys.stdout.write(f"{each.row.file}: {what}: {each.sop_instance_uid}\n")
    for bad in plan.bad:
        sys.stderr.write(f"{worklist}: line {bad.line}, {bad.file or 'no file'}: {bad.reason}\n")
    for name in plan.unlisted:
        sys.stderr.write(f"{name}: not in the worklist; it is left where it is\n")
    summary = count_of(plan.planned)
    if plan.bad:
        summary += f" would be right, but {len(plan.bad)} rows are not: nothing was taken"
    sys.stderr.write(summary + "\n")
