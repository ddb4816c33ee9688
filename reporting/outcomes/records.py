"""Frozen records of the outcomes: cases, windows, photographs and their roles, changes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from service.appraisal.change import Verdict
from service.records import Appraisal, Region


class CaseSource(StrEnum):
    """Where a version of a case comes from."""

    EHR = "ehr"  # a FHIR Procedure
    CSV = "csv"
    MANUAL = "manual"  # a correction by a person


class Laterality(StrEnum):
    """Side of a cleft or of the operation."""

    LEFT = "left"
    RIGHT = "right"
    BILATERAL = "bilateral"
    MIDLINE = "midline"


class Role(StrEnum):
    """What a photograph is to an operation."""

    PRE = "pre"
    POST = "post"


class Anchor(StrEnum):
    """What a window is measured from."""

    PROCEDURE = "procedure"  # days after the operation; before it they are negative
    BIRTH = "birth"  # years of age


class DecidedBy(StrEnum):
    """Who gave a photograph its role."""

    RULE = "rule"
    DICOM = "dicom"  # a hint in the photograph's header
    PERSON = "person"


class ConflictKind(StrEnum):
    """Why a photograph's role is not decided by itself."""

    HINT_AGAINST_DATE = "hint-against-date"  # the header says before, the date says after, or the reverse
    IMPOSSIBLE_DATE = "impossible-date"  # before birth, or after it was received
    EQUAL_QUALITY = "equal-quality"  # two photographs of a window, and nothing to choose by
    TWO_PROCEDURES = "two-procedures"  # another operation lies between the photographs


class WhyNot(StrEnum):
    """Why two results give no change."""

    OTHER_PATIENT = "other-patient"
    OTHER_METHOD = "other-method"  # method, weights or settings differ
    WRONG_ORDER = "wrong-order"
    WITHDRAWN = "withdrawn"
    REJECTED = "rejected"
    NOT_SCORED = "not-scored"  # the region could not be judged in one of them
    SUPERSEDED = "superseded"  # another photograph took the role
    NO_CONSENT = "no-consent"
    CASE_WITHDRAWN = "case-withdrawn"


@dataclass(frozen=True, kw_only=True)
class ProcedureCase:
    """One version of one operation on one patient."""

    case_id: UUID  # UUIDv5 of what names it in its source
    version: int  # from 1
    source: CaseSource
    reason: str  # why this version; "" for the first
    author: str
    patient: str  # logical id of the Patient
    procedure_id: str  # logical id of the FHIR Procedure; "" when there is none
    code_system: str
    code: str
    performed_on: date
    born_on: date | None
    phenotype: str  # e.g. UCLP; "" when unknown
    syndrome: bool | None  # None when unknown
    laterality: Laterality | None
    site: str
    surgeon: str
    severity_before: float | None  # by the clinic's own scale
    consent: bool
    active: bool  # False: not done, or entered in error

    @property
    def age_years(self) -> float | None:
        """At the operation."""
        return None if self.born_on is None else (self.performed_on - self.born_on).days / 365.25


@dataclass(frozen=True, kw_only=True)
class Window:
    """Where photographs of a role are looked for."""

    name: str  # e.g. "12 months"
    role: Role
    anchor: Anchor
    target: float  # days after the operation, or years of age
    earliest: float  # inclusive, in the unit of the anchor
    latest: float  # inclusive
    code: str = ""  # procedure code it is for; "" for every one without windows of its own


@dataclass(frozen=True, kw_only=True)
class PhotographFacts:
    """What pairing needs to know of one photograph."""

    instance_id: int
    sop_instance_uid: str
    patient: str  # logical id
    acquired_on: date | None
    acquired_at: datetime | None  # aware
    received_on: date
    born_on: date | None
    site: str
    hint: Role | None  # what its header says
    hint_source: str  # attribute that says so; "" when none
    quality: float | None  # higher is better; None when rejected or not yet judged
    judged: bool  # whether it has an appraisal that was neither rejected nor withdrawn
    reasons: tuple[str, ...]  # of the rejection
    withdrawn: bool = False  # its only results were taken back


@dataclass(frozen=True, kw_only=True)
class Assigned:
    """A photograph that has a role in a window of a case."""

    instance_id: int
    window: Window
    decided_by: DecidedBy
    reason: str


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Something a person has to decide."""

    kind: ConflictKind
    window: Window | None  # None: of the photograph as a whole
    instance_ids: tuple[int, ...]
    detail: str  # ids and dates, no names


@dataclass(frozen=True, kw_only=True)
class ResultSide:
    """One of the two results of a change."""

    appraisal: Appraisal
    instance_id: int
    patient: str  # logical id of the person
    acquired_on: date
    acquired_at: datetime | None  # aware; None when only the day is known
    made_at: datetime  # when it was appraised, aware
    withdrawn: bool
    observation_id: str  # logical id of its Observation


@dataclass(frozen=True, kw_only=True)
class RegionOutcome:
    """Change of one region after an operation."""

    region: Region
    before: float | None
    after: float | None
    smallest_detectable: float | None
    verdict: Verdict
    primary: bool  # judged alone, by the smallest detectable change itself
    why_not: WhyNot | None = None

    @property
    def change(self) -> float | None:
        """After less before; None when one is missing."""
        return None if self.before is None or self.after is None else self.after - self.before
