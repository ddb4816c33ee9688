"""The rows of TID 1500 and TID 1501 a report must have, checked on the bytes that will be sent.

highdicom builds by the template; this reads what was written, as a receiver would, and is a tenth of
the work of having highdicom parse the whole tree again (the tests do that).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydicom import Dataset

from reporting.terminology import AI_RESULT_TITLE, SCORE
from service.errors import ResultError

_IMAGING_MEASUREMENTS = "126010"  # TID 1500 row 6
_MEASUREMENT_GROUP = "125007"  # TID 1501 row 1
# Language, observer, procedure, measurements.
_ROOT_ROWS = {"121049", "121005", "121012", "121058", _IMAGING_MEASUREMENTS}
# Tracking, algorithm, source.
_GROUP_ROWS = {"112039", "112040", "111001", "111003", "121112"}
_FINDINGS = {"363698007", "121071"}  # finding site, finding: one of them


def check_report(report: Dataset, score: float | None) -> None:
    """Check a report by its template.

    Args:
        report: As read back.
        score: Of the appraisal; None when the photograph was rejected.

    Raises:
        ResultError: A row is missing, a measurement has no unit or no number, a reference is to nothing in
            the evidence, or the first group's score is another.
    """
    template = report.ContentTemplateSequence[0]
    if (template.TemplateIdentifier, _name(report)) != ("1500", AI_RESULT_TITLE.code):
        raise ResultError("the report is not by TID 1500")
    _require(report, _ROOT_ROWS, "TID 1500")
    (measurements,) = _children(report, _IMAGING_MEASUREMENTS)
    groups = _children(measurements, _MEASUREMENT_GROUP)
    if not groups:
        raise ResultError("the report has no measurement group")
    for group in groups:
        _require(group, _GROUP_ROWS, "TID 1501")
        if not any(_name(item) in _FINDINGS for item in group.ContentSequence):
            raise ResultError("TID 1501: neither a finding nor a finding site")
    for item in _walk(report):
        _check_item(item)
    _check_references(report)
    found = [float(item.MeasuredValueSequence[0].NumericValue) for item in _numbers(groups[0], SCORE.code)]
    expected = [] if score is None else [score]
    if len(found) != len(expected) or not all(map(_is_close, found, expected)):
        raise ResultError("the report does not read back with its score")


def _is_close(found: float, expected: float) -> bool:
    return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)  # DS has 16 characters


def _numbers(group: Dataset, code: str) -> list[Dataset]:
    return [item for item in _children(group, code) if item.ValueType == "NUM"]


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def _children(item: Dataset, code: str) -> list[Dataset]:
    return [child for child in item.get("ContentSequence", []) if _name(child) == code]


def _require(item: Dataset, rows: set[str], template: str) -> None:
    missing = rows - {_name(child) for child in item.get("ContentSequence", [])}
    if missing:
        raise ResultError(f"{template}: no row {', '.join(sorted(missing))}")


def _walk(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", []):
        yield child
        yield from _walk(child)


def _check_item(item: Dataset) -> None:
    """Each content item has its relationship, its name and a value of its type (PS3.3 section C.17.3)."""
    if not _name(item) or not item.get("RelationshipType"):
        raise ResultError("a content item has no name or no relationship")
    keyword = _VALUES.get(item.ValueType)
    if keyword is None or not item.get(keyword):
        raise ResultError(f"content item {_name(item)} has no value")
    if item.ValueType == "NUM" and not item.MeasuredValueSequence[0].get("MeasurementUnitsCodeSequence"):
        raise ResultError(f"measurement {_name(item)} has no unit")


_VALUES = {
    "CONTAINER": "ContinuityOfContent",
    "CODE": "ConceptCodeSequence",
    "NUM": "MeasuredValueSequence",
    "TEXT": "TextValue",
    "UIDREF": "UID",
    "IMAGE": "ReferencedSOPSequence",
}


def _check_references(report: Dataset) -> None:
    """What the content refers to is listed as evidence (PS3.3 section C.17.2.3)."""
    evidence = {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    referenced = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in _walk(report)
        if item.ValueType == "IMAGE"
    }
    if not referenced <= evidence:
        raise ResultError("the report refers to what is not in its evidence")
