"""Roles of photographs by date, header and quality."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from uuid import UUID

import pytest
from pydicom import Dataset

from reporting.outcomes.hints import hint_of
from reporting.outcomes.pairing import Decision, pair
from reporting.outcomes.quality import quality_of
from reporting.outcomes.records import (
    CaseSource,
    ConflictKind,
    DecidedBy,
    Laterality,
    PhotographFacts,
    ProcedureCase,
    Role,
)
from reporting.outcomes.windows import DEFAULT_WINDOWS, is_due, place_in, windows_for
from service.records import QualityMeasures

OPERATED = date(2020, 6, 1)
CASE = ProcedureCase(
    case_id=UUID(int=1), version=1, source=CaseSource.EHR, reason="", author="", patient="p", procedure_id="",
    code_system="", code="1", performed_on=OPERATED, born_on=date(2020, 2, 1), phenotype="", syndrome=None,
    laterality=Laterality.LEFT, site="", surgeon="", severity_before=None, consent=True, active=True,
)  # fmt: skip


def _photograph(number: int, after_days: int, **changes: object) -> PhotographFacts:
    taken = OPERATED + timedelta(days=after_days)
    facts = PhotographFacts(
        instance_id=number, sop_instance_uid=f"2.25.{number}", patient="p", acquired_on=taken,
        acquired_at=None, received_on=taken, born_on=None, site="", hint=None, hint_source="", quality=-1.0,
        judged=True, reasons=(),
    )  # fmt: skip
    return replace(facts, **changes)  # type: ignore[arg-type]


def _roles(photographs: list[PhotographFacts], **more: object) -> dict[str, int]:
    found = pair(CASE, photographs, DEFAULT_WINDOWS, **more)  # type: ignore[arg-type]
    return {each.window.name: each.instance_id for each in found.assigned}


def test_windows_by_interval_and_by_age() -> None:
    found = _roles([_photograph(1, -30), _photograph(2, 182), _photograph(3, 365), _photograph(4, 1700)])
    assert found == {"before": 1, "6 months": 2, "12 months": 3, "5 years": 4}


@pytest.mark.parametrize(("after_days", "inside"), [(-91, False), (-90, True), (0, True), (1, False)])
def test_the_edges_of_the_window_before(after_days: int, inside: bool) -> None:
    taken = OPERATED + timedelta(days=after_days)
    assert (place_in(DEFAULT_WINDOWS[0], CASE, taken) is not None) is inside


def test_the_last_before_goes_before_the_best_before() -> None:
    assert _roles([_photograph(1, -60, quality=0.0), _photograph(2, -5, quality=-3.0)]) == {"before": 2}
    assert _roles([_photograph(1, -60), _photograph(2, -5, judged=False)]) == {"before": 1}


def test_the_best_after_goes_before_the_first() -> None:
    assert _roles([_photograph(1, 350), _photograph(2, 380, quality=-0.5)]) == {"12 months": 2}


def test_a_header_that_says_so_is_taken_first() -> None:
    said = _photograph(2, 380, quality=-2.0, hint=Role.POST, hint_source="StudyDescription")
    found = pair(CASE, [_photograph(1, 350), said], DEFAULT_WINDOWS)
    (only,) = found.assigned
    assert (only.instance_id, only.decided_by) == (2, DecidedBy.DICOM)
    assert only.reason.startswith("StudyDescription")


def test_what_cannot_be_told_is_a_conflict() -> None:
    alike = pair(CASE, [_photograph(1, 350), _photograph(2, 380)], DEFAULT_WINDOWS)
    assert alike.assigned == ()
    assert [each.kind for each in alike.conflicts] == [ConflictKind.EQUAL_QUALITY]
    again = replace(CASE, case_id=UUID(int=2), performed_on=OPERATED + timedelta(days=200))
    between = pair(CASE, [_photograph(1, 350)], DEFAULT_WINDOWS, [again])
    assert [each.kind for each in between.conflicts] == [ConflictKind.TWO_PROCEDURES]
    early = pair(CASE, [_photograph(1, -500)], DEFAULT_WINDOWS)
    assert [each.kind for each in early.conflicts] == [ConflictKind.IMPOSSIBLE_DATE]  # before birth
    late = _photograph(1, 350, received_on=OPERATED)
    assert [each.kind for each in pair(CASE, [late], DEFAULT_WINDOWS).conflicts] == [
        ConflictKind.IMPOSSIBLE_DATE
    ]


def test_a_header_of_another_operation_is_no_conflict() -> None:
    earlier = replace(CASE, case_id=UUID(int=2), code="2", performed_on=OPERATED - timedelta(days=60))
    after_that = _photograph(1, -20, hint=Role.POST, hint_source="StudyDescription")
    assert pair(CASE, [after_that], DEFAULT_WINDOWS, [earlier]).conflicts == ()
    assert [each.kind for each in pair(CASE, [after_that], DEFAULT_WINDOWS).conflicts] == [
        ConflictKind.HINT_AGAINST_DATE
    ]


def test_a_person_goes_before_every_rule() -> None:
    chosen = {"12 months": Decision(window="12 months", instance_id=1, reason="smiles in the other")}
    assert _roles([_photograph(1, 350), _photograph(2, 380, quality=0.0)], decisions=chosen) == {
        "12 months": 1
    }
    none = {"12 months": Decision(window="12 months", instance_id=None, reason="swollen")}
    assert _roles([_photograph(2, 380)], decisions=none) == {}


def test_a_code_with_windows_of_its_own_uses_those_alone() -> None:
    own = replace(DEFAULT_WINDOWS[0], code="1")
    assert windows_for("1", [*DEFAULT_WINDOWS, own]) == (own,)
    assert windows_for("2", [*DEFAULT_WINDOWS, own]) == DEFAULT_WINDOWS


def test_a_window_is_due_once_it_has_closed() -> None:
    twelve = DEFAULT_WINDOWS[2]
    assert not is_due(twelve, CASE, OPERATED + timedelta(days=400))
    assert is_due(twelve, CASE, OPERATED + timedelta(days=470))
    assert not is_due(DEFAULT_WINDOWS[4], replace(CASE, born_on=None), date(2040, 1, 1))
    assert not is_due(DEFAULT_WINDOWS[4], replace(CASE, born_on=date(2000, 1, 1)), date(2040, 1, 1))


def test_quality_tells_photographs_apart() -> None:
    sharp = QualityMeasures(inter_ocular_px=400, yaw_deg=1, pitch_deg=1, blur_percent=0.2, noise_sigma=1,
                            exposure_ev=0, light_asymmetry_ev=0, clipped_fraction=0)  # fmt: skip
    assert quality_of(sharp) > quality_of(replace(sharp, yaw_deg=8))
    assert quality_of(sharp) > quality_of(replace(sharp, inter_ocular_px=90))
    assert quality_of(sharp) > quality_of(QualityMeasures())


def _coded(code: str) -> Dataset:
    item, inner = Dataset(), Dataset()
    inner.CodeValue, inner.CodingSchemeDesignator, inner.CodeMeaning = code, "SCT", "said"
    item.ConceptCodeSequence = [inner]
    header = Dataset()
    header.AcquisitionContextSequence = [item]
    return header


@pytest.mark.parametrize(
    ("attributes", "role"),
    [
        ({"StudyDescription": "Cleft lip pre-op"}, Role.PRE),
        ({"StudyDescription": "POSTOPERATIVE review"}, Role.POST),
        ({"ClinicalTrialTimePointDescription": "before surgery"}, Role.PRE),
        ({"ClinicalTrialTimePointID": "post op 12m", "StudyDescription": "preop clinic"}, Role.POST),
        ({"StudyDescription": "pre-op and post-op"}, None),
        ({"StudyDescription": "preopercular"}, None),
        ({}, None),
    ],
)
def test_hints_in_words(attributes: dict[str, str], role: Role | None) -> None:
    header = Dataset()
    for name, value in attributes.items():
        setattr(header, name, value)
    assert hint_of(header)[0] is role


def test_hints_in_codes_go_first() -> None:
    for code, role in (("262068006", Role.PRE), ("262061000", Role.POST)):
        header = _coded(code)
        header.StudyDescription = "pre-op" if role is Role.POST else "post-op"
        assert hint_of(header) == (role, "AcquisitionContextSequence")
    assert hint_of(_coded("1234")) == (None, "")
