"""Difference maps as they are kept: at the method's own resolution, with the way to the photograph.

A kept map is a ``.npz`` archive of

- ``difference``: (S, S) float32, NaN where nothing was judged, S the side of the method's square;
- ``to_photograph``: (2, 3) float64, the affine transform from pixels of the map to pixels of the photograph
  as sent: ``x, y = to_photograph @ (column, row, 1)``; the centre of the first pixel of each is (0, 0);
- ``photograph``: (2,) int64, rows and columns of the photograph as sent;
- ``counterpart``: (N,) uint8, the normal counterpart as a JPEG file of S x S pixels; empty: none was kept.

Maps kept before that are ``.npy`` files, (H, W) float32 in the photograph's own rows and columns.
``read_map`` reads both; ``service.appraisal.pictures.placing`` brings either to the photograph's pixels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from service.errors import StoredMapError

_NPZ, _NPY = b"PK\x03\x04", b"\x93NUMPY"
_LARGEST = 65_535  # rows or columns of a photograph in DICOM
_LARGEST_MAP_BYTES = 1 << 30  # of one array, by its own header


@dataclass(frozen=True, kw_only=True, eq=False)
class NativeMap:
    """A difference map at the method's own resolution."""

    difference: NDArray[np.float32]  # (S, S), or (H, W) of an old one; NaN where nothing was judged
    to_photograph: NDArray[np.float64]  # (2, 3): pixels of the map -> pixels of the photograph as sent
    rows: int  # of the photograph as sent
    columns: int
    counterpart: bytes = b""  # JPEG, S x S: the face as it would normally be; b"" where none was kept

    @property
    def is_photograph_sized(self) -> bool:
        """Whether the map lies pixel for pixel on the photograph."""
        same = self.difference.shape == (self.rows, self.columns)
        return same and np.array_equal(self.to_photograph, np.eye(2, 3))

    @property
    def pixel_pitch(self) -> float:
        """Pixels of the photograph that one pixel of the map spans."""
        return float(np.sqrt(abs(np.linalg.det(self.to_photograph[:, :2]))))


def encode_map(native: NativeMap) -> bytes:
    """Encode a map for keeping; equal maps give equal bytes."""
    made = io.BytesIO()
    np.savez_compressed(
        made,
        difference=native.difference.astype(np.float32, copy=False),
        to_photograph=native.to_photograph.astype(np.float64, copy=False),
        photograph=np.array([native.rows, native.columns], np.int64),
        counterpart=np.frombuffer(native.counterpart, np.uint8),
    )
    return made.getvalue()


def read_map(data: bytes) -> NativeMap:
    """Read a kept map, of today or of before there were native ones.

    Raises:
        StoredMapError: The bytes are no such map.
    """
    try:
        if data.startswith(_NPY):
            return _read_old(data)
        if data.startswith(_NPZ):
            return _read(data)
    except (ValueError, OSError, EOFError, KeyError, BadZipFile, MemoryError) as exc:
        raise StoredMapError(f"the difference map cannot be read: {exc}") from exc
    raise StoredMapError("the difference map is neither .npz nor .npy")


def _read_old(data: bytes) -> NativeMap:
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype != np.float32 or array.ndim != 2 or not array.size:
        raise StoredMapError("the difference map is not (H, W) float32")
    rows, columns = array.shape
    return NativeMap(difference=array, to_photograph=np.eye(2, 3), rows=rows, columns=columns)


def _read(data: bytes) -> NativeMap:
    with np.load(io.BytesIO(data), allow_pickle=False) as kept:
        for name in kept.zip.namelist():
            if kept.zip.getinfo(name).file_size > _LARGEST_MAP_BYTES:
                raise StoredMapError(f"the difference map's {name} is too large")
        difference, matrix = kept["difference"], kept["to_photograph"]
        sides, counterpart = kept["photograph"], kept["counterpart"]
    square = difference.ndim == 2 and difference.shape[0] == difference.shape[1] > 0
    if difference.dtype != np.float32 or not square:
        raise StoredMapError("the difference map is not (S, S) float32")
    if matrix.shape != (2, 3) or matrix.dtype != np.float64 or not np.isfinite(matrix).all():
        raise StoredMapError("the difference map's transform is not (2, 3) float64")
    if abs(float(np.linalg.det(matrix[:, :2]))) < 1e-12:
        raise StoredMapError("the difference map's transform has no inverse")
    if sides.shape != (2,) or not all(0 < int(side) <= _LARGEST for side in sides):
        raise StoredMapError("the difference map does not say how large its photograph is")
    return NativeMap(
        difference=difference,
        to_photograph=matrix,
        rows=int(sides[0]),
        columns=int(sides[1]),
        counterpart=counterpart.astype(np.uint8).tobytes(),
    )
