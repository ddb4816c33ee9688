"""When a study is whole: by what its senders announced, else by a quiet time-out.

A storage commitment request names instances; those of a study that was received are its manifest. A
study closes as *complete* once all of it is here, as *incomplete* when something did not come in time,
and as *quiet* when nothing was announced and nothing came for a while. What comes late opens it again.
A request that names instances of several studies cannot say of which one a missing instance is: it is
then missing in each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import structlog

from service.config import Settings
from service.database import ledger, outbox, studies
from service.database.pool import Connection, Pool, transaction
from service.database.studies import Receipts, Study
from service.records import LedgerEvent, StudyState
from service.steps import REPORT_STUDY

_log = structlog.get_logger(__name__)


def state_of(receipts: Receipts) -> StudyState:
    """The state that receipts put a study in."""
    if receipts.announced and not receipts.missing and not receipts.unannounced:
        return StudyState.COMPLETE
    if not receipts.is_quiet:
        return StudyState.OPEN
    if receipts.missing:
        return StudyState.INCOMPLETE
    return StudyState.COMPLETE if receipts.announced else StudyState.QUIET


def note_received(connection: Connection, instance_ids: Sequence[int]) -> None:
    """Open the studies of new photographs, or close them at once where these were the last announced.

    Args:
        connection: In a transaction.
        instance_ids: Noted any number of times.
    """
    # What was received just now is not quiet, whatever the setting.
    _judge_all(connection, studies.received(connection, instance_ids), timedelta(days=36500))


def note_announced(connection: Connection, settings: Settings, sop_instance_uids: Sequence[str]) -> None:
    """Take note of a storage commitment request, in the transaction that saves it."""
    quiet_for = timedelta(seconds=settings.study_quiet_s)
    _judge_all(connection, studies.of_instances(connection, sop_instance_uids), quiet_for)


def close_quiet(pool: Pool, settings: Settings) -> int:
    """Close studies that nothing came of for ``study_quiet_s``, and ask for reports that fell behind.

    Returns:
        How many messages were written to the outbox.

    Raises:
        DatabaseUnavailableError: The next call finds the same.
    """
    quiet_for = timedelta(seconds=settings.study_quiet_s)
    with transaction(pool) as connection:
        _judge_all(connection, studies.quiet(connection, quiet_for), quiet_for)
    with transaction(pool) as connection:
        behind = studies.ask_for_reports(connection, timedelta(seconds=settings.stall_after_s))
        for instance_id in behind:
            outbox.put(connection, REPORT_STUDY.task, REPORT_STUDY.queue, instance_id)
    return len(behind)


def _judge_all(connection: Connection, study_instance_uids: Iterable[str], quiet_for: timedelta) -> None:
    """Judge studies in their order, so that two of us never wait for each other."""
    for uid in study_instance_uids:
        study = studies.lock(connection, uid)
        if study is not None:
            _judge(connection, study, studies.receipts(connection, study, quiet_for))


def _judge(connection: Connection, study: Study, receipts: Receipts) -> None:
    state = state_of(receipts)
    if (state, receipts.missing) == (study.state, study.missing):
        return
    studies.change(connection, study.study_instance_uid, state, receipts.missing)
    _log.info(
        "study-judged",
        study_instance_uid=study.study_instance_uid,
        state=state.value,
        missing=len(receipts.missing),
    )
    if state is StudyState.INCOMPLETE:
        flagged = set(study.missing) if study.state is StudyState.INCOMPLETE else set()
        for uid in sorted(set(receipts.missing) - flagged):
            ledger.append(
                connection,
                LedgerEvent.MISSING,
                sop_instance_uid=uid,
                detail={"study_instance_uid": study.study_instance_uid},
            )
