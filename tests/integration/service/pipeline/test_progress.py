"""Outbox, relay, sweeper and attempts, with a real PostgreSQL and a real Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from weakref import WeakSet

import pytest
from celery.contrib.testing.worker import start_worker

from service.config import Settings
from service.database import dead_letters, instances, ledger, outbox
from service.database.delivery import deliveries
from service.database.pool import Pool, transaction
from service.errors import BrokerUnavailableError, DatabaseUnavailableError, StorageError
from service.pipeline.attempt import Outcome, attempt
from service.pipeline.celery_app import CeleryPublisher, SemblanceApp, make_app, task
from service.pipeline.context import Context
from service.pipeline.progress import appraised, delivered, reported
from service.pipeline.publishing import publish_due
from service.pipeline.relay import Relay
from service.pipeline.sweeper import sweep
from service.records import InstanceState, LedgerEvent
from service.stack.servers import EmbeddedRedis
from service.steps import APPRAISE, DELIVER, Queue
from service.storage.local import InstanceStore
from tests.records import delivery, offered
from tests.waiting import wait_until


@pytest.fixture
def context(settings: Settings, pool: Pool, store: InstanceStore) -> Context:
    quick = settings.model_copy(
        update={"retry_base_s": 0.01, "retry_cap_s": 0.02, "step_max_attempts": 3, "stall_after_s": 0.0}
    )
    return Context(settings=quick, pool=pool, store=store)


@pytest.fixture
def app(context: Context, broker_url: str) -> Iterator[SemblanceApp]:
    made = make_app(context.settings.model_copy(update={"broker_url": broker_url}))
    yield made
    made.close()


@pytest.fixture
def publisher(app: SemblanceApp) -> CeleryPublisher:
    return CeleryPublisher(app)


def receive(pool: Pool, uid: str = "1.2.3") -> int:
    with transaction(pool) as connection:
        return instances.receive(connection, offered(uid))[1]


def events(pool: Pool, uid: str = "1.2.3") -> list[LedgerEvent]:
    with transaction(pool) as connection:
        return [entry.event for entry in ledger.entries(connection, uid)]


def state(pool: Pool, instance_id: int) -> InstanceState:
    with transaction(pool) as connection:
        return instances.get(connection, instance_id).state


def test_due_messages_reach_their_queue_and_leave_the_outbox(pool: Pool, publisher: CeleryPublisher) -> None:
    for uid in ("1.1", "1.2", "1.3"):
        receive(pool, uid)
    assert publisher.depth(Queue.GPU) == 0
    assert publish_due(pool, publisher, limit=2) == 2
    assert publish_due(pool, publisher, limit=2) == 1
    assert publisher.depth(Queue.GPU) == 3
    with transaction(pool) as connection:
        assert outbox.waiting(connection) == 0


def test_a_broker_that_is_down_keeps_the_outbox(
    pool: Pool, publisher: CeleryPublisher, broker: EmbeddedRedis
) -> None:
    receive(pool)
    broker.stop()
    with pytest.raises(BrokerUnavailableError):
        publish_due(pool, publisher)
    with transaction(pool) as connection:
        assert outbox.waiting(connection) == 1
    broker.start()
    assert publish_due(pool, publisher) == 1


def test_sweep_enqueues_what_a_wiped_broker_lost_once(
    context: Context, publisher: CeleryPublisher, broker: EmbeddedRedis
) -> None:
    for uid in ("1.1", "1.2"):
        receive(context.pool, uid)
    publish_due(context.pool, publisher)
    patient = context.settings.model_copy(update={"stall_after_s": 1e-6})
    queued = context.settings.model_copy(update={"stall_after_s": 1.0})
    assert sweep(context.pool, publisher, queued) == 0
    broker.stop()
    broker.start()
    assert sweep(context.pool, publisher, patient) == 2
    assert sweep(context.pool, publisher, patient) == 0  # their messages wait in the outbox


def test_sweep_finds_no_stall_while_the_queue_holds_the_messages(
    pool: Pool, context: Context, publisher: CeleryPublisher
) -> None:
    receive(pool)
    publish_due(pool, publisher)
    with transaction(pool) as connection:  # older than the stall, younger than ten times it
        connection.execute("UPDATE instance SET progressed_at = now() - interval '90 seconds'")
    assert sweep(pool, publisher, context.settings.model_copy(update={"stall_after_s": 60.0})) == 0
    assert sweep(pool, publisher, context.settings.model_copy(update={"stall_after_s": 5.0})) == 1


def test_sweep_enqueues_overdue_deliveries(pool: Pool, context: Context, publisher: CeleryPublisher) -> None:
    instance_id = receive(pool)
    with transaction(pool) as connection:
        outbox.delete(connection, [m.outbox_id for m in outbox.take_due(connection, 10)])
        instances.set_state(connection, instance_id, InstanceState.REPORTED)
        delivery_id = delivery(connection, instance_id)
        connection.execute("UPDATE delivery SET next_attempt_at = now() - interval '90 seconds'")
    assert sweep(pool, publisher, context.settings.model_copy(update={"stall_after_s": 60.0})) == 1
    with transaction(pool) as connection:
        (message,) = outbox.take_due(connection, 10)
    assert (message.task, message.subject_id) == (DELIVER.task, str(delivery_id))


def test_an_attempt_runs_once_and_not_for_another_state(context: Context) -> None:
    instance_id = receive(context.pool)
    seen: list[int] = []

    def work(given: Context, subject_id: int) -> None:
        seen.append(subject_id)
        with transaction(given.pool) as connection:
            appraised(connection, subject_id, LedgerEvent.APPRAISED, {})

    assert attempt(context, APPRAISE, work, instance_id) is Outcome.DONE
    assert attempt(context, APPRAISE, work, instance_id) is Outcome.NOT_DUE
    assert seen == [instance_id]
    assert events(context.pool) == [LedgerEvent.RECEIVED, LedgerEvent.APPRAISED]


def test_a_failing_step_is_retried_and_ends_as_a_dead_letter(context: Context) -> None:
    instance_id = receive(context.pool)

    def work(_context: Context, _subject_id: int) -> None:
        raise ZeroDivisionError("secret of a patient")

    outcomes: list[Outcome] = []
    while not outcomes or outcomes[-1] is not Outcome.DEAD:
        wait_until(
            lambda: outcomes.append(attempt(context, APPRAISE, work, instance_id)) or outcomes,  # type: ignore[func-returns-value]
            timeout_s=30,
            what="an attempt",
        )
    assert [each for each in outcomes if each is not Outcome.NOT_DUE] == [
        Outcome.POSTPONED,
        Outcome.POSTPONED,
        Outcome.DEAD,
    ]
    assert state(context.pool, instance_id) is InstanceState.DEAD
    assert events(context.pool) == [
        LedgerEvent.RECEIVED,
        LedgerEvent.RETRIED,
        LedgerEvent.RETRIED,
        LedgerEvent.DEAD,
    ]
    with transaction(context.pool) as connection:
        (letter,) = dead_letters.all_open(connection)
        assert letter.error == "ZeroDivisionError"
        assert "in work" in letter.traceback
        assert "secret" not in str([entry.detail for entry in ledger.entries(connection, "1.2.3")])


def test_work_that_kills_its_worker_is_given_up_too(context: Context) -> None:
    instance_id = receive(context.pool)
    with transaction(context.pool) as connection:  # three attempts that never came back
        connection.execute("UPDATE instance SET attempts = 3")

    def work(_context: Context, _subject_id: int) -> None:
        raise AssertionError("not to be run again")

    assert attempt(context, APPRAISE, work, instance_id) is Outcome.NOT_DUE
    assert state(context.pool, instance_id) is InstanceState.DEAD
    with transaction(context.pool) as connection:
        assert dead_letters.all_open(connection)[0].error == "WorkerLost"


def test_the_database_going_away_counts_no_attempt(context: Context) -> None:
    instance_id = receive(context.pool)

    def work(_context: Context, _subject_id: int) -> None:
        raise DatabaseUnavailableError("restart")

    for _ in range(5):
        wait_until(
            lambda: attempt(context, APPRAISE, work, instance_id) is Outcome.POSTPONED,
            timeout_s=30,
            what="the next attempt",
        )
    assert state(context.pool, instance_id) is InstanceState.RECEIVED


def test_a_delivery_fails_is_retried_and_closes_the_instance(context: Context) -> None:
    instance_id = receive(context.pool)
    with transaction(context.pool) as connection:
        instances.set_state(connection, instance_id, InstanceState.APPRAISED)
        delivery_id = delivery(connection, instance_id)
        reported(connection, instance_id, [delivery_id], {})
    assert state(context.pool, instance_id) is InstanceState.REPORTED
    refusals = ["A700"]

    def work(given: Context, subject_id: int) -> None:
        if refusals:
            raise StorageError(refusals.pop())
        with transaction(given.pool) as connection:
            delivered(connection, deliveries.get(connection, subject_id), {"status": "0000"})

    assert attempt(context, DELIVER, work, delivery_id) is Outcome.POSTPONED
    wait_until(
        lambda: attempt(context, DELIVER, work, delivery_id) is Outcome.DONE,
        timeout_s=30,
        what="the delivery to be due again",
    )
    assert state(context.pool, instance_id) is InstanceState.DELIVERED
    assert events(context.pool)[1:] == [
        LedgerEvent.REPORTED,
        LedgerEvent.DELIVERY_FAILED,
        LedgerEvent.DELIVERED,
    ]


def test_an_instance_with_nothing_to_deliver_is_delivered_when_reported(context: Context) -> None:
    instance_id = receive(context.pool)
    with transaction(context.pool) as connection:
        instances.set_state(connection, instance_id, InstanceState.APPRAISED)
        reported(connection, instance_id, [], {})
    assert state(context.pool, instance_id) is InstanceState.DELIVERED


def test_relay_and_worker_carry_a_photograph_on(
    context: Context, app: SemblanceApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shared tasks are kept for the whole process, and given to every app that is still about: the one
    # declared here must not meet the real one.
    monkeypatch.setattr("celery._state._on_app_finalizers", set())
    monkeypatch.setattr("celery._state._apps", WeakSet([app]))
    done = threading.Event()

    @task(APPRAISE)
    def work(given: Context, subject_id: int) -> None:
        with transaction(given.pool) as connection:
            appraised(connection, subject_id, LedgerEvent.APPRAISED, {})
        done.set()

    vars(app)["context"] = context  # type: ignore[index]
    relay = Relay(context.settings, context.pool, CeleryPublisher(app))
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        with start_worker(app, pool="threads", concurrency=1, perform_ping_check=False, queues="gpu"):
            instance_id = receive(context.pool)
            assert done.wait(60)
            wait_until(
                lambda: state(context.pool, instance_id) is InstanceState.APPRAISED,
                timeout_s=30,
                what="the photograph to be appraised",
            )
    finally:
        relay.stop()
        thread.join(30)
