"""One attempt at one step: claimed, run, and on failure held back, retried or given up."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import structlog

from service.config import Settings
from service.database import dead_letters, instances, ledger, outbox
from service.database.delivery import deliveries
from service.database.pool import Connection, transaction
from service.errors import (
    DatabaseUnavailableError,
    DecoderLostError,
    ResultNotAcceptedError,
    SemblanceError,
    StepTimeoutError,
)
from service.meters import STEP_SECONDS
from service.pipeline.backoff import delay_s, full_jitter_s
from service.pipeline.context import Context
from service.pipeline.deadline import within
from service.records import InstanceState, LedgerEvent
from service.steps import Step, Subject

_DECODERS_LOST = 2  # attempts that may end their decoder

_log = structlog.get_logger(__name__)

StepFunction = Callable[[Context, int], None]


class Gate(Protocol):
    """Decides when a claimed delivery may be attempted, and learns how that went."""

    def admit(self, connection: Connection, settings: Settings, delivery_id: int) -> bool:
        """Whether the delivery may go ahead now; else this has seen to it that it is tried again.

        Args:
            connection: In the transaction that claimed the delivery, and gives it back if need be.
            settings: Of the process.
            delivery_id: Claimed.
        """

    def release(
        self, connection: Connection, settings: Settings, delivery_id: int, error: BaseException | None
    ) -> None:
        """Take note of an attempt that ended, after its delivery was saved.

        Args:
            connection: In a transaction of its own.
            settings: Of the process.
            delivery_id: No longer claimed.
            error: What ended the attempt; None when it succeeded.
        """


class Outcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    NOT_DUE = "not-due"  # done before, held by another worker, or held back
    POSTPONED = "postponed"
    DEAD = "dead"


def attempt(
    context: Context, step: Step, function: StepFunction, subject_id: int, gate: Gate | None = None
) -> Outcome:
    """Run a step's function once, unless somebody else does or did.

    Args:
        context: Of the process.
        step: The row of STEPS.
        function: The step's work; raises when it fails.
        subject_id: Instance or delivery, see ``step.subject``.
        gate: Of a step on deliveries.

    Raises:
        DatabaseUnavailableError: The claim was not possible; nothing happened, the message is to stay.
    """
    number = _claim(context, step, subject_id, gate)
    if number is None:
        return Outcome.NOT_DUE
    begun_s = time.monotonic()
    outcome, error = _run(context, step, function, subject_id, number)
    STEP_SECONDS.labels(step=step.task, outcome=outcome.value).observe(time.monotonic() - begun_s)
    if gate is not None:
        _release(context, gate, subject_id, error)
    return outcome


def _run(
    context: Context, step: Step, function: StepFunction, subject_id: int, number: int
) -> tuple[Outcome, BaseException | None]:
    log = _log.bind(step=step.task, subject=step.subject.value, subject_id=subject_id, attempt=number)
    try:
        within(context.settings.step_timeout_s, lambda: function(context, subject_id))
    except DatabaseUnavailableError as exc:
        log.warning("step postponed", error=str(exc))
        return _settle(context, step, subject_id, number, exc, count=False), exc
    except Exception as exc:  # the border: a poison photograph must not stop the rest
        log.warning("step failed", error=describe(exc), exc_info=not isinstance(exc, SemblanceError))
        return _settle(context, step, subject_id, number, exc, count=True), exc
    log.info("step done")
    return Outcome.DONE, None


def _release(context: Context, gate: Gate, delivery_id: int, error: BaseException | None) -> None:
    """Tell the gate; should that not be possible, what it held back is found by the sweeper."""
    try:
        with transaction(context.pool) as connection:
            gate.release(connection, context.settings, delivery_id, error)
    except DatabaseUnavailableError as exc:
        _log.warning("gate not told", delivery_id=delivery_id, error=str(exc))


def describe(exc: BaseException) -> str:
    """Name an error for the ledger: foreign messages may quote patient data and are left out."""
    return f"{type(exc).__name__}: {exc}" if isinstance(exc, SemblanceError) else type(exc).__name__


def _claim(context: Context, step: Step, subject_id: int, gate: Gate | None) -> int | None:
    lease_s = context.settings.stall_after_s
    with transaction(context.pool) as connection:
        if step.subject is Subject.DELIVERY:
            delivery = deliveries.claim(connection, subject_id, lease_s)
            if delivery and gate is not None and not gate.admit(connection, context.settings, subject_id):
                deliveries.unclaim(connection, subject_id)
                return None
            number = delivery.attempts if delivery else None
        else:
            number = instances.claim(connection, subject_id, step.begins_in, lease_s)
    if number is not None and number > _allowed(context, step):  # earlier attempts killed their workers
        with transaction(context.pool) as connection:
            _bury(connection, step, subject_id, "WorkerLost", "every attempt ended with its worker's death")
        return None
    return number


def _allowed(context: Context, step: Step, error: BaseException | None = None) -> int:
    """Attempts before a subject is given up; a permanent refusal gets no more than any step.

    A photograph that ends its decoder gets two: the first may have been somebody else's doing.
    """
    settings = context.settings
    hung = isinstance(error, StepTimeoutError) and step.subject is Subject.INSTANCE
    if hung or isinstance(error, DecoderLostError):
        return min(_DECODERS_LOST, settings.step_max_attempts)
    patient = step.subject is Subject.DELIVERY and not isinstance(error, ResultNotAcceptedError)
    return settings.delivery_max_attempts if patient else settings.step_max_attempts


def _wait_s(step: Step, number: int, settings: Settings) -> float:
    if step.subject is Subject.DELIVERY:
        return full_jitter_s(number, settings.retry_base_s, settings.retry_cap_s)
    return delay_s(number, settings)


def _settle(
    context: Context, step: Step, subject_id: int, number: int, exc: BaseException, *, count: bool
) -> Outcome:
    """Write down a failed attempt; failing that, the lease ends and the sweeper finds it."""
    try:
        with transaction(context.pool) as connection:
            if count and number >= _allowed(context, step, exc):
                trace = "".join(traceback.format_exception(exc))
                _bury(connection, step, subject_id, describe(exc), trace)
                return Outcome.DEAD
            wait_s = _wait_s(step, number, context.settings)
            _postpone(connection, step, subject_id, describe(exc), wait_s, count=count)
            return Outcome.POSTPONED
    except DatabaseUnavailableError as unavailable:
        _log.warning("attempt not recorded", step=step.task, subject_id=subject_id, error=str(unavailable))
        return Outcome.POSTPONED


def _postpone(
    connection: Connection, step: Step, subject_id: int, error: str, wait_s: float, *, count: bool
) -> None:
    detail = {"step": step.task, "error": error, "wait_s": f"{wait_s:.1f}"}
    if step.subject is Subject.DELIVERY:
        delivery = deliveries.get(connection, subject_id)
        deliveries.postpone(connection, subject_id, error, wait_s, count=count)
        detail |= {"destination": delivery.destination, "result": delivery.sop_instance_uid}
        event, instance_id = LedgerEvent.DELIVERY_FAILED, delivery.instance_id
    else:
        instances.postpone(connection, subject_id, wait_s, count=count)
        event, instance_id = LedgerEvent.RETRIED, subject_id
    instance = instances.get(connection, instance_id)
    ledger.append(
        connection,
        event,
        instance_id=instance_id,
        sop_instance_uid=instance.sop_instance_uid,
        detail=detail,
    )
    outbox.put_after(connection, step.task, step.queue, subject_id, wait_s)


def _bury(connection: Connection, step: Step, subject_id: int, error: str, trace: str) -> None:
    """Give a subject up: its instance is DEAD, with a dead letter and a last line in the ledger."""
    instance_id = subject_id
    if step.subject is Subject.DELIVERY:
        instance_id = deliveries.get(connection, subject_id).instance_id
        deliveries.mark_dead(connection, subject_id, error)
    instance = instances.lock(connection, instance_id)
    if instance.state is InstanceState.WITHDRAWN:
        return  # taken back meanwhile: nobody waits for it
    instances.set_state(connection, instance_id, InstanceState.DEAD)
    dead_letters.add(connection, instance_id=instance_id, step=step.task, error=error, traceback=trace)
    ledger.append(
        connection,
        LedgerEvent.DEAD,
        instance_id=instance_id,
        sop_instance_uid=instance.sop_instance_uid,
        detail={"step": step.task, "error": error},
    )
