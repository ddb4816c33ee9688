"""``python -m service.commands.withdraw``: take results back; what ``semblance withdraw`` runs."""

from __future__ import annotations

import argparse
import getpass
import sys
from uuid import UUID

from reporting.fhir.audit import withdrawal
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.render import draft_of
from reporting.fhir.results import observation_id_of
from reporting.fhir.write.withdrawal import withdraw
from service.config import Settings, load_settings
from service.database import appraisals, instances
from service.database.pool import Connection, connect
from service.errors import RecordNotFoundError, SemblanceError
from service.exit_codes import ExitCode, code_of


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="semblance withdraw", description="Take results back.")
    parser.add_argument("uid", help="SOP Instance UID of a photograph, or the id of one appraisal")
    parser.add_argument("--reason", required=True, help="why; no patient data")
    parser.add_argument("--by", default=getpass.getuser(), help="who; the user that runs it if not said")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings()
        with connect(settings) as connection:
            for appraisal_id in _appraisals(connection, options.uid):
                saved = _withdraw(connection, appraisal_id, options.reason, options.by, settings)
                done = "is withdrawn" if saved else "was withdrawn before"
                sys.stdout.write(f"appraisal {appraisal_id} {done}\n")
    except RecordNotFoundError as exc:
        sys.stderr.write(f"semblance: {exc}\n")
        return ExitCode.FAILED
    except SemblanceError as exc:
        sys.stderr.write(f"semblance: {exc}\n")
        return code_of(exc)
    return ExitCode.DONE


def _withdraw(connection: Connection, appraisal_id: UUID, reason: str, who: str, settings: Settings) -> bool:
    """Take one result back and note who did it, in one transaction; False when it was taken back before."""
    observation_id = observation_id_of(str(appraisal_id))
    saved = withdraw(connection, observation_id, reason=reason, who=who, settings=settings)
    stored = fhir_resources.read(connection, "Observation", observation_id)
    command = f"semblance withdraw {appraisal_id} --reason {reason}"
    event = withdrawal(observation_id, stored.patient if stored else None, who, command, done=bool(saved))
    draft = draft_of(event, base_url=settings.fhir_base_url())
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


if __name__ == "__main__":
    raise SystemExit(main())
