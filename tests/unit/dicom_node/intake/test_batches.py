"""Work done together: every item once, in order, and nobody left waiting."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from dicom_node.intake.batches import Batches
from service.stack.waiting import wait_until

WAIT_S = 30


def test_items_that_come_during_a_batch_are_the_next_one() -> None:
    done: list[list[int]] = []
    began, go_on = threading.Event(), threading.Event()

    def work(batch: Sequence[int]) -> None:
        began.set()
        assert go_on.wait(WAIT_S)
        done.append(list(batch))

    batches = Batches(work, lambda waiting: min(len(waiting), 3))
    threads = [threading.Thread(target=batches.submit, args=(number,)) for number in range(6)]
    threads[0].start()
    assert began.wait(WAIT_S)
    for number, thread in enumerate(threads[1:], start=1):
        thread.start()
        wait_until(
            lambda number=number: batches.waiting() == number,  # type: ignore[misc]
            timeout_s=WAIT_S,
            what="the item to wait",  # type: ignore[misc]
        )
    go_on.set()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert done == [[0], [1, 2, 3], [4, 5]]


def test_every_item_is_worked_on_once() -> None:
    done: list[int] = []
    batches: Batches[int] = Batches(done.extend, len)

    def submit(first: int) -> None:
        for number in range(first, first + 200):
            batches.submit(number)
            assert number in done  # no return before the batch

    threads = [threading.Thread(target=submit, args=(first * 200,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(done) == list(range(1600))
    assert batches.waiting() == 0


def test_an_error_reaches_the_leader_and_the_work_goes_on() -> None:
    def work(batch: Sequence[int]) -> None:
        if 1 in batch:
            raise ZeroDivisionError

    batches = Batches(work, len)
    with pytest.raises(ZeroDivisionError):
        batches.submit(1)
    batches.submit(2)
    assert batches.waiting() == 0
