"""The template check: a report as built passes, and each thing taken out of it is missed."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import pytest
from pydicom import Dataset, dcmread

from reporting.dicom import structured_report
from reporting.dicom.template import check_report
from service.errors import ResultError
from tests.unit.reporting.photographs import context, rejected

SCORE = 2.34375
REPORT = structured_report.build(context()).data
REJECTION = structured_report.build(context(saved=rejected())).data


def read(data: bytes = REPORT) -> Dataset:
    return dcmread(BytesIO(data))


def child(item: Dataset, code: str) -> Dataset:
    return next(c for c in item.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == code)


def group(report: Dataset, number: int = 0) -> Dataset:
    found: Dataset = child(report, "126010").ContentSequence[number]
    return found


def drop(item: Dataset, code: str) -> None:
    item.ContentSequence = [c for c in item.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue != code]


def test_reports_as_built_pass() -> None:
    check_report(read(), SCORE)
    check_report(read(REJECTION), None)


def no_groups(report: Dataset) -> None:
    child(report, "126010").ContentSequence = []


def other_title(report: Dataset) -> None:
    report.ConceptNameCodeSequence[0].CodeValue = "126001"


def other_template(report: Dataset) -> None:
    report.ContentTemplateSequence[0].TemplateIdentifier = "2000"


def no_unit(report: Dataset) -> None:
    del child(group(report, 3), "score").MeasuredValueSequence[0].MeasurementUnitsCodeSequence


def no_number(report: Dataset) -> None:
    child(group(report, 3), "score").MeasuredValueSequence = []


def no_relationship(report: Dataset) -> None:
    del child(group(report, 3), "score").RelationshipType


def no_evidence(report: Dataset) -> None:
    report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence = []


FAULTS: dict[str, Callable[[Dataset], None]] = {
    "no-groups": no_groups,
    "other-title": other_title,
    "other-template": other_template,
    "no-unit": no_unit,
    "no-number": no_number,
    "no-relationship": no_relationship,
    "no-evidence": no_evidence,
    **{f"no-{code}": lambda report, code=code: drop(report, code) for code in ("121049", "121058", "121012")},  # type: ignore[misc]
    **{
        f"group-without-{code}": lambda report, code=code: drop(group(report, 1), code)  # type: ignore[misc]
        for code in ("112040", "112039", "111001", "111003", "363698007", "121112")
    },
    "face-without-score": lambda report: drop(group(report), "score"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_is_missing_is_missed(fault: Callable[[Dataset], None]) -> None:
    report = read()
    fault(report)
    with pytest.raises(ResultError):
        check_report(report, SCORE)


def test_another_score_is_noticed() -> None:
    with pytest.raises(ResultError, match="score"):
        check_report(read(), SCORE + 0.001)
    with pytest.raises(ResultError, match="score"):
        check_report(read(), None)
    with pytest.raises(ResultError, match="score"):
        check_report(read(REJECTION), SCORE)
