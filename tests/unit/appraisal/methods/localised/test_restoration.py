import numpy as np

from service.appraisal.anomalies import NAMED, render, undoing_displacement
from service.appraisal.methods.localised.reading import Reading
from service.appraisal.methods.localised.restoration import restore
from service.appraisal.methods.localised.views import LANDMARKS
from tests.unit.appraisal.drawn_face import drawn_face


def perfect_reading(rendered):
    """What a network that makes no mistake would say."""
    small = slice(2, None, 4)
    away = (rendered.unpainted.astype(np.float32) - rendered.image) / 255
    return Reading(
        localisation=np.where(rendered.mask, 6.0, -6.0)[small, small].astype(np.float32),
        flow=(undoing_displacement(rendered.displacement)[small, small] / 256).astype(np.float32),
        residual=away[small, small],
        evidence=5.0,
        severity=0.5,
        close_evidence=5.0,
        close_severity=0.5,
        landmarks=np.zeros((len(LANDMARKS), 2), np.float32),
    )


def improvement(kind, severity=0.8):
    canvas = drawn_face()
    change = NAMED[kind](canvas, severity, np.random.default_rng(2))
    rendered = render(canvas.image, change)
    restored = restore(rendered.image, perfect_reading(rendered))
    truth = canvas.image.astype(float)
    where = rendered.mask
    return np.abs(restored - truth)[where].mean() / np.abs(rendered.image - truth)[where].mean()


def test_what_is_displaced_comes_back():
    assert improvement("droop") < 0.6


def test_what_is_painted_comes_off():
    assert improvement("nevus") < 0.4


def test_where_no_anomaly_is_seen_the_pixels_stay_the_patients_own():
    canvas = drawn_face()
    rendered = render(canvas.image, NAMED["droop"](canvas, 1.0, np.random.default_rng(0)))
    restored = restore(rendered.image, perfect_reading(rendered))
    far = np.ones(rendered.mask.shape, bool)
    rows, columns = np.nonzero(rendered.mask)
    far[max(rows.min() - 20, 0) : rows.max() + 20, max(columns.min() - 20, 0) : columns.max() + 20] = False
    assert far.any()
    np.testing.assert_array_equal(restored[far], rendered.image[far])
