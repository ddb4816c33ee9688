"""The normaliser with the shipped weights, on a public-domain portrait."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from service.appraisal.anomalies import NAMED, Canvas, inter_ocular_distance, render
from service.appraisal.appraiser import Appraiser
from service.appraisal.face.alignment import align, warp
from service.appraisal.methods.localised.counterpart.drawing import (
    Counterpart,
    Move,
    expected_face_from,
)
from service.appraisal.methods.localised.counterpart.normaliser import CounterpartNormaliser, notes_of
from service.appraisal.methods.localised.counterpart.units import UNITS
from service.appraisal.methods.localised.normaliser import EXPECTED_MODEL, MODEL
from service.appraisal.methods.localised.reading import NetworkReader
from service.appraisal.model_files.models import ModelStore
from service.appraisal.photograph.decode import photograph_from_rgb
from service.errors import ModelIntegrityError

BY_NAME = {unit.name: unit for unit in UNITS}


@pytest.fixture(scope="module")
def normaliser():
    store = ModelStore()
    return CounterpartNormaliser(
        NetworkReader(store.tensors(MODEL)), expected_face_from(store.tensors(EXPECTED_MODEL))
    )


@pytest.fixture(scope="module")
def canvas(photograph, face):
    landmarks = face.landmarks.astype(np.float32)
    return Canvas(image=photograph.rgb, landmarks=landmarks, unit=inter_ocular_distance(landmarks))


def shown(finder, image, size=256):
    photograph = photograph_from_rgb(np.ascontiguousarray(image))
    return align(photograph, finder.find(photograph.rgb)[0], size, fine=True)


def changed(canvas, kind, seed=1, severity=1.0):
    return render(canvas.image, NAMED[kind](canvas, severity, np.random.default_rng(seed)))


def removed(aligned, drawn, rendered, clean):
    """Share of the difference from the clean face that is gone, inside the anomaly's mask."""
    true, _ = warp(clean, aligned.matrix, (256, 256), fine=True)
    mask = cv2.warpAffine(rendered.mask.astype(np.uint8), aligned.matrix, (256, 256)) > 0
    left = np.abs(drawn.rgb.astype(float) - true)[mask].sum()
    return 1 - left / np.abs(aligned.rgb.astype(float) - true)[mask].sum()


def test_a_normal_face_stays_as_it_is(normaliser, finder, photograph):
    aligned = shown(finder, photograph.rgb)
    drawn = normaliser.normalise([aligned])[0]
    np.testing.assert_array_equal(drawn.rgb, aligned.rgb)
    assert drawn.notes == ()
    assert not drawn.refusal


@pytest.mark.parametrize(
    ("kind", "least", "named"),
    [("lt-v1", 0.3, "lip"), ("droop", 0.15, "mouth"), ("ptosis", 0.1, "lid"), ("nevus", 0.5, "filled")],
)
def test_what_is_not_normal_is_taken_back_and_named(normaliser, finder, canvas, kind, least, named):  # noqa: PLR0917
    rendered = changed(canvas, kind)
    aligned = shown(finder, rendered.image)
    drawn = normaliser.normalise([aligned])[0]
    assert removed(aligned, drawn, rendered, canvas.image) > least
    assert any(named in note for note in drawn.notes)


@pytest.mark.parametrize("kind", ["lt-v1", "ptosis", "nevus"])
def test_what_is_normal_stays_within_a_grey_level(normaliser, finder, canvas, kind):
    rendered = changed(canvas, kind)
    aligned = shown(finder, rendered.image)
    drawn = normaliser.normalise([aligned])[0]
    mask = cv2.warpAffine(rendered.mask.astype(np.uint8), aligned.matrix, (256, 256))
    far = cv2.dilate(mask, np.ones((21, 21), np.uint8)) == 0
    assert np.abs(drawn.rgb.astype(float) - aligned.rgb)[far].mean() < 1


def test_the_mirror_image_is_drawn_as_the_mirror_image(normaliser, finder, canvas):
    rendered = changed(canvas, "ptosis")
    aligned = shown(finder, rendered.image)
    flipped = replace(
        aligned,
        rgb=np.ascontiguousarray(aligned.rgb[:, ::-1]),
        inside=aligned.inside[:, ::-1],
        matrix=np.array([[1.0, 0, 0], [0, 1, 0]]),
        photograph=photograph_from_rgb(np.ascontiguousarray(aligned.rgb[:, ::-1])),
    )
    one, other = normaliser.normalise([aligned])[0], normaliser.normalise([flipped])[0]
    swap = {"left": "right", "right": "left"}
    names = [" ".join(swap.get(word, word) for word in move.unit.name.split()) for move in one.drawing.moves]
    assert names
    assert names == [move.unit.name for move in other.drawing.moves]
    assert np.abs(one.rgb.astype(float) - other.rgb[:, ::-1]).mean() < 0.5


def test_a_face_mostly_covered_has_no_counterpart(normaliser, finder, canvas):
    aligned = shown(finder, changed(canvas, "lt-v1").image)
    inside = aligned.inside.copy()
    inside[:140] = False
    drawn = normaliser.normalise([replace(aligned, inside=inside)])[0]
    assert "covered" in drawn.refusal
    assert drawn.notes == (f"no normal counterpart is drawn: {drawn.refusal}",)
    np.testing.assert_array_equal(drawn.rgb, aligned.rgb)


def test_a_face_of_another_size_is_drawn_in_its_own(normaliser, finder, canvas):
    aligned = shown(finder, changed(canvas, "lt-v1").image, 320)
    drawn = normaliser.normalise([aligned])[0]
    assert drawn.rgb.shape == (320, 320, 3)
    assert drawn.drawing.moves


def test_the_result_says_what_the_counterpart_changed_and_keeps_it(finder, canvas):
    rendered = changed(canvas, "lt-v1")
    result = Appraiser("default", face_finder=finder, device="cpu").appraise(
        photograph_from_rgb(rendered.image)
    )
    assert any("lip" in note for note in result.appraisal.warnings)
    assert result.maps.native.counterpart
    assert (result.maps.normalised != result.maps.aligned).any()


def drawing(moves=(), painted=0.0, refusal=""):
    return Counterpart(
        rgb=np.zeros((256, 256, 3), np.uint8),
        moves=moves,
        painted=painted,
        ratios=np.zeros(len(UNITS)),
        redness=0.0,
        refusal=refusal,
    )


@pytest.mark.parametrize(
    ("across", "down", "words"),
    [
        (0.0, -0.05, "0.05 of the distance between the pupils lower"),
        (0.0, 0.05, "0.05 of the distance between the pupils higher"),
        (0.08, 0.0, "0.08 of the distance between the pupils farther to the patient's right"),
        (-0.08, 0.0, "0.08 of the distance between the pupils farther to the patient's left"),
        (0.001, 0.0, "of another shape"),
    ],
)
def test_words_say_where_a_unit_lies_and_not_where_it_was_moved(across, down, words):
    move = Move(unit=BY_NAME["left upper lid"], across=across, down=down)
    (note,) = notes_of(drawing(moves=(move,)))
    assert "left upper lid" in note
    assert words in note


def test_words_say_how_much_was_filled():
    assert notes_of(drawing(painted=0.123)) == (
        "normal counterpart: 12.3% of the face has a colour of its own and was filled",
    )


def test_an_expectation_that_lacks_a_part_is_refused():
    tensors = ModelStore().tensors(EXPECTED_MODEL)
    for name in tensors:
        with pytest.raises(ModelIntegrityError, match=name):
            expected_face_from({k: v for k, v in tensors.items() if k != name})
