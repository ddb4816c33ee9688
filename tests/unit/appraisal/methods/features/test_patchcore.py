from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from service.appraisal.methods.features.backbones import BACKBONES, build_network
from service.appraisal.methods.features.patchcore import LAYERS, PatchCoreComparator, PatchFeatures, coreset


@pytest.fixture
def features():
    torch.manual_seed(0)
    return PatchFeatures(build_network(BACKBONES["squeezenet"], None, max(LAYERS)))


def test_a_coreset_covers_all_clusters():
    rng = torch.Generator().manual_seed(0)
    centres = 10 * torch.eye(6)
    rows = centres.repeat(50, 1) + 0.1 * torch.randn(300, 6, generator=rng)
    chosen = coreset(rows, 6)
    assert sorted(chosen.argmax(1).tolist()) == list(range(6))
    assert len(coreset(rows, 1000)) == 300


def test_what_the_bank_knows_is_normal_and_a_spot_is_not(features, aligned):
    bank = features([aligned.rgb])[0].flatten(1).T
    comparator = PatchCoreComparator(features, bank)
    spotted = aligned.rgb.copy()
    spotted[150:170, 170:190] = (60, 30, 30)
    known, other = comparator.compare([aligned, replace(aligned, rgb=spotted)], [])
    assert known.shape == (256, 256)
    assert float(known.max()) < 0.05 * float(other.max())
    assert other[150:170, 170:190].mean() > 10 * other[20:60, 20:60].mean()
