"""What a key's value asks for."""

from __future__ import annotations

import pytest

from reporting.holdings.attributes import key_of, tag_of
from reporting.holdings.database.holding_records import Level, MatchKind
from reporting.holdings.matching import condition
from reporting.holdings.names import folded
from service.errors import QueryError


@pytest.mark.parametrize(
    ("keyword", "values", "kind", "expected"),
    [
        ("PatientID", ["P1"], MatchKind.VALUE, ("P1",)),
        ("PatientID", ["P*_%"], MatchKind.PATTERN, (r"P%\_\%",)),
        ("PatientID", ["a?c"], MatchKind.PATTERN, ("a_c",)),
        ("PatientName", ["Müller^J*"], MatchKind.NAME, ("muller^j%",)),
        ("PatientName", ["Doe^Jane^*"], MatchKind.NAME, ("doe^jane^%", "doe^jane")),
        ("PatientName", ["Wang=王"], MatchKind.NAME, ("wang", "王")),
        ("StudyInstanceUID", ["1.2", "1.3"], MatchKind.VALUE, ("1.2", "1.3")),
        ("SeriesNumber", ["007"], MatchKind.VALUE, ("7",)),
        ("StudyDate", ["20260102"], MatchKind.DATE, ("20260102", "20260102")),
        ("StudyDate", ["2026.01.02"], MatchKind.DATE, ("20260102", "20260102")),
        ("StudyDate", ["-20260102"], MatchKind.DATE, ("00000000", "20260102")),
        ("StudyDate", ["20260102-"], MatchKind.DATE, ("20260102", "99999999")),
        ("StudyTime", ["10"], MatchKind.TIME, ("100000000000", "105959999999")),
        ("StudyTime", ["1011-1012"], MatchKind.TIME, ("101100000000", "101259999999")),
        ("StudyTime", ["10:11:12.5"], MatchKind.TIME, ("101112500000", "101112599999")),
        (
            "AcquisitionDateTime",
            ["20260102-20260103101112.5+0100"],
            MatchKind.DATE_TIME,
            ("20260102000000000000", "20260103101112599999"),
        ),
        (
            "AcquisitionDateTime",
            ["20260102101112-0500"],
            MatchKind.DATE_TIME,
            ("20260102101112000000", "20260102101112999999"),
        ),
    ],
)
def test_conditions(keyword: str, values: list[str], kind: MatchKind, expected: tuple[str, ...]) -> None:
    found = condition(key_of(tag_of(keyword)), values)
    assert found is not None
    assert (found.kind, found.values) == (kind, expected)


@pytest.mark.parametrize(
    ("keyword", "values"), [("PatientID", [""]), ("PatientName", ["*"]), ("StudyDate", [])]
)
def test_universal_matching(keyword: str, values: list[str]) -> None:
    assert condition(key_of(tag_of(keyword)), values) is None


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("StudyDate", ["yesterday"]),
        ("StudyDate", ["*"]),
        ("StudyDate", ["20260101", "20260102"]),
        ("StudyTime", ["1"]),
        ("AcquisitionDateTime", ["now"]),
        ("SeriesNumber", ["one"]),
    ],
)
def test_malformed_values(keyword: str, values: list[str]) -> None:
    with pytest.raises(QueryError, match=keyword):
        condition(key_of(tag_of(keyword)), values)


def test_levels_and_what_is_matched() -> None:
    assert key_of(tag_of("PatientName")).level is Level.STUDY
    assert key_of(tag_of("BodyPartExamined")).level is Level.SERIES
    assert key_of(tag_of("Rows")).level is Level.IMAGE
    assert key_of("00091001").level is Level.IMAGE
    assert not key_of("00091001").matched
    assert not key_of(tag_of("ProcedureCodeSequence")).matched
    assert not key_of(tag_of("PixelData")).matched
    assert not key_of(tag_of("NumberOfStudyRelatedInstances")).matched
    assert key_of(tag_of("ModalitiesInStudy")).matched


def test_names_are_compared_without_case_accents_and_spaces() -> None:
    assert folded("  MÜLLER  von ^Jörg^^") == "muller von^jorg"
    assert folded("ÅSE") == folded("åse") == "ase"
