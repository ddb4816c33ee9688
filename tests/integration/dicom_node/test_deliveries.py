"""Deliveries past the gate: breaker, limit, permanent and passing refusals, with real destinations."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.delivery.breaker import DestinationGate
from dicom_node.delivery.deliver import deliver
from service.config import Settings
from service.database import appraisals, dead_letters, instances, ledger, outbox
from service.database.delivery import deliveries, destinations
from service.database.delivery.destinations import DestinationState
from service.database.pool import Pool, transaction
from service.peers import Destination
from service.pipeline.attempt import Outcome, attempt
from service.pipeline.context import Context
from service.records import BreakerState, DeliveryState, InstanceState, LedgerEvent
from service.steps import DELIVER
from service.storage.local import InstanceStore
from tests.dicom_objects import photograph
from tests.part10 import part10
from tests.peers import find_peer
from tests.records import judged, offered
from tests.waiting import wait_until


class Pacs:
    """A destination on a fixed port that can be away, refuse, and be looked into."""

    def __init__(self, port: int) -> None:
        self.destination = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
        self.status: Callable[[], int] = lambda: 0x0000
        self.stored: list[str] = []
        self.taken: list[str] = []  # and never answered
        self.break_next = False  # breaks off after the next object, before the answer
        self.echoes = 0
        self._server: object = None

    def start(self) -> None:
        ae = AE(ae_title="PACS")
        ae.add_supported_context(SecondaryCaptureImageStorage, [ExplicitVRLittleEndian])
        ae.add_supported_context(Verification)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, self._echo)]
        self._server = ae.start_server(
            ("127.0.0.1", self.destination.port), block=False, evt_handlers=handlers
        )

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()  # type: ignore[attr-defined]
            self._server = None

    def _store(self, event: Event) -> int:
        status = self.status()
        if self.break_next:
            self.break_next = False
            self.taken.append(str(event.request.AffectedSOPInstanceUID))
            event.assoc.abort()
        if status == 0x0000:
            self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return status

    def _echo(self, _event: Event) -> int:
        self.echoes += 1
        return 0x0000


@pytest.fixture
def pacs(free_port: Callable[[], int]) -> Iterator[Pacs]:
    made = Pacs(free_port())
    yield made
    made.stop()


@pytest.fixture
def context(settings: Settings, pool: Pool, store: InstanceStore, pacs: Pacs) -> Context:
    configured = settings.model_copy(
        update={
            "destinations": (pacs.destination,),
            "delivery_timeout_s": 10.0,
            "retry_base_s": 0.001,
            "retry_cap_s": 0.002,
            "breaker_failures": 3,
            "breaker_pause_s": 0.001,
            "step_max_attempts": 2,
        }
    )
    return Context(settings=configured, pool=pool, store=store)


def due(context: Context, count: int = 1) -> list[int]:
    """Make results due at the PACS; returns the deliveries' ids."""
    made = []
    for number in range(count):
        ds = photograph(
            sop_class=SecondaryCaptureImageStorage, transfer_syntax=ExplicitVRLittleEndian, seed=number
        )
        stored = context.store.put(part10(ds))
        with transaction(context.pool) as connection:
            _, instance_id = instances.receive(connection, offered(f"1.2.3.{number}"))
            instances.set_state(connection, instance_id, InstanceState.REPORTED)
            appraisal = judged()
            appraisals.save(
                connection,
                instance_id=instance_id,
                appraisal=appraisal,
                heatmap_sha256="",
                difference_map_sha256="",
            )
            delivery_id = deliveries.add(
                connection,
                instance_id=instance_id,
                appraisal_id=appraisal.appraisal_id,
                destination="pacs",
                sop_class_uid=ds.SOPClassUID,
                sop_instance_uid=ds.SOPInstanceUID,
                sha256=stored.sha256,
            )
            connection.execute("DELETE FROM outbox")
        assert delivery_id is not None
        made.append(delivery_id)
    return made


def go(context: Context, delivery_id: int) -> Outcome:
    """Attempt a delivery as soon as it is due."""
    wait_until(lambda: _is_due(context, delivery_id), timeout_s=10, what="the delivery to be due")
    return attempt(context, DELIVER, deliver, delivery_id, DestinationGate())


def _is_due(context: Context, delivery_id: int) -> bool:
    with transaction(context.pool) as connection:
        row = connection.execute(
            "SELECT next_attempt_at <= now() AS due FROM delivery WHERE delivery_id = %s", (delivery_id,)
        ).fetchone()
    return row is not None and bool(row["due"])


def state(context: Context) -> DestinationState:
    with transaction(context.pool) as connection:
        return destinations.states(connection)["pacs"]


def breaker_due(context: Context) -> None:
    wait_until(lambda: state(context).retry_in_s == 0, timeout_s=10, what="the next probe")


def delivery_state(context: Context, delivery_id: int) -> DeliveryState:
    with transaction(context.pool) as connection:
        return deliveries.get(connection, delivery_id).state


def attempts(context: Context, delivery_id: int) -> int:
    with transaction(context.pool) as connection:
        return deliveries.get(connection, delivery_id).attempts


def messages(context: Context) -> list[str]:
    with transaction(context.pool) as connection:
        return [each["subject_id"] for each in connection.execute("SELECT subject_id FROM outbox")]


def patient(context: Context) -> Context:
    """The same with a long pause, so that the breaker stays open."""
    return replace(
        context, settings=context.settings.model_copy(update={"breaker_pause_s": 600.0, "retry_cap_s": 600.0})
    )


def test_a_delivery_that_arrives_counts_for_its_destination(context: Context, pacs: Pacs) -> None:
    pacs.start()
    (delivery_id,) = due(context)
    assert go(context, delivery_id) is Outcome.DONE
    assert delivery_state(context, delivery_id) is DeliveryState.DELIVERED
    assert (state(context).breaker, state(context).failures) == (BreakerState.CLOSED, 0)
    assert state(context).succeeded_at is not None
    assert pacs.echoes == 0


def test_the_breaker_opens_after_failures_in_a_row_and_holds_others_back(context: Context) -> None:
    first, other = due(context, 2)
    held = patient(context)
    for failures in (1, 2, 3):
        assert go(held, first) is Outcome.POSTPONED
        assert state(context).failures == failures
        with transaction(context.pool) as connection:  # what full jitter would wait is of no interest here
            connection.execute("UPDATE delivery SET next_attempt_at = now()")
    assert state(context).breaker is BreakerState.OPEN
    assert "DestinationUnreachableError" in state(context).last_error
    assert 300 <= state(context).retry_in_s <= 600
    with transaction(context.pool) as connection:
        connection.execute("DELETE FROM outbox")
    assert go(held, other) is Outcome.NOT_DUE
    assert attempts(context, other) == 0
    assert messages(context) == [str(other)]
    with transaction(context.pool) as connection:
        assert outbox.take_due(connection, 10) == []


def test_a_probe_asks_by_echo_and_closes_the_breaker_and_hands_on(context: Context, pacs: Pacs) -> None:
    first, second, third = due(context, 3)
    for _ in range(3):
        assert go(context, first) is Outcome.POSTPONED
    breaker_due(context)
    pacs.start()
    with transaction(context.pool) as connection:
        connection.execute("DELETE FROM outbox")
    assert go(context, first) is Outcome.DONE
    assert pacs.echoes == 1
    assert (state(context).breaker, state(context).openings) == (BreakerState.CLOSED, 0)
    assert sorted(messages(context)) == [str(second), str(third)]


def test_a_probe_that_fails_opens_again_for_longer(context: Context) -> None:
    (first,) = due(context)
    for openings in (1, 2, 3):
        while state_or_none(context) is None or state(context).openings < openings:
            assert go(context, first) in {Outcome.POSTPONED, Outcome.NOT_DUE}
        assert state(context).breaker is BreakerState.OPEN
        breaker_due(context)
    assert state(context).openings == 3


def state_or_none(context: Context) -> DestinationState | None:
    with transaction(context.pool) as connection:
        return destinations.states(connection).get("pacs")


def test_only_one_of_many_workers_probes(context: Context, pacs: Pacs) -> None:
    made = due(context, 6)
    for _ in range(3):
        assert go(context, made[0]) is Outcome.POSTPONED
    breaker_due(context)
    answering = threading.Event()
    pacs.status = lambda: 0x0000 if answering.wait(10) else 0xA700
    pacs.start()
    with ThreadPoolExecutor(6) as threads:
        outcomes = [threads.submit(go, context, each) for each in made]
        wait_until(
            lambda: sum(each.done() for each in outcomes) == 5,
            timeout_s=20,
            what="the others to be held back",
        )
        assert state(context).breaker is BreakerState.HALF_OPEN
        answering.set()
    assert sorted(each.result() for each in outcomes) == [Outcome.DONE, *[Outcome.NOT_DUE] * 5]
    assert pacs.echoes == 1


def test_no_more_associations_than_the_destination_bears(context: Context, pacs: Pacs) -> None:
    made = due(context, 6)
    at_once, most, lock, go_on = 0, 0, threading.Lock(), threading.Event()

    def store() -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        go_on.wait(10)
        with lock:
            at_once -= 1
        return 0x0000

    pacs.status = store
    pacs.start()
    with ThreadPoolExecutor(6) as threads:
        outcomes = [threads.submit(go, context, each) for each in made]
        wait_until(lambda: sum(o.done() for o in outcomes) == 4, timeout_s=20, what="four to find no place")
        wait_until(lambda: at_once == 2, timeout_s=20, what="both others to be under way")
        go_on.set()
    assert most == 2
    waiting = set(made) - {each for each in made if delivery_state(context, each) is DeliveryState.DELIVERED}
    assert len(waiting) == 4
    while waiting:  # each that ends hands on to the next, until none is left
        handed = {int(each) for each in messages(context)} & waiting
        assert handed
        with transaction(context.pool) as connection:
            connection.execute("DELETE FROM outbox")
        assert {go(context, each) for each in handed} == {Outcome.DONE}
        waiting -= handed
    assert len(pacs.stored) == 6


def test_a_permanent_refusal_ends_soon_and_leaves_the_breaker_closed(context: Context, pacs: Pacs) -> None:
    pacs.status = lambda: 0xA900
    pacs.start()
    (delivery_id,) = due(context)
    assert go(context, delivery_id) is Outcome.POSTPONED
    assert go(context, delivery_id) is Outcome.DEAD
    assert delivery_state(context, delivery_id) is DeliveryState.DEAD
    assert state(context).breaker is BreakerState.CLOSED
    with transaction(context.pool) as connection:
        (letter,) = dead_letters.all_open(connection)
    assert "0xA900" in letter.error


def test_a_passing_refusal_is_tried_for_long_and_opens_the_breaker(context: Context, pacs: Pacs) -> None:
    pacs.status = lambda: 0xA700
    pacs.start()
    (delivery_id,) = due(context)
    for _ in range(3):
        assert go(context, delivery_id) is Outcome.POSTPONED
    assert state(context).breaker is BreakerState.OPEN
    assert "0xA700" in state(context).last_error
    pacs.status = lambda: 0xB000
    breaker_due(context)
    assert go(context, delivery_id) is Outcome.DONE


def test_a_fault_of_our_own_says_nothing_about_the_destination(context: Context, pacs: Pacs) -> None:
    pacs.start()
    (delivery_id,) = due(context)
    with transaction(context.pool) as connection:
        sha256 = deliveries.get(connection, delivery_id).sha256
    (path,) = context.settings.storage_dir.rglob(sha256)
    content = path.read_bytes()
    path.unlink()
    assert go(context, delivery_id) is Outcome.POSTPONED
    assert (state(context).failures, state(context).succeeded_at) == (0, None)
    context.store.put(content)
    assert go(context, delivery_id) is Outcome.DONE


@contextmanager
def storescp(port: int, directory: Path, *options: str) -> Iterator[None]:
    """dcmtk's receiver on a port."""
    program = find_peer("storescp")
    assert program is not None
    directory.mkdir(exist_ok=True)
    process = subprocess.Popen([program, *options, "-od", str(directory), str(port)])
    try:
        wait_until(lambda: listens(port), timeout_s=20, what="storescp to listen")
        yield
    finally:
        process.kill()  # it takes a polite end only between two associations
        process.wait(20)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.peers("storescp")
@pytest.mark.parametrize("fault", ["--refuse", "--abort-during", "--abort-after"])
def test_dcmtk_fails_is_left_alone_and_gets_everything_in_the_end(
    context: Context, pacs: Pacs, tmp_path: Path, fault: str
) -> None:
    made = due(context, 3)
    with storescp(pacs.destination.port, tmp_path / "in", fault):
        for _ in range(3):
            assert go(context, made[0]) is Outcome.POSTPONED
        assert state(context).breaker is BreakerState.OPEN
    with storescp(pacs.destination.port, tmp_path / "in"):
        for each in made:
            while delivery_state(context, each) is not DeliveryState.DELIVERED:
                breaker_due(context)
                assert go(context, each) in {Outcome.DONE, Outcome.POSTPONED}
    assert state(context).breaker is BreakerState.CLOSED
    with transaction(context.pool) as connection:
        uids = {deliveries.get(connection, each).sop_instance_uid for each in made}
    assert {dcmread(path).SOPInstanceUID for path in (tmp_path / "in").iterdir()} == uids


def test_a_worker_that_dies_gives_its_place_back(context: Context, pacs: Pacs) -> None:
    pacs.start()
    lost, also_lost, delivery_id = due(context, 3)
    with transaction(context.pool) as connection:
        for each in (lost, also_lost):
            assert deliveries.claim(connection, each, lease_s=300) is not None
    assert go(context, delivery_id) is Outcome.NOT_DUE
    with transaction(context.pool) as connection:
        connection.execute("UPDATE delivery SET claimed_until = now() WHERE claimed_until IS NOT NULL")
    assert go(context, delivery_id) is Outcome.DONE


def test_a_duplicate_after_a_broken_answer_is_delivered(context: Context, pacs: Pacs) -> None:
    """The destination took the object and its answer was lost: asked again, it says that it has it."""
    pacs.start()
    pacs.break_next = True
    pacs.status = lambda: 0x0111 if pacs.taken else 0x0000  # PS3.7 C.5.1.1: duplicate SOP instance
    (delivery_id,) = due(context)
    assert go(context, delivery_id) is Outcome.POSTPONED
    assert len(pacs.taken) == 1
    breaker_due(context)
    assert go(context, delivery_id) is Outcome.DONE
    assert delivery_state(context, delivery_id) is DeliveryState.DELIVERED
    assert len(pacs.taken) == 1
    with transaction(context.pool) as connection:
        instance = instances.get(connection, deliveries.get(connection, delivery_id).instance_id)
        line = ledger.entries(connection, instance.sop_instance_uid)[-1]
    assert instance.state is InstanceState.DELIVERED
    assert line.event is LedgerEvent.DELIVERED
    assert "0x0111" in str(line.detail)
