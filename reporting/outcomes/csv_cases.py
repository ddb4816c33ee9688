"""Operations out of a CSV file: every row right and all of them taken, or none."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from io import StringIO
from typing import Any
from uuid import UUID

from reporting.identifiers import case_id
from reporting.outcomes.database import cases, queue
from reporting.outcomes.patients import patient_of_identifier, persons_of
from reporting.outcomes.records import CaseSource, Laterality, ProcedureCase
from service.config import Settings
from service.database.pool import Connection
from service.errors import OutcomeError

SNOMED = "http://snomed.info/sct"
REQUIRED = ("patient_id", "procedure_code", "performed_on")
OPTIONAL = (
    "issuer", "code_system", "born_on", "phenotype", "syndrome", "laterality", "site", "surgeon",
    "severity_before", "consent", "status", "case", "procedure_id", "reason",
)  # fmt: skip
_YES, _NO = {"yes", "y", "true", "1"}, {"no", "n", "false", "0"}
_DONE, _NOT_DONE = "done", {"not-done", "entered-in-error"}
_EARLIEST = date(1900, 1, 1)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_LONGEST = 200  # characters of a cell


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be taken."""

    line: int  # in the file, the header is 1
    column: str  # "" for the row as a whole
    reason: str  # no cell of it is repeated but the offending one


@dataclass(frozen=True, kw_only=True)
class Import:
    """What a file would bring, or brought."""

    new: int
    changed: int
    unchanged: int
    bad: tuple[BadRow, ...]

    @property
    def taken(self) -> bool:
        """Whether the file is taken: every row is right."""
        return not self.bad


@dataclass(frozen=True, kw_only=True)
class Row:
    """One right row."""

    line: int
    issuer: str
    patient_id: str
    name: str  # of the case in the registry's own numbering; "" when there is none
    procedure_id: str
    reason: str
    consent: bool | None  # None: the row does not say
    active: bool | None
    case: ProcedureCase  # without patient and id, which the database knows


class _BadCellError(Exception):
    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column


def read_rows(data: bytes, today: date) -> tuple[list[Row], list[BadRow]]:
    """Read a file: UTF-8, a header, commas or semicolons.

    Args:
        data: The file.
        today: No operation is later.

    Raises:
        OutcomeError: It is not such a file; the columns are unknown, doubled or missing.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise OutcomeError(f"the file is not UTF-8 (byte {exc.start})") from exc
    if "\0" in text:
        raise OutcomeError("the file holds a NUL character: it is no CSV file")
    header = text.split("\n", 1)[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    lines = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, bad = [], []
    seen: dict[tuple[str, ...], int] = {}
    try:
        columns = _columns([cell.strip().lower() for cell in next(lines, [])])
        for line, cells in _numbered(lines):
            try:
                row = _row(line, _cells(columns, cells), today)
            except _BadCellError as exc:
                bad.append(BadRow(line=line, column=exc.column, reason=str(exc)))
                continue
            first = seen.setdefault(_named(row), line)
            if first != line:
                bad.append(BadRow(line=line, column="", reason=f"the same operation as line {first}"))
            rows.append(row)
        bad += _half_named(rows)
    except csv.Error as exc:
        raise OutcomeError(f"the file is no CSV file: line {lines.line_num}: {exc}") from exc
    return rows, bad


def _half_named(rows: Sequence[Row]) -> Iterator[BadRow]:
    """Rows without a name of their own beside one with a name: one operation, or two? Nobody can tell."""
    named: dict[tuple[str, ...], int] = {}
    for row in rows:
        if row.name or row.procedure_id:
            named.setdefault(_operation(row), row.line)
    for row in rows:
        other = named.get(_operation(row))
        if other is not None and not (row.name or row.procedure_id):
            reason = f"patient, code and day of line {other}, which names its case: name this one too"
            yield BadRow(line=row.line, column="case", reason=reason)


def _numbered(lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Rows with the number of their first line; empty ones are passed over."""
    reader: Any = lines
    start = reader.line_num + 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield start, cells
        start = reader.line_num + 1


def _columns(header: list[str]) -> list[str]:
    unknown = [name for name in header if name not in (*REQUIRED, *OPTIONAL)]
    missing = [name for name in REQUIRED if name not in header]
    doubled = sorted({name for name in header if header.count(name) > 1})
    for names, what in ((unknown, "unknown"), (missing, "missing"), (doubled, "doubled")):
        if names:
            raise OutcomeError(f"{what} columns: {', '.join(name or '(empty)' for name in names)}")
    return header


def _cells(columns: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(columns):
        raise _BadCellError("", f"{len(cells)} cells, the header has {len(columns)}")
    found = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
    for column, value in found.items():
        if len(value) > _LONGEST or any(ord(each) < 32 for each in value):
            raise _BadCellError(column, f"more than {_LONGEST} characters, or a control character")
    return found


def _row(line: int, cells: Mapping[str, str], today: date) -> Row:
    for column in REQUIRED:
        if not cells[column]:
            raise _BadCellError(column, "is empty")
    performed_on = _day(cells, "performed_on", today)
    born_on = _day(cells, "born_on", today) if cells.get("born_on") else None
    assert performed_on is not None  # noqa: S101 -- not empty
    if born_on is not None and performed_on < born_on:
        raise _BadCellError("performed_on", f"{performed_on} is before the birth on {born_on}")
    consent, active = _yes_or_no(cells, "consent"), _active(cells)
    return Row(
        line=line,
        issuer=cells.get("issuer", ""),
        patient_id=cells["patient_id"],
        name=cells.get("case", ""),
        procedure_id=cells.get("procedure_id", ""),
        reason=cells.get("reason", ""),
        consent=consent,
        active=active,
        case=ProcedureCase(
            case_id=case_id(CaseSource.CSV),
            version=0,
            source=CaseSource.CSV,
            reason=cells.get("reason", ""),
            author="",
            patient="",
            procedure_id=cells.get("procedure_id", ""),
            code_system=cells.get("code_system", "") or SNOMED,
            code=cells["procedure_code"],
            performed_on=performed_on,
            born_on=born_on,
            phenotype=cells.get("phenotype", ""),
            syndrome=_yes_or_no(cells, "syndrome"),
            laterality=_laterality(cells),
            site=cells.get("site", ""),
            surgeon=cells.get("surgeon", ""),
            severity_before=_number(cells, "severity_before"),
            consent=consent is not False,
            active=active is not False,
        ),
    )


def _day(cells: Mapping[str, str], column: str, today: date) -> date:
    value = cells[column]
    try:
        day = date.fromisoformat(value if _DAY.fullmatch(value) else "")
    except ValueError as exc:
        raise _BadCellError(column, f"{value!r} is no date as 2024-05-31") from exc
    if not _EARLIEST <= day <= today:
        raise _BadCellError(column, f"{value!r} is not from {_EARLIEST} to today")
    return day


def _active(cells: Mapping[str, str]) -> bool | None:
    status = cells.get("status", "").lower()
    if status and status != _DONE and status not in _NOT_DONE:
        raise _BadCellError("status", f"{status!r} is none of done, not-done, entered-in-error")
    return status == _DONE if status else None


def _yes_or_no(cells: Mapping[str, str], column: str) -> bool | None:
    value = cells.get(column, "").lower()
    if value in _YES:
        return True
    if value in _NO:
        return False
    if value:
        raise _BadCellError(column, f"{value!r} is neither yes nor no")
    return None


def _laterality(cells: Mapping[str, str]) -> Laterality | None:
    value = cells.get("laterality", "").lower()
    if not value:
        return None
    if value not in set(Laterality):
        raise _BadCellError("laterality", f"{value!r} is none of {', '.join(Laterality)}")
    return Laterality(value)


def _number(cells: Mapping[str, str], column: str) -> float | None:
    value = cells.get(column, "")
    if not value:
        return None
    try:
        number = float(value if "_" not in value else "")
    except ValueError as exc:
        raise _BadCellError(column, f"{value!r} is no number") from exc
    if not -1e6 < number < 1e6:  # NaN among them
        raise _BadCellError(column, f"{value!r} is out of range")
    return number


def _named(row: Row) -> tuple[str, ...]:
    if row.name:
        return ("case", row.name)
    if row.procedure_id:
        return ("procedure", row.procedure_id)
    return ("operation", *_operation(row))


def _operation(row: Row) -> tuple[str, ...]:
    return row.issuer, row.patient_id, row.case.code, str(row.case.performed_on)


def import_cases(
    connection: Connection, data: bytes, *, author: str, settings: Settings, today: date
) -> Import:
    """Take a file into the caller's transaction; with a bad row nothing is written.

    A row that names a case (``case``), a Procedure (``procedure_id``), or the only operation of that patient,
    code and day that is known, is a new version of it; the cells it leaves empty stay as they were.

    Args:
        connection: In a transaction, which the caller commits, or not for a dry run.
        data: The file.
        author: Who imports it.
        settings: Uses ``fhir_identifier_systems``.
        today: No operation is later.

    Raises:
        OutcomeError: It is no such file.
    """
    rows, bad = read_rows(data, today)
    drafts: list[tuple[ProcedureCase, ProcedureCase | None]] = []
    taken: dict[UUID, int] = {}  # known cases, and the line that is about each
    for row in rows:
        try:
            draft, current = _draft(connection, row, author, settings)
        except _BadCellError as exc:
            bad.append(BadRow(line=row.line, column=exc.column, reason=str(exc)))
            continue
        first = taken.setdefault(draft.case_id, row.line)
        drafts.append((draft, current))
        if first != row.line and all(each.line != row.line for each in bad):
            bad.append(BadRow(line=row.line, column="", reason=f"the same operation as line {first}"))
    new = changed = 0
    if not bad:
        for draft, current in drafts:
            saved = cases.save(connection, draft)
            new += saved is not None and current is None
            changed += saved is not None and current is not None
        queue.touch(connection, [draft.patient for draft, _ in drafts])
    return Import(
        new=new,
        changed=changed,
        unchanged=0 if bad else len(drafts) - new - changed,
        bad=tuple(sorted(bad, key=lambda each: each.line)),
    )


def _draft(
    connection: Connection, row: Row, author: str, settings: Settings
) -> tuple[ProcedureCase, ProcedureCase | None]:
    """The version a row makes, and the newest one there is of its case."""
    patient = patient_of_identifier(connection, row.issuer, row.patient_id, settings)
    (person,) = persons_of(connection, [patient])
    current = _current(connection, row, person.everyone)
    if current is None:
        name = _named(row)
        return replace(row.case, case_id=case_id(CaseSource.CSV, *name), patient=patient, author=author), None
    if current.patient not in person.everyone:
        raise _BadCellError("patient_id", "the case is another patient's")
    said = row.case
    merged = replace(
        current,
        source=CaseSource.CSV,
        author=author,
        reason=row.reason,
        code_system=said.code_system if said.code != current.code else current.code_system,
        code=said.code,
        performed_on=said.performed_on,
        born_on=said.born_on or current.born_on,
        phenotype=said.phenotype or current.phenotype,
        syndrome=current.syndrome if said.syndrome is None else said.syndrome,
        laterality=said.laterality or current.laterality,
        site=said.site or current.site,
        surgeon=said.surgeon or current.surgeon,
        severity_before=current.severity_before if said.severity_before is None else said.severity_before,
        consent=current.consent if row.consent is None else row.consent,
        active=current.active if row.active is None else row.active,
    )
    if not row.reason and cases.differs(merged, current):
        raise _BadCellError("reason", f"case {current.case_id} would change: say why")
    return merged, current


def _current(connection: Connection, row: Row, everyone: tuple[str, ...]) -> ProcedureCase | None:
    if row.name:
        known = cases.get(connection, case_id(CaseSource.CSV, "case", row.name))
        if known is not None:
            return known
    if row.procedure_id:
        known = cases.of_procedure(connection, row.procedure_id)
        if known is None:
            raise _BadCellError("procedure_id", "no case of such a Procedure is known")
        return known
    alike = cases.like(connection, everyone, row.case.code, row.case.performed_on)
    if row.name:  # one that another file names otherwise is another operation
        unnamed = case_id(CaseSource.CSV, "operation", *_operation(row))
        alike = [each for each in alike if each.procedure_id or each.case_id == unnamed]
    if len(alike) > 1:
        raise _BadCellError("", f"{len(alike)} operations of that patient, code and day are known: name one")
    return alike[0] if alike else None
