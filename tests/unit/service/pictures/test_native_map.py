"""Maps are kept at the method's own resolution; those of before stay readable."""

from __future__ import annotations

import io

import numpy as np
import pytest

from service.errors import StoredMapError
from service.pictures.native_map import NativeMap, encode_map, read_map

WAY = np.array([[3.0, -0.5, 40.0], [0.5, 3.0, 7.0]])


def a_map() -> NativeMap:
    difference = np.linspace(0, 2, 64 * 64, dtype=np.float32).reshape(64, 64).copy()
    difference[:9] = np.nan
    return NativeMap(
        difference=difference, to_photograph=WAY, rows=300, columns=400, counterpart=b"\xff\xd8jpeg"
    )


def npz(**arrays: np.ndarray) -> bytes:
    made = io.BytesIO()
    whole = {
        "difference": np.zeros((4, 4), np.float32),
        "to_photograph": np.eye(2, 3),
        "photograph": np.array([4, 4]),
        "counterpart": np.zeros(0, np.uint8),
    }
    np.savez(made, **(whole | arrays))
    return made.getvalue()


def npy(array: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


def test_a_map_reads_back_bit_for_bit_and_equal_maps_give_equal_bytes() -> None:
    read = read_map(encode_map(a_map()))
    assert np.array_equal(read.difference, a_map().difference, equal_nan=True)
    assert np.array_equal(read.to_photograph, WAY)
    assert (read.rows, read.columns, read.counterpart) == (300, 400, b"\xff\xd8jpeg")
    assert not read.is_photograph_sized
    assert read.pixel_pitch == pytest.approx(np.hypot(3, 0.5))
    assert encode_map(a_map()) == encode_map(a_map())


def test_a_map_of_before_lies_pixel_for_pixel_on_its_photograph() -> None:
    old = np.arange(12, dtype=np.float32).reshape(3, 4)
    read = read_map(npy(old))
    assert np.array_equal(read.difference, old)
    assert (read.rows, read.columns) == (3, 4)
    assert read.is_photograph_sized


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04",
        npy(np.zeros(3, np.float32)),
        npy(np.zeros((2, 2))),
        npy(np.zeros((2, 2), np.float32))[:-1],
        npz(difference=np.zeros((4, 4))),
        npz(difference=np.zeros((4, 5), np.float32)),
        npz(to_photograph=np.eye(3)),
        npz(to_photograph=np.zeros((2, 3))),
        npz(to_photograph=np.full((2, 3), np.nan)),
        npz(photograph=np.array([0, 4])),
        npz(photograph=np.array([4])),
        npz()[:-30],
        encode_map(a_map())[:200],
    ],
)
def test_what_is_no_map_is_refused(data: bytes) -> None:
    with pytest.raises(StoredMapError):
        read_map(data)


def test_a_pickle_is_refused() -> None:
    made = io.BytesIO()
    np.save(made, np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(StoredMapError):
        read_map(made.getvalue())
    made = io.BytesIO()
    np.savez(made, difference=np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(StoredMapError):
        read_map(made.getvalue())
