"""The instance store: what it keeps is whole, durable and verified; what fails leaves nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest

from service.config import Settings
from service.errors import CorruptInstanceError, InstanceNotStoredError, StorageError, StorageFullError
from service.storage.local import InstanceStore, LocalStore, StoreWriter, open_store

CONTENT = b"photograph" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def files(store: LocalStore) -> list[Path]:
    return [path for path in store.path_of(SHA256).parents[1].rglob("*") if path.is_file()]


def test_put_and_read(local: LocalStore, tmp_path: Path) -> None:
    stored = local.put(CONTENT)
    assert (stored.sha256, stored.size_bytes) == (SHA256, len(CONTENT))
    assert local.read(SHA256) == CONTENT
    assert local.contains(SHA256)
    with local.open(SHA256) as source:
        assert source.read(10) == b"photograph"
    source_file = tmp_path / "file"
    source_file.write_bytes(CONTENT)
    assert local.put(source_file) == stored
    assert len(files(local)) == 1


def test_the_protocols_hold(local: LocalStore) -> None:
    assert isinstance(local, InstanceStore)
    assert isinstance(local.writer(), StoreWriter)


def test_a_writer_without_commit_keeps_nothing(local: LocalStore) -> None:
    with local.writer() as writer:
        writer.write(CONTENT[:100])
        writer.write(memoryview(CONTENT)[100:])
    assert files(local) == []
    assert not local.contains(SHA256)


def test_a_writer_in_chunks_commits_the_whole(local: LocalStore) -> None:
    with local.writer() as writer:
        writer.write(CONTENT[:100])
        writer.write(bytearray(CONTENT[100:]))
        assert writer.commit().sha256 == SHA256
    assert local.read(SHA256) == CONTENT
    with pytest.raises(StorageError, match="not open"):
        writer.write(b"more")
    with pytest.raises(StorageError, match="not open"):
        writer.commit()


def test_file_and_directory_are_durable_when_commit_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    local = LocalStore(tmp_path / "store")
    directory = local.path_of(SHA256).parent
    assert synced == [str(directory.parent), str(tmp_path)]  # the directories' own names
    synced.clear()
    local.put(CONTENT)
    assert [Path(path).parent for path in synced] == [directory.parent / "incoming", directory.parent]
    assert synced[1] == str(directory)  # the name, after the bytes


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "A" * 64, "a" * 63, "0" * 64])
def test_unknown_keys(local: LocalStore, sha256: str) -> None:
    with pytest.raises(InstanceNotStoredError, match=r"no bytes under SHA-256|is not a SHA-256"):
        local.read(sha256)


def test_rot_is_found(local: LocalStore) -> None:
    local.put(CONTENT)
    path = local.path_of(SHA256)
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(CorruptInstanceError, match=SHA256):
        local.read(SHA256)


def test_a_full_disk_leaves_nothing(local: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="No space left"):
        local.put(CONTENT)
    assert files(local) == []


def test_low_watermark_refuses(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, low_watermark_bytes=1 << 60)
    with pytest.raises(StorageFullError):
        store.put(CONTENT)


def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        LocalStore(tmp_path / "file" / "store")


def test_what_a_killed_process_left_is_swept(local: LocalStore) -> None:
    with local.writer() as writer:
        writer.write(CONTENT)
        assert local.sweep_incoming() == 1
    assert files(local) == []


def test_the_same_bytes_at_once(local: LocalStore) -> None:
    threads = [threading.Thread(target=local.put, args=(CONTENT,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert local.read(SHA256) == CONTENT
    assert len(files(local)) == 1


def test_open_store_uses_the_settings(tmp_path: Path) -> None:
    store = open_store(Settings(storage_dir=tmp_path / "named", storage_low_watermark_bytes=0))
    assert store.put(b"x").size_bytes == 1
    assert (tmp_path / "named").is_dir()
    assert store.free_bytes() > 0
