"""A worklist: CSV that says of each JPEG file which patient, study, day and view it is of."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from io import StringIO

from service.dicom.uids import is_uid
from service.errors import ConfigurationError

NAMES: Mapping[str, tuple[str, ...]] = {  # column -> what it may be called
    "file": ("file", "filename", "photo", "path"),
    "patient": ("patient", "patient_id"),
    "study": ("study", "study_id"),
    "date": ("date", "study_date"),
    "view": ("view",),
    "issuer": ("issuer",),
    "name": ("name", "patient_name"),
    "birth_date": ("birth_date", "born_on"),
    "sex": ("sex",),
}
REQUIRED = ("file", "patient", "study", "date", "view")
MAY_BE_EMPTY = ("study", "view")  # a study without a name is its patient's day
_SEXES = ("", "F", "M", "O")
_DAYS = ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y")
_EARLIEST = date(1900, 1, 1)
_MOST_CHARACTERS = 64  # of LO and of a component of PN (PS3.5 section 6.2)


@dataclass(frozen=True, kw_only=True)
class WorklistRow:
    """One right row."""

    line: int  # in the file; the header is 1
    file: str  # path below the folder of photographs
    patient: str  # Patient ID
    issuer: str  # of it; "" when nobody says
    study: str  # its name or its UID; "": the patient's day
    day: date
    view: str
    name: str  # as PN
    birth_date: date | None
    sex: str

    @property
    def who(self) -> tuple[str, str]:
        """Whose the photograph is."""
        return self.issuer, self.patient

    @property
    def has_study_uid(self) -> bool:
        """Whether the study is named by its Study Instance UID."""
        return "." in self.study and is_uid(self.study)


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be taken."""

    line: int
    file: str  # "" when the row names none
    reason: str


def read_worklist(data: bytes, *, issuer: str, today: date) -> tuple[list[WorklistRow], list[BadRow]]:
    """Read a worklist: UTF-8, a header, commas, semicolons or tabs.

    Args:
        data: The file.
        issuer: Of the patients whose row names none.
        today: No photograph is later.

    Raises:
        ConfigurationError: It is no such file; columns are unknown, doubled or missing.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"the worklist is not UTF-8 (byte {exc.start})") from exc
    if "\0" in text:
        raise ConfigurationError("the worklist holds a NUL character: it is no CSV file")
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    lines = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[WorklistRow] = []
    bad: list[BadRow] = []
    try:
        columns = _columns([cell.strip().lower() for cell in next(lines, [])])
        start = lines.line_num + 1
        for cells in lines:
            if any(cell.strip() for cell in cells):
                file = _cell(columns, cells, "file")
                try:
                    rows.append(_row(start, columns, cells, issuer, today))
                except ValueError as exc:
                    bad.append(BadRow(line=start, file=file, reason=str(exc)))
            start = lines.line_num + 1
    except csv.Error as exc:
        raise ConfigurationError(f"the worklist is no CSV file: line {lines.line_num}: {exc}") from exc
    return rows, bad


def _columns(header: list[str]) -> list[str]:
    known = {name: column for column, names in NAMES.items() for name in names}
    unknown = [name or "(no name)" for name in header if name not in known]
    found = [known.get(name, "") for name in header]
    missing = [column for column in REQUIRED if column not in found]
    doubled = sorted({column for column in found if column and found.count(column) > 1})
    for names, what in ((unknown, "unknown"), (missing, "missing"), (doubled, "doubled")):
        if names:
            raise ConfigurationError(
                f"the worklist's columns are {', '.join(NAMES)}; {what}: {', '.join(names)}"
            )
    return found


def _cell(columns: list[str], cells: list[str], name: str) -> str:
    position = columns.index(name) if name in columns else len(cells)
    text = cells[position] if position < len(cells) else ""
    return unicodedata.normalize("NFC", text.strip())


def _row(line: int, columns: list[str], cells: list[str], issuer: str, today: date) -> WorklistRow:
    """Raises ValueError with what is wrong."""
    if len(cells) != len(columns):
        raise ValueError(f"{len(cells)} cells under {len(columns)} columns")
    found = {name: _cell(columns, cells, name) for name in NAMES}
    for name in REQUIRED:
        if not found[name] and name not in MAY_BE_EMPTY:
            raise ValueError(f"{name} is empty")
    for name, text in found.items():
        if name != "file":
            _check_text(name, text)
    if found["sex"].upper() not in _SEXES:
        raise ValueError("sex is F, M, O or empty")
    day = _day("date", found["date"], today)
    born = _day("birth_date", found["birth_date"], today) if found["birth_date"] else None
    if born is not None and born > day:
        raise ValueError("birth_date is after date")
    return WorklistRow(
        line=line,
        file=found["file"],
        patient=found["patient"],
        issuer=found["issuer"] or issuer,
        study=found["study"],
        day=day,
        view=found["view"],
        name=found["name"],
        birth_date=born,
        sex=found["sex"].upper(),
    )


def _check_text(name: str, text: str) -> None:
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"{name} has more than {_MOST_CHARACTERS} characters")
    if "\\" in text or any(unicodedata.category(character).startswith("C") for character in text):
        raise ValueError(f"{name} has a backslash or a control character")


def _day(name: str, text: str, today: date) -> date:
    for form in _DAYS:
        try:
            day = datetime.strptime(text, form).date()
        except ValueError:
            continue
        if not _EARLIEST <= day <= today:
            raise ValueError(f"{name} {day} is before {_EARLIEST} or in the future")
        return day
    raise ValueError(f"{name} is a day as 2026-01-31, 20260131 or 31.01.2026, not {text!r}")
