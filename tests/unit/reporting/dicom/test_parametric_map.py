"""The parametric map: the raw floats, registered to the photograph."""

from __future__ import annotations

import json
import re
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from highdicom.pm import ParametricMap
from pydicom import Dataset, dcmread
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage, ParametricMapStorage

from reporting.dicom import parametric_map
from reporting.identifiers import ResultKind, frame_of_reference_uid
from reporting.terminology import DIFFERENCE_MAP
from service.errors import ResultError
from service.pictures.native_map import NativeMap
from tests.unit.reporting.photographs import COLUMNS, ROWS, SERIES_UID, SOP_UID, context, photograph


def difference_map() -> npt.NDArray[np.float32]:
    given = np.linspace(0, 2.5, ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS).copy()
    given[:5] = np.nan
    return given


def kept(given: npt.NDArray[np.float32]) -> NativeMap:
    """A map of before, pixel for pixel on its photograph."""
    return NativeMap(
        difference=given, to_photograph=np.eye(2, 3), rows=given.shape[0], columns=given.shape[1]
    )


def build(given: npt.NDArray[np.float32] | None = None) -> Dataset:
    result = parametric_map.build(context(), kept(difference_map() if given is None else given))
    return dcmread(BytesIO(result.data))


def native() -> NativeMap:
    """At the method's own resolution, of a head turned by 30 degrees."""
    values = np.linspace(0, 2.5, 64 * 64, dtype=np.float32).reshape(64, 64).copy()
    values[:5] = np.nan
    cos, sin = 0.7 * np.cos(np.radians(30)), 0.7 * np.sin(np.radians(30))
    way = np.array([[cos, -sin, 11.25], [sin, cos, 3.5]])
    return NativeMap(difference=values, to_photograph=way, rows=ROWS, columns=COLUMNS)


def test_a_native_map_keeps_its_resolution_and_says_the_way_to_the_photograph() -> None:
    image = dcmread(BytesIO(parametric_map.build(context(), native()).data))
    assert (image.Rows, image.Columns) == (64, 64)
    assert np.array_equal(
        np.frombuffer(image.FloatPixelData, "<f4").reshape(64, 64)[5:], native().difference[5:]
    )
    (frame,) = image.PerFrameFunctionalGroupsSequence
    said = frame.FrameContentSequence[0].FrameComments
    matrix, rows, columns = re.fullmatch(r"to_photograph=(.+) rows=(\d+) columns=(\d+)", said).groups()
    assert np.allclose(json.loads(matrix), native().to_photograph)
    assert (int(rows), int(columns)) == (ROWS, COLUMNS)
    position = frame.PlanePositionSequence[0].ImagePositionPatient
    assert list(position) == pytest.approx([11.25, 3.5, 0])
    (group,) = image.SharedFunctionalGroupsSequence
    assert list(group.PlaneOrientationSequence[0].ImageOrientationPatient) == pytest.approx(
        [np.cos(np.radians(30)), 0.5, 0, -0.5, np.cos(np.radians(30)), 0]
    )
    (source,) = frame.DerivationImageSequence[0].SourceImageSequence
    assert source.SpatialLocationsPreserved == "NO"


def test_readers_in_use_read_a_native_map() -> None:
    image = dcmread(BytesIO(parametric_map.build(context(), native()).data))
    read = ParametricMap.from_dataset(image)
    assert read.number_of_frames == 1
    values = image.pixel_array[5:]
    assert np.array_equal(values, native().difference[5:])
    (mapping,) = image.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    first, last = (
        mapping.DoubleFloatRealWorldValueFirstValueMapped,
        mapping.DoubleFloatRealWorldValueLastValueMapped,
    )
    assert first <= values.min()
    assert values.max() <= last
    frames = read.get_frames(apply_real_world_transform=True)
    assert np.array_equal(frames[0][5:], native().difference[5:])


def test_floats_are_kept_and_what_was_not_judged_is_padding() -> None:
    image = build()
    assert image.SOPClassUID == ParametricMapStorage
    stored = np.frombuffer(image.FloatPixelData, "<f4").reshape(ROWS, COLUMNS)
    assert image.FloatPixelPaddingValue == -1
    recovered = np.where(stored == image.FloatPixelPaddingValue, np.nan, stored)
    assert np.array_equal(recovered, difference_map(), equal_nan=True)


def test_it_is_registered_to_the_photograph() -> None:
    image = build()
    assert (image.Rows, image.Columns, image.NumberOfFrames) == (ROWS, COLUMNS, 1)
    (source,) = image.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
    assert source.ReferencedSOPInstanceUID == SOP_UID
    assert source.SpatialLocationsPreserved == "YES"
    (series,) = image.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == SERIES_UID
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == SOP_UID
    assert image.FrameOfReferenceUID == frame_of_reference_uid(SOP_UID)


def test_the_frame_of_a_multi_frame_photograph_is_named() -> None:
    several = photograph(SOPClassUID=MultiFrameTrueColorSecondaryCaptureImageStorage, NumberOfFrames=3)
    image = dcmread(BytesIO(parametric_map.build(context(several), kept(difference_map())).data))
    (source,) = image.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence
    assert source.ReferencedSOPClassUID == MultiFrameTrueColorSecondaryCaptureImageStorage
    assert source.ReferencedFrameNumber == 1


def test_no_millimetres_are_claimed() -> None:
    assert not any(
        "PixelSpacing" in item for item in build().SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    )


def test_values_are_defined() -> None:
    image = build()
    (mapping,) = image.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == DIFFERENCE_MAP.code
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped == -1  # the padding, which readers map too
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == 2.5
    window = image.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    assert window.WindowCenter + window.WindowWidth / 2 == pytest.approx(2.5)
    assert window.WindowCenter - window.WindowWidth / 2 == pytest.approx(np.nanmin(difference_map()))


def test_readers_in_use_can_read_it() -> None:
    assert ParametricMap.from_dataset(build()).number_of_frames == 1
    assert np.array_equal(build().pixel_array[5:], difference_map()[5:])


def test_face_and_loss_are_declared() -> None:
    image = build()
    assert image.RecognizableVisualFeatures == "YES"
    assert image.LossyImageCompression == "01"


def test_no_identifier_is_drawn_at_random() -> None:
    image = build()
    dimension = context().instance_uid(ResultKind.DIMENSION_ORGANIZATION)
    assert image.DimensionOrganizationSequence[0].DimensionOrganizationUID == dimension
    assert image.DimensionIndexSequence[0].DimensionOrganizationUID == dimension


def test_a_photograph_of_which_nothing_was_judged_gives_padding_only() -> None:
    image = build(np.full((ROWS, COLUMNS), np.nan, np.float32))
    assert set(np.frombuffer(image.FloatPixelData, "<f4")) == {-1.0}


def test_differences_below_nought_are_kept() -> None:
    given = difference_map() - 1
    image = build(given)
    assert np.array_equal(image.pixel_array[5:], given[5:])
    (mapping,) = image.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert image.FloatPixelPaddingValue < np.nanmin(given)
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped == image.FloatPixelPaddingValue


@pytest.mark.parametrize(
    "given",
    [
        difference_map()[1:],
        difference_map().astype(np.float64),
        np.full((ROWS, COLUMNS), np.inf, np.float32),
    ],
    ids=["other-size", "double", "infinite"],
)
def test_what_is_no_registered_difference_map_is_refused(given: npt.NDArray[np.float32]) -> None:
    with pytest.raises(ResultError):
        build(given)
