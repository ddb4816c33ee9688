"""Nobody looks whether something came: a receipt, and a message whose time has come, wake the relay."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from dicom_node.intake.group_commit import GroupCommit
from dicom_node.intake.waking import Waker
from service.config import Settings
from service.database import outbox
from service.database.pool import Pool, transaction
from service.pipeline.celery_app import CeleryPublisher, make_app
from service.pipeline.relay import Relay
from service.records import Receipt
from service.steps import APPRAISE, Queue
from tests.records import offered
from tests.waiting import wait_until


@pytest.fixture
def publisher(settings: Settings, broker_url: str) -> Iterator[CeleryPublisher]:
    app = make_app(settings.model_copy(update={"broker_url": broker_url}))
    yield CeleryPublisher(app)
    app.close()


@pytest.fixture
def relay(settings: Settings, pool: Pool, publisher: CeleryPublisher) -> Iterator[Relay]:
    """A relay that would look by itself after ten minutes."""
    rare = settings.model_copy(update={"sweep_interval_s": 600.0})
    running = Relay(rare, pool, publisher)
    with transaction(pool) as connection:
        outbox.put(connection, APPRAISE.task, APPRAISE.queue, 1)
    thread = threading.Thread(target=running.run)
    thread.start()
    waiting(publisher, 1)  # its first look is over
    yield running
    began = time.monotonic()
    running.stop()
    thread.join(30)
    assert time.monotonic() - began < 10


def waiting(publisher: CeleryPublisher, messages: int) -> None:
    wait_until(
        lambda: publisher.depth(Queue.GPU) == messages, timeout_s=30, what=f"{messages} messages in the queue"
    )


def test_a_receipt_wakes_the_relay(settings: Settings, relay: Relay, publisher: CeleryPublisher) -> None:
    commit = GroupCommit(settings)
    try:
        for number in range(3):
            assert commit.record(offered(f"1.2.{number}")) is Receipt.NEW
            waiting(publisher, 2 + number)
    finally:
        commit.close()


def test_a_message_that_was_held_back_goes_out_when_it_is_due(
    pool: Pool, relay: Relay, publisher: CeleryPublisher
) -> None:
    with transaction(pool) as connection:
        outbox.put_after(connection, APPRAISE.task, APPRAISE.queue, 2, 1.0)
        assert 0.5 < outbox.next_due_s(connection) <= 1.0
    began = time.monotonic()
    waiting(publisher, 2)
    assert time.monotonic() - began > 0.5


def test_nothing_held_back_is_due_never(pool: Pool) -> None:
    with transaction(pool) as connection:
        assert outbox.next_due_s(connection) == float("inf")


def test_a_waker_comes_back_after_its_connection_was_lost(settings: Settings, pool: Pool) -> None:
    waker = Waker(settings)
    with psycopg.connect(settings.database_url, autocommit=True) as listener:
        listener.execute(f"LISTEN {outbox.CHANNEL}")

        def notified() -> bool:
            waker.wake()
            return any(True for _ in listener.notifies(timeout=0.2, stop_after=1))

        wait_until(notified, timeout_s=30, what="a notification")
        listener.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'SELECT pg_notify%'"
        )
        wait_until(notified, timeout_s=30, what="a notification over another connection")
    waker.close()
    waker.close()
    waker.wake()  # nothing is started any more
