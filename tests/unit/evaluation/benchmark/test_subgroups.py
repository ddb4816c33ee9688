from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from service.appraisal.face.alignment import AlignedFace
from service.errors import ConfigurationError
from service.evaluation.benchmark.camera import camera_measures, camera_part
from service.evaluation.benchmark.skin import SkinTone, skin_tone, typology_angle
from service.evaluation.benchmark.subgroups import FEWEST, Portrayed, age_band, measure_subgroups, spread_over
from service.evaluation.benchmark.trial import Judged
from service.records import QualityMeasures
from tests.unit.evaluation.benchmark.shown import SIZE, sheet, subject
from tests.unit.evaluation.benchmark.trials import MAKERS, subjects


class Judge:
    """Infants score one lower; anomalies much lower; pictures marked in a corner are refused."""

    def judge(self, image, sham):
        corner = image[0, 0].astype(float)
        refused = corner[2] > 250
        value = None if refused else 2.0 - corner[0] / 100 + 0.01 * corner[1]
        if value is not None and not np.array_equal(image, sham):
            value -= 3.0
        appraisal = SimpleNamespace(
            score=value,
            percentile=None if refused else 50.0 + 10 * value,
            quality=QualityMeasures(sharpness=100.0, noise_sigma=1.0, inter_ocular_px=50.0),
        )
        appraised = SimpleNamespace(appraisal=appraisal, maps=None)
        return Judged(anomaly=None if refused else -value, difference=None, appraised=appraised)


def people(infants=12, adults=24, refused=0):
    rng = np.random.default_rng(0)
    for number, face in enumerate(subjects(infants + adults)):
        image = face.image.copy()
        infant = number < infants
        image[:3, :3] = (100 if infant else 0, rng.integers(0, 60), 255 if number < refused else 0)
        yield Portrayed(
            subject=replace(face, image=image),
            age=1 if infant else 30,
            sex=number % 2,
            source="clinic" if number % 3 else "web",
        )


def rows_of(table):
    return {name: dict(zip(table.columns, cells, strict=True)) for name, cells in table.rows}


def test_a_group_scored_lower_shows_as_an_offset():
    rows = rows_of(measure_subgroups(list(people()), MAKERS, Judge(), repeats=20))
    infants, adults = rows["age: 0-2"], rows["age: 18-39"]
    assert infants["offset"].value < -1
    assert adults["offset"].value > 0.4
    assert infants["offset"].high < adults["offset"].low
    assert infants["offset_within_source"].value < -1
    assert infants["auroc"].value == 1.0
    assert rows["all"]["faces"] == 36
    assert rows["all"]["offset"].value == pytest.approx(0, abs=1e-9)
    assert rows["all"]["false_positives"].value == 0.0
    assert abs(rows["sex: male"]["offset"].value) < 0.5


def test_no_figure_is_given_for_few_faces_and_the_refused_are_counted():
    rows = rows_of(measure_subgroups(list(people(infants=12, refused=4)), MAKERS, Judge(), repeats=0))
    assert rows["age: 0-2"]["faces"] == 8 < FEWEST
    assert rows["age: 0-2"]["offset"] is None
    assert rows["age: 0-2"]["auroc"] is None
    assert rows["age: 0-2"]["rejected"].value == pytest.approx(1 / 3)
    assert rows["source: web"]["offset"] is not None


def test_too_few_people_are_refused():
    with pytest.raises(ConfigurationError, match="9 faces could be judged"):
        measure_subgroups(list(people(3, 6)), MAKERS, Judge(), repeats=0)


def test_people_are_chosen_evenly_so_that_small_groups_are_seen():
    crowd = [(30, 0, "web")] * 200 + [(1, 1, "web")] * 12 + [(40, 0, "clinic")] * 5
    chosen = spread_over(crowd, 30, seed=1)
    assert len(set(chosen)) == 30
    assert sum(200 <= n < 212 for n in chosen) == 12
    assert sum(n >= 212 for n in chosen) == 5
    assert spread_over(crowd, 1000, seed=1) == list(range(217))


@pytest.mark.parametrize(
    ("age", "band"), [(-1, None), (0, "0-2"), (2, "0-2"), (3, "3-12"), (64, "40-64"), (116, "65 and over")]
)
def test_age_bands(age, band):
    assert age_band(age) == band


def test_what_the_camera_explains_is_predicted_and_the_person_is_not():
    rng = np.random.default_rng(0)
    qualities = [QualityMeasures(sharpness=s, noise_sigma=2.0) for s in rng.uniform(20, 400, 300)]
    measures = np.stack([camera_measures(q) for q in qualities])
    person = rng.normal(size=300)
    blurred = -(measures[:, 0] - measures[:, 0].mean()) / measures[:, 0].std()
    left = blurred + 0.3 * person - camera_part(measures, blurred + 0.3 * person)
    assert np.corrcoef(left, blurred)[0, 1] == pytest.approx(0, abs=0.1)
    assert np.corrcoef(left, person)[0, 1] > 0.95
    assert np.abs(camera_part(measures, person)).mean() < 0.2  # nothing to predict


def painted(lightness, yellow):
    """A face all of one colour of CIELAB."""
    face: AlignedFace = sheet(subject()).judged.appraised.maps.face
    lab = np.full((SIZE, SIZE, 3), (lightness, 10, yellow), np.float32)
    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return replace(face, rgb=np.rint(255 * rgb).astype(np.uint8))


@pytest.mark.parametrize(
    ("lightness", "yellow", "tone"),
    [
        (75, 12, SkinTone.VERY_LIGHT),
        (68, 17, SkinTone.LIGHT),
        (62, 18, SkinTone.INTERMEDIATE),
        (57, 20, SkinTone.TAN),
        (48, 18, SkinTone.BROWN),
        (30, 15, SkinTone.DARK),
    ],
)
def test_the_typology_angle_of_a_known_colour(lightness, yellow, tone):
    angle = typology_angle(painted(lightness, yellow))
    assert angle == pytest.approx(np.degrees(np.arctan2(lightness - 50, yellow)), abs=2.0)
    assert skin_tone(angle) is tone


def test_a_cheek_that_is_not_seen_has_no_tone():
    face = painted(60, 15)
    assert typology_angle(replace(face, inside=np.zeros_like(face.inside))) is None
