"""The receiver is killed with SIGKILL, hundreds of times, at any point between first byte and answer.

A real sender (dcmtk's storescu) notes what it was told is stored; afterwards database, ledger, outbox
and disk are compared with that. Zero lost, zero half.
"""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

import pytest

from dicom_node.acceptor.scp import Node
from service.config import Settings
from service.database.migrate import migrate
from service.stack.servers import EmbeddedPostgres
from tests.acceptance.receiver_process import Receiver
from tests.acceptance.sending import compare, send
from tests.dicom_objects import photograph, save

ROUNDS = 200
FILES = 3
SEED = 20260714

# imported here so that the fork server's children need not
assert Node  # type: ignore[truthy-function]


def make_batches(directory: Path) -> list[list[tuple[str, Path]]]:
    batches = []
    for number in range(ROUNDS):
        batch = []
        for each in range(FILES):
            ds = photograph(seed=number, size=(64 + 200 * (number % 3), 64 + 200 * (number % 3)))
            batch.append((str(ds.SOPInstanceUID), save(ds, directory / f"{number}-{each}.dcm")))
        batches.append(batch)
    return batches


@pytest.mark.peers("storescu")
@pytest.mark.timeout(900)
def test_nothing_acknowledged_is_lost_and_nothing_half_is_kept(
    tmp_path: Path, open_directory: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    postgres = EmbeddedPostgres(open_directory / "pg")  # one that does fsync
    postgres.start()
    url = postgres.ensure_database("fire")
    migrate(url)
    durable = settings.model_copy(update={"database_url": url, "log_level": "ERROR"})
    (tmp_path / "sent").mkdir()
    batches = make_batches(tmp_path / "sent")
    dice = random.Random(SEED)  # noqa: S311 -- repeatable, not secret
    told: list[str] = []
    longest_s = 0.15
    for number, batch in enumerate(batches):
        receiver = Receiver(durable)
        if number % 10 == 0:  # now and then let one through, to know how long it takes
            began = time.perf_counter()
            told += send(receiver.port, batch)
            longest_s = time.perf_counter() - began
        else:
            killer = threading.Timer(dice.uniform(0, longest_s * 1.1), receiver.kill)
            killer.start()
            told += send(receiver.port, batch)
            killer.join()
        receiver.kill()
    result = compare(durable, told) | {"sent": ROUNDS * FILES, "acknowledged": len(told)}
    postgres.stop()
    with capsys.disabled():
        print("\n" + json.dumps(result))  # noqa: T201 -- the figure this test is for
    assert (result["lost"], result["half"]) == (0, 0)
    assert ROUNDS * FILES * 0.05 < len(told) < ROUNDS * FILES * 0.95  # the kills did hit the middle
