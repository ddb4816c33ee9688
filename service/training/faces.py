"""Normal faces to train on, divided by source and identity, never by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from service.errors import ConfigurationError

HELD_OUT_SOURCES = frozenset({"webmorph-3dsk", "webmorph-canada"})
SITE_SOURCE = "site"  # of archives made from a hospital's own photographs
FINE_SHARE = 0.55  # of draws made from the archive of the highest resolution alone
_LANDMARK_UNIT = 16  # landmarks are stored in 1/16 pixel


class Split(StrEnum):
    """What a face may be used for."""

    TRAIN = "train"
    CALIBRATION = "calibration"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class NormalFace:
    """One aligned normal face."""

    image: npt.NDArray[np.uint8]  # (S, S, 3) uint8, sRGB, aligned
    landmarks: npt.NDArray[np.float32]  # (478, 2) float32, pixels of the image
    identity: str  # hash of the file; every picture of a person we know of has the same
    source: str  # collection it comes from
    age: int  # years; -1 unknown
    gender: int  # 0 male, 1 female, -1 unknown
    race: int  # UTKFace coding: 0 White, 1 Black, 2 Asian, 3 Indian, 4 other, -1 unknown


def split_of(identity: str, source: str) -> Split:
    """Whole sources and a hashed tenth of the rest are for testing; another tenth calibrates.

    A site's own photographs are few: two fifths calibrate, the rest train, and none are for testing.
    """
    if source in HELD_OUT_SOURCES:
        return Split.TEST
    bucket = int(sha256(identity.encode()).hexdigest()[:8], 16) % 20
    if source == SITE_SOURCE:
        return Split.CALIBRATION if bucket < 8 else Split.TRAIN
    if bucket < 2:
        return Split.TEST
    return Split.CALIBRATION if bucket < 4 else Split.TRAIN


class FaceArchive:
    """Faces of one ``.npz`` archive (see docs/method.md for its fields)."""

    def __init__(self, path: Path, *, skip_sources: frozenset[str] = frozenset()) -> None:
        """Read an archive.

        Args:
            path: the ``.npz`` file.
            skip_sources: sources left out, e.g. because another archive has them better.

        Raises:
            ConfigurationError: it is missing or lacks a field.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                self._jpeg = archive["jpeg"]
                self._offset = archive["offset"]
                self._landmarks = archive["landmarks"]
                self._source = archive["source"]
                self._people = np.stack([archive[key] for key in ("age", "gender", "race")], 1)
                given = archive["identity"] if "identity" in archive.files else None
        except (OSError, KeyError, ValueError) as exc:
            raise ConfigurationError(f"{path} is not an archive of faces: {exc}") from exc
        wanted = [i for i, name in enumerate(self._source) if str(name) not in skip_sources]
        self._identity = {
            i: sha256(self._bytes(i).tobytes()).hexdigest()[:16] if given is None else str(given[i])
            for i in wanted
        }
        self.sources = frozenset(str(self._source[i]) for i in wanted)

    def _bytes(self, index: int) -> npt.NDArray[np.uint8]:
        return np.asarray(self._jpeg[self._offset[index] : self._offset[index + 1]], np.uint8)

    def indices(self, split: Split | None) -> list[int]:
        """Positions in the archive of the faces of one split; of all for None."""
        return [i for i, who in self._identity.items() if split in {None, self._split(i, who)}]

    def _split(self, index: int, identity: str) -> Split:
        return split_of(identity, str(self._source[index]))

    def landmarks(self, index: int) -> npt.NDArray[np.float32]:
        """The mesh of one face, (478, 2) float32, pixels of its image."""
        return np.asarray(self._landmarks[index].astype(np.float32) / _LANDMARK_UNIT)

    def face(self, index: int) -> NormalFace:
        """Decode one face."""
        image = cv2.imdecode(self._bytes(index), cv2.IMREAD_COLOR)
        age, gender, race = (int(v) for v in self._people[index])
        return NormalFace(
            image=np.ascontiguousarray(image[..., ::-1]),
            landmarks=self.landmarks(index),
            identity=self._identity[index],
            source=str(self._source[index]),
            age=age,
            gender=gender,
            race=race,
        )


@dataclass(frozen=True, kw_only=True)
class FacePool:
    """Faces of one split from several archives."""

    archives: Sequence[FaceArchive]
    members: Sequence[tuple[int, int]]  # (archive, index)

    def native(self, number: int) -> NormalFace:
        """Face ``number`` at its archive's own resolution."""
        archive, index = self.members[number]
        return self.archives[archive].face(index)

    def face(self, number: int, size: int) -> NormalFace:
        """Face ``number`` brought to ``size`` pixels a side."""
        face = self.native(number)
        side = face.image.shape[0]
        if side == size:
            return face
        scaled = cv2.resize(face.image, (size, size), interpolation=cv2.INTER_CUBIC)
        scale = size / side
        return NormalFace(
            image=np.asarray(scaled, np.uint8),
            landmarks=((face.landmarks + 0.5) * scale - 0.5).astype(np.float32),
            identity=face.identity,
            source=face.source,
            age=face.age,
            gender=face.gender,
            race=face.race,
        )

    def landmarks(self, number: int) -> npt.NDArray[np.float32]:
        """The mesh of face ``number``, (478, 2) float32, pixels of its own image."""
        archive, index = self.members[number]
        return self.archives[archive].landmarks(index)

    def __len__(self) -> int:
        return len(self.members)

    def draw(self, rng: np.random.Generator) -> int:
        """A random member: of the finest archive (the first) every second time or more often."""
        if rng.random() < FINE_SHARE:
            finest = sum(archive == 0 for archive, _ in self.members)
            return int(rng.integers(finest))
        return int(rng.integers(len(self.members)))


def open_pool(data: Path, split: Split | None, *, fine_only: bool = False) -> FacePool:
    """Open every ``faces_*.npz`` of a folder, the finest first; a source is read once only.

    Args:
        data: the folder.
        split: which faces; None for every one.
        fine_only: only the archive of the highest resolution.

    Raises:
        ConfigurationError: there is no archive.
    """
    paths = sorted(data.glob("faces_*.npz"), key=lambda p: -int(p.stem.split("_")[1]))
    if not paths:
        raise ConfigurationError(f"no faces_*.npz in {data}")
    seen: frozenset[str] = frozenset()
    archives: list[FaceArchive] = []
    for path in paths[:1] if fine_only else paths:
        archives.append(FaceArchive(path, skip_sources=seen))
        seen |= archives[-1].sources
    members = [(n, i) for n, archive in enumerate(archives) for i in archive.indices(split)]
    return FacePool(archives=archives, members=members)
