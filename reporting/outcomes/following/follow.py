"""Tasks and chores that keep pairs up to date: safe to run twice, found again when lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from uuid import UUID

import structlog

from reporting.dicom.context import ReportContext
from reporting.fhir.results import AUTHOR
from reporting.outcomes.database import changes, pairs, photographs, queue
from reporting.outcomes.database import phases as phase_rows
from reporting.outcomes.database.changes import KnownChange
from reporting.outcomes.database.pairs import NewRole, NewState, RoleRow
from reporting.outcomes.following.gather import Dossier, decisions, gather, today, windows_by_code
from reporting.outcomes.following.judge import CaseOutcome, Made, judge
from reporting.outcomes.hints import hint_of
from reporting.outcomes.patients import persons_standing
from reporting.outcomes.records import DecidedBy, RegionOutcome, Role, WhyNot
from service.appraisal.repeatability import Repeatability, find_repeatability, repeatability_places
from service.config import Settings
from service.database import outbox, reappraisals
from service.database.pool import Connection, Pool, transaction
from service.pipeline.celery_app import errand
from service.pipeline.context import Context
from service.records import MethodIdentity
from service.steps import PAIR, REAPPRAISE, REPORT_CHANGE

_log = structlog.get_logger(__name__)

_UNDER_WAY = 8  # photographs that are appraised again at a time: new ones come first


def note_photograph(connection: Connection, context: ReportContext, patient: str) -> None:
    """Take note of a photograph that is being reported; its patient's pairs are made anew.

    Args:
        connection: In the transaction that saves its results.
        context: The photograph and its appraisal.
        patient: Logical id of the Patient its results are of.
    """
    identity, saved = context.source.identity, context.saved
    hint, hint_source = hint_of(context.source.header)
    before = photographs.patient_of(connection, saved.instance_id)
    photographs.note(
        connection,
        instance_id=saved.instance_id,
        patient=patient,
        acquired_on=identity.acquired_on,
        acquired_at=identity.acquired_at,
        born_on=identity.patient_birth_date,
        site=identity.institution_name,
        hint=hint,
        hint_source=hint_source,
    )
    queue.touch(connection, [patient, before or patient])
    method = saved.appraisal.method
    if phase_rows.begin(
        connection,
        phase=method.phase,
        method=f"{method.name} {method.version}",
        begins_on=saved.created_at.date(),
        reason="first result of this method",
        author=AUTHOR,
    ):
        asked = reappraisals.want(connection, pairs.with_roles(connection), method.phase)
        _log.info("phase-begun", phase=method.phase, method=method.name, reappraisals=asked)


def ask(pool: Pool, settings: Settings) -> None:
    """Ask for due pairs, due Observations and due re-appraisals; done before each sweep."""
    stall = timedelta(seconds=settings.stall_after_s)
    with transaction(pool) as connection:
        queue.gather(connection)
        for subject in queue.due(connection, stall):
            outbox.put(connection, PAIR.task, PAIR.queue, subject)
        for subject in queue.due_unpublished(connection, stall):
            outbox.put(connection, REPORT_CHANGE.task, REPORT_CHANGE.queue, subject)
        for subject in reappraisals.due(connection, stall, _UNDER_WAY):
            outbox.put(connection, REAPPRAISE.task, REAPPRAISE.queue, subject)


@errand(PAIR)
def pair_patients(context: Context, outcome_patient_id: int) -> None:
    """Make the pairs of a patient anew, and of others that wait, in one transaction.

    Args:
        context: Of the process.
        outcome_patient_id: Whose pairs are behind; nothing is done when they are not.
    """
    with transaction(context.pool) as connection:
        follow(connection, context.settings, first=outcome_patient_id)


def follow(connection: Connection, settings: Settings, *, first: int = 0, limit: int = 200) -> int:
    """Make the pairs of patients that are behind; returns of how many.

    Args:
        connection: In a transaction.
        settings: Uses ``model_dir``, where a site's own repeatability lies.
        first: Row of the patient that is taken first; 0: any.
        limit: Patients at most.
    """
    taken = queue.take(connection, first, limit)
    if not taken:
        return 0
    patients = [each.patient for each in taken]
    queue.hold_persons(
        connection, persons_standing(connection, patients)
    )  # then read: nobody else changes it
    dossiers = gather(connection, patients)
    decided, day = decisions(connection, dossiers), today(connection)
    windows = windows_by_code(connection)
    found = [
        outcome
        for dossier in dossiers
        for outcome in judge(
            dossier,
            windows=windows,
            decisions=decided,
            repeatability=lambda method: _repeatability(method, settings.model_dir),
            today=day,
        )
    ]
    _save(connection, found)
    _ask_for_common_method(connection, dossiers, found)
    queue.mark_paired(connection, taken)
    return len(taken)


@lru_cache(maxsize=32)
def _repeatability(method: MethodIdentity, model_dir: Path | None) -> Repeatability | None:
    return find_repeatability(method, *repeatability_places(model_dir))


def _save(connection: Connection, found: Sequence[CaseOutcome]) -> None:
    case_ids = [each.case.case_id for each in found]
    _save_roles(connection, found)
    pairs.set_conflicts(
        connection,
        case_ids,
        {name: (each.case.case_id, conflict) for each in found for name, conflict in each.conflicts.items()},
    )
    pairs.set_states(
        connection,
        case_ids,
        [
            NewState(case=each.case, window=window, state=state, reason=reason)
            for each in found
            for window, state, reason in each.states
        ],
    )
    _save_changes(connection, found)


def _save_roles(connection: Connection, found: Sequence[CaseOutcome]) -> None:
    """Write down roles that differ from those there are."""
    before: dict[UUID, dict[str, RoleRow]] = {}
    for (of_case, name), row in pairs.roles_of(connection, [each.case.case_id for each in found]).items():
        before.setdefault(of_case, {})[name] = row
    new: list[NewRole] = []
    for each in found:
        case_id = each.case.case_id
        earlier = before.get(case_id, {})
        now = {assigned.window.name: assigned for assigned in each.assigned}
        for name, assigned in now.items():
            was = earlier.get(name)
            if was and (was.instance_id, was.decided_by) == (assigned.instance_id, assigned.decided_by):
                continue
            new.append(
                NewRole(
                    case_id=case_id,
                    window=name,
                    role=assigned.window.role,
                    instance_id=assigned.instance_id,
                    decided_by=assigned.decided_by,
                    reason=assigned.reason,
                )
            )
        new += [
            NewRole(
                case_id=case_id,
                window=name,
                role=Role.PRE if name == "before" else Role.POST,
                instance_id=None,
                decided_by=DecidedBy.RULE,
                reason="no photograph can be used any more",
            )
            for name, was in earlier.items()
            if name not in now and was.instance_id is not None
        ]
    pairs.set_roles(connection, new, AUTHOR)


def _save_changes(connection: Connection, found: Sequence[CaseOutcome]) -> None:
    """Add changes, let those that are there follow their case, and take out those that no longer count."""
    known = {each.name: each for each in changes.known(connection, [each.case.case_id for each in found])}
    fresh: list[tuple[Made, RegionOutcome]] = []
    validity: list[tuple[KnownChange, WhyNot | None]] = []
    behind: set[tuple[UUID, UUID, str]] = set()
    kept: set[tuple[UUID, UUID, str, str]] = set()
    versions = {each.case_id: each.case_version for each in known.values()}
    for outcome in found:
        case = outcome.case
        if versions.get(case.case_id, case.version) < case.version:
            changes.follow_case(connection, case)
            behind |= {name[:3] for name in known if name[1] == case.case_id}
        for made in outcome.made:
            for region in made.regions:
                name = (made.new.change_id, case.case_id, made.new.window, region.region.value)
                kept.add(name)
                row = known.get(name)
                if row is None:
                    fresh.append((made, region))
                    behind.add(name[:3])
                elif (row.why_not or None) != region.why_not:
                    validity.append((row, region.why_not))
    reasons = {(each.case.case_id, name): why for each in found for name, why in each.invalid.items()}
    for row in known.values():
        if row.valid and row.name not in kept:
            validity.append((row, reasons.get((row.case_id, row.window), WhyNot.SUPERSEDED)))
    changes.add(connection, ((made.new, region) for made, region in fresh))
    changes.set_validity(connection, validity)
    behind |= {row.name[:3] for row, _ in validity}
    queue.unpublish(connection, behind)


def _ask_for_common_method(
    connection: Connection, dossiers: Sequence[Dossier], found: Iterable[CaseOutcome]
) -> None:
    """Have photographs of a pair appraised by the method that judged last, where one was not."""
    wanted: dict[str, list[int]] = {}
    for each in found:
        for instance_id, phase in each.to_reappraise:
            wanted.setdefault(phase, []).append(instance_id)
    for phase, instance_ids in wanted.items():
        reappraisals.want(connection, instance_ids, phase)
