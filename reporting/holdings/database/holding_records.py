"""What the node holds, as query/retrieve and DICOMweb see it: records and the questions asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# A data set in the DICOM JSON Model (PS3.18 annex F): tag as eight hexadecimal digits -> element.
DicomJson = Mapping[str, Any]
# Person names made comparable: tag -> component groups, folded.
FoldedNames = Mapping[str, tuple[str, ...]]


class Level(StrEnum):
    """Levels of the Study Root information model (PS3.4 section C.6.2)."""

    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


class MatchKind(StrEnum):
    """How a key is compared (PS3.4 section C.2.2.2)."""

    VALUE = "value"  # equals one of ``values``; also a list of UIDs
    PATTERN = "pattern"  # SQL LIKE, one of ``values``
    NAME = "name"  # SQL LIKE on a folded component group
    DATE = "date"  # from ``values[0]`` to ``values[1]``, both in, YYYYMMDD
    TIME = "time"  # the same, HHMMSSFFFFFF
    DATE_TIME = "date-time"  # the same, YYYYMMDDHHMMSSFFFFFF


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One key that must match."""

    level: Level  # the key belongs to
    tag: str  # eight hexadecimal digits
    kind: MatchKind
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HoldingQuery:
    """A question for what is held."""

    level: Level  # of the answers
    conditions: tuple[Condition, ...] = ()
    patients: tuple[str, ...] | None = None  # only what is of these; None for everybody's
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class LevelAttributes:
    """The attributes of one entity."""

    attributes: DicomJson
    names: FoldedNames = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HeldInstance:
    """An instance and where its bytes are."""

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    sha256: str  # of the Part 10 file; key in the store
    size_bytes: int
    number_of_frames: int  # 0 without pixel data
    instance_id: int  # of the photograph it is, or is a result of
    is_result: bool
    patient: str  # logical id of the Patient of its own number


@dataclass(frozen=True, kw_only=True)
class NewHolding:
    """An instance with what is asked about it."""

    instance: HeldInstance
    study: LevelAttributes
    series: LevelAttributes
    image: LevelAttributes  # the whole header
    remarks: tuple[str, ...] = ()  # what of the header was put right or left out: tags and reasons


@dataclass(frozen=True, kw_only=True)
class PendingHolding:
    """An instance whose header has not been read yet."""

    sop_instance_uid: str
    sha256: str
    instance_id: int
    is_result: bool


@dataclass(frozen=True, kw_only=True)
class Match:
    """One answer; attributes of lower levels than asked for are empty."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    patient: str  # logical id of the Patient whose part of the study it is
    study: DicomJson
    series: DicomJson
    image: DicomJson
    modalities_in_study: tuple[str, ...]
    sop_classes_in_study: tuple[str, ...]
    study_related_series: int
    study_related_instances: int
    series_related_instances: int
    transfer_syntaxes: tuple[str, ...]  # of the instances of the entity
    remarks: tuple[str, ...]  # of an image: what of its header was put right or left out


@dataclass(frozen=True, kw_only=True)
class Unindexed:
    """An instance that queries do not find, or not by all it says."""

    sop_instance_uid: str
    is_result: bool
    is_found: bool  # by what could be read
    reason: str  # tags and kinds of errors, no values
