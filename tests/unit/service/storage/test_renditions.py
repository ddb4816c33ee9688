"""The cache of what is made from stored objects."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.storage.renditions import Renditions


class Maker:
    """Counts how often it is asked."""

    def __init__(self, made: bytes) -> None:
        self.made, self.asked = made, 0

    def __call__(self) -> bytes:
        self.asked += 1
        return self.made


def test_a_rendition_is_made_once_by_object_and_way(tmp_path: Path) -> None:
    renditions = Renditions(tmp_path / "cache", 1_000_000)
    one, other = Maker(b"one"), Maker(b"other")
    assert [renditions.get("a", "png", one) for _ in range(3)] == [b"one"] * 3
    assert one.asked == 1
    assert renditions.get("a", "jpeg", other) == b"other"
    assert renditions.get("b", "png", other) == b"other"
    assert Renditions(tmp_path / "cache", 1_000_000).get("a", "png", other) == b"one"  # another process


def test_a_damaged_entry_is_made_again(tmp_path: Path) -> None:
    renditions = Renditions(tmp_path, 1_000_000)
    renditions.get("a", "png", Maker(b"right"))
    (entry,) = tmp_path.glob("??/*")
    entry.write_bytes(entry.read_bytes()[:-1] + b"!")
    again = Maker(b"right")
    assert renditions.get("a", "png", again) == b"right"
    assert again.asked == 1
    assert renditions.get("a", "png", Maker(b"wrong")) == b"right"


def test_what_was_asked_for_longest_ago_makes_room(tmp_path: Path) -> None:
    renditions = Renditions(tmp_path, 1000)
    for number in range(3):
        renditions.get(str(number), "png", Maker(bytes(200)))
        (entry,) = [each for each in tmp_path.glob("??/*") if each.stat().st_mtime > 1_000_000]
        os.utime(entry, (number, number))
    for number in (3, 4):
        renditions.get(str(number), "png", Maker(bytes(200)))
    assert sum(each.stat().st_size for each in tmp_path.glob("??/*")) <= 1000
    oldest, newest = Maker(bytes(200)), Maker(bytes(200))
    renditions.get("4", "png", newest)
    renditions.get("0", "png", oldest)
    assert (newest.asked, oldest.asked) == (0, 1)


@pytest.mark.parametrize("most", [0, 3])
def test_what_does_not_fit_is_made_and_not_kept(tmp_path: Path, most: int) -> None:
    renditions = Renditions(tmp_path, most)
    maker = Maker(b"longer")
    assert [renditions.get("a", "png", maker) for _ in range(2)] == [b"longer"] * 2
    assert maker.asked == 2
    assert not list(tmp_path.glob("??/*"))


def test_a_cache_that_cannot_be_written_to_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    renditions = Renditions(tmp_path / "file", 1000)  # no directory
    assert renditions.get("a", "png", Maker(b"made")) == b"made"
