"""Which objects an appraisal gives."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reporting.dicom.results import build_results, decode_npy, decode_png
from reporting.identifiers import ResultKind
from service.config import Settings
from service.errors import InstanceNotStoredError, ResultError
from service.records import SavedAppraisal
from service.storage.local import InstanceStore, LocalStore
from tests.unit.reporting.photographs import COLUMNS, ROWS, appraised, context, pixels, rejected


def png(mode: str = "RGB") -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels()).convert(mode).save(stream, "PNG")
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    stream = BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> InstanceStore:
    return LocalStore(tmp_path / "store")


def kept(store: InstanceStore) -> SavedAppraisal:
    return replace(
        appraised(),
        heatmap_sha256=store.put(png()).sha256,
        difference_map_sha256=store.put(npy(np.zeros((ROWS, COLUMNS), np.float32))).sha256,
    )


@pytest.mark.parametrize(
    ("report", "parametric", "expected"),
    [
        (True, False, [ResultKind.SECONDARY_CAPTURE, ResultKind.STRUCTURED_REPORT]),
        (False, False, [ResultKind.SECONDARY_CAPTURE]),
        (
            True,
            True,
            [ResultKind.SECONDARY_CAPTURE, ResultKind.PARAMETRIC_MAP, ResultKind.STRUCTURED_REPORT],
        ),
    ],
)
def test_objects_are_made_as_configured(
    store: InstanceStore, report: bool, parametric: bool, expected: list[ResultKind]
) -> None:
    settings = Settings(structured_report=report, parametric_map=parametric)
    results = build_results(context(saved=kept(store)), settings, store)
    assert [result.kind for result in results] == expected


def test_a_rejected_photograph_gives_the_report_alone(store: InstanceStore) -> None:
    settings = Settings(parametric_map=True)
    results = build_results(context(saved=rejected()), settings, store)
    assert [result.kind for result in results] == [ResultKind.STRUCTURED_REPORT]


def test_a_lost_heatmap_is_an_error(store: InstanceStore) -> None:
    with pytest.raises(InstanceNotStoredError):
        build_results(context(), Settings(), store)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n", png()[:80], png("L"), png("RGBA")])
def test_what_is_no_rgb_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ResultError):
        decode_png(data)


def test_a_heatmap_is_decoded() -> None:
    assert np.array_equal(decode_png(png()), pixels())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        npy(np.zeros(3, np.float32)),
        npy(np.zeros((2, 2))),
        npy(np.zeros((2, 2), np.float32))[:-1],
    ],
)
def test_what_is_no_difference_map_is_refused(data: bytes) -> None:
    with pytest.raises(ResultError):
        decode_npy(data)


def test_a_pickle_is_refused() -> None:
    stream = BytesIO()
    np.save(stream, np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(ResultError):
        decode_npy(stream.getvalue())
