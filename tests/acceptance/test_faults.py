"""What must lose nothing: a worker killed, the broker wiped, PostgreSQL stopped, a destination down."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from dicom_node.demo.pacs import AE_TITLE, DemoPacs
from service.database import outbox
from service.database.pool import transaction
from service.errors import SchemaError
from service.peers import Destination
from service.pipeline.again.retry import retry_instance
from service.records import InstanceState, LedgerEvent
from tests.photographs import photograph
from tests.stack import RunningStack, run_stack
from tests.waiting import wait_until

_OUT_OF_RESOURCES = 0xA700
_WHOLE = [LedgerEvent.RECEIVED, LedgerEvent.APPRAISED, LedgerEvent.REPORTED]


def assert_whole(stack: RunningStack, uid: str) -> None:
    """Every step once, in order, then every delivery once."""
    passing = {LedgerEvent.REFUSED, LedgerEvent.RETRIED, LedgerEvent.DELIVERY_FAILED}
    events = [each for each in stack.events(uid) if each not in passing]
    assert events[:3] == _WHOLE
    assert set(events[3:]) == {LedgerEvent.DELIVERED}
    delivered = [each.detail["result"] for each in stack.ledger(uid) if each.event is LedgerEvent.DELIVERED]
    assert len(delivered) == len(set(delivered))


def attempts(stack: RunningStack, uid: str) -> int:
    with transaction(stack.pool) as connection:
        row = connection.execute(
            "SELECT attempts FROM instance WHERE sop_instance_uid = %s", (uid,)
        ).fetchone()
    assert row is not None
    return int(row["attempts"])


def all_published(stack: RunningStack) -> bool:
    with transaction(stack.pool) as connection:
        return outbox.waiting(connection) == 0


def test_a_worker_killed_in_the_middle(stack: RunningStack) -> None:
    """SIGKILL while the first photograph, for which models are loaded, is being appraised."""
    sent = photograph()
    uid = sent.SOPInstanceUID
    assert stack.send(sent) == 0
    wait_until(lambda: attempts(stack, uid) == 1, timeout_s=60, what="the worker to begin", interval_s=0.01)
    killed = stack.signal("worker-gpu", signal.SIGKILL)
    assert stack.instance(uid).state is InstanceState.RECEIVED
    wait_until(lambda: stack.stack.supervisor.pids["worker-gpu"] != killed, timeout_s=60, what="a new worker")
    stack.wait_for(uid, InstanceState.DELIVERED)
    assert_whole(stack, uid)


def test_the_whole_path_is_gone_as_a_writer_that_can_change_nothing_sealed(stack: RunningStack) -> None:
    sent = photograph()
    assert stack.send(sent) == 0
    stack.wait_for(sent.SOPInstanceUID, InstanceState.DELIVERED)
    with psycopg.connect(stack.facts.database_owner_url) as connection:
        roles = connection.execute(
            "SELECT DISTINCT usename::text FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend'"
            " AND pid <> pg_backend_pid()"
        ).fetchall()
    assert roles == [("semblance_writer",)]
    with pytest.raises(SchemaError, match="may not do that"), transaction(stack.pool) as connection:
        connection.execute("UPDATE ledger SET event = event")


@pytest.mark.parametrize("way", ["flushed", "restarted"])
def test_redis_wiped_while_jobs_wait(stack: RunningStack, way: str) -> None:
    assert stack.stack.redis is not None
    with stack.held("worker-gpu"):
        sent = [photograph() for _ in range(3)]
        assert [stack.send(each) for each in sent] == [0, 0, 0]
        wait_until(lambda: all_published(stack), timeout_s=60, what="the outbox to be published")
        if way == "flushed":
            path = stack.facts.broker_url.removeprefix("redis+socket://")
            with redis.Redis(unix_socket_path=path) as client:
                client.flushall()
        else:
            stack.stack.redis.stop()
            stack.stack.redis.start()
    for each in sent:
        stack.wait_for(each.SOPInstanceUID, InstanceState.DELIVERED)
        assert_whole(stack, each.SOPInstanceUID)


def test_postgresql_stopped_for_ten_seconds(stack: RunningStack) -> None:
    """What was acknowledged goes on afterwards; what is offered meanwhile is refused and taken later."""
    with stack.held("worker-gpu"):
        acknowledged = [photograph() for _ in range(2)]
        assert [stack.send(each) for each in acknowledged] == [0, 0]
    offered = photograph()
    stack.stack.postgres.stop()
    stopped_at = time.monotonic()
    statuses = []
    while time.monotonic() < stopped_at + 10:
        statuses.append(stack.send(offered))
    stack.stack.postgres.start()
    assert set(statuses) == {_OUT_OF_RESOURCES}
    wait_until(lambda: stack.send(offered) == 0, timeout_s=60, what="the photograph to be taken")
    for each in (*acknowledged, offered):
        stack.wait_for(each.SOPInstanceUID, InstanceState.DELIVERED)
        assert_whole(stack, each.SOPInstanceUID)


def test_a_poison_photograph_stops_nothing_and_can_be_taken_up_again(stack: RunningStack) -> None:
    """Its bytes rot in the store: five attempts, a dead letter, and the next one is appraised meanwhile."""
    with stack.held("worker-gpu"):
        poison, good = photograph(), photograph()
        assert [stack.send(each) for each in (poison, good)] == [0, 0]
        path = stack.store.path_of(stack.instance(poison.SOPInstanceUID).sha256)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    stack.wait_for(good.SOPInstanceUID, InstanceState.DELIVERED)
    wait_until(
        lambda: stack.instance(poison.SOPInstanceUID).state is InstanceState.DEAD,
        timeout_s=60,
        what="the poison to be given up",
    )
    assert stack.events(poison.SOPInstanceUID) == [
        LedgerEvent.RECEIVED,
        *[LedgerEvent.RETRIED] * 4,
        LedgerEvent.DEAD,
    ]
    (letter,) = stack.dead_letters()
    assert letter.sop_instance_uid == poison.SOPInstanceUID
    assert letter.error.startswith("CorruptInstanceError")
    assert "in appraise" in letter.traceback

    path.write_bytes(content)
    with transaction(stack.pool) as connection:
        retry_instance(connection, letter.instance_id)
    wait_until(
        lambda: stack.instance(poison.SOPInstanceUID).state is InstanceState.DELIVERED,
        timeout_s=60,
        what="the photograph to be delivered after all",
    )
    assert stack.dead_letters() == []


def test_the_same_photograph_again_makes_nothing_new(stack: RunningStack) -> None:
    sent = photograph()
    assert stack.send(sent) == 0
    stack.wait_for(sent.SOPInstanceUID, InstanceState.DELIVERED)
    before = sorted(Path(stack.facts.pacs_directory, sent.StudyInstanceUID).iterdir())
    assert stack.send(sent) == 0
    assert stack.events(sent.SOPInstanceUID)[-1] is LedgerEvent.RECEIVED_AGAIN
    assert all_published(stack)
    assert sorted(Path(stack.facts.pacs_directory, sent.StudyInstanceUID).iterdir()) == before


def test_a_destination_down_for_a_while(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    pacs = Destination(name="archive", ae_title=AE_TITLE, host="127.0.0.1", port=port)
    with run_stack(destinations=[pacs], demo_pacs=False) as stack:
        sent = photograph()
        uid = sent.SOPInstanceUID
        assert stack.send(sent) == 0
        wait_until(
            lambda: stack.events(uid).count(LedgerEvent.DELIVERY_FAILED) >= 3,
            timeout_s=60,
            what="failed deliveries",
        )
        assert stack.instance(uid).state is InstanceState.REPORTED
        archive = DemoPacs(tmp_path / "archive", port)
        try:
            stack.wait_for(uid, InstanceState.DELIVERED)
        finally:
            archive.stop()
        assert_whole(stack, uid)
        delivered = {
            each.detail["result"] for each in stack.ledger(uid) if each.event is LedgerEvent.DELIVERED
        }
        kept = {path.stem for path in (tmp_path / "archive" / sent.StudyInstanceUID).iterdir()}
        assert kept == delivered
