"""Paper 002's normaliser fills what its student finds odd, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.models import squeezenet1_1

from service.appraisal.face.regions import face_mask
from service.appraisal.methods.two_phase.comparator import DiscrepancyComparator
from service.appraisal.methods.two_phase.discrepancy import (
    DiscrepancyReader,
    MaskSettings,
    fit_usual,
    mask_of,
    stored,
)
from service.appraisal.methods.two_phase.discrepancy_network import Student, Teacher, distances
from service.appraisal.methods.two_phase.normaliser import TwoPhaseNormaliser
from service.appraisal.tables import Normalised
from service.evaluation.retake import light, noise

pytestmark = pytest.mark.usefixtures("one_thread")
SPOT = (slice(150, 176), slice(160, 186))


@pytest.fixture(scope="module")
def reader(aligned):
    """A student that learned one face under other light and grain: any other content is odd to it."""
    torch.manual_seed(0)
    backbone = squeezenet1_1(weights=None).state_dict()
    teacher, student = Teacher(backbone).eval(), Student()
    shown = [noise(3.0, seed=i)(light(1.0 + 0.03 * (i % 5), 0.0)(aligned.rgb)) for i in range(24)]
    batch = torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float() / 255
    optimiser = torch.optim.Adam(student.parameters(), lr=3e-3)
    for step in range(60):
        faces = batch[4 * (step % 5) : 4 * (step % 5) + 4]
        wanted = teacher(faces)
        given, picture = student(wanted)
        target = torch.nn.functional.avg_pool2d(faces, 2)
        loss = sum(part.mean() for part in distances(wanted, given)) + (picture - target).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    state = {name: value.detach() for name, value in student.state_dict().items()}
    draft = DiscrepancyReader(backbone, stored(state, fit_usual(_any())))
    return DiscrepancyReader(backbone, stored(state, fit_usual(draft.logs(shown))))


def _any():
    rng = np.random.default_rng(0)
    return tuple(rng.normal(size=(4, side, side)).astype(np.float32) for side in (64, 32, 16))


@pytest.fixture(scope="module")
def spotted(aligned):
    rgb = aligned.rgb.copy()
    rgb[SPOT] = (70, 30, 30)
    return replace(aligned, rgb=rgb)


def test_a_spot_is_masked_and_filled_and_all_else_stays_the_patients_own(reader, aligned, spotted):
    (made,) = TwoPhaseNormaliser(reader).normalise([spotted])
    inside = np.zeros_like(made.mask)
    inside[SPOT] = True
    assert made.mask[SPOT].mean() > 0.6
    assert made.mask.mean() < 0.35
    assert not (made.mask & ~face_mask(spotted.landmarks, (256, 256))).any()
    assert np.array_equal(made.rgb[~made.mask], spotted.rgb[~made.mask])
    filled = made.mask & inside
    before = np.abs(spotted.rgb[filled].astype(int) - aligned.rgb[filled]).mean()
    after = np.abs(made.rgb[filled].astype(int) - aligned.rgb[filled]).mean()
    assert after < 0.6 * before
    assert np.array_equal(made.valid, spotted.inside)


def test_a_face_in_which_nothing_is_odd_is_its_own_counterpart(reader, aligned):
    never = MaskSettings(sure=1e6)
    (made,) = TwoPhaseNormaliser(reader, never).normalise([aligned])
    assert np.array_equal(made.rgb, aligned.rgb)
    assert not made.mask.any()
    assert TwoPhaseNormaliser(reader).normalise([]) == []


def test_the_second_phase_adds_to_the_mask_and_a_batch_gives_what_single_faces_give(reader, aligned, spotted):
    both = TwoPhaseNormaliser(reader).normalise([aligned, spotted])
    (first,) = TwoPhaseNormaliser(reader, phases=1).normalise([spotted])
    z = reader.z([first.rgb])[0]
    expected = first.mask | mask_of(z, face_mask(spotted.landmarks, (256, 256)) & spotted.inside)
    assert np.array_equal(both[1].mask, expected)
    (alone,) = TwoPhaseNormaliser(reader).normalise([spotted])
    assert np.array_equal(both[1].mask, alone.mask)


def test_the_comparator_shows_the_spot_with_any_normaliser(reader, aligned, spotted):
    comparator = DiscrepancyComparator(reader)
    plain, odd = comparator.compare([aligned, spotted], [])
    assert odd.shape == (256, 256)
    assert odd.dtype == np.float32
    assert float(odd.min()) > 0
    assert odd[SPOT].mean() > 3 * plain[SPOT].mean()
    other = Normalised(rgb=aligned.rgb, valid=aligned.inside)
    np.testing.assert_allclose(comparator.compare([spotted], [other])[0], odd, rtol=1e-4, atol=1e-4)
    inpainted = TwoPhaseNormaliser(reader).normalise([spotted])
    np.testing.assert_allclose(comparator.compare([spotted], inpainted)[0], odd, rtol=1e-4, atol=1e-4)
