from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dicom_node.admission.rates import RateLimit, RateTable

# Another process with the same table: says that it is ready, waits, takes what it can, says how much it got.
_TAKE_ALL = """
import sys
from dicom_node.admission.rates import RateLimit, RateTable

limit = RateLimit(RateTable(int(sys.argv[1])), "objects", 300, lambda: 100.0)
print(flush=True)
sys.stdin.readline()
print(sum(limit.take("CAMERA", "10.0.0.1") for _ in range(300)))
"""

# Takes the lock of every row and waits to be killed.
_LOCK_AND_WAIT = """
import fcntl, sys
fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)
print(flush=True)
sys.stdin.readline()
"""


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def table() -> Iterator[RateTable]:
    made = RateTable()
    yield made
    made.close()


def begin(script: str, table: RateTable) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(table.descriptor)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(table.descriptor,),
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "\n"
    return process


def test_a_minutes_worth_at_once_and_then_at_the_rate(table: RateTable) -> None:
    clock = Clock()
    limit = RateLimit(table, "objects", 6, clock)
    assert [limit.take("CAMERA", "10.0.0.1") for _ in range(7)] == [True] * 6 + [False]
    clock.now += 9.9
    assert not limit.take("CAMERA", "10.0.0.1")
    clock.now += 0.2
    assert limit.take("CAMERA", "10.0.0.1")
    assert not limit.take("CAMERA", "10.0.0.1")
    clock.now += 3600
    assert [limit.take("CAMERA", "10.0.0.1") for _ in range(7)] == [True] * 6 + [False]


def test_callers_and_kinds_do_not_take_from_each_other(table: RateTable) -> None:
    limit = RateLimit(table, "objects", 1, Clock())
    assert limit.take("CAMERA", "10.0.0.1")
    assert not limit.take("CAMERA", "10.0.0.1")
    assert limit.take("CAMERA", "10.0.0.2")
    assert limit.take("OTHER", "10.0.0.1")
    assert RateLimit(table, "associations", 1, Clock()).take("CAMERA", "10.0.0.1")


def test_no_limit_is_none(table: RateTable) -> None:
    limit = RateLimit(table, "objects", 0, Clock())
    assert all(limit.take("CAMERA", "10.0.0.1") for _ in range(1000))


def test_callers_without_end_are_not_all_remembered(table: RateTable) -> None:
    clock = Clock()
    limit = RateLimit(table, "objects", 1, clock)
    size = os.fstat(table.descriptor).st_size
    for number in range(10_000):
        clock.now += 0.001
        assert limit.take(f"C{number}", "10.0.0.1")
    assert os.fstat(table.descriptor).st_size == size
    recent = range(9_000, 10_000)
    assert sum(limit.take(f"C{number}", "10.0.0.1") for number in recent) == 0
    assert limit.take("C0", "10.0.0.1")  # forgotten


def test_processes_share_what_a_caller_has_left(table: RateTable) -> None:
    others = [begin(_TAKE_ALL, table) for _ in range(3)]
    answers = [each.communicate("\n", timeout=60)[0] for each in others]
    assert sum(int(answer) for answer in answers) == 300
    assert not RateLimit(table, "objects", 300, lambda: 100.0).take("CAMERA", "10.0.0.1")


def test_a_process_killed_while_it_takes_stops_nobody(table: RateTable) -> None:
    other = begin(_LOCK_AND_WAIT, table)
    other.kill()
    other.communicate()
    assert RateLimit(table, "objects", 1, Clock()).take("CAMERA", "10.0.0.1")
