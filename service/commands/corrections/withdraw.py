"""``semblance withdraw``: take results back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from reporting.fhir.audit import withdrawal
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.render import draft_of
from reporting.fhir.site import site_of
from reporting.fhir.write.withdrawal import withdraw
from reporting.identifiers import observation_id_of
from service.commands.options import By, DataDir, Reason, settings_of, user
from service.config import Settings
from service.database import appraisals, instances
from service.database.pool import Connection, connect
from service.errors import RecordNotFoundError


def withdraw_command(
    uid: Annotated[str, typer.Argument(help="SOP Instance UID of a photograph, or the id of one appraisal.")],
    *,
    reason: Reason,
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Take a result back: EHRs read it as entered in error, with the reason; nothing is deleted.

    Example: `semblance withdraw 2.25.1234 --reason "photograph of another patient"`.
    """
    settings = settings_of(data_dir)
    with connect(settings) as connection:
        for appraisal_id in _appraisals(connection, uid):
            saved = _withdraw(connection, appraisal_id, reason, user(by), settings)
            done = "is withdrawn" if saved else "was withdrawn before"
            sys.stdout.write(f"appraisal {appraisal_id} {done}\n")


def _withdraw(connection: Connection, appraisal_id: UUID, reason: str, who: str, settings: Settings) -> bool:
    """Take one result back and note who did it, in one transaction; False when it was taken back before."""
    observation_id = observation_id_of(str(appraisal_id))
    saved = withdraw(connection, observation_id, reason=reason, who=who, settings=settings)
    stored = fhir_resources.read(connection, "Observation", observation_id)
    command = f"semblance withdraw {appraisal_id} --reason {reason}"
    done = "withdrawn" if saved else "withdrawn before"
    event = withdrawal([observation_id], stored.patient if stored else None, who, command, done)
    draft = draft_of(event, site=site_of(settings))
    fhir_resources.save(connection, [draft], author="semblance")
    return bool(saved)


def _appraisals(connection: Connection, uid: str) -> list[UUID]:
    """Ids of the appraisals that are meant.

    Raises:
        RecordNotFoundError: No such photograph or appraisal, or it has no result yet.
    """
    try:
        return [appraisals.get(connection, UUID(uid)).appraisal.appraisal_id]
    except ValueError:  # no UUID: a SOP Instance UID
        instance = instances.by_uid(connection, uid)
    found = appraisals.for_instance(connection, instance.instance_id) if instance else []
    if not found:
        raise RecordNotFoundError(f"no appraisal of a photograph {uid}")
    return [each.appraisal.appraisal_id for each in found]
