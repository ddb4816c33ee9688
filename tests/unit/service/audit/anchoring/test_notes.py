"""Signed notes and keys: what is signed by whom, and what is taken from nobody."""

from __future__ import annotations

import base64
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.audit.anchoring.keys import first_line, make_key, read_key, succession, trusted
from service.audit.anchoring.merkle import Frontier
from service.audit.anchoring.notes import Checkpoint, checkpoint_of, opened, public_key
from service.errors import CheckpointError, ConfigurationError


def checkpoint(size: int = 5) -> Checkpoint:
    tree = Frontier()
    for number in range(size):
        tree.add(number.to_bytes(32, "big"))
    return Checkpoint(
        origin="semblance/Hospital/SEMBLANCE",
        frontier=tree,
        digest=bytes(range(32)),
        at=datetime(2026, 12, 1, 8, 30, tzinfo=UTC),
    )


@pytest.mark.parametrize("size", [0, 1, 5, 1024])
def test_a_checkpoint_is_read_as_it_was_written(size: int) -> None:
    made = checkpoint(size)
    assert checkpoint_of(made.text()) == made
    assert made.text().splitlines()[:2] == ["semblance/Hospital/SEMBLANCE", str(size)]


def test_a_note_is_opened_by_the_key_that_signed_it_only(tmp_path: Path) -> None:
    key, stranger = make_key(tmp_path / "a", "hospital-1"), make_key(tmp_path / "b", "hospital-1")
    note = key.sign(checkpoint().text())
    assert opened(note, [stranger.public, key.public]) == checkpoint().text()
    with pytest.raises(CheckpointError, match="none of the keys"):
        opened(note, [stranger.public])
    for changed in (note.replace("semblance/", "semblence/"), note.replace("\n5\n", "\n6\n")):
        assert changed != note
        with pytest.raises(CheckpointError, match="none of the keys"):
            opened(changed, [key.public])


@pytest.mark.parametrize(
    "wrong",
    ["", "no note", "text\n\nno dash", "text\n\n\u2014 name !!!\n", "\n\n", "text\n\n\u2014 \n"],
    ids=range(6),
)
def test_what_is_no_note_is_said(wrong: str) -> None:
    with pytest.raises(CheckpointError):
        opened(wrong, [])


@pytest.mark.parametrize(
    "change",
    [
        ("\n5\n", "\n7\n"),
        ("digest 00", "digest zz"),
        ("time 2026", "time yes"),
        ("subtrees ", "subtrees AAAA"),
        ("subtrees ", "nothing "),
    ],
)
def test_a_checkpoint_that_does_not_agree_with_itself_is_none(change: tuple[str, str]) -> None:
    text = checkpoint().text()
    assert change[0] in text
    with pytest.raises(CheckpointError):
        checkpoint_of(text.replace(*change))


def test_a_root_that_is_not_its_subtrees_is_refused() -> None:
    text = checkpoint().text()
    root = base64.b64encode(checkpoint().root).decode()
    with pytest.raises(CheckpointError, match="agree"):
        checkpoint_of(text.replace(root, base64.b64encode(bytes(32)).decode()))


def test_a_key_is_for_its_owner_only_and_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "audit.key"
    made = make_key(path, "hospital-2026")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path).public.vkey() == made.public.vkey()
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="never written over"):
        make_key(path, "hospital-2027")
    assert path.read_bytes() == before
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="read by others"):
        read_key(path)


@pytest.mark.parametrize("content", [b"", b"# name: a\nnothing", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_file_that_is_no_key_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "audit.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="audit key"):
        read_key(path)
    with pytest.raises(ConfigurationError, match="No such file"):
        read_key(tmp_path / "none")


@pytest.mark.parametrize("name", ["", "two words", "a+b", "line\n", "x" * 101])
def test_a_name_that_notes_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="name"):
        make_key(tmp_path / "audit.key", name)
    assert list(tmp_path.iterdir()) == []


def test_each_key_vouches_for_the_next(tmp_path: Path) -> None:
    first, second, third = (make_key(tmp_path / name, name) for name in ("one", "two", "three"))
    listed = first_line(first) + succession(first, second) + succession(second, third)
    assert [key.name for key in trusted(listed)] == ["one", "two", "three"]
    assert [key.name for key in trusted(listed, first.public.vkey())] == ["one", "two", "three"]
    with pytest.raises(CheckpointError, match="another key"):
        trusted(listed, second.public.vkey())


def test_a_key_that_nobody_vouched_for_is_not_taken(tmp_path: Path) -> None:
    first, second, thief = (make_key(tmp_path / name, name) for name in ("one", "two", "thief"))
    with pytest.raises(CheckpointError, match="none of the keys"):
        trusted(first_line(first) + succession(thief, second))
    with pytest.raises(CheckpointError, match="none of the keys"):
        trusted(first_line(first) + succession(first, second) + succession(first, thief))
    by_one = succession(first, thief).replace("thief", "theif")
    with pytest.raises(CheckpointError):
        trusted(first_line(first) + by_one)


@pytest.mark.parametrize("wrong", ["", "a+b", "a+00000000+AQ==", "a b+00000000+AAAA", "name+1234+%%%"])
def test_what_is_no_verifier_key_is_said(wrong: str) -> None:
    with pytest.raises(CheckpointError, match="no verifier key"):
        public_key(wrong)
