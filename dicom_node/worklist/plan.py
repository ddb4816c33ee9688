"""What a worklist and a folder of JPEG files would bring: every fault is found before anything is taken."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from dicom_node.worklist.rows import BadRow, WorklistRow, read_worklist
from dicom_node.worklist.wrapped import instance_uid, study_uid, wrapped
from service.errors import ConfigurationError, DecoderLostError, PhotographError

_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe"})
_MOST_BYTES = 256 << 20  # of one file


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A row that can be taken."""

    row: WorklistRow
    path: Path
    number: int  # of the instance within its study
    sha256: str  # of the file when it was checked
    sop_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All of a worklist."""

    planned: tuple[Planned, ...]
    bad: tuple[BadRow, ...]  # one of them, and nothing is taken
    unlisted: tuple[str, ...]  # JPEG files of the folder that no row names


def make_plan(folder: Path, worklist: Path, *, issuer: str, today: date) -> Plan:
    """Read the worklist, and every file that it names.

    Args:
        folder: Of the photographs.
        worklist: CSV.
        issuer: Of the patients whose row names none.
        today: No photograph is later.

    Raises:
        ConfigurationError: The worklist is no such file, or holds no row.
    """
    rows, bad = read_worklist(worklist.read_bytes(), issuer=issuer, today=today)
    if not rows and not bad:
        raise ConfigurationError("the worklist holds no row")
    checks = _Checks(folder)
    planned: list[Planned] = []
    for row in rows:
        try:
            planned.append(checks.planned(row))
        except _BadRowError as exc:
            bad.append(BadRow(line=row.line, file=row.file, reason=str(exc)))
    listed = [row.file for row in rows] + [each.file for each in bad if each.file]
    named = {(folder / name).resolve() for name in listed}
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    return Plan(
        planned=tuple(planned),
        bad=tuple(sorted(bad, key=lambda each: each.line)),
        unlisted=tuple(str(path.relative_to(folder)) for path in found if path.resolve() not in named),
    )


def contents(plan: Plan) -> Iterator[tuple[Path, bytes]]:
    """Each object of a plan, made when it is asked for.

    Raises:
        ConfigurationError: A file is no longer what was checked.
    """
    for each in plan.planned:
        jpeg = each.path.read_bytes()
        if hashlib.sha256(jpeg).hexdigest() != each.sha256:
            raise ConfigurationError(f"{each.path} was changed meanwhile; run it again")
        yield each.path, wrapped(jpeg, each.row, each.number)


def write_report(plan: Plan, path: Path, outcome: dict[str, str]) -> None:
    """Write what became of every row and file, as CSV.

    Args:
        plan: All of it.
        path: Where to; a file there is replaced.
        outcome: SOP Instance UID -> what became of it.
    """
    rows: list[tuple[int | str, ...]] = [
        (
            each.row.line, each.row.file, outcome.get(each.sop_instance_uid, "not taken"), "",
            each.row.patient, each.study_instance_uid, each.sop_instance_uid,
        )
        for each in plan.planned
    ]  # fmt: skip
    rows += [(each.line, each.file, "bad", each.reason, "", "", "") for each in plan.bad]
    rows.sort()
    rows += [("", name, "not in the worklist", "", "", "", "") for name in plan.unlisted]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ("line", "file", "outcome", "reason", "patient", "study_instance_uid", "sop_instance_uid")
        )
        writer.writerows(rows)


class _BadRowError(Exception):
    """What is wrong with a row."""


class _Checks:
    """Checks rows one after the other, each against those before it too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[Path, int] = {}  # -> line that names it
        self._pixels: dict[str, int] = {}  # SHA-256 -> line
        self._studies: dict[str, WorklistRow] = {}  # UID -> its first row
        self._patients: dict[tuple[str, str], WorklistRow] = {}
        self._numbers: dict[str, int] = {}

    def planned(self, row: WorklistRow) -> Planned:
        """Check a row, its file and its photograph.

        Raises:
            _BadRowError: With what is wrong.
        """
        path = self._path(row)
        self._check_others(row)
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise _BadRowError(f"the file is larger than {_MOST_BYTES >> 20} MB")
            jpeg = path.read_bytes()
        except OSError as exc:
            raise _BadRowError(f"the file cannot be read: {exc.strerror}") from exc
        sha256 = hashlib.sha256(jpeg).hexdigest()
        first = self._pixels.setdefault(sha256, row.line)
        if first != row.line:
            raise _BadRowError(f"the same photograph as line {first}")
        study = study_uid(row)
        number = self._numbers.get(study, 0) + 1
        try:
            wrapped(jpeg, row, number)
        except (PhotographError, DecoderLostError) as exc:
            raise _BadRowError(f"the file is no photograph that can be taken: {exc}") from exc
        self._numbers[study] = number
        return Planned(
            row=row,
            path=path,
            number=number,
            sha256=sha256,
            sop_instance_uid=instance_uid(jpeg),
            study_instance_uid=study,
        )

    def _path(self, row: WorklistRow) -> Path:
        root = self._folder.resolve()
        path = (self._folder / row.file).resolve()
        if not path.is_relative_to(root):
            raise _BadRowError("the file is not in the folder of photographs")
        if not path.is_file():
            raise _BadRowError("there is no such file")
        first = self._files.setdefault(path, row.line)
        if first != row.line:
            raise _BadRowError(f"the same file as line {first}")
        return path

    def _check_others(self, row: WorklistRow) -> None:
        other = self._studies.setdefault(study_uid(row), row)
        if other.who != row.who:
            raise _BadRowError(f"the study of line {other.line} is another patient's")
        if other.day != row.day:
            raise _BadRowError(f"the study of line {other.line} has another date")
        known = self._patients.setdefault(row.who, row)
        for what in ("name", "birth_date", "sex"):
            if getattr(known, what) != getattr(row, what):
                raise _BadRowError(f"line {known.line} has another {what} of this patient")


def count_of(planned: Sequence[Planned]) -> str:
    """What a plan holds, in words."""
    patients, studies = {each.row.who for each in planned}, {each.study_instance_uid for each in planned}
    return f"{len(planned)} photographs of {len(patients)} patients in {len(studies)} studies"
