"""``python -m reporting.withdraw``: take results back; what ``semblance withdraw`` runs."""

from __future__ import annotations

import argparse
import getpass
import sys
from uuid import UUID

from reporting.fhir.results import observation_id_of
from reporting.fhir.withdrawal import withdraw
from service.config import load_settings
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
                saved = withdraw(
                    connection,
                    observation_id_of(str(appraisal_id)),
                    reason=options.reason,
                    who=options.by,
                    settings=settings,
                )
                done = "is withdrawn" if saved else "was withdrawn before"
                sys.stdout.write(f"appraisal {appraisal_id} {done}\n")
    except RecordNotFoundError as exc:
        sys.stderr.write(f"semblance: {exc}\n")
        return ExitCode.FAILED
    except SemblanceError as exc:
        sys.stderr.write(f"semblance: {exc}\n")
        return code_of(exc)
    return ExitCode.DONE


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
