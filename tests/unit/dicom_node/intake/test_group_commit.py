"""Group commit when it fails: whoever waits is told, each of what concerns it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import psycopg
import pytest

from dicom_node.intake.group_commit import GroupCommit
from service.config import Settings
from service.errors import DatabaseUnavailableError
from service.records import NewInstance, Receipt
from service.stack.waiting import wait_until

WAIT_S = 30


def new_instance(uid: str) -> NewInstance:
    return NewInstance(
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.77.1.4",
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        patient_id="P1",
        issuer_of_patient_id="",
        calling_ae_title="SENDER",
        called_ae_title="SEMBLANCE",
        peer_address="127.0.0.1",
        sha256="0" * 64,
        size_bytes=1,
    )


class FailingCommit(GroupCommit):
    """Holds the first batch until told, and fails for batches that hold certain UIDs."""

    def __init__(self, failures: dict[str, Exception]) -> None:
        super().__init__(Settings())
        self.failures = failures
        self.go_on = threading.Event()
        self.began = threading.Event()

    def _record(self, news: Sequence[NewInstance]) -> list[Receipt]:
        self.began.set()
        assert self.go_on.wait(WAIT_S)
        for new in news:
            if new.sop_instance_uid in self.failures:
                raise self.failures[new.sop_instance_uid]
        return [Receipt.NEW for _ in news]


@pytest.fixture
def failing() -> Iterator[Callable[[dict[str, Exception]], FailingCommit]]:
    """Makes commits that fail for certain UIDs; closed afterwards, for they wake relays from a thread."""
    made: list[FailingCommit] = []

    def make(failures: dict[str, Exception]) -> FailingCommit:
        made.append(FailingCommit(failures))
        return made[-1]

    yield make
    for commit in made:
        commit.close()


def outcomes(commit: FailingCommit, *uids: str) -> dict[str, object]:
    """What each of several threads is told; all but the first wait for a commit that is under way."""
    told: dict[str, object] = {}

    def record(uid: str) -> None:
        try:
            told[uid] = commit.record(new_instance(uid))
        except (ZeroDivisionError, psycopg.Error, DatabaseUnavailableError) as exc:
            told[uid] = type(exc)

    threads = [threading.Thread(target=record, args=(uid,)) for uid in uids]
    threads[0].start()
    assert commit.began.wait(WAIT_S)
    for thread in threads[1:]:
        thread.start()
    wait_until(
        lambda: commit._batches.waiting() == len(uids) - 1,
        timeout_s=WAIT_S,
        what="the others to wait",
    )
    commit.go_on.set()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    return told


def test_one_bad_row_fails_its_own_object_only(
    failing: Callable[[dict[str, Exception]], FailingCommit],
) -> None:
    commit = failing({"1.3": psycopg.DataError("a NUL byte")})
    assert outcomes(commit, "1.1", "1.2", "1.3", "1.4") == {
        "1.1": Receipt.NEW,
        "1.2": Receipt.NEW,
        "1.3": psycopg.DataError,
        "1.4": Receipt.NEW,
    }


def test_an_unforeseen_error_leaves_nobody_waiting(
    failing: Callable[[dict[str, Exception]], FailingCommit],
) -> None:
    told = outcomes(failing({"1.3": ZeroDivisionError()}), "1.1", "1.2", "1.3", "1.4")
    assert told.pop("1.1") is Receipt.NEW
    assert sorted(error.__name__ for error in told.values() if isinstance(error, type)) == [
        "DatabaseUnavailableError",
        "DatabaseUnavailableError",
        "ZeroDivisionError",
    ]


def test_an_outage_fails_the_whole_batch(failing: Callable[[dict[str, Exception]], FailingCommit]) -> None:
    commit = failing({"1.2": DatabaseUnavailableError("PostgreSQL is away")})
    told = outcomes(commit, "1.1", "1.2", "1.3")
    assert told == {"1.1": Receipt.NEW, "1.2": DatabaseUnavailableError, "1.3": DatabaseUnavailableError}


def test_what_is_recorded_is_told_at_once(failing: Callable[[dict[str, Exception]], FailingCommit]) -> None:
    commit = failing({})
    commit.go_on.set()
    assert commit.record(new_instance("1.1")) is Receipt.NEW
    commit.failures["1.2"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        commit.record(new_instance("1.2"))
