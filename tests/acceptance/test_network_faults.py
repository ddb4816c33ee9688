"""The network is cut at any byte, in either direction, while a real sender sends: zero lost, zero half."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from pathlib import Path

import psutil
import pytest

from dicom_node.acceptor.scp import Node
from service.config import Settings
from service.database import ledger
from service.database.pool import Pool, transaction
from service.records import LedgerEvent
from service.stack.waiting import wait_until
from service.storage.local import InstanceStore
from tests.acceptance.cutting_proxy import Cut, CuttingProxy
from tests.acceptance.sending import compare, send
from tests.dicom_objects import photograph, save

ROUNDS = 48
FILES = 2
SEED = 20261121


def batches(directory: Path) -> list[list[tuple[str, Path]]]:
    made = []
    for number in range(ROUNDS):
        batch = []
        for each in range(FILES):
            ds = photograph(seed=number, size=(48 + 64 * (number % 3), 64))
            batch.append((str(ds.SOPInstanceUID), save(ds, directory / f"{number}-{each}.dcm")))
        made.append(batch)
    return made


def cut_for(number: int, sent: int, answered: int, dice: random.Random) -> Cut:
    """None at first, to know how much goes to and fro; then at any byte of either way, by RST or orderly."""
    if number < 3:
        return Cut()
    is_reset = number % 2 == 0
    if number % 3 == 2:
        return Cut(after_answered=dice.randint(1, answered), is_reset=is_reset)
    return Cut(after_sent=dice.randint(1, sent), is_reset=is_reset)


@pytest.mark.peers("storescu")
@pytest.mark.timeout(600)
def test_a_network_that_is_cut_loses_nothing_and_leaves_nothing_half(
    settings: Settings, pool: Pool, store: InstanceStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sent").mkdir()
    everything = batches(tmp_path / "sent")
    dice = random.Random(SEED)  # noqa: S311 -- repeatable, not secret
    told: list[str] = []
    plan: list[Cut] = []
    most = 0, 0  # bytes of a connection to and fro
    node = Node(settings, pool, store)
    try:
        before = psutil.Process().num_fds(), threading.active_count()
        with CuttingProxy(node.port, lambda: plan[-1]) as proxy:
            for number, batch in enumerate(everything):
                plan.append(cut_for(number, *most, dice))
                told += send(proxy.port, batch)
                most = max(most[0], proxy.sent), max(most[1], proxy.answered)
            cuts = proxy.cuts
        wait_until(lambda: is_quiet(*before), timeout_s=60, what="descriptors and threads to be given back")
        again = [uid for batch in everything for uid in send(node.port, batch)]
    finally:
        node.stop()
    result = compare(settings, told) | {
        "sent": ROUNDS * FILES,
        "acknowledged": len(told),
        "cuts": cuts,
    }
    with capsys.disabled():
        print("\n" + json.dumps(result))  # noqa: T201 -- the figure this test is for
    assert (result["lost"], result["half"]) == (0, 0)
    assert cuts > ROUNDS / 2
    assert 3 * FILES < len(told) < ROUNDS * FILES  # the cuts did hit, and in the middle
    assert sorted(again) == sorted(uid for batch in everything for uid, _ in batch)  # all taken in the end
    assert result["kept"] == ROUNDS * FILES
    with transaction(pool) as connection:
        events = Counter(entry.event for uid in again for entry in ledger.entries(connection, uid))
        reasons = {
            entry.detail["reason"].split(":")[0]
            for uid in again
            for entry in ledger.entries(connection, uid)
            if entry.event is LedgerEvent.REFUSED
        }
    assert events[LedgerEvent.RECEIVED] == ROUNDS * FILES
    assert reasons == {"transfer incomplete"}  # who was cut off in an object is in its history


def is_quiet(descriptors: int, threads: int) -> bool:
    """Whether far fewer descriptors and threads are left than one a cut; pools have grown meanwhile."""
    allowed = ROUNDS // 4
    return (
        psutil.Process().num_fds() <= descriptors + allowed and threading.active_count() <= threads + allowed
    )
