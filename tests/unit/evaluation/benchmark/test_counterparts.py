"""What a counterpart takes back, on counterparts that the test decides."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from service.evaluation.benchmark.counterparts import CounterpartStudy
from service.evaluation.benchmark.studies import as_json
from tests.unit.evaluation.benchmark.shown import sheet, subject


def drawn(who, severity=1.0, *, back=0.0, beside=0, kind="nevus"):
    """An image whose counterpart goes so far back to the clean face, and differs elsewhere by grey levels."""
    shown = sheet(who, kind if severity else "sham", severity)
    maps = shown.judged.appraised.maps
    seen, clean = shown.rendered.image.astype(float), sheet(who).rendered.image.astype(float)
    inside = shown.rendered.mask[..., None]
    counterpart = np.where(inside, seen + back * (clean - seen), np.clip(seen + beside, 0, 255))
    told = SimpleNamespace(
        maps=SimpleNamespace(
            face=maps.face, judged=maps.face, normalised=np.rint(counterpart).astype(np.uint8)
        )
    )
    return replace(shown, judged=replace(shown.judged, appraised=told))


def table(*sheets):
    study = CounterpartStudy()
    assert study.empty
    for one in sheets:
        study.see(one)
    assert not study.empty
    return as_json(study.tables(repeats=5)[0])


@pytest.mark.parametrize("back", [0.0, 0.5, 1.0])
def test_what_is_taken_back_is_measured(back):
    who = subject()
    found = table(drawn(who, 0.0), drawn(who, 0.5, back=back), drawn(who, 1.0, back=back))
    assert found["nevus"]["removed_half"]["value"] == pytest.approx(back, abs=0.05)
    assert found["nevus"]["removed_full"]["value"] == pytest.approx(back, abs=0.05)
    assert found["nevus"]["changed_full"]["value"] == (back > 0)
    assert found["all"] == found["nevus"]
    assert found["clean"]["changed_full"]["value"] == 0.0


def test_a_counterpart_that_is_worse_than_the_face_is_counted():
    who = subject()
    found = table(drawn(who, 0.0), drawn(who, 1.0, back=-0.5))
    assert found["nevus"]["worse_full"]["value"] == 1.0
    assert found["nevus"]["removed_full"]["value"] < -0.3


def test_what_changes_elsewhere_is_told_apart():
    who = subject()
    found = table(drawn(who, 0.0, beside=2), drawn(who, 1.0, back=1.0, beside=3))
    assert found["clean"]["outside_full"]["value"] == pytest.approx(2, abs=0.2)
    assert found["clean"]["changed_full"]["value"] == 1.0
    assert found["nevus"]["outside_full"]["value"] == pytest.approx(3, abs=0.2)
    assert found["nevus"]["removed_full"]["value"] == pytest.approx(1.0, abs=0.05)


def test_an_image_whose_clean_face_was_not_seen_is_left_out():
    study = CounterpartStudy()
    study.see(drawn(subject("a"), 0.0))
    study.see(drawn(subject("b"), 1.0, back=1.0))
    assert as_json(study.tables(repeats=5)[0]).keys() == {"clean", "all"}
