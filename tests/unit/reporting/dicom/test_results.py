"""Which objects an appraisal gives."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from reporting.dicom.results import ResultPictures, build_results
from reporting.identifiers import ResultKind
from service.config import Settings
from service.errors import InstanceNotStoredError, ResultError, StoredMapError
from service.pictures.encode import encode_jpeg, encode_png
from service.pictures.native_map import NativeMap, encode_map
from service.records import SavedAppraisal
from service.storage.local import InstanceStore, LocalStore
from tests.unit.reporting.photographs import COLUMNS, ROWS, appraised, context, pixels, rejected

PICTURES = ResultPictures(picture=encode_jpeg(pixels()))
SC, SR, PM = ResultKind.SECONDARY_CAPTURE, ResultKind.STRUCTURED_REPORT, ResultKind.PARAMETRIC_MAP
LOSSLESS = ResultKind.SECONDARY_CAPTURE_LOSSLESS


@pytest.fixture
def store(tmp_path: Path) -> InstanceStore:
    return LocalStore(tmp_path / "store")


def kept(store: InstanceStore) -> SavedAppraisal:
    native = NativeMap(
        difference=np.zeros((16, 16), np.float32),
        to_photograph=np.array([[2.0, 0, 3], [0, 2, 1]]),
        rows=ROWS,
        columns=COLUMNS,
    )
    return replace(appraised(), difference_map_sha256=store.put(encode_map(native)).sha256)


@pytest.mark.parametrize(
    ("report", "parametric", "expected"),
    [(True, False, [SC, SR]), (False, False, [SC]), (True, True, [SC, PM, SR])],
)
def test_objects_are_made_as_configured(
    store: InstanceStore, report: bool, parametric: bool, expected: list[ResultKind]
) -> None:
    settings = Settings(structured_report=report, parametric_map=parametric)
    results = build_results(context(saved=kept(store)), settings, store, PICTURES)
    assert [result.kind for result in results] == expected


def test_a_picture_without_loss_is_an_object_of_its_own(store: InstanceStore) -> None:
    both = replace(PICTURES, lossless=encode_png(pixels()))
    results = build_results(context(saved=kept(store)), Settings(), store, both)
    assert [result.kind for result in results] == [SC, LOSSLESS, SR]
    lossy, lossless, report = (dcmread(BytesIO(result.data)) for result in results)
    assert lossy.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    assert lossless.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert np.array_equal(lossless.pixel_array, pixels())
    assert lossy.SOPInstanceUID != lossless.SOPInstanceUID
    evidence = {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert {lossy.SOPInstanceUID, lossless.SOPInstanceUID} <= evidence


def test_a_rejected_photograph_gives_the_report_alone(store: InstanceStore) -> None:
    settings = Settings(parametric_map=True)
    results = build_results(context(saved=rejected()), settings, store, None)
    assert [result.kind for result in results] == [ResultKind.STRUCTURED_REPORT]


def test_a_lost_map_is_an_error(store: InstanceStore) -> None:
    with pytest.raises(InstanceNotStoredError):
        build_results(context(), Settings(parametric_map=True), store, PICTURES)


def test_what_is_no_map_is_an_error(store: InstanceStore) -> None:
    saved = replace(appraised(), difference_map_sha256=store.put(b"no map").sha256)
    with pytest.raises(StoredMapError):
        build_results(context(saved=saved), Settings(parametric_map=True), store, PICTURES)


def test_what_is_no_picture_is_an_error(store: InstanceStore) -> None:
    with pytest.raises(ResultError):
        build_results(context(), Settings(), store, ResultPictures(picture=b"no picture"))


def test_equal_appraisals_give_equal_bytes(store: InstanceStore) -> None:
    one, other = (build_results(context(saved=kept(store)), Settings(), store, PICTURES) for _ in range(2))
    assert [result.data for result in one] == [result.data for result in other]
