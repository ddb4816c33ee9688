from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from service.appraisal.face.regions import region_masks
from service.evaluation.benchmark.regions import RegionStudy
from service.evaluation.benchmark.studies import as_json
from service.records import Region, RegionScore
from tests.unit.evaluation.benchmark.shown import sheet, subject


def told(who, where, severity=1.0, kind="nevus", others=0.0):
    """An image whose nose was changed, and what a method says of it: z of some regions, and of all others.

    Where is "changed" for the regions that the change covers by a fifth, each with z 4.
    """
    shown = sheet(who, kind if severity else "sham", severity)
    masks = region_masks(who.landmarks.astype(np.float64), shown.rendered.mask.shape)
    mask = masks[Region.NOSE] if severity else np.zeros_like(shown.rendered.mask)
    if where == "changed":
        where = {region: 4.0 for region, own in masks.items() if own.any() and mask[own].mean() >= 0.2}
    parts = [
        RegionScore(region=region, score=0.0, z=where.get(region, others), judged=1.0) for region in Region
    ]
    appraised = SimpleNamespace(appraisal=SimpleNamespace(regions=tuple(parts)))
    return replace(
        shown,
        rendered=replace(shown.rendered, mask=mask),
        judged=replace(shown.judged, appraised=appraised),
    )


def table(*sheets):
    study = RegionStudy()
    assert study.empty
    for one in sheets:
        study.see(one)
    assert not study.empty
    return as_json(study.tables(repeats=5)[0])


def test_the_region_that_was_changed_and_is_named_is_found():
    found = table(
        told(subject("a"), {}, severity=0.0),
        told(subject("a"), "changed"),
        told(subject("b"), "changed", severity=0.5),
    )
    assert found["nevus"]["auroc"]["value"] == 1.0
    assert found["nevus"]["named"]["value"] == 1.0
    assert found["nevus"]["false_full"]["value"] == 0.0
    assert found["clean"]["false_full"]["value"] == 0.0
    assert found["all"] == found["nevus"]


def test_regions_that_share_the_whole_faces_score_are_false():
    found = table(
        told(subject("a"), {Region.CHIN: 3.0}, severity=0.0),
        told(subject("a"), {Region.FACE: 9.0}, others=3.0),
    )
    assert found["nevus"]["auroc"]["value"] == pytest.approx(0.5)
    assert found["nevus"]["false_full"]["value"] == 1.0
    assert found["clean"]["false_full"]["value"] == pytest.approx(0.1)


def test_a_method_without_a_calibration_has_no_table():
    study = RegionStudy()
    study.see(told(subject(), {}, others=None))
    assert study.empty
