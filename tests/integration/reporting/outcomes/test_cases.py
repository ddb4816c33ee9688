"""Operations out of a CSV file: every row or none, safe to run twice, corrections as versions."""

from __future__ import annotations

from datetime import date

import pytest

from reporting.outcomes.csv_cases import Import, import_cases
from reporting.outcomes.database import photograph_tables
from service.config import Settings
from service.database.pool import Pool, transaction
from service.errors import OutcomeError
from service.pipeline.context import Context
from service.storage.local import InstanceStore
from tests.integration.reporting.outcomes.clinic import ISSUER, LIP_REPAIR, Clinic, days

HEADER = "patient_id,issuer,procedure_code,performed_on,phenotype,surgeon,consent,status,case,reason\n"
GOOD = f"P-001,{ISSUER},{LIP_REPAIR},2023-05-10,UCLP,Smith,,,R-1,\n"
TODAY = date(2026, 1, 1)


@pytest.fixture
def clinic(settings: Settings, pool: Pool, store: InstanceStore) -> Clinic:
    return Clinic(Context(settings=settings, pool=pool, store=store))


def _import(clinic: Clinic, text: str | bytes) -> Import:
    data = text if isinstance(text, bytes) else text.encode()
    with transaction(clinic.context.pool) as connection:
        return import_cases(connection, data, author="tester", settings=clinic.context.settings, today=TODAY)


def _versions(clinic: Clinic) -> list[dict[str, object]]:
    return clinic.rows("SELECT * FROM procedure_case ORDER BY case_id, version")


def test_twice_is_once(clinic: Clinic) -> None:
    first, second = (_import(clinic, HEADER + GOOD) for _ in range(2))
    assert (first.new, first.changed, first.unchanged) == (1, 0, 0)
    assert (second.new, second.changed, second.unchanged) == (0, 0, 1)
    (case,) = _versions(clinic)
    assert (case["phenotype"], case["surgeon"], case["consent"], case["active"]) == (
        "UCLP",
        "Smith",
        True,
        True,
    )


@pytest.mark.parametrize(
    ("row", "column", "said"),
    [
        (f",{ISSUER},1,2023-05-10,,,,,,", "patient_id", "empty"),
        (f"P,{ISSUER},1,2023-02-30,,,,,,", "performed_on", "no date"),
        (f"P,{ISSUER},1,10.05.2023,,,,,,", "performed_on", "no date"),
        (f"P,{ISSUER},1,2030-01-01,,,,,,", "performed_on", "to today"),
        (f"P,{ISSUER},1,2023-05-10,,,perhaps,,,", "consent", "neither"),
        (f"P,{ISSUER},1,2023-05-10,,,,planned,,", "status", "none of"),
        (f"P,{ISSUER},1,2023-05-10", "", "4 cells"),
        (f"P,{ISSUER},1,2023-05-10,{'x' * 300},,,,,", "phenotype", "300" if False else "200 characters"),
        (f"P-001,{ISSUER},{LIP_REPAIR},2023-05-10,,,,,R-1,", "", "same operation as line 2"),
        (f"P-001,{ISSUER},{LIP_REPAIR},2023-05-10,,,,,,", "case", "name this one too"),
        (f"P,{ISSUER},1,2023-W19-3,,,,,,", "performed_on", "no date"),
    ],
)
def test_one_bad_row_and_nothing_is_taken(clinic: Clinic, row: str, column: str, said: str) -> None:
    found = _import(clinic, HEADER + GOOD + row + "\n")
    (bad,) = found.bad
    assert (bad.line, bad.column) == (3, column)
    assert said in bad.reason
    assert _versions(clinic) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xfe", "UTF-8"),
        (b"patient_id,performed_on\n", "missing"),
        (b"patient_id,procedure_code,performed_on,shoe_size\n", "unknown"),
        (b"patient_id,patient_id,procedure_code,performed_on\n", "doubled"),
        (b"", "missing"),
        (b"patient_id,procedure_code,performed_on\nP\0,1,2020-01-01\n", "NUL"),
        (b'patient_id,procedure_code,performed_on\nP,"1"2,2020-01-01\n', "no CSV"),
    ],
)
def test_what_is_no_such_file(clinic: Clinic, data: bytes, said: str) -> None:
    with pytest.raises(OutcomeError, match=said):
        _import(clinic, data)


def test_two_operations_of_one_day_stay_two(clinic: Clinic) -> None:
    other = GOOD.replace("R-1", "R-2").replace("Smith", "Jones")
    _import(clinic, HEADER + GOOD)
    assert _import(clinic, HEADER + other).new == 1  # another file, another number
    again = _import(clinic, HEADER + GOOD + other)
    assert (again.new, again.changed, again.unchanged, again.bad) == (0, 0, 2, ())
    assert sorted(str(case["surgeon"]) for case in _versions(clinic)) == ["Jones", "Smith"]


def test_a_change_is_a_version_with_a_reason(clinic: Clinic) -> None:
    _import(clinic, HEADER + GOOD)
    moved = f"P-001,{ISSUER},{LIP_REPAIR},2023-05-11,,,,,R-1,"
    refused = _import(clinic, HEADER + moved + "\n")
    assert [bad.column for bad in refused.bad] == ["reason"]
    taken = _import(clinic, HEADER + moved + "typing error\n")
    assert taken.changed == 1
    old, new = _versions(clinic)
    assert (old["performed_on"], new["performed_on"]) == (date(2023, 5, 10), date(2023, 5, 11))
    assert (new["version"], new["reason"], new["surgeon"], new["phenotype"]) == (
        2,
        "typing error",
        "Smith",
        "UCLP",
    )


def test_empty_cells_do_not_give_back_consent_or_bring_back_a_case(clinic: Clinic) -> None:
    _import(clinic, HEADER + f"P-001,{ISSUER},{LIP_REPAIR},2023-05-10,,,no,entered-in-error,R-1,\n")
    _import(clinic, HEADER + f"P-001,{ISSUER},{LIP_REPAIR},2023-05-10,CL,,,,R-1,phenotype known\n")
    newest = _versions(clinic)[-1]
    assert (newest["consent"], newest["active"], newest["phenotype"]) == (False, False, "CL")


def test_a_row_adds_to_the_operation_of_the_ehr(clinic: Clinic) -> None:
    clinic.photograph("P-001", date(2023, 5, 1), 1.0)
    clinic.photograph("P-001", date(2023, 5, 10) + days(365), 1.5)
    clinic.operate("P-001", date(2023, 5, 10))
    clinic.settle()
    found = _import(clinic, HEADER + f"P-001,{ISSUER},{LIP_REPAIR},2023-05-10,BCLP,,,,,registry\n")
    assert (found.new, found.changed) == (0, 1)
    clinic.settle()
    assert len({row["case_id"] for row in _versions(clinic)}) == 1
    (face,) = clinic.faces()
    assert (face["phenotype"], face["surgeon"], face["case_version"]) == ("BCLP", "Practitioner/s1", 2)
    clinic.settle()
    assert len(_versions(clinic)) == 2  # the EHR said nothing new


def test_two_rows_about_one_operation_of_the_ehr_are_refused(clinic: Clinic) -> None:
    clinic.operate("P-001", date(2023, 5, 10))
    clinic.photograph("P-001", date(2023, 5, 1), 1.0)
    clinic.settle()
    found = _import(clinic, HEADER + GOOD.replace(",\n", ",why\n") + GOOD.replace("R-1,", "R-2,why"))
    assert [(bad.line, bad.reason) for bad in found.bad] == [(3, "the same operation as line 2")]
    assert len(_versions(clinic)) == 1


def test_withdrawn_consent_takes_the_change_out(clinic: Clinic) -> None:
    _import(clinic, HEADER + GOOD)
    clinic.photograph("P-001", date(2023, 5, 1), 1.0)
    clinic.photograph("P-001", date(2023, 5, 10) + days(365), 1.5)
    clinic.settle()
    assert len(clinic.faces()) == 1
    _import(clinic, HEADER + f"P-001,{ISSUER},{LIP_REPAIR},2023-05-10,,,no,,R-1,withdrew\n")
    clinic.settle()
    assert [row["why_not"] for row in clinic.faces(valid=False)] == ["no-consent"]
    assert clinic.states()["12 months"] == ("no-consent", "")
    clinic.photograph("P-002", date(2023, 5, 1), 1.0)
    with transaction(clinic.context.pool) as connection:
        counted = photograph_tables.counts(connection, date.min, date.max)
    assert (counted.known, counted.withdrawn, counted.no_consent) == (3, 0, 2)
