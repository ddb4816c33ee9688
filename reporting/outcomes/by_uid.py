"""The change between two stored photographs, by their SOP Instance UIDs."""

from __future__ import annotations

from reporting.outcomes.change import change_of, refused
from reporting.outcomes.database import pairs, photographs
from reporting.outcomes.following.gather import Dossier, gather
from reporting.outcomes.records import RegionOutcome, ResultSide, WhyNot
from service.appraisal.repeatability import find_repeatability, repeatability_places
from service.config import Settings
from service.database.pool import Connection
from service.errors import OutcomeError, RecordNotFoundError


def change_by_uid(
    connection: Connection, before_uid: str, after_uid: str, settings: Settings
) -> tuple[str, tuple[RegionOutcome, ...], str]:
    """Judge the change between two photographs by the newest method that judged both.

    Args:
        connection: In a transaction.
        before_uid: SOP Instance UID of the earlier one.
        after_uid: Of the later one.
        settings: Uses ``model_dir``, where a site's own repeatability lies.

    Returns:
        Name and version of the method, the change of every region, and what the repeatability it is
        judged by was measured on; "" where there is none.

    Raises:
        RecordNotFoundError: No such photograph, or it has no result yet.
        OutcomeError: Two patients, no method that judged both, the wrong order, a rejected or withdrawn
            result.
    """
    earlier, later = _results(connection, before_uid), _results(connection, after_uid)
    common = [phase for phase in later if phase in earlier]
    if not common:
        raise refused(WhyNot.OTHER_METHOD)
    before, after = max(((earlier[p], later[p]) for p in common), key=lambda pair: pair[1].made_at)
    method = after.appraisal.method
    known = find_repeatability(method, *repeatability_places(settings.model_dir))
    changes = change_of(before, after, known)
    return f"{method.name} {method.version}", changes, "" if known is None else known.basis


def _results(connection: Connection, uid: str) -> dict[str, ResultSide]:
    instance_id = pairs.instance_ids(connection, [uid]).get(uid)
    patient = photographs.patient_of(connection, instance_id) if instance_id is not None else None
    if instance_id is None or patient is None:
        raise RecordNotFoundError(f"no photograph {uid} that was reported")
    dossiers: list[Dossier] = gather(connection, [patient])
    results = next(dict(each.results[instance_id]) for each in dossiers if instance_id in each.results)
    if not results:
        raise OutcomeError(f"photograph {uid} has no date, or no result yet")
    return results
