"""Sheets of drawn faces with a reading that the test decides."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from service.appraisal.anomalies import NAMED, Canvas, forward_points, inter_ocular_distance, render
from service.appraisal.face.alignment import AlignedFace
from service.appraisal.face.finder import Face
from service.appraisal.face.pose import Pose
from service.appraisal.methods.localised.counterpart.drawing import Counterpart
from service.appraisal.methods.localised.counterpart.normaliser import Drawn
from service.appraisal.methods.localised.counterpart.units import UNITS
from service.appraisal.methods.localised.reading import Reading
from service.appraisal.methods.localised.views import LANDMARKS
from service.appraisal.photograph.decode import photograph_from_rgb
from service.evaluation.benchmark.trial import Judged, Sheet, Subject
from tests.unit.appraisal.drawn_face import drawn_face
from tests.unit.appraisal.methods.localised.drawn_measures import CALM

SIZE = 256
STRAIGHT = Pose(yaw_deg=0, pitch_deg=0, roll_deg=0)


def subject(identity="a"):
    face = drawn_face(SIZE)
    return Subject(identity=identity, group="", image=face.image, landmarks=face.landmarks)


def sheet(who, kind="sham", severity=0.0, *, follows=1.0, mesh_follows=0.0, evidence=0.0, moved_px=0.0):
    """One image whose landmarks follow the true displacement by the given shares."""
    unit = inter_ocular_distance(who.landmarks)
    canvas = Canvas(image=who.image, landmarks=who.landmarks, unit=unit)
    change = NAMED[kind](canvas, severity, np.random.default_rng(1)) if severity else None
    rendered = render(who.image, change)
    points = who.landmarks.astype(np.float64)
    true = forward_points(who.landmarks, rendered.displacement).astype(np.float64) - points
    network = (points + follows * true + [moved_px, 0])[list(LANDMARKS)]
    mesh = points + mesh_follows * true
    reading = Reading(
        localisation=np.full((64, 64), -3.0 + evidence, np.float32),
        flow=np.zeros((64, 64, 2), np.float32),
        residual=np.zeros((64, 64, 3), np.float32),
        evidence=evidence,
        severity=0.1,
        close_evidence=evidence,
        close_severity=0.1,
        landmarks=((network + 0.5) / SIZE).astype(np.float32),
    )
    inside = np.ones((SIZE, SIZE), bool)
    face = AlignedFace(
        rgb=rendered.image,
        landmarks=mesh,
        matrix=np.array([[1.0, 0, 0], [0, 1, 0]]),
        inside=inside,
        photograph=photograph_from_rgb(rendered.image),
        face=Face(mesh=np.hstack([mesh, np.zeros((478, 1))]), pose=STRAIGHT),
    )
    drawing = Counterpart(rgb=rendered.image, moves=(), painted=0.0, ratios=np.ones(len(UNITS)), redness=CALM)
    counterpart = Drawn(rgb=rendered.image, valid=inside, reading=reading, drawing=drawing)
    appraised = SimpleNamespace(maps=SimpleNamespace(face=face, counterpart=counterpart))
    judged = Judged(anomaly=evidence, difference=None, appraised=appraised)
    return Sheet(subject=who, kind=kind, severity=severity, rendered=rendered, judged=judged)
