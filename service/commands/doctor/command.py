"""``semblance doctor``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from service.commands.doctor import machine, product
from service.commands.doctor.findings import Examination, State
from service.commands.options import DataDir, settings_of
from service.commands.state import Output
from service.config import Settings
from service.exit_codes import ExitCode


def doctor(
    *,
    output: Annotated[Output, typer.Option(help="How to print.")] = Output.TABLE,
    data_dir: DataDir = Path("var"),
) -> None:
    """Look whether this machine and its settings are fit to run Semblance; ends with 1 when something is not.

    It changes nothing but a few small files in the store, which it takes away again.

    Example: `semblance doctor`, after the installation and before an upgrade.
    """
    settings = settings_of(data_dir)
    found = [each for examination in examinations(settings) for each in examination.findings()]
    if output is Output.JSON:
        sys.stdout.write(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    else:
        width = max(len(each.subject) for each in found)
        for each in found:
            sys.stdout.write(f"{each.state.value:<4}  {each.subject:<{width}}  {each.text}\n")
            if each.advice:
                sys.stdout.write(f"{'':<4}  {'':<{width}}  -> {each.advice}\n")
    if any(each.state is State.FAIL for each in found):
        raise typer.Exit(ExitCode.FAILED)


def examinations(settings: Settings) -> list[Examination]:
    """All that is looked at, in order."""
    looks = (
        ("database", machine.database, "is SEMBLANCE_DATABASE_URL right, and PostgreSQL running?"),
        ("broker", machine.broker, "is SEMBLANCE_BROKER_URL right, and the broker running?"),
        ("store", machine.store, "make the directory of storage_dir, and give it to this user"),
        ("ports", machine.ports, "look at dicom_host and api_host: they are addresses of this machine"),
        ("certificates", machine.certificates, "look at the paths in the settings"),
        ("method", product.method, "`semblance models list` shows what is there"),
        ("destinations", product.destinations, "is it running, does it know our AE title, is the way open?"),
        ("audit chain", product.audit, "docs/audit.md says how it is set up"),
        ("access", product.access, "look at the settings"),
    )
    return [
        Examination(subject=subject, look=partial(look, settings), advice=advice)
        for subject, look, advice in looks
    ]
