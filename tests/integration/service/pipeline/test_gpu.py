"""The worker's appraiser: photographs beside each other, in bounded memory, and none holds the rest up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from dicom_node.encoding.photographic import encode
from service.config import Settings
from service.database import appraisals, dead_letters, instances
from service.database.pool import Pool, transaction
from service.errors import StepTimeoutError
from service.pipeline.appraise import appraise
from service.pipeline.attempt import Outcome, attempt
from service.pipeline.context import Context
from service.pipeline.deadline import still_wanted, within
from service.pipeline.gpu import MemoryBudget, appraiser_of, needed_bytes
from service.records import InstanceState
from service.steps import APPRAISE
from service.storage.local import InstanceStore
from tests.integration.receiving import receive
from tests.photographs import photograph
from tests.waiting import wait_until


@pytest.fixture
def context(settings: Settings, pool: Pool, store: InstanceStore) -> Context:
    quick = {"retry_base_s": 0.01, "retry_cap_s": 0.02, "appraisal_threads": 3}
    return Context(settings=settings.model_copy(update=quick), pool=pool, store=store)


def test_photographs_are_appraised_beside_each_other_and_alike(context: Context) -> None:
    content = encode(photograph())
    ids = [receive(context, content, f"1.2.3.{number}") for number in range(6)]
    with ThreadPoolExecutor(3) as threads:
        outcomes = list(threads.map(lambda number: attempt(context, APPRAISE, appraise, number), ids))
    assert outcomes == [Outcome.DONE] * 6
    with transaction(context.pool) as connection:
        saved = [appraisals.for_instance(connection, number)[0] for number in ids]
    assert len({each.appraisal.score for each in saved}) == 1
    assert len({each.heatmap_sha256 for each in saved}) == 1
    assert appraiser_of(context.settings) is appraiser_of(context.settings)


def test_a_step_that_hangs_frees_its_place_and_ends_dead_with_the_reason(context: Context) -> None:
    instance_id = receive(context, b"any", "1.2.9")
    hanging, released, saved = threading.Semaphore(0), threading.Event(), []

    def hang(given: Context, subject_id: int) -> None:
        hanging.release()
        released.wait(60)
        with transaction(given.pool) as connection:
            still_wanted()
            instances.set_state(connection, subject_id, InstanceState.APPRAISED)
            saved.append(subject_id)

    impatient = replace(context, settings=context.settings.model_copy(update={"step_timeout_s": 0.2}))
    assert attempt(impatient, APPRAISE, hang, instance_id) is Outcome.POSTPONED

    def again() -> Outcome | None:
        outcome = attempt(impatient, APPRAISE, hang, instance_id)
        return None if outcome is Outcome.NOT_DUE else outcome

    assert wait_until(again, timeout_s=30, what="the second attempt") is Outcome.DEAD
    released.set()
    wait_until(
        lambda: not [t for t in threading.enumerate() if t.name == "step"],
        timeout_s=30,
        what="the threads left behind to end",
    )
    assert saved == []
    with transaction(context.pool) as connection:
        assert instances.get(connection, instance_id).state is InstanceState.DEAD
        (letter,) = dead_letters.all_open(connection)
    assert letter.error == "StepTimeoutError: it took longer than 0.2 s"


def test_work_within_its_time_ends_as_it_ends() -> None:
    done: list[str] = []
    within(60, lambda: done.append("done"))
    assert done == ["done"]
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: done.append(str(1 // 0)))
    still_wanted()  # outside of any run
    released = threading.Event()
    with pytest.raises(StepTimeoutError):
        within(0.01, released.wait)
    released.set()


def test_memory_is_bounded_and_a_photograph_that_needs_more_is_alone() -> None:
    budget = MemoryBudget(100)
    together, most = [0], [0]
    lock = threading.Lock()

    def work(size: int) -> None:
        with budget.hold(size):
            with lock:
                together[0] += size
                most[0] = max(most[0], together[0])
            with lock:
                together[0] -= size

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, [30, 40, 500, 60, 30, 100, 20] * 20))
    assert together == [0]
    assert most[0] in range(100, 501)
    with ThreadPoolExecutor(1) as threads, budget.hold(500):
        waits = threads.submit(work, 1)
        with pytest.raises(TimeoutError):
            waits.result(0.1)


def test_what_a_photograph_needs_is_read_from_its_header(context: Context) -> None:
    content = encode(photograph())
    rows, columns = np.array(photograph().Rows), np.array(photograph().Columns)
    assert needed_bytes(content, context.settings) == 12 * rows * columns + len(content)
    assert needed_bytes(b"no photograph", context.settings) == context.settings.appraisal_memory_bytes // 4
