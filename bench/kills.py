"""Photographs from a foreign sender while processes of the stack are killed: none lost, none doubled.

    python -m bench.kills --photographs 300 --kills 23

Runs the whole stack on this machine with the demonstration's PACS. dcmtk's storescu sends, a few at a time,
again whatever was not acknowledged. Meanwhile node, workers and relay are ended with SIGKILL, one after the
other, in the order of a repeatable die. Every tenth photograph holds a face. Ends with 1 when a photograph
has not exactly one receipt, one appraisal, one Observation and one of each of its results in the PACS.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from skimage import data

from dicom_node.demo.wrap import Wrapping, wrap_photograph
from service.database.pool import transaction
from tests.acceptance.sending import send
from tests.dicom_objects import photograph, save
from tests.stack import RunningStack, run_stack

_CHILDREN = ("node", "worker-gpu", "worker-report", "worker-io", "relay")
_BATCH = 5
_FACE_EACH = 10
_ENDED = ("delivered", "kept")


def face() -> NDArray[np.uint8]:
    """(340, 360, 3) uint8, sRGB: a face in the public domain."""
    return np.ascontiguousarray(data.astronaut()[:340, 40:400])  # type: ignore[no-untyped-call]


def make(directory: Path, count: int) -> list[tuple[str, Path]]:
    """Photographs as files, by their UIDs."""
    made = []
    for number in range(count):
        if number % _FACE_EACH:
            ds = photograph(seed=number, size=(96, 128), patient_id=f"K{number}")
        else:
            wrapping = Wrapping(name=f"kill {number}", study=f"kill {number}", patient_id=f"K{number}")
            ds = wrap_photograph(face(), wrapping)
        made.append((str(ds.SOPInstanceUID), save(ds, directory / f"{number}.dcm")))
    return made


def kill(stack: RunningStack, kills: int, every_s: float, seed: int) -> list[str]:
    """End children of the stack, each once a round in an order of the die; answers which.

    The supervisor gives a child up that dies more than five times a minute.
    """
    dice = random.Random(seed)  # noqa: S311 -- repeatable, not secret
    killed: list[str] = []
    while len(killed) < kills:
        names = [name for name in stack.stack.supervisor.pids if name.startswith(_CHILDREN)]
        for name in dice.sample(names, len(names))[: kills - len(killed)]:
            time.sleep(dice.uniform(0.5, 1.5) * every_s)
            try:
                stack.signal(name, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it is being started again
            killed.append(name)
    return killed


def send_all(stack: RunningStack, files: list[tuple[str, Path]], over_s: float) -> int:
    """Send until everything is acknowledged, over some seconds; answers how many batches were broken off."""
    waiting, again = list(files), 0
    while waiting:
        batch = waiting[:_BATCH]
        told = set(send(stack.facts.dicom_port, batch))
        waiting = [each for each in waiting if each[0] not in told]
        if len(told) < len(batch):
            again += 1
        time.sleep(over_s * _BATCH / len(files))
    return again


def unfinished(stack: RunningStack) -> int:
    """Photographs whose results are not delivered."""
    with transaction(stack.pool) as connection:
        row = connection.execute(
            "SELECT count(*) AS n FROM instance WHERE state <> ALL(%s)", (list(_ENDED),)
        ).fetchone()
    return int(row["n"]) if row else 0


def judge(stack: RunningStack, files: list[tuple[str, Path]]) -> dict[str, int]:
    """What became of them, against what must have."""
    with transaction(stack.pool) as connection:
        rows = connection.execute(
            "SELECT i.sop_instance_uid AS uid, i.state,"
            " (SELECT count(*) FROM appraisal a WHERE a.instance_id = i.instance_id) AS appraisals,"
            " (SELECT count(*) FROM delivery d WHERE d.instance_id = i.instance_id) AS deliveries,"
            " (SELECT count(DISTINCT d.sop_instance_uid) FROM delivery d"
            "  WHERE d.instance_id = i.instance_id AND d.state IN ('delivered', 'committed')) AS delivered"
            " FROM instance i"
        ).fetchall()
        observed = connection.execute(
            "SELECT count(*) AS n FROM fhir_resource WHERE type = 'Observation'"
        ).fetchone()
    in_pacs = collections.Counter(
        str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        for path in Path(stack.facts.pacs_directory).rglob("*.dcm")
    )
    known = {row["uid"] for row in rows}
    return {
        "lost": len({uid for uid, _ in files} - known) + sum(row["state"] != "delivered" for row in rows),
        "doubled": sum(row["appraisals"] != 1 for row in rows)
        + abs((int(observed["n"]) if observed else 0) - len(rows))
        + sum(count > 1 for count in in_pacs.values()),
        "undelivered": sum(row["deliveries"] != row["delivered"] or not row["deliveries"] for row in rows),
        "not_in_pacs": abs(sum(row["delivered"] for row in rows) - len(in_pacs)),
    }


def main() -> int:
    """Run it; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photographs", type=int, default=300)
    parser.add_argument("--kills", type=int, default=23)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two kills, on average")
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--timeout", type=float, default=900.0, help="longest wait for the last result")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, run_stack() as stack:
        files = make(Path(name), options.photographs)
        killed: list[str] = []
        killer = threading.Thread(
            target=lambda: killed.extend(kill(stack, options.kills, options.every, options.seed))
        )
        killer.start()
        again = send_all(stack, files, options.kills * options.every)
        killer.join()
        deadline = time.monotonic() + options.timeout
        while unfinished(stack) and time.monotonic() < deadline:
            time.sleep(1.0)
        found = judge(stack, files)
    figures = {
        "photographs": options.photographs,
        "kills": dict(collections.Counter(killed)),
        "batches_broken_off": again,
        **found,
        "seconds": round(time.monotonic() - began),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
