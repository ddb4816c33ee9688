"""The write-ahead log: what it acknowledged survives, what was void or torn does not come back."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.file_systems import sync_file_system
from service.logged_store import MAX_LOGGED_BYTES, LoggedStore
from service.storage import LocalStore
from service.waiting import wait_until
from service.write_ahead import WriteAheadLog, replay
from service.write_ahead_segment import BLOCK_BYTES, Record, left_behind, read_records

WAIT_S = 30

# A process that stores objects of the sizes given, names them, and waits to be killed.
_STORE_AND_WAIT = """
import os, sys
from pathlib import Path
from service.logged_store import LoggedStore
from service.storage import LocalStore

store = LocalStore(Path(sys.argv[1]))
logged = LoggedStore(store, store.log())
for size in sys.argv[2:]:
    with logged.writer() as writer:
        writer.write(os.urandom(int(size)))
        print(writer.commit().sha256, flush=True)
sys.stdin.read()
"""


def record(content: bytes) -> Record:
    return Record(sha256=hashlib.sha256(content).digest(), size_bytes=len(content), chunks=[content])


def segments(root: Path) -> list[Path]:
    return sorted((root / "log").glob("*.wal"))


def contents(path: Path) -> list[bytes]:
    with path.open("rb") as source:
        return [content for _, content in read_records(source)]


def append(log: WriteAheadLog, content: bytes) -> bool:
    """Append an object whose file is there at once; whether the log took it."""
    logged = log.append(record(content))
    if logged is not None:
        logged.placed()
    return logged is not None


def stored_by_a_killed_process(root: Path, *sizes: int) -> list[str]:
    """SHA-256 of objects that a process was told are durable, before it was killed with SIGKILL."""
    command = [sys.executable, "-c", _STORE_AND_WAIT, str(root), *map(str, sizes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in sizes]
        process.kill()
    return told


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Have writes beyond a file offset fail, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_a_crash_of_the_machine_took_is_put_back(tmp_path: Path) -> None:
    kept, emptied, damaged, gone = stored_by_a_killed_process(tmp_path, 100, 5000, 70_000, 300_000)
    store = LocalStore(tmp_path)
    whole = {sha256: store.read(sha256) for sha256 in (kept, emptied, damaged, gone)}
    store.path_of(emptied).write_bytes(b"")
    store.path_of(damaged).write_bytes(whole[damaged][:4096] + bytes(66_000))
    store.path_of(gone).unlink()

    assert store.recover() == 4

    assert {sha256: store.read(sha256) for sha256 in whole} == whole
    assert segments(tmp_path) == []
    assert store.recover() == 0


def test_a_torn_record_ends_the_log(tmp_path: Path) -> None:
    first, second, third = stored_by_a_killed_process(tmp_path, 100, 5000, 100)
    store = LocalStore(tmp_path)
    for sha256 in (first, second, third):
        store.path_of(sha256).unlink()
    (segment,) = segments(tmp_path)
    torn = bytearray(segment.read_bytes())
    torn[2 * BLOCK_BYTES + 1000] ^= 1  # within the second record
    segment.write_bytes(torn)

    assert store.recover() == 1

    assert [store.contains(sha256) for sha256 in (first, second, third)] == [True, False, False]
    assert segments(tmp_path) == []


@pytest.mark.parametrize("left", [b"", b"SWAL", bytes(3 * BLOCK_BYTES)])
def test_a_segment_that_was_never_begun_holds_nothing(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "1.wal").write_bytes(left)
    assert LocalStore(tmp_path).recover() == 0
    assert segments(tmp_path) == []


def test_segments_of_a_live_process_are_left_alone(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path)
    assert append(log, b"live")
    assert replay(tmp_path, lambda *_: pytest.fail("replayed a live log")) == 0
    assert len(segments(tmp_path)) == 1
    log.close()
    assert segments(tmp_path) == []


def test_a_segment_removed_meanwhile_is_passed_over(tmp_path: Path) -> None:
    with left_behind(tmp_path / "gone.wal") as source:
        assert source is None


def test_threads_share_flushes_and_every_record_is_there(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path)
    sent = [f"object {number}".encode() * 300 for number in range(40)]
    threads = [threading.Thread(target=append, args=(log, content)) for content in sent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (segment,) = segments(tmp_path)
    assert sorted(contents(segment)) == sorted(sent)
    log.close()


def test_a_full_segment_is_synced_and_its_records_are_void(tmp_path: Path) -> None:
    synced = threading.Semaphore(0)

    def sync(descriptor: int) -> None:
        sync_file_system(descriptor)
        synced.release()

    log = WriteAheadLog(tmp_path, segment_bytes=16 * BLOCK_BYTES, sync=sync)
    for number in range(15):
        assert append(log, f"first {number}".encode())
    first = segments(tmp_path)[0]
    assert len(contents(first)) == 15
    assert append(log, b"second")
    assert synced.acquire(timeout=WAIT_S)
    wait_until(lambda: contents(first) == [], timeout_s=WAIT_S, what="the first segment to begin again")
    assert len(segments(tmp_path)) == 2
    log.close()


def test_a_record_of_the_turn_before_is_no_record(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path, segment_bytes=4 * BLOCK_BYTES)
    for number in range(30):  # until both segments have been written over
        wait_until(
            lambda number=number: append(log, f"{number}".encode()), timeout_s=WAIT_S, what="room in the log"
        )
    found = [content for path in segments(tmp_path) for content in contents(path)]
    assert found == sorted(found, key=int)
    assert len(found) <= 6
    assert found[-1] == b"29"
    log.close()


def test_no_segment_is_written_over_before_its_files_are_there(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path, segment_bytes=2 * BLOCK_BYTES)
    late = log.append(record(b"late"))
    assert late is not None
    assert append(log, b"second segment")
    assert not append(log, b"no room")
    (first,) = [path for path in segments(tmp_path) if contents(path) == [b"late"]]
    late.placed()
    wait_until(lambda: contents(first) == [], timeout_s=WAIT_S, what="the first segment to begin again")
    wait_until(lambda: append(log, b"room again"), timeout_s=WAIT_S, what="room in the log")
    log.close()


def test_a_store_that_cannot_be_synced_keeps_its_log(tmp_path: Path) -> None:
    def sync(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    log = WriteAheadLog(tmp_path, segment_bytes=2 * BLOCK_BYTES, sync=sync)
    assert append(log, b"one")
    assert append(log, b"two")
    assert not append(log, b"three")  # to be made durable by itself
    log.close()
    restored: dict[str, bytes] = {}
    assert replay(tmp_path, restored.__setitem__) == 2
    assert sorted(restored.values()) == [b"one", b"two"]


def test_replay_keeps_the_log_when_the_disk_does_not_take_it(tmp_path: Path) -> None:
    stored_by_a_killed_process(tmp_path, 100)

    def restore(sha256: str, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        replay(tmp_path, restore)
    assert len(segments(tmp_path)) == 1


def test_a_log_that_cannot_be_written_leaves_it_to_the_file(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path, segment_bytes=8 * BLOCK_BYTES)
    assert append(log, b"one")
    with largest_file(BLOCK_BYTES + 100):
        assert not append(log, b"two")
    assert append(log, b"three")  # in another segment
    found = {content for path in segments(tmp_path) for content in contents(path)}
    assert b"three" in found
    assert b"two" not in found
    log.close()


def test_no_log_on_a_small_disk(tmp_path: Path) -> None:
    log = WriteAheadLog(tmp_path, segment_bytes=1 << 50)
    assert not append(log, b"one")
    assert segments(tmp_path) == []
    log.close()
    assert not append(log, b"closed")


@pytest.mark.parametrize(
    "size", [0, 1, 4096 - 56, 100_000, MAX_LOGGED_BYTES, MAX_LOGGED_BYTES + 1, 5_000_000]
)
def test_writers_store_objects_of_any_size(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    store = LocalStore(tmp_path)
    logged = LoggedStore(store, store.log())
    with logged.writer() as writer:
        for start in range(0, size, 60_000):
            writer.write(memoryview(content)[start : start + 60_000])
        stored = writer.commit()
    assert (stored.sha256, stored.size_bytes) == (hashlib.sha256(content).hexdigest(), size)
    assert store.read(stored.sha256) == content
    assert len(segments(tmp_path)) == (1 if size <= MAX_LOGGED_BYTES else 0)
    logged.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [store.path_of(stored.sha256)]


@pytest.mark.parametrize("size", [100, MAX_LOGGED_BYTES + 1])
def test_nothing_is_kept_without_commit(tmp_path: Path, size: int) -> None:
    store = LocalStore(tmp_path)
    logged = LoggedStore(store, store.log())
    with logged.writer() as writer:
        writer.write(bytes(size))
    logged.close()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_writer_stores_without_a_log_that_takes_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    logged = LoggedStore(store, WriteAheadLog(tmp_path, segment_bytes=1 << 50))
    with logged.writer() as writer:
        writer.write(b"by itself")
        stored = writer.commit()
    assert store.read(stored.sha256) == b"by itself"
    logged.close()


def test_syncing_a_closed_descriptor_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        sync_file_system(-1)
