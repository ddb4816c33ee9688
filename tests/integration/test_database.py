"""The database functions against a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from service.config import Settings
from service.database import appraisals, dead_letters, instances, ledger, outbox
from service.database.delivery import deliveries
from service.database.pool import Pool, open_pool, transaction
from service.errors import DatabaseUnavailableError, RecordNotFoundError
from service.records import (
    DeliveryState,
    InstanceState,
    LedgerEvent,
    Receipt,
)
from tests.records import delivery, judged, offered


def received(pool: Pool, uid: str = "1.2.3") -> int:
    with transaction(pool) as connection:
        return instances.receive(connection, offered(uid))[1]


def test_receive_new_writes_row_ledger_and_message(pool: Pool) -> None:
    with transaction(pool) as connection:
        receipt, instance_id = instances.receive(connection, offered())
        assert receipt is Receipt.NEW
        instance = instances.get(connection, instance_id)
        assert (instance.state, instance.sha256) == (InstanceState.RECEIVED, "a" * 64)
        assert [entry.event for entry in ledger.entries(connection, "1.2.3")] == [LedgerEvent.RECEIVED]
        (message,) = outbox.take_due(connection, 10)
        assert (message.task, message.queue, message.subject_id) == (
            "appraise",
            "gpu",
            str(instance_id),
        )


def test_receive_again_makes_no_new_work(pool: Pool) -> None:
    first = received(pool)
    with transaction(pool) as connection:
        assert instances.receive(connection, offered()) == (Receipt.AGAIN, first)
        assert len(outbox.take_due(connection, 10)) == 1
        events = [entry.event for entry in ledger.entries(connection, "1.2.3")]
        assert events == [LedgerEvent.RECEIVED, LedgerEvent.RECEIVED_AGAIN]


def test_receive_other_bytes_is_quarantined(pool: Pool) -> None:
    first = received(pool)
    with transaction(pool) as connection:
        for _ in range(2):
            assert instances.receive(connection, offered(sha256="d" * 64)) == (Receipt.QUARANTINED, first)
        assert instances.get(connection, first).sha256 == "a" * 64
        assert instances.quarantined(connection) == 1
        assert ledger.entries(connection, "1.2.3")[-1].event is LedgerEvent.QUARANTINED


def test_receive_same_uid_at_once_is_new_once(pool: Pool) -> None:
    barrier = threading.Barrier(4)
    receipts: list[Receipt] = []

    def offer() -> None:
        barrier.wait()
        with transaction(pool) as connection:
            receipts.append(instances.receive(connection, offered())[0])

    threads = [threading.Thread(target=offer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(receipts) == [Receipt.AGAIN, Receipt.AGAIN, Receipt.AGAIN, Receipt.NEW]


def test_receive_many_keeps_order(pool: Pool) -> None:
    with transaction(pool) as connection:
        receipts = instances.receive_many(connection, [offered("1.1"), offered("1.2"), offered("1.1")])
        assert [receipt for receipt, _ in receipts] == [Receipt.NEW, Receipt.NEW, Receipt.AGAIN]
        assert receipts[0][1] == receipts[2][1]


def test_a_transaction_that_raises_keeps_nothing(pool: Pool) -> None:
    def receive_and_fail() -> None:
        with transaction(pool) as connection:
            instances.receive(connection, offered())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        receive_and_fail()
    with transaction(pool) as connection:
        assert instances.by_uid(connection, "1.2.3") is None
        assert outbox.waiting(connection) == 0


def test_unknown_rows(pool: Pool) -> None:
    with transaction(pool) as connection:
        for read in (instances.get, instances.lock, deliveries.get):
            with pytest.raises(RecordNotFoundError):
                read(connection, 77)
        with pytest.raises(RecordNotFoundError):
            appraisals.get(connection, uuid4())


@pytest.mark.parametrize(
    "statement", ["UPDATE ledger SET event = 'x'", "DELETE FROM ledger", "TRUNCATE ledger"]
)
def test_the_ledger_is_append_only(pool: Pool, statement: str) -> None:
    received(pool)
    with (
        transaction(pool) as connection,
        pytest.raises(psycopg.errors.RaiseException, match="append-only"),
    ):
        connection.execute(statement)


def test_claim_counts_before_the_work_and_holds_it(pool: Pool) -> None:
    instance_id = received(pool)
    with transaction(pool) as connection:
        assert instances.claim(connection, instance_id, InstanceState.RECEIVED, 60) == 1
    with transaction(pool) as connection:
        assert instances.claim(connection, instance_id, InstanceState.RECEIVED, 60) is None
        instances.postpone(connection, instance_id, 0)
    with transaction(pool) as connection:
        assert instances.claim(connection, instance_id, InstanceState.APPRAISED, 60) is None
        assert instances.claim(connection, instance_id, InstanceState.RECEIVED, 60) == 2
        instances.postpone(connection, instance_id, 0, count=False)
    with transaction(pool) as connection:
        assert instances.claim(connection, instance_id, InstanceState.RECEIVED, 60) == 2
        instances.set_state(connection, instance_id, InstanceState.APPRAISED)
    with transaction(pool) as connection:
        assert instances.claim(connection, instance_id, InstanceState.APPRAISED, 60) == 1


def test_stalled_are_those_without_message_lease_or_progress(pool: Pool) -> None:
    waiting, held, messaged = received(pool, "1.1"), received(pool, "1.2"), received(pool, "1.3")
    with transaction(pool) as connection:
        messages = outbox.take_due(connection, 10)
        outbox.delete(connection, [m.outbox_id for m in messages if m.subject_id != str(messaged)])
        instances.claim(connection, held, InstanceState.RECEIVED, 60)
    with transaction(pool) as connection:
        found = instances.stalled(connection, timedelta(0))
        assert [instance.instance_id for instance in found] == [waiting]
        assert instances.stalled(connection, timedelta(hours=1)) == []


def test_outbox_is_shared_between_relays_and_holds_back(pool: Pool) -> None:
    with transaction(pool) as connection:
        outbox.put(connection, "t", "io", 1)
        outbox.put(connection, "t", "io", 2, not_before=datetime.now(UTC) + timedelta(hours=1))
        outbox.put_after(connection, "t", "io", 3, 3600)
        outbox.put(connection, "t", "io", 4)
    with transaction(pool) as one, transaction(pool) as other:
        (first,) = outbox.take_due(one, 1)
        (second,) = outbox.take_due(other, 10)
        assert (first.subject_id, second.subject_id) == ("1", "4")
        outbox.delete(one, [first.outbox_id])
    with transaction(pool) as connection:
        assert outbox.waiting(connection) == 3


@pytest.mark.parametrize("rejected", [False, True])
def test_appraisal_round_trip(pool: Pool, *, rejected: bool) -> None:
    instance_id, appraisal = received(pool), judged(rejected=rejected)
    kept = {"heatmap_sha256": "e" * 64, "difference_map_sha256": "f" * 64}
    with transaction(pool) as connection:
        assert appraisals.save(connection, instance_id=instance_id, appraisal=appraisal, **kept)
        assert not appraisals.save(connection, instance_id=instance_id, appraisal=appraisal, **kept)
        saved = appraisals.get(connection, appraisal.appraisal_id)
        assert saved.appraisal == appraisal
        assert (saved.instance_id, saved.heatmap_sha256) == (instance_id, "e" * 64)
        assert appraisals.for_instance(connection, instance_id) == [saved]


def test_regions_saved_before_there_were_reasons_are_read(pool: Pool) -> None:
    instance_id, appraisal = received(pool), judged()
    with transaction(pool) as connection:
        appraisals.save(
            connection,
            instance_id=instance_id,
            appraisal=appraisal,
            heatmap_sha256="",
            difference_map_sha256="",
        )
        connection.execute(
            "UPDATE appraisal SET regions ="
            ' \'[{"region": "nose", "score": 2.5, "z": null, "judged": 0.75}]\'::jsonb'
        )
        (region,) = appraisals.get(connection, appraisal.appraisal_id).appraisal.regions
    assert region == appraisal.regions[0]


def test_delivery_attempts(pool: Pool) -> None:
    instance_id = received(pool)
    with transaction(pool) as connection:
        delivery_id = delivery(connection, instance_id)
        assert [each.delivery_id for each in deliveries.due(connection)] == [delivery_id]
    with transaction(pool) as connection:
        claimed = deliveries.claim(connection, delivery_id, 60)
        assert claimed is not None
        assert claimed.attempts == 1
        assert deliveries.claim(connection, delivery_id, 60) is None
        assert deliveries.due(connection) == []
        deliveries.mark_failed(connection, delivery_id, "A700", datetime.now(UTC) - timedelta(seconds=1))
        assert deliveries.get(connection, delivery_id).last_error == "A700"
        assert deliveries.claim(connection, delivery_id, 60) is not None
        deliveries.mark_dead(connection, delivery_id, "given up")
        assert deliveries.open_for_instance(connection, instance_id) == 0
        assert deliveries.revive(connection, instance_id) == [delivery_id]
        assert deliveries.open_for_instance(connection, instance_id) == 1
        deliveries.mark_delivered(connection, delivery_id)
        assert deliveries.get(connection, delivery_id).state is DeliveryState.DELIVERED
        assert deliveries.counts_by_destination(connection) == {("pacs", DeliveryState.DELIVERED): 1}


def test_of_two_deliveries_ending_at_once_the_last_sees_none_open(pool: Pool) -> None:
    instance_id = received(pool)
    with transaction(pool) as connection:
        ids = [delivery(connection, instance_id, uid) for uid in ("1.8", "1.9")]
    barrier = threading.Barrier(2)
    left: list[int] = []

    def end(delivery_id: int) -> None:
        barrier.wait()
        with transaction(pool) as connection:
            deliveries.mark_delivered(connection, delivery_id)
            left.append(deliveries.open_for_instance(connection, instance_id))

    threads = [threading.Thread(target=end, args=(each,)) for each in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(left) == [0, 1]


def test_dead_letters_stay_until_resolved(pool: Pool) -> None:
    instance_id = received(pool)
    with transaction(pool) as connection:
        dead_letters.add(connection, instance_id=instance_id, step="s", error="E", traceback="T")
        (letter,) = dead_letters.all_open(connection)
        assert (letter.sop_instance_uid, letter.step, letter.traceback) == ("1.2.3", "s", "T")
        assert dead_letters.resolve(connection, instance_id) == 1
        assert dead_letters.all_open(connection) == []


def test_counts_name_every_state(pool: Pool) -> None:
    received(pool)
    with transaction(pool) as connection:
        counts = instances.counts_by_state(connection)
    assert set(counts) == set(InstanceState)
    assert counts[InstanceState.RECEIVED] == 1


def test_a_server_that_is_not_there_is_named(settings: Settings, free_port: Callable[[], int]) -> None:
    nowhere = settings.model_copy(
        update={
            "database_url": f"postgresql://nobody@127.0.0.1:{free_port()}/none",
            "database_timeout_s": 0.2,
        }
    )
    with (
        open_pool(nowhere) as pool,
        pytest.raises(DatabaseUnavailableError, match="PostgreSQL"),
        transaction(pool),
    ):
        pass
