"""What a row of NORMALISERS and COMPARATORS is, and what its functions take and give.

A newcomer writes one file with a class and adds one row. Everything works on batches: one
photograph is a batch of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from service.appraisal.batching import ALONE, Batching
from service.appraisal.face.alignment import AlignedFace
from service.appraisal.model_files.models import ModelStore
from service.errors import ConfigurationError, UnknownMethodError


@dataclass(frozen=True, kw_only=True, eq=False)
class Normalised:
    """The normal counterpart of an aligned face."""

    rgb: NDArray[np.uint8]  # (S, S, 3) uint8, sRGB, in register with the aligned face
    valid: NDArray[np.bool_]  # (S, S): the counterpart is known there; the rest is not judged
    notes: tuple[str, ...] = ()  # what was changed or left out and why, for the appraisal's warnings
    refusal: str = ""  # why no counterpart can be shown: ``rgb`` is the face itself then; "" where it is one


Progress = Callable[[int, int], None]  # called with what is done and what there is to do


def unwatched(done: int, total: int) -> None:
    """The progress that nobody watches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Workplace:
    """What a row may need to be built."""

    store: ModelStore
    device: str = "cpu"  # "cpu" or "cuda"
    size: int = 256  # side of the canonical square in pixels
    progress: Progress = unwatched  # called by what takes long with steps done and in all
    batching: Batching = ALONE  # of forward passes


class Normaliser(Protocol):
    """Makes the normal counterparts of faces."""

    def normalise(self, faces: Sequence[AlignedFace]) -> Sequence[Normalised]:
        """Return one counterpart a face, in order."""
        ...


class Comparator(Protocol):
    """Compares faces with their normal counterparts."""

    def compare(
        self, faces: Sequence[AlignedFace], normalised: Sequence[Normalised]
    ) -> Sequence[NDArray[np.float32]]:
        """Return one difference map a face, in order: (S, S) float32, >= 0, higher = more anomalous."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """A face against its counterpart: where it differs, and how it scores as a whole."""

    difference: NDArray[np.float32]  # (S, S) float32, >= 0, higher = more anomalous
    whole: float | None  # score of the whole face, higher = more normal; None: eq. (3) of the map


@runtime_checkable
class WholeFaceComparator(Comparator, Protocol):
    """A comparator that knows more of the whole face than its map tells."""

    def compare_whole(
        self, faces: Sequence[AlignedFace], normalised: Sequence[Normalised]
    ) -> Sequence[Compared]:
        """Return what ``compare`` does, with the score of each whole face."""
        ...


def compare_all(
    comparator: Comparator, faces: Sequence[AlignedFace], normalised: Sequence[Normalised]
) -> Sequence[Compared]:
    """Compare faces by any comparator, with the scores of the whole faces where it knows them."""
    if isinstance(comparator, WholeFaceComparator):
        return comparator.compare_whole(faces, normalised)
    maps = comparator.compare(faces, normalised)
    return [Compared(difference=difference, whole=None) for difference in maps]


@runtime_checkable
class LayeredComparator(Comparator, Protocol):
    """A comparator that can tell differences by their scale, one map a layer of its network."""

    def compare_layers(self, face: AlignedFace, normalised: Normalised) -> Sequence[NDArray[np.float32]]:
        """Return the maps of one face, small scales first: (S, S) float32, >= 0."""
        ...


@dataclass(frozen=True, kw_only=True)
class NormaliserRow:
    """One row of NORMALISERS."""

    name: str
    version: str  # changes whenever the results do
    models: tuple[str, ...]  # ids in the model manifest, in a fixed order
    build: Callable[[Workplace], Normaliser]


@dataclass(frozen=True, kw_only=True)
class ComparatorRow:
    """One row of COMPARATORS."""

    name: str
    version: str  # changes whenever the results do
    models: tuple[str, ...]  # ids in the model manifest, in a fixed order
    build: Callable[[Workplace], Comparator]


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=_Named)


def table(rows: Iterable[Row]) -> Mapping[str, Row]:
    """Make a table by name.

    Raises:
        ConfigurationError: A name appears twice.
    """
    named: dict[str, Row] = {}
    for row in rows:
        if row.name in named:
            raise ConfigurationError(f"{row.name!r} appears twice in a table")
        named[row.name] = row
    return named


def lookup(rows: Mapping[str, Row], name: str, kind: str) -> Row:
    """Find a row.

    Raises:
        UnknownMethodError: No such row; the message lists those there are.
    """
    try:
        return rows[name]
    except KeyError as exc:
        raise UnknownMethodError(f"no {kind} {name!r}; there are: {', '.join(sorted(rows))}") from exc
